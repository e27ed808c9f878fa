package log

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// commit makes a group durable. The caller holds turn.
func (l *Log) commit(g *group) error {
	size := int64(len(g.buf))
	took, err := l.write(g)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = 0
	if err != nil {
		l.used -= size
		return err
	}
	l.seg.size = l.size
	l.end = l.chain
	l.stats.Groups++
	l.stats.Records += int64(g.count)
	l.stats.SyncDuration += took
	for _, r := range l.readers {
		r.wakeLocked(l.end)
	}
	return nil
}

// write writes a group and syncs it, which is what it returns the time of.
func (l *Log) write(g *group) (time.Duration, error) {
	if err := l.Err(); err != nil {
		return 0, err
	}
	size := int64(len(g.buf))
	if l.tail != nil && l.size > headerBytes && l.size+size > l.opts.SegmentBytes && g.count > 0 {
		l.roll()
	}
	if l.tail == nil {
		if err := l.newSegment(g.first); err != nil {
			return 0, err
		}
	}
	putGroup(g.buf, g.first, l.chain, g.count)
	if _, err := l.tail.WriteAt(g.buf, l.size); err != nil {
		l.abandon()
		return 0, diskError("write", err)
	}
	began := time.Now()
	if err := l.tail.Sync(); err != nil {
		return 0, l.fail(fmt.Errorf("sync %s: %w", l.seg.path, err))
	}
	l.size += size
	l.chain = g.first + Offset(g.count)
	l.sealed = g.count == 0
	return time.Since(began), nil
}

// diskError classes an error after which the log goes on.
func diskError(doing string, err error) error {
	if isFull(err) {
		return fmt.Errorf("%w: %s: %w", ErrFull, doing, err)
	}
	return fmt.Errorf("%s log: %w", doing, err)
}

// fail ends the life of the log after a failed fsync. It is not tried again: the kernel may have dropped the pages and
// call them clean, so that a second fsync succeeds without having written them.
func (l *Log) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	l.mu.Lock()
	if l.err == nil || errors.Is(l.err, ErrClosed) {
		l.err = err
		close(l.failed)
	}
	l.mu.Unlock()
	return err
}

// roll closes the tail, all of which is durable.
func (l *Log) roll() {
	if err := l.tail.Close(); err != nil {
		l.logger.Warn("closing a full log segment", "path", l.seg.path, "err", err)
	}
	l.tail = nil
}

// newSegment makes a file for the group that begins at first. Two syncs for 64 MiB of groups; a file made in advance would need
// as many for its renaming.
func (l *Log) newSegment(first Offset) error {
	s := &segment{path: segmentPath(l.dir, first), first: first, prev: l.chain, size: headerBytes}
	if key, seals := l.box.Sealing(); seals {
		s.sealed, s.key = true, key
	}
	f, err := l.disk.Create(s.path)
	if err != nil {
		return diskError("create segment", err)
	}
	if _, err := f.WriteAt(s.header(), 0); err != nil {
		l.discard(f, s.path)
		return diskError("write segment header", err)
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return l.fail(fmt.Errorf("sync %s: %w", s.path, err))
	}
	if err := l.disk.SyncDir(l.dir); err != nil {
		f.Close()
		return l.fail(fmt.Errorf("sync %s: %w", l.dir, err))
	}
	l.tail, l.seg, l.size, l.sealed = f, s, headerBytes, true
	l.mu.Lock()
	l.segments = append(l.segments, s)
	l.used += headerBytes
	l.mu.Unlock()
	return nil
}

// abandon gives up the tail after a failed write: the state of the file is not known any more, so what is behind the last
// good group is cut off and the next group goes to a new file.
func (l *Log) abandon() {
	if l.size == headerBytes {
		// Were it kept, a full disk would collect one such file for each attempt.
		l.mu.Lock()
		l.segments = l.segments[:len(l.segments)-1]
		l.used -= headerBytes
		l.mu.Unlock()
		l.discard(l.tail, l.seg.path)
		l.tail = nil
		return
	}
	// Should it fail, the bytes stay: the next segment's header tells where this one ended.
	if err := errors.Join(l.tail.Truncate(l.size), l.tail.Close()); err != nil {
		l.logger.Warn("cutting a log segment after a failed write", "path", l.seg.path, "err", err)
	}
	l.tail = nil
}

func (l *Log) discard(f file, path string) {
	if err := errors.Join(f.Close(), os.Remove(path)); err != nil {
		l.logger.Warn("removing an unused log segment", "path", path, "err", err)
	}
}

// seal writes an empty group, so that the last one with records is known to have been durable when the log is opened again.
// A full disk is no reason for Close to fail: only that knowledge is lost.
func (l *Log) seal() error {
	if l.tail == nil || l.sealed {
		return nil
	}
	g := &group{buf: make([]byte, groupHead), first: l.chain}
	l.mu.Lock()
	l.used += groupHead
	l.mu.Unlock()
	if err := l.commit(g); err != nil && !errors.Is(err, ErrFull) {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

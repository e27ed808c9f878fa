package log

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// maxKeptAside bounds how many cut-off tails stay in the directory, lest a router that crashes over and over fills the disk.
const maxKeptAside = 16

// timeInName sorts as the times do.
const timeInName = "20060102T150405.000000000Z"

// recover finds the end of the log and makes it ready to be appended to.
func (l *Log) recover() error {
	segments, err := listSegments(l.dir)
	if err != nil {
		return err
	}
	if l.opts.Salvage {
		if err := l.salvage(segments); err != nil {
			return err
		}
		if segments, err = listSegments(l.dir); err != nil {
			return err
		}
	}
	for i, s := range segments {
		err := s.readHeader()
		switch {
		case err == nil:
		case !errors.Is(err, errHeader):
			return err
		case i == len(segments)-1 && s.size <= headerBytes:
			// The crash came while the file was made: its header is synced before anything is put behind it.
			if err := os.Remove(s.path); err != nil {
				return err
			}
			segments = segments[:i]
		default:
			return refusal(Damage{File: s.path, To: headerBytes, Reason: err.Error()})
		}
	}
	if err := l.readKeys(segments); err != nil {
		return err
	}
	l.segments = segments
	if len(segments) > 0 && l.opts.Position > 0 && l.opts.Position < segments[0].prev {
		// Refusing would bring nothing back: the files are gone, or the position is that of an older copy of the store.
		d := Damage{File: segments[0].path, Reason: "records between the position and this segment are missing", LostBefore: segments[0].prev}
		l.damage = append(l.damage, d)
		l.logger.Warn("records of the log are missing", "position", l.opts.Position, "first", d.LostBefore)
	}
	if len(segments) > 0 {
		if err := l.recoverTail(segments[len(segments)-1]); err != nil {
			return err
		}
	}
	if l.tail != nil && l.size > headerBytes && !l.sealsAs(l.seg) {
		// What is sealed differently goes to a file of its own, so that this one goes with its last record.
		l.next = max(l.next, l.seg.first+1)
		l.roll()
	}
	if err := l.disk.SyncDir(l.dir); err != nil {
		return err
	}
	if l.opts.Position > l.next {
		// Whatever was lost of the log, what comes now gets offsets that were never given, in a file of its own.
		l.next = l.opts.Position
		if l.tail != nil {
			l.roll()
		}
	}
	l.end = max(l.chain, l.opts.Position)
	for _, s := range segments {
		l.used += s.size
	}
	return nil
}

// refusal is the error of an Open that would have to pass over damage.
func refusal(d Damage) error {
	return fmt.Errorf("%w: %s at byte %d: %s; nothing was changed, salvage the log (router log salvage) to pass over it and see what is lost",
		ErrDamaged, d.File, d.From, d.Reason)
}

// recoverTail checks the last segment, cuts a torn group off and opens it for the next.
func (l *Log) recoverTail(s *segment) error {
	src, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer src.Close()
	found, err := scan(src, s)
	if err != nil {
		return err
	}
	if found.refuse {
		return refusal(found.damage)
	}
	if l.tail, err = l.disk.Open(s.path); err != nil {
		return err
	}
	l.next = max(s.first, found.next)
	l.frontier = frontier{seg: s, size: found.size, chain: found.end}
	l.sealed = found.sealed
	if err := l.rewrite(src, s, found.last); err != nil {
		return err
	}
	if found.damage.File != "" {
		return l.cut(src, s, found.damage)
	}
	return nil
}

// cut takes away what is behind the last good group of the tail. Where the disk has no room to keep it aside it stays, and the
// log goes on in a new segment, as after a failed write.
func (l *Log) cut(src io.ReaderAt, s *segment, d Damage) error {
	var err error
	d.From, d.To = l.size, s.size
	d.KeptAside, err = l.keepAside(src, s, l.size)
	switch {
	case err == nil:
		// Not synced: should the bytes come back, they are cut off again.
		if err := l.tail.Truncate(l.size); err != nil {
			return err
		}
	case isFull(err):
		l.roll()
		l.next = max(l.next, s.first+1) // lest the new segment has the name of this one
	default:
		return err
	}
	s.size = l.size
	l.damage = append(l.damage, d)
	l.logger.Warn("cut a torn group off the end of the log", "path", d.File, "from", d.From, "to", d.To, "reason", d.Reason, "kept_aside", d.KeptAside)
	return nil
}

// tailScan is what scan found in a segment.
type tailScan struct {
	end    Offset // of its good groups
	size   int64  // up to there
	last   int64  // where the last good group begins
	next   Offset // behind every record that was seen, whole groups or not
	sealed bool   // that one is empty: it proves the one before, and itself has nothing to lose
	damage Damage // the first; no File: none
	refuse bool   // a group stands behind the damage, so that what was damaged had been durable
}

// scan reads all of a segment. A group that is not whole counts as damaged from its beginning.
func scan(src io.ReaderAt, s *segment) (tailScan, error) {
	var k walker
	k.start(src, s.size, s.prev)
	found := tailScan{end: k.end, next: k.end, size: headerBytes, last: headerBytes, sealed: true}
	begun, empty := int64(headerBytes), false
	for {
		at := k.pos
		f, err := k.next()
		switch {
		case err == io.EOF:
			return found, nil
		case err == errBad:
			d, err := k.resync()
			if err != nil {
				return found, err
			}
			if found.damage.File == "" {
				found.damage = d
				found.damage.File = s.path
			}
			found.next = max(found.next, d.LostBefore)
			continue
		case err != nil:
			return found, err
		}
		if f.kind == kindGroup {
			if found.damage.File != "" {
				found.refuse = true
				return found, nil
			}
			begun, empty = at, k.groupEnd == k.pos
		}
		found.next = max(found.next, k.end)
		if k.pos == k.groupEnd && found.damage.File == "" {
			found.end, found.size, found.last, found.sealed = k.end, k.pos, begun, empty
		}
		k.release()
	}
}

// rewrite writes the header and the last group once more and syncs the file. Nothing behind that group proves it: should the
// process before this one have seen its fsync fail, its pages are clean in the cache and not on the disk, and
// only a new write makes them dirty.
func (l *Log) rewrite(src io.ReaderAt, s *segment, last int64) error {
	group := make([]byte, l.size-last)
	if _, err := src.ReadAt(group, last); err != nil && err != io.EOF {
		return err
	}
	if _, err := l.tail.WriteAt(s.header(), 0); err != nil {
		return err
	}
	if _, err := l.tail.WriteAt(group, last); err != nil {
		return err
	}
	return l.tail.Sync()
}

// keepAside copies the end of a segment to a file of its own, durably.
func (l *Log) keepAside(src io.ReaderAt, s *segment, from int64) (string, error) {
	path := s.path + ".torn-" + time.Now().UTC().Format(timeInName)
	dst, err := l.disk.Create(path)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(io.NewOffsetWriter(dst, 0), io.NewSectionReader(src, from, s.size-from))
	if err := errors.Join(err, dst.Sync(), dst.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	l.pruneKeptAside()
	return path, l.disk.SyncDir(l.dir)
}

// pruneKeptAside removes the oldest cut-off tails.
func (l *Log) pruneKeptAside() {
	kept, _ := filepath.Glob(filepath.Join(l.dir, "*"+segmentSuffix+".torn-*")) // the pattern is good
	slices.Sort(kept)                                                           // by offset, then time
	for _, path := range kept[:max(0, len(kept)-maxKeptAside)] {
		if err := os.Remove(path); err != nil {
			l.logger.Warn("removing an old cut-off log tail", "path", path, "err", err)
		}
	}
}

package log

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Roll begins a new segment, unless the last one holds no record, and returns the end of the records before it: once all below that are handed over, [Log.Erase]
// deletes all that was appended before.
//
// Errors are those of Append.
func (l *Log) Roll() (Offset, error) {
	l.turn.Lock()
	defer l.turn.Unlock()
	l.mu.Lock()
	err := l.err
	first := l.next
	if l.gather.calls > 0 {
		first = l.gather.first // of a group that waits for its turn
	}
	var last *segment
	if n := len(l.segments); n > 0 {
		last = l.segments[n-1]
	}
	l.mu.Unlock()
	switch {
	case err != nil:
		return 0, err
	case last == nil:
		return l.chain, nil
	case l.chain <= last.first:
		return last.prev, nil
	}
	if l.tail != nil {
		l.roll()
	}
	return l.chain, l.newSegment(first)
}

// Erase is Reclaim, and on return it is durable that the segments are gone.
func (l *Log) Erase(below Offset) error {
	if err := l.Reclaim(below); err != nil {
		return err
	}
	return l.disk.SyncDir(l.dir)
}

// rewrittenSuffix is that of a segment's copy while it is made.
const rewrittenSuffix = ".rewritten"

// Rewrite reads all records once, in order, and deletes those from the disk that keep refuses; it returns how many those were. Nobody may append or read
// meanwhile. On return that is durable. An error wraps ErrDamaged where something can not be read: such a log is to be salvaged first.
func (l *Log) Rewrite(keep func(Record) (bool, error)) (dropped int, err error) {
	if _, err := l.Roll(); err != nil {
		return 0, err
	}
	left, err := filepath.Glob(filepath.Join(l.dir, "*"+rewrittenSuffix)) // by a process that was killed; the pattern is good
	if err != nil {
		return 0, err
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return 0, err
		}
	}
	l.mu.Lock()
	segments := slices.Clone(l.segments)
	l.mu.Unlock()
	for i, s := range segments {
		v := survey{segment: s}
		if i+1 < len(segments) {
			v.next = segments[i+1]
		}
		gone := map[Offset]bool{}
		err := v.run(func(f frame) error {
			data, err := l.openRecord(&f)
			if err != nil {
				return err
			}
			ok, err := keep(Record{Offset: f.offset, Data: data})
			if !ok {
				gone[f.offset] = true
			}
			return err
		})
		if err != nil {
			return dropped, err
		}
		if len(v.damage) > 0 {
			return dropped, refusal(v.damage[0])
		}
		if len(gone) == 0 {
			continue
		}
		if err := l.replace(&v, gone); err != nil {
			return dropped, fmt.Errorf("rewrite %s: %w", s.path, err)
		}
		dropped += len(gone)
	}
	return dropped, nil
}

// replace puts a segment without some of its records in the place of it.
func (l *Log) replace(v *survey, gone map[Offset]bool) error {
	s := v.segment
	temp := s.path + rewrittenSuffix
	err := l.copyWith(v, temp, func(f frame) bool { return !gone[f.offset] })
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	info, err := os.Stat(temp)
	if err != nil {
		return err
	}
	if err := os.Rename(temp, s.path); err != nil {
		return err
	}
	l.mu.Lock()
	l.used += info.Size() - s.size
	s.size = info.Size()
	l.mu.Unlock()
	return l.disk.SyncDir(l.dir)
}

// EraseKeptAside deletes those files that hold what was cut off or replaced because of damage, or that a killed Rewrite left, in which names finds something. It looks at pieces of
// a file that overlap by maxNameBytes. The deleted files are returned.
func (l *Log) EraseKeptAside(names func(piece []byte) bool) (erased []string, err error) {
	for _, pattern := range []string{"*" + segmentSuffix + ".torn-*", "*" + segmentSuffix + ".damaged-*", "*" + segmentSuffix + ".salvaged", "*" + segmentSuffix + rewrittenSuffix} {
		kept, err := filepath.Glob(filepath.Join(l.dir, pattern))
		if err != nil {
			return erased, err
		}
		for _, path := range kept {
			found, err := anyPiece(path, names)
			if !found && err == nil {
				found, err = l.anySealed(path, names)
			}
			if errors.Is(err, fs.ErrNotExist) {
				continue // pruned meanwhile
			}
			if err != nil {
				return erased, err
			}
			if !found {
				continue
			}
			if err := os.Remove(path); err != nil {
				return erased, err
			}
			erased = append(erased, path)
		}
	}
	if len(erased) == 0 {
		return nil, nil
	}
	return erased, l.disk.SyncDir(l.dir)
}

// maxNameBytes is how long what EraseKeptAside looks for may be.
const maxNameBytes = 4 << 10

// anyPiece says whether names finds something in a file.
func anyPiece(path string, names func(piece []byte) bool) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(f, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if names(buf) {
			return true, nil
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		rest := bytes.Clone(buf[len(buf)-maxNameBytes:])
		buf = append(buf[:0], rest...)
	}
}

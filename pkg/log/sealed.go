package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"eventrouter/pkg/seal"
)

// openRecord returns the data of a record's frame. That of a sealed one is opened in its place, so that the frame is none any more.
func (l *Log) openRecord(f *frame) ([]byte, error) {
	if f.kind != kindSealed {
		return f.data, nil
	}
	data, err := l.box.Open(f.data[:0], f.data, recordName(f.offset))
	if err != nil {
		return nil, fmt.Errorf("record %d: %w", f.offset, err)
	}
	return data, nil
}

// unopened is about a record whose frame is good and that can not be opened: somebody changed it and its checksum, or it stood elsewhere. The reader stays there, for
// good; with Options.Salvage it passes over it, but never over one whose key is missing.
func (r *Reader) unopened(f *frame, err error) {
	d := Damage{File: r.seg.path, From: r.walk.pos - f.size(), To: r.walk.pos, Reason: err.Error(), LostBefore: f.offset + 1}
	switch {
	case errors.Is(err, ErrKey):
		r.stuck = fmt.Errorf("read log: %s at byte %d: %w", d.File, d.From, err)
	case r.log.opts.Salvage:
		r.passOver(d)
	default:
		r.stuck = refusal(d)
	}
}

// readKeys finds out with which keys the segments are sealed. One that is missing is an error: to begin, and stop at that record, would be worse.
func (l *Log) readKeys(segments []*segment) error {
	for _, s := range segments {
		if !s.sealed {
			continue
		}
		var err error
		if s.key, err = s.readKey(); err != nil {
			return err
		}
		if s.key != (seal.KeyID{}) && !l.box.Has(s.key) {
			return fmt.Errorf("%s: %w", s.path, seal.MissingKey(s.key))
		}
	}
	return nil
}

// readKey returns the key that has sealed the first record of a segment, and so all of them; the zero id where none is to be seen.
func (s *segment) readKey() (id seal.KeyID, err error) {
	src, err := os.Open(s.path)
	if err != nil {
		return id, err
	}
	defer src.Close()
	var head [groupHead + frameHead + seal.Overhead]byte
	n, err := src.ReadAt(head[:], headerBytes)
	if err != nil && err != io.EOF {
		return id, err
	}
	if n < len(head) || head[3] != kindGroup {
		return id, nil
	}
	if _, ok := frameSize(head[groupHead:]); !ok || head[groupHead+3] != kindSealed {
		return id, nil
	}
	if found, err := seal.ID(head[groupHead+frameHead:]); err == nil {
		id = found
	}
	return id, nil
}

// sealsAs says whether what is appended now is sealed as the records of a segment are.
func (l *Log) sealsAs(s *segment) bool {
	key, _ := l.box.Sealing()
	return s.key == key
}

// SealedWith returns how many bytes of the log are sealed with each key, by its id; those under the zero id are plain.
func (l *Log) SealedWith() map[seal.KeyID]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	bytes := map[seal.KeyID]int64{}
	for _, s := range l.segments {
		if s.size > headerBytes {
			bytes[s.key] += s.size
		}
	}
	return bytes
}

// KeysOf returns the ids of the keys with which records of the log in a directory are sealed, the zero id for plain ones. It looks at the directory as it is, whether or not
// somebody has the log open.
func KeysOf(dir string) (keys []seal.KeyID, err error) {
	segments, err := listSegments(dir)
	if err != nil {
		return nil, fmt.Errorf("look at log: %w", err)
	}
	for _, s := range segments {
		err := s.readHeader()
		if err == nil && s.sealed {
			s.key, err = s.readKey()
		}
		if err == nil && s.size > headerBytes && !slices.Contains(keys, s.key) {
			keys = append(keys, s.key)
		}
		if err != nil && !errors.Is(err, errHeader) && !errors.Is(err, fs.ErrNotExist) { // damaged, or reclaimed just now
			return nil, fmt.Errorf("look at log: %w", err)
		}
	}
	return keys, nil
}

// anySealed says whether names finds something in a sealed record of a file. One that can not be opened counts as well: nobody could ever tell.
func (l *Log) anySealed(path string, names func(piece []byte) bool) (bool, error) {
	src, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return false, err
	}
	var k walker
	k.move(src, 0, info.Size())
	for k.pos < k.limit {
		k.release()
		if err := k.findMagic(); err != nil {
			return false, err
		}
		f, err := k.look()
		switch {
		case err == errBad:
			k.advance(min(1, k.limit-k.pos))
			continue
		case err != nil:
			return false, err
		}
		k.advance(f.size())
		if f.kind != kindSealed {
			continue
		}
		if data, err := l.openRecord(&f); err != nil || names(data) {
			return true, nil
		}
	}
	return false, nil
}

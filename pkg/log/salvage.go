package log

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Salvage opens the log in dir with Options.Salvage, reads it to its end to see that it can be, and closes it. It returns what
// could not be read; the log opens without Options.Salvage afterwards. Damaged files are kept beside the repaired ones.
func Salvage(dir string, opts Options) ([]Damage, error) {
	opts.Salvage = true
	l, err := Open(dir, opts)
	if err != nil {
		return nil, err
	}
	err = l.readAll()
	return l.Damage(), errors.Join(err, l.Close())
}

// readAll reads every record once.
func (l *Log) readAll() error {
	r, err := l.NewReader(0)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		_, err := r.fill(1 << 10)
		if err != nil || len(r.recs) == 0 {
			return err
		}
		r.recs, r.bytes = r.recs[:0], 0
		r.walk.release()
	}
}

// salvage repairs every damaged segment and reports what it could not keep. A file that a crash left without even a header is
// left to recover.
func (l *Log) salvage(segments []*segment) error {
	bad := make([]error, len(segments))
	for i, s := range segments {
		bad[i] = s.readHeader()
		if bad[i] != nil && !errors.Is(bad[i], errHeader) {
			return bad[i]
		}
	}
	if last := len(segments) - 1; last >= 0 && bad[last] != nil && segments[last].size <= headerBytes {
		segments = segments[:last]
	}
	var end Offset
	for i, s := range segments {
		v := survey{segment: s}
		if bad[i] != nil {
			v.damage = []Damage{{File: s.path, To: min(headerBytes, s.size), Reason: bad[i].Error(), LostBefore: s.first}}
			s.prev = s.first
			s.sealed = true // its records say themselves whether they are sealed
			if i > 0 {
				s.prev = min(s.first, end)
			}
		}
		if i+1 < len(segments) && bad[i+1] == nil {
			v.next = segments[i+1]
		}
		if err := v.run(nil); err != nil {
			return fmt.Errorf("salvage: %w", err)
		}
		if len(v.damage) > 0 {
			if err := l.repair(&v); err != nil {
				return fmt.Errorf("salvage: %w", err)
			}
		}
		end = v.end
	}
	return nil
}

// survey is what a segment holds.
type survey struct {
	segment *segment
	next    *segment // behind it; nil: none, or its header is damaged

	end    Offset // of its records, and of those it should have
	damage []Damage
}

// run reads the whole segment, giving each good record to keep if that is not nil.
func (v *survey) run(keep func(frame) error) error {
	src, err := os.Open(v.segment.path)
	if err != nil {
		return err
	}
	defer src.Close()
	var k walker
	k.start(src, v.segment.size, v.segment.prev)
	var damage []Damage
	for {
		f, err := k.next()
		switch {
		case err == io.EOF, err == errBad && v.next != nil && v.next.prev <= k.end: // see Reader.take
			v.finish(&k, damage)
			return nil
		case err == errBad:
			d, err := k.resync()
			if err != nil {
				return err
			}
			damage = append(damage, d)
		case err != nil:
			return err
		case keep != nil && f.isRecord():
			if err := keep(f); err != nil {
				return err
			}
		}
		k.release()
	}
}

// finish settles where the records of the segment should have ended.
func (v *survey) finish(k *walker, damage []Damage) {
	v.end = k.end
	if v.next != nil && v.next.prev > k.end {
		if len(damage) == 0 {
			damage = append(damage, Damage{From: k.pos, To: k.pos, Reason: "records behind this are missing"})
		}
		last := &damage[len(damage)-1]
		last.LostBefore = max(last.LostBefore, v.next.prev)
	}
	for i := range damage {
		damage[i].File = v.segment.path
		v.end = max(v.end, damage[i].LostBefore)
	}
	v.damage = append(v.damage, damage...)
}

// repair replaces a segment by one that holds its good records, and keeps the original beside it.
func (l *Log) repair(v *survey) error {
	s := v.segment
	temp := s.path + ".salvaged"
	if err := l.copyGood(v, temp); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	kept := s.path + ".damaged-" + time.Now().UTC().Format(timeInName)
	if err := os.Link(s.path, kept); err != nil {
		return err
	}
	if err := os.Rename(temp, s.path); err != nil {
		return err
	}
	if err := l.disk.SyncDir(l.dir); err != nil {
		return err
	}
	for _, d := range v.damage {
		d.KeptAside = kept
		l.damage = append(l.damage, d)
		l.logger.Warn("passed over damage in the log", "path", d.File, "from", d.From, "to", d.To, "reason", d.Reason, "kept_aside", kept, "lost_before", d.LostBefore)
	}
	return nil
}

// copyGood writes the good records of a segment to a new one.
func (l *Log) copyGood(v *survey, path string) error {
	return l.copyWith(v, path, func(frame) bool { return true })
}

// copyWith writes those good records of a segment that keep wants to a new one, ending with an empty group that stands for what is not there.
func (l *Log) copyWith(v *survey, path string, keep func(frame) bool) error {
	if err := os.RemoveAll(path); err != nil { // of an earlier try
		return err
	}
	f, err := l.disk.Create(path)
	if err != nil {
		return diskError("create segment", err)
	}
	w := regroup{dst: f, at: headerBytes, chain: v.segment.prev, buf: make([]byte, groupHead, 2*regroupBytes)}
	_, err = f.WriteAt(v.segment.header(), 0)
	if err == nil {
		lost := survey{segment: v.segment, next: v.next} // as before, and reported already
		err = lost.run(func(f frame) error {
			if !keep(f) {
				return nil
			}
			return w.add(f)
		})
	}
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		w.first = v.end
		err = w.write()
	}
	return errors.Join(err, f.Sync(), f.Close())
}

const regroupBytes = 1 << 20

// regroup writes records in groups of its own.
type regroup struct {
	dst   file
	at    int64
	chain Offset
	buf   []byte
	first Offset
	count int
}

func (w *regroup) add(f frame) error {
	if w.count > 0 && (f.offset != w.first+Offset(w.count) || len(w.buf) >= regroupBytes) {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if w.count == 0 {
		w.first = f.offset
	}
	at := len(w.buf)
	w.buf = append(w.buf, make([]byte, f.size())...)
	putRecord(w.buf[at:], f.kind, f.offset, f.data)
	w.count++
	return nil
}

func (w *regroup) flush() error {
	if w.count == 0 {
		return nil
	}
	return w.write()
}

func (w *regroup) write() error {
	putGroup(w.buf, w.first, w.chain, w.count)
	if _, err := w.dst.WriteAt(w.buf, w.at); err != nil {
		return diskError("write", err)
	}
	w.at += int64(len(w.buf))
	w.chain = w.first + Offset(w.count)
	w.buf, w.count = w.buf[:groupHead], 0
	return nil
}

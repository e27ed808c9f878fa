package log

import (
	"bytes"
	"errors"
	"io"
)

// errBad is what walker.next returns where no good frame follows; walker.reason says why.
var errBad = errors.New("bad frame")

// walker goes through the frames of a segment and holds each against what the frames before it promised, so that
// nothing is missing or out of place unnoticed.
type walker struct {
	window
	end    Offset // records below were passed
	reason string // of the last errBad

	groupEnd  int64  // position behind the current group
	groupLast Offset // offset behind its last record
	want      Offset // offset of its next record
	missing   Offset // the frame at pos is a good group, but records from end to here are missing
	loose     bool   // after damage: records are taken without their group
}

// start begins a segment of which header and size are known. prev is the end of the records before it.
func (k *walker) start(src io.ReaderAt, limit int64, prev Offset) {
	k.move(src, headerBytes, limit)
	k.end = max(k.end, prev)
	k.groupEnd, k.missing, k.loose = headerBytes, 0, false
}

// next moves past the next frame and returns it; its data is valid until release. io.EOF says that the limit is reached,
// errBad that no good frame is at pos; another error is of the file.
func (k *walker) next() (frame, error) {
	if k.pos >= k.limit {
		return frame{}, io.EOF
	}
	f, err := k.look()
	if err != nil {
		return frame{}, err
	}
	if err := k.check(&f); err != nil {
		return frame{}, err
	}
	k.accept(&f)
	return f, nil
}

// look reads the frame at pos, whatever it is.
func (k *walker) look() (frame, error) {
	head, err := k.peek(frameHead)
	if err != nil {
		return frame{}, err
	}
	if len(head) < frameHead {
		return frame{}, k.bad("cut within the head of a record")
	}
	size, ok := frameSize(head)
	if !ok {
		return frame{}, k.bad("no record begins here")
	}
	if size > k.limit-k.pos {
		return frame{}, k.bad("cut within a record")
	}
	b, err := k.peek(int(size))
	if err != nil {
		return frame{}, err
	}
	f, ok := parseFrame(b)
	if !ok {
		return frame{}, k.bad("wrong checksum")
	}
	return f, nil
}

func (k *walker) bad(reason string) error {
	k.reason = reason
	return errBad
}

// check holds a good frame against those before it.
func (k *walker) check(f *frame) error {
	inGroup := k.pos < k.groupEnd
	if f.isRecord() {
		switch {
		case k.loose && f.offset >= k.end:
		case !inGroup || f.offset != k.want || f.offset >= k.groupLast || k.pos+f.size() > k.groupEnd:
			return k.bad("a record that does not belong here")
		}
		return nil
	}
	prev, size, _ := f.group()
	switch {
	case inGroup && !k.loose:
		return k.bad("the group before it ends early")
	case f.offset < k.end || prev > f.offset:
		return k.bad("a group that does not belong here")
	case k.pos+groupHead+size > k.limit:
		return k.bad("cut within a group")
	case prev > k.end && !k.loose:
		k.missing = prev
		return k.bad("records before this group are missing")
	}
	return nil
}

// accept moves past a good frame.
func (k *walker) accept(f *frame) {
	k.advance(f.size())
	if f.isRecord() {
		k.end, k.want = f.offset+1, f.offset+1
		return
	}
	prev, size, count := f.group()
	k.end = max(k.end, prev)
	if count == 0 { // where Salvage lost records
		k.end = f.offset
	}
	k.groupEnd, k.want, k.groupLast = k.pos+size, f.offset, f.offset+Offset(count)
	k.loose = false
}

// skipGroup moves behind the group whose frame next has just returned, without reading its records.
func (k *walker) skipGroup() {
	k.end = max(k.end, k.groupLast)
	k.advance(k.groupEnd - k.pos)
}

// resync moves from a bad frame to the next good one, or to the limit, and returns what it passed over. It releases
// the window.
func (k *walker) resync() (Damage, error) {
	d := Damage{From: k.pos, To: k.pos, Reason: k.reason}
	if k.missing > 0 { // the frame at pos itself is good
		d.LostBefore, k.end, k.missing = k.missing, k.missing, 0
		return d, nil
	}
	lost := k.end
	if k.pos < k.groupEnd {
		lost = max(lost, k.groupLast)
	}
	k.loose = true
	for k.pos < k.limit {
		k.release()
		k.advance(1)
		if err := k.findMagic(); err != nil {
			return d, err
		}
		f, err := k.look()
		if err == nil && k.check(&f) == nil {
			lost = f.offset
			break
		}
		if err != nil && err != errBad {
			return d, err
		}
	}
	d.To, d.LostBefore = k.pos, lost
	if k.pos >= k.limit {
		k.groupEnd = k.limit
	} else {
		// What follows is taken as it comes: the damage is told once.
		k.end = lost
	}
	return d, nil
}

// findMagic moves to the next place that may be a frame, or to the limit.
func (k *walker) findMagic() error {
	for {
		b, err := k.peek(frameHead)
		if err != nil {
			return err
		}
		if len(b) < frameHead {
			k.advance(int64(len(b)))
			return nil
		}
		if i := bytes.Index(k.ahead, frameMagic[:]); i >= 0 {
			k.advance(int64(i))
			return nil
		}
		k.advance(int64(len(k.ahead) - len(frameMagic) + 1))
		k.release()
	}
}

package log

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// batchBytes bounds what ReadBatch returns at once, save that a single record may be larger.
const batchBytes = 4 << 20

// Record is one record as a Reader returns it.
type Record struct {
	Offset Offset
	Data   []byte // valid until the next ReadBatch
}

// Reader reads the durable records of a log in order. One goroutine may use it; a log may have many.
type Reader struct {
	log  *Log
	from Offset // records below are passed over

	wake chan struct{}
	seen Offset // the log's end when ReadBatch last looked
	want Offset // guarded by Log.mu: wake when the log's end is here; 0: do not

	seg   *segment // nil: none begun
	file  *os.File
	walk  walker
	stuck error // at a record that can not be opened
	recs  []Record
	bytes int
}

// NewReader returns a reader of the records from the given offset on. It holds no segment back from Reclaim.
func (l *Log) NewReader(from Offset) (*Reader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed {
		return nil, ErrClosed
	}
	r := &Reader{log: l, from: from, wake: make(chan struct{}, 1)}
	l.readers = append(l.readers, r)
	return r, nil
}

// Close ends the reader and the validity of the records that it returned.
func (r *Reader) Close() error {
	l := r.log
	l.mu.Lock()
	l.readers = slices.DeleteFunc(l.readers, func(o *Reader) bool { return o == r })
	l.mu.Unlock()
	return r.closeFile()
}

func (r *Reader) closeFile() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	return err
}

// ReadBatch returns at most most of the next records, and about 4 MiB; none if there are none now. The records are valid until the next call.
//
// It returns ErrClosed when the log is closed, and an error that wraps ErrDamaged where records are damaged or missing, at each call again; with
// Options.Salvage it passes over them, counted in Stats.PassedOver.
func (r *Reader) ReadBatch(most int) ([]Record, error) {
	select {
	case <-r.log.closed:
		return nil, ErrClosed
	default:
	}
	clear(r.recs)
	r.recs, r.bytes = r.recs[:0], 0
	r.walk.release()
	end, err := r.fill(max(1, most))
	r.seen = end
	if len(r.recs) > 0 {
		return r.recs, nil // an error comes again at the next call
	}
	return nil, err
}

// Wake returns a channel that receives once the log's end is behind where ReadBatch found it, or the log is closed. It may receive without cause.
func (r *Reader) Wake() <-chan struct{} {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	r.want = r.seen + 1
	r.wakeLocked(l.end)
	select {
	case <-l.closed:
		r.wakeLocked(r.want)
	default:
	}
	return r.wake
}

func (r *Reader) full(most int) bool { return len(r.recs) >= most || r.bytes >= batchBytes }

func (r *Reader) wakeLocked(end Offset) {
	if r.want == 0 || end < r.want {
		return
	}
	r.want = 0
	select {
	case r.wake <- struct{}{}:
	default: // one is on its way
	}
}

// fill adds to the batch what there is, and returns the log's end as it was when no more was found.
func (r *Reader) fill(most int) (Offset, error) {
	for {
		if r.stuck != nil {
			return r.seen, r.stuck
		}
		next, end := r.look()
		if r.seg != nil {
			if err := r.take(most, next); err != io.EOF {
				return end, err
			}
		}
		if next == nil {
			return end, nil
		}
		if err := r.open(next); err != nil {
			return end, err
		}
	}
}

// look updates how far the segment in hand may be read and returns the one behind it, nil if there is none, and the log's end.
func (r *Reader) look() (*segment, Offset) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	byFirst := func(s *segment, first Offset) int { return cmp.Compare(s.first, first) }
	var i int
	if r.seg == nil {
		var found bool
		if i, found = slices.BinarySearchFunc(l.segments, r.from, byFirst); !found {
			i = max(0, i-1)
		}
	} else {
		r.walk.limit = r.seg.size
		i, _ = slices.BinarySearchFunc(l.segments, r.seg.first+1, byFirst)
	}
	if i == len(l.segments) {
		return nil, l.end
	}
	return l.segments[i], l.end
}

// open goes on in the next segment.
func (r *Reader) open(s *segment) error {
	f, err := os.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) && !r.log.has(s) {
		return nil // reclaimed just now: look again
	} else if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	r.log.mu.Lock()
	limit, passed := s.size, max(r.from, r.log.reclaimed)
	r.log.mu.Unlock()
	if r.seg != nil && s.prev > max(r.walk.end, passed) {
		d := Damage{File: s.path, Reason: "records before this segment are missing", LostBefore: s.prev}
		if !r.log.opts.Salvage {
			f.Close()
			return refusal(d)
		}
		r.passOver(d)
	}
	err = r.closeFile()
	r.seg, r.file = s, f
	r.walk.start(f, limit, s.prev)
	return err
}

func (l *Log) has(s *segment) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.segments, s)
}

// take adds records of the segment in hand to the batch. io.EOF says that there are no more in it.
func (r *Reader) take(most int, next *segment) error {
	for !r.full(most) && r.stuck == nil {
		f, err := r.walk.next()
		switch {
		case err == nil:
		case err == io.EOF:
			return io.EOF
		case err != errBad:
			return fmt.Errorf("read log: %s at byte %d: %w", r.seg.path, r.walk.pos, err)
		case next != nil && next.prev <= r.walk.end:
			return io.EOF // a failed write left the rest, and nothing that was durable is in it
		default:
			if err := r.damaged(); err != nil {
				return err
			}
			continue
		}
		if f.kind == kindGroup {
			if r.walk.groupLast <= r.from {
				r.walk.skipGroup()
			}
			continue
		}
		if f.offset < r.from {
			continue
		}
		data, err := r.log.openRecord(&f)
		if err != nil {
			if r.unopened(&f, err); r.stuck == nil {
				r.from = f.offset + 1
			}
			continue
		}
		r.from = f.offset + 1
		r.recs = append(r.recs, Record{Offset: f.offset, Data: data})
		r.bytes += len(data)
	}
	return r.stuck
}

// damaged passes over a bad frame, or returns the error that says so.
func (r *Reader) damaged() error {
	if !r.log.opts.Salvage || len(r.recs) > 0 { // the records in hand first: resync ends their validity
		return refusal(Damage{File: r.seg.path, From: r.walk.pos, Reason: r.walk.reason})
	}
	d, err := r.walk.resync()
	if err != nil {
		return fmt.Errorf("read log: %s at byte %d: %w", r.seg.path, r.walk.pos, err)
	}
	d.File = r.seg.path
	r.passOver(d)
	return nil
}

// passOver reports damage and counts it.
func (r *Reader) passOver(d Damage) {
	r.log.logger.Warn("passed over damage in the log", "path", d.File, "from", d.From, "to", d.To, "reason", d.Reason, "lost_before", d.LostBefore)
	r.log.mu.Lock()
	r.log.stats.PassedOver++
	r.log.mu.Unlock()
}

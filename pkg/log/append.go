package log

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// groupBytes is the size at which a group takes no further call; a single call may be larger. 2 MiB take about 5 ms
	// to write and sync on a common disk; larger ones gain nothing, and the buffers are memory that a backlog could have.
	groupBytes = 2 << 20
	// maxCallBytes bounds the buffer that one call can make the log allocate.
	maxCallBytes = 256 << 20
	// yieldBytes is the size below which a leader lets others run once before it takes the group: who has just been woken by the
	// group before can still join. 64 producers of 1 KiB: 48 records a group instead of 33, 16 to 25 % more records a
	// second; larger groups gain nothing.
	yieldBytes = 512 << 10
	// spareGroups: one gathers, one is being synced, and the callers of earlier ones may not all have woken up.
	spareGroups = 4
	freeEvery   = time.Second
)

// group is the appends that are made durable by one write and one fsync.
type group struct {
	buf   []byte // the group's frame, then those of its records; never reallocated while calls fill it
	first Offset
	count int // records
	calls int // guarded by Log.mu until the group is sealed

	filling sync.WaitGroup // calls that copy into buf
	done    sync.WaitGroup // the leader; the others wait for it
	leaving atomic.Int32   // calls that have not read err yet
	err     error
}

func newGroup() *group {
	g := &group{buf: make([]byte, groupHead, groupBytes)}
	g.done.Add(1)
	return g
}

// Append makes the records durable: it returns nil after the fsync that covers them, and only then can a Reader see
// them. Either all of one call are appended, next to each other and in order, or none. The bytes are not used after it
// returns. A steady state allocates nothing.
//
// Appends that run at the same time share one write and one fsync. There is no goroutine for that: the first call of a
// group leads it, that is, it waits for the group before, then writes and syncs for all that joined meanwhile. (A goroutine
// that did it gave 0.7 to 0.9 of the records a second, since each group then wakes one goroutine more.)
//
// Errors wrap ErrFull (also when the disk is; the next call may succeed), ErrTooBig, ErrFailed or ErrClosed; another error is
// of the disk, and the log goes on in a new segment. After an error the records are not seen by any Reader of this Log;
// after ErrFailed they may be there when the directory is opened anew.
func (l *Log) Append(recs ...[]byte) error {
	if len(recs) == 0 {
		return nil
	}
	need, err := l.framed(recs)
	if err != nil {
		return err
	}
	if l.opts.MinFreeBytes > 0 {
		l.lookAtFree()
	}

	l.mu.Lock()
	g, err := l.joinLocked(need)
	if err != nil {
		l.mu.Unlock()
		return err
	}
	leads := g.calls == 1
	if leads {
		g.first = l.next
		l.leaders.Add(1)
	}
	at := len(g.buf)
	g.buf = g.buf[:at+need]
	dst := g.buf[at:]
	off := l.next
	l.next += Offset(len(recs))
	g.count += len(recs)
	g.filling.Add(1)
	l.mu.Unlock()

	// Ciphertexts, checksums and copies are made by all callers at once, outside the lock.
	for i, rec := range recs {
		if l.overhead > 0 {
			dst = dst[putSealed(dst, l.box, off+Offset(i), rec):]
		} else {
			dst = dst[putRecord(dst, kindRecord, off+Offset(i), rec):]
		}
	}
	g.filling.Done()

	if leads {
		l.lead(g)
	} else {
		g.done.Wait()
	}
	err = g.err
	if g.leaving.Add(-1) == 0 {
		l.recycle(g)
	}
	return err
}

// framed returns the size of the records with their frames.
func (l *Log) framed(recs [][]byte) (int, error) {
	most := min(maxCallBytes, l.opts.MaxBytes/2)
	need := 0
	for _, rec := range recs {
		if len(rec) > MaxRecordBytes {
			return 0, fmt.Errorf("%w: %d bytes, at most %d", ErrTooBig, len(rec), MaxRecordBytes)
		}
		need += frameHead + len(rec) + l.overhead
		if int64(need) > most {
			return 0, fmt.Errorf("%w: %d records in one call, at most %d bytes together", ErrTooBig, len(recs), most)
		}
	}
	return need, nil
}

// joinLocked adds a call to the gathering group, waiting until it has room.
func (l *Log) joinLocked(need int) (*group, error) {
	for waited := false; ; waited = true {
		if l.err != nil {
			return nil, l.err
		}
		if l.used+int64(groupHead+need) > l.opts.MaxBytes {
			return nil, l.errMax
		}
		if l.opts.MinFreeBytes > 0 && l.headroom < int64(groupHead+need) {
			return nil, l.errMin
		}
		g := l.gather
		// Who comes later waits behind who waits already, or a large call would starve.
		if g.calls == 0 || (len(g.buf)+need <= groupBytes && (waited || l.blocked == 0)) {
			break
		}
		l.blocked++
		l.space.Wait()
		l.blocked--
	}
	g := l.gather
	if g.calls == 0 {
		need += groupHead
		if cap(g.buf) < need {
			g.buf = make([]byte, groupHead, need)
		}
	}
	g.calls++
	l.used += int64(need)
	l.headroom -= int64(need)
	return g, nil
}

// lead makes the group durable that the caller was the first to join.
func (l *Log) lead(g *group) {
	defer l.leaders.Done()
	l.turn.Lock() // until the group before is durable; meanwhile this one gathers
	l.mu.Lock()
	if len(g.buf) < yieldBytes {
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	}
	l.gather = l.freshLocked()
	l.waiting = g.calls
	g.leaving.Store(int32(g.calls))
	if l.blocked > 0 {
		l.space.Broadcast()
	}
	l.mu.Unlock()
	g.filling.Wait()
	g.err = l.commit(g)
	l.turn.Unlock()
	g.done.Done()
}

func (l *Log) freshLocked() *group {
	last := len(l.spare) - 1
	if last < 0 {
		return newGroup()
	}
	g := l.spare[last]
	l.spare = l.spare[:last]
	return g
}

// recycle is called by the last of a group's calls.
func (l *Log) recycle(g *group) {
	if cap(g.buf) > groupBytes {
		return // held one large call
	}
	g.buf, g.count, g.calls, g.err = g.buf[:groupHead], 0, 0, nil
	g.done.Add(1)
	l.mu.Lock()
	if len(l.spare) < spareGroups {
		l.spare = append(l.spare, g)
	}
	l.mu.Unlock()
}

// lookAtFree asks the file system at most once a second how much may be appended until the floor is reached.
func (l *Log) lookAtFree() {
	now := time.Now()
	l.mu.Lock()
	due := now.Sub(l.freeAt) >= freeEvery
	if due {
		l.freeAt = now
	}
	l.mu.Unlock()
	if !due {
		return
	}
	headroom := int64(math.MaxInt64)
	if free, err := l.disk.Free(l.dir); err != nil {
		l.logger.Warn("the free space of the log's file system is not known", "err", err)
	} else {
		headroom = free - l.opts.MinFreeBytes
	}
	l.mu.Lock()
	l.headroom = headroom
	l.mu.Unlock()
}

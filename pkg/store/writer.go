package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Bounds of one transaction. Whatever waits beyond them goes into the next.
const (
	groupRequests = 1024
	groupBytes    = 32 << 20
)

// request is one call that waits for the writer.
type request struct {
	batch    *Batch
	blobs    [][]byte        // the batch's blocks as they are stored
	outcomes *packedOutcomes // of the batch, or of what do does; nil: none
	bytes    int             // that it writes, about
	name     *LaneName       // instead of a batch: make this lane
	do       func(*tx) error // instead of a batch: this; it may run twice, where another request of the first transaction was at fault
	laneID   LaneID          // the answer
	err      error
	done     chan struct{}
}

// Commit writes b, whole or not at all. On return it is on disk, and reading methods report it. Calls that come in while
// one is being written share the next transaction, in the order in which they came.
//
// When ctx ends before the writing began, b is not written and ctx's error is returned; after that Commit waits for the
// outcome. ErrBatch: b is at fault and others are not. ErrFull: the disk is full, try again later. ErrDamaged: b is about something that can not be read, and
// nothing of it was written.
func (s *Store) Commit(ctx context.Context, b *Batch) error {
	req := &request{batch: b, done: make(chan struct{})}
	buf := blobs.Get().(*[]byte)
	defer blobs.Put(buf)
	*buf = (*buf)[:0]
	req.pack(buf, s.opts.uncompressed)
	req.outcomes = s.packOutcomes(b.Outcomes)
	defer req.outcomes.release()
	err := s.submit(ctx, req)
	if err == nil && slices.ContainsFunc(b.DeadLetters, func(d DeadLetter) bool { return d.Replay != nil }) {
		s.tellMarked()
	}
	return err
}

// pack compresses the batch's blocks into buf. It runs in the caller, so that the writer does not have to.
func (req *request) pack(buf *[]byte, uncompressed bool) {
	for i := range req.batch.DeadLetters {
		req.bytes += len(req.batch.DeadLetters[i].Event) + len(req.batch.DeadLetters[i].Original)
	}
	for i := range req.batch.KV {
		req.bytes += int(req.batch.KV[i].size())
	}
	if len(req.batch.Blocks) == 0 {
		return
	}
	ends := make([]int, len(req.batch.Blocks))
	for i := range req.batch.Blocks {
		*buf = appendBlock(*buf, req.batch.Blocks[i].Data, uncompressed)
		ends[i] = len(*buf)
	}
	req.bytes += len(*buf)
	req.blobs = make([][]byte, len(ends))
	start := 0
	for i, end := range ends {
		req.blobs[i], start = (*buf)[start:end:end], end
	}
}

// submit queues req and waits for its outcome.
func (s *Store) submit(ctx context.Context, req *request) error {
	if s.readOnly {
		return ErrReadOnly
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if err := s.refusalLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.queue = append(s.queue, req)
	s.mu.Unlock()
	s.signal()
	select {
	case <-req.done:
	case <-ctx.Done():
		if s.withdraw(req) {
			return ctx.Err()
		}
		<-req.done
	}
	return req.err
}

func (s *Store) refusalLocked() error {
	switch {
	case s.err != nil:
		return s.err
	case s.closing:
		return ErrClosed
	}
	return nil
}

// withdraw takes req out of the queue, if the writer has not.
func (s *Store) withdraw(req *request) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.queue, req)
	if i < 0 {
		return false
	}
	s.queue = slices.Delete(s.queue, i, i+1)
	return true
}

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// commitInterval is the least time from the start of one transaction to that of the next. What comes meanwhile shares the next one: each costs
// an fsync, which the log's have to wait for as well. After a quiet time commitBurst transactions need not wait: those of one event.
const (
	commitInterval = 2 * time.Millisecond
	commitQuiet    = 10 * time.Millisecond
	commitBurst    = 3
)

// write is the writer: it takes what waits, writes it in one transaction and answers.
func (s *Store) write() {
	defer close(s.stopped)
	var began, ended time.Time // of the last transaction
	for burst := 0; s.await(); burst-- {
		if time.Since(ended) >= commitQuiet {
			burst = commitBurst
		}
		if wait := commitInterval - time.Since(began); wait > 0 && burst <= 0 {
			time.Sleep(wait)
		}
		began = time.Now()
		if err := s.begin(); err != nil {
			s.fail(fmt.Errorf("begin: %w", err))
			continue
		}
		s.writeGroup(s.take())
		ended = time.Now()
		if s.uncheckpointed.IsZero() {
			s.uncheckpointed = ended
		}
		if s.checkpointDue(ended) {
			s.checkpoint(ended)
		}
	}
}

// await waits until batches are to be written; false: the store closes and nothing is left. Meanwhile it does what is best
// done when there are none.
func (s *Store) await() bool {
	for {
		s.mu.Lock()
		batches, caches, closing := len(s.queue) > 0, len(s.caches) > 0 && s.err == nil, s.closing
		chores := len(s.chores) > 0
		s.mu.Unlock()
		if chores {
			s.doChores()
		}
		switch {
		case batches:
			s.vacuuming = false
			return true
		case caches:
			s.writeCaches()
			continue
		case closing:
			return false
		}
		now := time.Now()
		if s.checkpointDue(now) {
			s.checkpoint(now)
			continue
		}
		idle, stopIdle := s.idleTimer()
		due, stopDue := s.checkpointTimer(now)
		select {
		case <-s.wake:
		case <-due:
		case <-idle:
			s.vacuum()
		}
		stopIdle()
		stopDue()
	}
}

// begin starts a transaction. Someone else may hold the write lock (an operator's sqlite3): that is waited for, since
// nothing but waiting would help.
func (s *Store) begin() error {
	for began := time.Now(); ; {
		err := s.w.exec(`BEGIN IMMEDIATE`)
		if !isBusy(err) || s.isClosing() {
			return err
		}
		s.opts.Logger.Warn("another process holds the store's write lock", "store", s.path, "waited", time.Since(began))
	}
}

func (s *Store) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// take takes from the queue what fits in one transaction.
func (s *Store) take() []*request {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, bytes := 0, 0
	for n < len(s.queue) && n < groupRequests && bytes < groupBytes {
		bytes += s.queue[n].bytes
		n++
	}
	group := slices.Clone(s.queue[:n])
	s.queue = slices.Delete(s.queue, 0, n)
	return group
}

// writeGroup writes group in the transaction that is open. When that fails for one batch's fault, or for what it touches is damaged, they are written singly,
// so that only that one fails.
func (s *Store) writeGroup(group []*request) {
	began := time.Now()
	err := s.transact(group)
	s.stats.commitNanos.Add(int64(time.Since(began)))
	if err == nil || len(group) == 1 || !errors.Is(err, ErrBatch) && !errors.Is(err, ErrDamaged) {
		answer(group, err)
		return
	}
	for i := range group {
		err := s.Err()
		if err == nil {
			if err = s.begin(); err != nil {
				err = s.fail(fmt.Errorf("begin: %w", err))
			}
		}
		if err == nil {
			err = s.transact(group[i : i+1])
		}
		answer(group[i:i+1], err)
	}
}

func answer(group []*request, err error) {
	for _, req := range group {
		req.err = err
		close(req.done)
	}
}

// transact writes group and ends the transaction. After the commit memory follows, before anyone is answered.
func (s *Store) transact(group []*request) error {
	t := s.newTx()
	if err := s.end(t.apply(group)); err != nil {
		return err
	}
	t.adopt()
	s.stats.batches.Add(int64(len(group)))
	return nil
}

// end ends the transaction that is open: it commits if err is nil, and else rolls back and returns err by its class.
func (s *Store) end(err error) error {
	if err == nil {
		err = s.w.exec(`COMMIT`)
	}
	if err == nil {
		s.stats.commits.Add(1)
		if err := s.measure(); err != nil {
			s.fail(err)
		}
		return nil
	}
	if rerr := s.rollback(); rerr != nil {
		return s.fail(errors.Join(err, rerr))
	}
	switch code(err) {
	case -1, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return fmt.Errorf("%w: %w", ErrBatch, err)
	case sqlite3.SQLITE_CORRUPT: // what is rolled back has done no harm, and others need not touch what is damaged
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	case sqlite3.SQLITE_FULL:
		now := time.Now()
		s.stats.fullAt.Store(&now)
		return fmt.Errorf("%w: %w", ErrFull, err)
	default:
		return s.fail(err)
	}
}

// rollback ends the transaction, unless SQLite did already, as it does after errors of the disk.
func (s *Store) rollback() error {
	err := s.w.exec(`ROLLBACK`)
	if code(err) == sqlite3.SQLITE_ERROR {
		return nil // no transaction is active
	}
	return err
}

// fail closes the store for writing, for good, and refuses what is queued. It returns what every Commit returns from now on.
func (s *Store) fail(err error) error {
	s.mu.Lock()
	if s.err == nil {
		s.err = fmt.Errorf("%w: %w", ErrFailed, err)
		close(s.failed)
	}
	err, queue := s.err, s.queue
	s.queue = nil
	s.mu.Unlock()
	answer(queue, err)
	return err
}

// counters are what Stats reports; the writer changes them.
type counters struct {
	commits, batches, commitNanos atomic.Int64
	blockRaw, blockStored         atomic.Int64
	freePages                     atomic.Int64
	identities                    atomic.Int64 // when they were last gone through
	identitiesTooOld              atomic.Int64
	identitiesTooMany             atomic.Int64
	damaged                       damagedRows
	walDamaged                    atomic.Int64              // 1: the write-ahead log was damaged when it was opened
	fullAt                        atomic.Pointer[time.Time] // when a write found the disk full; nil: the last one did not
}

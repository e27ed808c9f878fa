package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// blocked holds the database's write lock until it is called, as an operator's sqlite3 may.
func blocked(t *testing.T, s *Store) (release func()) {
	t.Helper()
	c, err := openConn(s.path, "rw")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.script(`BEGIN IMMEDIATE`); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(c.script(`ROLLBACK`), c.close()); err != nil {
			t.Error(err)
		}
	}
}

// queued waits until n requests wait.
func queued(s *Store, n int) {
	for {
		s.mu.Lock()
		waiting := len(s.queue)
		s.mu.Unlock()
		if waiting == n {
			return
		}
		runtime.Gosched()
	}
}

// TestGroupCommit: all batches that wait go in one transaction; those that are at fault fail alone.
func TestGroupCommit(t *testing.T) {
	f := func(name string, bad map[int]*Batch, commits int64) {
		t.Run(name, func(t *testing.T) { groupCommit(t, bad, commits) })
	}
	const all = 50
	f("all good", nil, 1)
	f("bad ones", map[int]*Batch{
		0:  {Blocks: []Block{{Lane: 99, Entries: 1}}},
		20: {Position: 1000, Progress: []Progress{{Lane: 1, Block: 77, Finished: 1}}},
		21: {Seen: []uint64{1000}, Blocks: []Block{{Lane: 1, Entries: 0}}},
		49: {Known: []uint64{1000}, Retries: []Retry{{Ref: Ref{Block: 77}}}},
	}, all-4)
}

func groupCommit(t *testing.T, bad map[int]*Batch, commits int64) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	lane := mustLane(t, s, contacts)
	before := s.Stats()
	release := blocked(t, s)
	const all = 50
	errs := make([]error, all)
	var wg sync.WaitGroup
	for i := range all {
		b := bad[i]
		if b == nil {
			b = &Batch{Seen: []uint64{uint64(i)}, Blocks: []Block{{Lane: lane, Entries: 1 + i, Data: fmt.Append(nil, i)}}}
		}
		wg.Go(func() { errs[i] = s.Commit(ctx, b) })
		queued(s, i+1) // so the order is known
	}
	release()
	wg.Wait()
	for i, err := range errs {
		if (bad[i] != nil) != errors.Is(err, ErrBatch) || bad[i] == nil && err != nil {
			t.Errorf("batch %d: %v", i, err)
		}
	}
	after := s.Stats()
	if got := after.Commits - before.Commits; got != commits {
		t.Errorf("%d transactions, want %d", got, commits)
	}
	mustClose(t, s)
	s = mustOpen(t, dir, Options{})
	blocks := mustRead(t, s, lane, 0, 1<<20)
	for i := range all {
		if bad[i] != nil {
			continue
		}
		if len(blocks) == 0 || string(blocks[0].Data) != fmt.Sprint(i) || !s.Seen(uint64(i)) {
			t.Fatalf("batch %d is missing or out of order", i)
		}
		blocks = blocks[1:]
	}
	if known, _ := s.Known(1000); s.Position() != 0 || s.Seen(1000) || known {
		t.Error("something of a bad batch was written")
	}
}

// TestBadBatch: each leaves everything as it was.
func TestBadBatch(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	lane, other := mustLane(t, s, contacts), mustLane(t, s, LaneName{Lane: "events"})
	mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 10, Data: []byte("x")}}})
	mustCommit(t, s, &Batch{Progress: []Progress{{Lane: lane, Block: 1, Finished: 2, Done: []byte{3, 0}}}})
	want := fmt.Sprint(s.Lanes(), mustRead(t, s, lane, 0, 1))
	f := func(why string, b Batch) {
		t.Helper()
		b.Position = 5
		b.Blocks = append([]Block{{Lane: lane, Entries: 1}}, b.Blocks...)
		err := s.Commit(ctx, &b)
		if !errors.Is(err, ErrBatch) || !strings.Contains(err.Error(), why) {
			t.Errorf("%v, want an ErrBatch that says %q", err, why)
		}
		if got := fmt.Sprint(s.Lanes(), mustRead(t, s, lane, 0, 1)); got != want || s.Position() != 0 {
			t.Errorf("%s: the store has changed to %s", why, got)
		}
	}
	progress := func(p Progress) Batch { return Batch{Progress: []Progress{p}} }
	f("lane 9", Batch{Blocks: []Block{{Lane: 9, Entries: 1}}})
	f("no entries", Batch{Blocks: []Block{{Lane: lane}}})
	f("block 7: is not in the store", progress(Progress{Lane: lane, Block: 7, Finished: 1}))
	f("of lane 1, not 2", progress(Progress{Lane: other, Block: 1, Finished: 8}))
	f("not 10 more", progress(Progress{Lane: lane, Block: 1, Finished: 10}))
	f("not 1 more", progress(Progress{Lane: lane, Block: 1, Finished: 1, Done: []byte{3, 0}}))
	f("not 1 more", progress(Progress{Lane: lane, Block: 1, Finished: 1, Done: []byte{3, 1 << 2}})) // bit 10 of 10
	f("entry 10 of block 1", Batch{Retries: []Retry{{Ref: Ref{Block: 1, Index: 10}}}})
	f("entry 0 of block 7", Batch{Retries: []Retry{{Ref: Ref{Block: 7}}}})
	mustCommit(t, s, &Batch{Progress: []Progress{{Lane: lane, Block: 1, Finished: 8, Done: []byte{255, 3}}}})
	if got := mustRead(t, s, lane, 0, 1); len(got) != 0 {
		t.Errorf("a block with a full bitmap stays: %+v", got)
	}
}

// TestCommitGivesUp: a call whose context ends while it waits is not written.
func TestCommitGivesUp(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	release := blocked(t, s)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var stays, goes error
	wg.Go(func() { stays = s.Commit(context.Background(), &Batch{Seen: []uint64{1}}) })
	queued(s, 1)
	wg.Go(func() { goes = s.Commit(ctx, &Batch{Seen: []uint64{2}}) })
	queued(s, 2)
	cancel()
	queued(s, 1)
	release()
	wg.Wait()
	if stays != nil || !s.Seen(1) {
		t.Errorf("the other: %v, seen %v", stays, s.Seen(1))
	}
	if !errors.Is(goes, context.Canceled) || s.Seen(2) {
		t.Errorf("the one that ended: %v, seen %v", goes, s.Seen(2))
	}
	if err := s.Commit(ctx, &Batch{Seen: []uint64{3}}); !errors.Is(err, context.Canceled) || s.Seen(3) {
		t.Errorf("with a context that ended before: %v, seen %v", err, s.Seen(3))
	}
}

// TestConcurrentUse: readers see each batch whole while many write.
func TestConcurrentUse(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	const writers, each = 8, 30
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			lane, err := s.LaneID(LaneName{Destination: fmt.Sprint("d", w/2)}) // two writers to a lane
			if err != nil {
				t.Error(err)
				return
			}
			for i := range each {
				n := uint64(w*each + i)
				if err := s.Commit(ctx, &Batch{Seen: []uint64{n}, Blocks: []Block{{Lane: lane, Entries: 2, Oldest: at, Data: fmt.Append(nil, n)}}}); err != nil {
					t.Error(err)
				}
				if !s.Seen(n) {
					t.Errorf("%d is not seen after its commit", n)
				}
				blocks, err := s.ReadBlocks(ctx, lane, 0, 1<<20)
				found := err == nil && len(blocks) > 0
				for _, b := range blocks {
					found = found || bytes.Equal(b.Data, fmt.Append(nil, n))
				}
				if !found {
					t.Errorf("%d can not be read after its commit: %v", n, err)
				}
				for _, l := range s.Lanes() {
					if l.ID == lane && (l.Entries < int64(2*(i+1)) || !l.Oldest.Equal(at)) {
						t.Errorf("lane %+v after %d batches", l, i+1)
					}
				}
			}
		})
	}
	wg.Wait()
	if lanes := s.Lanes(); len(lanes) != writers/2 || lanes[0].Entries != 4*each {
		t.Errorf("lanes %+v", lanes)
	}
}

// TestDiskFull: nothing is written, and nothing is lost when there is room again.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{pragmas: `PRAGMA max_page_count=60`, Logger: slog.New(slog.DiscardHandler)})
	lane := mustLane(t, s, contacts)
	big := &Batch{Position: 9, Blocks: []Block{{Lane: lane, Entries: 1, Data: randomBytes(300_000)}}}
	if err := s.Commit(ctx, big); !errors.Is(err, ErrFull) || !s.Full() || s.Position() != 0 {
		t.Errorf("%v, full %v, position %d", err, s.Full(), s.Position())
	}
	mustCommit(t, s, &Batch{Position: 3}) // small things go on
	if s.Full() {
		t.Error("full after a commit went through")
	}
	s.CacheStore("big", randomBytes(300_000)) // has no room either, and is in nobody's way
	mustCommit(t, s, &Batch{Position: 4})
	if s.Err() != nil {
		t.Errorf("failed for good: %v", s.Err())
	}
	mustClose(t, s)
	s = mustOpen(t, dir, Options{})
	mustCommit(t, s, big)
	if s.Position() != 9 || len(mustRead(t, s, lane, 0, 1)) != 1 {
		t.Errorf("position %d with room again", s.Position())
	}
}

func TestFloor(t *testing.T) {
	f := func(opts Options, want bool) {
		t.Helper()
		s := mustOpen(t, t.TempDir(), opts)
		if s.Full() != want {
			t.Errorf("%+v: full %v", opts, s.Full())
		}
		mustCommit(t, s, &Batch{Position: 1})
	}
	f(Options{}, false)
	f(Options{MinFreeBytes: 1 << 10}, false)
	f(Options{MinFreeBytes: 1 << 60}, true)
}

// TestFreePagesAreSpace: pages that deliveries freed count as free.
func TestFreePagesAreSpace(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	lane := mustLane(t, s, contacts)
	mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 1, Data: randomBytes(8 << 20)}}})
	mustCommit(t, s, &Batch{Progress: []Progress{{Lane: lane, Block: 1, Finished: 1}}})
	f := func(above int64, want bool) {
		t.Helper()
		free, err := freeBytes(s.path)
		if err != nil {
			t.Fatal(err)
		}
		s.opts.MinFreeBytes = free + above
		if s.Full() != want {
			t.Errorf("%d bytes are wanted above what the disk has free, %d pages are free in the store: full %v", above, s.Stats().FreePages, s.Full())
		}
	}
	// Sizes differ by far more than others write to the disk meanwhile.
	f(4<<20, false)
	f(400<<20, true)
}

// TestVacuum: pages are given back when nothing happens for a while, in virtual time.
func TestVacuum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, t.TempDir(), Options{vacuumAbove: 100})
		lane := mustLane(t, s, contacts)
		mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 1, Data: randomBytes(8 << 20)}}})
		mustCommit(t, s, &Batch{Progress: []Progress{{Lane: lane, Block: 1, Finished: 1}}})
		if got := s.Stats().FreePages; got < 1000 {
			t.Fatalf("%d free pages to begin with", got)
		}
		time.Sleep(vacuumAfter - time.Millisecond)
		synctest.Wait()
		if got := s.Stats().FreePages; got < 1000 {
			t.Errorf("only %d free pages before it is time", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := s.Stats().FreePages; got >= 100 {
			t.Errorf("%d free pages left", got)
		}
		mustClose(t, s)
		if got := s.Stats().FileBytes; got > 2<<20 {
			t.Errorf("the file is %d bytes", got)
		}
	})
}

// TestLockedByOperator: an open write transaction of someone else is waited for, and named in the log.
func TestLockedByOperator(t *testing.T) {
	var text bytes.Buffer
	s := mustOpen(t, t.TempDir(), Options{Logger: slog.New(slog.NewTextHandler(&text, nil)), pragmas: `PRAGMA busy_timeout=20`})
	release := blocked(t, s)
	time.AfterFunc(100*time.Millisecond, release)
	mustCommit(t, s, &Batch{Position: 4})
	if s.Position() != 4 || !strings.Contains(text.String(), "write lock") {
		t.Errorf("position %d, log %q", s.Position(), text.String())
	}
}

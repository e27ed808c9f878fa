package log

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestConcurrentProducers reads while many append: nothing is missing, each producer's order is kept, each call's records
// stand together.
func TestConcurrentProducers(t *testing.T) {
	const producers, calls = 32, 100
	l := mustOpen(t, t.TempDir(), Options{SegmentBytes: 16 << 10})
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for c := range calls {
				var recs []string
				for i := range 1 + c%3 {
					recs = append(recs, fmt.Sprintf("%d/%d/%d/%s", p, c, i, strings.Repeat("x", c)))
				}
				mustAppend(t, l, recs...)
			}
		})
	}
	r := mustReader(t, l, 0)
	type place struct{ call, index int }
	next := make([]place, producers)
	last, call := -1, -1 // of the record before
	for n, end := 0, Offset(0); n < producers*calls; {
		got, err := awaitBatch(t.Context(), r, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range got {
			if g.Offset < end {
				t.Fatalf("offset %d after %d", g.Offset, end-1)
			}
			end = g.Offset + 1
			var p, c, i int
			if _, err := fmt.Sscanf(string(g.Data), "%d/%d/%d/", &p, &c, &i); err != nil {
				t.Fatalf("%q: %v", g.Data, err)
			}
			if (next[p] != place{c, i}) {
				t.Fatalf("producer %d: got call %d record %d, want %v", p, c, i, next[p])
			}
			if i > 0 && (last != p || call != c) {
				t.Fatalf("record %d of producer %d's call %d does not follow the one before it", i, p, c)
			}
			last, call = p, c
			if next[p].index++; next[p].index == 1+c%3 {
				next[p] = place{call: c + 1}
				n++
			}
		}
	}
	wg.Wait()
}

func TestAppendCopies(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	b := []byte("before")
	if err := l.Append(b); err != nil {
		t.Fatal(err)
	}
	copy(b, "after!")
	wantRecords(t, l, 0, numbered(0, "before"))
}

func TestAppendLimits(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{MaxBytes: 10_000})
	f := func(want error, sizes ...int) {
		t.Helper()
		var recs [][]byte
		for _, n := range sizes {
			recs = append(recs, make([]byte, n))
		}
		if err := l.Append(recs...); !errors.Is(err, want) {
			t.Errorf("append of %v bytes: got %v, want %v", sizes, err, want)
		}
	}
	f(nil)
	f(ErrTooBig, MaxRecordBytes+1)
	f(ErrTooBig, 5000) // would never fit in half of MaxBytes, which the last segment keeps
	f(ErrTooBig, 2500, 2500)
	f(nil, 4800)
	f(nil, 4800)
	f(ErrFull, 4800)
	f(nil, 10)
	if got, err := readAll(t, l, 0); err != nil || len(got) != 3 {
		t.Errorf("read %d records and %v, want 3", len(got), err)
	}
}

// TestLargeCalls has calls over and under the size of a group wait for each other.
func TestLargeCalls(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{SegmentBytes: 20 << 20})
	var wg sync.WaitGroup
	for p := range 12 {
		wg.Go(func() {
			for range 4 {
				if err := l.Append(make([]byte, p<<19), make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := readAll(t, l, 0)
	if err != nil || len(got) != 2*4*12 {
		t.Errorf("read %d records and %v, want %d", len(got), err, 2*4*12)
	}
}

func TestFullAndBack(t *testing.T) {
	dir := t.TempDir()
	opts := Options{SegmentBytes: 1000, MaxBytes: 5000}
	l := mustOpen(t, dir, opts)
	var want []rec
	fill := func() {
		t.Helper()
		for {
			data := fmt.Sprintf("%0300d", len(want))
			end := l.Stats().End
			err := l.Append([]byte(data))
			if errors.Is(err, ErrFull) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
			want = append(want, rec{end, data})
		}
	}
	fill()
	if s := l.Stats(); s.Bytes > opts.MaxBytes || s.Bytes < opts.MaxBytes-1000 {
		t.Errorf("full at %d bytes, want about %d", s.Bytes, opts.MaxBytes)
	}
	mustClose(t, l)
	l = mustOpen(t, dir, opts)
	if err := l.Append(make([]byte, 300)); !errors.Is(err, ErrFull) {
		t.Errorf("opened again: %v, want ErrFull", err)
	}
	n := len(want)
	if err := l.Reclaim(l.Stats().End); err != nil {
		t.Fatal(err)
	}
	fill()
	if len(want) < n+8 {
		t.Errorf("%d records fitted after Reclaim, want about as many as before (%d)", len(want)-n, n)
	}
	wantRecords(t, l, want[n].Offset, want[n:])
}

// floorDisk is a disk with as much free space as it is told.
type floorDisk struct {
	unsynced
	mu   sync.Mutex
	free int64
	err  error
}

func (d *floorDisk) set(free int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free, d.err = free, err
}

func (d *floorDisk) Free(string) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.free, d.err
}

func TestMinFreeBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &floorDisk{free: 10_000}
		l, err := openOn(t.TempDir(), Options{MinFreeBytes: 5000}, d)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f := func(size int, want error) {
			t.Helper()
			if err := l.Append(make([]byte, size)); !errors.Is(err, want) {
				t.Errorf("append of %d bytes: got %v, want %v", size, err, want)
			}
		}
		f(3000, nil)
		f(3000, ErrFull) // counted on from the last look
		time.Sleep(time.Second)
		f(3000, nil)
		d.set(4000, nil)
		f(1, nil) // not looked at again within a second
		time.Sleep(time.Second)
		f(1, ErrFull)
		d.set(10_000, nil)
		f(1, ErrFull)
		time.Sleep(time.Second)
		f(1, nil)
		d.set(0, errors.New("no such call"))
		time.Sleep(time.Second)
		f(100_000, nil) // unknown is not full
	})
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "log")
	l := mustOpen(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
		t.Errorf("second open: got %v, want ErrInUse with the process id", err)
	}
	mustClose(t, l)
	mustClose(t, mustOpen(t, dir, Options{}))
}

func TestClose(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	mustAppend(t, l, "a")
	mustClose(t, l)
	if err := l.Append([]byte("b")); !errors.Is(err, ErrClosed) {
		t.Errorf("append: got %v, want ErrClosed", err)
	}
	if err := l.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second close: got %v, want ErrClosed", err)
	}
	if err := l.Err(); err != nil {
		t.Errorf("Err of a closed log: %v", err)
	}
}

// TestCloseWhileAppending checks that each append is either refused or there.
func TestCloseWhileAppending(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		acked = map[string]bool{}
		begun = make(chan struct{}, 1)
	)
	for p := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprint(p, "/", i)
				if err := l.Append([]byte(id)); errors.Is(err, ErrClosed) {
					return
				} else if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked[id] = true
				mu.Unlock()
				select {
				case begun <- struct{}{}:
				default:
				}
			}
		})
	}
	<-begun
	mustClose(t, l)
	wg.Wait()
	got, err := readAll(t, mustOpen(t, dir, Options{}), 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, r := range got {
		found[r.Data] = true
	}
	if diff := cmp.Diff(acked, found); diff != "" {
		t.Errorf("acknowledged against read (-want +got):\n%s", diff)
	}
}

func TestStats(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{Position: 7})
	if got, want := l.Stats(), (Stats{First: 7, End: 7}); got != want {
		t.Errorf("empty: %+v, want %+v", got, want)
	}
	mustAppend(t, l, "a", "b")
	mustAppend(t, l, "c")
	got := l.Stats()
	got.SyncDuration = 0
	want := Stats{Bytes: headerBytes + 2*groupHead + 3*(frameHead+1), Segments: 1, First: 7, End: 10, Groups: 2, Records: 3}
	if got != want {
		t.Errorf("three records: %+v, want %+v", got, want)
	}
	if _, err := mustReader(t, l, 0).ReadBatch(1); err != nil {
		t.Error(err)
	}
}

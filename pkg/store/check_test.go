package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// filled is a closed store with some thousand pages.
func filled(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	s := mustOpen(t, dir, Options{})
	lane := mustLane(t, s, contacts)
	for range 50 {
		mustCommit(t, s, &Batch{
			Blocks:     []Block{{Lane: lane, Entries: 1, Data: randomBytes(100_000)}},
			Identities: []Identity{{APIKey: "key", Kind: "id", Value: "u", Email: "ada@example.com"}},
		})
	}
	mustClose(t, s)
	return dir
}

// TestCheck finds pages that do not fit together, and says where without what stands in them. A whole store has no problems.
func TestCheck(t *testing.T) {
	dir := filled(t)
	s := mustOpen(t, dir, Options{})
	if got := s.LastCheck(); !got.At.IsZero() {
		t.Errorf("before the first check: %+v", got)
	}
	got, err := s.CheckPages(t.Context())
	if err != nil || len(got.Problems) > 0 || got.At.IsZero() {
		t.Errorf("a whole store: %+v, %v", got, err)
	}
	if last := s.LastCheck(); last.At != got.At {
		t.Errorf("the last check is %+v, want %+v", last, got)
	}
	mustClose(t, s)

	// The page of the identities becomes one of no kind.
	file := mustReadFile(t, dir)
	file[strings.Index(string(file), "ada@example.com")/pageSize*pageSize] = 0x55
	if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{})
	defer s.Close()
	got, err = s.CheckPages(t.Context())
	if err != nil || len(got.Problems) == 0 || !strings.HasPrefix(got.Problems[0], "table identities: ") {
		t.Errorf("a damaged page: %+v, %v", got, err)
	}
	if text := strings.Join(got.Problems, " "); strings.Contains(text, "ada@") {
		t.Errorf("problems tell what stands in the store: %s", text)
	}
	mustCommit(t, s, &Batch{Position: 7}) // what is whole goes on
}

// TestCheckEnds: a check that is told to end does, and is none.
func TestCheckEnds(t *testing.T) {
	s := mustOpen(t, filled(t), Options{})
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.CheckPages(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want canceled", err)
	}
	if got := s.LastCheck(); !got.At.IsZero() {
		t.Errorf("it counts as a check: %+v", got)
	}
}

// TestCheckNowAndThen: minutes after the start, and daily.
func TestCheckNowAndThen(t *testing.T) {
	dir := filled(t)
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, dir, Options{})
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.CheckNowAndThen(ctx) }()
		began := time.Now()
		f := func(wait time.Duration, want time.Duration) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if got := s.LastCheck().At.Sub(began).Truncate(time.Minute); got != want {
				t.Errorf("after %v the last check was after %v, want %v", time.Since(began), got, want)
			}
		}
		time.Sleep(4 * time.Minute)
		if got := s.LastCheck(); !got.At.IsZero() {
			t.Errorf("checked at once: %+v", got)
		}
		f(2*time.Minute, 5*time.Minute)
		f(23*time.Hour, 5*time.Minute)
		f(time.Hour, 24*time.Hour+5*time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkCheckPages checks a database of 400 MB, and reports how fast that goes and what is left of the speed of commits beside it.
func BenchmarkCheckPages(b *testing.B) {
	const blocks, size = 4000, 100_000
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	lane, err := s.LaneID(contacts)
	if err != nil {
		b.Fatal(err)
	}
	data := randomBytes(size)
	commit := func() {
		if err := s.Commit(ctx, &Batch{Blocks: []Block{{Lane: lane, Entries: 1, Data: data}}}); err != nil {
			b.Fatal(err)
		}
	}
	for range blocks {
		commit()
	}
	rate := func(until func() bool) float64 {
		began, n := time.Now(), 0
		for ; !until(); n++ {
			commit()
		}
		return float64(n) / time.Since(began).Seconds()
	}
	for b.Loop() {
		at := time.Now()
		alone := rate(func() bool { return time.Since(at) > 2*time.Second })
		done := make(chan Check, 1)
		go func() {
			found, err := s.CheckPages(ctx)
			if err != nil || len(found.Problems) > 0 {
				b.Error(found, err)
			}
			done <- found
		}()
		var found Check
		beside := rate(func() bool {
			select {
			case found = <-done:
				return true
			default:
				return false
			}
		})
		b.ReportMetric(float64(s.Stats().FileBytes)/1e6/found.Took.Seconds(), "MB/s")
		b.ReportMetric(beside/alone, "commits-ratio")
	}
}

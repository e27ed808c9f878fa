package store

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestSeenWindow: by time, over a restart, in virtual time.
func TestSeenWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		opts := Options{SeenWindow: 8 * time.Hour}
		s := mustOpen(t, dir, opts)
		reopen := func() {
			mustClose(t, s)
			s = mustOpen(t, dir, opts)
		}
		f := func(h uint64, want bool) {
			t.Helper()
			if got := s.Seen(h); got != want {
				t.Errorf("%d: seen %v, want %v", h, got, want)
			}
		}
		mustCommit(t, s, &Batch{Seen: []uint64{0, 1, 2}}) // 0 is a hash like others
		f(0, true)
		f(2, true)
		f(3, false)
		time.Sleep(4 * time.Hour)
		mustCommit(t, s, &Batch{Seen: []uint64{3}})
		reopen()
		f(0, true)
		f(3, true)
		time.Sleep(4 * time.Hour)
		f(1, true) // just now 8 hours
		time.Sleep(time.Hour + time.Minute)
		f(1, false) // also without a commit
		f(3, true)
		mustCommit(t, s, &Batch{Seen: []uint64{1}}) // it comes again
		f(1, true)
		f(2, false)
		reopen()
		f(1, true)
		f(2, false)
		f(3, true)
		time.Sleep(24 * time.Hour)
		reopen()
		f(1, false)
		mustCommit(t, s, &Batch{Seen: []uint64{9}})
		f(9, true)
		if rows := tableRows(t, s, "seen"); rows != 1 {
			t.Errorf("%d rows for one id", rows)
		}
		mustClose(t, s)
	})
}

func TestSeenMax(t *testing.T) {
	dir := t.TempDir()
	opts := Options{SeenMax: 800}
	s := mustOpen(t, dir, opts)
	for n := uint64(0); n < 5000; n += 50 {
		mustCommit(t, s, &Batch{Seen: numbers(n, n+50)})
		if got := s.Stats().Seen; got > 800 {
			t.Fatalf("%d ids after %d", got, n)
		}
	}
	for _, when := range []string{"as committed", "reopened"} {
		for _, n := range numbers(0, 5000) {
			if n >= 5000-700 && !s.Seen(n) || n < 5000-800 && s.Seen(n) {
				t.Fatalf("%s: %d: seen %v", when, n, s.Seen(n))
			}
		}
		mustClose(t, s)
		s = mustOpen(t, dir, opts)
	}
	mustClose(t, s)
	s = mustOpen(t, dir, Options{SeenMax: 80}) // a smaller limit holds from the start
	if got := s.Stats().Seen; got > 100 {      // but for the bucket that was being filled
		t.Errorf("%d ids", got)
	}
}

func TestKnown(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustCommit(t, s, &Batch{Known: []uint64{1, 2}})
	mustCommit(t, s, &Batch{Delivered: []uint64{2, 3}})
	mustCommit(t, s, &Batch{Known: []uint64{2, 3, 4}, Delivered: []uint64{4}})
	for _, when := range []string{"as committed", "reopened", "reopened twice"} {
		f := func(h uint64, want [2]bool) {
			t.Helper()
			if known, delivered := s.Known(h); known != want[0] || delivered != want[1] {
				t.Errorf("%s: %d: known %v, delivered %v; want %v", when, h, known, delivered, want)
			}
		}
		f(1, [2]bool{true, false})
		f(2, [2]bool{true, true})
		f(3, [2]bool{true, true})
		f(4, [2]bool{true, true})
		f(5, [2]bool{false, false})
		mustClose(t, s)
		s = mustOpen(t, dir, Options{})
	}
}

// TestBucketsStayApart: after a restart, hashes are not added to the row of an older bucket: it would be kept too long, or what
// is in it forgotten too early.
func TestBucketsStayApart(t *testing.T) {
	dir := t.TempDir()
	opts := Options{KnownMax: 80} // buckets of 10
	s := mustOpen(t, dir, opts)
	mustCommit(t, s, &Batch{Delivered: numbers(0, 10)})
	mustCommit(t, s, &Batch{Known: numbers(10, 12)})
	mustClose(t, s)
	s = mustOpen(t, dir, opts)
	mustCommit(t, s, &Batch{Delivered: numbers(12, 14)})
	for n := uint64(14); n < 87; n++ { // so many that the first 10 must go, and no others
		mustCommit(t, s, &Batch{Known: []uint64{n}})
	}
	mustClose(t, s)
	s = mustOpen(t, dir, opts)
	for _, n := range numbers(0, 87) {
		if known, _ := s.Known(n); known != (n >= 10) {
			t.Errorf("%d: known %v", n, known)
		}
	}
}

// TestWindowMatchesModel adds, marks and forgets at random and compares with a reloaded window after each step: memory and
// table must agree.
func TestWindowMatchesModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	const limit, keys = 160, 400
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{KnownMax: limit})
	marked := make(map[uint64]bool) // since it was last unknown
	for step := range 200 {
		var b Batch
		for range rnd.IntN(8) {
			b.Known = append(b.Known, rnd.Uint64N(keys))
		}
		for range rnd.IntN(5) {
			b.Delivered = append(b.Delivered, rnd.Uint64N(keys))
		}
		mustCommit(t, s, &b)
		for _, h := range b.Delivered {
			marked[h] = true
		}
		if step%20 == 0 {
			mustClose(t, s)
			s = mustOpen(t, dir, Options{KnownMax: limit})
		}
		reloaded := newWindow("known", 0, limit)
		c, err := openReader(s.path, "rw")
		if err != nil {
			t.Fatal(err)
		}
		if err := reloaded.load(c, time.Now(), func(err error) { t.Error(err) }); err != nil {
			t.Fatal(err)
		}
		c.close()
		total := 0
		for h := range uint64(keys) {
			known, delivered := s.Known(h)
			if k, d := reloaded.has(h); k != known || d != delivered {
				t.Fatalf("step %d: key %d: known %v, delivered %v; from the table %v, %v", step, h, known, delivered, k, d)
			}
			if delivered && !marked[h] {
				t.Fatalf("step %d: key %d is delivered and never was", step, h)
			}
			if !known {
				marked[h] = false
			} else {
				total++
			}
		}
		if total > limit || step > 100 && total < limit/2 {
			t.Fatalf("step %d: %d keys are known", step, total)
		}
	}
}

// TestSmallCommitsMakeFewRows: ids that come one by one are a row for a page of them, not a row each.
func TestSmallCommitsMakeFewRows(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	const ids = 1200
	for n := range uint64(ids) {
		mustCommit(t, s, &Batch{Seen: []uint64{n}})
	}
	if rows := tableRows(t, s, "seen"); rows > 3 {
		t.Errorf("%d rows for %d ids", rows, ids)
	}
	if s.Stats().Seen != ids {
		t.Errorf("%d ids", s.Stats().Seen)
	}
}

func tableRows(t *testing.T, s *Store, table string) (n int64) {
	t.Helper()
	err := s.read(func(c *conn) (err error) {
		n, err = c.queryInt(`SELECT count(*) FROM ` + table)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestHashMap compares with a map, with hashes that crowd in few places too.
func TestHashMap(t *testing.T) {
	f := func(name string, n int, next func() uint64) {
		t.Run(name, func(t *testing.T) {
			var set hashMap[uint8]
			want := make(map[uint64]uint8)
			for range n {
				h, tag := next(), uint8(rand.IntN(4))
				set.putLocked(h, tag)
				want[h] = tag
			}
			set.drop(func(tag uint8) bool { return tag == 2 })
			count := 0
			for h, tag := range want {
				got, ok := set.getLocked(h)
				if ok != (tag != 2) || ok && got != tag {
					t.Fatalf("%x: %d %v, want %d", h, got, ok, tag)
				}
				if ok {
					count++
				}
			}
			for h, tag := range want {
				if rand.IntN(2) == 0 && tag != 2 {
					set.removeLocked(h)
					delete(want, h)
					count--
				}
			}
			set.removeLocked(next() ^ 1<<41) // never put
			for h, tag := range want {
				if got, ok := set.getLocked(h); ok != (tag != 2) || ok && got != tag {
					t.Fatalf("after removals %x: %d %v, want %d", h, got, ok, tag)
				}
			}
			if set.len() != count {
				t.Errorf("%d hashes, want %d", set.len(), count)
			}
			for range 1000 {
				h := next() ^ 1<<40
				if _, ok := set.getLocked(h); ok != (want[h] != 2 && has(want, h)) {
					t.Fatalf("%x is there: %v", h, ok)
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	f("random", 200_000, rnd.Uint64)
	f("few", 20, rnd.Uint64)
	f("small numbers", 3000, func() uint64 { return 2 + rnd.Uint64N(5000) })
	f("large numbers", 3000, func() uint64 { return ^rnd.Uint64N(5000) })
}

func has(m map[uint64]uint8, h uint64) bool { _, ok := m[h]; return ok }

// TestHashMapSize: 16 bytes a hash at most, whatever the count.
func TestHashMapSize(t *testing.T) {
	var set hashMap[uint8]
	for n := 1; n <= 1_000_000; n++ {
		set.putLocked(rand.Uint64(), 0)
		if n >= 20_000 && n%10_000 == 0 {
			if per := float64(set.bytes()) / float64(set.n); per > 16 {
				t.Fatalf("%.1f bytes a hash at %d", per, n)
			}
		}
	}
}

package store

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/trial"
)

func mustRecall(t testing.TB, s *Store, hashes ...uint64) [][]byte {
	t.Helper()
	found, err := s.Recall(ctx, hashes)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != len(hashes) {
		t.Fatalf("%d memories of %d hashes", len(found), len(hashes))
	}
	return found
}

func TestMemories(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	large := bytes.Repeat([]byte("x"), MaxMemory)
	mustCommit(t, s, &Batch{Memories: []Memory{{1, []byte("one")}, {2, []byte("two")}, {3, large}, {0, []byte("zero")}}})
	mustCommit(t, s, &Batch{Memories: []Memory{{2, []byte("second")}, {4, []byte("four")}, {4, []byte("last")}, {5, []byte("gone")}}})
	mustCommit(t, s, &Batch{Memories: []Memory{{5, nil}}})
	check := func(t *testing.T, s *Store) {
		t.Helper()
		got := fmt.Sprintf("%.8q", mustRecall(t, s, 4, 9, 0, 2, 1, 3, 5, 2))
		if want := `["last" "" "zero" "second" "one" "xxxxxxxx" "" "second"]`; got != want {
			t.Errorf("recalled %s, want %s", got, want)
		}
		if found := mustRecall(t, s, 5, 9); found[0] != nil || found[1] != nil {
			t.Errorf("what is forgotten is %q", found)
		}
	}
	check(t, s)
	mustClose(t, s)
	s = mustOpen(t, dir, Options{})
	check(t, s)
	ro, err := OpenReadOnly(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if found := mustRecall(t, ro, 1); found[0] != nil {
		t.Errorf("read-only: %q", found)
	}
	if err := s.Commit(ctx, &Batch{Memories: []Memory{{1, append(large, 'x')}}}); err == nil || !strings.Contains(err.Error(), "memory of 4097 bytes") {
		t.Errorf("a memory that is too large: %v", err)
	}
}

// TestMemoriesMatchModel: what is recalled is what was put last, or, within the limits' tolerance, nothing.
func TestMemoriesMatchModel(t *testing.T) {
	f := func(name string, most int, maxBytes int64, keys, kept int) {
		t.Run(name, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(uint64(keys), 4))
			opts := Options{MemoryMax: most, MemoryBytes: maxBytes}
			dir := t.TempDir()
			s := mustOpen(t, dir, opts)
			want := map[uint64][]byte{}
			for step := range trial.Rounds(t, 300) {
				var b Batch
				for range rnd.IntN(40) {
					m := Memory{uint64(rnd.IntN(keys)), fmt.Append(nil, step, strings.Repeat("x", rnd.IntN(300)))}
					b.Memories = append(b.Memories, m)
					want[m.Hash] = m.Data
				}
				mustCommit(t, s, &b)
				if step%50 == 49 {
					mustClose(t, s)
					s = mustOpen(t, dir, opts)
				}
				hashes := make([]uint64, keys)
				for h := range hashes {
					hashes[h] = uint64(h)
				}
				there := 0
				for h, data := range mustRecall(t, s, hashes...) {
					if data != nil {
						there++
					}
					if data != nil && !bytes.Equal(data, want[uint64(h)]) {
						t.Fatalf("step %d: %d is %q, want %q", step, h, data, want[uint64(h)])
					}
				}
				if there < min(len(want), kept) {
					t.Fatalf("step %d: %d of %d are there, want %d", step, there, len(want), kept)
				}
				if st := s.Stats(); st.MemoryBytes > 2*maxBytes || st.Memories > 2*most {
					t.Fatalf("step %d: %+v", step, st)
				}
			}
		})
	}
	f("some are written again and again", 1000, 1<<20, 100, 100)
	f("many are dead", 1000, 128<<10, 300, 300) // 50 KiB alive
	f("too many", 200, 1<<20, 1000, 150)
	f("too large", 10_000, 64<<10, 1000, 200)
}

func TestMemoriesGetOld(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{MemoryWindow: 3 * time.Second})
	for i := range uint64(100) { // some rows
		mustCommit(t, s, &Batch{Memories: []Memory{{i, make([]byte, 1000)}}})
	}
	mustClose(t, s)
	rows := func() int64 { return tableRows(t, s, "memories") }
	s = mustOpen(t, dir, Options{MemoryWindow: time.Hour})
	mustCommit(t, s, &Batch{Memories: []Memory{{1000, []byte("new")}}})
	before := rows()
	mustClose(t, s)
	time.Sleep(1100 * time.Millisecond) // times are kept in seconds
	s = mustOpen(t, dir, Options{MemoryWindow: time.Nanosecond})
	for i := range uint64(5) {
		mustCommit(t, s, &Batch{Memories: []Memory{{2000 + i, []byte("new")}}})
	}
	if after := rows(); before < 20 || after > 5 {
		t.Errorf("%d rows, then %d", before, after)
	}
	if found := mustRecall(t, s, 1, 2004); found[0] != nil || found[1] == nil {
		t.Errorf("recalled %.5q", found)
	}
	if n := s.Stats().Memories; n > 20 {
		t.Errorf("%d memories are left", n)
	}
}

// TestDamagedMemory: it is left out, and so is what stands beside it; all else goes on.
func TestDamagedMemory(t *testing.T) {
	var logs bytes.Buffer
	dir := t.TempDir()
	opts := Options{MemoryBytes: 128 << 10, Logger: slog.New(slog.NewTextHandler(&logs, nil))}
	s := mustOpen(t, dir, opts)
	for i := range uint64(10) {
		mustCommit(t, s, &Batch{Memories: []Memory{{i, fmt.Appendf(nil, "memory %d%s", i, strings.Repeat("x", 3000))}}})
	}
	mustClose(t, s)
	edit(t, dir, []byte("memory 3"), func(b []byte) { b[0] = 'M' })
	byHand(t, dir+"/"+fileName, `UPDATE memories SET heads = x'00' WHERE id = 5`)
	s = mustOpen(t, dir, opts)
	for i, data := range mustRecall(t, s, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9) {
		if (data == nil) != (i == 3 || i == 4) || data != nil && !bytes.HasPrefix(data, fmt.Appendf(nil, "memory %d", i)) {
			t.Errorf("%d is %.10q", i, data)
		}
	}
	if n := strings.Count(logs.String(), "row 4 of memories: checksum"); n != 4 {
		t.Errorf("the log says it %d times:\n%s", n, logs.String())
	}
	// Tidying passes over it.
	for i := range uint64(200) {
		mustCommit(t, s, &Batch{Memories: []Memory{{6 + i%4, make([]byte, 3000)}}})
	}
	if rows := tableRows(t, s, "memories"); rows > 45 { // a quarter is alive
		t.Errorf("%d rows", rows)
	}
	for i, data := range mustRecall(t, s, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9) {
		if (data == nil) != (i == 3 || i == 4) {
			t.Errorf("after tidying %d is %.10q", i, data)
		}
	}
	if n := s.Stats().Memories; n != 8 {
		t.Errorf("%d memories, want 8", n)
	}
}

// TestRecallWhileTidying: rows go from under those who read them.
func TestRecallWhileTidying(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{MemoryBytes: 64 << 10})
	const readers, keys, steps = 4, 20, 200
	put := func(key, step int) Memory {
		return Memory{uint64(key), fmt.Appendf(make([]byte, 900), "%d %d", key, step)}
	}
	var first []Memory
	for key := range keys {
		first = append(first, put(key, 0))
	}
	mustCommit(t, s, &Batch{Memories: first})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			last := make([]int, keys)
			for {
				select {
				case <-stop:
					return
				default:
				}
				key := rand.IntN(keys)
				found, err := s.Recall(ctx, []uint64{uint64(key)})
				var k, step int
				if err == nil {
					_, err = fmt.Sscanf(string(bytes.TrimLeft(found[0], "\x00")), "%d %d", &k, &step)
				}
				if err != nil || k != key || step < last[key] {
					t.Errorf("key %d: %q, %v; it was at %d", key, found, err, last[key])
					return
				}
				last[key] = step
			}
		})
	}
	for step := range steps {
		mustCommit(t, s, &Batch{Memories: []Memory{put(step%3, step), put(3, step)}}) // the others are moved
	}
	close(stop)
	wg.Wait()
}

package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if run := children[os.Getenv("STORE_TEST_CHILD")]; run != nil {
		run(os.Getenv("STORE_TEST_DIR"))
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var (
	ctx      = context.Background()
	at       = time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)
	contacts = LaneName{Destination: "crm", Hub: "20546336", Account: "acme", Lane: "contacts"}
)

func mustOpen(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustClose(t testing.TB, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func mustCommit(t testing.TB, s *Store, b *Batch) {
	t.Helper()
	if err := s.Commit(ctx, b); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

func mustLane(t testing.TB, s *Store, name LaneName) LaneID {
	t.Helper()
	id, err := s.LaneID(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustRead(t testing.TB, s *Store, lane LaneID, after BlockID, maxBytes int64) []StoredBlock {
	t.Helper()
	blocks, err := s.ReadBlocks(ctx, lane, after, maxBytes)
	if err != nil {
		t.Fatalf("read blocks: %v", err)
	}
	return blocks
}

// throughReopen runs check on the store as it is, opened anew, and opened read-only beside that.
func throughReopen(t *testing.T, dir string, s *Store, check func(t *testing.T, s *Store)) {
	t.Helper()
	t.Run("as committed", func(t *testing.T) { check(t, s) })
	mustClose(t, s)
	s = mustOpen(t, dir, Options{})
	t.Run("reopened", func(t *testing.T) { check(t, s) })
	ro, err := OpenReadOnly(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ro.Close() })
	t.Run("read-only", func(t *testing.T) { check(t, ro) })
}

func TestHandOver(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	lane, other := mustLane(t, s, contacts), mustLane(t, s, LaneName{Destination: "crm", Lane: "events"})
	big := bytes.Repeat([]byte(`{"event_type":"pageview"}`), 1000)
	mustCommit(t, s, &Batch{Position: 7, Blocks: []Block{
		{Lane: lane, Entries: 10, Oldest: at, Data: []byte("ten")},
		{Lane: other, Entries: 1, Oldest: at.Add(-time.Hour), Data: nil},
		{Lane: lane, Entries: 1000, Oldest: at.Add(time.Second), Data: big},
	}})
	mustCommit(t, s, &Batch{BulkPosition: 1 << 52})
	mustCommit(t, s, &Batch{Position: 1 << 63, Blocks: []Block{{Lane: lane, Entries: 3, Oldest: at.Add(time.Minute), Data: []byte("three")}}})
	if got := mustLane(t, s, contacts); got != lane {
		t.Errorf("lane %d on the second call, %d on the first", got, lane)
	}
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		if got, bulk := s.Position(), s.BulkPosition(); got != 1<<63 || bulk != 1<<52 {
			t.Errorf("position %d, of the bulk log %d", got, bulk)
		}
		if got := mustLane(t, s, contacts); got != lane {
			t.Errorf("lane %d, was %d", got, lane)
		}
		wantLanes := []Lane{
			{ID: lane, Name: contacts, Entries: 1013, Oldest: at},
			{ID: other, Name: LaneName{Destination: "crm", Lane: "events"}, Entries: 1, Oldest: at.Add(-time.Hour)},
		}
		blocks := mustRead(t, s, lane, 0, 1<<30)
		for _, b := range append(blocks, mustRead(t, s, other, 0, 0)...) {
			for i := range wantLanes {
				if wantLanes[i].ID == lane == (b.ID != 2) {
					wantLanes[i].Bytes += b.Bytes
				}
			}
		}
		if diff := cmp.Diff(wantLanes, s.Lanes()); diff != "" {
			t.Error("lanes:", diff)
		}
		want := []StoredBlock{{ID: 1, Entries: 10, Data: []byte("ten")}, {ID: 3, Entries: 1000, Data: big}, {ID: 4, Entries: 3, Data: []byte("three")}}
		if diff := cmp.Diff(want, blocks, cmpopts.IgnoreFields(StoredBlock{}, "Bytes")); diff != "" {
			t.Error("blocks:", diff)
		}
		if blocks[1].Bytes > int64(len(big)/10) {
			t.Errorf("%d bytes that repeat take %d on disk", len(big), blocks[1].Bytes)
		}
	})
}

func TestReadBlocksBounds(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	lane := mustLane(t, s, contacts)
	const blocks = 3 * headsPerRead
	for range blocks {
		mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 1, Data: make([]byte, 1000)}}})
	}
	f := func(after BlockID, maxBytes int64, want int) {
		t.Helper()
		got := mustRead(t, s, lane, after, maxBytes)
		if len(got) != want {
			t.Errorf("after %d, %d bytes: %d blocks, want %d", after, maxBytes, len(got), want)
		}
		for i, b := range got {
			if b.ID != after+BlockID(i)+1 {
				t.Errorf("after %d, %d bytes: block %d is %d", after, maxBytes, i, b.ID)
			}
		}
	}
	f(0, 0, 1)
	f(0, 1999, 1)
	f(0, 2000, 2)
	f(5, 20_000, 20) // more than are looked at in one go
	f(0, 1<<30, blocks)
	f(blocks-1, 1<<30, 1)
	f(blocks, 1<<30, 0)
}

func TestProgress(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	lane := mustLane(t, s, contacts)
	for i := range 3 {
		mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 10, Oldest: at.Add(time.Duration(i) * time.Second), Data: []byte{byte(i)}}}})
	}
	retry := func(block BlockID, index int) Retry {
		return Retry{
			Ref: Ref{block, index}, Attempt: 2, Due: at, Since: at.Add(-time.Hour),
			Blocked: 1500 * time.Millisecond, Error: "503",
		}
	}
	mustCommit(t, s, &Batch{
		Progress: []Progress{{Lane: lane, Block: 1, Finished: 3, Done: []byte{0b10101, 0}}, {Lane: lane, Block: 2, Finished: 1, Done: []byte{1, 0}}},
		Retries:  []Retry{retry(1, 1), retry(1, 9), retry(2, 5), retry(3, 1), retry(3, 2)},
	})
	long := retry(3, 2)
	long.Attempt, long.Error = 3, strings.Repeat("ä", 300)
	mustCommit(t, s, &Batch{
		Progress: []Progress{{Lane: lane, Block: 1, Finished: 2, Done: []byte{0b10111, 0b10}}, {Lane: lane, Block: 2, Finished: 9}},
		Retries:  []Retry{long, retry(1, 9)}, // the latter is finished in the same batch
	})
	long.Error = long.Error[:500]
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		want := []StoredBlock{
			{ID: 1, Entries: 10, Bytes: 2, Done: []byte{0b10111, 0b10}, Data: []byte{0}},
			{ID: 3, Entries: 10, Bytes: 2, Data: []byte{2}, Retries: []Retry{retry(3, 1), long}},
		}
		if diff := cmp.Diff(want, mustRead(t, s, lane, 0, 1000)); diff != "" {
			t.Error("blocks:", diff)
		}
		for table, want := range map[string]int64{"retries": 2, "progress": 1, "blocks": 2} {
			if rows := tableRows(t, s, table); rows != want {
				t.Errorf("%d rows in %s, want %d", rows, table, want)
			}
		}
		if diff := cmp.Diff([]Lane{{ID: lane, Name: contacts, Entries: 15, Bytes: 4, Oldest: at}}, s.Lanes()); diff != "" {
			t.Error("lanes:", diff)
		}
	})
}

// TestOldest: it follows the first block as blocks come and go.
func TestOldest(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	lane := mustLane(t, s, contacts)
	f := func(b *Batch, want time.Time) {
		t.Helper()
		mustCommit(t, s, b)
		if got := s.Lanes()[0].Oldest; !got.Equal(want) {
			t.Errorf("oldest %v, want %v", got, want)
		}
	}
	put := func(d time.Duration) *Batch {
		return &Batch{Blocks: []Block{{Lane: lane, Entries: 2, Oldest: at.Add(d)}}}
	}
	finish := func(block BlockID) *Batch {
		return &Batch{Progress: []Progress{{Lane: lane, Block: block, Finished: 2}}}
	}
	f(&Batch{}, time.Time{})
	f(put(0), at)
	f(put(time.Second), at)
	f(put(-time.Hour), at) // of the oldest block, not of all
	f(finish(2), at)
	f(finish(1), at.Add(-time.Hour))
	f(finish(3), time.Time{})
	f(put(time.Minute), at.Add(time.Minute))
}

func TestCallsAndHolds(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	lane := mustLane(t, s, contacts)
	first, second, third := s.NextCall(), s.NextCall(), s.NextCall()
	refs := []Ref{{12, 3}, {12, 0}, {9, 1}, {12, 1}}
	mustCommit(t, s, &Batch{
		Calls: []Call{{ID: first, Lane: lane, Entries: refs}, {ID: second, Lane: lane, Entries: []Ref{{1, 0}}}},
		Holds: []Hold{{Lane: lane, Key: "b@example.com", Until: at}, {Lane: lane, Key: "a@example.com", Until: at.Add(time.Second)}},
	})
	mustCommit(t, s, &Batch{
		Calls:       []Call{{ID: first, Lane: lane, Entries: refs, Ambiguous: at}, {ID: third, Lane: lane}},
		CallsDone:   []CallID{second},
		Holds:       []Hold{{Lane: lane, Key: "c@example.com", Until: at}, {Lane: lane, Key: "b@example.com", Until: at.Add(time.Minute)}},
		HoldsBefore: at.Add(time.Second),
	})
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		calls, err := s.Calls()
		if err != nil {
			t.Fatal(err)
		}
		want := []Call{{ID: first, Lane: lane, Entries: refs, Ambiguous: at}, {ID: third, Lane: lane}}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Error("calls:", diff)
		}
		holds, err := s.Holds()
		if err != nil {
			t.Fatal(err)
		}
		wantHolds := []Hold{{Lane: lane, Key: "a@example.com", Until: at.Add(time.Second)}, {Lane: lane, Key: "b@example.com", Until: at.Add(time.Minute)}}
		if diff := cmp.Diff(wantHolds, holds); diff != "" {
			t.Error("holds:", diff)
		}
		if next := s.NextCall(); !s.readOnly && next <= third {
			t.Errorf("next call is %d while %d is marked", next, third)
		}
	})
}

func TestCache(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	began := time.Now().Truncate(time.Millisecond)
	value := []byte("first")
	s.CacheStore("schema", value)
	value[0] = 'x' // the store has a copy
	s.CacheStore("definitions", []byte("d"))
	s.CacheStore("schema", []byte("second"))
	s.CacheStore("huge", make([]byte, cacheMax+1))
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		for key, want := range map[string]string{"schema": "second", "definitions": "d"} {
			got, at, ok := s.CacheLoad(key)
			if !ok || string(got) != want || at.Before(began) || at.After(time.Now()) {
				t.Errorf("%s: %q, %v, %v; want %q", key, got, at, ok, want)
			}
		}
		for _, key := range []string{"none", "huge"} {
			if _, _, ok := s.CacheLoad(key); ok {
				t.Errorf("%s is there", key)
			}
		}
	})
}

func TestHash(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	long := strings.Repeat("x", 2000)
	all := [][]string{{}, {""}, {"", ""}, {"a", "bc"}, {"ab", "c"}, {"abc"}, {"abc", ""}, {long}, {long, "a"}, {long + "a"}}
	hashes := make(map[uint64]int)
	for i, parts := range all {
		h := s.Hash(parts...)
		if j, ok := hashes[h]; ok {
			t.Errorf("%q and %q have one hash", all[j], parts)
		}
		hashes[h] = i
	}
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		for h, i := range hashes {
			if got := s.Hash(all[i]...); got != h {
				t.Errorf("%.20q: %x, was %x", all[i], got, h)
			}
		}
	})
	if other := mustOpen(t, t.TempDir(), Options{}); other.Hash("abc") == s.Hash("abc") {
		t.Error("two stores have one key")
	}
}

// TestDeletedIsGone: what was delivered can not be read from the files any more.
func TestDeletedIsGone(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	lane := mustLane(t, s, contacts)
	secret := randomBytes(20_000)
	mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 1, Data: secret}}})
	mustClose(t, s)
	if !bytes.Contains(mustReadFile(t, dir), secret[:3000]) {
		t.Fatal("the block is not found in the file to begin with")
	}
	s = mustOpen(t, dir, Options{})
	mustCommit(t, s, &Batch{Progress: []Progress{{Lane: lane, Block: 1, Finished: 1}}})
	mustClose(t, s)
	file := mustReadFile(t, dir)
	for i := 0; i+16 <= len(secret); i += 100 {
		if bytes.Contains(file, secret[i:i+16]) {
			t.Fatalf("byte %d of a finished block still stands in the file", i)
		}
	}
}

func TestAfterClose(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	lane := mustLane(t, s, contacts)
	mustClose(t, s)
	mustClose(t, s)
	f := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
	f("commit", s.Commit(ctx, &Batch{Position: 1}))
	_, err := s.LaneID(LaneName{Destination: "new"})
	f("lane", err)
	_, err = s.ReadBlocks(ctx, lane, 0, 1)
	f("read", err)
	_, err = s.DeadLetters(ctx, DeadLetterQuery{})
	f("dead letters", err)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rnd := rand.NewChaCha8([32]byte{1})
	rnd.Read(b)
	return b
}

func mustReadFile(t testing.TB, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func numbers(from, to uint64) []uint64 {
	var n []uint64
	for i := from; i < to; i++ {
		n = append(n, i)
	}
	return n
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

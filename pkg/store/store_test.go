package store

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHandOver(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	name := LaneName{Destination: "crm", Hub: "1", Lane: "contacts"}
	lane, err := s.LaneID(name)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 4, 5, 6, 7, 8e6, time.UTC)
	mustCommit(t, s, &Batch{
		Position: 7, Seen: []uint64{1, 2}, Known: []uint64{3},
		Blocks: []Block{{Lane: lane, Entries: 10, Oldest: at, Data: []byte("ten")}, {Lane: lane, Entries: 2, Oldest: at.Add(time.Second), Data: make([]byte, 1000)}},
	})
	check := func(s *Store) {
		t.Helper()
		if got := s.Position(); got != 7 {
			t.Errorf("position %d, want 7", got)
		}
		lanes := s.Lanes()
		want := []Lane{{ID: lane, Name: name, Entries: 12, Bytes: lanes[0].Bytes, Oldest: at}}
		if diff := cmp.Diff(want, lanes); diff != "" {
			t.Errorf("lanes: %s", diff)
		}
		blocks, err := s.ReadBlocks(context.Background(), lane, 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(blocks) != 2 || string(blocks[0].Data) != "ten" || len(blocks[1].Data) != 1000 {
			t.Errorf("blocks %+v", blocks)
		}
	}
	check(s)
	s.Close()
	s = mustOpen(t, dir, Options{})
	check(s)
	if !s.Seen(2) || s.Seen(3) {
		t.Error("seen")
	}
}

func mustOpen(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustCommit(t testing.TB, s *Store, b *Batch) {
	t.Helper()
	if err := s.Commit(context.Background(), b); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

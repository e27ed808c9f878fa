package store

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"eventrouter/pkg/seal"
)

// TestMoveSealedBlocks: blocks that go to another lane are there whole, under their ids, with what is finished of them and what waits for a retry, whatever keys were and are in force; in no file a
// text of theirs stands in plain; the lanes' entries and bytes are what they are after a restart; and blocks that are gone meanwhile, or were moved before, are left out.
func TestMoveSealedBlocks(t *testing.T) {
	keys := testKeys(t, 2)
	one, two := keys[0], keys[1]
	f := func(name string, before, moving, after *seal.Ring) {
		t.Helper()
		dir := t.TempDir()
		open := func(ring *seal.Ring) *Store {
			t.Helper()
			return mustOpen(t, dir, Options{Keys: ring, OutcomeBytes: 1 << 20, uncompressed: true, pragmas: unsynced, Logger: quiet})
		}
		waiting := contacts
		waiting.Hub = ""
		s := open(before)
		from := mustLane(t, s, waiting)
		for i := range 6 {
			mustCommit(t, s, &Batch{Blocks: []Block{{Lane: from, Entries: 4, Oldest: at, Data: fmt.Appendf(nil, "jane@example.com, order_completed %d", i)}}})
		}
		all := mustRead(t, s, from, 0, 1<<20)
		mustCommit(t, s, &Batch{Progress: []Progress{{Lane: from, Block: all[1].ID, Finished: 2, Done: []byte{0b101}}}})
		mustCommit(t, s, &Batch{Retries: []Retry{{Ref: Ref{Block: all[2].ID, Index: 3}, Attempt: 2, Due: at, Since: at, Error: "jane@example.com"}}})
		mustClose(t, s)

		s = open(moving)
		to := mustLane(t, s, contacts)
		mustCommit(t, s, &Batch{Blocks: []Block{{Lane: to, Entries: 1, Oldest: at, Data: []byte("what came later")}}})
		later := mustRead(t, s, to, 0, 1<<20)
		all = mustRead(t, s, from, 0, 1<<20)
		mustCommit(t, s, &Batch{Progress: []Progress{{Lane: from, Block: all[5].ID, Finished: 4}}})
		for _, part := range [][]StoredBlock{all[:3], all[2:]} { // one of them twice, and one is gone
			if err := s.MoveBlocks(ctx, from, to, part); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		want := append(all[:5:5], later...)
		check := func(s *Store, when string) {
			t.Helper()
			got := mustRead(t, s, to, 0, 1<<20)
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(StoredBlock{}, "Bytes")); diff != "" {
				t.Errorf("%s, %s: blocks (-want +got): %s", name, when, diff)
			}
			bytes := int64(0)
			for _, b := range got {
				bytes += b.Bytes
			}
			if l, _ := s.Lane(contacts); l.Entries != 5*4-2+1 || l.Bytes != bytes {
				t.Errorf("%s, %s: %d entries, %d bytes, want 19 and %d", name, when, l.Entries, l.Bytes, bytes)
			}
			if l, _ := s.Lane(waiting); l.Entries != 0 || l.Bytes != 0 || len(mustRead(t, s, from, 0, 1)) != 0 {
				t.Errorf("%s, %s: where they were: %+v", name, when, l)
			}
		}
		check(s, "moved")
		if err := s.Reseal(ctx); err != nil {
			t.Fatalf("%s: reseal: %v", name, err)
		}
		check(s, "sealed anew")
		mustClose(t, s)
		for _, text := range planted[:3] {
			if found := rawNaming(t, dir, text); moving != nil && len(found) > 0 {
				t.Errorf("%s: %q is found in %v", name, text, found)
			}
		}
		s = open(after)
		check(s, "after a restart")
		mustClose(t, s)
	}
	f("plain", nil, nil, nil)
	f("one key", mustRing(t, true, one), mustRing(t, true, one), mustRing(t, true, one))
	f("turned on", nil, mustRing(t, true, one), mustRing(t, true, one))
	f("a new key", mustRing(t, true, one), mustRing(t, true, two, one), mustRing(t, true, two))
}

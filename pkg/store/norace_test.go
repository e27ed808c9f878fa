//go:build !race

package store

import "testing"

// TestLookUpsDoNotAllocate guards what the sorter does for each event.
func TestLookUpsDoNotAllocate(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	mustCommit(t, s, &Batch{Seen: []uint64{1}, Known: []uint64{1}, Identities: []Identity{{APIKey: "k", Kind: "user_id", Value: "1"}}})
	long := string(randomBytes(3000))
	f := func(what string, fn func()) {
		t.Helper()
		if n := testing.AllocsPerRun(1000, fn); n >= 1 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	f("hash", func() { s.Hash("js.4f2a9c0e8b7d", "0b4fd3a2-6d9e-4a51-9d3a-0f6f3f1f7f10") })
	f("hash of much", func() { s.Hash("js.4f2a9c0e8b7d", long) })
	f("seen", func() { s.Seen(1); s.Seen(2) })
	f("known", func() { s.Known(1); s.Known(2) })
	f("identity", func() { s.Identity("k", "user_id", "1") })
}

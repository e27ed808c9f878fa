package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEraseOutcomesBesideReseal: rows are sealed with another key while a person's outcomes are looked for. They go all the same.
func TestEraseOutcomesBesideReseal(t *testing.T) {
	dir := t.TempDir()
	keys := testKeys(t, 2)
	s := mustOpen(t, dir, Options{Keys: mustRing(t, true, keys[0]), OutcomeBytes: 1 << 20, pragmas: unsynced, Logger: quiet})
	for i := range 3 {
		fillStore(t, s, i)
	}
	mustClose(t, s)
	s = mustOpen(t, dir, Options{Keys: mustRing(t, true, keys[1], keys[0]), OutcomeBytes: 1 << 20, pragmas: unsynced, Logger: quiet})
	resealed := false
	erased, _, _, err := s.EraseOutcomes(ctx, func(*Outcome) Erasing {
		if !resealed {
			resealed = true
			for _, table := range otherTables {
				if table.name != "outcomes" {
					continue
				}
				if err := s.resealTable(table, func(do func(*tx) error) error { return s.change(ctx, nil, do) }); err != nil {
					t.Error(err)
				}
			}
		}
		return Erase
	})
	if err != nil || erased != 3 {
		t.Errorf("%d outcomes erased, %v; want 3", erased, err)
	}
	if left, err := s.Outcomes(ctx, OutcomeQuery{EventID: "event-id-0815-0"}); err != nil || len(left) > 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
	n := 0
	if _, _, _, err = s.EraseOutcomes(ctx, func(*Outcome) Erasing { n++; return Keep }); err != nil || n > 0 {
		t.Errorf("%d outcomes are left, %v", n, err)
	}
}

// TestNothingOfLongRowsIsLeft: blocks and dead letters that take many pages are rewritten, shorter and longer, and deleted, over and over. Nothing of them is left in pages
// that they had.
func TestNothingOfLongRowsIsLeft(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{uncompressed: true, pragmas: unsynced, Logger: quiet})
	lane := mustLane(t, s, contacts)
	rng := rand.New(rand.NewPCG(3, 4))
	long := func(word string) []byte { return bytes.Repeat([]byte(word+" "), 1+rng.IntN(2000)) }
	var ids []BlockID
	for i := range 60 {
		b := &Batch{Blocks: []Block{{Lane: lane, Entries: 3, Oldest: at, Data: long("ann-needle")}, {Lane: lane, Entries: 3, Oldest: at, Data: long("bob")}}}
		b.DeadLetters = []DeadLetter{{Destination: "crm", Offset: uint64(i), EventID: fmt.Sprint(i), Received: at, At: at, Reason: "rejected", Error: "no", Event: long("ann-needle"), Original: long("ann-needle")}}
		mustCommit(t, s, b)
		if i%3 == 0 {
			blocks := mustRead(t, s, lane, 0, 1<<30)
			b := blocks[rng.IntN(len(blocks))]
			mustCommit(t, s, &Batch{Progress: []Progress{{Lane: lane, Block: b.ID, Finished: 3}}})
		}
	}
	for _, b := range mustRead(t, s, lane, 0, 1<<30) {
		if bytes.Contains(b.Data, []byte("ann-needle")) {
			ids = append(ids, b.ID)
		}
	}
	for _, id := range ids {
		if err := s.RewriteBlocks(ctx, lane, []RewrittenBlock{{ID: id, Data: long("erased")}}); err != nil {
			t.Fatal(err)
		}
	}
	if n, _, err := s.EraseDeadLetters(ctx, func(d *DeadLetter) Erasing { return Erase }); err != nil || n != 60 {
		t.Fatalf("%d letters erased, %v", n, err)
	}
	t.Logf("before: %v", rawNaming(t, dir, "ann-needle"))
	if err := s.Truncate(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Scrub(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Truncate(ctx); err != nil {
		t.Fatal(err)
	}
	if found := rawNaming(t, dir, "needle"); found != nil {
		data, _ := os.ReadFile(filepath.Join(dir, fileName))
		i := bytes.Index(data, []byte("needle"))
		t.Errorf("what was erased stands in %v, first in page %d at %d: %q", found, i/pageSize+1, i%pageSize, strings.ToValidUTF8(string(data[i/pageSize*pageSize:][:64]), "?"))
	}
}

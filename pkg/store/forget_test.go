package store

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rawNaming are the files of the database, of which the raw bytes hold a text.
func rawNaming(t *testing.T, dir, text string) (found []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(data, []byte(text)); n > 0 {
			found = append(found, fmt.Sprintf("%s: %d times", f.Name(), n))
		}
	}
	return found
}

// TestScrubLeavesNothingBetweenRows fills tables in the order of nothing, so that pages split over and over, deletes what was put in, and finds it nowhere in the
// files. Without Scrub it stands in pages that SQLite has built anew.
func TestScrubLeavesNothingBetweenRows(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	seen := time.Now()
	var anns []PersonID
	for range 12 {
		var b Batch
		for range 500 {
			person := "bob"
			if rng.IntN(3) == 0 {
				person = "ann"
			}
			id := Identity{
				APIKey: "key", Kind: "user_id", Value: fmt.Sprintf("%x-%s-needle", rng.Uint64(), person), Email: person + "-needle@example.com" + strings.Repeat("x", rng.IntN(200)), Seen: seen,
			}
			b.Identities = append(b.Identities, id)
			b.KV = append(b.KV, KV{Destination: "crm", Key: id.Value, Value: `"` + id.Email + `"`})
			if person == "ann" {
				anns = append(anns, PersonID{Kind: id.Kind, APIKey: id.APIKey, Value: id.Value})
			}
		}
		if err := s.Commit(ctx, &b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.MarkForgotten(ctx, anns, Forgotten{At: seen}); err != nil {
		t.Fatal(err)
	}
	n, err := s.EndForgotten(ctx, anns, Forgotten{At: seen})
	if err != nil || n != len(anns) {
		t.Fatalf("%d of %d identities erased, %v", n, len(anns), err)
	}
	if n, err := s.EraseKV(ctx, "crm", func(text string) bool { return strings.Contains(text, "ann") }, false); err != nil || n != int64(len(anns)) {
		t.Fatalf("%d of %d entries of $kv erased, %v", n, len(anns), err)
	}
	if err := s.Truncate(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("before: %v", rawNaming(t, dir, "ann-needle"))
	cleaned, err := s.Scrub(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Truncate(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pages cleaned of %d", cleaned, fileSize(s.path)/pageSize)
	if found := rawNaming(t, dir, "ann-needle"); found != nil {
		t.Errorf("what was erased stands in %v", found)
	}
	bobs := 0
	if err := s.eachIdentity(ctx, func(id *Identity) error { bobs++; return nil }); err != nil || bobs != 12*500-len(anns) {
		t.Errorf("%d identities of others are left, want %d; %v", bobs, 12*500-len(anns), err)
	}
	if again, err := s.Scrub(ctx); again != 0 || err != nil {
		t.Errorf("a second time %d pages are cleaned, %v", again, err)
	}
	result := ""
	if err := s.runChore(func(c *conn) error {
		return c.query(`PRAGMA integrity_check`, func(row []driver.Value) error { result += toString(row[0]); return nil })
	}); err != nil || result != "ok" {
		t.Errorf("the database: %s, %v", result, err)
	}
}

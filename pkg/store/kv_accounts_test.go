package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestKVOfAccounts: where the accounts of a destination keep too much together, what goes is of those that keep most. Who keeps less than its share loses nothing, by number and by size, plain and
// sealed, over restarts.
func TestKVOfAccounts(t *testing.T) {
	f := func(opts Options) {
		t.Helper()
		ctx := context.Background()
		opts.KVMaxEntries, opts.KVMaxBytes = 200, 20_000
		dir := t.TempDir()
		s := mustOpen(t, dir, opts)
		put := func(account string, from, to int, value string) {
			t.Helper()
			b := &Batch{}
			for i := from; i < to; i++ {
				b.KV = append(b.KV, KV{Destination: "crm", Account: account, Key: fmt.Sprintf("%s\x00k%d", account, i), Value: value})
			}
			if err := s.Commit(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
		kept := func(account string, of int) (n int) {
			t.Helper()
			for i := range of {
				v, ok, err := s.KV("crm", fmt.Sprintf("%s\x00k%d", account, i))
				if err != nil {
					t.Fatal(err)
				}
				if ok && v.Key != "" {
					n++
				}
			}
			return n
		}
		put("small", 0, 20, "1")
		put("middle", 0, 60, "1")
		for i := 0; i < 3000; i += 50 {
			put("flood", i, i+50, "1")
			if i == 1000 {
				mustClose(t, s)
				s = mustOpen(t, dir, opts)
			}
		}
		if a, b, c := kept("small", 20), kept("middle", 60), kept("flood", 3000); a != 20 || b != 60 || c < 100 || c > 120 {
			t.Errorf("after 3000 entries of one account: kept %d of 20, %d of 60, %d of that one; want all, all, 100 to 120", a, b, c)
		}
		if v, ok, err := s.KV("crm", "flood\x00k2999"); !ok || err != nil || v.Value != "1" {
			t.Errorf("its newest entry: %v, %v, %v", v, ok, err)
		}
		put("large", 0, 10, `"`+strings.Repeat("x", 5000)+`"`) // more than all may take
		if a, b, c := kept("small", 20), kept("middle", 60), kept("large", 10); a != 20 || b != 60 || c > 3 {
			t.Errorf("after 50 kB of one account: kept %d of 20, %d of 60, %d of that one's 10", a, b, c)
		}
		if u := s.KVUse()["crm"]; u.Entries > 200 || u.Bytes > 20_000 || u.Dropped == 0 {
			t.Errorf("in the end %+v", u)
		}
		for i := range 30 { // each has a little
			put(fmt.Sprintf("a%d", i), 0, 5, "1")
		}
		for i := range 30 {
			if n := kept(fmt.Sprintf("a%d", i), 5); n < 4 {
				t.Errorf("of 30 accounts with 5 entries, which have room for more than 5 each, a%d keeps %d", i, n)
			}
		}
		mustClose(t, s)
	}
	f(Options{})
	f(Options{Keys: mustRing(t, true, testKeys(t, 1)...)})
}

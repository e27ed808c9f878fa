package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDeadLetters(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	var all []DeadLetter
	for i := range 7 {
		all = append(all, DeadLetter{
			Destination: []string{"crm", "hook"}[i%2], Hub: "20546336", Account: "acme", Lane: "contacts",
			Offset: 1<<63 + uint64(i), Index: i, APIKey: "js.1", EventID: fmt.Sprint("e", i), EventType: "signup", Person: "a@example.com",
			Received: at, At: at.Add(time.Duration(i) * time.Second), Attempts: i, Reason: []string{"rejected", "filter", "retries"}[i%3],
			Error: strings.Repeat("é", 1001), Event: []byte{1, 2, byte(i)},
		})
	}
	all[1].Original = []byte("as it came in")
	all[2].Event = nil
	mustCommit(t, s, &Batch{DeadLetters: all[:4]})
	mustCommit(t, s, &Batch{DeadLetters: all[4:]})
	for i := range all {
		all[i].ID = int64(i + 1)
		all[i].Error = all[i].Error[:2000]
	}
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		f := func(q DeadLetterQuery, want ...int) {
			t.Helper()
			got, err := s.DeadLetters(ctx, q)
			if err != nil {
				t.Fatalf("%+v: %v", q, err)
			}
			var expect []DeadLetter
			for _, i := range want {
				d := all[i]
				if !q.Bodies {
					d.Event, d.Original = nil, nil
				}
				expect = append(expect, d)
			}
			if diff := cmp.Diff(expect, got); diff != "" {
				t.Errorf("%+v: %s", q, diff)
			}
		}
		f(DeadLetterQuery{}, 6, 5, 4, 3, 2, 1, 0)
		f(DeadLetterQuery{OldestFirst: true, Bodies: true}, 0, 1, 2, 3, 4, 5, 6)
		f(DeadLetterQuery{Limit: 2, Bodies: true}, 6, 5)
		f(DeadLetterQuery{Limit: 2, Past: 6}, 4, 3)
		f(DeadLetterQuery{Limit: 2, Past: 2, OldestFirst: true}, 2, 3)
		f(DeadLetterQuery{Destination: "hook"}, 5, 3, 1)
		f(DeadLetterQuery{Reason: "filter"}, 4, 1)
		f(DeadLetterQuery{Destination: "crm", Reason: "filter"}, 4)
		f(DeadLetterQuery{EventID: "e3"}, 3)
		f(DeadLetterQuery{Destination: "none"})

		counts, err := s.DeadLetterCounts()
		if err != nil {
			t.Fatal(err)
		}
		want := map[[2]string]int64{
			{"crm", "rejected"}: 2, {"hook", "filter"}: 1, {"crm", "retries"}: 1, {"hook", "rejected"}: 1, {"crm", "filter"}: 1, {"hook", "retries"}: 1,
		}
		if diff := cmp.Diff(want, counts); diff != "" {
			t.Error("counts:", diff)
		}
	})
}

func TestDamagedDeadLetter(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	mustCommit(t, s, &Batch{DeadLetters: []DeadLetter{{Event: []byte("a")}, {Event: []byte("b"), Original: []byte("o")}, {Event: []byte("c")}}})
	byHand(t, s.path, `UPDATE dead_letters SET original = x'7878' WHERE id = 2`)
	got, err := s.DeadLetters(ctx, DeadLetterQuery{OldestFirst: true, Bodies: true})
	if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "dead letter 2") || len(got) != 1 {
		t.Errorf("%d letters, %v", len(got), err)
	}
	got, err = s.DeadLetters(ctx, DeadLetterQuery{OldestFirst: true, Bodies: true, Past: 2})
	if err != nil || len(got) != 1 || !slices.Equal(got[0].Event, []byte("c")) {
		t.Errorf("behind it: %+v, %v", got, err)
	}
}

// byHand changes the database beside the store, as an operator's sqlite3 would.
func byHand(t testing.TB, path, sql string) {
	t.Helper()
	c, err := openConn(path, "rw")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	if err := c.script(commonPragmas + sql); err != nil {
		t.Fatal(err)
	}
}

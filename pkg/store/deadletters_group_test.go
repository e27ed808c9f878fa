package store

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLettersInParts: what no index leads to is looked for some ids at a time, in either order, over gaps, up to a limit, page by page.
func TestLettersInParts(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	var all []int64
	for _, base := range []int64{1, lettersPerRead - 2, lettersPerRead + 10, 7*lettersPerRead + 3, 1 << 40} {
		for id := base; id < base+6; id++ {
			account := []string{"acme", "other"}[id%2]
			mustCommit(t, s, &Batch{DeadLetters: []DeadLetter{{ID: id, Destination: "crm", Account: account, At: at}}})
			if stored, err := s.DeadLetters(ctx, DeadLetterQuery{Limit: 1}); err != nil || stored[0].ID < id {
				t.Fatal(stored, err)
			}
			if account == "acme" && !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
	}
	for _, oldestFirst := range []bool{true, false} {
		want := slices.Clone(all)
		if !oldestFirst {
			slices.Reverse(want)
		}
		for _, limit := range []int{1, 2, 4, 100} {
			var got []int64
			q := DeadLetterQuery{Account: "acme", OldestFirst: oldestFirst, Limit: limit}
			for {
				page, err := s.DeadLetters(ctx, q)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) == 0 {
					break
				}
				for _, d := range page {
					got = append(got, d.ID)
				}
				q.Past = got[len(got)-1]
			}
			if !slices.Equal(got, want) {
				t.Errorf("oldest first %v, %d at a time: %v, want %v", oldestFirst, limit, got, want)
			}
		}
	}
	if sum, err := s.SummarizeDeadLetters(ctx, DeadLetterQuery{Account: "acme"}); err != nil || sum.Letters != int64(len(all)) {
		t.Errorf("%+v %v, want %d", sum, err, len(all))
	}
	if n, err := s.DropDeadLetters(ctx, DeadLetterQuery{Account: "acme"}); n != int64(len(all)) || err != nil {
		t.Errorf("%d dropped, %v; want %d", n, err, len(all))
	}
}

// TestGroupDeadLetters: by destination, reason and day, with marks.
func TestGroupDeadLetters(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	f := func(q DeadLetterQuery, want ...DeadLetterGroup) {
		t.Helper()
		got, err := s.GroupDeadLetters(ctx, q)
		if err != nil {
			t.Fatalf("%+v: %v", q, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", q, diff)
		}
	}
	f(DeadLetterQuery{})
	day := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	mustCommit(t, s, &Batch{DeadLetters: []DeadLetter{
		{Destination: "crm", Reason: "rejected", At: day},
		{Destination: "crm", Reason: "rejected", At: day.Add(24*time.Hour - time.Millisecond)},
		{Destination: "crm", Reason: "rejected", At: day.Add(24 * time.Hour)},
		{Destination: "crm", Reason: "filter", At: day},
		{Destination: "lake", Reason: "filter", At: day, Person: "ada@example.com"},
		{Reason: "record", At: day},
	}})
	if n, err := s.MarkReplay(ctx, DeadLetterQuery{IDs: []int64{2, 4}}, Replay{}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	f(
		DeadLetterQuery{}, DeadLetterGroup{"", "record", day, 1, 0}, DeadLetterGroup{"crm", "filter", day, 1, 1}, DeadLetterGroup{"crm", "rejected", day, 2, 1},
		DeadLetterGroup{"crm", "rejected", day.AddDate(0, 0, 1), 1, 0}, DeadLetterGroup{"lake", "filter", day, 1, 0},
	)
	f(DeadLetterQuery{Destination: "crm", Marked: true}, DeadLetterGroup{"crm", "filter", day, 1, 1}, DeadLetterGroup{"crm", "rejected", day, 1, 1})
	f(DeadLetterQuery{Person: "Ada@example.com"}, DeadLetterGroup{"lake", "filter", day, 1, 0})
	f(DeadLetterQuery{Destination: "none"})
}

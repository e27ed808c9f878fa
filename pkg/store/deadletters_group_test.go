package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

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

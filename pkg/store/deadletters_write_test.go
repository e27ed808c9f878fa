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

// mustLetters returns the letters that q finds, oldest first, and without bodies unless it asks for them.
func mustLetters(t *testing.T, s *Store, q DeadLetterQuery) []DeadLetter {
	t.Helper()
	q.OldestFirst = true
	letters, err := s.DeadLetters(ctx, q)
	if err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	return letters
}

func ids(letters []DeadLetter) (all []int64) {
	for _, d := range letters {
		all = append(all, d.ID)
	}
	return all
}

func TestDeadLetterFilters(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	var all []DeadLetter
	for i := range 24 {
		all = append(all, DeadLetter{
			Destination: []string{"crm", "hook"}[i%2], Hub: []string{"1", "2"}[i/2%2], Account: []string{"", "acme"}[i/4%2], Lane: []string{"contacts", "events"}[i/8%2],
			APIKey: []string{"js", "s2s"}[i%2], EventID: fmt.Sprint("e", i/2), EventType: []string{"signup", "login"}[i/12], Person: []string{"Ann@Example.com", "ÄB@x.de"}[i/3%2],
			At: at.Add(time.Duration(i) * time.Minute), Reason: "rejected", Event: []byte("record"),
		})
	}
	mustCommit(t, s, &Batch{DeadLetters: all})
	if n, err := s.MarkReplay(ctx, DeadLetterQuery{IDs: []int64{3, 4, 99}}, Replay{}); n != 2 || err != nil {
		t.Fatalf("marked %d, %v", n, err)
	}
	f := func(q DeadLetterQuery, is func(i int, d *DeadLetter) bool) {
		t.Helper()
		var want []int64
		var bytes int64
		for i := range all {
			if is(i, &all[i]) {
				want, bytes = append(want, int64(i+1)), bytes+6
			}
		}
		if len(want) == 0 {
			t.Fatalf("%+v: the case finds nothing", q)
		}
		q.Limit = 2 // pages
		for past := int64(0); ; {
			page := q
			page.Past = past
			got := mustLetters(t, s, page)
			if len(got) == 0 {
				break
			}
			if n := len(got); !slices.Equal(ids(got), want[:min(n, len(want))]) {
				t.Fatalf("%+v behind %d: got %v, want %v", q, past, ids(got), want)
			}
			want, past = want[len(got):], got[len(got)-1].ID
		}
		if len(want) > 0 {
			t.Errorf("%+v: did not find %v", q, want)
		}
		sum, err := s.SummarizeDeadLetters(ctx, q)
		if err != nil || sum.Bytes != bytes || sum.Letters != bytes/6 {
			t.Errorf("%+v: summary %+v, %v, want %d letters", q, sum, err, bytes/6)
		}
	}
	f(DeadLetterQuery{}, func(int, *DeadLetter) bool { return true })
	f(DeadLetterQuery{IDs: []int64{7, 2, 30}}, func(i int, _ *DeadLetter) bool { return i == 6 || i == 1 })
	f(DeadLetterQuery{Destination: "hook"}, func(_ int, d *DeadLetter) bool { return d.Destination == "hook" })
	f(DeadLetterQuery{Hub: "2"}, func(_ int, d *DeadLetter) bool { return d.Hub == "2" })
	f(DeadLetterQuery{Account: "acme"}, func(_ int, d *DeadLetter) bool { return d.Account == "acme" })
	f(DeadLetterQuery{Lane: "events"}, func(_ int, d *DeadLetter) bool { return d.Lane == "events" })
	f(DeadLetterQuery{APIKey: "s2s"}, func(_ int, d *DeadLetter) bool { return d.APIKey == "s2s" })
	f(DeadLetterQuery{EventID: "e3"}, func(_ int, d *DeadLetter) bool { return d.EventID == "e3" })
	f(DeadLetterQuery{EventType: "login"}, func(_ int, d *DeadLetter) bool { return d.EventType == "login" })
	f(DeadLetterQuery{Person: "ANN@example.com"}, func(_ int, d *DeadLetter) bool { return d.Person == "Ann@Example.com" })
	f(DeadLetterQuery{Person: "äb@X.de"}, func(_ int, d *DeadLetter) bool { return d.Person == "ÄB@x.de" })
	f(DeadLetterQuery{Since: at.Add(5 * time.Minute)}, func(i int, _ *DeadLetter) bool { return i >= 5 })
	f(DeadLetterQuery{Until: at.Add(5 * time.Minute)}, func(i int, _ *DeadLetter) bool { return i < 5 })
	f(DeadLetterQuery{Marked: true}, func(i int, _ *DeadLetter) bool { return i == 2 || i == 3 })
	f(DeadLetterQuery{Marked: true, Hub: "2", Since: at.Add(3 * time.Minute)}, func(i int, _ *DeadLetter) bool { return i == 3 })
	f(DeadLetterQuery{Destination: "crm", Lane: "events", EventType: "login", Person: "ann@example.com"}, func(_ int, d *DeadLetter) bool {
		return d.Destination == "crm" && d.Lane == "events" && d.EventType == "login" && d.Person == "Ann@Example.com"
	})

	sum, err := s.SummarizeDeadLetters(ctx, DeadLetterQuery{Destination: "hook"})
	if want := (DeadLetterSummary{Letters: 12, Bytes: 72, Oldest: at.Add(time.Minute), Marked: 1}); err != nil || sum != want {
		t.Errorf("summary %+v, %v, want %+v", sum, err, want)
	}
}

func TestReplayMarks(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustCommit(t, s, &Batch{DeadLetters: slices.Repeat([]DeadLetter{{Destination: "crm", Reason: "rejected", Event: []byte("record")}}, 1100)})
	f := func(q DeadLetterQuery, how Replay, want int64) {
		t.Helper()
		if n, err := s.MarkReplay(ctx, q, how); n != want || err != nil {
			t.Errorf("%+v: marked %d, %v, want %d", q, n, err, want)
		}
	}
	f(DeadLetterQuery{OldestFirst: true, Limit: 2}, Replay{}, 2)
	f(DeadLetterQuery{Limit: 1}, Replay{AsIs: true, Overwrite: true}, 1)
	f(DeadLetterQuery{IDs: []int64{2, 3}}, Replay{All: true}, 1)
	select {
	case <-s.ReplayWanted():
	default:
		t.Error("nobody was told of the marks")
	}
	mustClose(t, s)
	s = mustOpen(t, dir, Options{})
	got := map[int64]Replay{}
	for _, d := range mustLetters(t, s, DeadLetterQuery{Marked: true}) {
		got[d.ID] = *d.Replay
	}
	want := map[int64]Replay{1: {}, 2: {All: true}, 3: {All: true}, 1100: {AsIs: true, Overwrite: true}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f(DeadLetterQuery{Destination: "crm"}, Replay{}, 1096)
	if n, err := s.UnmarkReplay(ctx, DeadLetterQuery{IDs: []int64{5, 6}}); n != 2 || err != nil {
		t.Errorf("unmarked %d, %v", n, err)
	}

	// One is handed over, one stops, one comes back under its id: each once.
	mustCommit(t, s, &Batch{
		Replayed:    []Replayed{{ID: 1}, {ID: 2, Problem: "it has 2 outputs now"}, {ID: 3}},
		DeadLetters: []DeadLetter{{ID: 3, Destination: "crm", Reason: "transform", Replays: 1, Outputs: 4, Event: []byte("record")}, {ID: 4, Destination: "crm", Reason: "filter"}},
	})
	for _, id := range []int64{1, 2, 3, 5, 9999} {
		err := s.Commit(ctx, &Batch{Replayed: []Replayed{{ID: id}}, DeadLetters: []DeadLetter{{Destination: "twice"}}})
		if !errors.Is(err, ErrBatch) {
			t.Errorf("letter %d was handed over twice: %v", id, err)
		}
	}
	letters := mustLetters(t, s, DeadLetterQuery{Limit: 3})
	if len(letters) != 3 || letters[0].Problem != "it has 2 outputs now" || letters[0].Replay != nil || letters[1].ID != 3 || letters[1].Reason != "transform" ||
		letters[1].Replays != 1 || letters[1].Outputs != 4 || letters[1].Replay != nil || letters[2].Reason != "rejected" {
		t.Errorf("letters %+v", letters)
	}
	if last := mustLetters(t, s, DeadLetterQuery{Reason: "filter"}); len(last) != 1 || last[0].ID != 1101 {
		t.Errorf("an id that is taken: %v", ids(last))
	}
	if left := s.ReplaysLeft(); len(left) != 1 || left["crm"] != 1095 {
		t.Errorf("left to be replayed: %v", left)
	}
	counts, err := s.DeadLetterCounts()
	if diff := cmp.Diff(map[[2]string]int64{{"crm", "rejected"}: 1098, {"crm", "transform"}: 1, {"crm", "filter"}: 1}, counts); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if n, err := s.UnmarkReplay(ctx, DeadLetterQuery{}); n != 1095 || err != nil {
		t.Errorf("unmarked %d, %v", n, err)
	}
	mustClose(t, s)
}

func TestDropAndEditDeadLetters(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{OutcomeBytes: 1 << 20})
	letter := DeadLetter{Destination: "crm", Lane: "contacts", Reason: "rejected", EventID: "e1", APIKey: "k", Person: "a@x", At: at, Error: "no", Event: []byte("record")}
	mustCommit(t, s, &Batch{DeadLetters: slices.Repeat([]DeadLetter{letter}, 1201)})
	if err := s.EditDeadLetter(ctx, 7, LetterEdit{Event: []byte("another"), Original: []byte("original"), EventType: "t", Person: "B@x"}); err != nil {
		t.Error(err)
	}
	if d := mustLetters(t, s, DeadLetterQuery{IDs: []int64{7}, Bodies: true}); len(d) != 1 || string(d[0].Event) != "another" || string(d[0].Original) != "original" {
		t.Errorf("edited: %+v", d)
	}
	if d := mustLetters(t, s, DeadLetterQuery{Person: "b@X", EventType: "t"}); len(d) != 1 || d[0].ID != 7 || d[0].Person != "b@x" || d[0].Error != "no" || d[0].EventID != "e1" {
		t.Errorf("found by what it was edited to: %+v", d)
	}
	if err := s.EditDeadLetter(ctx, 7, LetterEdit{Event: []byte("another"), Original: []byte("original"), Person: "a@x"}); err != nil {
		t.Error(err)
	}
	if n := s.DeadLetterBytes("crm"); n != 1201*8+1+8 {
		t.Errorf("%d bytes", n)
	}
	if _, err := s.MarkReplay(ctx, DeadLetterQuery{IDs: []int64{8}}, Replay{}); err != nil {
		t.Fatal(err)
	}
	if err := s.EditDeadLetter(ctx, 8, LetterEdit{}); !errors.Is(err, ErrMarked) {
		t.Errorf("edit of a marked one: %v", err)
	}
	if err := s.EditDeadLetter(ctx, 9999, LetterEdit{}); !errors.Is(err, ErrNoLetter) {
		t.Errorf("edit of none: %v", err)
	}

	// What is to be replayed is not too old for it; all others go, some at a time.
	total := int64(0)
	for more := true; more; {
		var dropped map[string]int64
		var err error
		if dropped, more, err = s.ExpireDeadLetters(ctx, at.Add(time.Millisecond)); err != nil || dropped["crm"] > lettersPerStep {
			t.Fatal(dropped, err)
		}
		total += dropped["crm"]
	}
	if left := mustLetters(t, s, DeadLetterQuery{}); total != 1200 || !slices.Equal(ids(left), []int64{8}) {
		t.Errorf("%d expired, left %v", total, ids(left))
	}
	use, err := s.DeadLetterUse()
	if diff := cmp.Diff(map[string]DeadLetterUse{"crm": {1, 8, at, 1}}, use); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if n, err := s.DropDeadLetters(ctx, DeadLetterQuery{EventID: "e1"}); n != 1 || err != nil {
		t.Errorf("dropped %d, %v", n, err)
	}
	told, err := s.Outcomes(ctx, OutcomeQuery{Person: "a@x", Limit: 5000})
	if err != nil || len(told) != 1201 || told[0].Status != Dropped || told[0].Reason != droppedByHand || told[1].Reason != droppedTooOld || told[0].Error != "no" {
		t.Errorf("%d outcomes, %v, the last %+v", len(told), err, told[:min(2, len(told))])
	}
	if marks, _ := s.UnmarkReplay(ctx, DeadLetterQuery{}); marks != 0 || s.DeadLetterBytes("crm") != 0 {
		t.Errorf("what was dropped left %d marks and %d bytes", marks, s.DeadLetterBytes("crm"))
	}
}

func TestImportDeadLetters(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	var all []DeadLetter
	for i := range 1100 {
		all = append(all, DeadLetter{Destination: "crm", Reason: "rejected", EventID: fmt.Sprint("e", i), At: at, Event: []byte("r"), Replays: 2, Outputs: 1, Error: strings.Repeat("x", i%3)})
	}
	mustCommit(t, s, &Batch{DeadLetters: all[:10]})
	exported := mustLetters(t, s, DeadLetterQuery{Bodies: true})
	for _, want := range []int64{1090, 0} {
		if n, err := s.ImportDeadLetters(ctx, append(exported, all[10:]...)); n != want || err != nil {
			t.Errorf("added %d, %v, want %d", n, err, want)
		}
	}
	if got := mustLetters(t, s, DeadLetterQuery{EventID: "e1099", Bodies: true}); len(got) != 1 || got[0].Replays != 2 || string(got[0].Event) != "r" {
		t.Errorf("imported: %+v", got)
	}

	e := Export{ID: 1, At: at, Target: "/tmp/letters.ndjson", Query: "destination crm", Letters: 10}
	if err := s.RecordExport(ctx, e); err != nil {
		t.Error(err)
	}
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		got, err := s.Exports(ctx)
		if diff := cmp.Diff([]Export{e}, got); diff != "" || err != nil {
			t.Error(diff, err)
		}
	})
}

func TestDeadLettersReadOnly(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, Options{}))
	s, err := OpenReadOnly(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mustClose(t, s)
	_, mark := s.MarkReplay(ctx, DeadLetterQuery{}, Replay{})
	_, unmark := s.UnmarkReplay(ctx, DeadLetterQuery{})
	_, drop := s.DropDeadLetters(ctx, DeadLetterQuery{})
	_, add := s.ImportDeadLetters(ctx, []DeadLetter{{}})
	for i, err := range []error{mark, unmark, drop, add, s.EditDeadLetter(ctx, 1, LetterEdit{}), s.RecordExport(ctx, Export{})} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// outcomeOf is an outcome of the event with a number, as a contact's delivery leaves it.
func outcomeOf(n int) Outcome {
	received := at.Add(time.Duration(n) * time.Millisecond)
	return Outcome{
		Received: received, Settled: received.Add(150*time.Millisecond + 7*time.Microsecond), APIKey: "web", EventID: fmt.Sprintf("event-%d", n),
		EventType: "user_identify", Person: fmt.Sprintf("p%d@example.com", n%1000), Destination: "crm", Hub: "20546336", Lane: "contacts",
		Offset: uint64(n), Status: Delivered, Attempts: 1,
		Detail: json.RawMessage(fmt.Sprintf(`{"contact_id":"%d","new":true,"written":["email","firstname","plan"],"correlation_id":"c-%d"}`, n, n/100)),
	}
}

func outcomesOf(from, to int) []Outcome {
	var all []Outcome
	for n := from; n < to; n++ {
		all = append(all, outcomeOf(n))
	}
	return all
}

func mustOutcomes(t testing.TB, s *Store, q OutcomeQuery) []Outcome {
	t.Helper()
	got, err := s.Outcomes(ctx, q)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// mustFind wants the events with these numbers, newest first.
func mustFind(t testing.TB, s *Store, q OutcomeQuery, want ...int) {
	t.Helper()
	var wanted []Outcome
	for _, n := range want {
		wanted = append(wanted, outcomeOf(n))
	}
	if diff := cmp.Diff(wanted, mustOutcomes(t, s, q)); diff != "" {
		t.Errorf("%+v (-want +got):\n%s", q, diff)
	}
}

func TestOutcomesAreFound(t *testing.T) {
	dir := t.TempDir()
	opts := Options{OutcomeBytes: 1 << 30}
	s := mustOpen(t, dir, opts)
	ids := func(s *Store) {
		t.Helper()
		for _, n := range []int{0, 1, 999, 1000, 1042, 2999, 3000, 3001, 3599} {
			mustFind(t, s, OutcomeQuery{EventID: fmt.Sprint("event-", n)}, n)
		}
		mustFind(t, s, OutcomeQuery{EventID: "event-3600"})
		mustFind(t, s, OutcomeQuery{Person: "P7@Example.COM"}, 3007, 2007, 1007, 7)
		mustFind(t, s, OutcomeQuery{Person: "p7@example.com", Limit: 2}, 3007, 2007)
		mustFind(t, s, OutcomeQuery{EventID: "event-7", APIKey: "web"}, 7)
		mustFind(t, s, OutcomeQuery{EventID: "event-7", APIKey: "app"})
	}
	for n := 0; n < 3000; n += 1000 {
		mustCommit(t, s, &Batch{Outcomes: outcomesOf(n, n+1000)})
	}
	for n := range 600 { // rows of one
		mustCommit(t, s, &Batch{Outcomes: outcomesOf(3000+n, 3001+n)})
	}
	ids(s)
	if st := s.Stats(); st.Outcomes != 3600 || st.OutcomeBytes < 100_000 || st.OutcomeBytes > 600_000 {
		t.Errorf("%d outcomes take %d bytes", st.Outcomes, st.OutcomeBytes)
	}
	before := s.Stats()
	mustClose(t, s)

	reader, err := OpenReadOnly(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	ids(reader)
	mustClose(t, reader)

	s = mustOpen(t, dir, opts)
	ids(s)
	if st := s.Stats(); st.Outcomes != before.Outcomes || st.OutcomeBytes != before.OutcomeBytes {
		t.Errorf("after reopening %d outcomes of %d bytes, before %d of %d", st.Outcomes, st.OutcomeBytes, before.Outcomes, before.OutcomeBytes)
	}
	mustCommit(t, s, &Batch{Outcomes: outcomesOf(3600, 3601)})
	mustFind(t, s, OutcomeQuery{EventID: "event-3600"}, 3600)
	mustFind(t, s, OutcomeQuery{EventID: "event-3599"}, 3599)
}

// TestOutcomesKeepEverything: what goes in comes out, whatever it is.
func TestOutcomesKeepEverything(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{OutcomeBytes: 1 << 20})
	long := strings.Repeat("é", 3000)
	mustCommit(t, s, &Batch{Outcomes: []Outcome{{Status: Dead}}}) // of what could not be read there is neither id nor person
	all := []Outcome{
		{EventID: "a"},
		{EventID: "a", Status: Duplicate, APIKey: "k", Received: at, Settled: at, Offset: 1 << 63},
		{
			EventID: "a", Status: Dead, Reason: "retries", Error: "HubSpot answered 500", Attempts: 17, Replays: 3, Index: 3, Account: "acme", Minimal: true,
			Received: at.Add(-time.Hour), Settled: at, Person: "Ada@Example.com",
		},
		{EventID: "a", Status: Skipped, Reason: long, Attempts: 0, Detail: json.RawMessage(`{}`)},
		{EventID: "a", Status: Delivered, Detail: json.RawMessage(`"` + strings.Repeat("x", MaxOutcomeDetail) + `"`)},
	}
	mustCommit(t, s, &Batch{Outcomes: all})
	got := mustOutcomes(t, s, OutcomeQuery{EventID: "a"})
	want := make([]Outcome, len(all))
	for i := range all {
		want[len(all)-1-i] = all[i]
	}
	want[1].Reason = want[1].Reason[:MaxOutcomeText]
	want[0].Detail = json.RawMessage(`{"left_out":"8194 bytes"}`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	mustFindOne := mustOutcomes(t, s, OutcomeQuery{Person: "ada@example.com"})
	if len(mustFindOne) != 1 || mustFindOne[0].Attempts != 17 {
		t.Errorf("by person: %+v", mustFindOne)
	}
}

func TestOutcomesAreBoundedBySize(t *testing.T) {
	const limit = 1 << 20
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{OutcomeBytes: limit})
	const n = 40_000
	for i := 0; i < n; i += 100 {
		mustCommit(t, s, &Batch{Outcomes: outcomesOf(i, i+100)})
		if got := s.Stats().OutcomeBytes; got > limit {
			t.Fatalf("after %d outcomes %d bytes", i, got)
		}
	}
	st := s.Stats()
	if st.Outcomes+st.OutcomesTooMany != n || st.OutcomesTooOld != 0 || st.OutcomeBytes < limit-outcomeIndexSpan {
		t.Errorf("%d outcomes of %d bytes are left, %d were too many, %d too old", st.Outcomes, st.OutcomeBytes, st.OutcomesTooMany, st.OutcomesTooOld)
	}
	oldest := n - int(st.Outcomes)
	mustFind(t, s, OutcomeQuery{EventID: fmt.Sprint("event-", oldest)}, oldest)
	mustFind(t, s, OutcomeQuery{EventID: fmt.Sprint("event-", oldest-1)})
	if rows, err := s.countRows("outcomes"); err != nil || rows != st.Outcomes/100 {
		t.Errorf("%d rows for %d outcomes, %v", rows, st.Outcomes, err)
	}
	mustClose(t, s)

	// None are to be kept any more: what is there goes step by step.
	s = mustOpen(t, dir, Options{})
	if s.KeepsOutcomes() {
		t.Error("outcomes are kept without room for them")
	}
	mustCommit(t, s, &Batch{Outcomes: outcomesOf(0, 1)})
	if got := s.Stats().Outcomes; got == 0 || got >= st.Outcomes {
		t.Errorf("one commit leaves %d of %d outcomes", got, st.Outcomes)
	}
	if err := s.ExpireOutcomes(ctx); err != nil {
		t.Fatal(err)
	}
	rows, err := s.countRows("outcomes")
	spans, err2 := s.countRows("outcome_index")
	if st := s.Stats(); st.Outcomes != 0 || st.OutcomeBytes != 0 || rows != 0 || spans != 0 || err != nil || err2 != nil {
		t.Errorf("%d outcomes of %d bytes are left, %d rows, %d of the index, %v %v", st.Outcomes, st.OutcomeBytes, rows, spans, err, err2)
	}
}

func (s *Store) countRows(table string) (n int64, err error) {
	err = s.read(func(c *conn) error {
		n, err = c.queryInt(`SELECT count(*) FROM ` + table)
		return err
	})
	return n, err
}

func TestOutcomesAreBoundedByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, t.TempDir(), Options{OutcomeBytes: 1 << 30, OutcomeAge: 64 * time.Hour})
		add := func(n int) {
			o := outcomeOf(n)
			o.Received, o.Settled = time.Now().UTC(), time.Now().UTC()
			mustCommit(t, s, &Batch{Outcomes: []Outcome{o}})
		}
		kept := func(want ...int) {
			t.Helper()
			for n := range 5 {
				found := len(mustOutcomes(t, s, OutcomeQuery{EventID: fmt.Sprint("event-", n)})) == 1
				wanted := false
				for _, w := range want {
					wanted = wanted || w == n
				}
				if found != wanted {
					t.Errorf("event %d: found %v", n, found)
				}
			}
		}
		add(0)
		time.Sleep(40 * time.Hour)
		add(1)
		add(2)
		time.Sleep(24*time.Hour - time.Second)
		kept(0, 1, 2)
		time.Sleep(2 * time.Second)
		add(3) // takes away what is too old
		kept(1, 2, 3)
		time.Sleep(100 * time.Hour)
		kept(1, 2, 3) // nothing was written since
		if err := s.ExpireOutcomes(ctx); err != nil {
			t.Fatal(err)
		}
		kept()
		if st := s.Stats(); st.Outcomes != 0 || st.OutcomesTooOld != 4 || st.OutcomesTooMany != 0 {
			t.Errorf("%+v", st)
		}
		add(4)
		kept(4)
		mustClose(t, s)
	})
}

// TestOutcomesOfAFailedBatch: they are written with the rest of a batch or not at all.
func TestOutcomesOfAFailedBatch(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{OutcomeBytes: 1 << 20})
	mustCommit(t, s, &Batch{Outcomes: outcomesOf(0, 10)})
	if err := s.Commit(ctx, &Batch{Outcomes: outcomesOf(10, 20), Blocks: []Block{{Lane: 99, Entries: 1}}}); err == nil {
		t.Fatal("a block of no lane was taken")
	}
	mustCommit(t, s, &Batch{Outcomes: outcomesOf(20, 30)})
	mustFind(t, s, OutcomeQuery{EventID: "event-9"}, 9)
	mustFind(t, s, OutcomeQuery{EventID: "event-15"})
	mustFind(t, s, OutcomeQuery{EventID: "event-25"}, 25)
	if got := s.Stats().Outcomes; got != 20 {
		t.Errorf("%d outcomes", got)
	}
}

// execSQL changes the database as somebody with sqlite3 could.
func execSQL(t testing.TB, dir, sql string) {
	t.Helper()
	c, err := openConn(filepath.Join(dir, fileName), "rw")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.script(sql), c.close()); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedOutcomes(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{OutcomeBytes: 1 << 20})
	for n := range 3 {
		mustCommit(t, s, &Batch{Outcomes: outcomesOf(n, n+1)})
	}
	mustClose(t, s)
	execSQL(t, dir, `UPDATE outcomes SET data = x'0100' WHERE id = 2`)
	s = mustOpen(t, dir, Options{OutcomeBytes: 1 << 20})
	mustFind(t, s, OutcomeQuery{EventID: "event-0"}, 0)
	if found, err := s.Outcomes(ctx, OutcomeQuery{EventID: "event-1"}); len(found) != 0 || !errors.Is(err, ErrDamaged) {
		t.Errorf("of a damaged row: %v %v", found, err)
	}
	mustFind(t, s, OutcomeQuery{EventID: "event-2"}, 2)
	mustClose(t, s)
	execSQL(t, dir, `UPDATE outcome_index SET hashes = x'00'`)
	s = mustOpen(t, dir, Options{OutcomeBytes: 1 << 20})
	mustCommit(t, s, &Batch{Outcomes: outcomesOf(5, 6)})
	for id, want := range map[string]int{"event-0": 0, "event-5": 1} {
		if found, err := s.Outcomes(ctx, OutcomeQuery{EventID: id}); len(found) != want || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s with a damaged index: %v %v", id, found, err)
		}
	}
}

// FuzzDecodeOutcomes: bytes of any kind are outcomes, which are written again to the same ones, or an error.
func FuzzDecodeOutcomes(f *testing.F) {
	f.Add(appendOutcomes(nil, nil))
	f.Add(appendOutcomes(nil, outcomesOf(0, 3)))
	f.Add(appendOutcomes(nil, []Outcome{{EventID: "a", Index: 3, Attempts: 9, Minimal: true, Reason: "r", Error: "e", Status: Dead}}))
	f.Add([]byte{outcomesVersion, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := decodeOutcomes(data)
		if err != nil {
			return
		}
		again, err := decodeOutcomes(appendOutcomes(nil, all))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(all, again); diff != "" {
			t.Error(diff)
		}
	})
}

// FuzzFindOutcomes: any row of the index is looked through.
func FuzzFindOutcomes(f *testing.F) {
	f.Add(int64(1), []byte{1, 2}, make([]byte, 24))
	f.Add(int64(-5), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, make([]byte, 17))
	f.Fuzz(func(_ *testing.T, id int64, sizes, hashes []byte) {
		sp := outcomeSpan{id: id, sizes: sizes, hashes: hashes}
		sp.find(0, []int64{7})
	})
}

// BenchmarkFindOutcome looks for an event among three million outcomes of contacts, in batches of a hundred, that is the oldest, and for one that is
// not there. The index is in the page cache.
func BenchmarkFindOutcome(b *testing.B) {
	f := func(name string, perBatch, total int) {
		b.Run(name, func(b *testing.B) {
			s := mustOpen(b, b.TempDir(), Options{OutcomeBytes: 1 << 40, pragmas: "PRAGMA synchronous=OFF"})
			began := time.Now()
			var workers sync.WaitGroup
			var next atomic.Int64
			for range 200 { // those that come in together share a transaction
				workers.Go(func() {
					for n := int(next.Add(1)-1) * perBatch; n < total; n = int(next.Add(1)-1) * perBatch {
						mustCommit(b, s, &Batch{Outcomes: outcomesOf(n, n+perBatch)})
					}
				})
			}
			workers.Wait()
			st := s.Stats()
			b.Logf("%d outcomes of %.0f bytes written in %s", st.Outcomes, float64(st.OutcomeBytes)/float64(st.Outcomes), time.Since(began).Round(time.Second))
			b.ResetTimer()
			for i := range b.N {
				n := rand.IntN(total)
				if i%2 == 0 {
					n = 0
				}
				if got := mustOutcomes(b, s, OutcomeQuery{EventID: fmt.Sprint("event-", n)}); len(got) != 1 {
					b.Fatalf("%d outcomes", len(got))
				}
				if got := mustOutcomes(b, s, OutcomeQuery{EventID: "unknown"}); len(got) != 0 {
					b.Fatalf("%d outcomes", len(got))
				}
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(2*b.N), "ms/search")
		})
	}
	f("batches of 100", 100, 3_000_000)
	f("single", 1, 500_000)
}

package docs

import (
	"context"
	"database/sql"
	"net/url"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"

	_ "modernc.org/sqlite" // the driver called sqlite
)

// filledStore is a store with something of everything that the page asks for, open as in a router that runs.
func filledStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	st, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	lane, err := st.LaneID(store.LaneName{Destination: "crm", Hub: "1", Lane: "contacts"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ev := event.Event{ID: "e1", APIKey: "web", Received: now, JSON: []byte(`{"event_type":"signup"}`)}
	letter := func(at time.Time) store.DeadLetter {
		return store.DeadLetter{
			Destination: "crm", Hub: "1", Lane: "contacts", APIKey: "web", EventID: "e1", EventType: "signup", Person: "ada@example.com",
			Received: at, At: at, Attempts: 1, Reason: "rejected", Error: "HubSpot refuses the contact", Event: ev.AppendTo(nil),
		}
	}
	commit := func(b store.Batch) {
		t.Helper()
		if err := st.Commit(context.Background(), &b); err != nil {
			t.Fatal(err)
		}
	}
	commit(store.Batch{
		Position:    1,
		Blocks:      []store.Block{{Lane: lane, Entries: 2, Oldest: now, Data: []byte("two entries")}},
		DeadLetters: []store.DeadLetter{letter(now), letter(now.AddDate(-1, 0, 0))},
		Identities:  []store.Identity{{APIKey: "web", Kind: "user_id", Value: "u1", Email: "Ada@example.com", Server: true, Seen: now}},
	})
	blocks, err := st.ReadBlocks(context.Background(), lane, 0, 1<<20)
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	commit(store.Batch{Retries: []store.Retry{{
		Ref: store.Ref{Block: blocks[0].ID, Index: 1}, Attempt: 1, Due: now, Since: now, Error: "HubSpot answered 503",
	}}})
	return st
}

// TestSQL runs the questions of operating.md on a store that is open, by the driver and by sqlite3 where that is installed.
func TestSQL(t *testing.T) {
	dir := t.TempDir()
	st := filledStore(t, dir)
	path := filepath.Join(dir, "router.db")
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path}).String()+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sqlite3, noCLI := exec.LookPath("sqlite3")

	asked := map[string]bool{}
	for _, b := range load(t, "operating.md").blocks {
		if b.lang != "sql" {
			continue
		}
		asked[b.words[0]] = true
		if n := rows(t, db, b); n != 1 {
			t.Errorf("%s: %d rows, want 1", &b, n)
		}
		if noCLI == nil {
			if out, err := exec.Command(sqlite3, "-readonly", path, b.text).CombinedOutput(); err != nil || len(out) == 0 {
				t.Errorf("%s: sqlite3: %v %s", &b, err, out)
			}
		}
	}
	for _, name := range []string{"lanes", "deadletters", "errors", "retries", "identities"} {
		if !asked[name] {
			t.Errorf("operating.md has no question %s", name)
		}
	}
	if err := st.Commit(context.Background(), &store.Batch{Position: 2}); err != nil {
		t.Errorf("after the questions: %v", err)
	}
}

// TestStoreExamples runs what operating.md does with sqlite3.
func TestStoreExamples(t *testing.T) {
	if _, err := exec.LookPath("sqlite3"); err != nil {
		t.Skip("sqlite3 is not installed")
	}
	d := &deployment{dir: t.TempDir()}
	filledStore(t, filepath.Join(d.dir, "data"))
	n := 0
	for _, b := range load(t, "operating.md").blocks {
		if !b.is("sh", "store") {
			continue
		}
		n++
		if out, err := d.shell(b.text); err != nil {
			t.Errorf("%s: %v\n%s", &b, err, out)
		}
	}
	if n != 2 {
		t.Errorf("operating.md has %d examples with sqlite3", n)
	}
	copied, err := store.OpenReadOnly(filepath.Join(d.dir, "backup"), nil)
	if err != nil {
		t.Fatalf("the backup: %v", err)
	}
	defer copied.Close()
	if letters, err := copied.DeadLetters(context.Background(), store.DeadLetterQuery{}); err != nil || len(letters) != 2 {
		t.Errorf("the backup has %d dead letters, %v", len(letters), err)
	}
}

// rows asks one question; every value must be there.
func rows(t *testing.T, db *sql.DB, b block) (n int) {
	t.Helper()
	result, err := db.Query(b.text)
	if err != nil {
		t.Fatalf("%s: %v", &b, err)
	}
	defer result.Close()
	columns, err := result.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for result.Next() {
		n++
		values := make([]any, len(columns))
		targets := make([]any, len(columns))
		for i := range values {
			targets[i] = &values[i]
		}
		if err := result.Scan(targets...); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if v == nil {
				t.Errorf("%s: %s is null", &b, columns[i])
			}
		}
	}
	if err := result.Err(); err != nil {
		t.Fatalf("%s: %v", &b, err)
	}
	return n
}

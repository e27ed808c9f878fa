package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/seal"
)

// testKeys are keys of which the first ones are one, two, ... as a configuration names them.
func testKeys(t testing.TB, n int) []seal.Key {
	t.Helper()
	keys := make([]seal.Key, n)
	for i := range keys {
		k, err := seal.ParseKey(seal.NewKey())
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k
	}
	return keys
}

func mustRing(t testing.TB, seals bool, keys ...seal.Key) *seal.Ring {
	t.Helper()
	r, err := seal.NewRing(seals, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// unsynced: no power is cut here.
const unsynced = `PRAGMA synchronous=OFF;`

var quiet = slog.New(slog.DiscardHandler)

// planted is what fillStore puts into every table, and sealed stores do not show.
var planted = []string{"jane@example.com", "visitor-4711", "order_completed", "ada lovelace road", "event-id-0815", "remembered-value", "counter-of-jane"}

// fillStore commits something to every table; n tells one time from another.
func fillStore(t *testing.T, s *Store, n int) {
	t.Helper()
	lane := mustLane(t, s, contacts)
	text := fmt.Sprintf(`{"event_type":"order_completed","user":{"email":"jane@example.com","id":"visitor-4711"},"street":"ada lovelace road","n":%d}`, n)
	id := fmt.Sprintf("event-id-0815-%d", n)
	var data []byte
	for i := range 40 {
		data = fmt.Appendf(data, "%s %d\n", text, i)
	}
	received := at.Add(time.Duration(n) * time.Second)
	mustCommit(t, s, &Batch{
		Position: uint64(n), Seen: []uint64{s.Hash("seen", id)}, Known: []uint64{s.Hash("known", "jane@example.com")},
		Blocks:     []Block{{Lane: lane, Entries: 10, Oldest: received, Data: data}, {Lane: lane, Entries: 10, Oldest: received, Data: randomBytes(9000)}},
		Identities: []Identity{{APIKey: "web", Kind: "user_id", Value: fmt.Sprintf("visitor-4711-%d", n), Email: "jane@example.com", Server: true, Seen: received}},
		DeadLetters: []DeadLetter{{
			Destination: "crm", Hub: "1", Lane: "events", Offset: uint64(n), Index: 1, APIKey: "web", EventID: id, EventType: "order_completed", Person: "jane@example.com",
			Received: received, At: received, Attempts: 1, Reason: "rejected", Error: "no such property: ada lovelace road", Event: []byte(text), Original: []byte(text + " "),
		}},
		Outcomes: []Outcome{{Received: received, Settled: received, APIKey: "web", EventID: id, EventType: "order_completed", Person: "jane@example.com", Destination: "crm", Status: Delivered, Attempts: 1}},
		KV:       []KV{{Destination: "crm", Key: fmt.Sprintf("counter-of-jane-%d", n), Value: `"ada lovelace road"`}},
		Memories: []Memory{{Hash: s.Hash("memory", id), Data: []byte("remembered-value")}},
		Holds:    []Hold{{Lane: lane, Key: "jane@example.com", Until: received}},
	})
	blocks := mustRead(t, s, lane, 0, 1<<20)
	mustCommit(t, s, &Batch{Retries: []Retry{{Ref: Ref{Block: blocks[len(blocks)-2].ID}, Attempt: 1, Due: received, Since: received, Error: "jane@example.com is no contact"}}})
	s.CacheStore("definitions", []byte("order_completed"))
	if err := s.RecordExport(ctx, Export{At: received, Target: "/srv/jane@example.com.jsonl", Query: "person jane@example.com", Letters: 1}); err != nil {
		t.Fatal(err)
	}
	letters := mustLetters(t, s, DeadLetterQuery{EventID: id})
	if len(letters) != 1 {
		t.Fatalf("%d dead letters of %s", len(letters), id)
	}
	if _, err := s.MarkReplay(ctx, DeadLetterQuery{IDs: []int64{letters[0].ID}}, Replay{AsIs: true}); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, &Batch{Replayed: []Replayed{{ID: letters[0].ID, Problem: "order_completed is gone"}}})
}

// wantContents holds what a store has to what it shall have. go-cmp takes seconds for it, and is asked for the difference alone.
func wantContents(t *testing.T, what string, want, got map[string]any) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got): %s", what, diff)
		}
	}
}

// contents is all that a store of n times fillStore tells.
func contents(t *testing.T, s *Store, n int) map[string]any {
	t.Helper()
	all := map[string]any{}
	put := func(name string, v any, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		all[name] = v
	}
	lane := mustLane(t, s, contacts)
	blocks, err := s.ReadBlocks(ctx, lane, 0, 1<<30)
	for i := range blocks {
		blocks[i].Bytes = 0
	}
	put("blocks", blocks, err)
	holds, err := s.Holds()
	put("holds", holds, err)
	exports, err := s.Exports(ctx)
	put("exports", exports, err)
	all["position"] = s.Position()
	cached, _, ok := s.CacheLoad("definitions")
	all["cache"] = fmt.Sprint(string(cached), ok)
	for i := range n {
		id := fmt.Sprintf("event-id-0815-%d", i)
		identity, ok, err := s.Identity("web", "user_id", fmt.Sprintf("visitor-4711-%d", i))
		put(fmt.Sprint("identity ", i, ok), identity, err)
		value, ok, err := s.KV("crm", fmt.Sprintf("counter-of-jane-%d", i))
		put(fmt.Sprint("kv ", i, ok), value, err)
		outcomes, err := s.Outcomes(ctx, OutcomeQuery{EventID: id})
		put(fmt.Sprint("outcomes ", i), outcomes, err)
		letters, err := s.DeadLetters(ctx, DeadLetterQuery{EventID: id, EventType: "order_completed", Person: "Jane@example.com", Bodies: true})
		put(fmt.Sprint("letters ", i), letters, err)
		all[fmt.Sprint("seen ", i)] = s.readOnly || s.Seen(s.Hash("seen", id))
		if !s.readOnly {
			remembered, err := s.Recall(ctx, []uint64{s.Hash("memory", id)})
			put(fmt.Sprint("memory ", i), remembered, err)
		}
	}
	return all
}

// wantFound says whether planted texts are to be found in the files of a store.
func wantFound(t *testing.T, dir string, want bool) {
	t.Helper()
	for _, text := range planted {
		if found := rawNaming(t, dir, text); (len(found) > 0) != want {
			t.Errorf("%q is found in %v, want some: %v", text, found, want)
		}
	}
}

// TestSealedStore: encryption is turned on, the key is changed, and it is turned off again, each while the store is used. All that was put in is read each time, with
// the keys that it needs and no others, and raw files show it only where nothing is encrypted.
func TestSealedStore(t *testing.T) {
	dir := t.TempDir()
	keys := testKeys(t, 2)
	one, two := keys[0], keys[1]
	n := 0
	life := func(name string, ring *seal.Ring, left int, found bool) {
		t.Helper()
		s := mustOpen(t, dir, Options{Keys: ring, OutcomeBytes: 1 << 20, uncompressed: true, pragmas: unsynced, Logger: quiet})
		before := contents(t, s, n)
		if n > 0 && (len(before["blocks"].([]StoredBlock)) != 2*n || len(before["letters 0"].([]DeadLetter)) != 1 || before["identity 0 true"] == nil || before["kv 0 true"] == nil || before["seen 0"] != true) {
			t.Errorf("%s: not all is there: %v", name, before)
		}
		if got := len(s.KeysLeft()); got != left {
			t.Errorf("%s: keys left are %v, want %d", name, s.KeysLeft(), left)
		}
		fillStore(t, s, n)
		n++
		whole := contents(t, s, n)
		if err := s.Reseal(ctx); err != nil {
			t.Fatalf("%s: reseal: %v", name, err)
		}
		if got, want := s.KeysLeft(), (seal.KeyID{}); len(got) != 1 {
			t.Errorf("%s: keys left are %v after Reseal, want one", name, got)
		} else if want, _ = ring.Sealing(); got[0] != want {
			t.Errorf("%s: key left is %v after Reseal, want %v", name, got, want)
		}
		wantContents(t, name+": Reseal changed", whole, contents(t, s, n))
		bytes := s.Lanes()[0].Bytes
		mustClose(t, s)
		wantFound(t, dir, found)
		ro, err := OpenReadOnly(dir, ring)
		if err != nil {
			t.Fatalf("%s: read-only: %v", name, err)
		}
		defer ro.Close()
		maps.DeleteFunc(whole, func(k string, _ any) bool { return strings.HasPrefix(k, "memory") })
		wantContents(t, name+": opened read-only", whole, contents(t, ro, n))
		if got := ro.Lanes()[0].Bytes; got != bytes {
			t.Errorf("%s: the lane has %d bytes, and %d in memory", name, got, bytes)
		}
	}
	life("plain", nil, 1, true)
	life("turned on", mustRing(t, true, one), 2, false)
	life("the same", mustRing(t, true, one), 1, false)
	life("another key", mustRing(t, true, two, one), 2, false)
	life("without the old one", mustRing(t, true, two), 1, false)
	life("turned off", mustRing(t, false, two), 2, true)
	life("without keys", nil, 1, true)
}

// TestSealedFromTheStart: nothing is ever on the disk in plain, and operators see how much there is all the same.
func TestSealedFromTheStart(t *testing.T) {
	dir := t.TempDir()
	keys := testKeys(t, 2)
	s := mustOpen(t, dir, Options{Keys: mustRing(t, true, keys[0]), OutcomeBytes: 1 << 20, uncompressed: true, pragmas: unsynced, Logger: quiet})
	if left := s.KeysLeft(); len(left) != 1 || left[0] != keys[0].ID() {
		t.Errorf("keys left are %v, want %v", left, keys[0].ID())
	}
	for i := range 3 {
		fillStore(t, s, i)
	}
	wantFound(t, dir, false)
	counts := map[string]int64{}
	if err := s.read(func(c *conn) (err error) {
		for _, sql := range []string{
			`SELECT count(*) FROM dead_letters WHERE destination = 'crm' AND reason = 'rejected'`, `SELECT entries FROM lanes WHERE lane = 'contacts'`,
			`SELECT count(*) FROM identities WHERE api_key = 'web'`, `SELECT count(*) FROM kv WHERE destination = 'crm'`,
		} {
			counts[sql], err = c.queryInt(sql)
			if err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for sql, n := range counts {
		if n == 0 {
			t.Errorf("%s says 0", sql)
		}
	}
	mustClose(t, s)

	before := mustReadFile(t, dir)
	refused := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "key "+keys[0].ID().String()+"; add it to server.encryption.old_keys") {
			t.Errorf("open: %v; want that key %s is missing", err, keys[0].ID())
		}
		if !bytes.Equal(before, mustReadFile(t, dir)) {
			t.Error("the database was changed")
		}
	}
	for _, ring := range []*seal.Ring{nil, mustRing(t, true, keys[1]), mustRing(t, false, keys[1])} {
		_, err := Open(dir, Options{Keys: ring})
		refused(err)
		_, err = OpenReadOnly(dir, ring)
		refused(err)
	}
}

// TestSealedRowsStayInTheirPlace: who can write to the database, and knows no key, can not have one row stand for another.
func TestSealedRowsStayInTheirPlace(t *testing.T) {
	dir := t.TempDir()
	ring := mustRing(t, true, testKeys(t, 1)...)
	open := func() *Store {
		return mustOpen(t, dir, Options{Keys: ring, OutcomeBytes: 1 << 20, uncompressed: true, pragmas: unsynced, Logger: quiet})
	}
	s := open()
	for i := range 2 {
		fillStore(t, s, i)
	}
	mustClose(t, s)
	byHand(t, filepath.Join(dir, fileName), `UPDATE kv SET value = (SELECT value FROM kv ORDER BY id LIMIT 1);
		UPDATE identities SET sealed = (SELECT sealed FROM identities LIMIT 1);
		UPDATE dead_letters SET event = (SELECT original FROM dead_letters LIMIT 1), crc = 0;
		UPDATE memories SET heads = x'00' || substr(heads, 2);
		UPDATE holds SET sealed = x'01';`)
	s = open()
	swapped := func(name string, fails int, read func(i int) error) {
		t.Helper()
		failed := 0
		for i := range 2 {
			if err := read(i); errors.Is(err, ErrDamaged) {
				failed++
			} else if err != nil {
				t.Errorf("%s %d: %v", name, i, err)
			}
		}
		if failed != fails {
			t.Errorf("%s: %d are damaged, want %d", name, failed, fails)
		}
	}
	swapped("$kv", 1, func(i int) error {
		return lost(s.KV("crm", fmt.Sprintf("counter-of-jane-%d", i)))
	})
	swapped("identity", 1, func(i int) error {
		return lost(s.Identity("web", "user_id", fmt.Sprintf("visitor-4711-%d", i)))
	})
	swapped("dead letter", 2, func(i int) error {
		_, err := s.DeadLetters(ctx, DeadLetterQuery{EventID: fmt.Sprintf("event-id-0815-%d", i), Bodies: true})
		return err
	})
	swapped("hold", 2, func(int) error {
		holds, err := s.Holds()
		return lost(holds, len(holds) > 0, err)
	})
	if letters, err := s.DeadLetters(ctx, DeadLetterQuery{}); err != nil || len(letters) != 2 {
		t.Errorf("dead letters without their records: %d, %v; want both", len(letters), err)
	}
}

// lost is ErrDamaged for what was not found.
func lost[T any](_ T, found bool, err error) error {
	if err == nil && !found {
		return ErrDamaged
	}
	return err
}

// TestSealingIsInterrupted: a process ends while it hashes what is looked up, or while rows are sealed. The next one does the rest.
func TestSealingIsInterrupted(t *testing.T) {
	dir := t.TempDir()
	keys := testKeys(t, 1)
	s := mustOpen(t, dir, Options{OutcomeBytes: 1 << 20, uncompressed: true, pragmas: unsynced, Logger: quiet})
	const n = 3
	for i := range n {
		fillStore(t, s, i)
	}
	want := contents(t, s, n)
	mustClose(t, s)
	s = mustOpen(t, dir, Options{Keys: mustRing(t, true, keys...), OutcomeBytes: 1 << 20, pragmas: unsynced, Logger: quiet})
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.Reseal(stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("reseal: %v", err)
	}
	mustClose(t, s)
	byHand(t, filepath.Join(dir, fileName), `UPDATE state SET hashed = 2`)
	if _, err := OpenReadOnly(dir, mustRing(t, true, keys...)); err == nil || !strings.Contains(err.Error(), "start it once more") {
		t.Errorf("opened read-only half-way: %v", err)
	}
	for _, ring := range []*seal.Ring{mustRing(t, false, keys...), mustRing(t, true, keys...)} {
		s = mustOpen(t, dir, Options{Keys: ring, OutcomeBytes: 1 << 20, pragmas: unsynced, Logger: quiet})
		wantContents(t, "sealed again", want, contents(t, s, n))
		mustClose(t, s)
		byHand(t, filepath.Join(dir, fileName), `UPDATE state SET hashed = 2`)
	}
}

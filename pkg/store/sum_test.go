package store

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestDamagedRows: bytes of rows change on the disk that are not those of entries. The store opens; what is damaged is as what is not there, counted and told without what it
// says, what is beside it is read, and to write it anew mends it.
func TestDamagedRows(t *testing.T) {
	letter := DeadLetter{Destination: "crm", Hub: "1", Account: "acme", Lane: "contacts", Offset: 7, APIKey: "web", EventID: "e7", At: at, Received: at, Reason: "rejected", Error: "400", Event: []byte("event 7")}
	fill := &Batch{
		Seen: []uint64{1, 2, 3}, Known: []uint64{11}, Delivered: []uint64{12},
		Identities:  []Identity{{APIKey: "web", Kind: "user", Value: "u1", Email: "ann@example.com", Seen: at}, {APIKey: "web", Kind: "user", Value: "u2", Email: "bob@example.com", Seen: at}},
		KV:          []KV{{Destination: "crm", Key: "ann", Value: "100"}, {Destination: "crm", Key: "bob", Value: "200"}},
		Memories:    []Memory{{Hash: 21, Data: []byte("what is remembered")}},
		Outcomes:    []Outcome{{Received: at, Settled: at, APIKey: "web", EventID: "e1", Destination: "crm", Status: Delivered}},
		DeadLetters: []DeadLetter{letter, {Destination: "crm", EventID: "e8", At: at, Received: at, Reason: "rejected", Event: []byte("event 8")}},
	}
	type opened struct {
		*testing.T
		s    *Store
		lane LaneID
	}
	f := func(table, sql string, check func(t opened)) {
		t.Helper()
		t.Run(table, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, Options{OutcomeBytes: 1 << 20})
			lane := mustLane(t, s, contacts)
			mustCommit(t, s, fill)
			mustCommit(t, s, &Batch{Holds: []Hold{{lane, "ann@example.com", at.Add(time.Hour)}, {lane, "bob@example.com", at.Add(time.Hour)}}, Calls: []Call{{ID: 1, Lane: lane, Entries: []Ref{{1, 0}}}, {ID: 2, Lane: lane}}})
			s.CacheStore("schema", []byte(`{"type":"string"}`))
			mustClose(t, s)
			byHand(t, s.path, sql)
			var log strings.Builder
			s = mustOpen(t, dir, Options{OutcomeBytes: 1 << 20, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			check(opened{t, s, lane})
			if n := s.DamagedRows()[table]; n == 0 {
				t.Error("it is not counted")
			}
			mustClose(t, s)
			if !strings.Contains(log.String(), "table="+table) || strings.Contains(log.String(), "example.com") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
	email := func(t opened, value, want string) {
		t.Helper()
		id, _, err := t.s.Identity("web", "user", value)
		if id.Email != want || err != nil {
			t.Errorf("e-mail of %s: %q %v, want %q", value, id.Email, err, want)
		}
	}
	f("identities", `UPDATE identities SET email = 'amn@example.com' WHERE value = 'u1'`, func(t opened) {
		email(t, "u1", "")
		email(t, "u2", "bob@example.com")
		mustCommit(t, t.s, &Batch{Identities: []Identity{{APIKey: "web", Kind: "user", Value: "u1", Email: "ann@example.com", Seen: at}}})
		email(t, "u1", "ann@example.com")
	})
	f("identities", `UPDATE identities SET value = 'u3' WHERE value = 'u1'`, func(t opened) { email(t, "u3", "") })
	f("identities", `UPDATE identities SET email = x'61' WHERE value = 'u1'`, func(t opened) { email(t, "u1", "") })
	f("identities", `UPDATE identities SET sealed = x'0161' WHERE value = 'u1'`, func(t opened) { email(t, "u1", "") })
	value := func(t opened, key, want string) {
		t.Helper()
		v, _, err := t.s.KV("crm", key)
		if v.Value != want || err != nil {
			t.Errorf("$kv of %s: %q %v, want %q", key, v.Value, err, want)
		}
	}
	f("kv", `UPDATE kv SET value = '900' WHERE key = 'ann'`, func(t opened) {
		value(t, "ann", "")
		value(t, "bob", "200")
		mustCommit(t, t.s, &Batch{KV: []KV{{Destination: "crm", Key: "ann", Value: "1"}}})
		value(t, "ann", "1")
	})
	f("kv", `UPDATE kv SET expires = 99999999999999 WHERE key = 'ann'`, func(t opened) { value(t, "ann", "") })
	f("kv", `UPDATE kv SET key = 'amn' WHERE key = 'ann'`, func(t opened) { value(t, "amn", "") })
	for _, sql := range []string{`UPDATE seen SET began = 0`, `UPDATE seen SET bucket = -5`, `UPDATE seen SET mark = 1`, `UPDATE seen SET began = 9e15`} {
		f("seen", sql, func(t opened) {
			if !t.s.Seen(1) || !t.s.Seen(3) || t.s.Seen(4) {
				t.Errorf("%s: seen %v %v %v", sql, t.s.Seen(1), t.s.Seen(3), t.s.Seen(4))
			}
			mustCommit(t, t.s, &Batch{Seen: []uint64{4}})
			if !t.s.Seen(4) {
				t.Error("nothing is added")
			}
		})
	}
	f("known", `UPDATE known SET mark = 1 - mark`, func(t opened) {
		for _, h := range []uint64{11, 12} {
			if known, delivered := t.s.Known(h); !known || delivered {
				t.Errorf("%d: known %v, delivered %v", h, known, delivered)
			}
		}
	})
	f("memories", `UPDATE memories SET data = replace(data, 'what', 'that')`, func(t opened) {
		if found, err := t.s.Recall(ctx, []uint64{21}); err != nil || found[0] != nil {
			t.Errorf("%q %v", found, err)
		}
	})
	f("holds", `UPDATE holds SET key = 'amn@example.com' WHERE key = 'ann@example.com'`, func(t opened) {
		if holds, err := t.s.Holds(); err != nil || len(holds) != 1 || holds[0].Key != "bob@example.com" {
			t.Errorf("%v %v", holds, err)
		}
	})
	f("calls", `UPDATE calls SET entries = 'x' WHERE id = 1`, func(t opened) {
		if calls, err := t.s.Calls(); err != nil || len(calls) != 1 || calls[0].ID != 2 {
			t.Errorf("%v %v", calls, err)
		}
	})
	f("cache", `UPDATE cache SET value = CAST('{"type":"number"}' AS BLOB)`, func(t opened) {
		if value, _, ok := t.s.CacheLoad("schema"); ok {
			t.Errorf("%s", value)
		}
	})
	outcomes := func(t opened) {
		t.Helper()
		mustCommit(t, t.s, &Batch{Outcomes: []Outcome{{Received: at, Settled: at, APIKey: "web", EventID: "e1", Destination: "lake", Status: Delivered}}})
		found, err := t.s.Outcomes(ctx, OutcomeQuery{EventID: "e1"})
		if len(found) != 1 || found[0].Destination != "lake" || !errors.Is(err, ErrDamaged) {
			t.Errorf("%v %v", found, err)
		}
	}
	f("outcomes", `UPDATE outcomes SET data = zeroblob(length(data))`, outcomes)
	f("outcomes", `UPDATE outcomes SET data = ''`, outcomes)
	f("outcomes", `UPDATE outcome_index SET hashes = zeroblob(length(hashes))`, outcomes)
}

// TestDamagedLetters: where a dead letter belongs, and what is to be done with it, is read right or not at all. The others are read.
func TestDamagedLetters(t *testing.T) {
	f := func(sql, want string) {
		t.Helper()
		s := mustOpen(t, t.TempDir(), Options{})
		for n := range 3 {
			mustCommit(t, s, &Batch{DeadLetters: []DeadLetter{{Destination: "crm", Account: "acme", EventID: fmt.Sprint("e", n), At: at, Received: at, Reason: "rejected", Event: []byte("event")}}})
		}
		if _, err := s.MarkReplay(ctx, DeadLetterQuery{}, Replay{AsIs: true}); err != nil {
			t.Fatal(err)
		}
		byHand(t, s.path, sql)
		all, err := s.DeadLetters(ctx, DeadLetterQuery{})
		if err != nil || len(all) != 3 || !strings.Contains(all[1].Error, want) || strings.Contains(all[0].Error+all[2].Error, "damaged") {
			t.Errorf("%s: listed are %v %v", sql, all, err)
		}
		if _, err := s.DeadLetters(ctx, DeadLetterQuery{IDs: []int64{2}, Bodies: true}); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", sql, err)
		}
		if got, err := s.DeadLetters(ctx, DeadLetterQuery{IDs: []int64{1, 3}, Bodies: true}); err != nil || len(got) != 2 || !got[0].Replay.AsIs {
			t.Errorf("%s: the others are %v %v", sql, got, err)
		}
		if n, err := s.DropDeadLetters(ctx, DeadLetterQuery{}); n != 3 || err != nil {
			t.Errorf("%s: %d dropped, %v", sql, n, err)
		}
	}
	f(`UPDATE dead_letters SET account = 'bcme' WHERE id = 2`, "where it belongs")
	f(`UPDATE dead_letters SET log_offset = 8 WHERE id = 2`, "where it belongs")
	f(`UPDATE dead_letters SET destination = x'00' WHERE id = 2`, "where it belongs")
	f(`UPDATE replays SET how = 'ar_is' WHERE letter = 2`, "how it is to be replayed")
}

// TestLetterThatCanNotBeDeleted: its row and an index of it do not fit together any more. The others go, and the store goes on.
func TestLetterThatCanNotBeDeleted(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	for n := range 5 {
		mustCommit(t, s, &Batch{DeadLetters: []DeadLetter{{Destination: "crm", Person: fmt.Sprintf("p%d@example.com", n), At: at, Received: at, Reason: "rejected", Event: fmt.Appendf(nil, "the record of event %d", n)}}})
	}
	mustClose(t, s)
	file := mustReadFile(t, dir)
	record := strings.Index(string(file), "the record of event 2") // the person stands before it, in the same row
	person := strings.LastIndex(string(file[:record]), "p2@example.com")
	edit(t, dir, file[person:record], func(b []byte) { b[1] ^= 1 })

	s = mustOpen(t, dir, Options{})
	n, err := s.DropDeadLetters(ctx, DeadLetterQuery{})
	if n != 4 || !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "among them 3") {
		t.Errorf("%d dropped, %v", n, err)
	}
	mustCommit(t, s, &Batch{Seen: []uint64{1}})
	if left, err := s.DeadLetters(ctx, DeadLetterQuery{}); len(left) != 1 || err != nil {
		t.Errorf("%d left, %v", len(left), err)
	}
}

// TestDamagedProgress: what is noted of a block's finished entries can not be right. It is given up as if its entries were damaged, for one that was delivered must not be sent
// again behind what came later.
func TestDamagedProgress(t *testing.T) {
	f := func(sql string) {
		t.Helper()
		s := mustOpen(t, t.TempDir(), Options{})
		lane := mustLane(t, s, contacts)
		mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 5, Data: []byte("five entries")}, {Lane: lane, Entries: 1, Data: []byte("one")}}})
		mustCommit(t, s, &Batch{Progress: []Progress{{Lane: lane, Block: 1, Finished: 2, Done: []byte{3}}}})
		byHand(t, s.path, sql)
		_, err := s.ReadBlocks(ctx, lane, 0, 1<<20)
		var damaged *DamagedError
		if !errors.As(err, &damaged) || string(damaged.Data()) != "five entries" || damaged.Block.Done != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		giveUp(t, s, damaged)
		if got := mustRead(t, s, lane, 0, 1<<20); len(got) != 1 || string(got[0].Data) != "one" {
			t.Errorf("%s: %v", sql, got)
		}
	}
	f(`UPDATE progress SET done = x'07'`)
	f(`UPDATE progress SET done = x'01'`)
	f(`UPDATE progress SET finished = 100`)
}

package store

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// kvOf is what a destination's keys hold, as "key=value" in the order of keys.
func kvOf(t *testing.T, s *Store, destination string, keys ...string) string {
	t.Helper()
	var all []string
	for _, key := range keys {
		v, ok, err := s.KV(destination, key)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			all = append(all, key+"="+v.Value)
		}
	}
	return strings.Join(all, " ")
}

func TestKV(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	mustCommit(t, s, &Batch{Position: 3, KV: []KV{
		{Destination: "crm", Key: "a", Value: `1`},
		{Destination: "lake", Key: "a", Value: `{"of":"lake"}`},
		{Destination: "crm", Key: "b", Value: `2`},
		{Destination: "crm", Key: "a", Value: `3`, Expires: time.Now().Add(time.Hour)},
		{Destination: "crm", Key: "gone", Value: `4`},
		{Destination: "crm", Key: "gone"},
		{Destination: "crm", Key: "never there"},
	}})
	mustCommit(t, s, &Batch{KV: []KV{{Destination: "crm", Key: "b", Value: `"twenty"`}}})
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		if got, want := kvOf(t, s, "crm", "a", "b", "gone", "none"), `a=3 b="twenty"`; got != want {
			t.Errorf("crm keeps %s, want %s", got, want)
		}
		if got, want := kvOf(t, s, "lake", "a", "b"), `a={"of":"lake"}`; got != want {
			t.Errorf("lake keeps %s, want %s", got, want)
		}
		if s.readOnly {
			return
		}
		want := map[string]KVUse{"crm": {Entries: 2, Bytes: 2 + 9}, "lake": {Entries: 1, Bytes: 14}}
		if diff := cmp.Diff(want, s.KVUse()); diff != "" {
			t.Error("use:", diff)
		}
	})
}

// TestKVGoesWithItsBatch: a batch that is refused leaves nothing, and others of the same transaction are not touched by that.
func TestKVGoesWithItsBatch(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	mustCommit(t, s, &Batch{KV: []KV{{Destination: "crm", Key: "n", Value: `1`}}})
	err := s.Commit(ctx, &Batch{KV: []KV{{Destination: "crm", Key: "n", Value: `2`}}, Blocks: []Block{{Lane: 99, Entries: 1}}})
	if !errors.Is(err, ErrBatch) {
		t.Fatalf("a block of a lane that is not there: %v", err)
	}
	if got := kvOf(t, s, "crm", "n"); got != "n=1" {
		t.Errorf("after a batch that was refused: %s, want n=1", got)
	}
	if u := s.KVUse()["crm"]; u != (KVUse{Entries: 1, Bytes: 2}) {
		t.Errorf("use %+v", u)
	}
}

func TestKVExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(t.TempDir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		now := time.Now()
		all := []KV{{Destination: "crm", Key: "stays", Value: `1`}, {Destination: "crm", Key: "long", Value: `1`, Expires: now.Add(time.Hour)}}
		for i := range 2*kvRows + 10 {
			all = append(all, KV{Destination: "crm", Key: fmt.Sprint(i), Value: `1`, Expires: now.Add(time.Minute)})
		}
		mustCommit(t, s, &Batch{KV: all})
		time.Sleep(time.Minute - time.Millisecond)
		if got := kvOf(t, s, "crm", "7"); got != "7=1" {
			t.Errorf("before its time is over: %q", got)
		}
		time.Sleep(time.Millisecond)
		if got := kvOf(t, s, "crm", "7", "long"); got != "long=1" {
			t.Errorf("when its time is over: %q", got)
		}
		if err := s.ExpireKV(ctx); err != nil {
			t.Fatal(err)
		}
		if u := s.KVUse()["crm"]; u.Entries != 2 || u.Dropped != 0 {
			t.Errorf("after pruning: %+v, want 2 entries and none dropped", u)
		}
		time.Sleep(2 * time.Hour)
		if err := s.ExpireKV(ctx); err != nil {
			t.Fatal(err)
		}
		if got := kvOf(t, s, "crm", "stays", "long"); got != "stays=1" {
			t.Errorf("an hour later: %q", got)
		}
	})
}

// TestKVBounds: what was written longest ago goes first, of the destination that keeps too much alone.
func TestKVBounds(t *testing.T) {
	f := func(o Options, keys int, want string) {
		t.Helper()
		dir := t.TempDir()
		s := mustOpen(t, dir, o)
		mustCommit(t, s, &Batch{KV: []KV{{Destination: "lake", Key: "a", Value: `1`}}})
		var names []string
		for i := range keys {
			names = append(names, fmt.Sprintf("k%d", i))
			mustCommit(t, s, &Batch{KV: []KV{{Destination: "crm", Key: names[i], Value: `1`}, {Destination: "crm", Key: "k0", Value: `2`}}})
		}
		for range 2 {
			if got := kvOf(t, s, "crm", names...); got != want {
				t.Errorf("%d keys within %d entries and %d bytes: kept %s, want %s", keys, o.KVMaxEntries, o.KVMaxBytes, got, want)
			}
			if got := kvOf(t, s, "lake", "a"); got != "a=1" {
				t.Error("another destination has lost its own")
			}
			mustClose(t, s)
			s = mustOpen(t, dir, o)
		}
	}
	f(Options{KVMaxEntries: 3}, 3, "k0=2 k1=1 k2=1")
	f(Options{KVMaxEntries: 3}, 6, "k0=2 k4=1 k5=1") // k0 is written all the time
	f(Options{KVMaxBytes: 9}, 6, "k0=2 k4=1 k5=1")
	f(Options{KVMaxBytes: 2}, 2, "")
}

// TestKVBoundsOfLargeBatches: one transaction takes away so many, and the rest goes with later ones.
func TestKVBoundsOfLargeBatches(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	b := &Batch{}
	for i := range 5 * kvRows {
		b.KV = append(b.KV, KV{Destination: "crm", Key: fmt.Sprint(i), Value: `1`})
	}
	mustCommit(t, s, b)
	s.LimitKV(10, 1<<20)
	if err := s.ExpireKV(ctx); err != nil {
		t.Fatal(err)
	}
	if u := s.KVUse()["crm"]; u.Entries != 10 || u.Dropped != 5*kvRows-10 {
		t.Errorf("%+v, want 10 entries, the others dropped", u)
	}
	if got := kvOf(t, s, "crm", "0", fmt.Sprint(5*kvRows-11), fmt.Sprint(5*kvRows-10)); got != fmt.Sprintf("%d=1", 5*kvRows-10) {
		t.Errorf("kept %s", got)
	}
}

// TestMigration opens databases of every earlier version, with rows of the tables that they had.
func TestMigration(t *testing.T) {
	for version := 1; version < len(migrations); version++ {
		dir := t.TempDir()
		c := mustMake(t, dir, migrations[:version])
		if err := c.script(`INSERT INTO state (id, position, next_block, hash_key) VALUES (1, 42, 7, x'000102030405060708090a0b0c0d0e0f');
			INSERT INTO identities (api_key, kind, value, email, server, seen) VALUES ('key', 'user_id', 'u1', 'a@b.co', 1, 1000);
			INSERT INTO dead_letters (destination, hub, account, lane, log_offset, output, api_key, event_id, event_type, person, received, at, attempts, reason, error, crc)
				VALUES ('crm', '1001', 'a1', 'contacts', 7, 0, 'key', 'e1', 'signup', 'u1', 1, 1, 1, 'rejected', 'no', 0);` + fmt.Sprintf(`PRAGMA user_version=%d`, version)); err != nil {
			t.Fatal(err)
		}
		if err := c.close(); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenReadOnly(dir, nil); !errors.Is(err, ErrFormat) {
			t.Errorf("version %d, read-only before it is migrated: %v", version, err)
		}
		s := mustOpen(t, dir, Options{})
		if s.Position() != 42 {
			t.Errorf("version %d: position %d, want 42", version, s.Position())
		}
		if id, ok, err := s.Identity("key", "user_id", "u1"); !ok || id.Email != "a@b.co" || err != nil {
			t.Errorf("version %d: identity %+v, %t, %v", version, id, ok, err)
		}
		if account, n, err := s.PushOutDeadLetters(t.Context(), "crm", 1); account != "a1" || n != 1 || err != nil {
			t.Errorf("version %d: pushed out %d dead letters of account %q, %v; want the one of a1", version, n, account, err)
		}
		mustCommit(t, s, &Batch{KV: []KV{{Destination: "crm", Key: "a", Value: `1`}}})
		throughReopen(t, dir, s, func(t *testing.T, s *Store) {
			if got := kvOf(t, s, "crm", "a"); got != "a=1" {
				t.Errorf("version %d: kept %q", version, got)
			}
		})
	}
}

// mustMake makes a database as earlier versions did.
func mustMake(t *testing.T, dir string, scripts []string) *conn {
	t.Helper()
	c, err := openConn(filepath.Join(dir, fileName), "rwc")
	if err != nil {
		t.Fatal(err)
	}
	for _, script := range append([]string{createPragmas}, scripts...) {
		if err := c.script(script); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func BenchmarkKV(b *testing.B) {
	s := mustOpen(b, b.TempDir(), Options{})
	const keys, batch = 50_000, 1000
	key := func(i int) string { return fmt.Sprintf("visits:p%d@example.com", i%keys) }
	b.Run("write", func(b *testing.B) {
		for i := 0; i < b.N; i += batch {
			var all []KV
			for j := range batch {
				all = append(all, KV{Destination: "crm", Key: key((i + j) * 7919), Value: `{"n":12,"first":"2026-11-21"}`, Expires: time.Now().Add(24 * time.Hour)})
			}
			mustCommit(b, s, &Batch{KV: all})
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			if _, _, err := s.KV("crm", key(i*7919)); err != nil {
				b.Fatal(err)
			}
		}
	})
	if n := slices.Collect(maps.Keys(s.KVUse())); len(n) != 1 {
		b.Error(n)
	}
}

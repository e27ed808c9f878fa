package store

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIdentities(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	id := func(value, email string, server bool) Identity {
		return Identity{APIKey: "k1", Kind: "user_id", Value: value, Email: email, Server: server, Seen: at}
	}
	want := make(map[string]Identity)
	// f commits ids in one batch, and then want is what the last id's value leads to.
	f := func(expect Identity, ids ...Identity) {
		t.Helper()
		mustCommit(t, s, &Batch{Identities: ids})
		want[expect.Value] = expect
		got, ok, err := s.Identity("k1", "user_id", expect.Value)
		if diff := cmp.Diff(expect, got); diff != "" || !ok || err != nil {
			t.Errorf("%s: %v %v %s", expect.Value, ok, err, diff)
		}
	}
	browser, browser2, server, server2 := id("a", "b@x", false), id("a", "b2@x", false), id("a", "s@x", true), id("a", "s2@x", true)
	f(browser, browser)
	f(browser2, browser2)
	f(server, server)
	f(server, browser)
	f(server, browser, browser2)
	f(server2, server2)
	f(server2, server, server2, browser) // each in its turn, whether in one batch or not
	f(id("b", "s@x", true), id("b", "s@x", true), id("b", "b@x", false))
	f(id("c", "s@x", true), id("c", "b@x", false), id("c", "s@x", true))

	// Not there: before the commit, under another key, of another kind.
	for _, k := range [][3]string{{"k1", "user_id", "later"}, {"k2", "user_id", "a"}, {"k1", "anonymous_id", "a"}} {
		if got, ok, err := s.Identity(k[0], k[1], k[2]); ok || err != nil {
			t.Errorf("%v: %+v, %v", k, got, err)
		}
	}
	f(id("later", "l@x", false), id("later", "l@x", false))
	throughReopen(t, dir, s, func(t *testing.T, s *Store) {
		for range 2 { // from the table, then from the cache
			for value, want := range want {
				got, ok, err := s.Identity("k1", "user_id", value)
				if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
					t.Errorf("%s: %v %v %s", value, ok, err, diff)
				}
			}
		}
	})
}

// TestIdentityCacheBounds: more ids than the cache holds are all found, and the cache stays small.
func TestIdentityCacheBounds(t *testing.T) {
	const perMap = 100
	s := mustOpen(t, t.TempDir(), Options{})
	s.identities = newIdentityCache(perMap)
	var ids []Identity
	for i := range 3*perMap + 10 {
		ids = append(ids, Identity{APIKey: "k", Kind: "user_id", Value: fmt.Sprint(i), Email: fmt.Sprint(i, "@x"), Seen: at})
	}
	mustCommit(t, s, &Batch{Identities: ids})
	if n := len(s.identities.young) + len(s.identities.old); n > 2*perMap {
		t.Errorf("%d identities in the cache", n)
	}
	for i := 0; i < len(ids); i++ {
		got, ok, err := s.Identity("k", "user_id", ids[i].Value)
		if !ok || err != nil || got.Email != ids[i].Email {
			t.Fatalf("%+v: %+v %v %v", ids[i], got, ok, err)
		}
	}
}

// TestIdentityCacheRace: what was read before a commit is not cached after it.
func TestIdentityCacheRace(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	key := idKey{"k", "user_id", "1"}
	_, version, _ := s.identities.get(key)
	id := Identity{APIKey: "k", Kind: "user_id", Value: "1", Email: "new@x"}
	mustCommit(t, s, &Batch{Identities: []Identity{id}})
	s.identities.put(key, cachedIdentity{}, version)
	if got, ok, _ := s.Identity("k", "user_id", "1"); !ok || got != id {
		t.Errorf("%+v %v", got, ok)
	}
}

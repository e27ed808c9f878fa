package store

import (
	"fmt"
	"testing"
	"time"
)

// TestExpireIdentities: those that were not seen for long go, and then the oldest of too many; in plain, and encrypted. What is in memory of them goes with them.
func TestExpireIdentities(t *testing.T) {
	now := time.Now()
	f := func(o Options, ages []time.Duration, left string, tooOld, tooMany int64) {
		t.Helper()
		o.pragmas, o.Logger = unsynced, quiet
		s := mustOpen(t, t.TempDir(), o)
		b := &Batch{Identities: []Identity{{APIKey: "web", Kind: "user_id", Value: "forgotten", Email: "x@y.z"}}}
		for i, age := range ages {
			b.Identities = append(b.Identities, Identity{APIKey: "web", Kind: "user_id", Value: fmt.Sprint(i), Email: "a@b.c", Seen: now.Add(-age)})
		}
		mustCommit(t, s, b)
		if err := s.ExpireIdentities(ctx); err != nil {
			t.Fatal(err)
		}
		got := ""
		for i := range ages {
			if _, ok, err := s.Identity("web", "user_id", fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			} else if ok {
				got += fmt.Sprint(i)
			}
		}
		st := s.Stats()
		if got != left || st.IdentitiesTooOld != tooOld || st.IdentitiesTooMany != tooMany || st.Identities != int64(len(left)) {
			t.Errorf("%v of age %v: left are %q, too old %d, too many %d, count %d; want %q, %d, %d", o.IdentityMax, ages, got, st.IdentitiesTooOld, st.IdentitiesTooMany, st.Identities, left, tooOld, tooMany)
		}
		if again := s.ExpireIdentities(ctx); again != nil || s.Stats().IdentitiesTooMany != tooMany {
			t.Errorf("a second time: %v, %+v", again, s.Stats())
		}
	}
	day := 24 * time.Hour
	ages := []time.Duration{time.Second, 10 * day, 3 * day, 400 * day, 366 * day, 2 * day}
	f(Options{}, ages, "012345", 0, 0)
	f(Options{IdentityAge: 365 * day}, ages, "0125", 2, 0)
	f(Options{IdentityAge: 365 * day, IdentityMax: 100}, ages, "0125", 2, 0)
	f(Options{IdentityAge: 365 * day, IdentityMax: 3}, ages, "025", 2, 1)
	f(Options{IdentityMax: 2}, ages, "05", 0, 4)
	f(Options{IdentityMax: 2, Keys: mustRing(t, true, testKeys(t, 1)...)}, ages, "05", 0, 4)
	f(Options{IdentityMax: 2}, []time.Duration{0, 0, 0, 0}, "23", 0, 2) // of one hour as many as are too many
}

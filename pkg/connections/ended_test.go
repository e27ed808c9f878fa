package connections

import (
	"testing"
	"time"
)

// TestDisconnectionsAreForgotten: of an account that has disconnected nothing is kept when no link of before is good any more.
func TestDisconnectionsAreForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		f := func(want int) {
			t.Helper()
			r.restart()
			if all, err := r.store.Disconnections(); err != nil || len(all) != want {
				t.Errorf("got %v, %v, want %d", all, err, want)
			}
		}
		r.mustConnect("a1", hubA)
		if _, err := r.s.Disconnect(t.Context(), "crm", "a1"); err != nil {
			t.Fatal(err)
		}
		f(1)
		r.app.LinkAge = 48 * time.Hour
		f(1)
		time.Sleep(25 * time.Hour)
		f(1)
		r.app.LinkAge = time.Hour
		r.restart()
		r.mustConnect("a2", hubA)
		if _, err := r.s.Disconnect(t.Context(), "crm", "a2"); err != nil {
			t.Fatal(err)
		}
		f(1) // a2's
	})
}

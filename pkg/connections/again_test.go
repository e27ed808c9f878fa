package connections

import (
	"testing"
	"time"
)

// TestOneOfAHubConnectsAgain: where the app was uninstalled and the router was not told, one account that connects anew shows at once that the others of the hub have to, and they do not come
// back by its consent.
func TestOneOfAHubConnectsAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		r.mustConnect("a2", hubA)
		r.mustConnect("b1", hubB)
		if err := r.hub.RevokeRefresh("client-1", hubA); err != nil {
			t.Fatal(err)
		}
		r.mustConnect("a1", hubA)
		time.Sleep(time.Minute)
		for account, want := range map[string]Status{"a1": Connected, "a2": ReconnectNeeded, "b1": Connected} {
			if got := r.status(account); got != want {
				t.Errorf("%s: got %s, want %s", account, got, want)
			}
		}
		r.mustConnect("a2", hubA)
		time.Sleep(time.Minute)
		for _, account := range []string{"a1", "a2"} {
			if token, err := r.s.Token(t.Context(), "crm", account, hubA); err != nil || !r.valid(token) || r.status(account) != Connected {
				t.Errorf("%s, when both have connected anew: %s, %v", account, r.status(account), err)
			}
		}
	})
}

package connections

import (
	"testing"
)

func TestConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		if got := r.s.Hub("crm", "a1"); got != hubA {
			t.Errorf("hub: got %q, want %q", got, hubA)
		}
		token, err := r.s.Token(t.Context(), "crm", "a1", hubA)
		if err != nil || token == "" {
			t.Fatalf("token: %v", err)
		}
		r.restart()
		if again, err := r.s.Token(t.Context(), "crm", "a1", hubA); err != nil || again != token {
			t.Errorf("token after a restart: %v, same: %v", err, again == token)
		}
	})
}

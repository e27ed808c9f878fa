package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// TestPoisonOfOneAccount: an account whose events all become dead letters reaches the bound of the destination's dead letters alone. It gives up its own oldest; nobody is refused, the others'
// events flow, and their dead letters stay.
func TestPoisonOfOneAccount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		defer g.stop()
		for _, account := range []string{"bad", "good", "late"} {
			w.connect(account, account+"-h1")
		}
		w.answer = func(hub string) error {
			if hub == "bad-h1" || hub == "late-h1" {
				return destinations.Reject(errors.New("refused"))
			}
			return nil
		}
		g.router.LimitDeadLetters(DeadLetterBounds{MaxBytes: 4000})
		g.append(event.Event{Server: true, Account: "late"}, ofAccount("late", 1)) // older than all of the other's
		for v := range 100 {
			g.append(event.Event{Server: true, Account: "bad"}, fmt.Sprintf(`{"owner":"bad","event_type":"user_identify","user":{"email":"p%d@bad","v":1}}`, v))
			g.append(event.Event{Server: true, Account: "good"}, ofAccount("good", v+1))
			time.Sleep(time.Second)
			if reason, refused := g.router.Refused("key", event.Live); refused {
				t.Fatalf("after %d events: refused: %s", v+1, reason)
			}
		}
		g.append(event.Event{Server: true, Account: "late"}, ofAccount("late", 2))
		time.Sleep(2 * time.Second)
		if n := len(strings.Fields(w.written("good-h1", "p@good"))); n != 100 {
			t.Errorf("the other account got %d of 100 events", n)
		}
		of := map[string][]string{}
		for _, d := range g.deadLetters() { // newest first
			of[d.Account] = append(of[d.Account], d.Person)
		}
		if len(of["late"]) != 2 {
			t.Errorf("of the account with two dead letters are left %v", of["late"])
		}
		if n := len(of["bad"]); n < 5 || n > 60 || of["bad"][0] != "p99@bad" || of["bad"][n-1] != fmt.Sprintf("p%d@bad", 100-n) {
			t.Errorf("the account that floods keeps %v, want its newest", of["bad"])
		}
		if bytes := g.store.DeadLetterBytes("customers"); bytes >= 4000 {
			t.Errorf("dead letters take %d bytes, want less than 4000", bytes)
		}
		for _, s := range g.router.Status() {
			if s.Entries > 0 || s.State != Flowing {
				t.Errorf("in the end: %+v", s)
			}
		}
		outcomes, err := g.store.Outcomes(t.Context(), store.OutcomeQuery{EventID: "e2", Limit: 10})
		if err != nil || len(outcomes) == 0 || outcomes[0].Status != store.Dropped || !strings.Contains(outcomes[0].Reason, "server.dead_letters.max_bytes") {
			t.Errorf("what became of the first that went: %+v, %v", outcomes, err)
		}
	})
}

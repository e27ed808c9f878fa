package router

import (
	"context"
	"fmt"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// Trouble is what went wrong last for an account. Without words it is nothing that is known.
type Trouble struct {
	Words string             // for those who run the router
	Cause destinations.Cause // for the people of the account
	At    time.Time          // since when it lasts, or when it was
}

// Trouble says what went wrong last for an account of an app at a hub: its lanes that are blocked, or whose calls fail; else its newest dead letter, by its reason, for errors quote events. It reads one
// row at most for each destination.
func (r *Router) Trouble(app, account, hub string) (last Trouble) {
	for _, route := range r.table.Load().routes {
		if route.Connection != app {
			continue
		}
		r.mu.Lock()
		a := r.accounts[accountName{route.Name, hub, account}]
		r.mu.Unlock()
		if a != nil {
			if now := a.trouble(); now.Words != "" {
				return now // it lasts
			}
		}
		letters, err := r.store.DeadLetters(context.Background(), store.DeadLetterQuery{Destination: route.Name, Account: account, Limit: 1})
		if err == nil && len(letters) > 0 && letters[0].At.After(last.At) {
			last = Trouble{fmt.Sprintf("an event for %s became a dead letter: %s", route.Name, letters[0].Reason), destinations.CauseRefused, letters[0].At}
		}
	}
	return last
}

// trouble is why lanes of the account do not send.
func (a *account) trouble() (fails Trouble) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lanes {
		s := l.stop
		switch {
		case s == nil:
		case s.blocked:
			return Trouble{fmt.Sprintf("lane %s of %s is blocked: %s", l.spec.Name, a.route.Name, cut(s.err.Error(), 300)), destinations.CauseOf(s.err), s.began()}
		case s.failures >= loudFailures && fails.Words == "":
			fails = Trouble{fmt.Sprintf("calls of lane %s of %s fail: %s", l.spec.Name, a.route.Name, cut(s.err.Error(), 300)), destinations.CauseOf(s.err), s.began()}
		}
	}
	return fails
}

package router

import (
	"context"
	"fmt"
	"time"

	"eventrouter/pkg/store"
)

// Trouble says what went wrong last for an account of an app at a hub, and when: its lanes that are blocked, or whose calls fail; else its newest dead letter, by its reason, for errors quote events. "" is
// nothing that is known. It reads one row at most for each destination.
func (r *Router) Trouble(app, account, hub string) (words string, at time.Time) {
	for _, route := range r.table.Load().routes {
		if route.Connection != app {
			continue
		}
		r.mu.Lock()
		a := r.accounts[accountName{route.Name, hub, account}]
		r.mu.Unlock()
		if a != nil {
			if now, since := a.trouble(); now != "" {
				return now, since // it lasts
			}
		}
		letters, err := r.store.DeadLetters(context.Background(), store.DeadLetterQuery{Destination: route.Name, Account: account, Limit: 1})
		if err == nil && len(letters) > 0 && letters[0].At.After(at) {
			words, at = fmt.Sprintf("an event for %s became a dead letter: %s", route.Name, letters[0].Reason), letters[0].At
		}
	}
	return words, at
}

// trouble is why lanes of the account do not send.
func (a *account) trouble() (words string, since time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lanes {
		s := l.stop
		switch {
		case s == nil:
		case s.blocked:
			return fmt.Sprintf("lane %s of %s is blocked: %s", l.spec.Name, a.route.Name, cut(s.err.Error(), 300)), s.began()
		case s.failures >= loudFailures && words == "":
			words, since = fmt.Sprintf("calls of lane %s of %s fail: %s", l.spec.Name, a.route.Name, cut(s.err.Error(), 300)), s.began()
		}
	}
	return words, since
}

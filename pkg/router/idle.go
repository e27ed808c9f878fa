package router

import (
	"slices"
	"time"
)

// idleFor is how long an account that is connected may have nothing to do before its goroutines end. They begin again with its next event.
const idleFor = 30 * time.Second

// retireIdle ends the goroutines of accounts that have nothing to do: an app may have thousands.
func (r *Router) retireIdle(now time.Time) {
	type candidate struct {
		*account
		uses uint64
	}
	var idle []candidate
	r.mu.Lock()
	for _, a := range r.accounts {
		if a.route.Connection != "" && a.begun && a.users == 0 {
			idle = append(idle, candidate{a, a.uses})
		}
	}
	r.mu.Unlock()
	idle = slices.DeleteFunc(idle, func(c candidate) bool { return !c.idleSince(now) })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range idle {
		if r.accounts[c.key()] == c.account && c.users == 0 && c.account.uses == c.uses {
			r.retireLocked(c.account)
		}
	}
}

// idleSince says whether nothing is left to do for the account, and was not for a while.
func (a *account) idleSince(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.idleLocked() {
		a.idle = time.Time{}
		return false
	}
	if a.idle.IsZero() {
		a.idle = now
	}
	return now.Sub(a.idle) >= idleFor
}

func (a *account) idleLocked() bool {
	if len(a.persons) > 0 {
		return false
	}
	for _, l := range a.lanes {
		if l.calls > 0 || len(l.resend) > 0 || len(l.urgent) > 0 || len(l.recovered) > 0 {
			return false
		}
		for _, s := range l.streams() {
			if s.more || s.coming > 0 || len(s.window) > 0 || len(s.blocks) > 0 {
				return false
			}
		}
	}
	return true
}

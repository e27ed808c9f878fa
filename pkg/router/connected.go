package router

import (
	"context"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// Routes with a Connection deliver to accounts, each of which is connected to a hub, or to none yet:
//
//	account not connected ─▶ (destination, "", account)  lanes in the store alone: no goroutine, no window
//	        it connects to H ─▶ its blocks move to (destination, H, account), which begins to send after that
//	        it disconnects, or connects to another hub ─▶ the lanes of H end with their calls, and are parked
//
// No call was ever made of what waits in a lane without a hub. Blocks keep their ids, and ids order all that waits for a person: so they leave before what came when the account was connected
// already, also where the lanes of H existed before.

// change is an account of an app of which the hub, or whether it takes calls, may be another now.
type change struct{ app, account string }

// Connected is to be called when a connection has changed: an account of an app is connected, to this hub or another one, or is so no longer. Its lanes follow, and those that
// wait for it try at once. It waits for nothing.
func (r *Router) Connected(app, account string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start == nil {
		return // Run begins with how it is then
	}
	r.changed[change{app, account}] = true
	if r.interrupt != nil {
		r.interrupt()
	}
}

// waitsForHub says whether a lane holds what waits until its account is connected.
func waitsForHub(name store.LaneName, route *Route) bool {
	return route.Connection != "" && name.Hub == "" && !isUnsorted(name)
}

// reconnect has the lanes of accounts follow what has changed. The sorter calls it between two batches.
func (r *Router) reconnect(stop <-chan struct{}, changed map[change]bool) error {
	t := r.table.Load()
	if len(changed) == 0 || !t.connected {
		return nil
	}
	var again []*account
	r.mu.Lock()
	for _, a := range r.accounts {
		if !changed[change{a.route.Connection, a.name}] || a.route.Connection == "" {
			continue
		}
		if a.route.Destination.Hub(a.name) != a.hub {
			r.retireLocked(a)
		} else {
			again = append(again, a)
		}
	}
	r.mu.Unlock()
	for c := range changed {
		for _, route := range t.routes {
			if route.Connection != c.app {
				continue
			}
			hub := route.Destination.Hub(c.account)
			if hub == "" {
				continue
			}
			r.join(route, hub, c.account)
			if err := r.takeUpAccount(stop, route, hub, c.account); err != nil {
				return err
			}
		}
	}
	for _, a := range again {
		a.probe(time.Now())
	}
	return nil
}

// findWaiting notes which accounts are waited for, and has what waits for those move that have connected since. It is called before accounts are made of what the store holds.
func (r *Router) findWaiting(t *table, concerned func(destination string) bool) {
	if !t.connected {
		return
	}
	for _, stored := range r.store.Lanes() {
		i := t.index(stored.Name.Destination)
		if stored.Entries == 0 || i < 0 || !concerned(stored.Name.Destination) || !waitsForHub(stored.Name, t.routes[i]) {
			continue
		}
		name := stored.Name.Account
		r.mu.Lock()
		r.noteWaitingLocked(accountName{stored.Name.Destination, "", name})
		r.mu.Unlock()
		if hub := t.routes[i].Destination.Hub(name); hub != "" {
			r.join(t.routes[i], hub, name)
		}
	}
}

// followHubs finds what has changed without a word: connections that expired, or whose change nobody told of.
func (r *Router) followHubs() {
	var changed []change
	r.mu.Lock()
	for _, a := range r.accounts {
		if a.route.Connection != "" && a.route.Destination.Hub(a.name) != a.hub {
			changed = append(changed, change{a.route.Connection, a.name})
		}
	}
	t := r.table.Load()
	for key := range r.waiting {
		if i := t.index(key.destination); i >= 0 && t.routes[i].Connection != "" && t.routes[i].Destination.Hub(key.account) != "" {
			changed = append(changed, change{t.routes[i].Connection, key.account})
		}
	}
	r.mu.Unlock()
	for _, c := range changed {
		r.Connected(c.app, c.account)
	}
}

// acquireAt is Acquire of a destination, at the account's hub where that may change at any time.
func (a *account) acquireAt(ctx context.Context, lane string) (destinations.Permit, error) {
	if connected, ok := a.route.Destination.(destinations.Connected); ok {
		return connected.AcquireAt(ctx, a.hub, a.name, lane)
	}
	return a.route.Destination.Acquire(ctx, a.name, lane)
}

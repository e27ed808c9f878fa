package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// Reload replaces the routes, at any time. A destination is known by its name. What becomes of it:
//
//   - The same Destination value, Type and Retry as before: its lanes, calls, pauses and blocks go on as they are. Enrichment, Transform, Match, Filter, APIKeys and Lanes are those of
//     the new route from now on.
//   - Another Destination, Type or Retry: calls in flight finish, within their own time limits, and are recorded, and nothing new is sent meanwhile. Then
//     its lanes go on with the new one, and at once: blocked lanes are tried, and so is what waits for a retry. What belongs to another hub is parked.
//   - No route any more: calls in flight finish, and its lanes are parked until there is one again.
//   - A new name: its lanes are made, or go on if the store has any, as after a start.
//
// Events that are accepted after Reload has returned are sorted by the new routes. Reload waits for nothing; of several calls the last counts. An error means
// that the routes are as they were. [Router.Status] shows which lanes wait for calls that began before.
func (r *Router) Reload(routes []Route) error {
	if err := checkRoutes(routes); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.start == nil { // before Run
		r.table.Store(r.nextTableLocked(r.table.Load(), routes))
		return nil
	}
	r.wanted = append([]Route{}, routes...)
	if r.interrupt != nil {
		r.interrupt()
	}
	return nil
}

// Probe has all lanes that are blocked, or pause because calls fail, try one call at once, where the destination has not said until when. Routes that Reload was
// given before are in force then. For a person who has put right what blocked them.
func (r *Router) Probe() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probing = true
	if r.interrupt != nil {
		r.interrupt()
	}
}

func checkRoutes(routes []Route) error {
	names := map[string]bool{}
	for _, route := range routes {
		if route.Destination == nil {
			return fmt.Errorf("BUG: the route of %q has no destination", route.Name)
		}
		if names[route.Name] {
			return fmt.Errorf("destination %q is routed twice", route.Name)
		}
		names[route.Name] = true
	}
	return nil
}

// table is the routes that are in force. A reload makes another.
type table struct {
	routes []*Route
	asides []*aside // by route, nil for most; the sorter's own once Run has begun, which changes them with Router.mu held
	byName map[string]int

	connected bool // a route delivers to accounts
}

// index returns the place of a destination's route, -1 when it has none.
func (t *table) index(name string) int {
	if i, ok := t.byName[name]; ok {
		return i
	}
	return -1
}

// has says whether the destination of a route is in force, perhaps with another filter.
func (t *table) has(route *Route) bool {
	i := t.index(route.Name)
	return i >= 0 && t.routes[i].epoch == route.epoch
}

// nextTableLocked makes the table of new routes. One that has not changed stays the same, with its aside; one whose destination has not changed keeps its epoch.
func (r *Router) nextTableLocked(old *table, routes []Route) *table {
	t := &table{routes: make([]*Route, len(routes)), asides: make([]*aside, len(routes)), byName: make(map[string]int, len(routes))}
	for i := range routes {
		route := routes[i]
		t.routes[i], t.byName[route.Name] = &route, i
		t.connected = t.connected || route.Connection != ""
		j := old.index(route.Name)
		route.filtering = make(chan struct{}, 1)
		if j >= 0 && (same(route.Transform, old.routes[j].Transform) || same(route.Filter, old.routes[j].Filter)) {
			route.filtering = old.routes[j].filtering // an aside of the former route may be at work with what they share
		}
		if j < 0 || !sameDestination(&route, old.routes[j]) {
			r.epochs++
			route.epoch = r.epochs
			continue
		}
		route.epoch = old.routes[j].epoch
		if sameSorting(&route, old.routes[j]) {
			t.routes[i], t.asides[i] = old.routes[j], old.asides[j]
		}
	}
	return t
}

// sameDestination says whether the lanes of a destination can go on as they are.
func sameDestination(a, b *Route) bool {
	return a.Type == b.Type && a.Connection == b.Connection && a.Retry == b.Retry && same(a.Destination, b.Destination)
}

// sameSorting says whether two routes of one destination make the same of each event, with the same limits.
func sameSorting(a, b *Route) bool {
	return a.Enrichment == b.Enrichment && a.Account == b.Account && a.UnknownTTL == b.UnknownTTL && a.UnknownAccounts == b.UnknownAccounts && same(a.Transform, b.Transform) && a.Match == b.Match && same(a.Filter, b.Filter) && a.Lanes == b.Lanes && (a.APIKeys == nil) == (b.APIKeys == nil) && maps.Equal(a.APIKeys, b.APIKeys) && slices.Equal(a.Notices, b.Notices)
}

// same compares two values of an interface type; those that can not be compared differ.
func same(a, b any) bool {
	if a == nil || b == nil {
		return a == b
	}
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// nextRead takes up the routes that Reload was given last, and returns a context for the sorter's reading, which ends when there are others, or lanes are to be
// probed. The sorter calls it between two batches. h is nil before the first.
func (r *Router) nextRead(ctx context.Context, h *handover) (context.Context, error) {
	r.mu.Lock()
	routes, probing, changed, ending := r.wanted, r.probing, r.changed, r.ending
	r.wanted, r.probing = nil, false
	if len(changed) > 0 {
		r.changed = map[change]bool{}
	} else {
		changed = nil // that map is still written to
	}
	if r.interrupt != nil {
		r.interrupt() // frees the last one
	}
	ctx, r.interrupt = context.WithCancel(ctx)
	r.mu.Unlock()
	r.doErrands()
	if routes != nil {
		if err := r.reroute(h, routes); err != nil {
			return ctx, err
		}
	}
	if err := r.reconnect(ending, changed); err != nil {
		return ctx, err
	}
	if probing {
		for _, a := range r.allAccounts() { // not those that retire: who comes after them waits for their calls
			a.probe(time.Now())
		}
	}
	return ctx, nil
}

// reroute puts routes in force. What is in the hands of the former ones ends by itself: see account.run and left.
func (r *Router) reroute(h *handover, routes []Route) error {
	r.routing <- struct{}{}
	defer func() { <-r.routing }()
	old := r.table.Load()
	r.mu.Lock()
	t := r.nextTableLocked(old, routes)
	r.table.Store(t)
	for key, a := range r.accounts {
		if t.has(a.route) {
			continue
		}
		delete(r.accounts, key)
		if a.begun {
			r.retiring[key] = a
			a.retire()
		}
	}
	for j, a := range old.asides {
		i := t.index(old.routes[j].Name)
		if a == nil || i >= 0 && t.asides[i] == a {
			continue
		}
		if a.begun {
			r.leaving[a.route.Name] = a
			a.leave()
		}
	}
	r.mu.Unlock()
	for j, a := range old.asides {
		if i := t.index(old.routes[j].Name); i >= 0 && a != nil && t.asides[i] == nil {
			r.aside(t, i).active.Store(a.active.Load())
		}
	}
	if h != nil {
		h.reroute(t)
	}
	changed := func(name string) bool {
		i, j := t.index(name), old.index(name)
		return (i >= 0) != (j >= 0) || i >= 0 && t.routes[i].epoch != old.routes[j].epoch
	}
	found, err := r.takeUpLanes(changed)
	if err != nil {
		return err
	}
	r.mend(found)
	select {
	case r.rerouted <- struct{}{}:
	default:
	}
	return nil
}

// mend has the accounts of a destination that a reload has changed begin.
func (r *Router) mend(accounts []*account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range accounts {
		if !a.begun {
			a.mended = true
			r.beginLocked(a)
		}
	}
}

// left is called when an aside has ended because another route is in force: who waited for it begins. What it handed over last may be in lanes of accounts
// that nobody has made since.
func (r *Router) left(a *aside) error {
	name := a.route.Name
	found, err := r.storedAccounts(r.table.Load(), func(destination string) bool { return destination == name })
	if err != nil {
		return err
	}
	r.mu.Lock()
	if r.leaving[name] != a {
		r.mu.Unlock()
		return errors.New("BUG: two asides of one destination")
	}
	delete(r.leaving, name)
	t := r.table.Load()
	if i := t.index(name); i >= 0 && t.asides[i] != nil {
		r.beginAsideLocked(t.asides[i])
	}
	r.mu.Unlock()
	r.mend(found)
	return nil
}

// reroute goes on with other routes, between two batches. What is measured of a destination stays.
func (h *handover) reroute(t *table) {
	spent, shares := make([]time.Duration, len(t.routes)), make([]share, len(t.routes))
	for i, route := range t.routes {
		if j := h.table.index(route.Name); j >= 0 {
			spent[i], shares[i] = h.spent[j], h.shares[j]
		}
	}
	h.table, h.spent, h.shares, h.owners = t, spent, shares, make([]owner, len(t.routes))
	h.count = newCounts(h.r, t)
	h.newWorlds()
}

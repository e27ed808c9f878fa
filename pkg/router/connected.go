package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

// hubOf is the hub to which a plan goes, for one batch the same of all of an account: else what came first could be handed over last.
func (h *handover) hubOf(route *Route, name string) string {
	if route.Connection == "" {
		return route.Destination.Hub(name)
	}
	key := accountName{destination: route.Name, account: name}
	hub, ok := h.hubs[key]
	if !ok {
		hub = route.Destination.Hub(name)
		h.hubs[key] = hub
	}
	return hub
}

// connectedAccount returns the account of a route that delivers to accounts, and keeps it from being retired until the batch is committed.
func (h *handover) connectedAccount(route *Route, hub, name string) (*account, error) {
	key := accountName{route.Name, hub, name}
	if a := h.used[key]; a != nil {
		return a, nil
	}
	r := h.r
	if hub == "" {
		a, err := newAccount(r, route, hub, name)
		if err == nil {
			a.detached = true
			h.used[key] = a
			r.mu.Lock()
			r.waiting[key] = true
			r.mu.Unlock()
		}
		return a, err
	}
	if err := r.join(h.stop, route, hub, name); err != nil {
		return nil, err
	}
	a, err := r.useAccount(route, hub, name)
	if err == nil {
		h.used[key] = a
		r.begin([]*account{a})
	}
	return a, err
}

// useAccount returns an account that is not retired before release is called.
func (r *Router) useAccount(route *Route, hub, name string) (*account, error) {
	key := accountName{route.Name, hub, name}
	for {
		r.mu.Lock()
		a := r.accounts[key]
		if a != nil && a.route.epoch == route.epoch {
			a.users++
			a.uses++
			r.mu.Unlock()
			return a, nil
		}
		r.mu.Unlock()
		a, err := r.makeAccount(route, hub, name)
		if err != nil || a.detached {
			return a, err
		}
	}
}

// letGoOfAccounts ends the use of the accounts of a batch that was committed, or never will be.
func (h *handover) letGoOfAccounts() {
	if len(h.used) == 0 {
		return
	}
	r := h.r
	for key, a := range h.used {
		if a.detached && key.hub == "" {
			// It may have connected meanwhile, and the sorter may have moved what waited before this batch.
			if a.route.Destination.Hub(key.account) != "" {
				r.mu.Lock()
				r.waiting[key] = true
				r.mu.Unlock()
				r.Connected(a.route.Connection, key.account)
			}
			continue
		}
		r.mu.Lock()
		a.users--
		now := r.accounts[key]
		r.mu.Unlock()
		switch now {
		case a:
		case nil: // it ended while this batch was on its way; if it is connected to that hub, nobody may have seen the batch
			r.Connected(a.route.Connection, key.account)
		default: // it was made meanwhile
			now.lookAgain()
		}
	}
	clear(h.used)
}

// lookAgain has the account's lanes look into the store.
func (a *account) lookAgain() {
	for _, l := range a.lanes {
		for _, s := range l.streams() {
			if stored, ok := a.router.store.Lane(s.name); ok {
				s.id.Store(int64(stored.ID))
				a.mu.Lock()
				s.more = true
				s.announced++
				a.mu.Unlock()
			}
		}
		l.poke()
	}
}

// join moves what waited for an account to the lanes of the hub that it is connected to now. It returns when that is on disk, and waits for room there. What goes to the hub is not loaded
// meanwhile: lanes load blocks in the order of their ids.
func (r *Router) join(stop <-chan struct{}, route *Route, hub, name string) error {
	unknown, key := accountName{route.Name, "", name}, accountName{route.Name, hub, name}
	r.mu.Lock()
	waits := r.waiting[unknown]
	r.mu.Unlock()
	if !waits {
		return nil
	}
	r.joinTurn <- struct{}{}
	defer func() { <-r.joinTurn }()
	r.mu.Lock()
	if waits = r.waiting[unknown]; waits {
		r.joining[key] = true
		if a := r.accounts[key]; a != nil {
			r.retireLocked(a)
		}
	}
	r.mu.Unlock()
	if !waits {
		return nil
	}
	r.joins.Add(1)
	moved, err := r.moveLanes(stop, route, hub, name)
	r.mu.Lock()
	delete(r.joining, key)
	if err == nil {
		delete(r.waiting, unknown)
	}
	if a := r.accounts[key]; a != nil && err == nil { // made for a batch meanwhile
		a.mended = true
		r.beginLocked(a)
	}
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if moved > 0 {
		r.logger.Info("an account is connected: what waited for it is on its way", "destination", route.Name, "hub", hub, "account", name, "entries", moved)
	}
	return r.takeUpAccount(stop, route, hub, name)
}

// moveLanes moves all blocks that wait for an account, in steps, each of which is durable as a whole: what a crash interrupts goes on at the next start, before anything is sent.
func (r *Router) moveLanes(stop <-chan struct{}, route *Route, hub, name string) (moved int64, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, stored := range r.store.Lanes() {
		n := stored.Name
		if n.Destination != route.Name || n.Hub != "" || n.Account != name || stored.Entries == 0 || isUnsorted(n) {
			continue
		}
		n.Hub = hub
		err := r.untilRoom(stop, func() error {
			to, err := r.store.LaneID(n)
			for after := store.BlockID(0); err == nil; {
				var blocks []store.StoredBlock
				if blocks, err = r.readBlocks(ctx, stored.ID, &after); err != nil || len(blocks) == 0 {
					break
				}
				err = r.store.MoveBlocks(ctx, stored.ID, to, blocks)
			}
			return err
		})
		if err != nil {
			return moved, fmt.Errorf("move lane %s of account %s of %s: %w", n.Lane, name, route.Name, err)
		}
		moved += stored.Entries
	}
	return moved, nil
}

// takeUpAccount has an account begin, if the store holds anything for it.
func (r *Router) takeUpAccount(stop <-chan struct{}, route *Route, hub, name string) error {
	for _, spec := range route.Destination.Lanes() {
		for _, lane := range []string{spec.Name, spec.Name + bulkSuffix} {
			stored, ok := r.store.Lane(store.LaneName{Destination: route.Name, Hub: hub, Account: name, Lane: lane})
			if !ok || stored.Entries == 0 {
				continue
			}
			var a *account
			if err := r.untilRoom(stop, func() (err error) { a, err = r.makeAccount(route, hub, name); return err }); err != nil {
				return err
			}
			r.mend([]*account{a})
			return nil
		}
	}
	return nil
}

// retireLocked takes an account out of force. Its calls end, and whoever comes next waits for that.
func (r *Router) retireLocked(a *account) {
	delete(r.accounts, a.key())
	if a.begun {
		r.retiring[a.key()] = a
		a.retire()
	}
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
			if err := errors.Join(r.join(stop, route, hub, c.account), r.takeUpAccount(stop, route, hub, c.account)); err != nil {
				return err
			}
		}
	}
	for _, a := range again {
		a.probe(time.Now())
	}
	return nil
}

// findWaiting notes which accounts are waited for, and moves what waits for those that have connected since. It is called before accounts are made of what the store holds.
func (r *Router) findWaiting(t *table, stop <-chan struct{}, concerned func(destination string) bool) error {
	if !t.connected {
		return nil
	}
	for _, stored := range r.store.Lanes() {
		i := t.index(stored.Name.Destination)
		if stored.Entries == 0 || i < 0 || !concerned(stored.Name.Destination) || !waitsForHub(stored.Name, t.routes[i]) {
			continue
		}
		name := stored.Name.Account
		r.mu.Lock()
		r.waiting[accountName{stored.Name.Destination, "", name}] = true
		r.mu.Unlock()
		if hub := t.routes[i].Destination.Hub(name); hub != "" {
			if err := r.join(stop, t.routes[i], hub, name); err != nil {
				return err
			}
		}
	}
	return nil
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

const (
	reasonUnknownAccount = "unknown_account" // of dead letters
	// mostGivenUp is how many entries are given up at a time.
	mostGivenUp = 5000
)

// giveUpWaiting makes dead letters of what has waited too long for an account to connect, or of the oldest of what is too much.
func (r *Router) giveUpWaiting(ctx context.Context, stored store.Lane, route *Route, now time.Time) error {
	var before time.Time // what was received before; zero: nothing
	if ttl := route.UnknownTTL; ttl > 0 {
		before = now.Add(-ttl)
	}
	why := fmt.Errorf("the account %s has not connected within %s (unknown_account_ttl)", stored.Name.Account, route.UnknownTTL)
	reason, most := reasonUnknownAccount, mostGivenUp
	full := over(stored, route.Lanes, now)
	if full {
		why, reason = errLaneFull, reasonLaneFull
		before = now.Add(-route.Lanes.MaxAge)
		if limit := route.Lanes.MaxBytes; limit > 0 && stored.Bytes >= limit {
			before, most = now.Add(time.Hour), max(100, int(stored.Entries/10))
		}
	}
	if !full && (before.IsZero() || stored.Oldest.IsZero() || !stored.Oldest.Before(before)) || r.lettersFull(route.Name, 0) {
		return nil
	}
	r.routing.Lock()
	defer r.routing.Unlock()
	r.joinTurn <- struct{}{} // nothing moves meanwhile
	defer func() { <-r.joinTurn }()
	after := store.BlockID(0)
	blocks, err := r.readBlocks(ctx, stored.ID, &after)
	if err != nil {
		return fmt.Errorf("read lane %s of %s: %w", stored.Name.Lane, stored.Name.Destination, err)
	}
	return r.buryWaiting(ctx, stored, blocks, func(e *entry) error {
		if most--; most >= 0 && e.Event.Received.Before(before) {
			return why
		}
		return nil
	}, reason, now)
}

// buryWaiting makes dead letters of entries that no lane has loaded, where why says so.
func (r *Router) buryWaiting(ctx context.Context, l store.Lane, blocks []store.StoredBlock, why func(*entry) error, reason string, now time.Time) error {
	batch := store.Batch{}
	for i := range blocks {
		b := &blocks[i]
		entries, err := decodeBlock(b.Data, l.Name.Destination, l.Name.Account, strings.TrimSuffix(l.Name.Lane, bulkSuffix))
		if err != nil {
			return fmt.Errorf("lane %s of %s, block %d: %w", l.Name.Lane, l.Name.Destination, b.ID, err)
		}
		done := newBitmap(len(entries), b.Done)
		progress := store.Progress{Lane: l.ID, Block: b.ID, Done: done}
		for j, e := range entries {
			if done.has(j) {
				continue
			}
			cause := why(e)
			if cause == nil {
				continue
			}
			done.set(j)
			progress.Finished++
			if r.forgetsEntry(e) {
				continue
			}
			d := r.parkedLetter(l.Name, nil, e, now)
			d.Reason, d.Error = reason, cut(cause.Error(), 2000)
			batch.DeadLetters = append(batch.DeadLetters, d)
			if r.records() {
				batch.Outcomes = recordDead(batch.Outcomes, &d)
			}
		}
		if progress.Finished > 0 {
			batch.Progress = append(batch.Progress, progress)
		}
	}
	if len(batch.Progress) == 0 {
		return nil
	}
	if err := r.commit(ctx, &batch); err != nil {
		return fmt.Errorf("give up what waits for account %s of %s: %w", l.Name.Account, l.Name.Destination, err)
	}
	for range batch.DeadLetters {
		r.metrics.dead(&Route{Name: l.Name.Destination}, reason)
	}
	r.watcher.Settled(batch.Outcomes)
	return nil
}

// giveUpUnknown gives up what has waited too long for accounts to connect.
func (r *Router) giveUpUnknown(ctx context.Context, now time.Time) error {
	r.mu.Lock()
	waiting := len(r.waiting) > 0
	r.mu.Unlock()
	t := r.table.Load()
	if !waiting || !t.connected {
		return nil
	}
	for _, stored := range r.store.Lanes() {
		i := t.index(stored.Name.Destination)
		if stored.Entries == 0 || i < 0 || !waitsForHub(stored.Name, t.routes[i]) {
			continue
		}
		if err := r.giveUpWaiting(ctx, stored, t.routes[i], now); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	return nil
}

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

// acquireAt is Acquire of a destination, at the account's hub where that may change at any time.
func (a *account) acquireAt(ctx context.Context, lane string) (destinations.Permit, error) {
	if connected, ok := a.route.Destination.(destinations.Connected); ok {
		return connected.AcquireAt(ctx, a.hub, a.name, lane)
	}
	return a.route.Destination.Acquire(ctx, a.name, lane)
}

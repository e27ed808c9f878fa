package router

import (
	"context"
	"fmt"

	"eventrouter/pkg/store"
)

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

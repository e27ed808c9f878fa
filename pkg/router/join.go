package router

import (
	"context"
	"fmt"
	"slices"

	"eventrouter/pkg/store"
)

// pieceBytes is how much of what waited for an account moves at a time: others' events wait meanwhile. A block is moved whole.
const pieceBytes = 256 << 10

// move is what waits for an account on its way to the lanes of its hub.
type move struct {
	route   *Route
	hub     string
	account string
	begun   int64                          // by the order of this those of one account, to several hubs, are made
	upTo    map[store.LaneID]store.BlockID // by lane: what waited when the first piece was moved; nil: none was
	moved   int64                          // entries
}

func (m *move) unknown() accountName { return accountName{m.route.Name, "", m.account} }
func (m *move) key() accountName     { return accountName{m.route.Name, m.hub, m.account} }

// join has what waited for an account move to the lanes of the hub that it is connected to now. The sorter moves it piece by piece, between batches. Nothing that goes to the hub is loaded before
// all is there, and lanes load blocks in the order of their ids: so what comes meanwhile is handed over to the hub's lanes at once, and leaves behind what still moves.
func (r *Router) join(route *Route, hub, name string) {
	m := &move{route: route, hub: hub, account: name}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.waiting[m.unknown()] || r.joining[m.key()] {
		return
	}
	r.joining[m.key()] = true
	if a := r.accounts[m.key()]; a != nil {
		r.retireLocked(a)
	}
	r.begunMoves++
	m.begun = r.begunMoves
	r.moves = append(r.moves, m)
	if r.interrupt != nil {
		r.interrupt()
	}
}

// moveSome moves a piece of what waited for an account, by turns of each, and says whether there is more to move. The sorter calls it between two batches.
func (r *Router) moveSome(stop <-chan struct{}) (more bool, err error) {
	m := r.nextMove()
	if m == nil {
		return false, nil
	}
	select {
	case r.joinTurn <- struct{}{}:
		defer func() { <-r.joinTurn }()
	case <-stop:
		return false, context.Canceled
	}
	t := r.table.Load()
	i := t.index(m.route.Name)
	if i < 0 || t.routes[i].Connection == "" { // no longer: a reload
		r.mu.Lock()
		delete(r.joining, m.key())
		r.mu.Unlock()
		return true, nil
	}
	m.route = t.routes[i]
	r.joins.Add(1)
	done := false
	err = r.untilRoom(stop, func() (err error) { done, err = r.movePiece(m); return err })
	if err != nil {
		return false, fmt.Errorf("move what waited for account %s of %s: %w", m.account, m.route.Name, err)
	}
	if !done {
		r.mu.Lock()
		r.moves = append(r.moves, m)
		r.mu.Unlock()
		return true, nil
	}
	there := r.endMove(m)
	if m.moved > 0 {
		r.logger.Info("an account is connected: what waited for it is on its way", "destination", m.route.Name, "hub", m.hub, "account", m.account, "entries", m.moved)
	}
	if there {
		err = r.takeUpAccount(stop, m.route, m.hub, m.account)
	}
	return true, err
}

// nextMove takes the next move that no earlier one of its account stands before; nil: there is none.
func (r *Router) nextMove() *move {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range r.moves {
		if !slices.ContainsFunc(r.moves, func(o *move) bool { return o.unknown() == m.unknown() && o.begun < m.begun }) {
			r.moves = slices.Delete(r.moves, i, i+1)
			return m
		}
	}
	return nil
}

// movePiece moves the next blocks of a lane, in one transaction: what a crash interrupts goes on at the next start, before anything is sent. done says that none are left. Of an account that is not
// connected to the hub any more all goes there that waited when it was, and is parked: what was moved came before it.
func (r *Router) movePiece(m *move) (done bool, err error) {
	ctx := context.Background()
	there := m.route.Destination.Hub(m.account) == m.hub
	waiting := r.waitingLanes(m)
	if m.upTo == nil {
		if !there {
			return true, nil
		}
		m.upTo = map[store.LaneID]store.BlockID{}
		for _, stored := range waiting {
			if m.upTo[stored.ID], err = r.store.LastBlock(stored.ID); err != nil {
				return false, err
			}
		}
	}
	for _, stored := range waiting {
		after := store.BlockID(0)
		blocks, err := r.readSome(ctx, stored.ID, &after, min(r.readBytes, pieceBytes))
		if err != nil {
			return false, err
		}
		for !there && len(blocks) > 0 && blocks[len(blocks)-1].ID > m.upTo[stored.ID] {
			blocks = blocks[:len(blocks)-1]
		}
		if len(blocks) == 0 {
			continue
		}
		name := stored.Name
		name.Hub = m.hub
		to, err := r.store.LaneID(name)
		if err == nil {
			err = r.store.MoveBlocks(ctx, stored.ID, to, blocks)
		}
		if err != nil {
			return false, fmt.Errorf("lane %s: %w", name.Lane, err)
		}
		left, _ := r.store.Lane(stored.Name)
		m.moved += stored.Entries - left.Entries
		return false, nil
	}
	return true, nil
}

// waitingLanes are those with something that waits for the account.
func (r *Router) waitingLanes(m *move) (lanes []store.Lane) {
	for _, spec := range m.route.Destination.Lanes() {
		for _, lane := range []string{spec.Name, spec.Name + bulkSuffix} {
			stored, ok := r.store.Lane(store.LaneName{Destination: m.route.Name, Account: m.account, Lane: lane})
			if ok && stored.Entries > 0 {
				lanes = append(lanes, stored)
			}
		}
	}
	return lanes
}

// endMove lets the account begin, if it is still connected there.
func (r *Router) endMove(m *move) (there bool) {
	left := len(r.waitingLanes(m)) > 0
	there = m.route.Destination.Hub(m.account) == m.hub
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.joining, m.key())
	if !left {
		r.endWaitingLocked(m.unknown())
	}
	if a := r.accounts[m.key()]; a != nil && there { // made for a batch meanwhile
		a.mended = true
		r.beginLocked(a)
	}
	return there
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

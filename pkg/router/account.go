package router

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"eventrouter/pkg/store"
)

// account is one account of a destination: its lanes, and who waits for whom in them.
type account struct {
	router *Router
	route  *Route
	hub    string
	name   string
	lanes  []*lane       // in the order of the destination's specs
	gate   *gate         // its calls need a place in it; nil: they do not
	worked *atomic.Int64 // shared by all accounts of the hub: see Router.worked

	// Guarded by Router.mu.
	begun    bool               // its goroutines run, or have ended
	retire   context.CancelFunc // ends them, once their calls have
	mended   bool               // made by a reload: takes up what the store holds, and tries at once what waits for a retry
	detached bool               // of a route that is no longer in force: it only lends its lanes

	users int    // hand-overs on their way to it; it is not retired meanwhile
	uses  uint64 // that there ever were

	mu      sync.Mutex // guards the fields below and those of the lanes that say so
	persons map[string]*person
	idle    time.Time // since when it has had nothing to do; zero: it has
}

// person is one identity with what is unfinished for it, by lane.
type person struct {
	identity string
	queues   []queue // indexed as account.lanes
}

func newAccount(r *Router, route *Route, hub, name string) (*account, error) {
	a := &account{router: r, route: route, hub: hub, name: name, gate: r.gateOf(route), worked: r.workedOf(route.Name, hub), persons: map[string]*person{}}
	for i, spec := range route.Destination.Lanes() {
		full := store.LaneName{Destination: route.Name, Hub: hub, Account: name, Lane: spec.Name}
		l := newLane(a, i, full, spec)
		a.lanes = append(a.lanes, l)
		if waitsForHub(full, route) {
			continue // nobody sends what is in it
		}
		if _, err := l.live.open(); err != nil {
			return nil, err
		}
		l.before = storedBlock(r.store, full)
	}
	return a, nil
}

// ticks is t, a time of this process, as nanoseconds from 1 on: by the monotonic clock, so that it may be compared also where the clock was set meanwhile.
func (r *Router) ticks(t time.Time) int64 { return int64(t.Sub(r.made)) + 1 }

// workedOf returns when a call to a hub last went through, in ticks; 0: none has.
func (r *Router) workedOf(destination, hub string) *atomic.Int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := accountName{destination: destination, hub: hub}
	if r.worked[key] == nil {
		r.worked[key] = &atomic.Int64{}
	}
	return r.worked[key]
}

// account returns the account of a route, making and beginning it when it is new. By a route that is no longer in force, which an aside that is leaving
// may go by, it is made for this one hand-over: its lanes in the store get the entries, and who is in force then finds them there.
func (h *handover) account(route *Route, hub, name string) (*account, error) {
	if route.Connection != "" {
		return h.connectedAccount(route, hub, name)
	}
	r, key := h.r, accountName{route.Name, hub, name}
	r.mu.Lock()
	a := r.accounts[key]
	r.mu.Unlock()
	if a != nil && a.route.epoch == route.epoch {
		return a, nil
	}
	if a := h.detached[key]; a != nil {
		return a, nil
	}
	a, err := r.makeAccount(route, hub, name)
	if err != nil {
		return nil, err
	}
	if a.detached {
		h.detached[key] = a
	} else {
		r.begin([]*account{a})
	}
	return a, nil
}

// makeAccount returns the account of a route, making it when it is new.
func (r *Router) makeAccount(route *Route, hub, name string) (*account, error) {
	made, err := newAccount(r, route, hub, name)
	if err != nil {
		return nil, err
	}
	left := false
	if route.Connection != "" {
		if left, err = made.stored(); err != nil {
			return nil, err
		}
	}
	key := accountName{route.Name, hub, name}
	r.mu.Lock()
	defer r.mu.Unlock()
	if t := r.table.Load(); !t.has(route) {
		made.detached = true
		return made, nil
	}
	if a := r.accounts[key]; a != nil {
		return a, nil
	}
	made.mended = r.retiring[key] != nil || r.leaving[route.Name] != nil || left
	r.accounts[key] = made
	return made, nil
}

// untilRoom does what writes to the store beside a batch: it makes a lane. A disk without room is waited for, as for a commit, and whatever else fails ends the
// router: no event is a dead letter for it. When stop is closed it returns context.Canceled.
func (r *Router) untilRoom(stop <-chan struct{}, do func() error) error {
	for told := false; ; told = true {
		err := do()
		if !errors.Is(err, store.ErrFull) {
			return err
		}
		if !told {
			r.logger.Error(diskFull, "error", err.Error())
		}
		select {
		case <-time.After(time.Second):
		case <-stop:
			return context.Canceled
		}
	}
}

// storedAccounts makes the accounts of the lanes that the store has for those destinations that are concerned. It waits for a disk that is full.
func (r *Router) storedAccounts(t *table, concerned func(destination string) bool) (found []*account, err error) {
	r.mu.Lock()
	ending := r.ending
	r.mu.Unlock()
	seen := map[accountName]bool{}
	for _, stored := range r.store.Lanes() {
		n := stored.Name
		key := accountName{n.Destination, n.Hub, n.Account}
		i := t.index(n.Destination)
		if i < 0 || seen[key] || isUnsorted(n) || !concerned(n.Destination) || r.parked(n, t.routes[i]) || waitsForHub(n, t.routes[i]) {
			continue
		}
		seen[key] = true
		err := r.untilRoom(ending, func() error {
			a, err := r.makeAccount(t.routes[i], n.Hub, n.Account)
			if err == nil {
				found = append(found, a)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// begin has accounts begin, now or when what they wait for has ended.
func (r *Router) begin(accounts []*account) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range accounts {
		r.beginLocked(a)
	}
}

// beginLocked has an account begin, unless something of a former route has to end first: then that calls it again.
func (r *Router) beginLocked(a *account) {
	if !a.begun && !a.detached && !r.joining[a.key()] && r.retiring[a.key()] == nil && r.leaving[a.route.Name] == nil {
		a.begun = true
		r.start(a)
	}
}

// run starts the account's goroutines, and what waits for their end after it.
func (a *account) run(ctx, sendCtx context.Context, g *errgroup.Group) {
	r := a.router
	ctx, a.retire = context.WithCancel(ctx)
	g.Go(func() error {
		if a.mended {
			left, err := r.leftovers()
			if err != nil {
				return err
			}
			a.takeUp(left)
		}
		var lanes sync.WaitGroup
		for _, l := range a.lanes {
			lanes.Add(2)
			g.Go(func() error { defer lanes.Done(); return l.dispatch(ctx, sendCtx) })
			g.Go(func() error { defer lanes.Done(); return l.settleAll(sendCtx) })
		}
		lanes.Wait()
		a.dropWindows()
		r.mu.Lock()
		defer r.mu.Unlock()
		a.retire()
		if r.retiring[a.key()] == a {
			delete(r.retiring, a.key())
			if next := r.accounts[a.key()]; next != nil {
				r.beginLocked(next)
			}
		}
		return nil
	})
}

// stored says whether the store holds anything for the account: entries, or holds of persons, of whom a call may still be carried out that had no answer.
func (a *account) stored() (bool, error) {
	st := a.router.store
	for _, l := range a.lanes {
		for _, s := range l.streams() {
			if stored, ok := st.Lane(s.name); ok && stored.Entries > 0 {
				return true, nil
			}
		}
		if l.live.laneID() == 0 {
			continue
		}
		held, err := st.Held(l.live.laneID(), time.Now())
		if err != nil {
			return false, fmt.Errorf("lane %s of account %s of %s: %w", l.spec.Name, a.name, a.route.Name, err)
		}
		if held {
			return true, nil
		}
	}
	return false, nil
}

// leftovers are what the store holds of lanes: with unfinished entries or without, calls that were in flight, and holds of keys.
type leftovers struct {
	lanes map[accountName][]store.Lane
	calls []store.Call
	of    map[store.BlockID]store.LaneID // of the calls' entries
	holds []store.Hold
}

func (r *Router) leftovers() (*leftovers, error) {
	left := &leftovers{lanes: map[accountName][]store.Lane{}}
	for _, stored := range r.store.Lanes() {
		n := stored.Name
		key := accountName{n.Destination, n.Hub, n.Account}
		left.lanes[key] = append(left.lanes[key], stored)
	}
	var err error
	if left.calls, err = r.store.Calls(); err != nil {
		return nil, fmt.Errorf("read calls in flight: %w", err)
	}
	if left.holds, err = r.store.Holds(); err != nil {
		return nil, fmt.Errorf("read holds: %w", err)
	}
	if left.of, err = r.store.BlockLanes(left.calls); err != nil {
		return nil, fmt.Errorf("read blocks of calls in flight: %w", err)
	}
	return left, nil
}

// takeUp takes up what is left of the account's lanes, before its goroutines start. The sorter may hand over to them meanwhile.
func (a *account) takeUp(left *leftovers) {
	for _, stored := range left.lanes[a.key()] {
		s := a.stream(stored.Name.Lane)
		if s == nil {
			continue
		}
		s.id.Store(int64(stored.ID))
		a.mu.Lock()
		s.more = s.more || stored.Entries > 0
		a.mu.Unlock()
	}
	for _, l := range a.lanes {
		l.resume(left.calls, left.holds, left.of)
	}
}

// retired says whether the account is no longer in force, and only its calls in flight are waited for.
func (a *account) retired() bool {
	a.router.mu.Lock()
	defer a.router.mu.Unlock()
	return a.router.retiring[a.key()] == a
}

func (a *account) key() accountName { return accountName{a.route.Name, a.hub, a.name} }

func (a *account) lane(name string) *lane {
	for _, l := range a.lanes {
		if l.spec.Name == name {
			return l
		}
	}
	return nil
}

// stream finds a stream by the name of its lane in the store; nil where there is none.
func (a *account) stream(name string) *stream {
	for _, l := range a.lanes {
		for _, s := range l.streams() {
			if s.name.Lane == name {
				return s
			}
		}
	}
	return nil
}

// bulkKeyHash names a key for which only bulk entries were made: they may wait for long, so that live ones do not rely on them.
func (a *account) bulkKeyHash(key string) uint64 {
	return a.router.store.Hash("bulk key", a.route.Name, a.hub, a.name, key)
}

// keyHash names a key of this account among the store's known keys.
func (a *account) keyHash(key string) uint64 {
	return a.router.store.Hash("key", a.route.Name, a.hub, a.name, key)
}

// wakeFrom wakes the lanes from index i on: what a lane finishes may release entries of later ones.
func (a *account) wakeFrom(i int) {
	for _, l := range a.lanes[i:] {
		l.poke()
	}
}

// personLocked returns the person with identity, making it when it is new.
func (a *account) personLocked(identity string) *person {
	p := a.persons[identity]
	if p == nil {
		p = &person{identity: identity, queues: make([]queue, len(a.lanes))}
		a.persons[identity] = p
	}
	return p
}

// forgetHolds drops the holds that are over and says whether there were any.
func (a *account) forgetHolds(now time.Time) (ended bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.persons {
		for i := range p.queues {
			if hold := &p.queues[i].hold; !hold.IsZero() && hold.Before(now) {
				*hold, ended = time.Time{}, true
			}
		}
		a.forgetLocked(p, now)
	}
	return ended
}

// forgetLocked drops a person for whom nothing waits and nothing is held.
func (a *account) forgetLocked(p *person, now time.Time) {
	for i := range p.queues {
		if len(p.queues[i].entries) > 0 || p.queues[i].hold.After(now) {
			return
		}
	}
	delete(a.persons, p.identity)
}

package router

import (
	"sync"
	"time"

	"eventrouter/pkg/store"
)

// account is one account of a destination: its lanes, and who waits for whom in them.
type account struct {
	router *Router
	route  *Route
	hub    string
	name   string
	lanes  []*lane // in the order of the destination's specs

	mu      sync.Mutex // guards the fields below and those of the lanes that say so
	persons map[string]*person
}

// person is one identity with what is unfinished for it, by lane.
type person struct {
	identity string
	queues   []queue // indexed as account.lanes
}

func newAccount(r *Router, route *Route, hub, name string) (*account, error) {
	a := &account{router: r, route: route, hub: hub, name: name, persons: map[string]*person{}}
	for i, spec := range route.Destination.Lanes() {
		full := store.LaneName{Destination: route.Name, Hub: hub, Account: name, Lane: spec.Name}
		l := newLane(a, i, full, spec)
		if _, err := l.live.open(); err != nil {
			return nil, err
		}
		a.lanes = append(a.lanes, l)
	}
	return a, nil
}

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

package router

import (
	"slices"
	"strings"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// Reader finds out what a router remembers of events and persons, and leaves that as it is: what events teach, only the Reader learns. One goroutine
// owns it.
type Reader struct {
	store      *store.Store // nil: nothing is remembered
	identities personMemory
	seen       map[string]bool
	known      map[[4]string]bool
}

// NewReader reads the memory in st; nil: that of a router that is new.
func NewReader(st *store.Store) *Reader {
	r := &Reader{store: st, seen: map[string]bool{}, known: map[[4]string]bool{}}
	r.identities = personMemory{stored: r.storedIdentity, learned: map[identityKey]store.Identity{}}
	return r
}

// Take does to ev what the sorter does first, which has these routes: duplicate names in its JSON are resolved, and it gets the e-mail that is remembered of its ids. duplicate
// says that an event of its id has come before, so that the sorter would drop it.
func (r *Reader) Take(ev *event.Event, routes []*Route) (duplicate bool) {
	ev.JSON = event.Normalize(ev.JSON)
	var accounts []string
	for _, route := range routes {
		if own, _, err := route.Whose(ev); err == nil && own != ev && route.Takes(ev) && !slices.Contains(accounts, own.Account) {
			accounts = append(accounts, own.Account)
		}
	}
	slices.Sort(accounts)
	key := eventKey(ev, accounts)
	duplicate = r.seen[strings.Join(key, "\x00")] || r.store != nil && r.store.Seen(r.store.Hash(key...))
	r.seen[strings.Join(key, "\x00")] = true
	r.identities.resolve(ev)
	return duplicate
}

// Own is what a route gets of an event that Take has seen. Where it does not get it, the decision says why; else that has no status.
func (r *Reader) Own(route *Route, ev *event.Event) (*event.Event, Decision) {
	fresh := *ev
	var o owner
	o.event, o.skip, o.err = route.Whose(&fresh)
	if o.event == &fresh {
		o.event = ev
		return ev, o.decision()
	}
	o.event.Email = ""
	r.identities.resolve(o.event)
	return o.event, o.decision()
}

// Enters says whether the router would make a lane entry of p, in a lane of spec: IfNew makes one of a key that is new. The key counts as known from then on.
func (r *Reader) Enters(route *Route, spec *destinations.LaneSpec, p *destinations.Plan) bool {
	if p.Key == "" || !spec.MarksKeys {
		return true
	}
	name := [4]string{route.Name, route.Destination.Hub(p.Account), p.Account, p.Key}
	known := r.known[name]
	if !known && r.store != nil {
		known, _ = r.store.Known(r.store.Hash("key", name[0], name[1], name[2], name[3]))
	}
	r.known[name] = true
	return !p.IfNew || !known
}

// storedIdentity looks in the store. One that can not be read is as one that does not know.
func (r *Reader) storedIdentity(key identityKey) (store.Identity, bool) {
	if r.store == nil {
		return store.Identity{}, false
	}
	id, ok, err := r.store.Identity(key.apiKey, key.kind, key.value)
	return id, ok && err == nil
}

package router

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// customers is the destination of a torture that delivers to accounts. Of these each event has one or none:
//
//	late     connects some time, and stays so
//	restless disconnects and connects again
//	moving   does that with two hubs, and has what is parked of the one delivered when it has it again
const customers = "customers"

// hubsOf are the hubs of the accounts.
var hubsOf = map[string][]string{"late": {"l1"}, "restless": {"r1"}, "moving": {"m1", "m2"}}

var accountNames = []string{"late", "restless", "moving"}

// tenants delivers to the accounts of a torture. A victim is all hubs of an account: it knows contacts of two hubs by their hub, too.
type tenants struct{ x *torture }

func (d *tenants) Plan(ev *event.Event) ([]destinations.Plan, error) {
	plans, err := newRemote().Plan(ev)
	for i := range plans {
		plans[i].Account = ev.Account
	}
	return plans, err
}

func (d *tenants) Lanes() []destinations.LaneSpec { return d.x.victims["late"].remote.Lanes() }

func (d *tenants) Hub(account string) string {
	d.x.mu.Lock()
	defer d.x.mu.Unlock()
	return d.x.hubs[account]
}

func (d *tenants) Acquire(context.Context, string, string) (destinations.Permit, error) {
	panic("BUG: a destination of accounts is asked for a permit of no hub")
}

func (d *tenants) AcquireAt(_ context.Context, hub, account, _ string) (destinations.Permit, error) {
	if d.Hub(account) != hub {
		return nil, destinations.Block(errors.New("not connected"), destinations.AccountScope, time.Time{})
	}
	return hubPermit{hub, account}, nil
}

func (d *tenants) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	to := p.(hubPermit)
	if !slices.Contains(hubsOf[to.account], to.hub) {
		d.x.t.Errorf("hub %s is called for account %s", to.hub, to.account)
	}
	batch = slices.Clone(batch)
	for i := range batch {
		e := &batch[i]
		d.x.mu.Lock()
		owner := d.x.owners[e.Event.ID]
		d.x.mu.Unlock()
		if owner != to.account || e.Plan.Account != owner || e.Event.Account != owner {
			d.x.t.Errorf("%s of account %q is sent for account %s", e.Event.ID, owner, to.account)
		}
		e.Plan.Key, e.Plan.ID = knownAt(to, e.Plan.Key), knownAt(to, e.Plan.ID)
		e.Plan.Also = slices.Clone(e.Plan.Also)
		for k, also := range e.Plan.Also {
			e.Plan.Also[k] = knownAt(to, also)
		}
	}
	return d.x.victims[to.account].remote.Send(ctx, permit{}, batch)
}

// knownAt is how a victim knows an identity.
func knownAt(to hubPermit, identity string) string {
	if len(hubsOf[to.account]) == 1 {
		return identity
	}
	return to.hub + " " + identity
}

// customersRoute is the route to the accounts.
func (x *torture) customersRoute(route Route) Route {
	account, err := CompileAccount("{{.tenant}}", filters.Options{})
	if err != nil {
		x.t.Fatal(err)
	}
	route.Connection, route.Account, route.Destination = "app", account, &tenants{x}
	if x.surrender {
		route.UnknownTTL = 3 * time.Minute
	}
	return route
}

// connections connects or disconnects an account, told or, while the router does not run, untold.
func (x *torture) connections(i int, told bool) {
	switch x.rnd.IntN(3) {
	case 0:
		if i > 100 {
			x.connect("late", "l1", told)
		}
	case 1:
		x.connect("restless", []string{"", "r1"}[x.rnd.IntN(2)], told)
	case 2:
		x.connect("moving", []string{"", "m1", "m2"}[x.rnd.IntN(3)], told)
	}
}

func (x *torture) connect(account, hub string, told bool) {
	x.mu.Lock()
	x.hubs[account] = hub
	x.mu.Unlock()
	x.note("account %s connects %q, told: %t", account, hub, told)
	if told {
		x.g.router.Connected("app", account)
	}
}

// emptied connects each account to each of its hubs, and waits until nothing is left.
func (x *torture) emptied() {
	x.t.Helper()
	x.drained("", "hub1")
	for _, account := range accountNames {
		x.mu.Lock()
		now := x.hubs[account]
		x.mu.Unlock()
		for _, hub := range append([]string{cmp.Or(now, hubsOf[account][0])}, hubsOf[account]...) {
			x.connect(account, hub, true)
			x.drained(account, hub)
		}
	}
	for _, l := range x.g.store.Lanes() {
		if l.Entries > 0 {
			x.t.Errorf("%d entries are left in lane %s of %s, hub %q, account %q", l.Entries, l.Name.Lane, l.Name.Destination, l.Name.Hub, l.Name.Account)
		}
	}
}

// drained waits until nothing is left to do for an account at a hub, nor to sort or to replay.
func (x *torture) drained(account, hub string) {
	x.t.Helper()
	left := func(l store.Lane) bool {
		return l.Entries > 0 && (isUnsorted(l.Name) || l.Name.Account == account && (l.Name.Hub == hub || l.Name.Hub == ""))
	}
	for began := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		live, bulk := x.g.router.Unsorted()
		if live+bulk == 0 && len(x.g.store.ReplaysLeft()) == 0 && !slices.ContainsFunc(x.g.store.Lanes(), left) {
			return
		}
		if time.Since(began) > 6*time.Hour {
			x.t.Errorf("not idle for account %q at hub %q after 6 hours: %+v", account, hub, x.g.router.Status())
			return
		}
	}
}

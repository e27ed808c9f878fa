package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// handle is a destination of its own that delivers to a remote, which others may share: what a reload replaces another one by.
type handle struct {
	*remote
	answered func(call) []error // asked first; nil: all is well, and the remote is asked
	sent     atomic.Int32       // calls
	hub      string             // "": the remote's
}

func (h *handle) Hub(account string) string {
	if h.hub != "" {
		return h.hub
	}
	return h.remote.Hub(account)
}

func (h *handle) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	h.sent.Add(1)
	if h.answered != nil {
		if errs := h.answered(call{lane: batch[0].Plan.Lane, entries: batch, remote: h.remote, ctx: ctx}); errs != nil {
			return slices.Repeat([]destinations.Outcome{{Err: errs[0]}}, len(batch))
		}
	}
	return h.remote.Send(ctx, p, batch)
}

// routeTo is a route as newRig makes it.
func routeTo(name string, d destinations.Destination) Route {
	return Route{
		Name: name, Type: "fake", Destination: d,
		Retry: config.Retry{MaxAge: 24 * time.Hour, MaxDelay: 5 * time.Minute},
		Lanes: config.LaneLimits{OnFull: config.Refuse},
	}
}

// reload replaces the rig's routes, also for later starts.
func (g *rig) reload(routes ...Route) {
	g.t.Helper()
	if err := g.router.Reload(routes); err != nil {
		g.t.Fatal(err)
	}
	g.routes = func(*rig) []Route { return routes }
}

// state is the state of a lane with its reason.
func (g *rig) state(destination, hub, lane string) string {
	g.t.Helper()
	for _, s := range g.router.Status() {
		if s.Name.Destination == destination && s.Name.Hub == hub && s.Name.Lane == lane {
			return strings.TrimSpace(string(s.State) + " " + s.Reason)
		}
	}
	return "unknown"
}

// story is what Explain tells of an event and a destination: its state, and why it waits, or after how many attempts it did not.
func (g *rig) story(id, destination string) string {
	g.t.Helper()
	x, err := g.router.Explain(g.t.Context(), ExplainQuery{EventID: id})
	if err != nil {
		g.t.Fatal(err)
	}
	var all []string
	for _, r := range x.Receipts {
		for _, o := range r.Outputs {
			switch {
			case o.Destination != destination:
			case o.Waiting != nil:
				all = append(all, o.State+": "+o.Waiting.Why)
			default:
				all = append(all, fmt.Sprintf("%s: %d", o.State, o.Attempts))
			}
		}
	}
	return strings.Join(all, ", ")
}

// moment is longer than anything takes that waits for nothing.
const moment = 20 * time.Millisecond

// TestReloadFinishesCallsInFlight: a call takes a minute when its destination is replaced, again and again. It ends as it would have, its person's next write
// follows with the last destination, and nobody else waits.
func TestReloadFinishesCallsInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, other := newRemote(), &handle{remote: newRemote()}
		first := &handle{remote: r, answered: func(c call) []error {
			time.Sleep(time.Minute)
			return nil
		}}
		g := newRig(t, r, nil)
		g.routes = func(*rig) []Route { return []Route{routeTo("crm", first), routeTo("other", other)} }
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		time.Sleep(time.Second)
		var passed []*handle
		for i := range 20 {
			passed = append(passed, &handle{remote: r})
			g.reload(routeTo("crm", passed[i]), routeTo("other", other))
			g.post(identify("a@b.co", 2+i), track(fmt.Sprintf("t%d", i), fmt.Sprintf("p%d@b.co", i)))
			time.Sleep(moment)
			if n := len(strings.Fields(other.wrote("a@b.co"))); n != 2+i {
				t.Fatalf("reload %d: the other destination has %d writes, want %d", i, n, 2+i)
			}
		}
		g.want("state", g.state("crm", "hub1", "contacts"), "swapping calls that began before a reload are under way: 1")
		g.want("a call in flight", g.story("e1", "crm"), "in_flight: it is in a call now")
		g.want("what came since", g.story("e2", "crm"), "waiting: a reload changed its destination: calls that began before have to end first")
		g.want("state of the other", g.state("other", "hub1", "contacts"), "flowing")
		g.want("writes before the call ends", g.writes("a@b.co"), "")
		began := time.Now()
		g.drain()
		if took := time.Since(began); took < 55*time.Second || took > time.Minute {
			t.Errorf("the lane went on after %v", took)
		}
		var want []string
		for i := range 21 {
			want = append(want, fmt.Sprint(1+i))
		}
		g.want("writes", g.writes("a@b.co"), strings.Join(want, " "))
		if n := strings.Count(g.events(), "t"); n != 20 {
			t.Errorf("%d of 20 events: %s", n, g.events())
		}
		g.want("state", g.state("crm", "hub1", "contacts"), "flowing")
		if n := first.sent.Load(); n != 1 {
			t.Errorf("%d calls of the first destination", n)
		}
		for i, h := range passed[:19] {
			if n := h.sent.Load(); n > 0 {
				t.Errorf("%d calls of destination %d, which was replaced before it began", n, i)
			}
		}
		g.want("the call that was in flight", g.story("e1", "crm"), "delivered: 1")
	})
}

// TestReloadReleasesWhatWaits: with a mended destination blocked lanes and retries do not wait for the time they were given; attempts count on.
func TestReloadReleasesWhatWaits(t *testing.T) {
	for name, refusal := range map[string]error{
		"blocked":   destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{}),
		"block for": destinations.Block(errors.New("no scope"), destinations.LaneScope, time.Now().Add(100*365*24*time.Hour)),
		"retry":     destinations.RetryAfter(errors.New("mapping"), 20*time.Hour),
		"pauses":    errors.New("no route to host"),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRemote()
				var mu sync.Mutex
				var attempts []int
				broken := &handle{remote: r, answered: func(c call) []error { return []error{refusal} }}
				mended := &handle{remote: r, answered: func(c call) []error {
					mu.Lock()
					defer mu.Unlock()
					for _, e := range c.entries {
						attempts = append(attempts, e.Attempt)
					}
					return nil
				}}
				g := newRig(t, r, nil)
				g.routes = func(*rig) []Route { return []Route{routeTo("crm", broken)} }
				g.start()
				defer g.stop()
				g.post(identify("a@b.co", 1), track("t1", "b@b.co"))
				time.Sleep(3 * time.Hour)
				tried := broken.sent.Load()
				g.reload(routeTo("crm", mended))
				time.Sleep(moment)
				g.want("contact", g.writes("a@b.co"), "1")
				g.want("event", g.events(), "t1")
				g.want("state", g.state("crm", "hub1", "contacts"), "flowing")
				if n := broken.sent.Load(); n != tried {
					t.Errorf("the broken destination was called %d more times", n-tried)
				}
				// The event that waited for its contact is tried for the first time.
				_, blocked := refusal.(*destinations.BlockError)
				if n := len(slices.DeleteFunc(attempts, func(n int) bool { return n == 1 })); blocked != (n == 0) {
					t.Errorf("%d entries were tried before", n)
				}
			})
		})
	}
}

// TestReloadDoesNotWaitForQuota: only calls that have begun are finished, not those that wait for the right to.
func TestReloadDoesNotWaitForQuota(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{}) // none until tomorrow
		g := newRig(t, r, nil)
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		time.Sleep(time.Hour)
		other := newRemote()
		g.reload(routeTo("crm", other))
		time.Sleep(moment)
		g.want("contact", other.wrote("a@b.co"), "1")
	})
}

// TestReloadWithOtherDelays: the same destination with other settings of retries tries at once, and goes by them.
func TestReloadWithOtherDelays(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		h := &handle{remote: newRemote(), answered: func(c call) []error {
			if c.entries[0].Attempt < 20 {
				return []error{errors.New("503")}
			}
			return nil
		}}
		g := newRig(t, h.remote, nil)
		route := routeTo("crm", h)
		route.Retry.MaxDelay = 10 * time.Hour
		g.routes = func(*rig) []Route { return []Route{route} }
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		time.Sleep(5 * time.Hour)
		route.Retry.MaxDelay = time.Second
		g.reload(route)
		time.Sleep(10 * time.Minute) // the lane makes pauses of up to 30 s
		g.want("writes", g.writes("a@b.co"), "1")
	})
}

// TestReloadLeavesTheUnchangedAlone: the same destination with another filter, other API keys and limits keeps its lanes as they are.
func TestReloadLeavesTheUnchangedAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		until := time.Now().Add(time.Hour)
		h := &handle{remote: r, answered: func(c call) []error {
			if c.entries[0].Plan.Key == "slow@b.co" {
				time.Sleep(10 * time.Minute)
			} else if time.Now().Before(until) {
				return []error{destinations.Block(errors.New("daily limit"), destinations.LaneScope, until)}
			}
			return nil
		}}
		g := newRig(t, r, nil)
		g.routes = func(*rig) []Route { return []Route{routeTo("crm", h)} }
		g.start()
		defer g.stop()
		g.post(identify("slow@b.co", 1))
		time.Sleep(moment)
		g.post(identify("a@b.co", 1))
		time.Sleep(time.Second)
		route := routeTo("crm", h)
		route.Filter = filterFunc(filterByType)
		g.reload(route)
		g.post(`{"event_type":"drop","user":{"email":"a@b.co","v":0}}`, identify("a@b.co", 2))
		time.Sleep(moment)
		route.APIKeys = map[string]bool{"another": true}
		g.reload(route)
		g.post(identify("a@b.co", 3))
		time.Sleep(moment)
		route.APIKeys = map[string]bool{"key": true}
		g.reload(route)
		g.post(identify("a@b.co", 4))
		time.Sleep(moment)
		g.want("state", g.state("crm", "hub1", "contacts"), "blocked daily limit")
		route.Lanes = config.LaneLimits{MaxAge: time.Minute, OnFull: config.Refuse}
		g.reload(route)
		time.Sleep(2 * time.Minute)
		if reason, refused := g.router.Refused("key", event.Live); !refused {
			t.Error("the new limit is not in force")
		} else if _, refused := g.router.Refused("another", event.Live); refused {
			t.Errorf("another key is refused: %s", reason)
		}
		route.Lanes = config.LaneLimits{OnFull: config.Refuse}
		route.APIKeys = map[string]bool{}
		g.reload(route)
		time.Sleep(moment)
		if reason, refused := g.router.Refused("key", event.Live); refused {
			t.Errorf("still refused: %s", reason)
		}
		g.post(identify("a@b.co", 5)) // of a key that it does not get any more
		time.Sleep(20 * time.Minute)
		g.want("the call in flight", g.writes("slow@b.co"), "1")
		g.want("before the block ends", g.writes("a@b.co"), "")
		g.drain()
		g.want("after it", g.writes("a@b.co"), "1 2 4")
		if n := h.sent.Load(); n != 3 {
			t.Errorf("%d calls, want one, one that was refused and one after the block", n)
		}
	})
}

// TestReloadRemovesAndAdds: what a removed destination has left is parked, what comes while it is away is not for it, and its lanes flow when it comes back. A new
// one gets what comes after it.
func TestReloadRemovesAndAdds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		crm, late := newRemote(), newRemote()
		crm.answer = func(c call) []error {
			time.Sleep(time.Minute)
			return nil
		}
		first := &handle{remote: crm}
		g := newRig(t, crm, nil)
		g.routes = func(*rig) []Route { return []Route{routeTo("crm", first)} }
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		time.Sleep(moment)
		g.post(identify("a@b.co", 2))
		time.Sleep(moment)
		g.reload(routeTo("late", late))
		g.post(identify("a@b.co", 3))
		time.Sleep(moment)
		g.want("state of a removed one", g.state("crm", "hub1", "contacts"), "parked calls that began before a reload are under way: 1")
		time.Sleep(2 * time.Minute)
		g.want("the call in flight", g.writes("a@b.co"), "1")
		g.want("state of a removed one", g.state("crm", "hub1", "contacts"), "parked")
		g.want("the new one", late.wrote("a@b.co"), "3")
		g.stop() // all the same after a restart
		g.start()
		time.Sleep(5 * time.Minute)
		g.want("after a restart", g.writes("a@b.co"), "1")
		g.reload(routeTo("late", late), routeTo("crm", &handle{remote: crm}))
		g.post(identify("a@b.co", 4))
		g.drain()
		g.want("when it is back", g.writes("a@b.co"), "1 2 4")
		g.want("the new one", late.wrote("a@b.co"), "3 4")
		crm.mu.Lock()
		defer crm.mu.Unlock()
		if len(crm.overlaps) > 0 {
			t.Errorf("calls overlap: %v", crm.overlaps)
		}
	})
}

// TestReloadToAnotherHub: what waits for one hub never goes to another.
func TestReloadToAnotherHub(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		one, two := newRemote(), newRemote()
		two.hub = "hub2"
		one.answer = func(c call) []error {
			time.Sleep(time.Minute)
			return nil
		}
		g := newRig(t, one, nil)
		g.routes = func(*rig) []Route { return []Route{routeTo("crm", &handle{remote: one})} }
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		time.Sleep(moment)
		g.post(identify("a@b.co", 2))
		time.Sleep(moment)
		g.reload(routeTo("crm", &handle{remote: two}))
		g.post(identify("a@b.co", 3))
		time.Sleep(moment)
		g.want("the new hub waits for nothing", two.wrote("a@b.co"), "3")
		g.want("state", g.state("crm", "hub1", "contacts"), "parked calls that began before a reload are under way: 1")
		g.want("state", g.state("crm", "hub2", "contacts"), "flowing")
		g.reload(routeTo("crm", &handle{remote: one})) // back before the call ends
		g.post(identify("a@b.co", 4))
		time.Sleep(moment)
		g.want("state", g.state("crm", "hub1", "contacts"), "swapping calls that began before a reload are under way: 1")
		g.drain()
		g.want("hub1", g.writes("a@b.co"), "1 2 4")
		g.want("hub2", two.wrote("a@b.co"), "3")
		one.mu.Lock()
		defer one.mu.Unlock()
		if len(one.overlaps) > 0 {
			t.Errorf("calls overlap: %v", one.overlaps)
		}
	})
}

// TestReloadDuringAnEventStorm: fifty reloads while a thousand people write; every event arrives once and in its order.
func TestReloadDuringAnEventStorm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.answer = func(c call) []error {
			time.Sleep(time.Duration(c.n%7) * 100 * time.Millisecond)
			return nil
		}
		g := newRig(t, r, nil)
		g.routes = func(*rig) []Route { return []Route{routeTo("crm", &handle{remote: r})} }
		g.start()
		defer g.stop()
		want := map[string][]string{}
		const posts = 1500
		for i := range posts {
			email := fmt.Sprintf("p%d@b.co", i*i%311)
			want[email] = append(want[email], fmt.Sprint(i))
			g.post(identify(email, i), track(fmt.Sprintf("t%d", i), email))
			if i%30 == 29 {
				g.reload(routeTo("crm", &handle{remote: r}))
			}
			time.Sleep(time.Duration(i%13) * time.Millisecond)
		}
		g.drain()
		for email, values := range want {
			g.want(email, g.writes(email), strings.Join(values, " "))
		}
		if n := len(strings.Fields(g.events())); n != posts {
			t.Errorf("%d of %d events arrived", n, posts)
		}
		entries := 0
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.calls {
			entries += len(c.entries)
		}
		if minimal := entries - 2*posts; minimal < 0 || minimal > 350 {
			t.Errorf("%d entries were sent, so some twice", entries)
		}
		if len(r.overlaps) > 0 {
			t.Errorf("calls overlap: %v", r.overlaps)
		}
	})
}

// TestReloadBeforeAndAfterRun: before it the routes are simply set, at its end and after it nothing happens.
func TestReloadBeforeAndAfterRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.answer = func(c call) []error {
			time.Sleep(time.Minute)
			return nil
		}
		g := newRig(t, r, nil)
		h := &handle{remote: r}
		g.early = []Route{routeTo("crm", h)}
		g.routes = func(*rig) []Route { return nil }
		g.start()
		g.post(identify("a@b.co", 1))
		time.Sleep(time.Second)
		if n := h.sent.Load(); n != 1 {
			t.Errorf("%d calls", n)
		}
		g.reload(routeTo("crm", &handle{remote: r}))
		time.Sleep(time.Second)
		began := time.Now()
		g.cancel() // with the grace of ten seconds
		for range 5 {
			g.reload(routeTo("crm", &handle{remote: r}))
			time.Sleep(time.Second)
		}
		g.early = nil
		g.stop()
		if took := time.Since(began); took > time.Minute {
			t.Errorf("stopping took %v", took)
		}
		if err := g.router.Reload([]Route{routeTo("crm", h), routeTo("crm", h)}); err == nil {
			t.Error("one destination is routed twice, and there is no error")
		}
		g.reload(routeTo("crm", &handle{remote: r}))
		g.start()
		defer g.stop()
		time.Sleep(time.Minute)
		g.drain()
		g.want("contact", g.writes("a@b.co"), "1")
		g.want("state", g.state("crm", "hub1", "contacts"), "flowing")
	})
}

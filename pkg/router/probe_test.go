package router

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
)

// TestProbe: whoever has put right what stopped a lane need not wait for its next try.
func TestProbe(t *testing.T) {
	refused := errors.New("no")
	f := func(name string, problem func() error, soon bool) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var broken atomic.Bool
				broken.Store(true)
				g := newRig(t, newRemote(), nil)
				g.remote.answer = func(call) []error {
					if broken.Load() {
						return []error{problem()}
					}
					return nil
				}
				g.start()
				defer g.stop()
				g.post(identify("a@b.co", 1), identify("b@b.co", 1))
				for range 30 { // until the pauses are long
					time.Sleep(10 * time.Second)
					g.post(identify("c@b.co", 1))
				}
				calls := len(g.calls("contacts"))
				g.router.Probe()
				time.Sleep(moment)
				if n := len(g.calls("contacts")) - calls; (n > 0) != soon || n > 2 {
					t.Errorf("%d calls of a probe in vain", n)
				}
				broken.Store(false)
				g.router.Probe()
				time.Sleep(moment)
				if delivered := g.writes("a@b.co") != ""; delivered != soon {
					t.Errorf("delivered at once: %t, want %t", delivered, soon)
				}
				g.drain()
				g.want("writes", g.writes("a@b.co")+" "+g.writes("b@b.co"), "1 1")
			})
		})
	}
	f("blocked lane", func() error { return destinations.Block(refused, destinations.LaneScope, time.Time{}) }, true)
	f("blocked account", func() error { return destinations.Block(refused, destinations.AccountScope, time.Time{}) }, true)
	f("calls that fail", func() error { return refused }, true)
	f("calls without an answer", func() error { return destinations.Ambiguous(refused) }, true)
	f("until a time", func() error {
		return destinations.Block(refused, destinations.LaneScope, time.Now().Add(time.Hour))
	}, false)
}

// TestProbeWithAnOldCall: what a call says that began before does not put the probe off.
func TestProbeWithAnOldCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var broken atomic.Bool
		broken.Store(true)
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(call) []error {
			if broken.Load() {
				time.Sleep(10 * time.Second)
				return []error{destinations.Block(errors.New("no"), destinations.LaneScope, time.Time{})}
			}
			return nil
		}
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		for len(g.calls("contacts")) < 8 { // one is under way
			time.Sleep(time.Second)
		}
		broken.Store(false)
		g.router.Probe()
		time.Sleep(10 * time.Second)
		g.want("writes", g.writes("a@b.co"), "1")
	})
}

// TestProbeAfterReload: the new destination is probed, not the one that leaves.
func TestProbeAfterReload(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, nil)
		old := &handle{remote: r, answered: func(call) []error {
			return []error{destinations.Block(errors.New("no"), destinations.LaneScope, time.Time{})}
		}}
		g.routes = func(*rig) []Route { return []Route{routeTo("crm", old)} }
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		time.Sleep(time.Minute)
		before := old.sent.Load()
		g.reload(routeTo("crm", &handle{remote: r}))
		g.router.Probe()
		time.Sleep(moment)
		g.want("writes", g.writes("a@b.co"), "1")
		if n := old.sent.Load() - before; n > 0 {
			t.Errorf("%d calls of the former destination", n)
		}
	})
}

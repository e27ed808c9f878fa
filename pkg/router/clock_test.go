package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
)

// TestClockBetweenRuns: what an earlier run left with a clock an hour ahead, or behind, waits no longer than the longest of its own waits.
func TestClockBetweenRuns(t *testing.T) {
	f := func(name string, ahead time.Duration) {
		t.Run(name, func(t *testing.T) {
			r := newRemote()
			dir := memoryDir(t)
			rigAt := func(t *testing.T, clock time.Duration) *rig {
				time.Sleep(clock) // each bubble begins at the same time
				g := newRig(t, r, func(route *Route) { route.Retry = config.Retry{MaxAge: 30 * time.Minute, MaxDelay: 5 * time.Minute} })
				g.dir = dir
				return g
			}
			inBubble(t, func(t *testing.T) {
				g := rigAt(t, 2*time.Hour+ahead)
				r.answer = func(c call) []error {
					errs := make([]error, len(c.entries))
					for i, e := range c.entries {
						switch e.Plan.Key {
						case "retry@b.co", "dies@b.co":
							errs[i] = errors.New("500")
						case "held@b.co":
							errs[i] = destinations.Ambiguous(errors.New("timeout"))
						case "waits@b.co":
							errs[i] = destinations.RetryAfter(errors.New("busy"), time.Hour)
						}
					}
					return errs
				}
				g.start()
				for _, who := range []string{"retry", "dies", "held", "waits"} {
					g.post(identify(who+"@b.co", 1))
					time.Sleep(moment)
				}
				g.post(`{"id":"unknown","event_type":"t","user":{"id":"u1"}}`) // it waits to be identified
				time.Sleep(10 * time.Minute)
				g.post(`{"id":"unknown2","event_type":"t","user":{"id":"u1"}}`, identify("fine@b.co", 1))
				time.Sleep(2 * maxPause)
				g.want("what works", g.writes("fine@b.co"), "1")
				g.stop()
			})
			inBubble(t, func(t *testing.T) {
				g := rigAt(t, 2*time.Hour)
				r.answer = func(c call) []error {
					errs := make([]error, len(c.entries))
					for i, e := range c.entries {
						if e.Plan.Key == "dies@b.co" {
							errs[i] = errors.New("500")
						}
					}
					return errs
				}
				g.n = 1000
				g.start()
				g.post(identify("held@b.co", 2), track("later", "fine@b.co"))
				time.Sleep(longest(5*time.Minute) + 2*lateAfter)
				for _, who := range []string{"retry@b.co", "waits@b.co"} {
					g.want(who, g.writes(who), "1")
				}
				g.want("held, in order", g.writes("held@b.co"), "1 2")
				g.want("events", g.events(), "later")
				time.Sleep(40 * time.Minute) // retry.max_age
				g.want("dead letters", deadReasons(g), "retries")
				if !g.router.Idle() {
					t.Errorf("something waits: %+v", g.router.Status())
				}
				g.stop()
			})
		})
	}
	f("set back by an hour", time.Hour)
	f("set forward by an hour", -time.Hour)
	f("right", 0)
}

// TestDuplicatesWithAClockSetBack: an event id that was seen with a clock ahead is known, and an event without one is not taken for another.
func TestDuplicatesWithAClockSetBack(t *testing.T) {
	r, dir := newRemote(), memoryDir(t)
	for run, clock := range []time.Duration{3 * time.Hour, 2 * time.Hour, 4 * time.Hour} {
		inBubble(t, func(t *testing.T) {
			time.Sleep(clock)
			g := newRig(t, r, nil)
			g.dir, g.n = dir, 1000*run
			g.start()
			g.post(track("same", "a@b.co"), track(fmt.Sprint("other", run), "a@b.co"), identify("a@b.co", run))
			g.drain()
			g.stop()
		})
	}
	if got := strings.Join(r.events, " "); got != "same other0 other1 other2" {
		t.Errorf("events %s", got)
	}
	if got := r.wrote("a@b.co"); got != "0 1 2" {
		t.Errorf("writes %s, want those of receipt", got)
	}
}

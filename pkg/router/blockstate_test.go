package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// TestBlockOverRestart: since when and why a lane is blocked outlives the process, and each change is logged once.
func TestBlockOverRestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var logged bytes.Buffer
		var mended atomic.Bool
		g := newRig(t, newRemote(), nil)
		g.logs = &logged
		g.remote.answer = func(c call) []error {
			if mended.Load() || c.lane != "contacts" {
				return nil
			}
			return []error{destinations.Block(errors.New("the token is wrong"), destinations.LaneScope, time.Time{})}
		}
		state := func(want State, reason string, since time.Time) {
			t.Helper()
			got := g.router.Status()[0]
			if got.State != want || got.Reason != reason || !since.IsZero() && (got.Since == nil || got.Since.Sub(since).Abs() > time.Second) {
				t.Errorf("state %s, %q since %v; want %s, %q since %v", got.State, got.Reason, got.Since, want, reason, since)
			}
		}
		times := func(text string, want int) {
			t.Helper()
			if n := strings.Count(logged.String(), text); n != want {
				t.Errorf("the log says %q %d times, want %d:\n%s", text, n, want, logged.String())
			}
		}
		g.start()
		began := time.Now()
		g.post(identify("a@b.co", 1))
		time.Sleep(time.Hour)
		state(Blocked, "the token is wrong", began)
		times("lane is blocked", 1)
		g.stop()
		time.Sleep(time.Hour)

		g.start()
		time.Sleep(time.Minute)
		state(Blocked, "the token is wrong", began)
		times("lane is blocked", 2) // by another process
		mended.Store(true)
		g.drain()
		state(Flowing, "", time.Time{})
		times("lane flows again", 1)
		if !strings.Contains(logged.String(), "after=2h") {
			t.Errorf("the log does not say that it was for two hours:\n%s", logged.String())
		}
		g.stop()

		mended.Store(false)
		g.start()
		again := time.Now()
		g.post(identify("a@b.co", 2))
		time.Sleep(time.Minute)
		state(Blocked, "the token is wrong", again) // the one before is over
		mended.Store(true)
		g.drain()
		g.stop()
	})
}

// TestUnansweredOverRestart: a call that never gets an answer is given up at retry.max_age, however often the router starts meanwhile.
func TestUnansweredOverRestart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Retry = config.Retry{MaxAge: time.Hour, MaxDelay: time.Minute} })
		g.remote.answer = func(call) []error { return []error{destinations.Ambiguous(errors.New("timeout"))} }
		g.start()
		g.post(identify("a@b.co", 1))
		for range 2 {
			time.Sleep(25 * time.Minute)
			g.want("dead letters", deadReasons(g), "")
			g.stop()
			time.Sleep(3 * time.Hour) // nobody tries, so it does not count
			g.start()
		}
		defer g.stop()
		time.Sleep(16 * time.Minute)
		g.want("dead letters", deadReasons(g), "retries")
	})
}

// TestUnavailableForOne: what fails as in an outage, while others go through, is given up at retry.max_age all the same.
func TestUnavailableForOne(t *testing.T) {
	f := func(alike, other, want string) { // what fails beside a@b.co's contact, and what is posted every ten minutes
		t.Helper()
		inBubble(t, func(t *testing.T) {
			g := newRig(t, newRemote(), func(r *Route) { r.Retry.MaxAge = 2 * time.Hour })
			g.remote.answer = func(c call) []error {
				errs := make([]error, len(c.entries))
				for i, e := range c.entries {
					if c.lane == "contacts" && (e.Plan.Key == "a@b.co" || e.Plan.Key == alike) {
						errs[i] = destinations.Unavailable(errors.New("connection refused"))
					}
				}
				return errs
			}
			g.start()
			defer g.stop()
			g.post(identify("known@b.co", 1))
			time.Sleep(time.Second)
			g.post(identify("a@b.co", 1))
			if alike != "" {
				g.post(identify(alike, 1))
			}
			for range 16 {
				time.Sleep(10 * time.Minute)
				if other != "" {
					g.post(other)
				}
			}
			g.want("dead letters", deadReasons(g), want)
		})
	}
	f("", identify("c@b.co", 1), "retries")
	f("", "", "")
	event := `{"event_type":"t","user":{"email":"known@b.co"}}` // its contact is there: it goes through another lane
	f("", event, "retries")
	f("d@b.co", event, "") // the lane's own outage
}

// TestUnavailableForTwo: two inputs that never get an answer, with nothing else in their lane, are given up after twice retry.max_age while other lanes of the hub flow, and never
// in an outage of the hub.
func TestUnavailableForTwo(t *testing.T) {
	f := func(flowing func(age time.Duration) bool, want string) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			g := newRig(t, newRemote(), func(r *Route) { r.Retry.MaxAge = 3 * time.Hour })
			g.remote.answer = func(c call) []error {
				if c.lane == "contacts" && c.entries[0].Plan.Key != "known@b.co" {
					time.Sleep(30 * time.Second)
					return []error{destinations.Ambiguous(destinations.Unavailable(errors.New("no answer in time")))}
				}
				return nil
			}
			g.start()
			defer g.stop()
			g.post(identify("known@b.co", 1))
			time.Sleep(time.Second)
			g.post(identify("a@b.co", 1), identify("d@b.co", 1))
			for age := time.Duration(0); age < 7*time.Hour; age += 30 * time.Minute {
				time.Sleep(30 * time.Minute)
				if flowing(age) {
					g.post(`{"event_type":"t","user":{"email":"known@b.co"}}`)
				}
				if age == 5*time.Hour {
					g.want("dead letters after 5 h", deadReasons(g), "")
				}
			}
			g.want("dead letters", deadReasons(g), want)
		})
	}
	f(func(time.Duration) bool { return true }, "retries retries")
	f(func(time.Duration) bool { return false }, "")
	f(func(age time.Duration) bool { return age < 2*time.Hour }, "") // then the hub is gone
}

func deadReasons(g *rig) string {
	g.t.Helper()
	var reasons []string
	for _, d := range g.deadLetters() {
		reasons = append(reasons, d.Reason)
	}
	return strings.Join(reasons, " ")
}

// TestNewLaneWaitsForRoom: a disk without room for a lane is waited for, until there is some or the router stops; no event is a dead letter for it.
func TestNewLaneWaitsForRoom(t *testing.T) {
	f := func(stopAfter time.Duration, want bool, after time.Duration) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			g := newRig(t, newRemote(), nil)
			g.start()
			defer g.stop()
			ctx, cancel := context.WithTimeout(t.Context(), stopAfter)
			defer cancel()
			h := &handover{r: g.router, stop: ctx.Done()}
			began, full := time.Now(), 5
			done := h.untilRoom(func() error {
				if full--; full >= 0 {
					return fmt.Errorf("lane: %w", store.ErrFull)
				}
				return nil
			})
			if took := time.Since(began); done != want || took != after || (h.failed == nil) != want {
				t.Errorf("done %t after %v, failed with %v; want %t after %v", done, took, h.failed, want, after)
			}
		})
	}
	f(time.Hour, true, 5*time.Second)
	f(2500*time.Millisecond, false, 2500*time.Millisecond)
}

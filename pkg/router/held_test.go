package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
)

// TestHeldLiveEntriesLetOthersPassDuringAnImport: a live window that one held person fills grows, also while an import keeps calls in flight.
func TestHeldLiveEntriesLetOthersPassDuringAnImport(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRemote()
		r.contactKeys = 10
		g := newRig(t, r, nil)
		g.window = 20
		r.answer = func(c call) []error {
			time.Sleep(time.Second) // of four calls there is always one in flight
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				if e.Plan.Key == "held@b.co" {
					errs[i] = destinations.RetryAfter(errors.New("locked"), 10*time.Minute)
				}
			}
			return errs
		}
		permitEvery(t, r, 300*time.Millisecond)
		g.start()
		defer g.stop()
		for first := 0; first < 4000; first += 20 {
			g.postBulk(imported(first, 20)...)
			time.Sleep(10 * time.Millisecond)
		}
		g.post(identify("held@b.co", 0))
		time.Sleep(2 * time.Second)
		for i := range 30 {
			g.post(identify("held@b.co", i))
			time.Sleep(10 * time.Millisecond)
		}
		g.post(identify("a@b.co", 1))
		time.Sleep(5 * time.Second)
		g.want("another person, with an import in flight", g.writes("a@b.co"), "1")
	})
}

// TestWindowOfWhatWaitsForAnEarlierLaneStaysSmall: events of an import wait for their contacts, call after call. To hold more of them gains nothing.
func TestWindowOfWhatWaitsForAnEarlierLaneStaysSmall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRemote()
		r.contactKeys = 2
		g := newRig(t, r, nil)
		g.window = 20
		permitEvery(t, r, time.Second)
		g.start()
		defer g.stop()
		for first := range 100 {
			texts := imported(10*first, 10)
			for i := range 10 {
				texts = append(texts, trackAt("", fmt.Sprintf("p%d@b.co", 10*first+i), time.Now().Add(-time.Hour)))
			}
			g.postBulk(texts...)
			time.Sleep(10 * time.Millisecond)
		}
		most := 0
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(100 * time.Millisecond) {
			a := g.router.allAccounts()[0]
			a.mu.Lock()
			most = max(most, len(a.lane("events").bulk.window))
			a.mu.Unlock()
		}
		if most == 0 || most > 40 {
			t.Errorf("%d events are held, of a window of 20", most)
		}
	})
}

// TestWindowsStaySmallWhileTheRemoteIsAway: events of an import wait for their contacts while all calls fail. To hold more of them gains nothing.
func TestWindowsStaySmallWhileTheRemoteIsAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRemote()
		r.contactKeys = 2
		away := true
		r.answer = func(call) []error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if away {
				return []error{errors.New("connection refused")}
			}
			return nil
		}
		g := newRig(t, r, nil)
		g.window = 20
		g.start()
		defer g.stop()
		for first := range 50 {
			texts := imported(10*first, 10)
			for i := range 10 {
				texts = append(texts, trackAt("", fmt.Sprintf("p%d@b.co", 10*first+i), time.Now().Add(-time.Hour)))
			}
			g.postBulk(texts...)
			time.Sleep(10 * time.Millisecond)
		}
		most := 0
		for began := time.Now(); time.Since(began) < 5*time.Minute; time.Sleep(100 * time.Millisecond) {
			a := g.router.allAccounts()[0]
			a.mu.Lock()
			for _, l := range a.lanes {
				most = max(most, len(l.live.window), len(l.bulk.window))
			}
			a.mu.Unlock()
		}
		if most == 0 || most > 40 {
			t.Errorf("%d entries are held, of a window of 20", most)
		}
		r.mu.Lock()
		away = false
		r.mu.Unlock()
		g.drain()
		if n := len(strings.Fields(g.events())); n != 500 {
			t.Errorf("%d events, want 500", n)
		}
	})
}

// TestOneFailureDoesNotStopTheLane: while a call takes long and one other has failed, the rest leaves.
func TestOneFailureDoesNotStopTheLane(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.answer = func(c call) []error {
			switch c.keys()[0] {
			case "slow@b.co":
				time.Sleep(30 * time.Second)
			case "fails@b.co":
				return []error{errors.New("503")}
			}
			return nil
		}
		g := newRig(t, r, nil)
		g.start()
		defer g.stop()
		for i, key := range []string{"slow@b.co", "fails@b.co", "a@b.co"} {
			g.post(identify(key, i))
			time.Sleep(200 * time.Millisecond)
		}
		g.want("the third", g.writes("a@b.co"), "2")
	})
}

package router

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
)

// TestOnePersonDoesNotStopTheLane: a person for whom far more waits than a window holds, behind a retry, stops nobody else; when the retry succeeds all of it
// leaves, in order.
func TestOnePersonDoesNotStopTheLane(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRemote()
		locked := true
		r.answer = func(c call) []error {
			r.mu.Lock()
			defer r.mu.Unlock()
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				if locked && c.lane == "contacts" && e.Plan.Key == "held@b.co" {
					errs[i] = destinations.RetryAfter(errors.New("locked"), 3*time.Minute)
				}
			}
			return errs
		}
		g := newRig(t, r, nil)
		g.window = 8
		g.start()
		defer func() { g.stop() }()
		g.post(identify("held@b.co", 0))
		time.Sleep(moment)
		var writes, events []string
		for i := range 100 {
			g.post(identify("held@b.co", i+1), track(fmt.Sprintf("h%d", i), "held@b.co"))
			events = append(events, fmt.Sprintf("h%d", i))
			time.Sleep(10 * time.Millisecond) // blocks of one entry
		}
		for i := range 101 {
			writes = append(writes, fmt.Sprint(i))
		}
		for i := range 10 {
			key := fmt.Sprintf("p%d@b.co", i)
			g.post(identify(key, i), track(fmt.Sprintf("x%d", i), key), identify(key, i+1))
			time.Sleep(5 * time.Second)
			g.want("another person's contact", g.writes(key), fmt.Sprint(i, " ", i+1))
			if !strings.Contains(g.events()+" ", fmt.Sprintf("x%d ", i)) {
				t.Fatalf("event x%d of another person waits", i)
			}
			if i == 5 {
				g.stop()
				g.start()
			}
		}
		g.want("what is held", g.writes("held@b.co"), "")
		r.mu.Lock()
		locked = false
		r.mu.Unlock()
		g.drainWithin(5 * time.Minute)
		g.want("writes of the held person", g.writes("held@b.co"), strings.Join(writes, " "))
		var got []string
		for _, id := range strings.Fields(g.events()) {
			if strings.HasPrefix(id, "h") {
				got = append(got, id)
			}
		}
		g.want("events of the held person", strings.Join(got, " "), strings.Join(events, " "))
		for _, a := range g.router.allAccounts() {
			a.mu.Lock()
			if len(a.persons) > 0 {
				t.Errorf("%d persons are remembered for whom nothing waits", len(a.persons))
			}
			a.mu.Unlock()
		}
	})
}

// TestUnknownContactsDoNotStopTheirLane: while contacts are blocked, events of contacts that the remote has leave, however many wait for theirs.
func TestUnknownContactsDoNotStopTheirLane(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRemote()
		blocked := false
		r.answer = func(c call) []error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if blocked && c.lane == "contacts" {
				return []error{destinations.Block(errors.New("no scope"), destinations.LaneScope, time.Time{})}
			}
			return nil
		}
		g := newRig(t, r, nil)
		g.window = 8
		g.start()
		defer g.stop()
		g.post(identify("known@b.co", 1))
		g.drain()
		r.mu.Lock()
		blocked = true
		r.mu.Unlock()
		for i := range 100 {
			g.post(track(fmt.Sprintf("u%d", i), fmt.Sprintf("u%d@b.co", i)))
			time.Sleep(10 * time.Millisecond)
		}
		g.post(track("k1", "known@b.co"))
		time.Sleep(10 * time.Second)
		g.want("events while contacts are blocked", g.events(), "k1")
		r.mu.Lock()
		blocked = false
		r.mu.Unlock()
		g.drainWithin(10 * time.Minute)
		if n := len(strings.Fields(g.events())); n != 101 {
			t.Errorf("%d events, want 101", n)
		}
	})
}

// TestPassedOverModel plays random persons, lanes and faults through windows of a few entries: nothing is lost, doubled or out of order.
func TestPassedOverModel(t *testing.T) {
	for seed := range uint64(3) {
		inBubble(t, func(t *testing.T) {
			time.Sleep(24 * time.Hour)
			random, faults := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
			r := newRemote()
			r.contactKeys, r.eventEntries, r.inFlight = 3, 5, 2
			stuck := map[string]time.Time{}
			r.answer = func(c call) []error {
				r.mu.Lock()
				defer r.mu.Unlock()
				errs := make([]error, len(c.entries))
				if faults.IntN(20) == 0 {
					return []error{destinations.Ambiguous(errors.New("timeout"))}
				}
				for i, e := range c.entries {
					until, ok := stuck[c.lane+e.Plan.Key]
					if !ok && faults.IntN(8) == 0 {
						until = time.Now().Add(time.Duration(faults.IntN(600)) * time.Second)
						stuck[c.lane+e.Plan.Key] = until
					}
					if time.Now().Before(until) {
						errs[i] = errors.New("locked")
					}
				}
				return errs
			}
			g := newRig(t, r, nil)
			g.window = 4
			g.start()
			want := map[string][]string{}
			events := 0
			for i := range 150 {
				key := fmt.Sprintf("p%d@b.co", random.IntN(10))
				if random.IntN(2) == 0 {
					want[key] = append(want[key], fmt.Sprint(i))
					g.post(identify(key, i))
				} else {
					events++
					g.post(track(fmt.Sprint("t", i), key))
				}
				if random.IntN(10) == 0 {
					time.Sleep(time.Duration(random.IntN(20)) * time.Second)
				}
				if random.IntN(60) == 0 {
					g.stop()
					g.start()
				}
			}
			g.drainWithin(6 * time.Hour)
			for key, writes := range want {
				got := strings.Fields(g.writes(key))
				for len(got) > 0 && len(writes) > 0 { // a write that got no answer goes out again
					if got[0] != writes[0] {
						t.Errorf("seed %d, %s: %v where %v should follow", seed, key, got, writes)
						break
					}
					for len(got) > 0 && got[0] == writes[0] {
						got = got[1:]
					}
					writes = writes[1:]
				}
				if len(got)+len(writes) > 0 && !t.Failed() {
					t.Errorf("seed %d, %s: left %v, not written %v", seed, key, got, writes)
				}
			}
			if n := len(strings.Fields(g.events())); n != events {
				t.Errorf("seed %d: %d events, want %d", seed, n, events)
			}
			if len(r.overlaps) > 0 || len(g.deadLetters()) > 0 {
				t.Errorf("seed %d: concurrent calls for %v, dead letters %v", seed, r.overlaps, g.deadLetters())
			}
			g.stop()
		})
	}
}

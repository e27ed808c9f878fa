package router

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
)

// TestTorture sends writes and events of some persons through a remote that fails in every way it can, while the router is stopped and started.
// In the end each contact holds the last value that was posted for it, whatever was applied late, and each event has arrived once.
func TestTorture(t *testing.T) {
	seeds := 8
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) { torture(t, uint64(seed)) })
		})
	}
}

func torture(t *testing.T, seed uint64) {
	rnd, moods := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2)) // the remote's moods have their own
	r := newRemote()
	r.contactKeys = 1 + rnd.IntN(10)
	r.inFlight = 1 + rnd.IntN(4)
	g := newRig(t, r, func(r *Route) { r.Retry.MaxDelay = time.Minute })
	calm := false
	rejected := map[string]bool{}
	r.answer = func(c call) []error { return misbehave(moods, c, &calm, rejected) }
	g.start()

	last := map[string]int{}
	var tracked []string
	for i := range 300 {
		email := fmt.Sprintf("p%d@b.co", rnd.IntN(12))
		if rnd.IntN(3) == 0 {
			id := fmt.Sprintf("t%d", i)
			tracked = append(tracked, id)
			g.post(track(id, email))
		} else {
			last[email] = i
			g.post(identify(email, i))
		}
		time.Sleep(time.Duration(rnd.IntN(4000)) * time.Millisecond)
		if rnd.IntN(40) == 0 {
			g.stop()
			time.Sleep(time.Duration(rnd.IntN(200)) * time.Second)
			g.start()
		}
	}
	r.mu.Lock()
	calm = true
	r.mu.Unlock()
	g.drainWithin(6 * time.Hour)
	time.Sleep(lateAfter) // what is applied late has been
	dead := map[string]bool{}
	for _, d := range g.deadLetters() {
		dead[d.EventID] = true
	}
	g.stop()

	for email, want := range last {
		writes := slices.DeleteFunc(slices.Clone(r.writes[email]), func(v string) bool { return v == "" })
		if len(writes) == 0 || writes[len(writes)-1] != strconv.Itoa(want) {
			t.Errorf("seed %d: %s ends with %v, last posted %d", seed, email, writes, want)
		}
	}
	for _, id := range tracked { // one may be both: refused when it was sent again, and applied late
		if !slices.Contains(r.events, id) && !dead[id] {
			t.Errorf("seed %d: event %s has not arrived and is no dead letter", seed, id)
		}
		if rejected[id] != dead[id] {
			t.Errorf("seed %d: event %s was rejected: %v, is a dead letter: %v", seed, id, rejected[id], dead[id])
		}
	}
	if len(r.overlaps) > 0 {
		t.Errorf("seed %d: concurrent calls share keys %v", seed, r.overlaps)
	}
}

// misbehave answers a call in some way that remotes have.
func misbehave(rnd *rand.Rand, c call, calm *bool, rejected map[string]bool) []error {
	r := c.remote
	r.mu.Lock()
	quiet := *calm
	kind, wait := rnd.IntN(20), time.Duration(rnd.IntN(3000))*time.Millisecond
	late := time.Duration(rnd.IntN(95)) * time.Second
	pick := rnd.IntN(len(c.entries))
	r.mu.Unlock()
	if quiet {
		return nil
	}
	began := time.Now()
	select {
	case <-time.After(wait):
	case <-c.ctx.Done():
		time.AfterFunc(late, c.apply)
		return []error{destinations.Ambiguous(c.ctx.Err())}
	}
	one := func(err error) []error {
		errs := make([]error, len(c.entries))
		for i, e := range c.entries { // entries of one identity share their outcome
			if e.Plan.ID == c.entries[pick].Plan.ID {
				errs[i] = err
			}
		}
		return errs
	}
	switch kind {
	case 0, 1:
		time.AfterFunc(late, c.apply)
		return []error{destinations.Ambiguous(errors.New("timeout"))}
	case 2:
		c.apply()
		return []error{destinations.Ambiguous(errors.New("answer lost"))}
	case 3:
		return []error{errors.New("connection refused")}
	case 4:
		return one(destinations.RetryAfter(errors.New("locked"), 2*time.Second))
	case 5:
		return []error{destinations.Block(errors.New("429"), destinations.LaneScope, time.Now().Add(10*time.Second))}
	case 6:
		return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
	case 7: // one entry has no answer and is applied late, the others are fine
		e := c.entries[pick]
		part := c
		part.entries = slices.DeleteFunc(slices.Clone(c.entries), func(o destinations.Entry) bool { return o.Plan.ID != e.Plan.ID })
		time.AfterFunc(late-time.Since(began), part.apply)
		return one(destinations.Ambiguous(errors.New("timeout")))
	case 8:
		if c.lane == "events" {
			errs := one(destinations.Reject(errors.New("400")))
			r.mu.Lock()
			for i, e := range c.entries {
				if errs[i] != nil && !slices.Contains(r.events, e.Event.ID) {
					rejected[e.Event.ID] = true
				} else {
					errs[i] = nil
				}
			}
			r.mu.Unlock()
			return errs
		}
	}
	return nil
}

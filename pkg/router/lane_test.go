package router

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// TestHoldsAreForgotten: what an ambiguous call leaves, in memory and in the store, goes when its time is over.
func TestHoldsAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(c call) []error {
			if c.n == 0 {
				return []error{destinations.Ambiguous(errors.New("timeout"))}
			}
			return nil
		}
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1), identify("c@b.co", 1))
		g.drain()
		count := func(when string, want int) {
			t.Helper()
			holds, err := g.store.Holds()
			if err != nil {
				t.Fatal(err)
			}
			a := g.router.allAccounts()[0]
			a.mu.Lock()
			persons := len(a.persons)
			a.mu.Unlock()
			if len(holds) != want || persons != want {
				t.Errorf("%s: %d holds and %d persons, want %d", when, len(holds), persons, want)
			}
		}
		count("at once", 2)
		time.Sleep(lateAfter + 2*time.Minute)
		count("later", 0)
	})
}

// TestBlockedTimeDoesNotAgeAnAmbiguousCall: it has no answer, then the lane is blocked for longer than retry.max_age.
func TestBlockedTimeDoesNotAgeAnAmbiguousCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Retry.MaxAge = time.Hour })
		until := time.Now().Add(2 * time.Hour)
		lost := 0
		g.remote.answer = func(c call) []error {
			switch {
			case c.n == 0:
			case time.Now().Before(until):
				return []error{destinations.Block(errors.New("401"), destinations.AccountScope, until)}
			case lost < 2:
				lost++
			default:
				return nil
			}
			return []error{destinations.Ambiguous(errors.New("timeout"))}
		}
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		g.drainWithin(3 * time.Hour)
		g.want("writes", g.writes("a@b.co"), "1")
		if dead := g.deadLetters(); len(dead) > 0 {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

func TestAttemptsOfDeadLetters(t *testing.T) {
	f := func(limits config.LaneLimits, err error, least, most int) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			g := newRig(t, newRemote(), func(r *Route) { r.Retry.MaxAge, r.Lanes = time.Hour, limits })
			g.remote.answer = func(call) []error { return []error{err} }
			g.start()
			defer g.stop()
			g.post(identify("a@b.co", 1))
			g.drainWithin(2 * time.Hour)
			dead := g.deadLetters()
			if len(dead) != 1 || dead[0].Attempts < least || dead[0].Attempts > most {
				t.Errorf("with %v: dead letters %+v, want one of %d to %d attempts", err, dead, least, most)
			}
		})
	}
	unlimited := config.LaneLimits{OnFull: config.Refuse}
	f(unlimited, destinations.Reject(errors.New("400")), 1, 1)
	f(unlimited, errors.New("500"), 10, 40)
	f(unlimited, destinations.Ambiguous(errors.New("timeout")), 10, 40)
	f(config.LaneLimits{MaxAge: time.Minute, OnFull: config.DeadLetterOldest}, // a block charges none
		destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{}), 0, 0)
}

// TestLaneBlockedBeforeItsCall: the quota says that contacts are blocked; events of contacts that are there need not wait.
func TestLaneBlockedBeforeItsCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		g.drain()
		g.remote.acquire = func(lane string) error {
			if lane != "contacts" {
				return nil
			}
			time.Sleep(time.Second) // both lanes have looked by then
			return destinations.Block(errors.New("daily limit"), destinations.LaneScope, time.Now().Add(6*time.Hour))
		}
		g.post(identify("a@b.co", 2), track("t1", "a@b.co"))
		time.Sleep(time.Minute)
		g.want("events", g.events(), "t1")
	})
}

// TestBlockOfThePast: a time that has passed is no reason to try without a pause.
func TestBlockOfThePast(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		began := time.Now()
		g.remote.answer = func(c call) []error {
			if time.Since(began) > time.Minute || c.n > 1000 {
				return nil
			}
			return []error{destinations.Block(errors.New("429"), destinations.LaneScope, began)}
		}
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		g.drain()
		if n := len(g.calls("contacts")); n < 10 || n > 100 {
			t.Errorf("%d calls in a minute, want about one a second", n)
		}
	})
}

// TestBlockDuringAcquire: the account is blocked while a lane waits for its permit.
func TestBlockDuringAcquire(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		g.drain()
		until := time.Now().Add(time.Hour)
		g.remote.acquire = func(lane string) error {
			if lane == "contacts" {
				time.Sleep(10 * time.Second)
			}
			return nil
		}
		g.remote.answer = func(c call) []error {
			if time.Now().Before(until) {
				return []error{destinations.Block(errors.New("401"), destinations.AccountScope, until)}
			}
			return nil
		}
		before := len(g.calls("contacts"))
		g.post(track("t1", "a@b.co"), identify("a@b.co", 2))
		g.drainWithin(2 * time.Hour)
		for _, c := range g.calls("contacts")[before:] {
			if c.at.Before(until) {
				t.Errorf("a call left %s before the block ended", until.Sub(c.at))
			}
		}
		g.want("writes", g.writes("a@b.co"), "1 2")
	})
}

// TestFirstRecordOfAll: its event waits for its contact, though nothing comes before offset 0.
func TestFirstRecordOfAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{})
		g := newRig(t, r, nil)
		g.start()
		g.post(track("t1", "a@b.co"))
		time.Sleep(time.Second)
		g.stop()
		g.start()
		defer g.stop()
		// The events lane looks before the contacts lane has read a block.
		account, err := newAccount(g.router, g.router.table.Load().routes[0], "hub1", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range account.lanes {
			l.live.more = true
		}
		contacts, events := account.lanes[0], account.lanes[1]
		f := func(when string, want bool) {
			t.Helper()
			account.mu.Lock()
			defer account.mu.Unlock()
			if ready, _ := events.nextLocked(time.Now()); ready != want {
				t.Errorf("%s: the event may leave: %v, want %v", when, ready, want)
			}
		}
		if _, err := events.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		f("contacts not read", false)
		if _, err := contacts.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		f("contact waiting", false)
		account.mu.Lock()
		contacts.finishLocked(contacts.live.window, time.Now())
		account.mu.Unlock()
		f("contact finished", true)
		contacts.live.expect() // there may be another contact write in what is committed and not announced
		f("hand-over not announced", false)
		contacts.live.announce()
		f("hand-over not loaded", false)
		if _, err := contacts.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		f("hand-over announced", true)
	})
}

// TestCallCutInPart: a stop cuts a call of which one entry has an answer; the other may have been sent, and is applied later.
func TestCallCutInPart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(c call) []error {
			<-c.ctx.Done()
			part := c
			part.entries = c.entries[1:]
			time.AfterFunc(90*time.Second, part.apply)
			return []error{nil, c.ctx.Err()}
		}
		g.start()
		g.post(identify("a@b.co", 1), identify("c@b.co", 1))
		time.Sleep(time.Second)
		g.stop()
		g.remote.answer = nil
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 2), identify("c@b.co", 2))
		g.drain()
		time.Sleep(lateAfter)
		g.want("answered", g.writes("a@b.co"), "1 2")
		g.want("cut", g.writes("c@b.co"), "1 1 2")
	})
}

// TestPlanWithTooManyIdentities must not make a block that nobody can read.
func TestPlanWithTooManyIdentities(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		also := strings.Repeat(`"u",`, maxAlso) + `"u"`
		g.post(fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"a@b.co"},"also":[%s]}`, also), identify("c@b.co", 1))
		g.drain()
		g.want("other contact", g.writes("c@b.co"), "1")
		if dead := g.deadLetters(); len(dead) != 1 || dead[0].Reason != "plan" {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

// TestEntryThatBreaksSend: a destination panics, or answers too little, whenever one entry is in a call. The others must not suffer for it.
func TestEntryThatBreaksSend(t *testing.T) {
	f := func(what string, broken func() []destinations.Outcome) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			r := newRemote()
			g := newRig(t, r, func(route *Route) {
				route.Destination = breaking{r, broken}
				route.Retry.MaxAge = time.Hour
			})
			g.start()
			defer g.stop()
			g.post(identify("a@b.co", 1), identify("bad@b.co", 1), identify("c@b.co", 1), identify("a@b.co", 2))
			time.Sleep(5 * time.Minute) // of which others wait for LateAfter at most
			g.want(what+": one contact", g.writes("a@b.co"), "1 2")
			g.want(what+": another", g.writes("c@b.co"), "1")
			g.drainWithin(2 * time.Hour)
			if dead := g.deadLetters(); len(dead) != 1 || dead[0].Person != "bad@b.co" || !strings.Contains(dead[0].Error, what) {
				t.Errorf("%s: dead letters %+v", what, dead)
			}
		})
	}
	f("odd input", func() []destinations.Outcome { panic("odd input") })
	f("0 outcomes", func() []destinations.Outcome { return nil })
}

// breaking is a destination that breaks whenever bad@b.co is in a call.
type breaking struct {
	*remote
	broken func() []destinations.Outcome
}

func (b breaking) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	for _, e := range batch {
		if e.Plan.Key == "bad@b.co" {
			return b.broken()
		}
	}
	return b.remote.Send(ctx, p, batch)
}

// TestHeldEntriesDoNotKeepTheirBlocks: of each block one entry waits for a retry.
func TestHeldEntriesDoNotKeepTheirBlocks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(c call) []error {
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				if strings.HasPrefix(e.Plan.Key, "bad") {
					errs[i] = errors.New("locked")
				}
			}
			return errs
		}
		g.start()
		defer g.stop()
		const blocks, entries, size = 20, 50, 20_000
		before := heapBytes()
		pad := strings.Repeat("x", size)
		for b := range blocks {
			texts := []string{identify(fmt.Sprintf("bad%d@b.co", b), 1)}
			for e := range entries - 1 {
				texts = append(texts, fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"p%d@b.co"},"pad":%q}`, e, pad))
			}
			g.post(texts...)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		g.remote.mu.Lock()
		g.remote.calls = nil // they hold entries
		g.remote.mu.Unlock()
		if n := g.store.Lanes()[0].Entries; n != blocks {
			t.Fatalf("%d entries are left, want %d", n, blocks)
		}
		if grown := heapBytes() - before; grown > blocks*entries*size/2 {
			t.Errorf("%d held entries of a few bytes take %d bytes", blocks, grown)
		}
	})
}

func heapBytes() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestSurrenderReachesBeyondTheWindow: what is too old goes at once, also when it is more than the window holds.
func TestSurrenderReachesBeyondTheWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{})
		g := newRig(t, r, func(r *Route) { r.Lanes = config.LaneLimits{MaxAge: time.Minute, OnFull: config.DeadLetterOldest} })
		g.start()
		defer g.stop()
		texts := make([]string, windowEntries+2000)
		for i := range texts {
			texts[i] = identify(fmt.Sprintf("p%d@b.co", i), 1)
		}
		g.post(texts...)
		g.drain()
		dead, err := g.store.DeadLetters(t.Context(), store.DeadLetterQuery{Limit: 100_000})
		if err != nil {
			t.Fatal(err)
		}
		if len(dead) != len(texts) {
			t.Fatalf("%d dead letters, want %d", len(dead), len(texts))
		}
		if spread := dead[0].At.Sub(dead[len(dead)-1].At); spread > 500*time.Millisecond {
			t.Errorf("the last left %s after the first", spread)
		}
	})
}

// TestHeldPersonDoesNotFillTheWindow: a person with more writes than the window holds is held back, and others behind her are not.
func TestHeldPersonDoesNotFillTheWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.window = 10
		g.remote.answer = func(c call) []error {
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				if e.Plan.Key == "held@b.co" && time.Since(c.entries[i].Event.Received) < time.Hour {
					errs[i] = destinations.RetryAfter(errors.New("locked"), 2*time.Hour)
				}
			}
			return errs
		}
		g.start()
		defer g.stop()
		for i := range 30 {
			g.post(identify("held@b.co", i))
			time.Sleep(10 * time.Millisecond)
		}
		g.post(identify("a@b.co", 1))
		time.Sleep(time.Second)
		g.want("another person", g.writes("a@b.co"), "1")
		g.drainWithin(5 * time.Hour)
		if writes := g.writes("held@b.co"); !strings.HasPrefix(writes, "0 1 2 3 ") || !strings.HasSuffix(writes, " 28 29") {
			t.Errorf("writes of the one held: %s", writes)
		}
	})
}

package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// trackAt is a custom event that counts at a time.
func trackAt(id, email string, at time.Time) string {
	return fmt.Sprintf(`{"id":%q,"event_type":"t","utc_time":%q,"user":{"email":%q}}`, id, at.UTC().Format(time.RFC3339Nano), email)
}

// imported are writes of n persons, by number from first on, that count an hour ago.
func imported(first, n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = identifyAt(fmt.Sprintf("p%d@b.co", first+i), first+i, time.Now().Add(-time.Hour))
	}
	return texts
}

// permitEvery gives a remote a permit after each d, and none before.
func permitEvery(t *testing.T, r *remote, d time.Duration) {
	t.Helper()
	r.permits = make(chan struct{})
	go func() {
		for tick := time.Tick(d); ; {
			select {
			case <-tick:
			case <-t.Context().Done():
				return
			}
			select {
			case r.permits <- struct{}{}:
			case <-t.Context().Done():
				return
			}
		}
	}()
}

// TestLiveLeavesBeforeBulk: a live write is in the next call, however much is imported, and what room is left is the import's.
func TestLiveLeavesBeforeBulk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, nil)
		permitEvery(t, r, time.Second)
		g.start()
		defer g.stop()
		g.postBulk(imported(0, 12_000)...) // more than a window
		time.Sleep(5500 * time.Millisecond)
		g.post(identify("live@b.co", 1))
		posted := time.Now()
		time.Sleep(3 * time.Second)
		i := slices.IndexFunc(g.calls("contacts"), func(c call) bool { return slices.Contains(c.keys(), "live@b.co") })
		if i < 0 {
			t.Fatal("the live write has not left")
		}
		c := g.calls("contacts")[i]
		if waited := c.at.Sub(posted); waited > time.Second {
			t.Errorf("it waited for %v, which is more than one call", waited)
		}
		if c.keys()[0] != "live@b.co" || len(c.entries) != 100 {
			t.Errorf("its call has %d entries and begins with %s", len(c.entries), c.keys()[0])
		}
		if before := g.calls("contacts")[i-1]; len(before.entries) != 100 {
			t.Errorf("before that a call had %d entries: an import alone may use all", len(before.entries))
		}
	})
}

// TestLiveWriteTakesItsImportedWritesAlong: they count as earlier, and are merged with it instead of keeping it waiting.
func TestLiveWriteTakesItsImportedWritesAlong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRemote()
		g := newRig(t, r, nil)
		permitEvery(t, r, time.Second)
		g.start()
		defer g.stop()
		texts := imported(0, 5000)
		texts = append(texts, identifyAt("p4999@b.co", -1, time.Now().Add(-2*time.Hour)))
		g.postBulk(texts...)
		time.Sleep(1500 * time.Millisecond)
		g.post(identify("p4999@b.co", 7))
		time.Sleep(time.Second)
		g.want("writes", g.writes("p4999@b.co"), "-1 4999 7")
		if calls := g.calls("contacts"); len(calls) != 2 || len(calls[1].entries) != 102 {
			t.Errorf("%d calls", len(calls))
		}
	})
}

// keys are those of a call's entries.
func (c call) keys() []string {
	out := make([]string, len(c.entries))
	for i, e := range c.entries {
		out[i] = e.Plan.Key
	}
	return out
}

// TestBulkIsNotStarved: where live writes would fill every call, one in ten is the import's.
func TestBulkIsNotStarved(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.contactKeys, r.inFlight = 10, 1
		g := newRig(t, r, nil)
		permitEvery(t, r, time.Second)
		g.start()
		defer g.stop()
		g.postBulk(imported(0, 5000)...)
		texts := make([]string, 2000)
		for i := range texts {
			texts[i] = identify(fmt.Sprintf("live%d@b.co", i), i)
		}
		g.post(texts...)
		time.Sleep(100500 * time.Millisecond)
		bulk, live := 0, 0
		for _, c := range g.calls("contacts") {
			for _, e := range c.entries {
				if e.Event.Class == event.Bulk {
					bulk++
				} else {
					live++
				}
			}
		}
		if bulk < 90 || bulk > 110 || live < 880 {
			t.Errorf("100 calls took %d bulk and %d live entries, want about 100 and 900", bulk, live)
		}
	})
}

// TestEffectiveTimeDecides between an imported and a live write, whether they wait together or one is long delivered.
func TestEffectiveTimeDecides(t *testing.T) {
	f := func(name string, posts func(g *rig, ago func(time.Duration) time.Time), want string, calls ...string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				time.Sleep(24 * time.Hour)
				r := newRemote()
				g := newRig(t, r, nil)
				r.permits = make(chan struct{}, 100)
				g.start()
				defer func() { g.stop() }()
				posts(g, func(d time.Duration) time.Time { return time.Now().Add(-d) })
				g.give(100)
				g.drain()
				g.want("writes", g.writes("a@b.co"), want)
				if len(calls) == 0 {
					return
				}
				var got []string
				for _, c := range g.calls("contacts") {
					got = append(got, strings.Join(c.ids(), " "))
				}
				g.want("calls", fmt.Sprintf("%q", got), fmt.Sprintf("%q", calls))
			})
		})
	}
	const hour, minute = time.Hour, time.Minute
	type when = func(time.Duration) time.Time
	f("the import comes first", func(g *rig, ago when) {
		g.postBulk(identifyAt("a@b.co", 1, ago(hour)))
		time.Sleep(minute)
		g.post(identify("a@b.co", 2))
		time.Sleep(minute)
	}, "1 2", "e1 e2")
	f("the import comes second", func(g *rig, ago when) {
		g.post(identify("a@b.co", 2))
		time.Sleep(minute)
		g.postBulk(identifyAt("a@b.co", 1, ago(hour)))
		time.Sleep(minute)
	}, "1 2", "e2 e1") // the order of the ids is that of posting: e2 is the import
	f("between two live ones", func(g *rig, ago when) {
		g.post(identify("a@b.co", 1))
		time.Sleep(2 * minute)
		g.post(identify("a@b.co", 3))
		time.Sleep(minute)
		g.postBulk(identifyAt("a@b.co", 2, ago(2*minute)))
		time.Sleep(minute)
	}, "1 2 3", "e1 e3 e2")
	f("an import in no order", func(g *rig, ago when) {
		g.postBulk(identifyAt("a@b.co", 3, ago(minute)), identifyAt("a@b.co", 1, ago(hour)), identifyAt("a@b.co", 2, ago(2*minute)))
		time.Sleep(minute)
	}, "1 2 3", "e2 e3 e1")
	f("the same time", func(g *rig, ago when) {
		now := ago(0)
		g.post(identify("a@b.co", 3))
		g.postBulk(identifyAt("a@b.co", 1, now), identifyAt("a@b.co", 2, now))
		time.Sleep(minute)
	}, "1 2 3")
	f("a time to come", func(g *rig, ago when) { // counts at receipt
		g.postBulk(identifyAt("a@b.co", 1, ago(-hour)))
		time.Sleep(minute)
		g.post(identify("a@b.co", 2))
		time.Sleep(minute)
	}, "1 2")
	f("the live one is delivered", func(g *rig, ago when) {
		g.post(identify("a@b.co", 2))
		g.give(1)
		g.drain()
		g.postBulk(identifyAt("a@b.co", 1, ago(hour)))
	}, "2")
	f("the live one was delivered before a restart", func(g *rig, ago when) {
		g.post(identify("a@b.co", 2))
		g.give(1)
		g.drain()
		g.stop()
		g.start()
		g.postBulk(identifyAt("a@b.co", 1, ago(hour)))
	}, "2")
	f("an older live one is delivered", func(g *rig, ago when) {
		g.post(identify("a@b.co", 1))
		g.give(1)
		g.drain()
		time.Sleep(hour)
		g.postBulk(identifyAt("a@b.co", 2, ago(minute)))
	}, "1 2")
	f("a replay", func(g *rig, ago when) { // keeps its first receipt
		first := time.Now().UTC()
		time.Sleep(minute)
		g.post(identify("a@b.co", 2))
		time.Sleep(minute)
		ev := event.Event{ID: "again", APIKey: "key", Received: first, Class: event.Replay, JSON: []byte(identify("a@b.co", 1))}
		if err := g.bulk.Append(ev.AppendTo(nil)); err != nil {
			g.t.Fatal(err)
		}
		time.Sleep(minute)
	}, "1 2", "again e1")
}

// give gives n permits.
func (g *rig) give(n int) {
	for range n {
		g.remote.permits <- struct{}{}
	}
}

// TestRetryFindsItsPlace: while a write is in a call, one that counts as earlier comes; the call fails, and they leave in order.
func TestRetryFindsItsPlace(t *testing.T) {
	f := func(err error) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			time.Sleep(24 * time.Hour)
			g := newRig(t, newRemote(), nil)
			g.remote.answer = func(c call) []error {
				if c.n > 0 {
					return nil
				}
				time.Sleep(10 * time.Second)
				return []error{err}
			}
			g.start()
			defer g.stop()
			g.post(identify("a@b.co", 2))
			time.Sleep(time.Second)
			g.postBulk(identifyAt("a@b.co", 1, time.Now().Add(-time.Hour)))
			g.drain()
			g.want(err.Error(), g.writes("a@b.co"), "1 2")
		})
	}
	f(errors.New("connection refused"))
	f(destinations.Block(errors.New("429"), destinations.LaneScope, time.Time{}))
}

// TestCallOfBothStreamsIsSentAgainUnchanged after a restart, and before anything else of its person.
func TestCallOfBothStreamsIsSentAgainUnchanged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRemote()
		r.permits = make(chan struct{}, 100)
		g := newRig(t, r, nil)
		g.window = 2 // blocks are loaded one by one
		g.start()
		hourAgo := time.Now().Add(-time.Hour)
		g.postBulk(identifyAt("a@b.co", 1, hourAgo), identifyAt("b@b.co", 1, hourAgo))
		time.Sleep(time.Second)
		g.postBulk(identifyAt("a@b.co", 2, hourAgo.Add(time.Minute)))
		time.Sleep(time.Second)
		g.post(identify("a@b.co", 3))
		time.Sleep(time.Second)
		g.remote.answer = func(c call) []error {
			<-c.ctx.Done()
			return []error{destinations.Ambiguous(c.ctx.Err())}
		}
		g.give(1)
		time.Sleep(time.Second)
		g.postBulk(identifyAt("a@b.co", 0, hourAgo.Add(-time.Hour)))
		time.Sleep(time.Second)
		g.stop()
		g.remote.answer = nil
		g.give(100)
		g.start()
		defer g.stop()
		g.drain()
		calls := g.calls("contacts")
		if len(calls) < 3 || fmt.Sprint(calls[0].ids()) != fmt.Sprint(calls[1].ids()) {
			t.Fatalf("calls %v and then %v, want the same", calls[0].ids(), calls[1].ids())
		}
		g.want("writes", g.writes("a@b.co"), "1 3") // 2 was not in the window, and 0 came too late: both count as earlier than what is there
	})
}

// TestLiveEventOfAnImportedContact: its contact waits deep in an import. The event must not wait for that, nor arrive before its contact is there.
func TestLiveEventOfAnImportedContact(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		r := newRemote()
		r.watch = newWitness(true)
		g := newRig(t, r, nil)
		g.window = 500
		permitEvery(t, r, 2*time.Second)
		g.start()
		defer g.stop()
		texts := imported(0, 5000)
		texts = append(texts, trackAt("old", "p4999@b.co", time.Now().Add(-time.Hour)))
		for i := range 5 { // hand-overs
			g.postBulk(texts[i*1000 : (i+1)*1000]...)
			time.Sleep(time.Second)
		}
		g.postBulk(texts[5000])
		time.Sleep(time.Second)
		g.post(track("t1", "p4999@b.co"), track("t2", "p4999@b.co"))
		time.Sleep(12 * time.Second)
		g.want("events", g.events(), "t1 t2")
		g.want("contact", g.writes("p4999@b.co"), "")
		if n := len(g.calls("contacts")); n > 20 {
			t.Errorf("the import is through %d calls already", n)
		}
		g.drain()
		g.want("events", g.events(), "t1 t2 old")
		g.want("contact", g.writes("p4999@b.co"), "4999")
		for _, fault := range r.watch.verdict(nil) {
			t.Error(fault)
		}
	})
}

// TestLiveEventHurriesItsImportedContact: a write that is loaded goes before the event, and before the rest of the import.
func TestLiveEventHurriesItsImportedContact(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.post(identify("p3999@b.co", 1)) // the contact is there
		g.drain()
		permitEvery(t, g.remote, 2*time.Second)
		texts := imported(0, 4000)
		texts[3999] = identifyAt("p3999@b.co", 2, time.Now())
		g.postBulk(texts...)
		time.Sleep(time.Second)
		g.post(track("t1", "p3999@b.co"))
		time.Sleep(15 * time.Second)
		g.want("contact", g.writes("p3999@b.co"), "1 2")
		g.want("events", g.events(), "t1")
		if n := len(g.calls("contacts")); n > 20 {
			t.Errorf("the import is through %d calls already", n)
		}
	})
}

// TestBulkWaitsForLiveThatCountsEarlier: live writes that are not loaded may be of the same person.
func TestBulkWaitsForLiveThatCountsEarlier(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.contactKeys, r.inFlight = 2, 1
		g := newRig(t, r, nil)
		g.window = 4
		permitEvery(t, r, time.Second)
		g.start()
		defer g.stop()
		for i := range 20 {
			g.post(identify(fmt.Sprintf("p%d@b.co", i%10), i)) // a hand-over each
			time.Sleep(10 * time.Millisecond)
		}
		g.postBulk(identifyAt("p9@b.co", 100, time.Now()))
		g.drain()
		g.want("the person of the last", g.writes("p9@b.co"), "9 19 100")
	})
}

// TestFullImportRefusesNoLiveEvents: its limits are its own, and so are those who are refused.
func TestFullImportRefusesNoLiveEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{})
		g := newRig(t, r, func(r *Route) {
			r.Lanes = config.LaneLimits{MaxAge: time.Minute, OnFull: config.Refuse}
			r.APIKeys = map[string]bool{"key": true}
		})
		g.start()
		defer g.stop()
		g.postBulk(imported(0, 10)...)
		time.Sleep(2 * time.Minute)
		if why, refused := g.router.Refused("key", event.Live); refused {
			t.Errorf("live events are refused: %s", why)
		}
		for _, class := range []event.Class{event.Bulk, event.Replay} {
			why, refused := g.router.Refused("key", class)
			if !refused || why != "lane contacts/bulk of destination crm is full" {
				t.Errorf("class %d: refused %v, %q", class, refused, why)
			}
			if _, refused := g.router.Refused("other", class); refused {
				t.Error("another API key is refused")
			}
		}
		g.post(identify("live@b.co", 1))
		time.Sleep(2 * time.Minute)
		if why, refused := g.router.Refused("key", event.Live); !refused || why != "lane contacts of destination crm is full" {
			t.Errorf("live events: refused %v, %q", refused, why)
		}
	})
}

// TestImportGivesUpItsOldest and nothing of what is live.
func TestImportGivesUpItsOldest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{}, 100)
		g := newRig(t, r, func(r *Route) { r.Lanes = config.LaneLimits{MaxAge: 10 * time.Minute, OnFull: config.DeadLetterOldest} })
		g.start()
		defer g.stop()
		g.postBulk(imported(0, 10)...)
		time.Sleep(9 * time.Minute)
		g.post(identify("live@b.co", 1))
		time.Sleep(2 * time.Minute)
		dead := g.deadLetters()
		for _, d := range dead {
			if d.Reason != "lane_full" || d.Lane != "contacts" || d.Person == "live@b.co" {
				t.Errorf("dead letter %+v", d)
			}
		}
		if len(dead) != 10 {
			t.Errorf("%d dead letters, want 10", len(dead))
		}
		g.give(10)
		g.drain()
		g.want("live", g.writes("live@b.co"), "1")
	})
}

// TestStreamsHaveTheirNames in status and metrics.
func TestStreamsHaveTheirNames(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{}, 100)
		g := newRig(t, r, nil)
		g.remote.answer = func(c call) []error {
			if c.n == 0 {
				return []error{destinations.Block(errors.New("no tier"), destinations.LaneScope, time.Now().Add(time.Hour))}
			}
			return nil
		}
		g.start()
		defer g.stop()
		g.post(identify("live@b.co", 1))
		time.Sleep(time.Second)
		names := func() (names []string) {
			for _, s := range g.router.Status() {
				names = append(names, fmt.Sprintf("%s %d %s", s.Name.Lane, s.Entries, s.State))
			}
			return names
		}
		g.want("without an import", fmt.Sprint(names()), "[contacts 1 flowing events 0 flowing]")
		g.postBulk(imported(0, 3)...)
		time.Sleep(time.Second)
		g.give(1)
		time.Sleep(time.Second)
		g.want("blocked", fmt.Sprint(names()), "[contacts 1 blocked events 0 flowing contacts/bulk 3 blocked]")
		g.give(50)
		g.drainWithin(2 * time.Hour)
	})
}

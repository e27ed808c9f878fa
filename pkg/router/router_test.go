package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

func TestContactComesBeforeItsEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(c call) []error {
			if c.lane == "contacts" {
				time.Sleep(5 * time.Second) // slow: events must wait for it
			}
			return nil
		}
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1), track("t1", "a@b.co"), track("t2", "a@b.co"), track("t3", "new@b.co"))
		g.drain()
		g.want("contact", g.writes("a@b.co"), "1")
		g.want("contact made for an event", g.writes("new@b.co"), "") // no value: e-mail only
		g.want("events", g.events(), "t1 t2 t3")
		contacts, events := g.calls("contacts"), g.calls("events")
		if len(contacts) == 0 || len(events) == 0 {
			t.Fatalf("%d contact calls and %d event calls", len(contacts), len(events))
		}
		for _, c := range events {
			if c.at.Sub(contacts[0].at) < 5*time.Second {
				t.Errorf("events %v left before their contact was answered", c.ids())
			}
		}
	})
}

func TestIfNewIsMadeOnceAndDuplicatesAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		g.post(track("t1", "a@b.co"), track("t1", "a@b.co"))
		g.drain()
		g.stop()
		g.start() // the window and the known keys outlive a restart
		defer g.stop()
		g.post(track("t1", "a@b.co"), track("t2", "A@B.co"))
		g.drain()
		g.want("events", g.events(), "t1 t2")
		if calls := g.calls("contacts"); len(calls) != 1 {
			t.Errorf("%d contact calls for a person who is known, want 1", len(calls))
		}
	})
}

func TestWaitingWritesOfOneContactLeaveTogetherInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(call) []error { time.Sleep(time.Second); return nil }
		g.start()
		defer g.stop()
		for v := 1; v <= 50; v++ {
			g.post(identify("a@b.co", v))
			time.Sleep(10 * time.Millisecond)
		}
		g.drain()
		var want []string
		for v := 1; v <= 50; v++ {
			want = append(want, fmt.Sprint(v))
		}
		g.want("writes", g.writes("a@b.co"), strings.Join(want, " "))
		if n := len(g.calls("contacts")); n > 3 {
			t.Errorf("%d calls for 50 writes in half a second with calls of a second, want at most 3", n)
		}
		if len(g.remote.overlaps) > 0 {
			t.Errorf("concurrent calls share a key: %v", g.remote.overlaps)
		}
	})
}

func TestCallsAreFull(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{})
		g := newRig(t, r, nil)
		g.start()
		defer g.stop()
		var texts []string
		for i := range 250 {
			texts = append(texts, identify(fmt.Sprintf("p%d@b.co", i), 1), identify(fmt.Sprintf("p%d@b.co", i), 2))
		}
		g.post(texts...)
		time.Sleep(time.Second)
		close(r.permits)
		g.drain()
		var sizes []int
		for _, c := range g.calls("contacts") {
			sizes = append(sizes, len(c.entries))
		}
		slices.Sort(sizes) // they leave at the same time
		if fmt.Sprint(sizes) != "[100 200 200]" {
			t.Errorf("entries per call %v, want 100 contacts with two writes each, and the rest", sizes)
		}
		g.want("last contact", g.writes("p249@b.co"), "1 2")
	})
}

func TestRetryHoldsOnlyItsKey(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		failed := false
		g.remote.answer = func(c call) []error {
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				if e.Plan.Key == "bad@b.co" && !failed {
					failed = true
					errs[i] = destinations.RetryAfter(errors.New("429"), 30*time.Second)
				}
			}
			return errs
		}
		g.start()
		defer g.stop()
		g.post(identify("bad@b.co", 1))
		synctest.Wait()
		time.Sleep(time.Second)
		g.post(identify("bad@b.co", 2), identify("good@b.co", 1), track("t", "bad@b.co"))
		time.Sleep(time.Second)
		g.want("other key meanwhile", g.writes("good@b.co"), "1")
		g.want("held key meanwhile", g.writes("bad@b.co"), "")
		g.want("its event meanwhile", g.events(), "")
		g.drain()
		g.want("held key", g.writes("bad@b.co"), "1 2")
		g.want("its event", g.events(), "t")
		calls := g.calls("contacts")
		if wait := calls[len(calls)-1].at.Sub(calls[0].at); wait < 30*time.Second || wait > 31*time.Second {
			t.Errorf("tried again after %s, want 30s", wait)
		}
	})
}

func TestRetriesEndInTheDeadLetters(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Retry.MaxAge = time.Hour })
		g.remote.answer = func(c call) []error { return []error{errors.New("no luck")} }
		g.start()
		g.post(identify("a@b.co", 1))
		time.Sleep(10 * time.Minute)
		g.stop() // the count goes on over a restart
		g.start()
		defer g.stop()
		g.drainWithin(3 * time.Hour)
		dead := g.deadLetters()
		if len(dead) != 1 {
			t.Fatalf("%d dead letters, want 1", len(dead))
		}
		d := dead[0]
		if d.Reason != "retries" || !strings.Contains(d.Error, "no luck") || d.Person != "a@b.co" || d.EventType != "user_identify" {
			t.Errorf("dead letter %+v", d)
		}
		if d.Attempts < 10 || d.Attempts > 40 {
			t.Errorf("%d attempts in an hour, want a doubling wait up to 5 minutes", d.Attempts)
		}
		var ev event.Event
		if err := ev.Decode(d.Event); err != nil || string(ev.JSON) != identify("a@b.co", 1) {
			t.Errorf("its event is %s, %v", ev.JSON, err)
		}
	})
}

func TestRejectedWriteReleasesTheEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(c call) []error {
			if c.lane == "contacts" {
				return []error{destinations.Reject(errors.New("INVALID_EMAIL"))}
			}
			return nil
		}
		g.start()
		defer g.stop()
		g.post(track("t1", "a@b.co"))
		g.drain()
		g.want("events", g.events(), "t1")
		if dead := g.deadLetters(); len(dead) != 1 || dead[0].Reason != "rejected" || dead[0].Lane != "contacts" {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

func TestBlockedContactsLane(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.post(identify("known@b.co", 1))
		g.drain()
		until := time.Now().Add(time.Hour)
		g.remote.answer = func(c call) []error {
			if c.lane == "contacts" && time.Now().Before(until) {
				return []error{destinations.Block(errors.New("daily limit"), destinations.LaneScope, until)}
			}
			return nil
		}
		g.post(identify("known@b.co", 2), track("t1", "known@b.co"), track("t2", "new@b.co"))
		time.Sleep(time.Minute)
		g.want("event of a contact that is there", g.events(), "t1")
		blocked := 0
		for _, s := range g.router.Status() {
			if s.State == Blocked && s.Reason == "daily limit" && s.NextTry.Equal(until) {
				blocked++
			}
		}
		if blocked != 1 {
			t.Errorf("status shows %d blocked lanes, want 1: %+v", blocked, g.router.Status())
		}
		before := len(g.calls("contacts"))
		g.drainWithin(2 * time.Hour)
		g.want("contact", g.writes("known@b.co"), "1 2")
		g.want("events", g.events(), "t1 t2")
		if first := g.calls("contacts")[before]; first.at.Before(until) {
			t.Errorf("a call left %s before the block ended", until.Sub(first.at))
		}
		if dead := g.deadLetters(); len(dead) > 0 {
			t.Errorf("a block cost events: %+v", dead)
		}
	})
}

func TestAccountBlockProbesWithBackoff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Retry.MaxAge = time.Hour })
		works := time.Now().Add(6 * time.Hour)
		g.remote.answer = func(c call) []error {
			if time.Now().Before(works) {
				return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
			}
			return nil
		}
		g.start()
		defer g.stop()
		for i := range 300 {
			g.post(track(fmt.Sprintf("t%d", i), fmt.Sprintf("p%d@b.co", i)))
		}
		g.drainWithin(7 * time.Hour)
		if got := strings.Count(g.events(), "t"); got != 300 {
			t.Errorf("%d of 300 events arrived after the block", got)
		}
		refused := 0
		for _, c := range g.calls("contacts") {
			if c.at.Before(works) {
				refused++
			}
		}
		if refused < 60 || refused > 110 {
			t.Errorf("%d probes in six hours, want about one per five minutes", refused)
		}
		if dead := g.deadLetters(); len(dead) > 0 {
			t.Errorf("%d dead letters: blocked time must not age entries", len(dead))
		}
	})
}

// TestAmbiguousCall: a call gets no answer, and the remote applies it 90 s later.
func TestAmbiguousCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(c call) []error {
			if c.n > 0 {
				return nil
			}
			time.AfterFunc(90*time.Second, c.apply)
			return []error{destinations.Ambiguous(errors.New("timeout"))}
		}
		g.start()
		defer g.stop()
		began := time.Now()
		g.post(identify("a@b.co", 1), identify("c@b.co", 1))
		synctest.Wait()
		time.Sleep(50 * time.Millisecond)
		g.post(identify("a@b.co", 2), identify("other@b.co", 1))
		time.Sleep(time.Second)
		g.want("sent again at once, unchanged", g.writes("a@b.co"), "1")
		g.want("another key", g.writes("other@b.co"), "1")
		g.drain()
		g.want("the later write comes last", g.writes("a@b.co"), "1 1 2")
		calls := g.calls("contacts")
		last := calls[len(calls)-1]
		if wait := last.at.Sub(began); wait < lateAfter || wait > lateAfter+time.Second {
			t.Errorf("the later write left after %s, want %s", wait, lateAfter)
		}
		if fmt.Sprint(calls[0].ids()) != fmt.Sprint(calls[1].ids()) {
			t.Errorf("sent again as %v, was %v", calls[1].ids(), calls[0].ids())
		}
	})
}

func TestCallCutByAStopIsSentAgainUnchanged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(c call) []error {
			<-c.ctx.Done() // longer than the grace time
			return []error{destinations.Ambiguous(c.ctx.Err())}
		}
		g.start()
		g.post(identify("a@b.co", 1), identify("b@b.co", 1))
		time.Sleep(time.Second)
		g.post(identify("a@b.co", 2))
		time.Sleep(time.Second)
		began := time.Now()
		g.stop()
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("stopping took %s, want the grace time of 10s", took)
		}
		g.remote.answer = nil
		g.start()
		defer g.stop()
		g.drain()
		calls := g.calls("contacts")
		if fmt.Sprint(calls[1].ids()) != fmt.Sprint(calls[0].ids()) {
			t.Errorf("after the restart %v was sent first, want %v", calls[1].ids(), calls[0].ids())
		}
		g.want("writes", g.writes("a@b.co"), "1 2")
		if wait := calls[2].at.Sub(calls[1].at); wait < lateAfter-time.Second {
			t.Errorf("a later write followed after %s, want %s", wait, lateAfter)
		}
	})
}

func TestSharedIdentitiesAreOrdered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(call) []error { time.Sleep(time.Second); return nil }
		g.start()
		defer g.stop()
		g.post(
			`{"event_type":"user_identify","user":{"email":"old@b.co","v":1},"also":["u1"]}`,
			`{"event_type":"user_identify","user":{"email":"new@b.co","v":2},"also":["u1"]}`,
			`{"event_type":"user_identify","user":{"email":"else@b.co","v":3},"also":["u2"]}`,
		)
		g.drain()
		calls := g.calls("contacts")
		if len(calls) != 2 || fmt.Sprint(calls[0].ids()) != "[e1 e3]" || fmt.Sprint(calls[1].ids()) != "[e2]" {
			t.Errorf("%d calls, %v first", len(calls), calls[0].ids())
		}
	})
}

func TestSorterOutcomes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Filter = filterFunc(filterByType) })
		g.start()
		defer g.stop()
		if err := g.log.Append([]byte("no record")); err != nil {
			t.Fatal(err)
		}
		g.post(`{"event_type":"drop","user":{"email":"a@b.co"}}`, `{"event_type":"fail","user":{"email":"a@b.co"}}`,
			`{"event_type":"x"}`, `{"event_type":"x","user":{"email":"a@b.co"},"refuse":1}`,
			`{"event_type":"x","user":{"email":"a@b.co"},"panic":1}`, track("t", "a@b.co"))
		g.drain()
		g.want("events", g.events(), "t")
		reasons := map[string]string{}
		for _, d := range g.deadLetters() {
			reasons[d.Reason] = d.Error
		}
		for reason, text := range map[string]string{
			"record": "not an event record", "filter": "filter fails", "plan": "can not be planned", "panic": "asked to",
		} {
			if !strings.Contains(reasons[reason], text) {
				t.Errorf("dead letters %v lack reason %q with %q", reasons, reason, text)
			}
		}
		if len(reasons) != 4 {
			t.Errorf("dead letters %v", reasons)
		}
	})
}

type filterFunc func(ev *event.Event) (filters.Result, error)

func (f filterFunc) Eval(ev *event.Event) (filters.Result, error) { return f(ev) }

func filterByType(ev *event.Event) (filters.Result, error) {
	switch ev.Type() {
	case "drop":
		return filters.Result{}, nil
	case "fail":
		return filters.Result{}, errors.New("filter fails")
	}
	return filters.Result{Name: "x", Keep: true}, nil
}

func TestIdentityMemory(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		g.post(`{"event_type":"user_identify","user":{"email":"a@b.co","id":"u1","anonymous_id":"anon1","v":1}}`,
			`{"id":"same batch","event_type":"t","user":{"id":"u1"}}`)
		g.drain()
		g.postAs(false, `{"event_type":"user_identify","user":{"email":"thief@b.co","id":"u1","v":6}}`, // a browser can not take u1 over
			`{"event_type":"user_identify","user":{"email":"web@b.co","anonymous_id":"anon2","v":2}}`)
		g.drain()
		g.stop()
		g.start()
		defer g.stop()
		g.post(`{"id":"by user","event_type":"t","user":{"id":"u1"}}`, `{"id":"by anon","event_type":"t","user":{"anonymous_id":"anon1"}}`,
			`{"id":"web","event_type":"t","user":{"anonymous_id":"anon2"}}`, `{"id":"nobody","event_type":"t","user":{"id":"u2"}}`)
		g.drain()
		owner := g.owners()
		want := map[string]string{"same batch": "a@b.co", "by user": "a@b.co", "by anon": "a@b.co", "web": "web@b.co"}
		if fmt.Sprint(owner) != fmt.Sprint(want) {
			t.Errorf("events went to %v, want %v", owner, want)
		}
	})
}

// An alias says that two ids are one person's, whichever of them is known.
func TestAlias(t *testing.T) {
	alias := func(id, user, previous string) string {
		return fmt.Sprintf(`{"id":%q,"event_type":"alias","user":{"id":%q},"previous_id":%q}`, id, user, previous)
	}
	track := func(id, kind, value string) string {
		return fmt.Sprintf(`{"id":%q,"event_type":"t","user":{%q:%q}}`, id, kind, value)
	}
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		g.post(`{"event_type":"user_identify","user":{"email":"a@b.co","id":"new1"}}`, alias("to previous", "new1", "old1"),
			track("previous user", "id", "old1"), track("previous visitor", "anonymous_id", "old1"),
			`{"event_type":"user_identify","user":{"email":"c@d.co","anonymous_id":"old2"}}`, alias("to new", "new2", "old2"))
		g.drain()
		g.postAs(false, alias("by a browser", "new1", "old3"), `{"event_type":"user_identify","user":{"email":"thief@b.co","id":"thief"}}`,
			alias("of a server's", "new1", "thief"), // each keeps its own e-mail
			`{"event_type":"user_identify","user":{"id":"new1","anonymous_id":"visitor"}}`, track("the visitor's", "anonymous_id", "visitor"))
		g.drain()
		g.stop()
		g.start()
		defer g.stop()
		g.post(track("new user", "id", "new2"), track("browser's", "id", "old3"), track("still its own", "id", "new1"), track("the thief's", "id", "thief"),
			alias("nobody", "x", "y"), `{"id":"no alias","event_type":"t","user":{"id":"z"},"previous_id":"new1"}`, track("not learned", "id", "z"),
			`{"event_type":"user_identify","user":{"email":"e@f.co","id":"old3"}}`, track("a server's word", "id", "old3"))
		g.drain()
		owner := map[string]string{}
		for _, c := range g.calls("events") {
			for _, e := range c.entries {
				owner[e.Event.ID] = e.Plan.Key
			}
		}
		want := map[string]string{
			"to previous": "a@b.co", "previous user": "a@b.co", "previous visitor": "a@b.co", "to new": "c@d.co", "by a browser": "a@b.co",
			"of a server's": "a@b.co", "new user": "c@d.co", "browser's": "a@b.co", "still its own": "a@b.co", "the thief's": "thief@b.co",
			"the visitor's": "a@b.co", "a server's word": "e@f.co",
		}
		if diff := cmp.Diff(want, owner); diff != "" {
			t.Errorf("events went to (-want +got):\n%s", diff)
		}
	})
}

// TestIdentityMemoryOfCompatibilityFormat: events of the older format teach and ask as flat ones do.
func TestIdentityMemoryOfCompatibilityFormat(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.post(`{"event_type":"user_identify","eventn_ctx":{"user":{"email":"a@b.co","id":"u1","anonymous_id":"anon1"}}}`,
			`{"event_type":"user_identify","user":{"id":"u2"},"eventn_ctx":{"user":{"email":"b@b.co"}}}`)
		g.drain()
		g.post(`{"id":"flat","event_type":"t","user":{"id":"u1"}}`, `{"id":"compat","event_type":"t","eventn_ctx":{"user":{"anonymous_id":"anon1"}}}`,
			`{"id":"both","event_type":"t","user":{"id":"u2"}}`, `{"id":"nobody","event_type":"t","eventn_ctx":{"user":{"id":"u3"}}}`)
		g.drain()
		want := map[string]string{"flat": "a@b.co", "compat": "a@b.co", "both": "b@b.co"}
		if got := g.owners(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("events went to %v, want %v", got, want)
		}
	})
}

// TestHashIsNoIdentity: under a strict cookie policy the visitor's hash stands in place of an id. People in one office may share it.
func TestHashIsNoIdentity(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		ann := event.Event{AnonymousHash: "0a1b"}
		g.append(ann, `{"event_type":"user_identify","user":{"email":"ann@b.co","id":"u1","anonymous_id":"0a1b"}}`,
			`{"event_type":"user_identify","eventn_ctx":{"user":{"email":"ann@b.co","anonymous_id":"0a1b"}}}`)
		g.drain()
		g.append(ann, `{"id":"bob","event_type":"t","user":{"anonymous_id":"0a1b"}}`, `{"id":"bob, compat","event_type":"t","eventn_ctx":{"user":{"anonymous_id":"0a1b"}}}`,
			`{"id":"ann","event_type":"t","user":{"id":"u1","anonymous_id":"0a1b"}}`)
		g.drain()
		want := map[string]string{"ann": "ann@b.co"}
		if got := g.owners(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("events went to %v, want %v", got, want)
		}
	})
}

// owners are the keys to which events went, by event id.
func (g *rig) owners() map[string]string {
	owner := map[string]string{}
	for _, c := range g.calls("events") {
		for _, e := range c.entries {
			owner[e.Event.ID] = e.Plan.Key
		}
	}
	return owner
}

func TestFullLane(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Lanes = config.LaneLimits{MaxAge: time.Minute, OnFull: config.Refuse} })
		g.remote.answer = func(c call) []error {
			return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
		}
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1))
		time.Sleep(30 * time.Second)
		if reason, refused := g.router.Refused("key", event.Live); refused {
			t.Errorf("refused after 30 s: %s", reason)
		}
		time.Sleep(45 * time.Second)
		if reason, refused := g.router.Refused("key", event.Live); !refused || !strings.Contains(reason, "contacts") {
			t.Errorf("not refused with a lane over its limit: %q", reason)
		}
		g.remote.mu.Lock()
		g.remote.answer = nil
		g.remote.mu.Unlock()
		g.drain()
		time.Sleep(2 * time.Second)
		if reason, refused := g.router.Refused("key", event.Live); refused {
			t.Errorf("still refused: %s", reason)
		}
	})
}

func TestFullLaneGivesUpItsOldest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Lanes = config.LaneLimits{MaxAge: time.Minute, OnFull: config.DeadLetterOldest} })
		until := time.Now().Add(10 * time.Minute)
		g.remote.answer = func(c call) []error {
			if time.Now().Before(until) {
				return []error{destinations.Block(errors.New("401"), destinations.AccountScope, until)}
			}
			return nil
		}
		g.start()
		defer g.stop()
		g.post(identify("old@b.co", 1))
		time.Sleep(9*time.Minute + 30*time.Second)
		g.post(identify("young@b.co", 1))
		g.drainWithin(time.Hour)
		if dead := g.deadLetters(); len(dead) != 1 || dead[0].Reason != "lane_full" || dead[0].Person != "old@b.co" {
			t.Errorf("dead letters %+v", dead)
		}
		g.want("younger entry", g.writes("young@b.co"), "1")
		if _, refused := g.router.Refused("key", event.Live); refused {
			t.Error("refused although the lane gives up its oldest")
		}
	})
}

// TestSlowScriptsHoldUpOnlyTheirDestination: a filter that takes 20 ms for each event, beside a destination without one.
func TestSlowScriptsHoldUpOnlyTheirDestination(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		slow, quick := newRemote(), newRemote()
		g := newRig(t, quick, nil)
		filter := filterFunc(func(ev *event.Event) (filters.Result, error) {
			time.Sleep(20 * time.Millisecond)
			return filterByType(ev)
		})
		g.logs = t.Output()
		routes := g.routes
		g.routes = func(g *rig) []Route {
			return append(routes(g), Route{Name: "slow", Destination: slow, Filter: filter, Retry: config.Retry{MaxAge: time.Hour, MaxDelay: time.Minute}})
		}
		g.start()
		var want []string
		post := func(n int) {
			for range n {
				id := fmt.Sprintf("t%d", len(want))
				want = append(want, id)
				g.post(track(id, "a@b.co"))
			}
		}
		post(500)
		time.Sleep(time.Minute) // measured and set aside
		post(2000)
		time.Sleep(time.Second)
		g.want("events of the other destination", g.events(), strings.Join(want, " "))
		slow.mu.Lock()
		n := len(slow.events)
		slow.mu.Unlock()
		if n > 600 {
			t.Errorf("%d events with 20 ms each arrived after a second", n)
		}
		g.stop() // what is set aside outlives a restart
		g.start()
		defer g.stop()
		post(10)
		g.drain()
		slow.mu.Lock()
		got := strings.Join(slow.events, " ")
		slow.mu.Unlock()
		g.want("events of the slow destination", got, strings.Join(want, " "))
		time.Sleep(time.Minute)
		post(1) // the sorter takes it back
		time.Sleep(time.Second)
		post(1)
		g.drain()
		if a := g.router.table.Load().asides[1]; a == nil || a.active.Load() {
			t.Error("still set aside after it has caught up")
		}
	})
}

// TestLaneThatMayNeverWork: the account lacks a feature. Its events wait for a while, refuse nobody however many they are, and flow if it comes.
func TestLaneThatMayNeverWork(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Lanes = config.LaneLimits{MaxAge: 2 * time.Hour, OnFull: config.Refuse} })
		works := false
		g.remote.answer = func(c call) []error {
			if c.lane == "events" && !works {
				return []error{destinations.BlockSkipping(errors.New("403"), 3*time.Hour, "no tier")}
			}
			return nil
		}
		g.start()
		defer g.stop()
		g.post(track("old1", "a@b.co"), track("old2", "b@b.co"))
		time.Sleep(90 * time.Minute)
		g.post(track("late", "a@b.co"))
		time.Sleep(45 * time.Minute) // the lane is over its limit: the oldest is let go instead of refusing anybody
		if reason, refused := g.router.Refused("key", event.Live); refused {
			t.Errorf("refused: %s", reason)
		}
		g.remote.mu.Lock()
		works = true
		g.remote.mu.Unlock()
		g.drain()
		if dead := g.deadLetters(); len(dead) > 0 {
			t.Errorf("dead letters %+v", dead)
		}
		g.want("events", g.events(), "late")
	})
}

func TestRecordThatKillsTheProcess(t *testing.T) {
	dir := t.TempDir()
	f := func(from, to uint64, suspects span, wantDeaths int) span {
		t.Helper()
		m := deathMark{path: dir + "/mark"}
		if _, err := m.open(); err != nil {
			t.Fatal(err)
		}
		deaths, err := m.begin(from, to, suspects)
		if err != nil || deaths != wantDeaths {
			t.Errorf("begin(%d, %d) after %+v = %d, %v; want %d deaths", from, to, suspects, deaths, err, wantDeaths)
		}
		m.close() // died without end
		again := deathMark{path: dir + "/mark"}
		found, err := again.open()
		if err != nil {
			t.Fatal(err)
		}
		again.close()
		return found
	}
	s := f(10, 20, span{}, 0)   // a batch died
	s = f(10, 11, s, 0)         // now singly: the first is no suspect by itself yet
	s = f(13, 14, s, 0)         // three were fine, 13 dies: once
	s = f(13, 14, s, 1)         // twice
	s = f(13, 14, s, 2)         // three times
	_ = f(13, 14, s, maxDeaths) // now it is buried
	_ = f(14, 15, span{}, 0)
}

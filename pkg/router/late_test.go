package router

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// TestWhoseEventItIsComesLate: browsers post what a user did just after signing in beside the request that says who it is.
func TestWhoseEventItIsComesLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, func(route *Route) {
			route.Filter = filterFunc(func(ev *event.Event) (filters.Result, error) { // as Jitsu's default: $.user?.email
				return filters.Result{Keep: gjson.GetBytes(ev.AppendView(nil), "user.email").Exists()}, nil
			})
		})
		for _, filtered := range []bool{true, false} {
			if !filtered {
				g = newRig(t, r, nil)
			}
			g.start()
			name := func(s string) string { return fmt.Sprintf("%s %t", s, filtered) }
			track := func(id, user string) string {
				return fmt.Sprintf(`{"id":%q,"event_type":"t","user":{"id":%q,"anonymous_id":"anon"}}`, name(id), name(user))
			}
			identify := func(user string) string {
				return fmt.Sprintf(`{"event_type":"user_identify","user":{"id":%q,"email":"a@b.co"}}`, name(user))
			}
			g.postAs(false, track("early", "u1"), `{"event_type":"t","user":{"anonymous_id":"stranger"}}`)
			time.Sleep(200 * time.Millisecond)
			g.postAs(false, identify("u1"), track("prompt", "u1"), track("before a restart", "u2"))
			time.Sleep(time.Second)
			g.want("events", g.events(), name("prompt")) // nobody waits for those that wait
			g.stop()
			g.start()
			g.postAs(false, identify("u2"), track("never", "u3"))
			began := time.Now()
			g.drain()
			if waited := time.Since(began); waited > identityWait+time.Second {
				t.Errorf("drained after %s", waited)
			}
			want := map[string]string{name("early"): "a@b.co", name("prompt"): "a@b.co", name("before a restart"): "a@b.co"}
			if diff := cmp.Diff(want, g.owners()); diff != "" {
				t.Errorf("events went to (-want +got):\n%s", diff)
			}
			g.postAs(false, identify("u3"), `{"event_type":"user_identify","user":{"id":"no e-mail","v":1}}`)
			began = time.Now()
			g.drain()
			if waited := time.Since(began); waited >= identityWait {
				t.Errorf("what describes a user waited %s", waited)
			}
			g.stop()
			r.mu.Lock()
			r.events, r.calls = nil, nil
			r.mu.Unlock()
		}
	})
}

// TestWaitingToBeIdentifiedIsExplained: as for every event one can ask why it is not delivered.
func TestWaitingToBeIdentifiedIsExplained(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.postAs(false, `{"id":"e","event_type":"t","user":{"id":"u1"}}`)
		time.Sleep(time.Second)
		got := g.explain(ExplainQuery{EventID: "e"})
		if len(got.Receipts) != 1 || len(got.Receipts[0].Outputs) != 1 || got.Receipts[0].Outputs[0].Waiting == nil {
			t.Fatalf("explained as %+v", got)
		}
		if why := got.Receipts[0].Outputs[0].Waiting.Why; why != "whose event it is is not known yet: the client may just be telling in another request" {
			t.Errorf("waits because %s", why)
		}
		g.drain()
		if got := g.explain(ExplainQuery{EventID: "e"}); got.Receipts[0].Outputs[0].State != "skipped" || got.Receipts[0].Outputs[0].Reason != "no identity" {
			t.Errorf("in the end %+v", got.Receipts[0].Outputs[0])
		}
	})
}

// TestFilterIsUsedByOneAtATime: the events that waited are filtered beside those that come, and a filter holds one script engine.
func TestFilterIsUsedByOneAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var busy, overlaps atomic.Int32
		g := newRig(t, newRemote(), func(route *Route) {
			route.Filter = filterFunc(func(ev *event.Event) (filters.Result, error) {
				if busy.Add(1) > 1 {
					overlaps.Add(1)
				}
				time.Sleep(5 * time.Millisecond)
				busy.Add(-1)
				return filters.Result{Keep: true}, nil
			})
		})
		g.start()
		defer g.stop()
		for i := range 50 {
			g.post(fmt.Sprintf(`{"event_type":"t","user":{"id":"u%d"}}`, i))
		}
		time.Sleep(identityWait - 50*time.Millisecond)
		for i := range 50 {
			g.post(track(fmt.Sprintf("t%d", i), "a@b.co"))
			time.Sleep(4 * time.Millisecond)
		}
		g.drain()
		if n := overlaps.Load(); n > 0 {
			t.Errorf("the filter was called %d times while it was at work", n)
		}
		if n := len(strings.Fields(g.events())); n != 50 {
			t.Errorf("%d events, want 50", n)
		}
	})
}

// TestLateEventWaitsForItsContact: the request that said whose event it is came after the event, and its contact is still being written.
func TestLateEventWaitsForItsContact(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, nil)
		r.answer = func(c call) []error {
			if c.lane == "contacts" {
				time.Sleep(10 * time.Second)
			}
			return nil
		}
		for restart := range 2 {
			g.start()
			id, email := fmt.Sprintf("u%d", restart), fmt.Sprintf("a%d@b.co", restart)
			g.post(fmt.Sprintf(`{"id":%q,"event_type":"t","user":{"id":%q}}`, "early "+id, id))
			time.Sleep(10 * time.Millisecond)
			g.post(fmt.Sprintf(`{"event_type":"user_identify","user":{"id":%q,"email":%q,"v":1}}`, id, email))
			time.Sleep(identityWait + 2*time.Second)
			if restart > 0 { // it is read from the store again
				g.grace = 0
				g.stop()
				g.start()
			}
			time.Sleep(time.Second)
			if g.writes(email) == "" && strings.Contains(g.events(), "early "+id) {
				t.Errorf("start %d: the event is delivered before its contact", restart)
			}
			g.drain()
			if g.writes(email) == "" || !strings.Contains(g.events(), "early "+id) {
				t.Errorf("start %d: written %q, events %q", restart, g.writes(email), g.events())
			}
			g.stop()
		}
	})
}

// TestLateContactWrite: what a late event writes to its contact does not take the place of what a later one wrote meanwhile, also after a restart.
func TestLateContactWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{})
		for restart := range 2 {
			g.start()
			user := fmt.Sprintf("u%d", restart)
			email := user + "@b.co"
			g.post(fmt.Sprintf(`{"event_type":"signup","user":{"id":%[1]q},"into":[{"event_type":"user_identify","user":{"email":%[2]q,"v":1,"w":1}},`+
				`{"event_type":"t","user":{"id":%[1]q}}]}`, user, email))
			time.Sleep(time.Second)
			g.post(identify(email, 2))
			time.Sleep(time.Second)
			if restart > 0 {
				g.stop()
				g.start()
			}
			g.drain()
			g.stop()
			g.want("v of "+email, g.writes(email), "2")
			if w := g.remote.state[email]["w"]; w == "" {
				t.Errorf("start %d: the late event has not written what no later one did", restart)
			}
		}
	})
}

// TestLateEventsOfASlowDestination: a destination whose scripts can not keep up sorts the events that have waited to be identified all the same.
func TestLateEventsOfASlowDestination(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(route *Route) { route.Filter = filterFunc(slowFilter) })
		g.start()
		defer g.stop()
		g.post(slowTrack("first", 3*time.Second), slowTrack("second", 2*time.Second)) // sets the destination aside
		time.Sleep(3500 * time.Millisecond)
		g.post(`{"id":"early","event_type":"t","user":{"id":"u1"}}`)
		time.Sleep(10 * time.Millisecond)
		g.post(`{"event_type":"user_identify","user":{"id":"u1","email":"a@b.co"}}`)
		for i := range 120 {
			g.post(slowTrack(fmt.Sprintf("t%d", i), 2*time.Second))
			time.Sleep(time.Second)
		}
		if !strings.Contains(g.events(), "early") {
			t.Errorf("an event waited for two minutes behind what came after it: %s", g.events())
		}
		g.drain()
	})
}

// TestLateEventsThatAreRejected: a destination may want what has no identity among the dead letters.
func TestLateEventsThatAreRejected(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(route *Route) { route.Destination = rejecting{route.Destination.(*remote)} })
		g.start()
		defer g.stop()
		g.post(`{"id":"known later","event_type":"t","user":{"id":"u1"}}`, `{"id":"never","event_type":"t","user":{"id":"u2"}}`)
		time.Sleep(time.Second)
		g.post(`{"event_type":"user_identify","user":{"id":"u1","email":"a@b.co"}}`)
		if dead := g.deadLetters(); len(dead) > 0 {
			t.Errorf("dead letters at once: %+v", dead)
		}
		g.drain()
		dead := g.deadLetters()
		if len(dead) != 1 || dead[0].EventID != "never" || dead[0].Destination != "crm" {
			t.Errorf("dead letters: %+v", dead)
		}
		g.want("events", g.events(), "known later")
	})
}

// rejecting is a remote that wants no events of nobody.
type rejecting struct{ *remote }

func (r rejecting) Plan(ev *event.Event) ([]destinations.Plan, error) {
	plans, err := r.remote.Plan(ev)
	if _, ok := destinations.IsSkip(err); ok {
		err = destinations.Unidentified(destinations.Reject(errors.New("no identity")))
	}
	return plans, err
}

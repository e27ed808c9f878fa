package router

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// story is an explanation in one line for each output: destination lane state reason error why.
func story(x *Explanation) string {
	var b strings.Builder
	for _, r := range x.Receipts {
		fmt.Fprintf(&b, "%s %s %s", r.APIKey, r.EventID, r.State)
		for _, o := range r.Outputs {
			fmt.Fprintf(&b, "\n  %s %s %s", o.Destination, o.Lane, o.State)
			for _, more := range []string{o.Reason, o.Error} {
				if more != "" {
					fmt.Fprintf(&b, ": %s", more)
				}
			}
			if o.Minimal {
				b.WriteString(" minimal")
			}
			if o.Attempts > 1 {
				fmt.Fprintf(&b, " attempts=%d", o.Attempts)
			}
			if o.DeadLetter != 0 {
				fmt.Fprintf(&b, " letter=%d", o.DeadLetter)
			}
			if w := o.Waiting; w != nil {
				fmt.Fprintf(&b, " why=%q before=%d lane=%s", w.Why, w.Before, w.LaneState)
				if w.LastError != "" {
					fmt.Fprintf(&b, " last=%q", w.LastError)
				}
			}
		}
		b.WriteString("\n")
	}
	if !x.Found {
		b.WriteString("unknown\n")
	}
	return b.String()
}

func (g *rig) explain(q ExplainQuery) *Explanation {
	g.t.Helper()
	x, err := g.router.Explain(context.Background(), q)
	if err != nil {
		g.t.Fatal(err)
	}
	return x
}

// explained wants the story of an event.
func (g *rig) explained(id, want string) {
	g.t.Helper()
	g.want(id, story(g.explain(ExplainQuery{EventID: id})), strings.TrimLeft(want, "\n"))
}

// stored is what can be told without the router, after it was stopped.
func (g *rig) stored(id, want string) {
	g.t.Helper()
	st, err := store.OpenReadOnly(filepath.Join(g.dir, "store"), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	defer st.Close()
	x, err := ExplainStored(context.Background(), st, ExplainQuery{EventID: id})
	if err != nil {
		g.t.Fatal(err)
	}
	g.want("stored "+id, story(x), strings.TrimLeft(want, "\n"))
}

// jsonFilter decides by the event's JSON.
type jsonFilter func(json string) (bool, error)

func (f jsonFilter) Eval(ev *event.Event) (filters.Result, error) {
	keep, err := f(string(ev.JSON))
	return filters.Result{Keep: keep}, err
}

func TestExplainFinished(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.answer = func(c call) []error {
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				switch {
				case strings.Contains(string(e.Event.JSON), "bad"):
					errs[i] = destinations.Reject(errors.New("no such plan"))
				case strings.Contains(string(e.Event.JSON), "wanting") && e.Attempt < 3:
					errs[i] = errors.New("try again")
				}
			}
			return errs
		}
		g := newRig(t, r, func(route *Route) {
			route.APIKeys = map[string]bool{"key": true}
			route.Filter = jsonFilter(func(json string) (bool, error) {
				if strings.Contains(json, "broken") {
					return false, errors.New("template: oops")
				}
				return !strings.Contains(json, "leave out"), nil
			})
		})
		g.start()
		g.post(
			`{"id":"told","event_type":"user_identify","user":{"email":"Ada@example.com","v":1}}`,
			track("event", "ada@example.com"),
			track("first", "new@example.com"),
			`{"id":"out","event_type":"t","user":{"email":"ada@example.com"},"x":"leave out"}`,
			`{"id":"oops","event_type":"t","user":{"email":"ada@example.com"},"x":"broken"}`,
			`{"id":"nobody","event_type":"t"}`,
			`{"id":"reject","event_type":"user_identify","user":{"email":"bad@example.com","v":1}}`,
			`{"id":"twice","event_type":"user_identify","user":{"email":"wanting@example.com","v":1}}`,
			track("told", "other@example.com"),
		)
		ev := event.Event{ID: "stray", APIKey: "other", Received: time.Now().UTC(), JSON: []byte(`{}`)}
		if err := g.log.Append(ev.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		g.drain()
		check := func(f func(id, want string)) {
			t.Helper()
			f("told", "key told sorted\n  crm contacts delivered\nkey told duplicate\n")
			f("event", "key event sorted\n  crm events delivered\n")
			f("first", "key first sorted\n  crm contacts delivered minimal\n  crm events delivered\n")
			f("out", "key out sorted\n  crm  filtered\n")
			f("oops", "key oops sorted\n  crm  dead_letter: filter: template: oops letter=1\n")
			f("nobody", "key nobody sorted\n  crm  skipped: no identity\n")
			f("reject", "key reject sorted\n  crm contacts dead_letter: rejected: no such plan letter=2\n")
			f("twice", "key twice sorted\n  crm contacts delivered attempts=3\n")
			f("stray", "other stray unrouted\n")
			f("never", "unknown\n")
		}
		check(g.explained)
		if x := g.explain(ExplainQuery{EventID: "never"}); len(x.Notes) != 1 || !strings.Contains(x.Notes[0], "never accepted") {
			t.Errorf("notes %q", x.Notes)
		}
		g.want("of another key", story(g.explain(ExplainQuery{EventID: "told", APIKey: "other"})), "unknown\n")
		x := g.explain(ExplainQuery{Person: " ADA@example.com"})
		g.want("person", story(x), "key told sorted\n  crm contacts delivered\nkey event sorted\n  crm events delivered\nkey out sorted\n  crm  filtered\n"+
			"key oops sorted\n  crm  dead_letter: filter: template: oops letter=1\n")
		g.want("person, the last", story(g.explain(ExplainQuery{Person: "ada@example.com", Limit: 1})), "key event sorted\n  crm events delivered\n")
		o := g.explain(ExplainQuery{EventID: "twice"}).Receipts[0].Outputs[0]
		if o.LatencySeconds < 2 || o.LatencySeconds > 6 || o.Settled == nil {
			t.Errorf("after two retries: %+v", o)
		}
		g.stop()
		check(g.stored)
		g.start()
		check(g.explained)
		g.stop()
	})
}

func TestExplainWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		sending := make(chan struct{})
		r.answer = func(c call) []error {
			text := string(c.entries[0].Event.JSON)
			switch {
			case c.lane == "events":
				return []error{destinations.Block(errors.New("no tier"), destinations.LaneScope, time.Time{})}
			case strings.Contains(text, "slow"):
				select {
				case <-sending:
				case <-c.ctx.Done():
					return []error{destinations.Ambiguous(c.ctx.Err())}
				}
			case strings.Contains(text, "wanting"):
				return []error{destinations.RetryAfter(errors.New("try again"), time.Minute)}
			case strings.Contains(text, "silent"):
				return []error{destinations.Ambiguous(errors.New("timeout"))}
			}
			return nil
		}
		r.contactKeys = 1 // a call for each
		g := newRig(t, r, nil)
		g.start()
		g.post(track("event", "ada@example.com"))
		time.Sleep(time.Second)
		g.post(
			`{"id":"slow","event_type":"user_identify","user":{"email":"slow@example.com","v":1}}`,
			track("of slow", "slow@example.com"),
			`{"id":"retry","event_type":"user_identify","user":{"email":"wanting@example.com","v":1}}`,
		)
		time.Sleep(300 * time.Millisecond)
		g.post(`{"id":"silent","event_type":"user_identify","user":{"email":"silent@example.com","v":1}}`) // the second failure: the lane waits a second
		time.Sleep(300 * time.Millisecond)
		g.post(`{"id":"after","event_type":"user_identify","user":{"email":"slow@example.com","v":2}}`)
		time.Sleep(300 * time.Millisecond)
		const blocked = `why="its lane is blocked" before=%d lane=blocked`
		check := func() {
			t.Helper()
			g.explained("event", "key event sorted\n  crm contacts delivered minimal\n  crm events waiting "+fmt.Sprintf(blocked, 0)+"\n")
			g.explained("of slow", "key of slow sorted\n  crm events waiting "+fmt.Sprintf(blocked, 1)+"\n")
		}
		check()
		x := g.explain(ExplainQuery{EventID: "event"})
		if w := x.Receipts[0].Outputs[1].Waiting; w.LaneReason != "no tier" || w.LaneSince == nil || w.LaneNextTry == nil || w.NextAttempt == nil {
			t.Errorf("blocked: %+v", w)
		}
		g.explained("slow", "key slow sorted\n  crm contacts in_flight why=\"it is in a call now\" before=0 lane=flowing\n")
		g.explained("after", "key after sorted\n  crm contacts waiting why=\"for earlier entries of the same person in this lane: 1\" before=3 lane=flowing\n")
		g.explained("retry", "key retry sorted\n  crm contacts waiting why=\"the last attempt failed\" before=1 lane=flowing last=\"try again\"\n")
		g.explained("silent", "key silent sorted\n  crm contacts in_flight why=\"a call with it got no complete answer; it is sent again unchanged\" before=2 lane=flowing\n")
		w := g.explain(ExplainQuery{EventID: "retry"}).Receipts[0].Outputs[0].Waiting
		if until := time.Until(*w.NextAttempt); until < 50*time.Second || until > 70*time.Second {
			t.Errorf("the retry is due in %s", until)
		}
		g.want("person", story(g.explain(ExplainQuery{Person: "wanting@example.com"})),
			"key retry sorted\n  crm contacts waiting why=\"the last attempt failed\" before=1 lane=flowing last=\"try again\"\n")
		g.stop()

		g.stored("slow", "key slow sorted\n  crm contacts in_flight why=\"it was in a call when the router ended; it is sent again unchanged at the next start\" before=0 lane=\n")
		g.stored("after", "key after sorted\n  crm contacts waiting why=\"no router delivers it now\" before=3 lane=\n")
		g.stored("retry", "key retry sorted\n  crm contacts waiting why=\"the last attempt failed\" before=1 lane= last=\"try again\"\n")
		g.stored("of slow", "key of slow sorted\n  crm events waiting why=\"no router delivers it now\" before=1 lane=\n")

		close(sending)
		g.start()
		time.Sleep(time.Second)
		g.explained("slow", "key slow sorted\n  crm contacts delivered\n")
		check()
		g.remote.mu.Lock()
		g.remote.answer = nil
		g.remote.mu.Unlock()
		g.drain()
		g.explained("event", "key event sorted\n  crm contacts delivered minimal\n  crm events delivered\n")
		g.stop()
	})
}

// TestExplainBehindTheWindow: what is not in memory is found in the store, and the bound of the search is said.
func TestExplainBehindTheWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{})
		g := newRig(t, r, nil)
		g.window = 10
		g.start()
		for i := range 50 {
			g.post(identify(fmt.Sprintf("p%d@example.com", i), i))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		g.explained("e41", "key e41 sorted\n  crm contacts waiting why=\"for what is before it in its lane\" before=40 lane=flowing\n")
		g.want("person", story(g.explain(ExplainQuery{Person: "P40@example.com"})),
			"key e41 sorted\n  crm contacts waiting why=\"for what is before it in its lane\" before=40 lane=flowing\n")
		x := &explainer{store: g.store, router: g.router, query: ExplainQuery{EventID: "e41"}, needle: []byte("e41")}
		if err := x.searchLanes(context.Background()); err != nil || len(x.waiting) != 0 || len(x.notes) != 1 || !strings.Contains(x.notes[0], "of 50 entries only the first") {
			t.Errorf("with a bound: %v, found %v, notes %q", err, x.waiting, x.notes)
		}
		close(r.permits)
		g.drain()
		g.explained("e41", "key e41 sorted\n  crm contacts delivered\n")
		g.stop()
	})
}

// TestExplainUnsorted: an event that is accepted and not sorted is found in the log.
func TestExplainUnsorted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(route *Route) {
			route.Filter = jsonFilter(func(string) (bool, error) { time.Sleep(time.Second); return true, nil })
		})
		g.start()
		g.post(identify("a@example.com", 1))
		time.Sleep(100 * time.Millisecond)
		g.post(identify("b@example.com", 1))
		g.explained("e2", "key e2 unsorted\n")
		g.drain()
		g.explained("e2", "key e2 sorted\n  crm contacts delivered\n")
		g.stop()
	})
}

// TestOutcomesOff: without room for outcomes only what waits and dead letters are known, and that is said.
func TestOutcomesOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.outcomes = -1
		g.start()
		g.post(identify("a@example.com", 1), `{"id":"x","event_type":"t","user":{"email":"a@example.com"},"refuse":1}`)
		g.drain()
		g.explained("x", "key x sorted\n  crm  dead_letter: plan: can not be planned letter=1\n")
		x := g.explain(ExplainQuery{EventID: "e1"})
		if x.Found || len(x.Notes) != 1 || !strings.Contains(x.Notes[0], "outcomes are not kept") {
			t.Errorf("%+v", x)
		}
		g.stop()
	})
}

// TestExplainOfAPersonIsBounded: however much waits for a person, only the first of it is told, and that there is more.
func TestExplainOfAPersonIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(c call) []error { return []error{errors.New("down")} }
		g.start()
		defer g.stop()
		texts := make([]string, 10_000)
		for i := range texts {
			texts[i] = identify("hot@b.co", i)
		}
		g.post(texts...)
		time.Sleep(3 * time.Second)
		x := g.explain(ExplainQuery{Person: "hot@b.co"})
		if len(x.Receipts) > 20 || !strings.Contains(strings.Join(x.Notes, "\n"), "10000") {
			t.Errorf("%d receipts; notes %q", len(x.Receipts), x.Notes)
		}
	})
}

// TestExplainFindsTheDeliveryBehindManyDuplicates: a client that sends an id again and again hides nothing.
func TestExplainFindsTheDeliveryBehindManyDuplicates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		for i := range 150 {
			g.post(fmt.Sprintf(`{"id":"again","event_type":"user_identify","user":{"email":"a@b.co","v":%d}}`, i))
			time.Sleep(20 * time.Millisecond)
		}
		g.drain()
		x := g.explain(ExplainQuery{EventID: "again"})
		for _, r := range x.Receipts {
			for _, o := range r.Outputs {
				if o.State == "delivered" {
					return
				}
			}
		}
		t.Errorf("%d receipts, and none says that it was delivered", len(x.Receipts))
	})
}

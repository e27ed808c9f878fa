package router

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/trial"
)

// scripted is a transform that does what an event says in members of its own. Others than these stay as they are.
//
//	fail: TEXT     it fails            takes: N     it takes so many milliseconds
//	skip: TRUE     it returns null     print: TEXT  it prints a line
//	into: [...]    it makes these of the event, which are its outputs' JSON; an element that is true stays as the event is
//	count: KEY     it counts events of the key in $kv, and writes the count as n into each output, and so the sum that add is, of all, in sum
//
// suffix is added to the type of every output, to tell transforms apart.
type scripted struct {
	suffix string
	kv     bool
}

func (s *scripted) UsesKV() bool { return s.kv }

func (s *scripted) Eval(ev *event.Event, w filters.World) (outputs []filters.Output, why string, err error) {
	in := gjson.ParseBytes(ev.JSON)
	if takes := in.Get("takes"); takes.Exists() {
		time.Sleep(time.Duration(takes.Int()) * time.Millisecond)
	}
	if line := in.Get("print"); line.Exists() && w.Log != nil {
		w.Log("warn", line.Str)
	}
	n := int64(0)
	if key := in.Get("count").Str; key != "" {
		had, _, err := w.KV.Load(key)
		if err != nil {
			return nil, "", err
		}
		n = gjson.Parse(had).Int() + 1
		if err := w.KV.Store(key, strconv.FormatInt(n, 10), time.Hour); err != nil {
			return nil, "", err
		}
	}
	if in.Get("fail").Exists() {
		return nil, "", errors.New("line 3: " + in.Get("fail").Str)
	}
	if in.Get("skip").Exists() {
		return nil, "the transform returned null", nil
	}
	all := []gjson.Result{gjson.Parse("true")}
	if into := in.Get("into"); into.Exists() {
		all = into.Array()
	}
	for i, o := range all {
		out := *ev
		if o.IsObject() {
			out.JSON = []byte(o.Raw)
		}
		if i > 0 {
			out.ID += "_" + strconv.Itoa(i)
		}
		if n > 0 {
			out.JSON = fmt.Appendf(nil, `{"n":%d,%s`, n, out.JSON[1:])
		}
		if s.suffix != "" {
			out.JSON = []byte(strings.Replace(string(out.JSON), `"event_type":"`, `"event_type":"`+s.suffix, 1))
		}
		outputs = append(outputs, filters.Output{Event: &out})
	}
	return outputs, "the transform returned no events", nil
}

// newScriptedRig makes a rig whose one route has a transform.
func newScriptedRig(t *testing.T, tr *scripted) *rig {
	t.Helper()
	return newRig(t, newRemote(), func(r *Route) { r.Transform = tr })
}

// letters are the dead letters in one line each: event id, output, lane, reason, id in the event, id in the original.
func (g *rig) letters() string {
	g.t.Helper()
	var all []string
	for _, d := range g.deadLetters() {
		line := fmt.Sprintf("%s/%d %s %s", d.EventID, d.Index, d.Lane, d.Reason)
		for _, rec := range [][]byte{d.Event, d.Original} {
			var ev event.Event
			if rec != nil && ev.Decode(rec) == nil {
				line += " " + ev.ID + ":" + string(ev.JSON)
			}
		}
		all = append(all, line)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestOutputs: of one event into several each goes its own way, with an id of its own, whatever becomes of its siblings.
func TestOutputs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{})
		g.remote.answer = func(c call) []error {
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				if gjson.GetBytes(e.Event.JSON, "bad").Exists() {
					errs[i] = destinations.Reject(errors.New("400"))
				}
			}
			return errs
		}
		g.start()
		const text = `{"id":"e","event_type":"cart","into":[` +
			`{"event_type":"item","user":{"email":"a@b.co"}},` +
			`{"event_type":"item","bad":1,"user":{"email":"b@b.co"}},` +
			`{"event_type":"item","panic":1},` +
			`{"event_type":"item","refuse":1},` +
			`{"event_type":"user_identify","user":{"email":"C@b.co","v":7}},` +
			`{"event_type":"item"}]}`
		g.post(text, track("other", "a@b.co"))
		g.drain()
		g.want("events", g.events(), "e other")
		g.want("writes", g.writes("c@b.co"), "7")
		g.want("dead letters", g.letters(), strings.Join([]string{
			`e/1 contacts rejected e_1:{"event_type":"item","bad":1,"user":{"email":"b@b.co"}} e:` + text,
			`e/1 events rejected e_1:{"event_type":"item","bad":1,"user":{"email":"b@b.co"}} e:` + text,
			`e/2  panic e_2:{"event_type":"item","panic":1} e:` + text,
			`e/3  plan e_3:{"event_type":"item","refuse":1} e:` + text,
		}, "\n"))
		want := "key e sorted" +
			"\n  crm /2   dead_letter: panic" +
			"\n  crm /3   dead_letter: plan" +
			"\n  crm /5   skipped: no identity" +
			"\n  crm contacts/0   delivered" +
			"\n  crm contacts/1  b@b.co dead_letter: rejected" +
			"\n  crm contacts/4 user_identify c@b.co delivered" +
			"\n  crm events/0   delivered" +
			"\n  crm events/1  b@b.co dead_letter: rejected"
		for range 2 {
			x := g.explain(ExplainQuery{EventID: "e"})
			got := fmt.Sprintf("%s %s %s", x.Receipts[0].APIKey, x.Receipts[0].EventID, x.Receipts[0].State)
			for _, o := range x.Receipts[0].Outputs {
				line := fmt.Sprintf("\n  %s %s/%d %s %s %s", o.Destination, o.Lane, o.Index, o.EventType, o.Person, o.State)
				if o.Reason != "" {
					line += ": " + o.Reason
				}
				got += line
			}
			if len(x.Receipts) != 1 {
				t.Errorf("%d receipts", len(x.Receipts))
			}
			g.want("explain", got, want)
			x = g.explain(ExplainQuery{EventID: "e_4"})
			if !x.Found || x.EventID != "e" || len(x.Notes) == 0 || !strings.Contains(x.Notes[0], "e_4 is the id of output 4") {
				t.Errorf("explain of e_4: %+v", x)
			}
			for _, id := range []string{"e_6", "e_0", "e_x", "_1", "other_1"} {
				if x := g.explain(ExplainQuery{EventID: id}); x.Found {
					t.Errorf("explain of %s: %+v", id, x)
				}
			}
			x = g.explain(ExplainQuery{Person: "c@b.co"})
			if len(x.Receipts) != 1 || len(x.Receipts[0].Outputs) != 1 || x.Receipts[0].EventID != "e" || x.Receipts[0].Outputs[0].Index != 4 {
				t.Errorf("explain of a person: %+v", x)
			}
			g.stop()
			g.start()
		}
		g.stop()
	})
}

// TestOutputsWait: outputs in lanes are told apart while they wait, before and after a restart, in memory and in the store.
func TestOutputsWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{})
		g.window = 1
		g.remote.permits = make(chan struct{})
		g.start()
		g.post(track("before", "p@b.co"), `{"id":"e","event_type":"cart","into":[true,{"event_type":"item","user":{"email":"a@b.co"}},{"event_type":"user_identify","user":{"email":"b@b.co","v":1}}]}`)
		for range 2 {
			time.Sleep(time.Second)
			got := ""
			x := g.explain(ExplainQuery{EventID: "e"})
			for _, r := range x.Receipts {
				for _, o := range r.Outputs {
					got += fmt.Sprintf("%s/%s/%d/%s/%s/%s ", r.EventID, o.Lane, o.Index, o.State, o.EventType, o.Person)
				}
			}
			g.want("explain", got, "e//0/skipped// e/contacts/1/waiting/item/a@b.co e/contacts/2/waiting/user_identify/b@b.co e/events/1/waiting/item/a@b.co ")
			g.stop()
			g.start()
		}
		close(g.remote.permits)
		g.drain()
		defer g.stop()
		g.want("events", g.events(), "before e_1")
		g.want("writes", g.writes("b@b.co"), "1")
	})
}

// TestOrderOverOutputs: what is of one person leaves in the order of events, and of outputs in an event, also over a restart.
func TestOrderOverOutputs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{})
		g.remote.contactKeys, g.remote.eventEntries = 1, 1
		g.remote.permits = make(chan struct{})
		g.start()
		write := func(n int) string {
			return fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"a@b.co","v":%d}}`, n)
		}
		const item = `{"event_type":"t","user":{"email":"a@b.co"}}`
		n := 0
		var writes, events []string
		for i := range 20 {
			var into []string
			for k := range 4 {
				if (i+k)%3 == 0 {
					into = append(into, item)
					events = append(events, strings.TrimSuffix(fmt.Sprintf("e%d_%d", i, k), "_0"))
				} else {
					into = append(into, write(n))
					writes = append(writes, strconv.Itoa(n))
					n++
				}
			}
			g.post(fmt.Sprintf(`{"id":"e%d","event_type":"x","into":[%s]}`, i, strings.Join(into, ",")))
			time.Sleep(time.Duration(i%3) * 10 * time.Millisecond)
			if i == 10 {
				g.stop()
				g.start()
			}
		}
		close(g.remote.permits)
		g.drain()
		defer g.stop()
		g.want("writes", g.writes("a@b.co"), strings.Join(writes, " "))
		g.want("events", g.events(), strings.Join(events, " "))
		if dead := g.letters(); dead != "" {
			t.Errorf("dead letters: %s", dead)
		}
	})
}

// TestFailingTransform: the event is kept as it came, for this destination alone, and others flow.
func TestFailingTransform(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{})
		other := newRemote()
		routes := g.routes
		g.routes = func(g *rig) []Route { return append(routes(g), routeTo("lake", other)) }
		g.start()
		defer g.stop()
		const failing, skipped = `{"id":"fails","event_type":"t","fail":"no such member","user":{"email":"a@b.co"}}`, `{"id":"skipped","event_type":"t","skip":true,"user":{"email":"a@b.co"}}`
		g.post(track("before", "a@b.co"), failing, skipped, `{"id":"none","event_type":"t","into":[],"user":{"email":"a@b.co"}}`, track("after", "a@b.co"))
		g.drain()
		g.want("events", g.events(), "before after")
		other.mu.Lock()
		g.want("events of the other destination", strings.Join(other.events, " "), "before fails skipped none after")
		other.mu.Unlock()
		g.want("dead letters", g.letters(), "fails/0  transform fails:"+failing)
		for id, want := range map[string]string{
			"fails": "dead_letter: transform: line 3: no such member letter=1", "skipped": "filtered: the transform returned null",
			"none": "filtered: the transform returned no events",
		} {
			if got := story(g.explain(ExplainQuery{EventID: id})); !strings.Contains(got, "crm  "+want) {
				t.Errorf("explain of %s:\n%swant %s", id, got, want)
			}
		}
	})
}

// TestRunawayTransform: a script that does not end is stopped, and others flow. In real time, for that is what stops it.
func TestRunawayTransform(t *testing.T) {
	tr, err := filters.CompileTransform(`if ($.loop) { for (;;) {} } return {...$, seen: true}`, filters.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, newRemote(), func(r *Route) { r.Transform = tr })
	g.start()
	defer g.stop()
	g.post(track("before", "a@b.co"), `{"id":"loops","event_type":"t","loop":true,"user":{"email":"a@b.co"}}`, track("after", "a@b.co"))
	g.drainWithin(time.Minute)
	g.want("events", g.events(), "before after")
	dead := g.deadLetters()
	if len(dead) != 1 || dead[0].EventID != "loops" || dead[0].Reason != "transform" {
		t.Errorf("dead letters: %+v", dead)
	}
	for _, c := range g.calls("events") {
		for _, e := range c.entries {
			if !gjson.GetBytes(e.Event.JSON, "seen").Bool() {
				t.Errorf("%s is delivered as %s", e.Event.ID, e.Event.JSON)
			}
		}
	}
}

// TestSlowTransformSetsAside: as a slow filter does; what it makes comes through all the same.
func TestSlowTransformSetsAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var logs trial.Log
		g := newScriptedRig(t, &scripted{})
		other := newRemote()
		routes := g.routes
		g.routes = func(g *rig) []Route { return append(routes(g), routeTo("lake", other)) }
		g.logs = &logs
		g.start()
		defer g.stop()
		g.post(slowTrack("first", 3*time.Second))
		for i := range 10 {
			g.post(fmt.Sprintf(`{"id":"t%d","event_type":"t","takes":1000,"into":[{"event_type":"t","user":{"email":"a@b.co"}},{"event_type":"t","user":{"email":"a@b.co"}}]}`, i))
		}
		g.post(track("quick", "q@b.co"))
		time.Sleep(7 * time.Second) // two batches at most were slow
		if strings.Contains(g.events(), "quick") {
			t.Error("the slow destination is through already")
		}
		other.mu.Lock()
		g.want("events of the other destination", strings.Join(other.events, " "), "first quick")
		other.mu.Unlock()
		g.drain()
		ofOne := strings.Replace(g.events()+" ", "quick ", "", 1) // whose person waits for nobody
		g.want("events", ofOne, "first t0 t0_1 t1 t1_1 t2 t2_1 t3 t3_1 t4 t4_1 t5 t5_1 t6 t6_1 t7 t7_1 t8 t8_1 t9 t9_1 ")
		if !strings.Contains(g.events(), "quick") {
			t.Errorf("events %q, without the quick one", g.events())
		}
		if !strings.Contains(logs.String(), "scripts are slow") {
			t.Error("the destination was not set aside")
		}
	})
}

// TestOriginalsStay: what waits for long, alone of its block, still has the event as it came, and siblings have it once.
func TestOriginalsStay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{})
		began := time.Now()
		g.remote.answer = func(c call) []error {
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				switch bad := gjson.GetBytes(e.Event.JSON, "bad").Exists(); {
				case bad && time.Since(began) > time.Minute:
					errs[i] = destinations.Reject(errors.New("400"))
				case bad:
					errs[i] = destinations.RetryAfter(errors.New("locked"), 30*time.Second)
				}
			}
			return errs
		}
		g.start()
		pad := strings.Repeat("x", 20_000)
		var texts []string
		for i := range 20 {
			texts = append(texts, fmt.Sprintf(`{"id":"good%d","event_type":"t","user":{"email":"g%d@b.co","v":1},"pad":%q,"into":[{"event_type":"user_identify","user":{"email":"g%d@b.co","v":1}}]}`, i, i, pad, i))
		}
		bad := fmt.Sprintf(`{"id":"e","event_type":"t","pad":%q,"into":[%s]}`, pad, strings.Join(slices.Repeat([]string{`{"event_type":"user_identify","bad":1,"user":{"email":"a@b.co","v":1}}`}, 5), ","))
		texts = slices.Insert(texts, 10, bad)
		g.post(texts...)
		time.Sleep(10 * time.Second)
		if raw := g.store.Stats().BlockBytes; raw > 21*25_000 {
			t.Errorf("%d bytes in lanes of 21 events of %d", raw, len(pad))
		}
		g.drain()
		defer g.stop()
		dead := g.deadLetters()
		if len(dead) != 5 {
			t.Fatalf("%d dead letters, want 5", len(dead))
		}
		for _, d := range dead {
			var ev, original event.Event
			if err := errors.Join(ev.Decode(d.Event), original.Decode(d.Original)); err != nil {
				t.Fatal(err)
			}
			if d.EventID != "e" || string(original.JSON) != bad || !strings.HasPrefix(ev.ID, "e") || gjson.GetBytes(ev.JSON, "bad").Raw != "1" {
				t.Errorf("dead letter %+v of %s", ev, original.JSON[:40])
			}
		}
	})
}

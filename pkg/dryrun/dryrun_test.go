package dryrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

const token = "pat-na1-planted-token"

// hubspotTarget is a HubSpot destination with settings beside its token and hub.
func hubspotTarget(t *testing.T, name, settings string) Target {
	t.Helper()
	s, err := config.NewSettings("test.yaml", "destinations."+name+".hubspot", []byte("access_token: "+token+"\nhub_id: \"12345\"\n"+settings))
	if err != nil {
		t.Fatal(err)
	}
	return Target{
		Route: router.Route{Name: name, Type: "hubspot"},
		Make:  func(env destinations.Env) (destinations.Destination, error) { return hubspot.New(s, env) },
	}
}

var received = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func posted(id, json string) *event.Event {
	return &event.Event{ID: id, APIKey: "web", Server: true, Received: received, JSON: []byte(json)}
}

func newSimulation(t *testing.T, o Options) *Simulation {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// play plays events one after the other.
func play(t *testing.T, o Options, events ...*event.Event) *Report {
	t.Helper()
	r, err := newSimulation(t, o).Play(t.Context(), events...)
	told(t, r, err)
	return r
}

// told is a report as text, after a look for secrets.
func told(t *testing.T, r *Report, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), token) {
		t.Errorf("the token is in %s", data)
	}
	return string(data)
}

// lines are what becomes of the outputs of a report.
func lines(r *Report) (all []string) {
	for _, ev := range r.Events {
		for _, d := range ev.Destinations {
			for _, o := range d.Outputs {
				text := fmt.Sprintf("%s %s: %s %s%s", d.Destination, o.ID, o.Status, o.Reason, o.Error)
				for _, made := range o.Deliveries {
					text += fmt.Sprintf(" %s %s %v", made.Lane, made.Status, made.Requests)
				}
				all = append(all, text)
			}
		}
	}
	return all
}

// TestPlayIsSteady: the same events give the same report, byte for byte, and what one leaves the next one finds.
func TestPlayIsSteady(t *testing.T) {
	events := func() []*event.Event {
		return []*event.Event{
			posted("1", `{"event_type":"user_identify","user":{"email":"a@b.co","id":7,"firstname":"Ada","city":"x"}}`),
			posted("2", `{"event_type":"user_identify","user":{"email":"a@b.co","city":"y","new_one":1}}`),
			posted("3", `{"event_type":"Signed Up","user":{"id":7},"n":1,"m":2,"o":3}`),
			posted("3", `{"event_type":"Signed Up","user":{"id":8},"n":1}`),
		}
	}
	o := func() Options {
		return Options{Targets: []Target{hubspotTarget(t, "crm", "properties: {unknown: create, write: {city: if_empty}}")}}
	}
	r, err := newSimulation(t, o()).Play(t.Context(), events()...)
	want := told(t, r, err)
	for range 20 {
		again, err := newSimulation(t, o()).Play(t.Context(), events()...)
		if got := told(t, again, err); got != want {
			t.Fatalf("the second time it is another (-first +second):\n%s", cmp.Diff(want, got))
		}
	}
	if diff := cmp.Diff([]string{
		"crm 1: delivered  contacts delivered [1 2 3]", // it is read what city holds, and a property is made of id
		"crm 2: delivered  contacts delivered [4 5]",   // a property is made; city is known to be filled
		"crm 3: delivered  contacts known [] events delivered [6 7]",
		"crm 3: skipped no identity",
	}, lines(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !r.Events[3].Duplicate || r.Events[2].Duplicate || r.Events[2].Email != "a@b.co" || !r.Events[3].Destinations[0].Outputs[0].Unidentified {
		t.Errorf("events 3 and 4 are %+v %+v", r.Events[2], r.Events[3])
	}
	second := r.Events[1].Destinations[0].Outputs[0].Deliveries[0].Detail
	if got, want := string(second), `{"written":["email","new_one"],"stripped":{"city":"not empty"},"values":{"email":{"to":"a@b.co"},"new_one":{"from":1,"to":"1"}},"merged":1}`; got != want {
		t.Errorf("detail %s, want %s", got, want)
	}
}

// TestPlayTogether: what waits together is merged, and calls are full.
func TestPlayTogether(t *testing.T) {
	s := newSimulation(t, Options{Targets: []Target{hubspotTarget(t, "crm", "")}})
	var events []*event.Event
	for i := range 101 {
		events = append(events, posted(fmt.Sprint(i), fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"a%d@b.co","city":"x"}}`, i)))
	}
	events = append(events, posted("same", `{"event_type":"user_identify","user":{"email":"a0@b.co","city":"y"}}`))
	r, err := s.PlayTogether(t.Context(), events...)
	told(t, r, err)
	if len(r.Requests) != 2 || len(r.Requests[0].Events) != 100 || len(r.Requests[1].Events) != 2 {
		t.Errorf("%d requests", len(r.Requests))
	}
	r, err = s.PlayTogether(t.Context(), posted("b1", `{"event_type":"user_identify","user":{"email":"b@b.co","city":"x"}}`),
		posted("b2", `{"event_type":"user_identify","user":{"email":"b@b.co","city":"y"}}`))
	if all := told(t, r, err); len(r.Requests) != 1 || !strings.Contains(string(r.Requests[0].Body), `"city":"y"`) || !strings.Contains(all, `"merged":2`) {
		t.Errorf("two writes of one contact: %s", all)
	}
}

// double is a destination that does what a test says.
type double struct {
	client  http.Client
	send    func(d *double, batch []destinations.Entry) []destinations.Outcome
	plan    []destinations.Plan
	planned error
}

func (d *double) Plan(*event.Event) ([]destinations.Plan, error) { return d.plan, d.planned }
func (d *double) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{{Name: "calls", MaxEntries: 2}}
}
func (d *double) Hub(string) string { return "" }
func (d *double) Acquire(context.Context, string, string) (destinations.Permit, error) {
	return free{}, nil
}

func (d *double) Send(_ context.Context, _ destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	return d.send(d, batch)
}

func (d *double) post(header http.Header) error {
	req, _ := http.NewRequest(http.MethodPost, "https://user:"+token+"@example.com/hook", strings.NewReader("a=b"))
	req.Header = header
	res, err := d.client.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// simulated is a double with a remote that takes everything.
type simulated struct{ *double }

func (simulated) Schema(context.Context) (json.RawMessage, error) { return nil, nil }
func (simulated) Simulate(json.RawMessage) (http.RoundTripper, error) {
	return takesAll{}, nil
}

type takesAll struct{}

func (takesAll) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

type free struct{}

func (free) Release() {}

func doubleTarget(d *double, canSimulate bool) Target {
	if d.plan == nil && d.planned == nil {
		d.plan = []destinations.Plan{{Lane: "calls"}}
	}
	return Target{Route: router.Route{Name: "x", Type: "double"}, Make: func(env destinations.Env) (destinations.Destination, error) {
		d.client.Transport = env.Transport
		if canSimulate {
			return simulated{d}, nil
		}
		return d, nil
	}}
}

func TestOutcomes(t *testing.T) {
	all := func(err error) func(*double, []destinations.Entry) []destinations.Outcome {
		return func(d *double, batch []destinations.Entry) []destinations.Outcome {
			if err := d.post(http.Header{}); err != nil {
				return []destinations.Outcome{{Err: err}}
			}
			out := make([]destinations.Outcome, len(batch))
			for i := range out {
				out[i].Err = err
			}
			return out
		}
	}
	f := func(d *double, canSimulate bool, want string) {
		t.Helper()
		r, err := newSimulation(t, Options{Targets: []Target{doubleTarget(d, canSimulate)}}).Play(t.Context(), posted("1", `{}`))
		told(t, r, err)
		if diff := cmp.Diff([]string{want}, lines(r)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	f(&double{send: all(nil)}, true, "x 1: delivered  calls delivered [1]")
	f(&double{send: all(destinations.Skip("no use"))}, true, "x 1: skipped no use calls skipped [1]")
	f(&double{send: all(destinations.Reject(errors.New("bad")))}, true, "x 1: dead_letter rejectedbad calls dead_letter [1]")
	f(&double{send: all(destinations.RetryAfter(errors.New("later"), time.Hour))}, true, "x 1: retry later calls retry [1 2 3]")
	f(&double{send: all(destinations.Block(errors.New("closed"), destinations.LaneScope, time.Time{}))}, true, "x 1: blocked blocked: closed calls blocked [1]")
	f(&double{send: func(*double, []destinations.Entry) []destinations.Outcome { panic("oh") }}, true, "x 1: dead_letter rejectedpanic: oh calls dead_letter []")
	f(&double{send: func(*double, []destinations.Entry) []destinations.Outcome { return nil }}, true, "x 1: retry BUG: 0 outcomes of 1 entries calls retry []")
	f(&double{send: all(nil)}, false, "x 1: planned  calls planned []")
	f(&double{planned: errors.New("no address")}, true, "x 1: dead_letter planno address")
	f(&double{plan: []destinations.Plan{{Lane: "none"}}}, true, `x 1: dead_letter planBUG: it plans for lane "none", which it does not have`)
}

// TestRequestsTellNoSecrets: neither headers that may hold one nor the user in an address.
func TestRequestsTellNoSecrets(t *testing.T) {
	d := &double{send: func(d *double, batch []destinations.Entry) []destinations.Outcome {
		header := http.Header{"Accept": {"text/plain"}, "Content-Type": {"text/x"}, "X-Event": {"shown"}}
		for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "X-Signature", "Api_token", "Proxy-Authorization", "X-Session-Id", "Client-Secret"} {
			header.Set(name, token)
		}
		return []destinations.Outcome{{Err: d.post(header)}}
	}}
	r, err := newSimulation(t, Options{Targets: []Target{doubleTarget(d, true)}}).Play(t.Context(), posted("1", `{}`))
	all := told(t, r, err)
	want := Request{
		Number: 1, Destination: "x", Lane: "calls", Events: []int{0}, Method: "POST", URL: "https://example.com/hook", ContentType: "text/x", Text: "a=b", Status: 200,
		Headers: []Header{
			{"Accept", "text/plain"},
			{"Api_token", "***"},
			{"Authorization", "***"},
			{"Client-Secret", "***"},
			{"Cookie", "***"},
			{"Proxy-Authorization", "***"},
			{"X-Api-Key", "***"},
			{"X-Event", "shown"},
			{"X-Session-Id", "***"},
			{"X-Signature", "***"},
		},
	}
	if diff := cmp.Diff([]Request{want}, r.Requests); diff != "" {
		t.Errorf("%s (-want +got):\n%s", all, diff)
	}
}

// scripted is a transform that a test plays.
type scripted func(ev *event.Event, w filters.World) ([]filters.Output, string, error)

func (s scripted) Eval(ev *event.Event, w filters.World) ([]filters.Output, string, error) {
	return s(ev, w)
}

func (scripted) UsesKV() bool { return true }

// TestScriptsKeep: what a script keeps the next event finds, and what a failed one wrote is forgotten; what it prints is told.
func TestScriptsKeep(t *testing.T) {
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Commit(t.Context(), &store.Batch{KV: []store.KV{{Destination: "x", Key: "n", Value: "41"}}}); err != nil {
		t.Fatal(err)
	}
	target := doubleTarget(&double{send: func(*double, []destinations.Entry) []destinations.Outcome { return make([]destinations.Outcome, 1) }}, true)
	target.Route.Transform = scripted(func(ev *event.Event, w filters.World) ([]filters.Output, string, error) {
		n, _, err := w.KV.Load("n")
		w.Log("info", "n is "+n)
		if err == nil {
			err = w.KV.Store("n", n+"1", 0)
		}
		switch ev.ID {
		case "fails":
			err = errors.New("no")
		case "deletes":
			err = w.KV.Delete("n")
		}
		return []filters.Output{{Event: ev}}, "", err
	})
	r, err := newSimulation(t, Options{Targets: []Target{target}, Memory: st}).Play(t.Context(), posted("a", `{}`), posted("fails", `{}`), posted("b", `{}`), posted("deletes", `{}`), posted("c", `{}`))
	told(t, r, err)
	var got []string
	for _, ev := range r.Events {
		got = append(got, ev.Destinations[0].Logs[0].Text)
	}
	if diff := cmp.Diff([]string{"n is 41", "n is 411", "n is 411", "n is 4111", "n is "}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if v, _, _ := st.KV("x", "n"); v.Value != "41" {
		t.Errorf("the router's memory holds %q", v.Value)
	}
}

// TestRedact: values that are hidden stand nowhere, whatever repeats them.
func TestRedact(t *testing.T) {
	target := hubspotTarget(t, "crm", "")
	target.Route.Transform = scripted(func(ev *event.Event, w filters.World) ([]filters.Output, string, error) {
		w.Log("info", string(ev.JSON))
		if ev.ID == "2" {
			return nil, "", errors.New("of " + string(ev.JSON))
		}
		return []filters.Output{{Event: ev}}, "", nil
	})
	r, err := newSimulation(t, Options{Targets: []Target{target}, Redact: redact.New([]string{"user.email", "phone"})}).Play(t.Context(),
		posted("1", `{"event_type":"user_identify","user":{"email":"ada@hidden.example","phone":"+4955501234","id":7}}`),
		posted("2", `{"event_type":"x","user":{"id":7}}`))
	if all := told(t, r, err); strings.Contains(all, "ada@hidden") || strings.Contains(all, "55501234") || !strings.Contains(all, `"phone":"***"`) {
		t.Errorf("hidden values are shown: %s", all)
	}
}

// TestPlayEnds: with its context, and tells nothing that was cut short.
func TestPlayEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target := doubleTarget(&double{send: func(*double, []destinations.Entry) []destinations.Outcome {
		cancel()
		return []destinations.Outcome{{Err: ctx.Err()}}
	}}, true)
	r, err := newSimulation(t, Options{Targets: []Target{target}}).Play(ctx, posted("1", `{}`), posted("2", `{}`))
	if !errors.Is(err, context.Canceled) || len(r.Events) != 1 {
		t.Errorf("%v after %d events", err, len(r.Events))
	}
}

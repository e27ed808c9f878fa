package dryrun

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/enrich"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// Target is a destination to play events through.
type Target struct {
	// Route is as the router has it, but for Destination. Its scripts are not for concurrent use: nobody else may run them meanwhile.
	Route  router.Route
	Staged bool
	// Make makes the destination anew.
	Make func(destinations.Env) (destinations.Destination, error)
	// Schema is what its Simulated.Schema returned; nil: a new account's. From says in words where it is from, with or without one.
	Schema json.RawMessage
	From   string
	// Notes are what else a person should know, for the report.
	Notes []string
}

// Options of a Simulation. The zero value plays through nothing.
type Options struct {
	Targets []Target
	// Enricher adds what the router's does; nil: nothing.
	Enricher *enrich.Enricher
	// Memory is what the router remembers, and what its scripts have kept. It is only read; nil: nothing.
	Memory *store.Store
	// Redact says what the report does not show of events; nil: it shows all.
	Redact *redact.Fields
	// Now is the clock for what scripts keep; nil: time.Now.
	Now func() time.Time
}

// Simulation is one stand-in of the world: what an event leaves there, the next one finds. One goroutine owns it.
type Simulation struct {
	opts    Options
	reader  *router.Reader
	targets []*target
	metrics *destinations.Metrics
}

// target is a Target at work.
type target struct {
	Target
	route    router.Route
	recorder *recorder
	kv       *overlay
	lanes    []*lane
	memories map[memoryName][]byte // Outcome.Memory
	played   bool                  // there is a stand-in of its remote
	notes    []string
}

type memoryName struct{ account, lane, id string }

// errNoRemote ends the calls of a destination whose remote can not be simulated.
var errNoRemote = errors.New("a dry run sends nothing")

// New makes the stand-ins. An error says that a destination can not be made, or that its schema can not be read.
func New(o Options) (*Simulation, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Simulation{opts: o, reader: router.NewReader(o.Memory), metrics: destinations.NewMetrics(prometheus.NewRegistry())}
	for i := range o.Targets {
		t, err := s.newTarget(o.Targets[i])
		if err != nil {
			return nil, fmt.Errorf("destination %s: %w", o.Targets[i].Route.Name, err)
		}
		s.targets = append(s.targets, t)
	}
	return s, nil
}

func (s *Simulation) newTarget(from Target) (*target, error) {
	t := &target{
		Target: from, route: from.Route, recorder: &recorder{}, memories: map[memoryName][]byte{},
		notes: slices.Clone(from.Notes),
	}
	var kept filters.KV
	if s.opts.Memory != nil {
		kept = remembered{s.opts.Memory, from.Route.Name}
	}
	t.kv = newOverlay(kept, s.opts.Now)
	env := destinations.Env{
		Name: from.Route.Name, Log: slog.New(slog.DiscardHandler), Transport: t.recorder, Cache: noCache{}, Shared: &destinations.Shared{},
		Metrics: s.metrics, Simulation: true,
	}
	d, err := from.Make(env)
	if err != nil {
		return nil, err
	}
	t.route.Destination = d
	simulated, ok := d.(destinations.Simulated)
	if !ok {
		t.notes = append(t.notes, "destinations of type "+from.Route.Type+" can not be simulated: what would be sent is not known")
	} else if t.recorder.remote, err = simulated.Simulate(from.Schema); err != nil {
		return nil, err
	}
	if discreet, ok := d.(destinations.Discreet); ok {
		t.recorder.shown = discreet.Shown
	}
	t.played = ok
	specs := d.Lanes()
	for i := range specs {
		t.lanes = append(t.lanes, &lane{spec: &specs[i]})
	}
	return t, nil
}

// noCache keeps nothing: each simulation asks its own stand-in.
type noCache struct{}

func (noCache) Load(string) ([]byte, time.Time, bool) { return nil, time.Time{}, false }
func (noCache) Store(string, []byte)                  {}

// Play plays events one after the other, each as if all that came before it had been delivered: what an idle router does. It changes the events as the sorter
// would. The error is ctx's.
func (s *Simulation) Play(ctx context.Context, events ...*event.Event) (*Report, error) {
	r := s.report()
	for _, ev := range events {
		if err := s.play(ctx, r, ev); err != nil {
			return r, err
		}
	}
	return r, nil
}

// PlayTogether plays events as if they waited together, as those of one request mostly do: writes of one contact are merged, and calls are full.
func (s *Simulation) PlayTogether(ctx context.Context, events ...*event.Event) (*Report, error) {
	r := s.report()
	return r, s.play(ctx, r, events...)
}

func (s *Simulation) report() *Report {
	r := &Report{Events: []Event{}, Destinations: []Destination{}, Requests: []Request{}}
	for _, t := range s.targets {
		r.Destinations = append(r.Destinations, Destination{Name: t.route.Name, Type: t.route.Type, Staged: t.Staged, Schema: t.From, Notes: t.notes})
	}
	return r
}

// play hands events over together and delivers what comes of them.
func (s *Simulation) play(ctx context.Context, r *Report, events ...*event.Event) error {
	p := &playing{s: s, r: r, first: len(r.Events), events: events}
	for _, ev := range events {
		if err := ctx.Err(); err != nil {
			return err
		}
		p.sort(ev)
	}
	for i, t := range s.targets {
		for _, l := range t.lanes {
			if err := p.deliver(ctx, i, t, l); err != nil {
				return err
			}
		}
	}
	p.settle()
	return nil
}

// playing is one hand-over.
type playing struct {
	s      *Simulation
	r      *Report
	first  int // place of its events in the report
	events []*event.Event
	values redact.Values // to be hidden
}

// sort does what the sorter does with one event.
func (p *playing) sort(ev *event.Event) {
	routes := make([]*router.Route, len(p.s.targets))
	for i, t := range p.s.targets {
		routes[i] = &t.route
	}
	duplicate := p.s.reader.Take(ev, routes)
	p.s.opts.Enricher.Enrich(ev)
	if p.s.opts.Redact.Active() {
		p.values = append(p.values, p.s.opts.Redact.Values(ev.JSON, ev.AppendView(nil))...)
	}
	out := Event{
		ID: ev.ID, Type: ev.Type(), APIKey: ev.APIKey, Received: ev.Received, Email: p.s.opts.Redact.Person(ev.Email), Duplicate: duplicate,
		Destinations: []Result{},
	}
	for _, t := range p.s.targets {
		out.Destinations = append(out.Destinations, p.decide(t, len(p.r.Events), ev))
	}
	p.r.Events = append(p.r.Events, out)
}

// decide asks one destination what it makes of an event, and puts its entries into lanes.
func (p *playing) decide(t *target, place int, ev *event.Event) Result {
	res := Result{Destination: t.route.Name, Staged: t.Staged, NotFed: notFed(&t.route, ev)}
	if res.NotFed != "" {
		return res
	}
	ev, undone := p.s.reader.Own(&t.route, ev)
	view := ev.AppendView(nil)
	kv := newOverlay(t.kv, p.s.opts.Now)
	decisions := []router.Decision{undone}
	if undone.Status == "" {
		decisions = t.route.Decide(nil, ev, filters.World{KV: scopedKV{kv, ev.Account}, Log: func(level, line string) {
			res.Logs = append(res.Logs, Line{level, line})
		}})
	}
	if !slices.ContainsFunc(decisions, failedTransform) {
		kv.settle(t.kv)
	}
	for i := range decisions {
		d := &decisions[i]
		if p.s.opts.Redact.Active() {
			p.values = append(p.values, p.s.opts.Redact.Values(d.Event.JSON, d.Event.AppendView(nil))...)
		}
		out := Output{
			Index: d.Index, ID: d.Event.ID, Event: p.s.opts.Redact.JSON(shownEvent(d.Event)), Status: d.Status, Reason: d.Reason,
			Unidentified: d.Unidentified(),
		}
		out.Changed = !bytes.Equal(d.Event.AppendView(nil), view)
		if d.Status == store.Filtered && d.Reason == "" {
			out.Reason = "table_name_template is empty, null or false"
		}
		if d.Err != nil {
			out.Error = d.Err.Error()
		}
		res.Outputs = append(res.Outputs, out)
		p.enter(t, place, len(res.Outputs)-1, d, &res)
	}
	return res
}

// scopedKV is what scripts keep while they see events of one account.
type scopedKV struct {
	filters.KV
	account string
}

// Load returns what the account has under a key.
func (k scopedKV) Load(key string) (string, bool, error) {
	return k.KV.Load(router.ScopedKey(k.account, key))
}

// Store keeps a value for the account alone.
func (k scopedKV) Store(key, json string, ttl time.Duration) error {
	return k.KV.Store(router.ScopedKey(k.account, key), json, ttl)
}

// Delete forgets what the account has under a key.
func (k scopedKV) Delete(key string) error { return k.KV.Delete(router.ScopedKey(k.account, key)) }

// shownEvent is an output as it may be shown: without the credentials that a transform puts into its envelope.
func shownEvent(ev *event.Event) []byte {
	view := ev.AppendView(nil)
	if !ev.Enveloped {
		return view
	}
	const masked = "***"
	envelope := gjson.GetBytes(view, event.FieldEnvelope)
	shown := envelope.Raw
	set := func(path, value string) {
		if with, err := sjson.Set(shown, path, value); err == nil {
			shown = with
		}
	}
	if before, _, query := strings.Cut(envelope.Get("url").String(), "?"); query {
		set("url", before+"?"+masked)
	}
	if headers := envelope.Get("headers"); headers.Exists() {
		values := map[string]string{}
		headers.ForEach(func(k, _ gjson.Result) bool { values[k.String()] = masked; return true })
		with, err := sjson.Set(shown, "headers", values)
		if err != nil {
			with = "{}"
		}
		shown = with
	}
	if with, err := sjson.SetRawBytes(view, event.FieldEnvelope, []byte(shown)); err == nil {
		return with
	}
	return nil
}

// failedTransform says that the transform itself has failed: then what it kept is forgotten.
func failedTransform(d router.Decision) bool {
	return d.Status == store.Dead && d.Index == 0 && (d.Reason == "transform" || d.Reason == "panic")
}

func notFed(route *router.Route, ev *event.Event) string {
	if route.Takes(ev) {
		return ""
	}
	if route.APIKeys == nil {
		return "events of an app go to destinations that deliver to its accounts (connection: " + ev.App() + "), or that name them in only_tokens"
	}
	var keys []string
	for id := range route.APIKeys {
		keys = append(keys, id)
	}
	slices.Sort(keys)
	return "only events of these API keys go to it (only_tokens): " + strings.Join(keys, ", ")
}

var _ http.RoundTripper = (*recorder)(nil)

package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
	"eventrouter/pkg/trial"
)

const (
	testToken = "pat-test-8c1a2b3d-secret"
	testHub   = "12345"
)

// rig is a destination in front of a sandbox, with what the router would do in between: lanes, order, retries.
type rig struct {
	t       testing.TB
	box     *sandbox.Sandbox
	dest    *Destination
	env     destinations.Env
	logs    *trial.Log
	reg     *prometheus.Registry
	cache   *memoryCache
	yaml    string
	offset  uint64
	known   map[string]bool
	memory  *sync.Map // of contacts by ID, as the router keeps it over restarts
	results []result
}

// result is what became of one lane entry.
type result struct {
	entry   destinations.Entry
	outcome destinations.Outcome
	tries   int
}

func newRig(t testing.TB, o sandbox.Options, extra string) *rig {
	t.Helper()
	o.HubID, o.Token = testHub, testToken
	r := &rig{
		t: t, box: sandbox.New(o), logs: &trial.Log{}, reg: prometheus.NewRegistry(),
		cache: &memoryCache{values: map[string]cached{}}, known: map[string]bool{}, memory: &sync.Map{},
		yaml: "access_token: " + testToken + "\nhub_id: \"" + testHub + "\"\n" + extra,
	}
	r.env = destinations.Env{
		Name: "crm", Log: slog.New(slog.NewTextHandler(r.logs, nil)), Transport: r.box.RoundTripper(),
		Cache: r.cache, Shared: &destinations.Shared{}, Metrics: destinations.NewMetrics(r.reg),
	}
	r.restart()
	return r
}

// restart makes the destination anew, as a new process does: the cache stays.
func (r *rig) restart() {
	r.t.Helper()
	r.env.Shared = &destinations.Shared{}
	r.reload()
}

// another is a writer in front of the same HubSpot, in a process of its own.
func (r *rig) another() *rig {
	r.t.Helper()
	o := *r
	o.known, o.memory, o.results = map[string]bool{}, &sync.Map{}, nil
	o.cache = &memoryCache{values: map[string]cached{}}
	o.env.Cache = o.cache
	o.restart()
	return &o
}

// reload makes the destination anew, as a reload of the configuration does.
func (r *rig) reload() {
	r.t.Helper()
	s, err := config.NewSettings("test.yaml", "destinations.crm.hubspot", []byte(r.yaml))
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := New(s, r.env)
	if err != nil {
		r.t.Fatal(err)
	}
	r.dest = d.(*Destination)
}

var eventSeq atomic.Int64

// serverEvent is an event of a server key, with an id of its own.
func serverEvent(body string) *event.Event {
	return &event.Event{
		ID: fmt.Sprintf("ev-%d", eventSeq.Add(1)), APIKey: "key1", Received: time.Now().UTC(), Server: true, JSON: []byte(body),
	}
}

func identify(user string) *event.Event {
	return serverEvent(`{"event_type":"user_identify","user":` + user + `}`)
}

// entries plans events and returns the entries of each lane, as the sorter would.
func (r *rig) entries(events ...*event.Event) (contacts, others []destinations.Entry) {
	r.t.Helper()
	for _, ev := range events {
		plans, err := r.dest.Plan(ev)
		if err != nil {
			r.results = append(r.results, result{entry: destinations.Entry{Event: ev}, outcome: destinations.Outcome{Err: err}})
			continue
		}
		r.offset++
		for _, p := range plans {
			if p.IfNew && r.known[p.Key] {
				continue
			}
			r.known[p.Key] = true
			e := destinations.Entry{Name: destinations.OutputName{Offset: r.offset, Destination: "crm"}, Plan: p, Event: ev, Attempt: 1}
			if p.Lane == laneContacts {
				contacts = append(contacts, e)
			} else {
				others = append(others, e)
			}
		}
	}
	return contacts, others
}

// send makes one Send and returns its outcomes.
func (r *rig) send(batch []destinations.Entry) []destinations.Outcome {
	r.t.Helper()
	ctx := context.Background()
	p, err := r.dest.Acquire(ctx, "", batch[0].Plan.Lane)
	if err != nil {
		out := make([]destinations.Outcome, len(batch))
		for i := range out {
			out[i].Err = err
		}
		return out
	}
	remembers := batch[0].Plan.Lane == laneContacts
	if remembers {
		for i := range batch {
			if m, ok := r.memory.Load(batch[i].Plan.ID); ok {
				batch[i].Memory = m.([]byte)
			}
		}
	}
	out := r.dest.Send(ctx, p, batch)
	for i, o := range out {
		if remembers && o.Memory != nil {
			r.memory.Store(batch[i].Plan.ID, o.Memory)
		}
	}
	return out
}

// run delivers the events until each has a final outcome: contacts first, then events; what is to be retried, again.
func (r *rig) run(events ...*event.Event) []result {
	r.t.Helper()
	before := len(r.results)
	contacts, others := r.entries(events...)
	r.drain(contacts)
	r.drain(others)
	return r.results[before:]
}

func (r *rig) drain(entries []destinations.Entry) {
	r.t.Helper()
	tries := map[destinations.OutputName]int{}
	for round := 0; len(entries) > 0; round++ {
		if round > 200 {
			r.t.Fatalf("no end of retries: %d entries left", len(entries))
		}
		batch := takeBatch(entries)
		rest := entries[len(batch):]
		var again []destinations.Entry
		wait := time.Duration(0)
		for i, o := range r.send(batch) {
			e := batch[i]
			tries[e.Name]++
			if isFinal(o.Err) {
				r.results = append(r.results, result{e, o, tries[e.Name]})
				continue
			}
			wait = max(wait, waitOf(o.Err))
			e.Attempt++
			again = append(again, e)
		}
		entries = append(again, rest...)
		if len(again) > 0 {
			time.Sleep(wait)
		}
	}
}

// takeBatch is what a dispatcher would fill: at most 100 identities, or 500 events.
func takeBatch(entries []destinations.Entry) []destinations.Entry {
	ids := map[string]bool{}
	for i, e := range entries {
		if e.Plan.Lane == laneEvents && i == maxEvents {
			return entries[:i]
		}
		if e.Plan.Lane == laneContacts && !ids[e.Plan.ID] && len(ids) == maxContacts {
			return entries[:i]
		}
		ids[e.Plan.ID] = true
	}
	return entries
}

func isFinal(err error) bool {
	var reject *destinations.RejectError
	_, skipped := destinations.IsSkip(err)
	return err == nil || skipped || errors.As(err, &reject)
}

func waitOf(err error) time.Duration {
	var retry *destinations.RetryError
	if errors.As(err, &retry) {
		return retry.After
	}
	var block *destinations.BlockError
	if errors.As(err, &block) && !block.Until.IsZero() {
		return max(0, time.Until(block.Until))
	}
	return 5 * time.Second
}

func mustDeliver(t testing.TB, results []result) {
	t.Helper()
	for _, r := range results {
		if r.outcome.Err != nil {
			t.Errorf("%s of %s: %v", r.entry.Plan.Lane, r.entry.Plan.ID, r.outcome.Err)
		}
	}
}

// properties are those of the contact that the router wrote: without what HubSpot sets itself.
func (r *rig) properties(email string) map[string]string {
	r.t.Helper()
	c, ok := r.box.Contact(email)
	if !ok {
		r.t.Errorf("HubSpot has no contact %s", email)
		return nil
	}
	delete(c.Properties, "email")
	return c.Properties
}

// calls counts those of an endpoint with a status; "" and 0 are any.
func (r *rig) calls(endpoint string, status int) int {
	n := 0
	for _, c := range r.box.Counts() {
		if (endpoint == "" || c.Endpoint == endpoint) && (status == 0 || c.Status == status) {
			n += c.Calls
		}
	}
	return n
}

// http makes a call to the sandbox that is not the destination's.
func (r *rig) http(method, path, body string) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(method, "https://api.hubapi.com"+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testToken)
	req.Header.Set("Content-Type", "application/json")
	res, err := r.box.RoundTripper().RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode >= 300 {
		r.t.Fatalf("%s %s: %s", method, path, res.Status)
	}
	return res
}

// metric is the value of a counter or gauge with the labels, summed.
func (r *rig) metric(name string, labels ...string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			matches := 0
			for _, l := range m.GetLabel() {
				for i := 0; i+1 < len(labels); i += 2 {
					if l.GetName() == labels[i] && l.GetValue() == labels[i+1] {
						matches++
					}
				}
			}
			if 2*matches == len(labels) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// detail decodes what explain would show.
func detail(t testing.TB, o destinations.Outcome) (d struct {
	ContactID     string            `json:"contact_id"`
	New           bool              `json:"new"`
	Event         string            `json:"event"`
	UUID          string            `json:"uuid"`
	Repeated      bool              `json:"repeated"`
	Written       []string          `json:"written"`
	Stripped      map[string]string `json:"stripped"`
	Coerced       map[string]string `json:"coerced"`
	Collided      []string          `json:"collided"`
	Cut           []string          `json:"cut"`
	Merged        int               `json:"merged"`
	CorrelationID string            `json:"correlation_id"`
},
) {
	t.Helper()
	if err := json.Unmarshal(o.Detail, &d); err != nil {
		t.Errorf("detail %q: %v", o.Detail, err)
	}
	return d
}

// memoryCache is a destinations.Cache that keeps what it is told.
type memoryCache struct {
	mu     sync.Mutex
	values map[string]cached
}

type cached struct {
	value []byte
	at    time.Time
}

func (c *memoryCache) Load(key string) ([]byte, time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.values[key]
	return v.value, v.at, ok
}

func (c *memoryCache) Store(key string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.values[key] = cached{slices.Clone(value), time.Now()}
}

// script is a transport that answers by a function.
type script func(*http.Request) (*http.Response, error)

func (f script) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

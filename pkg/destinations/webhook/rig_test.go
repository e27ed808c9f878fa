package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/destinationtest"
	"eventrouter/pkg/event"
)

// endpoint is a receiver in memory. It takes everything, or answers as it is told.
type endpoint struct {
	mu       sync.Mutex // guards the fields below
	requests []received
	answer   func(*received) answered // nil: 200
}

type received struct {
	method, url, body string
	header            http.Header
	at                time.Time
}

type answered struct {
	status int
	header http.Header
	body   string
	err    error
}

func (e *endpoint) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	in := received{method: r.Method, url: r.URL.String(), body: string(body), header: r.Header.Clone(), at: time.Now()}
	e.mu.Lock()
	e.requests = append(e.requests, in)
	answer := e.answer
	e.mu.Unlock()
	a := answered{status: 200}
	if answer != nil {
		a = answer(&in)
	}
	if a.err != nil {
		return nil, a.err
	}
	if a.header == nil {
		a.header = http.Header{}
	}
	return &http.Response{StatusCode: a.status, Header: a.header, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

func (e *endpoint) answers(f func(*received) answered) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = f
}

// take returns what has come, and forgets it.
func (e *endpoint) take() []received {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.requests
	e.requests = nil
	return all
}

func always(a answered) func(*received) answered {
	return func(*received) answered { return a }
}

// rig is a destination in front of an endpoint.
type rig struct {
	t    testing.TB
	at   *endpoint
	dest *Destination
	env  destinations.Env
	log  *bytes.Buffer
	seq  int
}

const baseURL = "url: https://example.com/in\n"

// newRig makes a destination; a url stands before yaml where that has none.
func newRig(t testing.TB, yaml string) *rig {
	t.Helper()
	r := &rig{t: t, at: &endpoint{}, log: &bytes.Buffer{}}
	r.env = destinations.Env{
		Name: "hook", Log: slog.New(slog.NewTextHandler(r.log, nil)), Transport: r.at,
		Shared: &destinations.Shared{}, Metrics: destinations.NewMetrics(prometheus.NewRegistry()),
	}
	r.reload(yaml)
	return r
}

// reload makes the destination anew, as a reload of the configuration does.
func (r *rig) reload(yaml string) {
	r.t.Helper()
	d, err := build(yaml, r.env)
	if err != nil {
		r.t.Fatalf("%s: %v", yaml, err)
	}
	r.dest = d
}

func build(yaml string, env destinations.Env) (*Destination, error) {
	if !strings.Contains("\n"+yaml, "\nurl:") {
		yaml = baseURL + yaml
	}
	s, err := config.NewSettings("test.yaml", "destinations.hook.webhook", []byte(yaml))
	if err != nil {
		return nil, err
	}
	d, err := New(s, env)
	if err != nil {
		return nil, err
	}
	return d.(*Destination), nil
}

// event is one of a server key, with an id of its own.
func (r *rig) event(json string) *event.Event {
	r.seq++
	return &event.Event{
		ID: fmt.Sprintf("ev-%d", r.seq), APIKey: "web", Server: true, JSON: []byte(json),
		Received: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// enveloped is one that a transform sent somewhere.
func (r *rig) enveloped(json string) *event.Event {
	ev := r.event(json)
	ev.Enveloped = true
	return ev
}

func (r *rig) entries(events ...*event.Event) []destinations.Entry {
	r.t.Helper()
	var batch []destinations.Entry
	for i, ev := range events {
		plans, err := r.dest.Plan(ev)
		if err != nil || len(plans) != 1 {
			r.t.Fatalf("plan of %s: %v, %v", ev.JSON, plans, err)
		}
		batch = append(batch, destinations.Entry{
			Name: destinations.OutputName{Offset: uint64(i), Destination: "hook"}, Plan: plans[0], Event: ev, Attempt: 1,
		})
	}
	return batch
}

// send makes one Send and returns what became of each event.
func (r *rig) send(events ...*event.Event) []destinations.Outcome {
	r.t.Helper()
	return r.sendAll(r.entries(events...))
}

func (r *rig) sendAll(batch []destinations.Entry) []destinations.Outcome {
	r.t.Helper()
	p, err := r.dest.Acquire(context.Background(), "", laneEvents)
	if err != nil {
		r.t.Fatalf("no permit: %v", err)
	}
	return r.dest.Send(context.Background(), p, batch)
}

func classes(out []destinations.Outcome) string {
	var all []string
	for _, o := range out {
		all = append(all, destinationtest.Class(o.Err))
	}
	return strings.Join(all, ", ")
}

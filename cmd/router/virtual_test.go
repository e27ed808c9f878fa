package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// virtual is a whole router but for HTTP, in virtual time: events are appended to its log, and its calls reach a sandbox in memory.
type virtual struct {
	t      testing.TB
	dir    string
	yaml   string // of the destination
	layout string // data_layout, as a flow mapping; "": a template that keeps all
	server string // further settings of the server, as members of a flow mapping
	box    *sandbox.Sandbox
	way    func() time.Duration // from the router to HubSpot, and back

	srv    *service
	stop   func()
	events int

	refuse atomic.Pointer[error] // not nil: calls fail with it before they are sent

	mu    sync.Mutex // guards the fields below
	calls []remoteCall
}

// remoteCall is a call as the router sees it.
type remoteCall struct {
	path, body     string
	sent, answered time.Time
	status         int // 0: no answer
}

// newVirtual makes one; yaml is what stands under hubspot: beside token and hub, lines indented by 6.
func newVirtual(t testing.TB, o sandbox.Options, way func() time.Duration, yaml string) *virtual {
	t.Helper()
	dir := inMemory(t)
	o.HubID, o.Token = demoHub, demoToken
	return &virtual{t: t, dir: dir, yaml: yaml, box: sandbox.New(o), way: way}
}

// inMemory is a directory of the test, in memory where there is such: for thousands of syncs.
func inMemory(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "router-test-")
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func constant(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// RoundTrip implements [http.RoundTripper] with a way to HubSpot and back.
func (v *virtual) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := v.refuse.Load(); err != nil && *err != nil {
		return nil, *err
	}
	c := remoteCall{path: r.URL.Path, sent: time.Now()}
	if r.GetBody != nil {
		if body, err := r.GetBody(); err == nil {
			text, _ := io.ReadAll(body)
			c.body = string(text)
		}
	}
	time.Sleep(v.way())
	res, err := v.box.RoundTripper().RoundTrip(r)
	time.Sleep(v.way())
	c.answered = time.Now()
	if err == nil {
		c.status = res.StatusCode
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.calls = append(v.calls, c)
	return res, err
}

// made are the calls so far, in order of their answers.
func (v *virtual) made() []remoteCall {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.calls)
}

// config is the configuration as it stands now.
func (v *virtual) config() *config.Config {
	v.t.Helper()
	text := fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB, %s}
api_keys: [{id: app, client_secret: js.app, server_secret: s2s.app}]
destinations:
  crm:
    type: hubspot
    mode: stream
    data_layout: %s
    hubspot:
      access_token: %s
      hub_id: %q
%s`, v.dir, v.server, cmp.Or(v.layout, "{table_name_template: '$.event_type'}"), demoToken, demoHub, v.yaml)
	cfg, err := config.Parse("virtual.yaml", []byte(text), func(string) (string, bool) { return "", false })
	if err != nil {
		v.t.Fatal(err)
	}
	return cfg
}

func (v *virtual) start() {
	v.t.Helper()
	srv, err := newService(v.config(), slog.New(slog.DiscardHandler), v)
	if err != nil {
		v.t.Fatal(err)
	}
	v.srv = srv
	v.stop = srv.start(v.t)
}

// post appends events as ingest would.
func (v *virtual) post(texts ...string) {
	v.t.Helper()
	for len(texts) > 0 {
		n := min(len(texts), 1000)
		recs := make([][]byte, n)
		for i, text := range texts[:n] {
			v.events++
			ev := event.Event{ID: fmt.Sprint("e", v.events), APIKey: "app", Received: time.Now().UTC(), Server: true, JSON: []byte(text)}
			recs[i] = ev.AppendTo(nil)
		}
		if err := v.srv.log.Append(recs...); err != nil {
			v.t.Fatal(err)
		}
		texts = texts[n:]
	}
}

// drain waits until nothing is left to do.
func (v *virtual) drain(most time.Duration) {
	v.t.Helper()
	for began := time.Now(); !v.srv.router.Idle(); time.Sleep(max(50*time.Millisecond, time.Since(began)/50)) {
		if time.Since(began) > most {
			v.t.Fatalf("not all is delivered after %v: %+v", most, v.srv.router.Status())
		}
	}
}

// metric is the sum of a metric's values with the labels.
func (v *virtual) metric(name string, labels ...string) float64 {
	v.t.Helper()
	families, err := v.srv.registry.Gather()
	if err != nil {
		v.t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := prometheus.Labels{}
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			matches := true
			for i := 0; i+1 < len(labels); i += 2 {
				matches = matches && have[labels[i]] == labels[i+1]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

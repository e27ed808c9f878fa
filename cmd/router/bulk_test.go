package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// farHub is a HubSpot of 190 calls in ten seconds that answers after 150 ms. It notes when an address first arrives.
type farHub struct {
	box *sandbox.Sandbox

	mu      sync.Mutex // guards the fields below
	arrived map[string]time.Time
}

func newFarHub() *farHub {
	return &farHub{
		box:     sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken, Properties: demoProperties(), Burst: 190, Daily: 1_000_000}),
		arrived: map[string]time.Time{},
	}
}

// RoundTrip implements [http.RoundTripper].
func (h *farHub) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	h.mu.Lock()
	for _, part := range strings.Split(string(body), `"`) {
		if name := r.URL.Path + " " + part; strings.HasSuffix(part, "@example.com") && h.arrived[name].IsZero() {
			h.arrived[name] = time.Now()
		}
	}
	h.mu.Unlock()
	time.Sleep(75 * time.Millisecond)
	defer time.Sleep(75 * time.Millisecond)
	return h.box.RoundTripper().RoundTrip(r)
}

// firstCall is when an address first arrived in a call to a path that ends so.
func (h *farHub) firstCall(path, email string) (at time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, t := range h.arrived {
		if p, e, _ := strings.Cut(name, " "); e == email && strings.HasSuffix(p, path) {
			return t, true
		}
	}
	return at, false
}

// bulkConfig is that of the demo, in dir.
func bulkConfig(tb testing.TB, dir string) *config.Config {
	tb.Helper()
	env := map[string]string{"DEMO_DATA": dir, "DEMO_PORT": "0", "DEMO_HUBSPOT": "http://127.0.0.1:9"}
	cfg, err := config.Parse("bulk.yaml", demoConfig, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

// bulkService is a router in dir that delivers to a HubSpot behind transport.
func bulkService(tb testing.TB, dir string, transport http.RoundTripper) *service {
	tb.Helper()
	cfg := bulkConfig(tb, dir)
	cfg.Server.MaxLogBytes = 64 << 30
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), transport)
	if err != nil {
		tb.Fatal(err)
	}
	return srv
}

// start runs the router alone; stop ends it and closes its directory.
func (srv *service) start(tb testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.router.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		if err := srv.close(); err != nil {
			tb.Error(err)
		}
	}
}

// importPeople appends a year's old writes of n people, as an import would, and waits until they are sorted.
func importPeople(tb testing.TB, srv *service, n int) {
	tb.Helper()
	appendPeople(tb, srv, n)
	awaitSorted(srv)
}

// awaitSorted waits until the bulk log is sorted.
func awaitSorted(srv *service) {
	for end := uint64(srv.bulkLog.Stats().End); srv.store.BulkPosition() < end; {
		time.Sleep(10 * time.Millisecond)
	}
}

func appendPeople(tb testing.TB, srv *service, n int) {
	tb.Helper()
	old := time.Now().AddDate(-1, 0, 0).UTC().Format(time.RFC3339)
	var recs [][]byte
	for i := range n {
		ev := event.Event{
			ID: fmt.Sprintf("import-%d", i), APIKey: "demo", Received: time.Now().UTC(), Server: true, Class: event.Bulk,
			JSON: fmt.Appendf(nil, `{"event_type":"user_identify","utc_time":%q,"user":{"email":"p%d@example.com","firstname":"Ada","lastname":"Lovelace","jobtitle":"old","score":%d}}`,
				old, i, i),
		}
		if recs = append(recs, ev.AppendTo(nil)); len(recs) == 1000 || i == n-1 {
			if err := srv.bulkLog.Append(recs...); err != nil {
				tb.Fatal(err)
			}
			recs = recs[:0]
		}
	}
}

// postLive posts live writes and custom events, of new people and of such as are deep in an import of n, for d. It returns how long each took
// until its call. The events of several runs are told apart by name.
func postLive(tb testing.TB, srv *service, hub *farHub, name string, n int, d time.Duration) (waits []time.Duration) {
	tb.Helper()
	type posted struct {
		path, email string
		at          time.Time
	}
	var all []posted
	rnd := rand.New(rand.NewPCG(1, 2))
	for began := time.Now(); time.Since(began) < d; time.Sleep(time.Duration(50+rnd.IntN(200)) * time.Millisecond) {
		i := len(all)
		p := posted{"/batch/upsert", fmt.Sprintf("live%s%d@example.com", name, i), time.Now()}
		kind := "user_identify"
		if i%2 == 1 {
			p.path, kind = "/send/batch", "Order Completed"
		}
		if i%4 > 1 {
			p.email = fmt.Sprintf("p%d@example.com", n-1-i)
		}
		ev := event.Event{
			ID: fmt.Sprintf("live-%s%d", name, i), APIKey: "demo", Received: time.Now().UTC(), Server: true,
			JSON: fmt.Appendf(nil, `{"event_type":%q,"user":{"email":%q,"jobtitle":"new"}}`, kind, p.email),
		}
		if err := srv.log.Append(ev.AppendTo(nil)); err != nil {
			tb.Fatal(err)
		}
		all = append(all, p)
	}
	time.Sleep(5 * time.Second)
	for _, p := range all {
		at, ok := hub.firstCall(p.path, p.email)
		if !ok {
			tb.Errorf("%s has not arrived at %s", p.email, p.path)
			continue
		}
		waits = append(waits, at.Sub(p.at))
	}
	return waits
}

// TestLiveEventsDuringAnImport: a fresh event's call leaves within two seconds, at the quota of a real account, and the import has the rest of it.
// In the end the live values stand, and the import's where it was alone.
func TestLiveEventsDuringAnImport(t *testing.T) {
	const n = 15_000
	dir := inMemory(t)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour) // the bubble's clock begins in 2000
		hub := newFarHub()
		srv := bulkService(t, dir, hub)
		stop := srv.start(t)
		defer stop()
		importPeople(t, srv, n)
		began := time.Now()
		time.Sleep(3 * time.Second)
		waits := postLive(t, srv, hub, "", n, 8*time.Second)
		if len(waits) < 40 {
			t.Fatalf("only %d live events", len(waits))
		}
		p50, p99 := percentile(waits, 0.5), percentile(waits, 0.99)
		t.Logf("%d live events: p50 %v, p99 %v, most %v", len(waits), p50, p99, percentile(waits, 1))
		if p99 >= 2*time.Second {
			t.Errorf("of live events the slowest in a hundred waited for %v", p99)
		}
		if got := hub.box.ContactCount(); got < min(n, int(time.Since(began).Seconds()*1900)*8/10) {
			t.Errorf("%d contacts in %v: the import does not use what is left", got, time.Since(began))
		}
		for !srv.router.Idle() {
			time.Sleep(time.Second)
		}
		for i, want := range map[int]string{0: "old", n / 2: "old", n - 3: "new"} {
			c, ok := hub.box.Contact(fmt.Sprintf("p%d@example.com", i))
			if !ok || c.Properties["jobtitle"] != want || c.Properties["lastname"] != "Lovelace" {
				t.Errorf("p%d is %+v, want %s", i, c, want)
			}
		}
	})
}

// BenchmarkLiveDuringAnImport is the same in real time with a million imported people, none of whom is sorted at the start, and what they cost at a later one.
func BenchmarkLiveDuringAnImport(b *testing.B) {
	const n = 1_000_000
	dir := b.TempDir()
	for b.Loop() {
		hub := newFarHub()
		srv := bulkService(b, dir, hub)
		began := time.Now()
		appendPeople(b, srv, n)
		b.ReportMetric(n/time.Since(began).Seconds(), "appended/s")
		stop := srv.start(b)
		began = time.Now()
		first := event.Event{
			ID: "first", APIKey: "demo", Received: time.Now().UTC(), Server: true, JSON: []byte(`{"event_type":"user_identify","user":{"email":"first@example.com"}}`),
		}
		if err := srv.log.Append(first.AppendTo(nil)); err != nil {
			b.Fatal(err)
		}
		for arrived := false; !arrived; _, arrived = hub.firstCall("/batch/upsert", "first@example.com") {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(time.Since(began).Seconds()*1000, "ms-to-first-live")
		sorted := make(chan time.Duration, 1)
		go func() { awaitSorted(srv); sorted <- time.Since(began) }()
		reportWaits(b, "-sorting", postLive(b, srv, hub, "a", n, 15*time.Second))
		b.ReportMetric((<-sorted).Seconds(), "s-to-sort")
		stop()
		time.Sleep(11 * time.Second) // or the account's quota is used up
		debug.FreeOSMemory()
		before := residentMiB()
		began = time.Now()
		srv = bulkService(b, dir, hub)
		opened := time.Since(began)
		stop = srv.start(b)
		calls := hub.box.ContactCount()
		for hub.box.ContactCount() == calls {
			time.Sleep(time.Millisecond)
		}
		b.ReportMetric(float64(opened.Microseconds())/1000, "ms-to-open")
		b.ReportMetric(time.Since(began).Seconds()*1000, "ms-to-first-answer")
		time.Sleep(2 * time.Second)
		debug.FreeOSMemory()
		b.ReportMetric(residentMiB()-before, "MiB-more-resident")
		reportWaits(b, "", postLive(b, srv, hub, "b", n-100_000, 30*time.Second))
		stop()
	}
}

func reportWaits(b *testing.B, suffix string, waits []time.Duration) {
	b.ReportMetric(float64(percentile(waits, 0.5).Milliseconds()), "p50-ms"+suffix)
	b.ReportMetric(float64(percentile(waits, 0.99).Milliseconds()), "p99-ms"+suffix)
	b.ReportMetric(float64(percentile(waits, 1).Milliseconds()), "max-ms"+suffix)
}

// residentMiB is what the process has in memory.
func residentMiB() float64 {
	status, _ := os.ReadFile("/proc/self/status")
	var kib float64
	for line := range strings.SplitSeq(string(status), "\n") {
		_, _ = fmt.Sscanf(line, "VmRSS: %f", &kib)
	}
	return kib / 1024
}

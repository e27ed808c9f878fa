package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// distant is a HubSpot at some distance.
type distant struct {
	http.Handler
	way time.Duration // there, and back

	mu      sync.Mutex // guards the field below
	arrived []time.Time
}

func (d *distant) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	time.Sleep(d.way)
	d.mu.Lock()
	d.arrived = append(d.arrived, time.Now())
	d.mu.Unlock()
	d.Handler.ServeHTTP(&late{w, d.way}, r)
}

// late holds an answer back.
type late struct {
	http.ResponseWriter
	by time.Duration
}

func (l *late) WriteHeader(status int) {
	time.Sleep(l.by)
	l.ResponseWriter.WriteHeader(status)
}

// BenchmarkQuota posts 200,000 identifies of 50,000 people to a router that may make 190 calls in ten seconds, answered after 150 ms, and
// waits until HubSpot has them all: half a minute in real time. Give it iterations: -benchtime 1x.
func BenchmarkQuota(b *testing.B) {
	run := quotaRun(quotaPeople, quotaEach)
	for b.Loop() {
		hub := &distant{
			Handler: sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken, Burst: quotaBurst, Daily: 1_000_000}),
			way:     quotaLatency / 2,
		}
		remote := httptest.NewServer(hub)
		srv := benchServiceAt(b, remote.URL)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- srv.run(ctx, ln) }()
		url := "http://" + ln.Addr().String() + "/api/v1/s2s/events?token=" + demoServerKey
		began := time.Now()
		for events := run; len(events) > 0; events = events[100:] {
			res, err := http.Post(url, "application/json", strings.NewReader("["+strings.Join(events[:100], ",")+"]"))
			if err != nil {
				b.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusOK {
				b.Fatal(res.Status)
			}
		}
		accepted := time.Since(began)
		for !srv.router.Idle() {
			time.Sleep(5 * time.Millisecond)
		}
		took := time.Since(began)
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		remote.Close()
		box := hub.Handler.(*sandbox.Sandbox)
		if n := box.ContactCount(); n != quotaPeople {
			b.Errorf("HubSpot has %d contacts, want %d", n, quotaPeople)
		}
		u := useOf(box, hub.arrived, quotaBurst)
		b.ReportMetric(u.rate, "contacts/s")
		b.ReportMetric(u.share, "of-quota")
		b.ReportMetric(u.perCall, "contacts/call")
		b.ReportMetric(float64(u.calls), "calls")
		b.ReportMetric(float64(u.refused), "refused")
		b.ReportMetric(accepted.Seconds(), "accepted-s")
		b.ReportMetric(took.Seconds(), "delivered-s")
	}
}

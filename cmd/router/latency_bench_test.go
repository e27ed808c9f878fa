package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// arrivals tells when contact calls reach HubSpot.
type arrivals struct {
	http.Handler
	at chan time.Time
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/batch/upsert") {
		a.at <- time.Now()
	}
	a.Handler.ServeHTTP(w, r)
}

// BenchmarkIdleLatency measures, one event at a time and with everything real but HubSpot, the time from before the POST is written until the
// contact call for it reaches HubSpot, and in between what the same disk takes for a sync. over-limit compares the slowest in a hundred
// with 3 ms and three such syncs: the log's, the hand-over's and that of the mark of the call. Give it iterations: -benchtime 1x.
func BenchmarkIdleLatency(b *testing.B) {
	const events, pause = 300, 110 * time.Millisecond // the pause leaves more than half of HubSpot's limit unused
	hub := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken, Properties: demoProperties(), Burst: 190, Daily: 1_000_000})
	watch := &arrivals{hub, make(chan time.Time, 16)}
	remote := httptest.NewServer(watch)
	defer remote.Close()
	srv := benchServiceAt(b, remote.URL)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.run(ctx, ln) }()
	probe, err := os.Create(filepath.Join(srv.config().Server.DataDir, "probe"))
	if err != nil {
		b.Fatal(err)
	}
	defer probe.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	post := func() time.Duration {
		n := requestIDs.Add(1)
		body := fmt.Sprintf(`{"event_id":"idle-%d","event_type":"user_identify","user":{"email":"idle%d@example.com","firstname":"Ada"}}`, n, n)
		began := time.Now()
		fmt.Fprintf(conn, "POST /api/v1/s2s/event?token=%s HTTP/1.1\r\nHost: router\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			demoServerKey, len(body), body)
		res, err := http.ReadResponse(answers, nil)
		if err != nil || res.StatusCode != http.StatusOK {
			b.Fatalf("%v, %v", res, err)
		}
		res.Body.Close()
		at := <-watch.at
		for !srv.router.Idle() {
			time.Sleep(time.Millisecond)
		}
		return at.Sub(began)
	}
	post() // loads the schema
	page := make([]byte, 4096)
	for b.Loop() {
		var latencies, syncs []time.Duration
		for i := range events {
			time.Sleep(pause / 2)
			began := time.Now()
			if _, err := probe.WriteAt(page, int64(i)*4096); err != nil {
				b.Fatal(err)
			}
			if err := probe.Sync(); err != nil {
				b.Fatal(err)
			}
			syncs = append(syncs, time.Since(began))
			time.Sleep(pause / 2)
			latencies = append(latencies, post())
		}
		limit := 3*time.Millisecond + 3*percentile(syncs, 0.99)
		report := func(d time.Duration, unit string) { b.ReportMetric(float64(d.Microseconds())/1000, unit) }
		report(percentile(latencies, 0.5), "p50-ms")
		report(percentile(latencies, 0.99), "p99-ms")
		report(percentile(syncs, 0.5), "fsync-p50-ms")
		report(percentile(syncs, 0.99), "fsync-p99-ms")
		report(limit, "limit-ms")
		b.ReportMetric(float64(percentile(latencies, 0.99))/float64(limit), "p99/limit")
	}
	b.StopTimer()
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// percentile is the value that the share p of all does not exceed.
func percentile(v []time.Duration, p float64) time.Duration {
	v = slices.Sorted(slices.Values(v))
	return v[min(len(v)-1, int(float64(len(v))*p))]
}

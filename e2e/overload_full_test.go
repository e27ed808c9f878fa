package e2e

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

var (
	fullOverload = flag.Bool("overload.full", false, "play overload at full size: the connections that a router takes by default, and -overload.names persons and names of events")
	fullNames    = flag.Int("overload.names", 2_000_000, "how many persons, and names of events, -overload.full plays")
)

// fullOverloadMiB is what the router, built as people run it, may have in memory at most.
const fullOverloadMiB = 600

// TestOverloadAtFullSize is the part of TestOverload that takes too long to be played each time.
func TestOverloadAtFullSize(t *testing.T) {
	if !*fullOverload {
		t.Skip("takes minutes; with -overload.full it is played")
	}
	h := newHub(t, sandbox.Options{})
	const most = 16384 // server.max_connections by default
	o := startOverload(t, h, "max_connections_per_ip: 100000")
	o.during("nothing", func() { time.Sleep(5 * time.Second) })
	var open []net.Conn
	o.during(fmt.Sprintf("%d idle connections", most-100), func() {
		for i := range most - 100 { // the other client's, and those that ask for metrics, are open, too
			conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%4))}, Timeout: 10 * time.Second}).Dial("tcp", o.addr)
			if err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
			open = append(open, conn)
			if _, err := io.WriteString(conn, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	})
	o.during("beside them", func() { time.Sleep(5 * time.Second) })
	o.during("more than the router takes", func() {
		refused := 0
		for range 300 {
			conn := o.dial()
			open = append(open, conn)
			_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil && res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "" {
				refused++
			}
		}
		if refused < 200 {
			t.Errorf("of 300 connections too many %d are told so", refused)
		}
	})
	for _, c := range open {
		c.Close()
	}
	o.manyNames(*fullNames)
	if err := o.p.terminate(); err != nil {
		t.Errorf("the router ended with %v", err)
	}
}

// manyNames posts n events, each of its own name and person, in requests of 250, and has them delivered.
func (o *overload) manyNames(n int) {
	series := func() int {
		_, page := o.p.get("/metrics")
		return strings.Count(page, "\n")
	}
	before := series()
	began := time.Now()
	o.during(fmt.Sprintf("%d persons and names of events", n), func() {
		var next atomic.Int64
		var posting sync.WaitGroup
		for range 4 {
			posting.Go(func() {
				for from := int(next.Add(250)) - 250; from < n; from = int(next.Add(250)) - 250 {
					var body strings.Builder
					for i := from; i < min(n, from+250); i++ {
						fmt.Fprintf(&body, `,{"event_type":"name %d","user":{"email":"p%d@example.com","id":"u%d","anonymous_id":"a%d"}}`, i, i, i, i)
					}
					if status, answer, err := post(o.attacker, o.p.url, "["+body.String()[1:]+"]"); err != nil || status != http.StatusOK {
						o.Errorf("%d %s %v", status, answer, err)
						return
					}
				}
			})
		}
		posting.Wait()
	})
	o.Logf("%d accepted in %s", n, time.Since(began).Round(time.Second))
	most := 0.0
	for deadline := time.Now().Add(time.Hour); ; time.Sleep(time.Second) {
		most = max(most, o.p.rss())
		_, page := o.p.get("/metrics")
		left := gauge(page, "router_log_unsorted_records") + gauge(page, "router_lane_entries")
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			o.Fatalf("%v entries are not delivered", left)
		}
	}
	o.Logf("all delivered in %s; %.0f MiB at most, %.0f in the end, %.0f before it all", time.Since(began).Round(time.Second), most, o.p.rss(), o.base)
	if most > fullOverloadMiB {
		o.Errorf("%.0f MiB", most)
	}
	if after := series(); after > before+200 {
		o.Errorf("%d lines of metrics, %d before", after, before)
	}
}

package ingest

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// TestDryRunsLeaveTheTurns: however long dry runs take, large requests to ingest do not wait for them.
func TestDryRunsLeaveTheTurns(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	end := make(chan struct{})
	began := make(chan struct{}, 100)
	o.DryRun = func(ctx *fasthttp.RequestCtx, _ Tried) {
		began <- struct{}{}
		<-end
	}
	s := newServer(t, o)
	s.heavy.wait = 0
	base := serveUntilEnd(t, s)
	large := []byte(`[{"a":1}` + strings.Repeat(" ", 300<<10) + `]`)
	var all sync.WaitGroup
	defer all.Wait()
	defer close(end)
	n := cap(s.heavy.turns)
	for range n {
		all.Go(func() { send(t, "POST", base+"/api/v1/events/dry-run?token=s2s.secret", large) })
	}
	for range n {
		select {
		case <-began:
		case <-time.After(10 * time.Second):
			t.Fatal("dry runs do not begin")
		}
	}
	if got := send(t, "POST", base+"/api/v1/s2s/event?token=s2s.secret", large); got.status != 200 {
		t.Errorf("beside %d dry runs a large request is answered %d %s", n, got.status, got.body)
	}
	log.take(t)
}

// TestPagesOfOthersMakeNoDryRuns: without an admin token this machine may make dry runs, and not what its browser shows of others.
func TestPagesOfOthersMakeNoDryRuns(t *testing.T) {
	o := testOptions(&memoryLog{})
	o.Server.AdminToken = ""
	var trusted bool
	o.DryRun = func(_ *fasthttp.RequestCtx, tried Tried) { trusted = tried.Admin }
	base := start(t, o)
	f := func(query string, want int, wantTrusted bool, headers ...string) {
		t.Helper()
		trusted = false
		got := send(t, "POST", base+"/api/v1/events/dry-run"+query, []byte(`{"a":1}`), headers...)
		if got.status != want || trusted != wantTrusted {
			t.Errorf("%s %q: %d %s, admin %v, want %d, %v", query, headers, got.status, got.body, trusted, want, wantTrusted)
		}
	}
	f("", 200, true)
	f("", 200, true, "Sec-Fetch-Site", "same-origin")
	f("", 200, true, "Sec-Fetch-Site", "none")
	f("", 200, true, "Origin", base)
	f("", 401, false, "Sec-Fetch-Site", "cross-site", "Origin", base)
	f("", 401, false, "Sec-Fetch-Site", "same-site")
	f("", 401, false, "Origin", "https://evil.example")
	f("", 401, false, "Origin", "null")
	f("", 401, false, "Host", "evil.example", "Origin", "http://evil.example")
	f("?token=s2s.secret", 200, true)
	f("?token=s2s.secret", 200, false, "Sec-Fetch-Site", "cross-site")
	f("?token=s2s.secret", 200, false, "X-Forwarded-For", "203.0.113.7")
}

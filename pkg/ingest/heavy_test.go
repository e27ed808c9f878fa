package ingest

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMultiplied: what a body says once and the router stores many times is bounded by what it comes to.
func TestMultiplied(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(name, path, body, want string, headers ...string) {
		t.Helper()
		got := send(t, "POST", base+path, []byte(body), headers...)
		if text := fmt.Sprintf("%d %s", got.status, message(got.body)); text != want {
			t.Errorf("%s: got %s, want %s", name, text, want)
		}
		size := 0
		for _, rec := range log.recs {
			size += len(rec)
		}
		if log.take(t); size > 8<<20 {
			t.Errorf("%s: %d bytes became %d", name, len(body), size)
		}
	}
	batch := func(context, n int) string {
		return `{"context":{"page":{"x":"` + strings.Repeat("x", context) + `"}},"batch":[` + strings.Repeat(`{"type":"page"},`, n-1) + `{"type":"page"}]}`
	}
	f("a small context", "/v1/batch", batch(1000, 500), saidJitsu2, "X-Write-Key", "js.client")
	f("a large context of one", "/v1/batch", batch(400<<10, 1), saidJitsu2, "X-Write-Key", "js.client")
	f("a large context of many", "/v1/batch", batch(400<<10, 500), "413 Request body exceeds limit: 1048576", "X-Write-Key", "js.client")
	f("of Segment's", "/v1/batch?token=js.client", batch(30<<10, 500), "413 Request body exceeds limit: 1048576")
	f("of Jitsu's", "/api/v1/segment?token=s2s.secret", batch(400<<10, 500), "413 Request body exceeds limit: 1048576")
	tiny := `[` + strings.Repeat("{},", 49_999) + `{}]`
	f("a long User-Agent", "/api/v1/event?token=js.client", tiny, "413 Number of events is too large for such long headers", "User-Agent", strings.Repeat("x", 2000))
	f("a common User-Agent", "/api/v1/event?token=js.client", tiny, saidJitsu, "User-Agent", "x")
}

// TestManyLargeBodies: bodies that are on their way share one bound. Small ones do not meet it.
func TestManyLargeBodies(t *testing.T) {
	log := &memoryLog{}
	s := newServer(t, testOptions(log))
	s.heavy.most = 4 << 20
	base := serveUntilEnd(t, s)
	const half = 700 << 10
	var conns []net.Conn
	for range 8 { // each sends most of a body, and stops
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
		fmt.Fprintf(conn, "POST /api/v1/event?token=js.client HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n[%s", 1<<20, strings.Repeat(" ", half))
	}
	refused := 0
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			continue
		}
		if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
			t.Errorf("got %s, Retry-After %q", res.Status, res.Header.Get("Retry-After"))
		}
		refused++
		res.Body.Close()
	}
	if refused == 0 || refused == len(conns) {
		t.Errorf("%d of %d were refused", refused, len(conns))
	}
	if got := send(t, "POST", base+"/api/v1/event?token=js.client", []byte(`{}`)); got.status != 200 {
		t.Errorf("a small one: got %d %s", got.status, got.body)
	}
	for _, conn := range conns {
		conn.Close()
	}
	large := []byte(`[{"x":"` + strings.Repeat("x", 50_000) + `"}` + strings.Repeat(" ", half) + `]`)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // real connections
		if got := send(t, "POST", base+"/api/v1/event?token=js.client", large); got.status == 200 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("when they are gone: got %d %s", got.status, got.body)
		}
	}
}

// TestLargeRequestsTakeTurns: no more are worked on at a time than there are turns, whatever makes them large; others wait, and pass.
func TestLargeRequestsTakeTurns(t *testing.T) {
	log := &memoryLog{}
	s := newServer(t, testOptions(log))
	base := serveUntilEnd(t, s)
	spaces := strings.Repeat(" ", 300<<10)
	bodies := map[string][]byte{
		"/api/v1/event?token=js.client&a": []byte("[{}" + spaces + "]"),
		"/api/v1/event?token=js.client&b": gzipped(t, "[{}"+spaces+"]"),
		"/api/v1/event?token=js.client&c": []byte("[" + strings.Repeat("{},", lightEvents) + "{}]"),
		"/api/v1/event?token=js.client&d": []byte(`{"template":{},"events":[` + strings.Repeat("{},", lightEvents) + "{}]}"),
		"/v1/batch?token=js.client":       []byte(`{"batch":[` + strings.Repeat(`{"type":"page"},`, lightEvents) + `{"type":"page"}]}`),
		"/v1/batch":                       []byte(`{"writeKey":"js.client","batch":[` + strings.Repeat(`{"type":"page"},`, lightEvents) + `{"type":"page"}]}`),
	}
	for range cap(s.heavy.turns) {
		s.heavy.turns <- struct{}{}
	}
	if got := send(t, "POST", base+"/api/v1/event?token=js.client", []byte("[{},{}]")); got.status != 200 {
		t.Errorf("a small one: got %d %s", got.status, got.body)
	}
	log.take(t)
	var g sync.WaitGroup
	for path, body := range bodies {
		g.Go(func() {
			if got := send(t, "POST", base+path, body); got.status != 200 {
				t.Errorf("%s: got %d %s", path, got.status, got.body)
			}
		})
	}
	time.Sleep(50 * time.Millisecond) // real connections: none may get through meanwhile
	if n := len(log.take(t)); n != 0 {
		t.Errorf("%d events are stored without a turn", n)
	}
	for range cap(s.heavy.turns) {
		<-s.heavy.turns
	}
	g.Wait()
	if len(s.heavy.turns) != 0 || s.heavy.held.Load() != 0 {
		t.Errorf("%d turns and %d bytes are held by nobody", len(s.heavy.turns), s.heavy.held.Load())
	}

	s.heavy.wait = time.Millisecond
	for range cap(s.heavy.turns) {
		s.heavy.turns <- struct{}{}
	}
	log.take(t)
	for path, body := range bodies {
		got := send(t, "POST", base+path, body)
		if want := 503; got.status != want {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	if n := len(log.take(t)); n != 0 {
		t.Errorf("refused, and %d events stored", n)
	}
}

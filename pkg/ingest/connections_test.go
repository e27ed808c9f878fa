package ingest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// fromAddr is a connection that comes from somewhere.
type fromAddr struct {
	net.Conn
	addr string
}

func (c fromAddr) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.addr), Port: 40000} }

// bubble is a server in virtual time, whose connections are pipes.
type bubble struct {
	t      *testing.T
	server *Server
	ln     *pipeListener
}

func newBubble(t *testing.T, o Options) *bubble {
	t.Helper()
	b := &bubble{t: t, server: newServer(t, o), ln: &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.server.Run(ctx, b.ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // virtual: fasthttp's pool of workers looks every 10 s whether it is to end
	})
	return b
}

// dial opens a connection from an address. What it is sent is read, for a pipe has no buffer.
func (b *bubble) dial(from string) (net.Conn, *bufio.Reader) {
	near, far := net.Pipe()
	b.ln.conns <- fromAddr{far, from}
	out, in := io.Pipe()
	go func() {
		_, err := io.Copy(in, near)
		in.CloseWithError(err)
	}()
	b.t.Cleanup(func() { near.Close(); out.Close() })
	return near, bufio.NewReader(out)
}

// post sends an event on a connection and returns the status of the answer; 0 where there is none.
func (b *bubble) post(conn net.Conn, answers *bufio.Reader) int {
	b.t.Helper()
	const body = `{"event_type":"x"}`
	go fmt.Fprintf(conn, "POST /s2s/event?token=s2s.open HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// One address may not take all connections: whoever comes from another is served while thousands of slow ones hang on. When they are cut off,
// their places are free again.
func TestSlowConnectionsLeaveRoomForOthers(t *testing.T) {
	send(t, "GET", start(t, testOptions(&memoryLog{}))+"/ping", nil) // fasthttp's clock for Date headers never ends: not in the bubble
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		o := testOptions(log)
		o.Server.MaxConnections, o.Server.MaxConnectionsPerIP = 100, 40
		b := newBubble(t, o)
		var answers []*bufio.Reader
		for i := range 2000 {
			from := "203.0.113.7"
			if i%2 == 1 {
				from = fmt.Sprintf("2001:db8::%x", i) // one network, as many addresses as one likes
			}
			conn, answer := b.dial(from)
			go io.WriteString(conn, "POST /s2s/event?token=s2s.open HTTP/1.1\r\nX-Slow: ")
			answers = append(answers, answer)
		}
		synctest.Wait()
		if n := b.count(reasonConnections); n != 2000-80 {
			t.Errorf("%v connections were refused, want %d", n, 2000-80)
		}
		resp, err := http.ReadResponse(answers[1999], nil)
		if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "5" {
			t.Errorf("a connection too many got %v, %v", resp, err)
		}
		for i := range 20 { // 100 in all
			if status := b.post(b.dial(fmt.Sprintf("198.51.100.%d", i))); status != 200 {
				t.Fatalf("client %d got %d while others are slow", i, status)
			}
		}
		if status := b.post(b.dial("198.51.100.99")); status != 503 {
			t.Errorf("a connection beyond all got %d", status)
		}
		time.Sleep(b.server.config().ReadTimeout + time.Minute)
		synctest.Wait()
		for _, from := range []string{"203.0.113.7", "2001:db8::1"} {
			if status := b.post(b.dial(from)); status != 200 {
				t.Errorf("%s got %d after its slow connections ended", from, status)
			}
		}
		if evs := log.take(t); len(evs) != 22 {
			t.Errorf("stored %d events", len(evs))
		}
	})
}

// A connection that is refused in its body and is being closed slowly is still open: it counts until it is closed.
func TestConnectionsThatLingerCount(t *testing.T) {
	send(t, "GET", start(t, testOptions(&memoryLog{}))+"/ping", nil)
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(&memoryLog{})
		o.Server.MaxConnections, o.Server.MaxConnectionsPerIP = 100, 5
		b := newBubble(t, o)
		for range 5 {
			conn, answer := b.dial("203.0.113.7")
			go io.WriteString(conn, "POST /s2s/event?token=unknown HTTP/1.1\r\nHost: r\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 2*drainBytes))
			if resp, err := http.ReadResponse(answer, nil); err != nil || resp.StatusCode != 401 {
				t.Fatalf("got %v, %v", resp, err)
			}
		}
		synctest.Wait()
		if status := b.post(b.dial("203.0.113.7")); status != 503 {
			t.Errorf("a sixth connection got %d while five are being closed", status)
		}
		time.Sleep(lingerTime + time.Second)
		synctest.Wait()
		for range 5 {
			if status := b.post(b.dial("203.0.113.7")); status != 200 {
				t.Errorf("got %d after they were closed", status)
			}
		}
	})
}

// Many clients come through one proxy.
func TestProxiesAreNotLimited(t *testing.T) {
	send(t, "GET", start(t, testOptions(&memoryLog{}))+"/ping", nil)
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(&memoryLog{})
		o.Server.MaxConnectionsPerIP = 2
		b := newBubble(t, o)
		for i := range 50 {
			if status := b.post(b.dial("10.0.0.5")); status != 200 {
				t.Fatalf("connection %d of a trusted proxy got %d", i, status)
			}
		}
	})
}

func (b *bubble) count(r reason) float64 { return testutil.ToFloat64(b.server.metrics.rejected[r]) }

// What is no HTTP, or two requests to one reader and one to another, is refused, closes its connection, and stores nothing.
func TestSmuggling(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	addr := strings.TrimPrefix(start(t, o), "http://")
	const event = `{"event_type":"x"}`
	const hidden = "POST /s2s/event?token=s2s.open HTTP/1.1\r\nHost: r\r\nContent-Length: 18\r\n\r\n" + event
	// f sends text and wants the statuses, and so many events stored.
	f := func(what, text string, stored int, statuses ...int) {
		t.Helper()
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		r := bufio.NewReader(conn)
		var got []int
		for {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				break
			}
			body, _ := io.ReadAll(resp.Body)
			got = append(got, resp.StatusCode)
			for name := range resp.Header {
				if strings.Contains(name, "Injected") {
					t.Errorf("%s: header %s in the answer", what, name)
				}
			}
			if strings.Contains(string(body), "s2s.open") {
				t.Errorf("%s: the answer repeats the token: %s", what, body)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(statuses) {
			t.Errorf("%s: got %v, want %v", what, got, statuses)
		}
		if evs := log.take(t); len(evs) != stored {
			t.Errorf("%s: stored %d events, want %d", what, len(evs), stored)
		}
	}
	const head = "POST /s2s/event?token=s2s.open HTTP/1.1\r\nHost: r\r\n"
	f("two requests", head+"Content-Length: 18\r\n\r\n"+event+hidden, 2, 200, 200)
	f("two lengths", head+"Content-Length: 18\r\nContent-Length: 0\r\n\r\n"+event+hidden, 0, 400)
	f("the same length twice", head+"Content-Length: 18\r\nContent-Length: 18\r\n\r\n"+event, 0, 400)
	f("two lengths in a line", head+"Content-Length: 18, 0\r\n\r\n"+event, 0, 400)
	f("length and chunks", head+"Content-Length: 18\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+hidden, 0, 400)
	f("chunks and length", head+"Transfer-Encoding: chunked\r\nContent-Length: 18\r\n\r\n0\r\n\r\n"+hidden, 0, 400)
	f("another encoding", head+"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"+hidden, 0, 400)
	f("an unknown encoding", head+"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"+hidden, 0, 400)
	f("a space before the colon", head+"Content-Length : 18\r\n\r\n"+event, 0, 400)
	f("a negative length", head+"Content-Length: -1\r\n\r\n"+event, 0, 400)
	f("a length with a sign", head+"Content-Length: +18\r\n\r\n"+event, 0, 400)
	f("a length that overflows", head+"Content-Length: 18446744073709551634\r\n\r\n"+event, 0, 400)
	f("a folded header", head+"X-A: b\r\n Content-Length: 0\r\nContent-Length: 18\r\n\r\n"+event, 1, 200) // a value of two lines, as it was once allowed
	f("a bad chunk length", head+"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"+event, 0, 400)
	f("a chunk with a sign", head+"Transfer-Encoding: chunked\r\n\r\n+12\r\n"+event+"\r\n0\r\n\r\n", 0, 400)
	f("NUL in a header", head+"X-A: a\x00b\r\nContent-Length: 18\r\n\r\n"+event, 0, 400)
	f("NUL in the path", "GET /ping\x00 HTTP/1.1\r\nHost: r\r\n\r\n", 0, 400)
	f("encoded NUL in the path", "GET /ping%00 HTTP/1.1\r\nHost: r\r\n\r\n", 0, 404)
	f("dots in the path", "GET /api/../ping HTTP/1.1\r\nHost: r\r\n\r\n", 0, 200)
	f("an absolute address", "GET http://elsewhere.example/ping HTTP/1.1\r\nHost: r\r\n\r\n", 0, 200)
	f("a long path", "GET /"+strings.Repeat("a/", 9000)+" HTTP/1.1\r\nHost: r\r\n\r\n", 0, 431)
	f("a header of the answer", "POST /api/v1/event?token=js.open HTTP/1.1\r\nHost: r\r\nOrigin: https://a.example\r\x00\nX-Injected: 1\r\nContent-Length: 18\r\n\r\n"+event, 0, 400)
	f("a header in the token", "POST /api/v1/event?token=a%0d%0aX-Injected:%201 HTTP/1.1\r\nHost: r\r\nContent-Length: 0\r\n\r\n", 0, 401)
	f("a bare CR in Origin", "POST /api/v1/event?token=js.open HTTP/1.1\r\nHost: r\r\nOrigin: https://a.example\rX-Injected: 1\r\nContent-Length: 18\r\n\r\n"+event, 0, 400)
	f("CONNECT", "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n", 0, 404)
	f("TRACE", "TRACE /ping HTTP/1.1\r\nHost: r\r\nX-Secret: s2s.open\r\n\r\n", 0, 404)
	f("no Host", "GET /ping HTTP/1.1\r\n\r\n", 0, 400)
	f("two hosts", "GET /ping HTTP/1.1\r\nHost: r\r\nHost: q\r\n\r\n", 0, 400)
}

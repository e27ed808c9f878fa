package ingest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"

	"golang.org/x/sync/errgroup"
)

// gatedLog holds every Append until its gate opens.
type gatedLog struct {
	memoryLog
	entered chan struct{} // one value per Append
	gate    chan struct{} // closed to let all go
}

func (l *gatedLog) Append(recs ...[]byte) error {
	l.entered <- struct{}{}
	<-l.gate
	return l.memoryLog.Append(recs...)
}

// serve runs s on a loopback port. stop asks it to end, ended yields what Run returned.
func serve(t *testing.T, s *Server) (addr string, stop func(), ended <-chan error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	return ln.Addr().String(), cancel, done
}

// Requests that are open when the server is told to stop are finished and answered; connections that come later are refused.
func TestStopFinishesOpenRequests(t *testing.T) {
	const requests = 20
	log := &gatedLog{entered: make(chan struct{}, requests), gate: make(chan struct{})}
	addr, stop, ended := serve(t, newServer(t, testOptions(log)))

	var g errgroup.Group
	for i := range requests {
		g.Go(func() error {
			url := "http://" + addr + "/api/v1/s2s/event?token=s2s.open"
			resp, err := http.Post(url, "", strings.NewReader(fmt.Sprintf(`{"event_id":"%d"}`, i)))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 || !resp.Close {
				return fmt.Errorf("request %d: status %d, connection closed %v", i, resp.StatusCode, resp.Close)
			}
			return nil
		})
	}
	for range requests {
		<-log.entered
	}
	stop()
	for { // the listener closes a moment after stop
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			break
		}
		conn.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("Run returned %v with %d open requests", err, requests)
	default:
	}
	close(log.gate)
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := len(log.take(t)); got != requests {
		t.Errorf("%d events stored, want %d", got, requests)
	}
}

// Whatever is acknowledged around the moment of the stop is stored.
func TestStopLosesNothingAcknowledged(t *testing.T) {
	log := &memoryLog{}
	addr, stop, ended := serve(t, newServer(t, testOptions(log)))
	var acked atomic.Int64
	var g errgroup.Group
	for range 8 {
		g.Go(func() error {
			c := &http.Client{Transport: &http.Transport{}}
			defer c.CloseIdleConnections()
			for {
				resp, err := c.Post("http://"+addr+"/api/v1/s2s/event?token=s2s.open", "", strings.NewReader(`{"a":1}`))
				if err != nil {
					return nil //nolint:nilerr // the server is gone: what this test is about
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || string(body) != `{"status":"ok"}` {
					return fmt.Errorf("got %d %s", resp.StatusCode, body)
				}
				if acked.Add(1) == 500 {
					stop()
				}
			}
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if stored := len(log.take(t)); int64(stored) < acked.Load() || acked.Load() < 500 {
		t.Errorf("%d events acknowledged, %d stored", acked.Load(), stored)
	}
}

// At the end of the grace time a request that does not end is cut off, unacknowledged.
func TestStopCutsOffAfterGrace(t *testing.T) {
	log := &gatedLog{entered: make(chan struct{}, 1), gate: make(chan struct{})}
	o := testOptions(log)
	o.Server.Grace = 50 * time.Millisecond
	addr, stop, ended := serve(t, newServer(t, o))
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Post("http://"+addr+"/s2s/event?token=s2s.open", "", strings.NewReader(`{}`))
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	<-log.entered
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := <-answered; err == nil {
		t.Error("the request was answered before its event was stored")
	}
	close(log.gate)
}

func TestRunEndsWithItsListener(t *testing.T) {
	s := newServer(t, testOptions(&memoryLog{}))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := s.Run(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed listener: got %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Run(ctx, ln); err != nil {
		t.Errorf("stopped before it began: %v", err)
	}
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("the listener is still open")
	}
}

// shortListener is out of descriptors for its first calls of Accept.
type shortListener struct {
	net.Listener
	short int
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.short > 0 {
		l.short--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return nil, net.ErrClosed
}

func TestShortageOfDescriptorsIsWaitedOut(t *testing.T) {
	f := func(short int, stopped bool, want time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			done := make(chan struct{})
			if stopped {
				close(done)
			}
			began := time.Now()
			l := &listener{Listener: &shortListener{short: short}, done: done, server: newServer(t, testOptions(&memoryLog{}))}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v", err)
			}
			if got := time.Since(began); got != want {
				t.Errorf("short %d times, stopped %v: waited %v, want %v", short, stopped, got, want)
			}
		})
	}
	f(0, false, 0)
	f(3, false, 3*time.Second)
	f(3, true, 0)
}

// raw sends text on a connection of its own and returns the answer.
func raw(t *testing.T, addr, text string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", text, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body)}
}

// pipeListener takes connections from a channel, so that they live in a bubble of virtual time.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// Clients that send slowly, or nothing, or do not read, hold a connection for a bounded time, however small the steps that they make.
func TestSlowClientsAreCutOff(t *testing.T) {
	send(t, "GET", start(t, testOptions(&memoryLog{}))+"/ping", nil) // fasthttp's clock for Date headers never ends: not in the bubble
	d := config.Default().Server
	readTimeout, idleTimeout, minRate := d.ReadTimeout, d.IdleTimeout, 0
	f := func(what string, within time.Duration, client func(net.Conn)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			log := &memoryLog{}
			o := testOptions(log)
			o.Server.MinBodyRate = minRate
			s := newServer(t, o)
			ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx, ln) }()
			near, far := net.Pipe()
			ln.conns <- far
			began := time.Now()
			client(near)
			if took := time.Since(began); took > within {
				t.Errorf("%s: the connection was open for %s, want at most %s", what, took, within)
			}
			if evs := log.take(t); len(evs) != 0 {
				t.Errorf("%s: stored %d events of a request that never ended", what, len(evs))
			}
			near.Close()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute) // virtual: fasthttp's pool of workers looks every 10 s whether it is to end
		})
	}
	// trickle writes begin, then a byte a second until the connection breaks.
	trickle := func(begin string) func(net.Conn) {
		return func(c net.Conn) {
			go io.Copy(io.Discard, c) // a pipe has no buffer for the answer
			_, err := io.WriteString(c, begin)
			for n := 0; err == nil && n < 1000; n++ {
				time.Sleep(time.Second)
				_, err = c.Write([]byte{'1'})
			}
		}
	}
	const head = "POST /s2s/event?token=s2s.open HTTP/1.1\r\nHost: r\r\n"
	f("nothing", idleTimeout, func(c net.Conn) { io.Copy(io.Discard, c) })
	f("nothing more", idleTimeout, func(c net.Conn) {
		io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: r\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	f("slow header", readTimeout+time.Second, trickle(head+"X-Slow: "))
	f("slow body", readTimeout+2*time.Second, trickle(head+"Content-Length: 10000\r\n\r\n"))
	f("slow chunks", readTimeout+2*time.Second, trickle(head+"Transfer-Encoding: chunked\r\n\r\n2710\r\n"))
	minRate = 1024
	f("a slow body with a least rate", bodyGrace+2*time.Second, trickle(head+"Content-Length: 10000\r\n\r\n"))
	f("slow chunks with a least rate", bodyGrace+2*time.Second, trickle(head+"Transfer-Encoding: chunked\r\n\r\n2710\r\n"))
	f("no body", bodyGrace+time.Second, func(c net.Conn) {
		io.WriteString(c, head+"Content-Length: 10000\r\n\r\n")
		io.Copy(io.Discard, c)
	})
	f("a body that stops", bodyGrace+10*time.Second, trickle(head+"Content-Length: 20000\r\n\r\n"+strings.Repeat("x", 9*1024)))
	minRate = 0
	f("an answer that nobody reads", writeTimeout+time.Second, func(c net.Conn) {
		io.WriteString(c, "GET /ping HTTP/1.1\r\nHost: r\r\n\r\n")
		time.Sleep(writeTimeout + time.Second)
		synctest.Wait()
		if _, err := c.Write([]byte("GET")); err == nil {
			t.Error("the connection is open after the write timeout")
		}
	})
}

func TestUnreadableRequests(t *testing.T) {
	o := testOptions(&memoryLog{})
	addr := strings.TrimPrefix(start(t, o), "http://")
	f := func(text string, status int, body string) {
		t.Helper()
		if got := raw(t, addr, text); got.status != status || got.body != body {
			t.Errorf("%.60q: got %d %s, want %d %s", text, got.status, got.body, status, body)
		}
	}
	const head = " HTTP/1.1\r\nHost: x\r\n"
	envelope := func(message, detail string) string {
		return string(fmt.Appendf(nil, `{"message":%s,"error":%s}`, event.AppendString(nil, message), event.AppendString(nil, detail)))
	}
	f("GET /ping"+head+"X: "+strings.Repeat("x", 17_000), 431, envelope("Request header exceeds limit: 16384", ""))
	f("nonsense token=guess\r\n\r\n", 400, envelope("Request is not readable as HTTP", ""))

	// A body over the limit is refused by its length alone, and of one without a good key nothing is kept.
	const tooBig = "counted after decompression and with the template, or the batch's context, merged in; send fewer events at a time"
	f("POST /s2s/event?token=s2s.open"+head+"Content-Length: 2000000\r\n\r\n[", 413, envelope("Request body exceeds limit: 1048576", tooBig))
	f("POST /s2s/event?token=guess"+head+"Content-Length: 100000\r\n\r\n[", 401,
		envelope("The token is not found", "it is the server_secret of no API key"))
	f("POST /api/v1/event"+head+"Authorization: Bearer guess\r\nTransfer-Encoding: chunked\r\n\r\n11000\r\n"+strings.Repeat("x", 0x11000), 401,
		envelope("The token is not found", "it is the client_secret of no API key"))
	f("POST /nope"+head+"Content-Length: 100000\r\n\r\n[", 404, "404 page not found")
	f("POST /s2s/event?token=s2s.open"+head+"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\nnonsense", 400, envelope("Request body ended too early", ""))
	f("GET /ping"+head+"Content-Length: 100000\r\n\r\n"+strings.Repeat("x", 100_000), 200, "pong")

	// With one, chunked bodies and big ones pass.
	chunk := `{"x":"` + strings.Repeat("x", 40_000) + `"}`
	f("POST /s2s/event?token=s2s.open"+head+"Transfer-Encoding: chunked\r\n\r\n"+
		fmt.Sprintf("1\r\n[\r\n%x\r\n%s\r\n1\r\n,\r\n%x\r\n%s\r\n1\r\n]\r\n0\r\n\r\n", len(chunk), chunk, len(chunk), chunk), 200, `{"status":"ok"}`)
	body := `[` + chunk + `,` + chunk + `]`
	f("POST /s2s/event?token=s2s.open"+head+fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body), 200, `{"status":"ok"}`)
	f("POST /s2s/event?token=s2s.open"+head+"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 2\r\n\r\n{}", 200, `{"status":"ok"}`)
}

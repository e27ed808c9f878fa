package destinations

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestDeadConnections: a connection that something on the way has forgotten, without telling anybody, is left behind, and calls succeed again.
func TestDeadConnections(t *testing.T) {
	remote := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	remote.EnableHTTP2 = true
	remote.StartTLS()
	defer remote.Close()
	way, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	var conns, forgotten atomic.Int32 // of the way, and up to which of them nothing passes
	go func() {
		for {
			conn, err := way.Accept()
			if err != nil {
				return
			}
			there, err := net.Dial("tcp", remote.Listener.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			n := conns.Add(1)
			pass := func(to, from net.Conn) {
				defer to.Close()
				buf := make([]byte, 4096)
				for {
					got, err := from.Read(buf)
					if err != nil {
						return
					}
					if n > forgotten.Load() {
						_, _ = to.Write(buf[:got]) // of its end Read tells
					}
				}
			}
			go pass(there, conn)
			go pass(conn, there)
		}
	}()
	tr := NewTransport(1)
	tr.TLSClientConfig = remote.Client().Transport.(*http.Transport).TLSClientConfig
	tr.HTTP2.SendPingTimeout, tr.HTTP2.PingTimeout = 20*time.Millisecond, 20*time.Millisecond
	defer tr.CloseIdleConnections()
	call := func() (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+way.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}
	if got, err := call(); got != "HTTP/2.0" || err != nil {
		t.Fatalf("got %q, %v", got, err)
	}
	forgotten.Store(conns.Load())
	if _, err := call(); errors.Is(err, context.DeadlineExceeded) { // any other end is one that is seen soon
		t.Errorf("a call on a dead connection: got %v", err)
	}
	if got, err := call(); got != "HTTP/2.0" || err != nil {
		t.Errorf("the next call: got %q, %v", got, err)
	}
}

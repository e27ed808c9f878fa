package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
)

// TestACallIsMadeOnce: a write that may have been carried out is not made again when its connection breaks, also where the caller names it idempotent: HubSpot does not know that.
func TestACallIsMadeOnce(t *testing.T) {
	var posts atomic.Int32
	var keys atomic.Pointer[string]
	remote := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // a test's own
		key := r.Header.Get("Idempotency-Key")
		keys.Store(&key)
		if r.Method == http.MethodPost {
			posts.Add(1)
			panic(http.ErrAbortHandler) // the connection breaks
		}
	}))
	defer remote.Close()
	transport := newTransport()
	defer transport.CloseIdleConnections()
	c := &call{app: &app{App: App{Config: config.App{BaseURL: remote.URL}}}, path: "/crm"}
	send := func(method string, body []byte) error {
		t.Helper()
		var h fasthttp.RequestHeader
		h.Set("Idempotency-Key", "k1")
		c.method = method
		req, err := newRequest(t.Context(), c, sentOn(&h, nil), body, "token")
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		return err
	}
	if err := send(http.MethodGet, nil); err != nil { // for a connection that is kept
		t.Fatal(err)
	}
	if err := send(http.MethodPost, []byte(`{}`)); err == nil || posts.Load() != 1 {
		t.Errorf("a POST whose connection broke was made %d times (%v), want once", posts.Load(), err)
	}
	if key := *keys.Load(); key != "k1" {
		t.Errorf("HubSpot got the Idempotency-Key %q, want that of the caller", key)
	}
}

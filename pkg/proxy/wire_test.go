package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/endusers"
	"eventrouter/pkg/ingest"
)

// wire is the proxy behind a real listener, with a HubSpot behind another.
type wire struct {
	t      *testing.T
	addr   string
	log    *syncBuffer
	stop   func()
	remote *httptest.Server
	proxy  *Proxy
	app    App
}

type syncBuffer struct {
	mu  sync.Mutex
	all strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// connected is an account that is.
type connected struct{}

func (connected) Hub(string) string { return "1001" }
func (connected) Token(context.Context, string, string) (config.Secret, error) {
	return "planted-token-4711", nil
}
func (connected) Doubted(context.Context, string, config.Secret) bool { return false }

func newWire(t *testing.T, hubspot http.HandlerFunc) *wire {
	t.Helper()
	w := &wire{t: t, log: &syncBuffer{}, remote: httptest.NewServer(hubspot)}
	app := config.DefaultApp("crm")
	app.BaseURL, app.Proxy.Allow, app.Proxy.MaxBytes = w.remote.URL, []string{"ANY /crm/**"}, 256<<20
	var front *ingest.Server
	w.app = App{Config: app, Verifier: must(endusers.New(app.Tokens, endusers.Options{}))}
	p, err := New(Options{
		Apps:        []App{w.app},
		Connections: func(string) Connections { return connected{} },
		Shared:      &destinations.Shared{}, Logger: slog.New(slog.NewJSONHandler(w.log, nil)),
		ServerKey: func(ctx *fasthttp.RequestCtx) (id, account string, ok bool) { return front.ServerKey(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.proxy = p
	server := config.Default().Server
	server.Grace = 10 * time.Second
	front, err = ingest.New(ingest.Options{
		Server: server, APIKeys: []config.APIKey{{ID: "backend", ServerSecret: serverSecret}}, Log: noLog{},
		Mounts: []ingest.Mount{{Prefix: Path, Admit: p.Admit, Unread: p.Unread, Handler: p.Handle}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- front.Run(ctx, ln) }()
	w.addr = ln.Addr().String()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { w.stop(); w.remote.CloseClientConnections(); w.remote.Close() })
	return w
}

// setBaseURL has calls made to another HubSpot.
func (w *wire) setBaseURL(url string) {
	w.t.Helper()
	w.app.Config.BaseURL = url
	if err := w.proxy.SetApps([]App{w.app}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *wire) dial() (net.Conn, *bufio.Reader) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return conn, bufio.NewReader(conn)
}

// call is a request of a server in the account a1, to its blank line.
func (w *wire) call(line string, headers ...string) string {
	all := append([]string{line + " HTTP/1.1", "Host: x", "Authorization: Bearer " + serverSecret, "X-Account: a1"}, headers...)
	return strings.Join(slices.DeleteFunc(all, func(h string) bool { return h == "" }), "\r\n") + "\r\n\r\n"
}

// TestOnTheWire: a request that can be read in two ways, or is written for another host, reaches HubSpot not at all, and any other once, as it was admitted.
func TestOnTheWire(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	w := newWire(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // what is missing is seen below
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprintf("%s %s %s %s %v %q", r.Method, r.RequestURI, body, r.Header.Get("Upgrade"), r.TransferEncoding, slices.Sorted(maps.Keys(r.Header))))
	})
	const path = "/api/v1/proxy/crm/crm/x"
	f := func(request string, status int, want string) {
		t.Helper()
		mu.Lock()
		seen = nil
		mu.Unlock()
		conn, br := w.dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		if res.StatusCode == http.StatusContinue {
			res, err = http.ReadResponse(br, nil)
		}
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(seen, "|"); err != nil || res.StatusCode != status || got != want {
			t.Errorf("%q: got %d, HubSpot %s, want %d, %s; %v", request, res.StatusCode, got, status, want, err)
		}
	}
	const plain, post = `["Accept-Encoding" "Authorization" "User-Agent"]`, `["Accept-Encoding" "Authorization" "Content-Length" "User-Agent"]`
	f(w.call("GET "+path), 200, "GET /crm/x   [] "+plain)
	f(w.call("GET http://elsewhere.example"+path), 400, "")
	f(w.call("GET //elsewhere.example"+path), 404, "")
	f(w.call("GET /a/.."+path), 400, "")
	f(w.call("GET "+path+"#x"), 400, "")
	f(w.call("CONNECT "+path), 405, "")
	f(w.call("TRACE "+path), 405, "")
	f(w.call("get "+path), 405, "")
	f(w.call("GET "+path, "X-Account:"), 400, "")
	f(w.call("GET "+path+"?a=b%0d%0aX-Account:%20a2"), 200, "GET /crm/x?a=b%0d%0aX-Account:%20a2   [] "+plain)
	f(w.call("GET "+path, "x-account: a2"), 400, "")
	f(w.call("GET "+path, "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"), 200, "GET /crm/x   [] "+plain)
	f(w.call("POST "+path, "X-HTTP-Method-Override: DELETE", "X-HubSpot-Method-Override: DELETE", "Content-Length: 1")+"x", 200, "POST /crm/x x  [] "+post)
	f(w.call("POST "+path, "Content-Length: 3", "Content-Length: 5")+"abcde", 400, "")
	f(w.call("POST "+path, "Content-Length: 3", "Transfer-Encoding: chunked")+"3\r\nabc\r\n0\r\n\r\n", 400, "")
	f(w.call("POST "+path, "Transfer-Encoding: xchunked")+"3\r\nabc\r\n0\r\n\r\n", 400, "")
	f(w.call("POST "+path, "Transfer-Encoding : chunked", "Content-Length: 3")+"abc", 400, "")
	f(w.call("POST "+path, "Trailer: X-Account", "Transfer-Encoding: chunked")+"3\r\nabc\r\n0\r\nX-Account: a2\r\n\r\n", 200, "POST /crm/x abc  [] "+post)
	f(w.call("POST "+path, "Expect: 100-continue", "Content-Length: 3")+"abc", 200, "POST /crm/x abc  [] "+post)
}

// TestCallersThatGo: an answer is not held in memory, a caller that goes away ends the call at HubSpot, and a stop lets calls under way end.
func TestCallersThatGo(t *testing.T) {
	const size = 256 << 20
	cut, begun, goOn := make(chan int, 1), make(chan struct{}, 1), make(chan struct{})
	w := newWire(t, func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/slow") {
			begun <- struct{}{}
			<-goOn
			_, _ = io.WriteString(rw, "all of it") // the caller tells
			return
		}
		rw.Header().Set("Content-Length", strconv.Itoa(size))
		chunk, sent := make([]byte, 64<<10), 0
		for sent < size {
			n, err := rw.Write(chunk)
			if sent += n; err != nil {
				break
			}
		}
		cut <- sent
	})
	conn, br := w.dial()
	if _, err := io.WriteString(conn, w.call("GET /api/v1/proxy/crm/crm/big")); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.ContentLength != size {
		t.Fatalf("%v, %+v", err, res)
	}
	if _, err := io.CopyN(io.Discard, res.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if sent := <-cut; sent > 64<<20 { // what sockets hold
		t.Errorf("HubSpot has sent %d bytes to a caller that took 1 MiB", sent)
	}

	conn, br = w.dial()
	if _, err := io.WriteString(conn, w.call("GET /api/v1/proxy/crm/crm/slow")); err != nil {
		t.Fatal(err)
	}
	<-begun
	stopped := make(chan struct{})
	go func() { w.stop(); close(stopped) }()
	close(goOn)
	res, err = http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "all of it" {
		t.Errorf("a call under way at a stop: got %q, %v", body, err)
	}
	<-stopped
	if log := w.log.String(); !strings.Contains(log, `"path":"/crm/big","status":200`) || !strings.Contains(log, "the caller did not take all of the answer") {
		t.Errorf("the log does not tell of the caller that went: %s", log)
	}
}

package ingest

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"
)

// memoryLog keeps records in memory, and obeys Log's contract: all or none, copied.
type memoryLog struct {
	mu     sync.Mutex
	recs   [][]byte
	refuse error // what Append returns while it is set
}

func (l *memoryLog) Append(recs ...[]byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != nil {
		return l.refuse
	}
	for _, r := range recs {
		l.recs = append(l.recs, bytes.Clone(r))
	}
	return nil
}

func (l *memoryLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = err
}

// take returns and forgets what is stored.
func (l *memoryLog) take(t *testing.T) []event.Event {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var evs []event.Event
	for _, rec := range l.recs {
		var ev event.Event
		if err := ev.Decode(rec); err != nil {
			t.Fatalf("stored record %q: %v", rec, err)
		}
		evs = append(evs, ev)
	}
	l.recs = nil
	return evs
}

var receipt = time.Date(2026, 11, 21, 3, 0, 0, 123456000, time.UTC)

// testOptions are the keys of the reference's cases.
func testOptions(log Log) Options {
	return Options{
		Server: config.Server{
			AdminToken: "adm", MaxEventBytes: 51200, MaxBodyBytes: 1 << 20, Grace: 10 * time.Second, AnonymousHash: true,
			TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")},
		},
		APIKeys: []config.APIKey{
			{ID: "key1", ClientSecret: "js.client", ServerSecret: "s2s.secret", Origins: []string{"*example.com", "good.io"}},
			{ID: "key2", ClientSecret: "js.open", ServerSecret: "s2s.open"},
			{ID: "nodest", ClientSecret: "js.nodest", ServerSecret: "s2s.nodest"},
		},
		Destinations: []config.Destination{{Name: "hub", Type: "hubspot", OnlyTokens: []string{"key1", "key2"}}},
		Log:          log,
		Now:          func() time.Time { return receipt },
	}
}

func newServer(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start serves o on a loopback port until the test ends, and returns the base URL.
func start(t *testing.T, o Options) string {
	t.Helper()
	return serveUntilEnd(t, newServer(t, o))
}

func serveUntilEnd(t *testing.T, s *Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context() // ends just before the cleanups
	var g errgroup.Group
	g.Go(func() error { return s.Run(ctx, ln) })
	t.Cleanup(func() {
		client.CloseIdleConnections()
		if err := g.Wait(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

// client follows nothing and adds nothing.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// answer is a response with its body read.
type answer struct {
	status int
	header http.Header
	body   string
}

// send makes one request; headers are pairs of name and value.
func send(t *testing.T, method, url string, body []byte, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for h := range slices.Chunk(headers, 2) {
		req.Header.Add(h[0], h[1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return answer{resp.StatusCode, resp.Header, string(got)}
}

// handle gives s a request without a socket.
func handle(s *Server, method, uri, body string) *fasthttp.Response {
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(uri)
	req.SetBodyString(body)
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, nil, nil)
	s.Handler(&ctx)
	return &ctx.Response
}

package ingest

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"eventrouter/pkg/config"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/valyala/fasthttp"
)

func TestPages(t *testing.T) {
	o := testOptions(&memoryLog{})
	ready := true
	o.Ready = func() ([]byte, bool) { return []byte(`{"lanes":3}`), ready }
	base := start(t, o)
	f := func(method, path string, status int, body string) {
		t.Helper()
		if got := send(t, method, base+path, nil); got.status != status || got.body != body || got.header.Get("Server") != "" {
			t.Errorf("%s %s: got %d %q, Server %q, want %d %q", method, path, got.status, got.body, got.header.Get("Server"), status, body)
		}
	}
	f("GET", "/ping", 200, "pong")
	f("HEAD", "/ping", 200, "")
	f("GET", "/healthz", 200, `{"status":"ok"}`)
	f("GET", "/readyz", 200, `{"status":"ok"}`)
	ready = false
	f("GET", "/readyz", 503, `{"status":"not ready"}`)

	const missing = "404 page not found"
	f("GET", "/", 404, missing)
	f("GET", "/api/v1/event", 404, missing)
	f("PUT", "/api/v1/event", 404, missing)
	f("POST", "/ping", 404, missing)
	f("OPTIONS", "/healthz", 404, missing)
	f("POST", "/api.", 404, missing)
	f("POST", "/apix", 404, missing)
	f("GET", "/metrics", 404, missing)
	f("POST", "/api/s/merge", 404, missing)
	f("POST", "/v1/merge", 404, missing)
	f("GET", "/v1/projects//settings", 404, missing)
}

func TestReadyWithoutCheck(t *testing.T) {
	s := newServer(t, testOptions(&memoryLog{}))
	f := func(status int, body string) {
		t.Helper()
		var ctx fasthttp.RequestCtx
		ctx.Request.SetRequestURI("/readyz")
		s.Handler(&ctx)
		if got := ctx.Response.StatusCode(); got != status || string(ctx.Response.Body()) != body {
			t.Errorf("got %d %s, want %d %s", got, ctx.Response.Body(), status, body)
		}
	}
	f(200, `{"status":"ok"}`)
	s.stopping.Store(true)
	f(503, `{"status":"stopping"}`)
}

func TestAdminPages(t *testing.T) {
	o := testOptions(&memoryLog{})
	o.Metrics = func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("page") }
	withToken := newServer(t, o)
	o.Server.AdminToken = ""
	o.Ready = func() ([]byte, bool) { return []byte(`lanes`), true }
	without := newServer(t, o)
	o.Server.AdminToken = "adm"
	withBoth := newServer(t, o)
	o.Server.AdminToken, o.Server.AdminAccess = "", config.AccessToken
	locked := newServer(t, o)
	o.Server.AdminAccess, o.Server.MetricsAccess = config.AccessLocal, config.AccessPublic
	public := newServer(t, o)

	f := func(s *Server, peer, path string, status int, want string, headers ...string) {
		t.Helper()
		var req fasthttp.Request
		req.SetRequestURI(path)
		req.Header.SetHost("localhost:8001")
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		var ctx fasthttp.RequestCtx
		ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(peer)}, nil)
		s.Handler(&ctx)
		body := string(ctx.Response.Body())
		if ctx.Response.StatusCode() != status || message(body) != want || strings.Contains(body, "guess") {
			t.Errorf("%s from %s %q: got %d %s, want %d %s", path, peer, headers, ctx.Response.StatusCode(), body, status, want)
		}
	}
	f(withToken, "192.0.2.1", "/metrics", 200, "page", "X-Admin-Token", "adm")
	f(withToken, "192.0.2.1", "/prometheus?token=adm", 200, "page")
	f(withToken, "192.0.2.1", "/metrics/", 200, "page", "Authorization", "Bearer adm")
	f(withToken, "127.0.0.1", "/metrics", 401, "Wrong token")
	f(withToken, "127.0.0.1", "/prometheus?token=guess", 401, "Wrong token")
	f(withToken, "127.0.0.1", "/metrics", 401, "Wrong token", "X-Admin-Token", "guess", "Authorization", "Bearer adm")
	f(withToken, "127.0.0.1", "/metrics", 401, "Wrong token", "Authorization", "Basic adm")

	const advice = "No admin token is configured"
	f(without, "127.0.0.1", "/metrics", 200, "page")
	f(without, "::1", "/prometheus", 200, "page")
	f(without, "::ffff:127.0.0.1", "/metrics", 200, "page")
	f(without, "127.0.0.1", "/metrics", 403, advice, "X-Forwarded-For", "127.0.0.1")
	f(without, "127.0.0.1", "/metrics", 403, advice, "Forwarded", "for=127.0.0.1")
	for _, host := range []string{"127.0.0.1", "127.0.0.1:8001", "[::1]:8001", "LOCALHOST"} {
		f(without, "127.0.0.1", "/metrics", 200, "page", "Host", host)
	}
	for _, host := range []string{"events.example.com", "localhost.example.com:8001", "192.0.2.1", "127.0.0.1.example.com", "127.0.0.1@example.com", "-"} {
		f(without, "127.0.0.1", "/metrics", 403, advice, "Host", host)
	}
	for _, header := range []string{"X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto", "Via"} {
		f(without, "127.0.0.1", "/metrics", 403, advice, header, "x")
	}
	f(locked, "127.0.0.1", "/metrics", 403, advice)
	f(locked, "127.0.0.1", "/readyz", 200, `{"status":"ok"}`)
	f(public, "192.0.2.1", "/metrics", 200, "page")
	f(public, "192.0.2.1", "/readyz", 200, `{"status":"ok"}`)
	f(without, "10.0.0.1", "/metrics", 403, advice)
	f(without, "192.0.2.1", "/metrics", 403, advice, "X-Admin-Token", "")

	// The detail of readiness is for the same people; whether the router is ready, for anybody.
	f(withBoth, "192.0.2.1", "/readyz", 200, "lanes", "X-Admin-Token", "adm")
	f(withBoth, "192.0.2.1", "/readyz", 200, `{"status":"ok"}`)
	f(withBoth, "192.0.2.1", "/readyz", 200, `{"status":"ok"}`, "X-Admin-Token", "guess")
	f(without, "127.0.0.1", "/readyz", 200, "lanes")
	f(without, "127.0.0.1", "/readyz", 200, `{"status":"ok"}`, "X-Forwarded-For", "192.0.2.1")
	f(without, "192.0.2.1", "/readyz", 200, `{"status":"ok"}`)
}

func TestMetrics(t *testing.T) {
	o := testOptions(&memoryLog{})
	reg := prometheus.NewPedanticRegistry()
	o.Registerer = reg
	base := start(t, o)
	post := func(path, body string) { send(t, "POST", base+path, []byte(body)) }
	post("/s2s/event?token=s2s.open", `[{},{}]`)
	post("/s2s/event?token=s2s.nodest", `[{},{},{}]`)
	post("/s2s/event?token=s2s.open", `[]`)
	post("/s2s/event?token=guess", `{}`)
	post("/s2s/event?token=s2s.open", `{"a":`)
	post("/s2s/event?token=s2s.open", `{"a":`+strings.Repeat("[", 200))
	post("/s2s/event?token=s2s.open", `{"a":"`+strings.Repeat("x", 60_000)+`"}`)
	post("/nope", ``)
	want := `
# HELP router_events_accepted_total Events made durable and answered with 200, by id of the API key and class.
# TYPE router_events_accepted_total counter
router_events_accepted_total{api_key="key1",class="bulk"} 0
router_events_accepted_total{api_key="key1",class="live"} 0
router_events_accepted_total{api_key="key2",class="bulk"} 0
router_events_accepted_total{api_key="key2",class="live"} 2
router_events_accepted_total{api_key="nodest",class="bulk"} 0
router_events_accepted_total{api_key="nodest",class="live"} 3
# HELP router_events_received_total Events in well-formed requests, accepted or not, by id of the API key.
# TYPE router_events_received_total counter
router_events_received_total{api_key="key1"} 0
router_events_received_total{api_key="key2"} 2
router_events_received_total{api_key="nodest"} 3
# HELP router_events_without_destination_total Accepted events whose API key feeds no destination.
# TYPE router_events_without_destination_total counter
router_events_without_destination_total{api_key="nodest"} 3
# HELP router_requests_rejected_total Requests not accepted: route, token, body, size, depth, full (log), failed (log), refused (lane full), rate, origin, connections, http, busy (large requests), internal.
# TYPE router_requests_rejected_total counter
router_requests_rejected_total{reason="body"} 1
router_requests_rejected_total{reason="busy"} 0
router_requests_rejected_total{reason="connections"} 0
router_requests_rejected_total{reason="depth"} 1
router_requests_rejected_total{reason="failed"} 0
router_requests_rejected_total{reason="full"} 0
router_requests_rejected_total{reason="http"} 0
router_requests_rejected_total{reason="internal"} 0
router_requests_rejected_total{reason="origin"} 0
router_requests_rejected_total{reason="rate"} 0
router_requests_rejected_total{reason="refused"} 0
router_requests_rejected_total{reason="route"} 1
router_requests_rejected_total{reason="size"} 1
router_requests_rejected_total{reason="token"} 1
`
	err := testutil.GatherAndCompare(reg, strings.NewReader(want), "router_events_accepted_total", "router_events_received_total",
		"router_events_without_destination_total", "router_requests_rejected_total")
	if err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(reg, "router_request_seconds"); n != 1 || err != nil {
		t.Errorf("router_request_seconds: %d, %v", n, err)
	}
}

// A reload changes keys at once, and warns of keys that feed nothing, never printing a secret.
func TestSetSources(t *testing.T) {
	var out bytes.Buffer
	o := testOptions(&memoryLog{})
	o.Logger = slog.New(slog.NewTextHandler(&out, nil))
	s := newServer(t, o)
	f := func(token string, status int) {
		t.Helper()
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.SetMethod("POST")
		ctx.Request.SetRequestURI("/s2s/event?token=" + token)
		ctx.Request.SetBodyString(`{}`)
		s.Handler(&ctx)
		if got := ctx.Response.StatusCode(); got != status {
			t.Errorf("%s: got %d %s, want %d", token, got, ctx.Response.Body(), status)
		}
	}
	f("s2s.secret", 200)
	f("new", 401)
	keys := []config.APIKey{{ID: "key1", ServerSecret: "new"}, {ID: "other", ServerSecret: "s2s.other"}, {ID: "staged", ClientSecret: "js.staged"}}
	s.SetSources(keys, []config.Destination{
		{Name: "hub", OnlyTokens: []string{"key1"}},
		{Name: "idle", OnlyTokens: []string{}},
		{Name: "stage", Staged: true},
	})
	f("s2s.secret", 401)
	f("new", 200)
	s.SetSources(keys, []config.Destination{{Name: "hub"}})

	for key, want := range map[string]int{"key1": 0, "key2": 0, "nodest": 1, "other": 1, "staged": 1} {
		if got := strings.Count(out.String(), "api_key="+key); got != want {
			t.Errorf("%d warnings about %s, want %d:\n%s", got, key, want, out.String())
		}
	}
	if strings.Contains(out.String(), "s2s.") || strings.Contains(out.String(), "js.") {
		t.Errorf("a secret is in the log:\n%s", out.String())
	}
}

func TestNewRefuses(t *testing.T) {
	f := func(change func(*Options), want string) {
		t.Helper()
		o := testOptions(&memoryLog{})
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	f(func(o *Options) { o.Log = nil }, "no log")
	f(func(o *Options) { o.Server.MaxEventBytes = 0 }, "max_event_size")
	f(func(o *Options) { o.Server.MaxBodyBytes = -1 }, "max_body_size")
	reg := prometheus.NewRegistry()
	_ = reg.Register(prometheus.NewCounter(prometheus.CounterOpts{Name: "router_request_seconds", Help: "h"}))
	f(func(o *Options) { o.Registerer = reg }, "router_request_seconds")
}

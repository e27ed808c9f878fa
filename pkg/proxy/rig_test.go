package proxy

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/endusers"
	"eventrouter/pkg/ingest"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

const (
	serverSecret = "s2s.planted-server-secret-1234"
	ownSecret    = "s2s.planted-secret-of-one-account-9012"
	clientSecret = "js.planted-client-secret-5678"
	home         = "https://events.example.com/connect/crm/"
	contactsPath = "/crm/v3/objects/contacts"
)

// rig is a router's front with the proxy, connections and a sandbox for HubSpot. Account a1 is connected to hub 1001, a2 to 1002.
type rig struct {
	t      testing.TB
	app    config.App
	key    ed25519.PrivateKey
	box    *sandbox.Sandbox
	conns  *connections.Service
	shared *destinations.Shared
	proxy  *Proxy
	front  *ingest.Server
	reg    *prometheus.Registry

	watched func(gone func()) // is told how to say that a caller goes; nil: none does

	mu   sync.Mutex // guards the fields below
	logs bytes.Buffer
	via  func(*http.Request, http.RoundTripper) (*http.Response, error) // between the proxy and the sandbox
	sent []string                                                       // requests that HubSpot got from the proxy: all of their texts but the token
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Write collects the log.
func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.Write(p)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.String()
}

func (r *rig) intercept(via func(*http.Request, http.RoundTripper) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.via = via
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// newRig makes a rig whose app allows the presets, or rules, given.
func newRig(t testing.TB, allow []string, change ...func(*rig, *sandbox.Options)) *rig {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, key: private, shared: &destinations.Shared{}, reg: prometheus.NewRegistry(), app: config.DefaultApp("crm")}
	r.app.ClientID, r.app.ClientSecret, r.app.RedirectURL = "client-1", "planted-app-secret-4711", home+"callback"
	r.app.Scopes = []string{"oauth", "crm.objects.contacts.read", "crm.objects.contacts.write", "crm.schemas.contacts.read"}
	r.app.Proxy.Allow, r.app.Proxy.AllowEndUsers = allow, allow
	der := must(x509.MarshalPKIXPublicKey(public))
	r.app.Tokens.Keys = []config.KeyText{{Text: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}}
	o := sandbox.Options{
		HubID: "1000", Hubs: sandbox.Hubs(1001, 3),
		Apps: []sandbox.App{{ClientID: "client-1", ClientSecret: "planted-app-secret-4711", RedirectURLs: []string{home + "callback"}, Scopes: r.app.Scopes}},
	}
	for _, c := range change {
		c(r, &o)
	}
	r.box = sandbox.New(o)
	r.start()
	r.connect("a1", "1001")
	r.connect("a2", "1002")
	return r
}

func (r *rig) start() {
	r.t.Helper()
	key := must(seal.ParseKey(seal.NewKey()))
	keys := must(seal.NewRing(true, key))
	st, err := store.Open(r.t.TempDir(), store.Options{Keys: keys})
	if err != nil {
		r.t.Fatal(err)
	}
	logger := slog.New(slog.NewJSONHandler(r, nil))
	if r.conns, err = connections.New(connections.Options{Apps: []config.App{r.app}, Store: st, Keys: keys, Transport: r.box.RoundTripper(), Logger: logger}); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { r.conns.Close(); st.Close() })
	r.proxy, err = New(Options{
		Apps:        r.apps(false),
		Connections: func(app string) Connections { return r.conns.For(app) },
		Shared:      r.shared, Registerer: r.reg, Logger: logger,
		ServerKey: func(ctx *fasthttp.RequestCtx) (id, account string, ok bool) { return r.front.ServerKey(ctx) },
		Transport: roundTripper(r.toHubSpot),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.front, err = ingest.New(ingest.Options{
		Server:  config.Server{MaxEventBytes: 1 << 20, MaxBodyBytes: 1 << 20},
		APIKeys: []config.APIKey{{ID: "backend", ServerSecret: serverSecret, ClientSecret: clientSecret}, {ID: "own", ServerSecret: ownSecret, Account: "a1"}},
		Log:     noLog{}, Mounts: []ingest.Mount{{Prefix: Path, Admit: r.proxy.Admit, Unread: r.proxy.Unread, Handler: r.proxy.Handle}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) apps(deliveries bool) []App {
	return []App{{Config: r.app, Verifier: must(endusers.New(r.app.Tokens, endusers.Options{})), Deliveries: deliveries}}
}

type noLog struct{}

func (noLog) Append(...[]byte) error { return nil }

func (r *rig) toHubSpot(req *http.Request) (*http.Response, error) {
	var text strings.Builder
	text.WriteString(req.Method + " " + req.URL.String() + "\n")
	header := req.Header.Clone()
	header.Del("Authorization")
	_ = header.Write(&text) // to a buffer
	if req.Body != nil && req.ContentLength <= 1<<20 {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		text.Write(body)
		req.Body = io.NopCloser(bytes.NewReader(body))
	}
	r.mu.Lock()
	r.sent = append(r.sent, text.String())
	via := r.via
	r.mu.Unlock()
	if via != nil {
		return via(req, r.box.RoundTripper())
	}
	return r.box.RoundTripper().RoundTrip(req)
}

// connect connects an account to a hub, as a person does with a browser.
func (r *rig) connect(account, hub string) {
	r.t.Helper()
	link, _, err := r.conns.Link("crm", account, "")
	if err != nil {
		r.t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r.conns.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, link, nil))
	back, err := r.box.Consent(w.Result().Header.Get("Location"), hub, true)
	if err != nil {
		r.t.Fatal(err)
	}
	req := httptest.NewRequest(http.MethodGet, back, nil)
	for _, c := range w.Result().Cookies() {
		req.AddCookie(c)
	}
	r.conns.Handler().ServeHTTP(httptest.NewRecorder(), req)
	if got := r.conns.Hub("crm", account); got != hub {
		r.t.Fatalf("connect %s to %s: got hub %q\n%s", account, hub, got, r.logged())
	}
}

// token is what the team signs for an end user of an account.
func (r *rig) token(account string) string {
	r.t.Helper()
	now := time.Now()
	claims := jwt.RegisteredClaims{Subject: account, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(time.Hour))}
	return must(jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims).SignedString(r.key))
}

// answer is what a caller got.
type answer struct {
	status int
	header map[string]string
	body   string
	err    error // of reading the body
}

// said is an answer of the proxy's own in short: status, message and detail.
func (a answer) said() (message, detail string) {
	var own struct{ Message, Error string }
	if json.Unmarshal([]byte(a.body), &own) != nil {
		return a.body, ""
	}
	return own.Message, own.Error
}

// raw makes a call with a request line as it is written.
func (r *rig) raw(method, uri, body string, headers ...string) answer {
	r.t.Helper()
	here, there := net.Pipe() // fasthttp sets deadlines on it; nothing is sent
	defer here.Close()
	defer there.Close()
	var ctx fasthttp.RequestCtx
	ctx.Init2(here, nil, false)
	if r.watched != nil {
		ctx.Init2(&goneConn{here, r.watched}, nil, false)
	}
	ctx.Request.Header.SetMethod(method)
	ctx.Request.Header.SetRequestURI(uri)
	ctx.Request.Header.SetHost("events.example.com")
	for i := 0; i < len(headers); i += 2 {
		ctx.Request.Header.Add(headers[i], headers[i+1])
	}
	if body != "" {
		ctx.Request.SetBodyString(body)
		ctx.Request.Header.SetContentLength(len(body))
	}
	r.front.Handler(&ctx)
	a := answer{status: ctx.Response.StatusCode(), header: map[string]string{}}
	if ctx.Response.IsBodyStream() {
		var data []byte
		data, a.err = io.ReadAll(ctx.Response.BodyStream())
		_ = ctx.Response.CloseBodyStream()
		a.body = string(data)
	} else {
		a.body = string(ctx.Response.Body())
	}
	for k, v := range ctx.Response.Header.All() {
		a.header[string(k)] += string(v)
	}
	return a
}

// as makes a call of a server in an account.
func (r *rig) as(account, method, path, body string, headers ...string) answer {
	r.t.Helper()
	return r.raw(method, "/api/v1/proxy/crm"+path, body, append([]string{"Authorization", "Bearer " + serverSecret, "X-Account", account, "Content-Type", "application/json"}, headers...)...)
}

// user makes a call of an end user of an account.
func (r *rig) user(account, method, path, body string, headers ...string) answer {
	r.t.Helper()
	return r.raw(method, "/api/v1/proxy/crm"+path, body, append([]string{"Authorization", "Bearer " + r.token(account), "Content-Type", "application/json"}, headers...)...)
}

// counter reads a counter of the proxy.
func (r *rig) counter(name string, labels ...string) float64 {
	r.t.Helper()
	families := must(r.reg.Gather())
	total := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metric:
		for _, m := range f.GetMetric() {
			for i := 0; i < len(labels); i += 2 {
				for _, l := range m.GetLabel() {
					if l.GetName() == labels[i] && l.GetValue() != labels[i+1] {
						continue metric
					}
				}
			}
			total += m.GetCounter().GetValue()
		}
	}
	return total
}

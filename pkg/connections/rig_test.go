package connections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

const (
	hubA, hubB = "1001", "1002"
	secretText = "planted-client-secret-4711"
	home       = "https://events.example.com/connect/crm/"
	returns    = "https://app.example.com/settings"
)

// rig is a service with a sandbox for HubSpot.
type rig struct {
	t    *testing.T
	dir  string
	keys *seal.Ring
	app  config.App

	linkReturn string // of links that are asked for without one

	hub   *sandbox.Sandbox
	store *store.Store
	s     *Service
	stop  func()

	mu       sync.Mutex
	log      bytes.Buffer
	events   []event.Event
	appendTo func() error                                                                // fails what is appended
	via      func(*http.Request, func() (*http.Response, error)) (*http.Response, error) // between service and sandbox
	reg      *prometheus.Registry
}

func mustKey(t *testing.T) seal.Key {
	t.Helper()
	key, err := seal.ParseKey(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ringOf(t *testing.T, keys ...seal.Key) *seal.Ring {
	t.Helper()
	ring, err := seal.NewRing(true, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// newRig starts a service; to be called in a bubble.
func newRig(t *testing.T, change ...func(*rig, *sandbox.Options)) *rig {
	t.Helper()
	r := &rig{t: t, dir: memoryDir(t), keys: ringOf(t, mustKey(t))}
	r.app = config.DefaultApp("crm")
	r.app.ClientID, r.app.ClientSecret, r.app.RedirectURL = "client-1", secretText, home+"callback"
	r.app.Scopes = []string{"oauth", "crm.objects.contacts.read", "crm.objects.contacts.write"}
	r.app.ReturnURLs = []string{returns}
	r.app.Notify = "told"
	r.app.Portal.Title = "Acme"
	o := sandbox.Options{
		HubID: "1000", Hubs: sandbox.Hubs(1001, 3),
		Apps: []sandbox.App{{
			ClientID: "client-1", ClientSecret: secretText, RedirectURLs: []string{home + "callback"}, Scopes: r.app.Scopes, WebhookURL: home + "hubspot",
		}},
		Webhooks: roundTripper(func(req *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			req.RequestURI = req.URL.RequestURI()
			r.mu.Lock()
			s := r.s
			r.mu.Unlock()
			s.Handler().ServeHTTP(w, req)
			return w.Result(), nil
		}),
	}
	for _, c := range change {
		c(r, &o)
	}
	r.hub = sandbox.New(o)
	r.start()
	t.Cleanup(func() { r.stop() })
	return r
}

// memoryDir is a directory in memory where there is one: the tests make thousands of syncs.
func memoryDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "router-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Write collects the log.
func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

func (r *rig) start() {
	r.t.Helper()
	var err error
	if r.store, err = store.Open(r.dir, store.Options{Keys: r.keys}); err != nil {
		r.t.Fatal(err)
	}
	r.reg = prometheus.NewRegistry()
	s, err := New(Options{
		Apps: []config.App{r.app}, Store: r.store, Keys: r.keys, Logger: slog.New(slog.NewJSONHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug})), Registerer: r.reg,
		Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			next := func() (*http.Response, error) {
				if err := req.Context().Err(); err != nil {
					return nil, err
				}
				w := httptest.NewRecorder()
				r.hub.ServeHTTP(w, req)
				return w.Result(), nil
			}
			r.mu.Lock()
			via := r.via
			r.mu.Unlock()
			if via != nil {
				return via(req, next)
			}
			return next()
		}),
		Append: r.append,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.mu.Lock()
	r.s = s
	r.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			<-done
			r.store.Close()
		})
	}
}

func (r *rig) append(recs ...[]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.appendTo != nil {
		if err := r.appendTo(); err != nil {
			return err
		}
	}
	for _, rec := range recs {
		var ev event.Event
		if err := ev.Decode(bytes.Clone(rec)); err != nil {
			return err
		}
		r.events = append(r.events, ev)
	}
	return nil
}

func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	r.start()
}

// kill goes on with what is on disk now: nothing of the service's end is.
func (r *rig) kill() {
	r.t.Helper()
	left := memoryDir(r.t)
	if err := os.CopyFS(left, os.DirFS(r.dir)); err != nil {
		r.t.Fatal(err)
	}
	r.stop()
	r.dir = left
	r.start()
}

// answer is what a browser or a program got.
type answer struct {
	status   int
	location string
	body     string
	header   http.Header
	cookies  []*http.Cookie
}

// browser keeps cookies.
type browser struct {
	r       *rig
	cookies map[string]string
}

func (r *rig) browser() *browser { return &browser{r, map[string]string{}} }

// get opens a page of the router's.
func (b *browser) get(address string, headers ...string) answer {
	b.r.t.Helper()
	req := httptest.NewRequest(http.MethodGet, address, nil)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	for name, value := range b.cookies {
		req.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	a := serve(b.r.s.Handler(), req)
	for _, c := range a.cookies {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return a
}

func serve(h http.Handler, req *http.Request) answer {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	res := w.Result()
	body, _ := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header.Get("Location"), string(body), res.Header, res.Cookies()}
}

// api asks the API for servers.
func (r *rig) api(method, query, body string) answer {
	r.t.Helper()
	return serve(r.s.API(""), httptest.NewRequest(method, "https://events.example.com"+APIPath+query, strings.NewReader(body)))
}

// link asks for an install link.
func (r *rig) link(account, returnURL string) string {
	r.t.Helper()
	body, _ := json.Marshal(map[string]string{"app": "crm", "account": account, "return_url": returnURL})
	a := r.api(http.MethodPost, "", string(body))
	var got struct{ URL string }
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != 200 || got.URL == "" {
		r.t.Fatalf("link for %s: got %d %s", account, a.status, a.body)
	}
	return got.URL
}

// consent follows a link to HubSpot, grants or denies, and returns where HubSpot sends the browser.
func (b *browser) consent(link, hub string, grant bool) string {
	b.r.t.Helper()
	a := b.get(link)
	if a.status != http.StatusSeeOther {
		b.r.t.Fatalf("start: got %d %s, want 303", a.status, a.body)
	}
	back, err := b.r.hub.Consent(a.location, hub, grant)
	if err != nil {
		b.r.t.Fatalf("consent to %s: %v", a.location, err)
	}
	return back
}

// connect connects an account in a browser of its own and returns the last answer.
func (r *rig) connect(account, hub string) answer {
	r.t.Helper()
	b := r.browser()
	return b.get(b.consent(r.link(account, returns), hub, true))
}

// mustConnect is connect that must end well.
func (r *rig) mustConnect(account, hub string) {
	r.t.Helper()
	if a := r.connect(account, hub); a.location != returns+"?connection=connected" {
		r.t.Fatalf("connect %s to %s: got %d %q %s\n%s", account, hub, a.status, a.location, a.body, r.logged())
	}
}

// status is how an account stands; "" if it is not known.
func (r *rig) status(account string) Status {
	c, _ := r.s.Get("crm", account)
	return c.Status
}

// answerWith has HubSpot answer every call about tokens in one way.
func (r *rig) answerWith(status int, body string) {
	r.intercept(func(req *http.Request, _ func() (*http.Response, error)) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	})
}

// intercept puts a function between the service and HubSpot; nil: nothing.
func (r *rig) intercept(via func(*http.Request, func() (*http.Response, error)) (*http.Response, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.via = via
}

// isBlocked says whether an error blocks the whole account.
func isBlocked(err error) bool {
	b, ok := errors.AsType[*destinations.BlockError](err)
	return ok && b.Scope == destinations.AccountScope
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func fuzzRing(f *testing.F) *seal.Ring {
	f.Helper()
	key, err := seal.ParseKey(seal.NewKey())
	if err != nil {
		f.Fatal(err)
	}
	ring, err := seal.NewRing(true, key)
	if err != nil {
		f.Fatal(err)
	}
	return ring
}

func fuzzApp() config.App {
	a := config.DefaultApp("crm")
	a.RedirectURL = home + "callback"
	return a
}

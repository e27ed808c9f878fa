package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

const reloadAdmin = "adm-planted-1"

// planted are secrets that no log line, answer or metric may show.
var planted = []string{"planted", "pat-wrong"}

// reloading is a router whose configuration is a file, with its log.
type reloading struct {
	*running
	file, admin string
	logs        *logBuffer
	seen        *logBuffer // all answers
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startReloading starts a router as serve does. When the test ends, its log and all its answers are searched for secrets.
func startReloading(t *testing.T, file string, hangups <-chan os.Signal) (*reloading, error) {
	t.Helper()
	elsewhere := config.NewElsewhere(nil)
	l := loader{path: file, fresh: fetched(elsewhere), good: kept, insist: true}
	first, err := l.load(t.Context())
	if err != nil {
		return nil, err
	}
	r := &reloading{file: file, admin: reloadAdmin, logs: &logBuffer{}, seen: &logBuffer{}}
	var level slog.LevelVar
	logger := newLogger(first.cfg.Server, &level, r.logs)
	srv, err := newService(first.cfg, logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.reloadFrom(first, elsewhere, &level, hangups)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- srv.run(ctx, ln) }()
	r.running = &running{t: t, srv: srv, url: "http://" + ln.Addr().String(), stop: sync.OnceFunc(func() {
		r.ask(http.MethodGet, "/metrics", "")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, secret := range planted {
			if text := r.logs.String() + r.seen.String(); strings.Contains(text, secret) {
				at := strings.Index(text, secret)
				t.Errorf("%s is shown: %s", secret, text[max(at-300, 0):min(at+100, len(text))])
			}
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.logs)
		}
	})}
	t.Cleanup(r.stop)
	return r, nil
}

func mustReload(t *testing.T, file string) *reloading {
	t.Helper()
	r, err := startReloading(t, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// ask makes a request with the admin token.
func (r *reloading) ask(method, path, body string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("X-Admin-Token", r.admin)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _ = r.seen.Write(text)
	return res.StatusCode, string(text)
}

// reload wants a reload to end with a status, and with these texts in its answer.
func (r *reloading) reload(status int, want ...string) {
	r.t.Helper()
	got, answer := r.ask(http.MethodPost, reloadPath, "")
	if got != status {
		r.t.Fatalf("POST %s: %d %s, want %d", reloadPath, got, answer, status)
	}
	for _, w := range want {
		if !strings.Contains(answer, w) {
			r.t.Errorf("the answer lacks %s: %s", w, answer)
		}
	}
	if !json.Valid([]byte(answer)) {
		r.t.Errorf("no JSON: %s", answer)
	}
}

// rewrite puts another configuration in the file's place, as editors do.
func (r *reloading) rewrite(text string) {
	r.t.Helper()
	replaceFile(r.t, r.file, text)
}

func replaceFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// accepts wants an event to be answered with a status.
func (r *reloading) accepts(secret string, status int) {
	r.t.Helper()
	res, err := http.Post(r.url+"/api/v1/s2s/event?token="+secret, "application/json", strings.NewReader(`{"event_type":"user_identify","user":{"email":"k@example.com"}}`))
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != status {
		r.t.Errorf("%s: %d, want %d", strings.TrimPrefix(secret, "planted"), res.StatusCode, status)
	}
}

// within waits until f is true: another goroutine works at it.
func (r *reloading) within(most time.Duration, what string, f func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(most); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within %v: %s", most, what)
		}
	}
}

func (r *reloading) logged(most time.Duration, text string, times int) {
	r.t.Helper()
	r.within(most, "in the log: "+text, func() bool { return strings.Count(r.logs.String(), text) >= times })
	if n := strings.Count(r.logs.String(), text); n != times {
		r.t.Errorf("%d times in the log, want %d: %s", n, times, text)
	}
}

// reloadable is a configuration with a HubSpot sandbox.
type reloadable struct {
	dir, hub, token, keys, more, server string
}

func (c reloadable) String() string {
	if c.keys == "" {
		c.keys = "[{id: web, server_secret: s2s-planted-web}]"
	}
	return fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB, admin_token: %s, api_keys_reload_sec: 1, destinations_reload_sec: 1 %s}
api_keys: %s
destinations:
  crm:
    type: hubspot
    hubspot: {access_token: %s, hub_id: %q, base_url: %q}
%s
`, c.dir, reloadAdmin, c.server, c.keys, c.token, demoHub, c.hub, c.more)
}

const goodToken = "pat-planted-good"

func newReloadable(t *testing.T) (reloadable, *sandbox.Sandbox, string) {
	t.Helper()
	box := sandbox.New(sandbox.Options{HubID: demoHub, Token: goodToken})
	hub := httptest.NewServer(box)
	t.Cleanup(hub.Close)
	c := reloadable{dir: t.TempDir(), hub: hub.URL, token: goodToken}
	file := filepath.Join(t.TempDir(), "router.yaml")
	return c, box, file
}

// TestReloadReleasesBlockedLanes: a token that HubSpot refuses blocks the lane; the right one delivers at once what waits.
func TestReloadReleasesBlockedLanes(t *testing.T) {
	t.Parallel()
	c, box, file := newReloadable(t)
	wrong := c
	wrong.token = "pat-wrong-1"
	var calls atomic.Int32
	counted := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { calls.Add(1); box.ServeHTTP(w, r) }))
	t.Cleanup(counted.Close)
	c.hub, wrong.hub = counted.URL, counted.URL
	replaceFile(t, file, wrong.String())
	r := mustReload(t, file)
	r.post("s2s-planted-web", `{"event_type":"user_identify","user":{"email":"ada@example.com"}}`)
	r.within(20*time.Second, "the lane is blocked", func() bool {
		for _, l := range r.srv.router.Status() {
			if l.State == "blocked" {
				return true
			}
		}
		return false
	})
	// What does not concern the destination does not make it try again: it is the same, with its block.
	before := calls.Load()
	wrong.keys, wrong.more = "[{id: web, server_secret: s2s-planted-web}, {id: app, server_secret: s2s-planted-app}]", "    retry: {max_age: 24h}"
	r.rewrite(wrong.String())
	r.reload(200, `"API key app: added"`)
	time.Sleep(300 * time.Millisecond) // that nothing happens is what is to be seen
	if n := calls.Load() - before; n > 0 {
		t.Errorf("%d calls after a reload that did not change the destination", n)
	}
	r.rewrite(c.String())
	began := time.Now()
	r.reload(200, `"status":"ok"`, `"destination crm: hubspot.access_token changed"`)
	r.within(3*time.Second, "the contact", func() bool { _, ok := box.Contact("ada@example.com"); return ok })
	t.Logf("delivered %v after the reload", time.Since(began).Round(time.Millisecond))
	r.reload(200, `"status":"unchanged"`)
}

// TestReloadStorm: events that are posted over many reloads are all accepted, and none is lost.
func TestReloadStorm(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	box := sandbox.New(sandbox.Options{HubID: demoHub}) // it takes any token
	hub := httptest.NewServer(box)
	t.Cleanup(hub.Close)
	c.hub = hub.URL
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var posted [4]int
	for n := range posted {
		wg.Go(func() {
			for ctx.Err() == nil {
				posted[n]++
				r.post("s2s-planted-web", fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"p%d.%d@example.com"}}`, n, posted[n]))
			}
		})
	}
	variants := []func(*reloadable){
		func(c *reloadable) { c.token = "pat-planted-other" },
		func(c *reloadable) {
			c.keys = "[{id: web, server_secret: s2s-planted-web}, {id: app, server_secret: s2s-planted-app}]"
		},
		func(c *reloadable) { c.more = "    data_layout: {table_name_template: $.event_type}" },
		func(c *reloadable) { c.more = "    retry: {max_age: 1h}" },
		func(c *reloadable) {},
	}
	for range 4 {
		for _, change := range variants {
			next := c
			change(&next)
			r.rewrite(next.String())
			r.reload(200, `"status":"ok"`)
		}
	}
	cancel()
	wg.Wait()
	r.settle()
	total := 0
	for n, count := range posted {
		for i := range count {
			total++
			if email := fmt.Sprintf("p%d.%d@example.com", n, i+1); !has(box, email) {
				t.Errorf("%s is lost", email)
			}
		}
	}
	t.Logf("%d events over %d reloads", total, 4*len(variants))
}

func has(box *sandbox.Sandbox, email string) bool {
	_, ok := box.Contact(email)
	return ok
}

// TestReloadKeys: a key that is gone is refused at once, a new one is accepted; a file that is wrong changes nothing and says all that is.
func TestReloadKeys(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	r.accepts("s2s-planted-web", 200)
	r.accepts("s2s-planted-app", 401)

	c.keys = "[{id: app, server_secret: s2s-planted-app, origins: [a.com]}]"
	r.rewrite(c.String())
	r.reload(200, `"API key app: added"`, `"API key web: removed"`)
	r.accepts("s2s-planted-web", 401)
	r.accepts("s2s-planted-app", 200)
	r.post("s2s-planted-app", `{"event_type":"note","note":"it was s2s-planted-app","user":{"email":"k@example.com"}}`)

	bad := strings.Replace(c.String(), "[{id: app", "[{id: web, server_secret: s2s-planted-web, orgins: 1}, {id: app", 1)
	bad = strings.Replace(bad, "hub_id", "hubid", 1)
	r.rewrite(bad)
	r.reload(400, `"message":"The configuration is not reloaded: the one before stays in force"`,
		`"path":"api_keys[0]","text":"unknown key \"orgins\" (did you mean \"origins\"?)"`, `unknown key \"hubid\"`, `"line":3`)
	r.accepts("s2s-planted-web", 401)
	r.accepts("s2s-planted-app", 200)

	c.server, c.keys = ", port: 9, log: {level: debug}, dedupe: {window: 1h}", "[{id: app, server_secret: s2s-planted-app2, origins: [a.com]}]"
	r.rewrite(c.String())
	r.reload(200, `"API key app: server_secret changed","server.log.level changed"`, `"needs_restart":["server.port","server.dedupe.window"]`)
	r.reload(200, `"status":"unchanged"`, `"needs_restart":["server.port","server.dedupe.window"]`)
	r.accepts("s2s-planted-app", 401)
	r.accepts("s2s-planted-app2", 200)
	r.within(10*time.Second, "lines of level debug", func() bool { return strings.Contains(r.logs.String(), `"level":"DEBUG"`) })
	if status, answer := r.ask(http.MethodPost, "/api/v1/destinations/test", `{"destination":"crm"}`); status != 200 {
		t.Errorf("a live check: %d %s", status, answer)
	}
	if status, answer := r.ask(http.MethodGet, "/api/v1/events/cache?namespace=token&ids=app", ""); status != 200 || !strings.Contains(answer, "k@example.com") || !strings.Contains(answer, `"it was ***"`) {
		t.Errorf("events of the new key: %d %s", status, answer)
	}
	c.server += ", max_event_size: 60"
	r.rewrite(strings.Replace(c.String(), reloadAdmin, "adm-planted-2", 1))
	r.reload(200, `"server.admin_token changed","server.max_event_size changed"`)
	if status, _ := r.ask(http.MethodGet, "/metrics", ""); status != 401 {
		t.Errorf("the admin token of before: %d", status)
	}
	r.accepts("s2s-planted-app2", 400) // its event is larger
	r.admin = "adm-planted-2"
	r.rewrite(c.String())
	r.reload(200)
	r.admin = reloadAdmin
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.reload(400, "no such file or directory")

	logs := r.logs.String()
	for _, want := range []string{
		"configuration: API key app: added", "configuration: API key web: removed", `orgins`, "configuration: API key app: server_secret changed",
		"server.port, server.dedupe.window", "the configuration is right again",
	} {
		if strings.Count(logs, want) != 1 {
			t.Errorf("%d times in the log: %s", strings.Count(logs, want), want)
		}
	}
	_, metrics := r.ask(http.MethodGet, "/metrics", "")
	for _, want := range []string{
		`router_config_reloads_total{result="ok"} 4`, `router_config_reloads_total{result="unchanged"} 1`, `router_config_reloads_total{result="failed"} 2`,
		"router_config_last_reload_success_timestamp_seconds 1.",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// TestReloadPageRefuses: strangers, other sites' pages, and a second reload at a time.
func TestReloadPageRefuses(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	res, err := http.Post(r.url+reloadPath, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("without a token: %s", res.Status)
	}
	req, _ := http.NewRequest(http.MethodPost, r.url+reloadPath, nil)
	req.Header.Set("X-Admin-Token", reloadAdmin)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if res, err = http.DefaultClient.Do(req); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 403 {
		t.Errorf("from another site: %s", res.Status)
	}
	r.srv.reloader.turn <- struct{}{}
	r.reload(409, `"message":"A reload is running"`)
	<-r.srv.reloader.turn
	r.reload(200)
	if status, _ := r.ask(http.MethodGet, reloadPath, ""); status != 404 {
		t.Errorf("GET: %d", status)
	}
	cfg, err := config.Parse("none.yaml", []byte(c.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Server.DataDir = t.TempDir()
	noFile := reloading{running: startService(t, cfg), admin: reloadAdmin, seen: &logBuffer{}}
	noFile.reload(400, "has no configuration file")
}

// TestReloadOnChange: the file is reloaded by itself, however it is changed, and not while it is written.
func TestReloadOnChange(t *testing.T) {
	t.Parallel()
	c, _, _ := newReloadable(t)
	keys := func(n int) string {
		c.keys = fmt.Sprintf("[{id: web, server_secret: s2s-planted-%d}]", n)
		return c.String()
	}
	// As in Kubernetes: the file is a link into a directory that is itself a link, which is swapped.
	dir := t.TempDir()
	version := func(n int, text string) {
		t.Helper()
		name := fmt.Sprintf("..%d", n)
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "router.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, filepath.Join(dir, "..new")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version(1, keys(1))
	file := filepath.Join(dir, "router.yaml")
	if err := os.Symlink("..data/router.yaml", file); err != nil {
		t.Fatal(err)
	}
	hangups := make(chan os.Signal, 1)
	r, err := startReloading(t, file, hangups)
	if err != nil {
		t.Fatal(err)
	}
	r.accepts("s2s-planted-1", 200)

	version(2, keys(2))
	r.logged(6*time.Second, "API key web: server_secret changed", 1)
	r.accepts("s2s-planted-2", 200)

	replaceFile(t, file, keys(3)) // an editor's rename
	r.logged(6*time.Second, "API key web: server_secret changed", 2)
	r.accepts("s2s-planted-3", 200)

	// Written slowly, in place: each second there is a bit more of it.
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	text := keys(4)
	for i := range 8 {
		if _, err := io.WriteString(f, text[i*len(text)/8:(i+1)*len(text)/8]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(400 * time.Millisecond) // a slow writer
	}
	f.Close()
	r.logged(6*time.Second, "API key web: server_secret changed", 3)
	r.accepts("s2s-planted-4", 200)
	if strings.Contains(r.logs.String(), "not reloaded") {
		t.Error("half a file was read")
	}

	// Wrong, for long: said once.
	replaceFile(t, file, strings.Replace(keys(5), "hub_id", "hubid", 1))
	r.logged(6*time.Second, "is not reloaded", 1)
	time.Sleep(3 * fileInterval) // that it says nothing more is what is to be seen
	r.logged(0, "is not reloaded", 1)
	r.accepts("s2s-planted-4", 200)

	replaceFile(t, file, keys(6))
	r.logged(6*time.Second, "the configuration is right again", 1)
	r.accepts("s2s-planted-6", 200)

	hangups <- os.Interrupt // whatever comes on the channel
	r.logged(6*time.Second, `"reason":"SIGHUP"`, 1)
}

// keyServer serves API keys, or what else it is told to.
type keyServer struct {
	*httptest.Server
	body     atomic.Value // string
	status   atomic.Int32
	requests atomic.Int32
	notAgain atomic.Int32 // answered with 304
}

func newKeyServer(t *testing.T) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		user, password, _ := r.BasicAuth()
		if user != "router" || password != "pw-planted" || r.URL.Query().Get("q") != "query-planted" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		body, _ := s.body.Load().(string)
		etag := fmt.Sprintf("%q", fmt.Sprint(len(body)))
		w.Header().Set("ETag", etag)
		switch status := s.status.Load(); {
		case status != 0:
			w.WriteHeader(int(status))
		case r.Header.Get("If-None-Match") == etag:
			s.notAgain.Add(1)
			w.WriteHeader(http.StatusNotModified)
		default:
			_, _ = io.WriteString(w, body)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// address is where it is, with credentials.
func (s *keyServer) address() string {
	return "http://router:pw-planted@" + strings.TrimPrefix(s.URL, "http://") + "/tokens?q=query-planted"
}

func (s *keyServer) serve(secrets ...string) {
	var list []string
	for i, secret := range secrets {
		list = append(list, fmt.Sprintf(`{"id":"key%d","server_secret":%q}`, i, secret))
	}
	s.body.Store(`{"tokens":[` + strings.Join(list, ",") + `]}`)
}

// TestKeysElsewhere: keys at a URL change while the router runs; what is wrong there changes nothing and is said once.
func TestKeysElsewhere(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	keys := newKeyServer(t)
	keys.serve("s2s-planted-1")
	c.keys = keys.address()
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	r.accepts("s2s-planted-1", 200)

	keys.serve("s2s-planted-1", "s2s-planted-2")
	r.logged(6*time.Second, "API key key1: added", 1)
	r.accepts("s2s-planted-2", 200)
	r.within(6*time.Second, "304 is understood", func() bool { return keys.notAgain.Load() > 0 })

	keys.status.Store(503)
	r.logged(6*time.Second, "it answers 503 Service Unavailable", 1)
	asked := keys.requests.Load()
	r.within(6*time.Second, "it is asked on", func() bool { return keys.requests.Load() > asked+2 })
	r.logged(0, "it answers 503 Service Unavailable", 1)
	r.accepts("s2s-planted-2", 200)
	if _, metrics := r.ask(http.MethodGet, "/metrics", ""); !strings.Contains(metrics, `router_config_address_state{part="api_keys",state="unreachable"} 1`) ||
		!strings.Contains(metrics, `router_config_address_age_seconds{part="api_keys"}`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	keys.status.Store(500)
	r.logged(6*time.Second, "it answers 500", 1)
	r.reload(200, `"elsewhere":[{"part":"api_keys","address":"`+keys.URL+`/tokens","state":"unreachable"`) // the rest goes on
	keys.status.Store(0)
	r.logged(6*time.Second, "is in force again", 1)

	keys.body.Store(`<html>planted-page`)
	r.logged(6*time.Second, `must be JSON of the form`, 1)
	asked = keys.requests.Load()
	r.within(6*time.Second, "it is asked on", func() bool { return keys.requests.Load() > asked+2 })
	r.logged(0, `must be JSON of the form`, 1)
	r.reload(200, `"state":"refused"`)
	r.accepts("s2s-planted-1", 200)
	if _, metrics := r.ask(http.MethodGet, "/metrics", ""); !strings.Contains(metrics, `router_config_address_state{part="api_keys",state="refused"} 1`) {
		t.Errorf("metrics:\n%s", metrics)
	}

	keys.serve("s2s-planted-3")
	r.logged(6*time.Second, "API key key1: removed", 1)
	r.logged(6*time.Second, "is in force again", 2)
	r.accepts("s2s-planted-1", 401)
	r.accepts("s2s-planted-3", 200)
}

// TestDestinationsElsewhere: destinations in another file, which needs keys that come later.
func TestDestinationsElsewhere(t *testing.T) {
	t.Parallel()
	c, box, file := newReloadable(t)
	other := filepath.Join(t.TempDir(), "destinations.json")
	destinations := func(token, only string) {
		t.Helper()
		replaceFile(t, other, fmt.Sprintf(`{"destinations":{"crm":{"type":"hubspot","only_tokens":[%s],"hubspot":{"access_token":%q,"hub_id":%q,"base_url":%q}}}}`,
			only, token, demoHub, c.hub))
	}
	destinations("pat-wrong-1", `"web"`)
	text := func() string {
		head, _, _ := strings.Cut(c.String(), "destinations:\n")
		return head + "destinations: file://" + other
	}
	replaceFile(t, file, text())
	r := mustReload(t, file)
	r.post("s2s-planted-web", `{"event_type":"user_identify","user":{"email":"ada@example.com"}}`)
	destinations(goodToken, `"web"`)
	r.within(10*time.Second, "the contact", func() bool { return has(box, "ada@example.com") })

	// The keys' address fails meanwhile: what is known of it stays known.
	keys := newKeyServer(t)
	keys.serve("s2s-planted-web")
	c.keys = keys.address()
	keys.body.Store(`{"tokens":[{"id":"web","server_secret":"s2s-planted-web"}]}`)
	r.rewrite(text())
	r.reload(200)
	keys.status.Store(503)
	r.logged(6*time.Second, "it answers 503", 1)
	destinations(goodToken+"2", `"web"`)
	r.logged(6*time.Second, "hubspot.access_token changed", 2)
	if _, metrics := r.ask(http.MethodGet, "/metrics", ""); !strings.Contains(metrics, `router_config_address_state{part="api_keys",state="unreachable"} 1`) ||
		!strings.Contains(metrics, `router_config_address_state{part="destinations",state="ok"} 1`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	r.logged(0, "is in force again", 0)
	c.keys = ""
	r.rewrite(text())
	r.reload(200)

	destinations(goodToken, `"web","app"`)
	r.logged(6*time.Second, "only_tokens[1]: is neither the id nor a secret", 1)
	c.keys = "[{id: web, server_secret: s2s-planted-web}, {id: app, server_secret: s2s-planted-app}]"
	r.rewrite(text())
	r.logged(6*time.Second, "API key app: added", 1)
	r.logged(6*time.Second, "destination crm: only_tokens changed", 1)
	r.accepts("s2s-planted-app", 200)
}

// TestKeptVersion: a router starts with what it had when the address does not answer, or with nonsense, and not with what another address had.
func TestKeptVersion(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	keys := newKeyServer(t)
	keys.serve("s2s-planted-1")
	c.keys = keys.address()
	replaceFile(t, file, c.String())

	refused := func(want string) {
		t.Helper()
		r, err := startReloading(t, file, nil)
		if err == nil {
			r.stop()
			t.Fatal("started")
		}
		if text := message(err); !strings.Contains(text, want) || strings.Contains(text, "planted") {
			t.Errorf("got %s\nwant %s", text, want)
		}
	}
	keys.status.Store(503)
	refused("api_keys: cannot be read from " + keys.URL + "/tokens: it answers 503 Service Unavailable; no version of it is kept")
	keys.status.Store(0)
	mustReload(t, file).stop()

	keys.status.Store(503)
	r := mustReload(t, file)
	r.accepts("s2s-planted-1", 200)
	r.logged(0, "the last good version stays in force", 1)
	keys.status.Store(0)
	keys.serve("s2s-planted-1", "s2s-planted-2")
	r.logged(6*time.Second, "API key key1: added", 1)
	r.stop()

	keys.body.Store(`{"tokens":[{"id":"key0","server_secret":"s2s-planted-3","orgins":[]}]}`)
	r = mustReload(t, file)
	r.accepts("s2s-planted-2", 200)
	r.accepts("s2s-planted-3", 401)
	r.logged(0, "what stands at the address is wrong", 1)
	r.logged(0, `tokens[0]: unknown key \"orgins\"`, 1)
	r.stop()

	// A key that a destination of the file wants is not there any more: together, they are wrong.
	c.more = "    only_tokens: [key1]"
	replaceFile(t, file, c.String())
	keys.serve("s2s-planted-1")
	r = mustReload(t, file)
	r.accepts("s2s-planted-2", 200)
	r.logged(0, "only_tokens[0]: is neither", 1)
	r.stop()
	c.more = ""

	// Commands that need none of it work, too.
	keys.Close()
	replaceFile(t, file, c.String())
	if _, err := load(file); err != nil {
		t.Errorf("a command without the address: %v", err)
	}
	out, _, code := command(t, "check", "--config", file)
	if code != exitOK || !strings.Contains(out, "warning: api_keys cannot be read from "+keys.URL+"/tokens: connect: connection refused; checked instead is the version of ") {
		t.Errorf("check: exit %d: %s", code, out)
	}
	r = mustReload(t, file)
	r.accepts("s2s-planted-2", 200)
	r.stop()
	c.keys += "&other"
	replaceFile(t, file, c.String())
	refused("connection refused; no version of it is kept")
	if _, err := load(file); err != nil {
		t.Errorf("a command without the address: %v", err)
	}
	_, errText, code := command(t, "check", "--config", file)
	if code != exitUsage || !strings.Contains(errText, "connection refused; no version of it is kept") {
		t.Errorf("check: exit %d: %s", code, errText)
	}
	kept := filepath.Join(c.dir, "elsewhere", "api_keys.json")
	if info, err := os.Stat(kept); err != nil || info.Mode() != 0o600 {
		t.Errorf("%s: %v, %v", kept, info.Mode(), err)
	}
}

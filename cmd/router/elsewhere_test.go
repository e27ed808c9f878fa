package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

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
	r.reload(200, `"state":"refused"`, `"problems":["`+keys.URL+`/tokens:1: is HTML or XML`)
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

// TestOldAnswerIsNotPutInForce: a poll that began before a reload ends after it, with what stood there before.
func TestOldAnswerIsNotPutInForce(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	one := `{"tokens":[{"id":"web","server_secret":"s2s-planted-web"}]}`
	two := `{"tokens":[{"id":"web","server_secret":"s2s-planted-web"},{"id":"app","server_secret":"s2s-planted-app"}]}`
	var requests atomic.Int32
	asked, release := make(chan struct{}), make(chan struct{})
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := two
		switch requests.Add(1) {
		case 1: // at the start
			body = one
		case 2: // of the poll
			close(asked)
			<-release
			body = one
		}
		w.Header().Set("ETag", `"always the same"`)
		if requests.Load() > 3 && r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(keys.Close)
	c.keys = keys.URL
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	<-asked
	time.AfterFunc(500*time.Millisecond, func() { close(release) }) // the reload waits for the address then
	r.reload(200, `"API key app: added"`)
	time.Sleep(3 * time.Second) // that nothing happens is what is to be seen
	r.accepts("s2s-planted-app", 200)
	r.logged(0, "API key app: removed", 0)
}

// TestEntityTagThatNeverChanges: some servers answer 304 whatever has changed. Whoever asks for a reload gets what stands there.
func TestEntityTagThatNeverChanges(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	var body atomic.Value
	body.Store(`{"tokens":[{"id":"web","server_secret":"s2s-planted-web"}]}`)
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, body.Load().(string))
	}))
	t.Cleanup(keys.Close)
	c.keys = keys.URL
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	body.Store(`{"tokens":[{"id":"app","server_secret":"s2s-planted-app"}]}`)
	r.reload(200, `"API key app: added"`, `"API key web: removed"`)
}

// TestFileElsewhereIsNotReadHalf: what stands in another file is written slowly, and its first half is right by itself.
func TestFileElsewhereIsNotReadHalf(t *testing.T) {
	t.Parallel()
	c, _, file := newReloadable(t)
	c.keys = filepath.Join(t.TempDir(), "keys.yaml")
	first, second := "tokens:\n- {id: web, server_secret: s2s-planted-web}\n", "- {id: app, server_secret: s2s-planted-app}\n"
	write := func(text string) {
		if err := os.WriteFile(c.keys, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first + second)
	replaceFile(t, file, c.String())
	r := mustReload(t, file)
	for range 3 {
		write(first)
		time.Sleep(800 * time.Millisecond)
		write(first + second)
		time.Sleep(2500 * time.Millisecond)
	}
	r.logged(0, "API key app: removed", 0)
	write(first)
	r.logged(6*time.Second, "API key app: removed", 1)
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

package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/trial"
)

const reloadAdmin = "adm-planted-1"

// planted are secrets that no log line, answer or metric may show.
var planted = []string{"planted", "pat-wrong"}

// reloading is a router whose configuration is a file, with its log.
type reloading struct {
	*running
	file, admin string
	logs        *trial.Log
	seen        *trial.Log // all answers
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
	r := &reloading{file: file, admin: reloadAdmin, logs: &trial.Log{}, seen: &trial.Log{}}
	var level slog.LevelVar
	logger := newLogger(first.cfg.Server, &level, r.logs)
	srv, err := newService(first.cfg, logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.reloadFrom(first, elsewhere, &level, hangups)
	r.running = runService(t, srv, "0")
	end := r.stop
	r.stop = sync.OnceFunc(func() {
		r.ask(http.MethodGet, "/metrics", "")
		end()
		for _, secret := range planted {
			if text := r.logs.String() + r.seen.String(); strings.Contains(text, secret) {
				at := strings.Index(text, secret)
				t.Errorf("%s is shown: %s", secret, text[max(at-300, 0):min(at+100, len(text))])
			}
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.logs)
		}
	})
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
	status, text := ask(r.t, method, r.url+path, body, "X-Admin-Token", r.admin)
	_, _ = r.seen.Write([]byte(text))
	return status, text
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
	r.within(most, "in the log: "+text, func() bool { return r.logs.Count(text) >= times })
	if n := r.logs.Count(text); n != times {
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

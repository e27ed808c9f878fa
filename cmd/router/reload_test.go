package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/trial"

	"github.com/google/go-cmp/cmp"
)

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
	r.logged(10*time.Second, "API key app: added", 1) // without that anybody asks for it
	time.Sleep(300 * time.Millisecond)                // that nothing happens is what is to be seen
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

// TestReloadProbesBlockedLanes: what blocked a lane is put right at HubSpot, so that nothing changes here; whoever asks for a reload sees it flow.
func TestReloadProbesBlockedLanes(t *testing.T) {
	t.Parallel()
	c, box, file := newReloadable(t)
	var mended atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !mended.Load() {
			r.Header.Set("Authorization", "Bearer pat-wrong-1")
		}
		box.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	c.hub = front.URL
	replaceFile(t, file, c.String())
	hangups := make(chan os.Signal, 1)
	r, err := startReloading(t, file, hangups)
	if err != nil {
		t.Fatal(err)
	}
	asks := map[string]func(){
		"ada":  func() { r.reload(200, `"status":"unchanged"`) },
		"lisa": func() { hangups <- syscall.SIGHUP },
	}
	for name, ask := range asks {
		mended.Store(false)
		r.post("s2s-planted-web", fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"%s@example.com"}}`, name))
		r.within(20*time.Second, "the lane is blocked", func() bool { return strings.Contains(fmt.Sprint(r.srv.router.Status()), "blocked") })
		mended.Store(true)
		ask()
		r.within(3*time.Second, "the contact", func() bool { return has(box, name+"@example.com") })
		r.settle()
	}
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
	noFile := reloading{running: startService(t, cfg), admin: reloadAdmin, seen: &trial.Log{}}
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

// TestDocsNameWhatChangesAtOnce, and nothing else: the rest waits for a restart.
func TestDocsNameWhatChangesAtOnce(t *testing.T) {
	docs, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(docs), "Of `server`, these change at once: ")
	text, _, ok := strings.Cut(text, ". Everything else there needs a restart")
	if !ok {
		t.Fatal("docs/configuration.md does not say what changes at once")
	}
	named := map[string]bool{}
	for key := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune("`, \n", r) }) {
		named[key] = true
	}
	applies := map[string]bool{}
	for key := range appliesAtOnce {
		if section, _, ok := strings.Cut(key, "."); ok && named[section] {
			key = section
		}
		applies[key] = true
	}
	if diff := cmp.Diff(applies, named); diff != "" {
		t.Errorf("what changes at once (-code +docs):\n%s", diff)
	}
}

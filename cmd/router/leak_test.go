package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// holding is what the process holds.
type holding struct {
	goroutines, files int
	heap              float64 // MiB in use
}

func holds(t *testing.T) (h holding) {
	t.Helper()
	for range 3 { // finalizers free what they freed
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("files that are open can not be counted: %v", err)
	}
	return holding{runtime.NumGoroutine(), len(files), float64(m.HeapAlloc) / (1 << 20)}
}

// comesBack waits until the process holds about what it did. remote closes the connections that are kept open for further calls, which else end by themselves after
// a while.
func (h holding) comesBack(t *testing.T, after string, remote *httptest.Server) {
	t.Helper()
	remote.CloseClientConnections()
	http.DefaultClient.CloseIdleConnections()
	var now holding
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) { // others end when they end
		if now = holds(t); now.goroutines <= h.goroutines+5 && now.files <= h.files+5 && now.heap <= h.heap+2 {
			return
		}
	}
	buf := make([]byte, 1<<20)
	t.Errorf("after %s: %+v, before %+v\n%.4000s", after, now, h, buf[:runtime.Stack(buf, true)])
}

// longLeaks makes TestNothingLeaks a long run: 20 starts, 1,000 reloads, 10,000 clients.
const longLeaks = "ROUTER_LEAKS_LONG"

// TestNothingLeaks: goroutines, files and memory are what they were after starts and stops, reloads, clients that come and go, and a remote that blocks and recovers.
func TestNothingLeaks(t *testing.T) {
	starts, reloads, clients := 8, 12, 60 // more than comesBack lets pass
	if os.Getenv(longLeaks) != "" {
		starts, reloads, clients = 20, 1000, 10_000
	}
	file := func(dir, name, url string) string {
		return write(t, fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB, admin_token: %s, api_keys_reload_sec: 0}
api_keys: [{id: app, client_secret: js.app, server_secret: s2s.app}]
destinations:
  %s:
    type: hubspot
    data_layout: {transform: 'return {...$, n: 1}', table_name_template: '$.event_type'}
    hubspot: {access_token: %s, hub_id: %q, base_url: %s}
`, dir, reloadAdmin, name, demoToken, demoHub, url))
	}
	box := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
	hubspot := httptest.NewServer(box)
	defer hubspot.Close()
	remote := hubspot.URL
	event := `{"event_type":"user_identify","user":{"email":"ada@example.com"}}`
	dir := t.TempDir()
	cfg, err := load(file(dir, "crm", remote))
	if err != nil {
		t.Fatal(err)
	}
	once := func() {
		r := startService(t, cfg)
		r.post("s2s.app", event)
		r.settle()
		r.stop()
		http.DefaultClient.CloseIdleConnections()
	}
	once() // what is made once
	hubspot.CloseClientConnections()
	before := holds(t)
	for range starts {
		once()
	}
	before.comesBack(t, "starts and stops", hubspot)

	r, err := startReloading(t, file(t.TempDir(), "crm", remote), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	r.post("s2s.app", event)
	r.settle()
	first, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(i int) {
		text := strings.Replace(string(first), "n: 1}", fmt.Sprintf("n: %d}", i), 1) // another script
		if i%2 == 1 {
			text = strings.Replace(text, "base_url:", "late_after: 50s, base_url:", 1) // and another destination
		}
		if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if status, body := r.ask(http.MethodPost, reloadPath, ""); status != http.StatusOK {
			t.Fatalf("reload %d: %d %s", i, status, body)
		}
	}
	for i := range 4 {
		reload(i)
	}
	r.settle()
	hubspot.CloseClientConnections()
	before = holds(t)
	for i := range reloads {
		reload(i)
	}
	r.settle()
	before.comesBack(t, "reloads", hubspot)

	clear := box.Inject(sandbox.Fault{Endpoint: "contacts/batch/upsert", Status: http.StatusUnauthorized})
	for range 10 {
		r.post("s2s.app", event)
		r.srv.router.Probe()
	}
	clear()
	for range clients {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		res, err := client.Post(r.url+"/api/v1/s2s/event?token=s2s.app", "application/json", strings.NewReader(event))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	r.srv.router.Probe()
	r.settle()
	before.comesBack(t, "clients that come and go and a remote that blocked", hubspot)
}

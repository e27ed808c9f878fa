package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// sendRig is a router in a process of its own and a faulty way to it.
type sendRig struct {
	answersRig
	way   *httptest.Server
	fault func(post int, forward func() *http.Response) bool // does the answer get lost?
	first []string                                           // first_line of each request
}

func newSendRig(t *testing.T) *sendRig {
	t.Helper()
	g := &sendRig{answersRig: answersRig{t: t}}
	g.hub = sandbox.New(sandbox.Options{HubID: demoHub, Token: plantedToken})
	remote := httptest.NewServer(g.hub)
	t.Cleanup(remote.Close)
	port := freePort(t)
	g.url = "http://127.0.0.1:" + port
	g.config = write(t, fmt.Sprintf(`
server: {host: 127.0.0.1, port: %s, data_dir: %q, min_free_bytes: 1MiB}
api_keys: [{id: app, client_secret: %s, server_secret: %s}]
destinations:
  crm:
    type: hubspot
    hubspot: {access_token: %s, hub_id: %q, base_url: %q}
`, port, t.TempDir(), plantedClient, plantedServer, plantedToken, demoHub, remote.URL))
	g.way = httptest.NewServer(http.HandlerFunc(g.proxy))
	t.Cleanup(g.way.Close)
	return g
}

func (g *sendRig) proxy(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	g.first = append(g.first, r.URL.Query().Get("first_line"))
	forward := func() *http.Response {
		req, _ := http.NewRequest(r.Method, g.url+r.URL.RequestURI(), bytes.NewReader(body))
		req.Header = r.Header.Clone()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil
		}
		return resp
	}
	if g.fault != nil && g.fault(len(g.first), forward) {
		panic(http.ErrAbortHandler)
	}
	resp := forward()
	if resp == nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}

// file writes n events without ids, 1 KiB each.
func (g *sendRig) file(name string, n int) string {
	g.t.Helper()
	var text bytes.Buffer
	for i := range n {
		fmt.Fprintf(&text, `{"event_type":"bought","user":{"email":"p%d@example.com"},"n":%d,"api_key":"s2s.leak","pad":%q}`+"\n", i%50, i, strings.Repeat("x", 900))
	}
	path := filepath.Join(g.t.TempDir(), name)
	data := text.Bytes()
	if strings.HasSuffix(name, ".gz") {
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		_, _ = z.Write(data)
		_ = z.Close()
		data = zipped.Bytes()
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// arrived waits until HubSpot has n events and nothing is left to do, and checks that each is there once.
func (g *sendRig) arrived(n int) {
	g.t.Helper()
	for deadline := time.Now().Add(time.Minute); g.hub.EventCount() < n; time.Sleep(20 * time.Millisecond) { // real I/O
		if time.Now().After(deadline) {
			g.t.Fatalf("%d of %d events have arrived after a minute", g.hub.EventCount(), n)
		}
	}
	idle := regexp.MustCompile(`(?m)^router_lane_entries\{[^}]*\} [1-9]`)
	for {
		if _, page := g.request("GET", "/metrics", ""); !idle.MatchString(page) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	count := map[string]int{}
	for _, ev := range g.hub.Events() {
		count[ev.Properties["n"]]++
	}
	if len(count) != n || g.hub.EventCount() != n {
		g.t.Errorf("%d events arrived, %d different ones, want %d", g.hub.EventCount(), len(count), n)
	}
}

func (g *sendRig) send(ctx context.Context, args ...string) (out string, code int) {
	g.t.Helper()
	var buf bytes.Buffer
	err := run(ctx, append([]string{"send", "--url", g.way.URL, "--chunk", "1"}, args...), &buf, &buf)
	if err != nil {
		buf.WriteString(message(err))
	}
	if strings.Contains(buf.String(), plantedServer) {
		g.t.Errorf("the output holds the token:\n%s", buf.String())
	}
	return buf.String(), exitCode(err)
}

// TestSend: an answer is lost, and the router is killed in the middle of a piece and started again. Each event is delivered once.
func TestSend(t *testing.T) {
	const n = 6000
	g := newSendRig(t)
	g.start()
	t.Setenv("ROUTER_TOKEN", plantedServer)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	g.fault = func(post int, forward func() *http.Response) bool {
		switch post {
		case 2: // taken, but nobody knows
			forward().Body.Close()
			return true
		case 5:
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				if resp := forward(); resp != nil {
					resp.Body.Close()
				}
			}()
			time.Sleep(3 * time.Millisecond) // somewhere in the middle: before, between or behind the chunks
			g.kill()
			<-gone
			g.start()
			return true
		}
		return false
	}
	file := g.file("history.ndjson", n)
	out, code := g.send(t.Context(), "--gzip", file)
	if code != exitOK || !strings.Contains(out, "1 file: 6000 accepted, 0 rejected; 6000 events in ") || strings.Count(out, "again in") < 2 {
		t.Fatalf("exit %d: %s", code, out)
	}
	g.arrived(n)

	if out, code := g.send(t.Context(), file); code != exitOK || !strings.Contains(out, "was sent whole at") {
		t.Errorf("again: exit %d: %s", code, out)
	}
	if out, code := g.send(t.Context(), "--no-resume", file); code != exitOK || !strings.Contains(out, "6000 events in") {
		t.Errorf("anew: exit %d: %s", code, out)
	}
	g.arrived(n) // the router knows them all
}

// TestSendResumes: what was interrupted goes on where it was, gzip or not; a file that has changed since is refused.
func TestSendResumes(t *testing.T) {
	const n = 4000
	g := newSendRig(t)
	g.start()
	t.Setenv("ROUTER_TOKEN", plantedServer)
	states := t.TempDir()
	file := g.file("history.ndjson.gz", n)
	ctx, cancel := context.WithCancel(t.Context())
	g.fault = func(post int, _ func() *http.Response) bool {
		if post == 3 {
			cancel()
		}
		return post == 3
	}
	out, code := g.send(ctx, "--state-dir", states, file)
	if code != exitFailed || !strings.Contains(out, "interrupted (all lines before ") || !strings.Contains(out, "the same command goes on there") {
		t.Fatalf("exit %d: %s", code, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	longer := g.file("history.ndjson.gz", n+1)
	if err := os.Rename(longer, file); err != nil {
		t.Fatal(err)
	}
	posts := len(g.first)
	if out, code := g.send(t.Context(), "--state-dir", states, file); code != exitFailed || !strings.Contains(out, "has changed since part of it was sent") || !strings.Contains(out, "--no-resume") {
		t.Errorf("changed: exit %d: %s", code, out)
	}
	if len(g.first) != posts {
		t.Error("part of the changed file was sent")
	}
	if err := os.WriteFile(file, data, 0o600); err != nil { // the same again, of another time
		t.Fatal(err)
	}
	out, code = g.send(t.Context(), "--state-dir", states, file)
	if code != exitOK || !strings.Contains(out, "going on at line "+g.first[2]) || g.first[posts] != g.first[2] || !strings.Contains(out, ": 4000 accepted, 0 rejected") {
		t.Fatalf("going on: exit %d: %s; requests from lines %v", code, out, g.first)
	}
	g.arrived(n)
}

// TestSendBadLines: they are told, and the exit status says so.
func TestSendBadLines(t *testing.T) {
	g := newSendRig(t)
	g.start()
	t.Setenv("ROUTER_TOKEN", plantedServer)
	file := filepath.Join(t.TempDir(), "bad.ndjson")
	text := `{"event_type":"bought","user":{"email":"a@example.com"},"n":0}` + "\n\noops\n" + `{"event_type":"bought","user":{"email":"a@example.com"},"n":1}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	states := "--state-dir=" + t.TempDir()
	out, code := g.send(t.Context(), states, file)
	if code != exitFailed || !strings.Contains(out, "line 3: invalid character 'o'") || !strings.Contains(out, "0 accepted") || !strings.Contains(out, "--skip-malformed") {
		t.Errorf("exit %d: %s", code, out)
	}
	out, code = g.send(t.Context(), states, "--skip-malformed", file)
	if code != exitFailed || !strings.Contains(out, "  line 3: invalid character 'o'") || !strings.Contains(out, "2 accepted, 1 rejected") || !strings.Contains(out, "1 line rejected") {
		t.Errorf("exit %d: %s", code, out)
	}
	g.arrived(2)
}

// TestSendUsage: what is refused before anything is sent, and what the router refuses for good.
func TestSendUsage(t *testing.T) {
	g := newSendRig(t)
	g.start()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	file := g.file("events.ndjson", 10)
	f := func(want string, wantCode int, args ...string) {
		t.Helper()
		if out, code := g.send(t.Context(), args...); code != wantCode || !strings.Contains(out, want) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s", args, code, wantCode, want, out)
		}
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(plantedClient+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	array := filepath.Join(t.TempDir(), "array.json")
	if err := os.WriteFile(array, []byte("\ufeff\n [{}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	f("no token: set ROUTER_TOKEN", exitUsage, file)
	f("expected", exitUsage)
	f("--url: write the router's address", exitUsage, "--url", "localhost:8001?token=x", "--token", "x", file)
	f("--chunk must be from 1 to 64", exitUsage, "--chunk", "0", "--token", "x", file)
	f("The token isn't a server token", exitFailed, "--token-file", token, file)
	f("401: The token is not found", exitFailed, "--token", "nonsense", file)
	f("no such file", exitFailed, "--token", plantedServer, "/does/not/exist")
	f("is a JSON array", exitFailed, "--token", plantedServer, array)
	f("connection refused", exitFailed, "--url", "http://127.0.0.1:1", "--max-wait", "1ms", "--token", plantedServer, file)
	f("does not answer as a router does", exitFailed, "--url", g.way.URL+"/elsewhere", "--token", plantedServer, file)
}

package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

var update = flag.Bool("update", false, "rewrite the expected texts")

// answersRig is a router in a process of its own, which can be killed, in front of a sandbox whose account may not have custom events.
type answersRig struct {
	t      *testing.T
	hub    *sandbox.Sandbox
	config string
	url    string
	kill   func()
	logs   []string
}

// Secrets that must not be shown anywhere.
const (
	plantedClient = "js.planted-client"
	plantedServer = "s2s.planted-server"
	plantedAdmin  = "planted-admin-token"
	plantedToken  = "pat-na1-planted"
)

func newAnswersRig(t *testing.T) *answersRig {
	t.Helper()
	g := &answersRig{t: t}
	g.hub = sandbox.New(sandbox.Options{
		HubID: demoHub, Token: plantedToken, NoEnterprise: true, Properties: []sandbox.Property{
			{Name: "plan", Label: "Plan", Type: "string", FieldType: "text", GroupName: "contactinformation"},
			{Name: "member_since", Label: "Member since", Type: "date", FieldType: "date", GroupName: "contactinformation"},
			{Name: "seats", Label: "Seats", Type: "number", FieldType: "number", GroupName: "contactinformation"},
		},
	})
	remote := httptest.NewServer(g.hub)
	t.Cleanup(remote.Close)
	port := freePort(t)
	g.url = "http://127.0.0.1:" + port
	g.config = write(t, fmt.Sprintf(`
server: {host: 127.0.0.1, port: %s, data_dir: %q, min_free_bytes: 1MiB, admin_token: %s}
api_keys:
  - {id: web, client_secret: %s, server_secret: %s}
  - {id: stray, server_secret: s2s.of-nothing}
destinations:
  crm:
    type: hubspot
    only_tokens: [web]
    data_layout: {table_name_template: '$.event_type == "heartbeat" ? "" : $.event_type'}
    hubspot: {access_token: %s, hub_id: %q, base_url: %q}
`, port, t.TempDir(), plantedAdmin, plantedClient, plantedServer, plantedToken, demoHub, remote.URL))
	return g
}

// freePort is one that nobody uses now.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := strings.Cut(ln.Addr().String(), ":")
	return port
}

// start starts the router and waits until it listens.
func (g *answersRig) start() {
	g.t.Helper()
	args, _ := json.Marshal([]string{"serve", "--config", g.config})
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childArgs+"="+string(args))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			g.logs = append(g.logs, lines.Text())
			if strings.Contains(lines.Text(), "router is ready") {
				close(ready)
			}
		}
	}()
	killed := false
	g.kill = func() {
		if !killed {
			killed = true
			cmd.Process.Kill()
			<-ended
			cmd.Wait()
		}
	}
	g.t.Cleanup(g.kill)
	select {
	case <-ready:
	case <-ended:
		g.t.Fatalf("the router has ended: %s", strings.Join(g.logs, "\n"))
	}
}

// request returns the status and body of an answer.
func (g *answersRig) request(method, path, body string, header ...string) (int, string) {
	g.t.Helper()
	return ask(g.t, method, g.url+path, body, header...)
}

func (g *answersRig) post(events string) {
	g.t.Helper()
	if status, body := g.request("POST", "/api/v1/s2s/event", events, "X-Auth-Token", plantedServer); status != http.StatusOK {
		g.t.Fatalf("post: %d %s", status, body)
	}
}

// admin fetches an admin page.
func (g *answersRig) admin(path string) string {
	g.t.Helper()
	status, body := g.request("GET", path, "", "X-Admin-Token", plantedAdmin)
	if status != http.StatusOK {
		g.t.Fatalf("%s: %d %s", path, status, body)
	}
	return body
}

// until waits for other processes: it asks again and again.
func (g *answersRig) until(what string, ok func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("not within 30 s: %s\n%s", what, strings.Join(g.logs, "\n"))
		}
	}
}

// has says whether the explanation of an event holds all of these states.
func (g *answersRig) has(id string, states ...string) bool {
	body := g.admin(explainPath + "?event_id=" + id)
	for _, state := range states {
		if !strings.Contains(body, `"`+state+`"`) {
			return false
		}
	}
	return true
}

// explain runs the command. What differs from run to run is replaced.
func (g *answersRig) explain(args ...string) string {
	g.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, errText, code := command(g.t, append([]string{"explain", "--config", g.config}, args...)...)
		if code != exitOK {
			g.t.Fatalf("explain %v: exit %d %s", args, code, errText)
		}
		// A blocked lane is tried every few seconds, and what it is tried with is in a call for a moment.
		if !strings.Contains(out, "it is in a call now") || time.Now().After(deadline) {
			return plainRun.Replace(out)
		}
	}
}

type replacements []struct {
	pattern *regexp.Regexp
	with    string
}

func (r replacements) Replace(s string) string {
	for _, one := range r {
		s = one.pattern.ReplaceAllString(s, one.with)
	}
	return s
}

var plainRun = replacements{
	{regexp.MustCompile(`\n {17}(\S)`), " $1"}, // where a line is broken depends on the times in it
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC`), "TIME"},
	{regexp.MustCompile(`TIME, [0-9.]+m?s after`), "TIME, SOON after"},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "UUID"},
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// TestExplain: what became of each of these events is told by the running router, by its data after it was killed, and by the next one.
func TestExplain(t *testing.T) {
	g := newAnswersRig(t)
	g.start()
	g.post(`[{"event_id":"told","event_type":"user_identify","user":{"email":"Ada@Example.com","firstname":"Ada","favourite_color":"green","seats":"many","member_since":"2026-11-21T23:30:00Z","plan":7}},
		{"event_id":"left-out","event_type":"heartbeat","user":{"email":"ada@example.com"}},
		{"event_id":"dead","event_type":"user_identify","user":{"email":"bad@example.c1","firstname":"Bad"}},
		{"event_id":"nobody","event_type":"sign_up"},
		{"event_id":"waits","event_type":"sign_up","user":{"email":"ada@example.com"},"plan":"pro"}]`)
	g.post(`{"event_id":"told","event_type":"user_identify","user":{"email":"other@example.com"}}`)
	if status, _ := g.request("POST", "/api/v1/s2s/event?token=s2s.of-nothing", `{"event_id":"stray","event_type":"x"}`); status != http.StatusOK {
		t.Fatal(status)
	}
	g.until("the events are settled", func() bool {
		return g.has("told", "delivered", "duplicate") && g.has("dead", "dead_letter") && g.has("waits", "blocked") && g.has("stray", "unrouted")
	})
	tell := func() string {
		var all strings.Builder
		for _, id := range []string{"told", "left-out", "dead", "nobody", "waits", "stray", "never"} {
			all.WriteString(g.explain(id) + "----\n")
		}
		all.WriteString(g.explain("--person", "ada@example.com") + "----\n")
		all.WriteString(g.explain("told", "--api-key", "stray"))
		return all.String()
	}
	running := tell()
	golden(t, "explain-running.txt", running)

	// HTTP says the same as the command.
	var x router.Explanation
	if err := json.Unmarshal([]byte(g.admin(explainPath+"?event_id=told&api_key=web")), &x); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := writeExplanation(&text, &x); err != nil || plainRun.Replace(text.String()) != g.explain("told") {
		t.Errorf("%v, HTTP says\n%s\nthe command says\n%s", err, text.String(), g.explain("told"))
	}
	if out := g.explain("told", "--json"); gjson.Get(out, "receipts.0.outputs.0.detail.stripped.favourite_color").Str != "unknown" {
		t.Errorf("as JSON: %s", out)
	}
	if out := g.explain("told", "--url", g.url+"/"); !strings.Contains(out, "delivered") {
		t.Errorf("with --url: %s", out)
	}

	g.kill()
	golden(t, "explain-killed.txt", tell())

	g.start()
	g.until("the lane is blocked again", func() bool { return g.has("waits", "blocked") })
	if diff := cmp.Diff(running, tell()); diff != "" {
		t.Errorf("the next router tells it otherwise (-before +after):\n%s", diff)
	}
}

func TestExplainRefuses(t *testing.T) {
	g := newAnswersRig(t)
	f := func(wantCode int, want string, args ...string) {
		t.Helper()
		_, errText, code := command(t, append([]string{"explain", "--config", g.config}, args...)...)
		if code != wantCode || !strings.Contains(errText, want) {
			t.Errorf("explain %v: exit %d %q, want %d %q", args, code, errText, wantCode, want)
		}
	}
	f(exitUsage, "name either an event id or --person")
	f(exitUsage, "name either an event id or --person", "x", "--person", "y")
	for _, bad := range []string{"http://ops:hunter2@127.0.0.1:1", "http://ops:hunter2@127.0.0.1:x", "ftp://ops:hunter2@127.0.0.1"} {
		f(exitUsage, "--url: write the router's address", "x", "--url", bad)
		if _, text, _ := command(t, "explain", "--config", g.config, "x", "--url", bad); strings.Contains(text, "hunter2") {
			t.Errorf("a password is repeated: %s", text)
		}
	}
	f(exitFailed, "holds no data", "x")
	f(exitFailed, "connection refused", "x", "--url", g.url)
	g.start()
	f(exitFailed, "does not accept the admin token", "x", "--admin-token", "wrong")
	notFound := httptest.NewServer(http.NotFoundHandler())
	defer notFound.Close()
	f(exitFailed, "is no router", "x", "--url", notFound.URL)

	answer := func(wantStatus int, want, path, token string) {
		t.Helper()
		status, body := g.request("GET", path, "", "X-Admin-Token", token)
		if status != wantStatus || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s, want %d %s", path, status, body, wantStatus, want)
		}
	}
	answer(400, `{"message":"event_id or person is required parameter","error":""}`, explainPath, plantedAdmin)
	answer(400, "limit must be a number", explainPath+"?person=x&limit=all", plantedAdmin)
	answer(401, "Admin token does not match", explainPath+"?event_id=x", "wrong")
	answer(401, "Admin token does not match", "/api/v1/events/cache?ids=web&namespace=token", "")
	answer(400, `{"message":"ids is required parameter","error":""}`, "/api/v1/events/cache", plantedAdmin)
	answer(400, `{"message":"namespace query parameter can be only 'token' or 'destination'. Current value: z","error":""}`,
		"/api/v1/events/cache?ids=hub&namespace=z", plantedAdmin)
	answer(400, "start must be a time", "/api/v1/events/cache?ids=crm&start=yesterday", plantedAdmin)
	answer(400, "status query parameter", "/api/v1/events/cache?ids=crm&status=good", plantedAdmin)
	answer(200, `"total_events":0,"last_minute_limited":0,"cache_capacity_per_interval":100,"interval_seconds":60,"response_events":0,"events":[]`,
		"/api/v1/events/cache?ids=crm,unheard&status=error&start=2026-01-01T00:00:00Z&limit=5", plantedAdmin)
}

// TestSecretsAreNotShown: wherever a client puts a secret, and whatever is refused for it, no answer holds it.
func TestSecretsAreNotShown(t *testing.T) {
	g := newAnswersRig(t)
	g.start()
	posts := []string{
		`{"event_id":"in-body","api_key":"` + plantedClient + `","event_type":"user_identify","user":{"email":"a@example.com","plan":"` + plantedServer + `"}}`,
		`{"event_id":"in-url","event_type":"user_identify","user":{"email":"a@example.com"},"url":"https://x.example.com/?token=` + plantedClient + `&t=` + plantedToken + `"}`,
		`{"event_id":"in-error","event_type":"user_identify","user":{"email":"` + plantedToken + `@example.c1"}}`,
		`{"event_id":"` + plantedServer + `","event_type":"` + plantedAdmin + `","user":{"email":"a@example.com"}}`,
		`{"api_key":"` + plantedClient + `","Authorization":"Bearer of-another-system", broken`,
		`[{"api_key":"an-old-write-key"},`,
		`{"template":{"api_key":"` + plantedServer + `"},"events":[{"event_id":"t","event_type":"x","user":{"email":"a@example.com"}}]}`,
	}
	for _, p := range posts {
		g.request("POST", "/api/v1/event?token="+plantedClient, p, "Authorization", "Bearer "+plantedClient, "Origin", "https://x.example.com")
		g.request("POST", "/api/v1/s2s/event?token="+plantedServer, p, "X-Auth-Token", plantedServer)
	}
	g.until("the events are settled", func() bool { return g.has("in-error", "dead_letter") && g.has("in-url", "delivered") })
	var shown strings.Builder
	for _, path := range []string{
		"/api/v1/events/cache?namespace=token&ids=web,stray", "/api/v1/events/cache?ids=crm", "/api/v1/events/cache?ids=crm&status=error",
		"/api/v1/events/cache?namespace=token&ids=web&status=error", explainPath + "?person=a@example.com&limit=100", explainPath + "?event_id=in-error",
		explainPath + "?event_id=in-body", explainPath + "?event_id=" + plantedServer, "/readyz", statusPath,
	} {
		shown.WriteString(g.admin(path))
	}
	shown.WriteString(g.explain("in-body") + g.explain("in-error", "--json") + g.explain("--person", "a@example.com"))
	g.kill()
	shown.WriteString(g.explain("in-body") + g.explain("in-error", "--json") + g.explain(plantedServer) + strings.Join(g.logs, "\n"))
	for _, secret := range []string{plantedClient, plantedServer, plantedAdmin, plantedToken, "an-old-write-key", "of-another-system"} {
		if i := strings.Index(shown.String(), secret); i >= 0 {
			t.Errorf("%q is shown: …%s…", secret, shown.String()[max(0, i-200):min(len(shown.String()), i+100)])
		}
	}
	if n := strings.Count(shown.String(), `"malformed"`); n < 4 {
		t.Errorf("%d malformed bodies are shown", n)
	}
}

// TestExplanationSaysWhy: reasons are told in a sentence.
func TestExplanationSaysWhy(t *testing.T) {
	f := func(state store.Status, reason, want string) {
		t.Helper()
		var text strings.Builder
		x := &router.Explanation{EventID: "e1", Receipts: []router.Receipt{{Outputs: []router.Output{{Destination: "crm", State: string(state), Reason: reason}}}}}
		if err := writeExplanation(&text, x); err != nil || !strings.Contains(strings.Join(strings.Fields(text.String()), " "), want) {
			t.Errorf("%s, %s: %v\n%s\nlacks %s", state, reason, err, text.String(), want)
		}
	}
	f(store.Filtered, filters.LacksMember, "because that reads a member of something that the event does not have")
	f(store.Filtered, `filter: user.email ends with "@corp.com"`, `because filter: user.email ends with "@corp.com"`)
	f(store.Skipped, "no identity", "because it has no e-mail (or what id_property names), and none is known for the ids of its user")
	f(store.Skipped, "undefined event name", "because HubSpot has no event of this name")
}

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/seal"
)

// accountsYAML is a router whose app tells one of two webhooks of changes.
func accountsYAML(dir, key, more string) string {
	return fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB, admin_token: admin-secret, encryption: {key: %s}}
api_keys: [{id: app, client_secret: js.app, server_secret: s2s.app}, {id: own, server_secret: s2s.own, account: a1}]
apps:
  crm:
    client_id: client-1
    client_secret: client-secret-1
    redirect_url: http://localhost:8001/connect/crm/callback
    scopes: [crm.objects.contacts.read, crm.objects.contacts.write]
    notify: told
destinations:
  told:
    type: webhook
    mode: stream
    filter: {event_type: connection_changed}
    webhook: {url: "https://told.example/hook"}
  lake:
    type: webhook
    mode: stream
    webhook: {url: "https://lake.example/hook"}
%s`, dir, key, more)
}

// TestConnectionsOfARouter connects an account by the router's own pages and API, and has one destination told, and no other.
func TestConnectionsOfARouter(t *testing.T) {
	hub := sandbox.New(sandbox.Options{Hubs: sandbox.Hubs(1001, 1), Apps: []sandbox.App{{
		ClientID: "client-1", ClientSecret: "client-secret-1", RedirectURLs: []string{"http://localhost:8001/connect/crm/callback"},
		Scopes: []string{"crm.objects.contacts.read", "crm.objects.contacts.write"},
	}}})
	var mu sync.Mutex
	got := map[string][]string{} // bodies by host
	network := roundTrip(func(req *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(req.URL.Host, ".example") {
			return hub.RoundTripper().RoundTrip(req)
		}
		body, _ := io.ReadAll(req.Body)
		mu.Lock()
		defer mu.Unlock()
		got[req.URL.Host] = append(got[req.URL.Host], string(body))
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
	})
	cfg, err := config.Parse("accounts.yaml", []byte(accountsYAML(t.TempDir(), seal.NewKey(), "")), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), network)
	if err != nil {
		t.Fatal(err)
	}
	r := runService(t, srv, "0")

	// Who may ask.
	const body = `{"app":"crm","account":"a1"}`
	for secret, want := range map[string]int{"": 401, "js.app": 401, "nobody": 401, "s2s.app": 200, "admin-secret": 200} {
		if status, answer := ask(t, "POST", r.url+"/api/v1/connections", body, "Authorization", "Bearer "+secret); status != want {
			t.Errorf("link with %q: got %d %s, want %d", secret, status, answer, want)
		}
	}
	for _, c := range []struct {
		method, query, body string
		want                int
	}{
		{"POST", "", body, 200},
		{"POST", "", `{"app":"crm"}`, 200},
		{"POST", "", `{"app":"crm","account":"a2"}`, 403},
		{"GET", "", "", 200},
		{"GET", "?account=a2", "", 403},
		{"DELETE", "?app=crm&account=a2", "", 403},
		{"DELETE", "?app=crm", "", 404}, // its own, which is not connected yet
	} {
		if status, answer := ask(t, c.method, r.url+"/api/v1/connections"+c.query, c.body, "X-Auth-Token", "s2s.own"); status != c.want {
			t.Errorf("%s %s %s with the key of account a1: got %d %s, want %d", c.method, c.query, c.body, status, answer, c.want)
		}
	}
	_, answer := ask(t, "POST", r.url+"/api/v1/connections", body, "X-Auth-Token", "s2s.app")
	var link struct{ URL string }
	if err := json.Unmarshal([]byte(answer), &link); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}

	// A browser goes its way.
	page := func(address string, cookies []*http.Cookie) *http.Response {
		t.Helper()
		req, _ := http.NewRequest("GET", strings.Replace(address, "http://localhost:8001", r.url, 1), nil)
		for _, c := range cookies {
			req.AddCookie(c)
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, _ := io.ReadAll(res.Body)
		res.Body = io.NopCloser(bytes.NewReader(data))
		return res
	}
	start := page(link.URL, nil)
	back, err := hub.Consent(start.Header.Get("Location"), "1001", true)
	if err != nil {
		t.Fatalf("%s: %v", start.Status, err)
	}
	end := page(back, start.Cookies())
	text, _ := io.ReadAll(end.Body)
	if end.StatusCode != 200 || !strings.Contains(string(text), "HubSpot is connected") || end.Header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("callback: got %s %s", end.Status, text)
	}
	if _, list := ask(t, "GET", r.url+"/api/v1/connections?app=crm", "", "X-Auth-Token", "s2s.app"); !strings.Contains(list, `"hub":"1001","hub_domain":"hub-1001.example","status":"connected"`) {
		t.Errorf("list: got %s", list)
	}

	// An event of the team's goes to those that take it, and the change only to the one that is told.
	if status, answer := ask(t, "POST", r.url+"/api/v1/s2s/event", `{"event_type":"page","page":1}`, "X-Auth-Token", "s2s.app"); status != 200 {
		t.Fatalf("event: %d %s", status, answer)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		told, lake := strings.Join(got["told.example"], "\n"), strings.Join(got["lake.example"], "\n")
		mu.Unlock()
		if strings.Contains(told, `"status":"connected"`) && strings.Contains(lake, `"event_type":"page"`) {
			if strings.Contains(lake, "connection_changed") || strings.Contains(told, `"event_type":"page"`) || !strings.Contains(told, `"account":"a1"`) {
				t.Errorf("told: %s\nlake: %s", told, lake)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("told: %s\nlake: %s", told, lake)
		}
	}
	// By hand.
	command := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"connections"}, args...)
		if err := run(t.Context(), append(args, "--url", r.url, "--admin-token", "admin-secret"), &out, &errs); err != nil {
			t.Errorf("%s: %v %s", args, err, errs.String())
		}
		return out.String()
	}
	if got := command("link", "--app", "crm", "--account", "a2"); !strings.HasPrefix(got, "http://localhost:8001/connect/crm/start?link=") {
		t.Errorf("link: got %s", got)
	}
	for _, want := range []string{"ACCOUNT", "a1", "1001", "hub-1001.example", "connected"} {
		if got := command("list"); !strings.Contains(got, want) {
			t.Errorf("list: got %s, want %s", got, want)
		}
	}
	if got := command("list", "--json", "--account", "a1"); !strings.Contains(got, `"account":"a1"`) {
		t.Errorf("list: got %s", got)
	}
	if got := command("disconnect", "--app", "crm", "--account", "a1", "--yes"); !strings.Contains(got, "disconnected from hub 1001\n") || strings.Contains(got, "not") {
		t.Errorf("disconnect: got %s", got)
	}
	if got := command("list"); got != "no accounts are connected\n" {
		t.Errorf("list: got %s", got)
	}
	if status, answer := ask(t, "DELETE", r.url+"/api/v1/connections?app=crm&account=a1", "", "X-Auth-Token", "s2s.app"); status != 404 {
		t.Errorf("disconnect: got %d %s", status, answer)
	}
	if status, answer := ask(t, "POST", r.url+"/connect/crm/hubspot", "[]"); status != 401 {
		t.Errorf("a webhook without a signature: got %d %s", status, answer)
	}
	if status, _ := ask(t, "GET", r.url+"/connect/none/start", ""); status != 404 {
		t.Errorf("no such app: got %d", status)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

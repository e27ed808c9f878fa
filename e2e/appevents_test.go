package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// appRig is a router whose app has events of both kinds of steps, at an address that outlives its process, and a HubSpot with two hubs. The accounts a1 and a2 are connected to them.
type appRig struct {
	*connectRig
	config string
	behind atomic.Pointer[url.URL]
}

const appConfig = `
server: {host: 127.0.0.1, port: 0, data_dir: %[2]s, admin_token: adm-planted, min_free_bytes: 1MiB, encryption: {key: "%[3]s"}}
api_keys:
  - {id: shop, server_secret: s2s.planted-secret}
apps:
  crm:
    client_id: cid
    client_secret: csecret-planted
    redirect_url: %[1]s/connect/crm/callback
    scopes: [crm.objects.contacts.write, crm.objects.contacts.read, crm.schemas.contacts.read, analytics.behavioral_events.send, behavioral_events.event_definitions.read_write]
    authorize_url: %[4]s/oauth/authorize
    base_url: %[4]s
    tokens: {keys: [%[5]q]}
    rate_limit: {events_per_second: 0}
    proxy: {allow: [contacts.read]}
    app_events:
      Signed Up:
        example: {email: ada@example.com}
        steps:
          - {to: contact, properties: {email: "{{.payload.email}}"}}
          - {to: event, name: Signed Up, properties: {account: "{{.account}}"}}
destinations:
  customers: {type: hubspot, connection: crm, hubspot: {base_url: "%[4]s", late_after: 1s}}
`

func newAppRig(t *testing.T) *appRig {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	r := &appRig{connectRig: &connectRig{t: t, key: private}}
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(q *httputil.ProxyRequest) { q.SetURL(r.behind.Load()) }, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.WriteHeader(http.StatusBadGateway) // the process is dead
	}})
	t.Cleanup(front.Close)
	r.public = front.URL
	scopes := []string{"crm.objects.contacts.write", "crm.objects.contacts.read", "crm.schemas.contacts.read", "analytics.behavioral_events.send", "behavioral_events.event_definitions.read_write"}
	r.hubspot = sandbox.New(sandbox.Options{
		Hubs: sandbox.Hubs(1001, 2),
		Apps: []sandbox.App{{ClientID: "cid", ClientSecret: "csecret-planted", RedirectURLs: []string{r.public + "/connect/crm/callback"}, Scopes: scopes}},
	})
	hubspot := httptest.NewServer(r.hubspot)
	t.Cleanup(hubspot.Close)
	dir := t.TempDir()
	r.config = filepath.Join(dir, "router.yaml")
	r.write(fmt.Sprintf(appConfig, r.public, filepath.Join(dir, "data"), strings.TrimSpace(run(t, ".", binary, "keygen")), hubspot.URL, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	r.begin()
	r.install("a1", "1001")
	r.install("a2", "1002")
	return r
}

func (r *appRig) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *appRig) begin() {
	r.t.Helper()
	r.router = start(r.t, r.config)
	to, err := url.Parse(r.router.url)
	if err != nil {
		r.t.Fatal(err)
	}
	r.behind.Store(to)
}

// request makes a request with the token of an account, and returns status and body; 0: the connection broke.
func (r *appRig) request(method, path, token, body string) (int, string) {
	req, err := http.NewRequest(method, r.public+path, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("X-Account", "a1") // of servers
	if token != serverSecret {
		req.Header.Del("X-Account")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(answer)
}

// TestAppEventsSurviveKills: the router is killed again and again while end users of two accounts post; each event that was answered with 200 is in the hub of its account once, and in no other.
func TestAppEventsSurviveKills(t *testing.T) {
	t.Parallel()
	r := newAppRig(t)
	const kills, posters = 3, 4
	var mu sync.Mutex
	acknowledged := map[string][]string{} // by account, its e-mail addresses
	burst := make(chan struct{}, 10_000)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for n := range posters {
		account := fmt.Sprintf("a%d", n%2+1)
		token := r.token(account, 0)
		wg.Go(func() {
			for i := 0; ; i++ {
				email := fmt.Sprintf("u%d-%d@%s.example", n, i, account)
				body := fmt.Sprintf(`{"name":"Signed Up","event_id":"%d-%d","payload":{"email":"%s"}}`, n, i, email)
				for status := 0; status != http.StatusOK; { // as clients do: again until it is taken
					select {
					case <-stop:
						return
					default:
					}
					status, _ = r.request(http.MethodPost, "/api/v1/apps/crm/events", token, body)
				}
				mu.Lock()
				acknowledged[account] = append(acknowledged[account], email)
				mu.Unlock()
				burst <- struct{}{}
			}
		})
	}
	for range kills {
		for range 60 {
			<-burst
		}
		r.router.kill()
		r.begin()
	}
	for range 60 {
		<-burst
	}
	close(stop)
	wg.Wait()
	r.router.drain(30 * time.Second)
	for account, hub := range map[string]string{"a1": "1001", "a2": "1002"} {
		h := r.hubspot.Hub(hub)
		var contacts, events []string
		for _, c := range h.Contacts() {
			contacts = append(contacts, c.Properties["email"])
		}
		for _, ev := range h.Events() {
			events = append(events, ev.Email)
			if ev.Properties["account"] != account {
				t.Errorf("hub %s holds an event of %v", hub, ev.Properties["account"])
			}
		}
		slices.Sort(contacts)
		slices.Sort(events)
		want := acknowledged[account]
		slices.Sort(want)
		for what, got := range map[string][]string{"contacts": contacts, "events": events} {
			// What was not answered any more may be there as well, once.
			if len(slices.Compact(slices.Clone(got))) != len(got) {
				t.Errorf("hub %s holds %s twice", hub, what)
			}
			for _, email := range want {
				if _, ok := slices.BinarySearch(got, email); !ok {
					t.Errorf("hub %s lacks %s of %s, which was answered with 200", hub, what, email)
				}
			}
			for _, email := range got {
				if !strings.HasSuffix(email, "@"+account+".example") {
					t.Errorf("hub %s holds %s of %s", hub, what, email)
				}
			}
			if n := len(got) - len(want); n < 0 || n > posters/2 {
				t.Errorf("hub %s holds %d %s, and %d were answered with 200", hub, len(got), what, len(want))
			}
		}
	}
}

// TestHangupOfApps: what an app allows through the proxy, and its events, are changed in the file, and SIGHUP puts them in force; what was posted before is delivered as it was.
func TestHangupOfApps(t *testing.T) {
	t.Parallel()
	r := newAppRig(t)
	f := func(method, path, token, body string, status int) {
		t.Helper()
		if got, answer := r.request(method, path, token, body); got != status {
			t.Errorf("%s %s %s: got %d %s, want %d", method, path, body, got, answer, status)
		}
	}
	const contacts, events = "/api/v1/proxy/crm/crm/v3/objects/contacts", "/api/v1/apps/crm/events"
	user := r.token("a1", 0)
	f("POST", events, user, `{"name":"Signed Up","payload":{"email":"ada@example.com"}}`, 200)
	f("GET", contacts, serverSecret, "", 200)
	f("GET", contacts, user, "", 403)
	f("POST", events, user, `{"name":"Left","payload":{"email":"ada@example.com"}}`, 400)

	good, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	r.write(strings.NewReplacer("proxy: {allow: [contacts.read]}", "proxy: {allow_end_users: [\"GET /crm/v3/objects/contacts\"]}", "Signed Up:", "Left:").Replace(string(good)))
	if err := r.router.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // polls another process
		if status, _ := r.request("GET", contacts, user, ""); status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the proxy's list is not in force after 20 s: %s", tail(r.router.log.String(), 2000))
		}
	}
	f("GET", contacts+"/1", serverSecret, "", 403)
	f("POST", events, user, `{"name":"Signed Up","payload":{"email":"bob@example.com"}}`, 400)
	f("POST", events, user, `{"name":"Left","payload":{"email":"cyd@example.com"}}`, 200)
	r.router.drain(20 * time.Second)
	var got []string
	for _, c := range r.hubspot.Hub("1001").Contacts() {
		got = append(got, c.Properties["email"])
	}
	slices.Sort(got)
	if strings.Join(got, " ") != "ada@example.com cyd@example.com" {
		t.Errorf("the hub holds %q", got)
	}
}

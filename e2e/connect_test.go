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
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// connectRig is a team with an app: its web site, a router, and HubSpot with the accounts of its customers.
type connectRig struct {
	t       *testing.T
	key     ed25519.PrivateKey
	hubspot *sandbox.Sandbox
	router  *process
	public  string // the router's address in its configuration: that of a proxy before it
	site    string // the team's, which may embed the connect page; on another host than the router
	other   string // somebody else's
	config  string // the router's file
	data    string // its data directory
}

const connectConfig = `
server:
  host: 127.0.0.1
  port: 0
  data_dir: %[2]s
  admin_token: adm-planted
  min_free_bytes: 1MiB
  log: {level: debug}
  encryption: {key: "%[3]s"}
api_keys:
  - {id: shop, client_secret: js.planted-secret, server_secret: s2s.planted-secret}
apps:
  crm: &app
    client_id: cid
    client_secret: csecret-planted
    redirect_url: %[1]s/connect/crm/callback
    scopes: [crm.objects.contacts.read, crm.objects.contacts.write, crm.schemas.contacts.read, crm.schemas.contacts.write]
    authorize_url: %[4]s/oauth/authorize
    base_url: %[4]s
    tokens: {keys: [%[5]q]}
    proxy: {allow: [contacts.read], allow_end_users: [contacts.read, contacts.write]}
    portal:
      parents: [%[6]s]
      title: Shop & Söhne
      options:
        marketing: {label: {en: Marketing fields, de: Marketing-Felder}, properties: [phone]}
        visits: {default: false, events: [pageview]}
    app_events:
      Contact Created:
        example: {email: ada@example.com, first_name: Ada, phone: "+44 20"}
        steps:
          - to: contact
            properties: {email: "{{.payload.email}}", firstname: "{{.payload.first_name}}", phone: "{{.payload.phone}}"}
  severed:
    <<: *app
    redirect_url: %[1]s/connect/severed/callback
    authorize_url: %[7]s/oauth/authorize
destinations:
  customers: {type: hubspot, connection: crm, hubspot: {base_url: "%[4]s", late_after: 2s}}
`

func newConnectRig(t *testing.T) *connectRig {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &connectRig{t: t, key: private}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	var behind atomic.Value // the router's URL, once it is there
	front := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(q *httputil.ProxyRequest) {
		to, err := url.Parse(behind.Load().(string))
		if err != nil {
			panic(err)
		}
		q.SetURL(to)
		q.SetXForwarded()
	}})
	t.Cleanup(front.Close)
	r.public = front.URL

	callback := r.public + "/connect/%s/callback"
	r.hubspot = sandbox.New(sandbox.Options{
		Hubs: []sandbox.Hub{{ID: "1001", Name: "Acme"}, {ID: "1002", Name: "Biz"}, {ID: "1003", Name: "Corp"}},
		Apps: []sandbox.App{{
			ClientID: "cid", ClientSecret: "csecret-planted", Name: "Shop", RedirectURLs: []string{fmt.Sprintf(callback, "crm"), fmt.Sprintf(callback, "severed")},
			Scopes: []string{"crm.objects.contacts.read", "crm.objects.contacts.write", "crm.schemas.contacts.read", "crm.schemas.contacts.write"},
		}},
	})
	hubspot := httptest.NewServer(r.hubspot)
	t.Cleanup(hubspot.Close)
	severing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
		r.hubspot.ServeHTTP(w, q)
	}))
	t.Cleanup(severing.Close)
	site := httptest.NewServer(http.HandlerFunc(r.servePage))
	t.Cleanup(site.Close)
	r.site = strings.Replace(site.URL, "127.0.0.1", "localhost", 1)
	other := httptest.NewServer(http.HandlerFunc(r.servePage))
	t.Cleanup(other.Close)
	r.other = strings.Replace(other.URL, "127.0.0.1", "localhost", 1)

	dir := t.TempDir()
	key := strings.TrimSpace(run(t, ".", binary, "keygen"))
	text := fmt.Sprintf(connectConfig, r.public, filepath.Join(dir, "data"), key, hubspot.URL, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), r.site, severing.URL)
	r.config, r.data = filepath.Join(dir, "router.yaml"), filepath.Join(dir, "data")
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r.router = start(t, r.config)
	behind.Store(r.router.url)
	return r
}

// token is one that the team's server signs.
func (r *connectRig) token(account string, age time.Duration) string {
	r.t.Helper()
	now := time.Now()
	text, err := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{"sub": account, "iat": now.Add(-age).Unix(), "exp": now.Add(time.Hour - age).Unix()}).SignedString(r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// servePage is the team's site. Its policy allows what docs/accounts.md says that connect.js needs, and nothing more.
func (r *connectRig) servePage(w http.ResponseWriter, q *http.Request) {
	switch q.URL.Path {
	case "/token":
		age := time.Duration(0)
		if q.URL.Query().Has("old") {
			age = 3 * time.Hour
		}
		io.WriteString(w, r.token(q.URL.Query().Get("account"), age))
	case "/cookie": // of somebody else's, in a frame of another site
		http.SetCookie(w, &http.Cookie{Name: "third", Value: "party", SameSite: http.SameSiteNoneMode, Secure: true})
	case "/page.js":
		w.Header().Set("Content-Type", "text/javascript")
		http.ServeFile(w, q, "sdk/connect_page.js")
	default:
		u := r.public
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self' "+u+"; frame-src "+u+"; connect-src 'self' "+u)
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><html lang="en"><title>Settings</title><main><h1>Settings</h1><button id="hubspot">HubSpot</button></main>
<script src="%s/connect/connect.js"></script><script src="/page.js"></script>`, u)
	}
}

// TestConnectPage: people of accounts connect, choose and disconnect, in a real browser without third-party cookies, on a page that another site embeds.
func TestConnectPage(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs chromium: run e2e/install.sh")
	}
	r := newConnectRig(t)
	direct := r.public + "/connect/crm/portal?token="
	out := run(t, "sdk", "node", "connect.mjs", chromium, r.site, r.other, r.public, direct+r.token("a4", 0), direct+r.token("a5", 3*time.Hour))
	seen := gjson.Parse(out)
	f := func(path, want string) {
		t.Helper()
		if got := seen.Get(path); got.String() != want {
			t.Errorf("%s: got %s, want %s", path, got.Raw, want)
		}
	}
	seen.Get("@this").ForEach(func(scene, v gjson.Result) bool {
		if e := v.Get("error"); e.Exists() {
			t.Errorf("%s: %s", scene.Str, e.Str)
		}
		return true
	})
	f("keyboard.first", "Not connected to HubSpot")
	f("keyboard.address", r.public+"/connect/crm/portal")
	f("keyboard.order", `["Close","Connect HubSpot"]`)
	f("keyboard.focus", "Connection")
	f("keyboard.facts", `["Connected since","Last delivery"]`)
	f("keyboard.axe", `[[],[],[]]`)
	f("keyboard.option", "Marketing fields")
	f("keyboard.checked", `[true,false,true]`)
	f("keyboard.wide", "0")
	f("keyboard.leave", "Disconnect")
	f("keyboard.ask", "Stay connected")
	f("keyboard.asked", "Disconnect")
	f("keyboard.back", "HubSpot")
	f("keyboard.changes", `["not_connected","connected 1001"]`)
	f("keyboard.cookies", `[]`)
	f("keyboard.again", `[false,false,true]`)
	f("keyboard.said", `[]`)

	f("german.lang", "de")
	f("german.title", "HubSpot für Shop & Söhne")
	f("german.denied", "Sie haben Shop & Söhne nicht erlaubt, Ihr HubSpot-Konto zu verwenden. Es wurde nichts geändert.")
	f("german.denial", "Nicht mit HubSpot verbunden")
	f("german.labels", `["Marketing-Felder","visits","Contact Created"]`)
	f("german.axe", `[]`)
	f("german.end", `["Nicht mit HubSpot verbunden","HubSpot ist getrennt.","HubSpot verbinden"]`)
	f("german.limit", `["Problem bemerkt",0]`)
	f("german.permission", `["Problem bemerkt",1]`)
	f("german.changes", `["not_connected","connected 1002","connected 1002 limit","connected 1002 permission","not_connected"]`)
	f("german.said", `[]`)

	f("expired.status", "Not connected to HubSpot")
	f("expired.tokens", "2")
	f("expired.together", `["GET","POST"]`)
	f("expired.once", "3")
	f("expired.trouble", "")
	f("expired.closed", "0")
	f("expired.alone", "This page was open for too long, or is not complete. Please open it again from Shop & Söhne.")
	f("expired.address", r.public+"/connect/crm/portal")

	f("blocked.address", r.public+"/connect/crm/portal")
	f("blocked.whose", "For the account a4 in Shop & Söhne.")
	f("blocked.denied", r.public+"/connect/crm/portal")
	f("blocked.back", r.public+"/connect/crm/portal")
	f("blocked.stash", "0")
	f("blocked.said", `[]`)
	f("link.tab", "Connected")
	f("link.said", `[]`)
	f("severed.opener", "null")

	f("stranger.frame", "0")
	f("stranger.said", "true")
	f("stranger.hint", "true")
	f("stranger.tokens", "0")
	f("cookies.framed", "0")
	f("cookies.own", "1")

	for _, in := range r.hubspot.Installs() {
		if in.HubID == "1002" && in.CanRefresh {
			t.Error("the token of hub 1002 is still good: HubSpot was not told that the account has disconnected")
		}
	}
	if log := r.router.log.String(); strings.Contains(log, "eyJ") {
		t.Errorf("the log holds a token: %s", log)
	}
}

// TestConnectedAccounts: accounts connect on the page, their events reach their own hubs, and what comes while HubSpot has taken back its consent is held until they connect anew.
func TestConnectedAccounts(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs chromium: run e2e/install.sh")
	}
	r := newConnectRig(t)
	people := startClient(t, "connect_story.mjs", chromium, r.site)
	do := func(step string) {
		t.Helper()
		people.tell(step)
		people.done(step)
	}
	holds := func(hub string, want ...string) {
		t.Helper()
		var got []string
		for _, c := range r.hubspot.Hub(hub).Contacts() {
			got = append(got, strings.TrimSuffix(c.Properties["email"], "@example.com")+" "+c.Properties["phone"])
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("hub %s holds %q, want %q", hub, got, want)
		}
	}
	do("early") // nobody knows the accounts
	do("connect")
	do("first")
	do("wrong")
	r.router.drain(20 * time.Second)
	do("choose")
	do("second")
	r.router.drain(20 * time.Second)
	if err := r.hubspot.Uninstall("cid", "1001"); err != nil {
		t.Fatal(err)
	}
	do("held")
	r.hold("1002", "held-b1@example.com")
	do("lost")
	holds("1001", "early-a1 +49 1", "first-a1 +49 1", "second-a1 ")
	holds("1002", "early-b1 +49 1", "first-b1 +49 1", "second-b1 +49 1", "held-b1 +49 1")
	do("reconnect")
	r.router.drain(20 * time.Second)
	holds("1001", "early-a1 +49 1", "first-a1 +49 1", "second-a1 ", "held-a1 ")
	holds("1002", "early-b1 +49 1", "first-b1 +49 1", "second-b1 +49 1", "held-b1 +49 1")
	do("end")
	r.searchTokens()
}

// tokens are what tokens of HubSpot's, its codes, and those of end users look like, and the secrets of the configuration.
var tokens = regexp.MustCompile(`oat-na1-[a-z2-7]{8}|na1-[a-z2-7]{26}|eyJhbGciOiJFZERTQSI|csecret-planted|[sj]2?s\.planted-secret|adm-planted`)

// searchTokens has the router tell all that it tells of accounts, ends it in the middle of its work, and searches what it has said, and its files with the trace of its end.
func (r *connectRig) searchTokens() {
	r.t.Helper()
	places := map[string]string{}
	for _, path := range []string{"/metrics", "/readyz", "/api/v1/status", "/api/v1/connections"} {
		status, body := r.router.get(path)
		if status != http.StatusOK {
			r.t.Errorf("%s: %d %s", path, status, body)
		}
		places[path] = body
	}
	places["connections list"] = run(r.t, ".", binary, "connections", "list", "--json", "--config", r.config, "--url", r.router.url)
	places["explain"] = run(r.t, ".", binary, "explain", "--person", "held-a1@example.com", "--config", r.config, "--url", r.router.url)
	if err := r.router.cmd.Process.Signal(syscall.SIGABRT); err != nil {
		r.t.Fatal(err)
	}
	<-r.router.exited
	places["the log"] = r.router.log.String()
	err := filepath.WalkDir(r.data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		places[d.Name()] = string(data)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if !strings.Contains(places["crash.txt"], "goroutine") || !strings.Contains(places["the log"], `"DEBUG"`) {
		r.t.Errorf("crash.txt has %d bytes, or the log nothing of its lowest level", len(places["crash.txt"]))
	}
	for place, text := range places {
		if found := tokens.FindString(text); found != "" {
			r.t.Errorf("%s holds %q", place, found)
		}
	}
}

// hold waits until a hub holds a contact.
func (r *connectRig) hold(hub, email string) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if _, ok := r.hubspot.Hub(hub).Contact(email); ok {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("hub %s has no contact %s", hub, email)
		}
		time.Sleep(50 * time.Millisecond) // polls another process
	}
}

// TestConnectTypes: connect.d.ts, which lies beside connect.js in the source, is what TypeScript understands.
func TestConnectTypes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for from, to := range map[string]string{"../pkg/portal/connect.d.ts": "connect.d.ts", "sdk/connect_types.ts": "page.ts"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "sdk", "node", "node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom", "--typeRoots", dir, filepath.Join(dir, "page.ts"))
}

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/trial"
)

const appRoute = "/api/v1/apps/crm/events"

// appRig is a router in virtual time whose app crm takes events, and a HubSpot with the hubs 1001 and 1002.
type appRig struct {
	*virtual
	key    *ecdsa.PrivateKey
	public string // its key in PEM
	sealed string // the key of server.encryption
	apps   string // settings of the app beside those that it needs, lines indented by 4
	app    string // its name
	logs   trial.Log
	more   string // settings of the destination, as members of a flow mapping, each with a comma before it
}

const appSteps = `    app_events:
      Contact Created:
        schema:
          type: object
          required: [email]
          properties: {email: {type: string, format: email}, first_name: {type: string}, plan: {enum: [free, pro]}}
        steps:
          - {to: contact, properties: {email: "{{.payload.email}}", firstname: "{{.payload.first_name}}"}}
          - {to: event, when: $.payload.plan == "pro", name: Went Pro, properties: {plan: $.payload.plan}}
`

func inAppRig(t *testing.T, more string, f func(r *appRig)) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(20 * 365 * 24 * time.Hour)
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		const redirect = "https://events.example.com/connect/crm/callback"
		r := &appRig{key: key, public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), sealed: seal.NewKey(), app: "crm", apps: appSteps + more}
		r.virtual = newVirtual(t, sandbox.Options{
			Hubs: sandbox.Hubs(1001, 2), Properties: demoProperties(),
			Apps: []sandbox.App{{ClientID: "client-1", ClientSecret: "planted-secret", RedirectURLs: []string{redirect, strings.Replace(redirect, "crm", "sales", 1)}, Scopes: []string{"crm.objects.contacts.write"}, OptionalScopes: []string{"analytics.behavioral_events.send", "behavioral_events.event_definitions.read_write", "crm.objects.contacts.read", "crm.schemas.contacts.read"}}},
		}, constant(10*time.Millisecond), "")
		r.server = "admin_token: admin-1234"
		r.start()
		defer func() { r.stop() }()
		f(r)
	})
}

func (r *appRig) text() string {
	return fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB, encryption: {key: %q}, %s}
api_keys: [{id: app, client_secret: js.app, server_secret: s2s.app}]
apps:
  %s:
    client_id: client-1
    client_secret: planted-secret
    redirect_url: https://events.example.com/connect/%s/callback
    scopes: [crm.objects.contacts.write]
    optional_scopes: [analytics.behavioral_events.send, behavioral_events.event_definitions.read_write, crm.objects.contacts.read, crm.schemas.contacts.read]
    tokens: {keys: [%q]}
%s
destinations:
  customers: {type: hubspot, connection: %s, account: "{{.tenant}}", hubspot: {}%s}
`, r.dir, r.sealed, r.server, r.app, r.app, r.public, r.apps, r.app, r.more)
}

func (r *appRig) start() {
	r.t.Helper()
	cfg, err := config.Parse("virtual.yaml", []byte(r.text()), func(string) (string, bool) { return "", false })
	if err != nil {
		r.t.Fatal(err)
	}
	srv, err := newService(cfg, slog.New(slog.NewTextHandler(&r.logs, nil)), r.virtual)
	if err != nil {
		r.t.Fatal(err)
	}
	r.srv = srv
	r.stop = srv.start(r.t)
}

// connect connects an account to a hub as its people do.
func (r *appRig) connect(account, hub string) {
	r.t.Helper()
	link, _, err := r.srv.connected.Link(r.app, account, "")
	if err != nil {
		r.t.Fatal(err)
	}
	get := func(address string, cookies []*http.Cookie) *http.Response {
		req := httptest.NewRequest(http.MethodGet, address, nil)
		for _, c := range cookies {
			req.AddCookie(c)
		}
		w := httptest.NewRecorder()
		r.srv.connected.Handler().ServeHTTP(w, req)
		return w.Result()
	}
	begun := get(link, nil)
	back, err := r.box.Consent(begun.Header.Get("Location"), hub, true)
	if err != nil {
		r.t.Fatal(err)
	}
	get(back, begun.Cookies())
	if c, ok := r.srv.connected.Get(r.app, account); !ok || c.Hub != hub {
		r.t.Fatalf("%s is not connected to %s: %+v", account, hub, c)
	}
}

// token is one of the account, good for an hour.
func (r *appRig) token(account string) string {
	r.t.Helper()
	now := time.Now()
	text, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": account, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}).SignedString(r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// request makes a request as a page at app.example.com does, and returns its answer.
func (r *appRig) request(method, path, token, body string) *fasthttp.Response {
	var req fasthttp.Request
	req.Header.SetMethod(method)
	req.SetRequestURI(path)
	req.Header.Set("Origin", "https://app.example.com")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.SetBodyString(body)
	var ctx fasthttp.RequestCtx
	ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, nil)
	r.srv.ingest.Handler(&ctx)
	return &ctx.Response
}

// posts posts an event of an account, which is taken.
func (r *appRig) posts(account, body string) {
	r.t.Helper()
	if resp := r.request("POST", appRoute, r.token(account), body); resp.StatusCode() != 200 {
		r.t.Fatalf("%s: %d %s", body, resp.StatusCode(), resp.Body())
	}
}

// holds is what a hub has: contacts and events, a line each.
func (r *appRig) holds(hub string) string {
	box := r.box.Hub(hub)
	var lines []string
	for _, c := range box.Contacts() {
		lines = append(lines, strings.TrimSpace(c.Properties["email"]+" "+c.Properties["firstname"]))
	}
	slices.Sort(lines)
	for _, ev := range box.Events() {
		_, name, _ := strings.Cut(ev.EventName, "_")
		lines = append(lines, fmt.Sprintf("%s of %s %v", name, ev.Email, ev.Properties))
	}
	return strings.Join(lines, "; ")
}

func (r *appRig) want(hub, want string) {
	r.t.Helper()
	r.drain(time.Minute)
	if got := r.holds(hub); got != want {
		r.t.Errorf("hub %s holds %q, want %q", hub, got, want)
	}
}

// TestAppEvents: what end users post is in the hub of their account, as the steps say, and in no other; also after a restart.
func TestAppEvents(t *testing.T) {
	inAppRig(t, "", func(r *appRig) {
		r.connect("a1", "1001")
		r.connect("a2", "1002")
		r.posts("a1", `{"name":"Contact Created","payload":{"email":"Ada@example.com","first_name":"Ada","plan":"pro"},"at":"2019-12-27T00:00:00Z"}`)
		r.posts("a2", `[{"name":"Contact Created","payload":{"email":"bob@example.com","first_name":"Bob"}},{"name":"Contact Created","payload":{"email":"cyd@example.com","plan":"free"}}]`)
		r.want("1001", "ada@example.com Ada; went_pro of ada@example.com map[plan:pro]")
		r.want("1002", "bob@example.com Bob; cyd@example.com")

		// The same id counts once in an account, and in each account.
		for range 2 {
			r.posts("a1", `{"name":"Contact Created","event_id":"same","payload":{"email":"dan@example.com","plan":"pro"}}`)
			r.posts("a2", `{"name":"Contact Created","event_id":"same","payload":{"email":"eve@example.com","plan":"pro"}}`)
			r.drain(time.Minute)
			r.stop()
			r.start()
		}
		// What has the client's time is known again by its content.
		for range 2 {
			r.posts("a1", `{"name":"Contact Created","payload":{"email":"dan@example.com","plan":"pro"},"at":1577404800}`)
		}
		const event = "went_pro of dan@example.com map[plan:pro]"
		r.want("1001", "ada@example.com Ada; dan@example.com; went_pro of ada@example.com map[plan:pro]; "+event+"; "+event)
		r.want("1002", "bob@example.com Bob; cyd@example.com; eve@example.com; went_pro of eve@example.com map[plan:pro]")
		if n := r.box.ContactCount(); n != 0 {
			t.Errorf("%d contacts in a hub that nobody has connected", n)
		}
	})
}

// TestAppEventsNameNoAccount: nothing in a body, and no other route, gets an event of an app into an account.
func TestAppEventsNameNoAccount(t *testing.T) {
	inAppRig(t, "", func(r *appRig) {
		r.connect("a1", "1001")
		r.connect("a2", "1002")
		r.posts("a1", `{"name":"Contact Created","payload":{"email":"ada@example.com","tenant":"a2","account":"a2","event_type":"x","user":{"email":"x@example.com"}}}`)
		for _, member := range []string{`"account":"a2"`, `"tenant":"a2"`, `"sub":"a2"`, `"app":"crm"`} {
			resp := r.request("POST", appRoute, r.token("a1"), `{"name":"Contact Created","payload":{"email":"ada@example.com"},`+member+`}`)
			if resp.StatusCode() != 400 || !strings.Contains(string(resp.Body()), "is not known: an event has name") {
				t.Errorf("%s: %d %s", member, resp.StatusCode(), resp.Body())
			}
		}
		// Clients with an API key can not pass their events off as those of an app.
		for _, path := range []string{"/api/v1/event?token=js.app", "/api/v1/s2s/event?token=s2s.app"} {
			r.request("POST", path, "", `{"event_type":"Contact Created","src":"app","api_key":"app:crm","app":"crm","account":"a2","name":"Contact Created","payload":{"email":"mal@example.com"}}`)
		}
		r.want("1001", "ada@example.com")
		r.want("1002", "")
	})
}

// TestAppEventRefusals: each refusal has its answer, and nothing of it is stored.
func TestAppEventRefusals(t *testing.T) {
	inAppRig(t, "    rate_limit: {events_per_second: 1, burst: 5}\n", func(r *appRig) {
		r.connect("a1", "1001")
		r.connect("a2", "1002")
		f := func(path, token, body string, status int, want string) {
			t.Helper()
			resp := r.request("POST", path, token, body)
			if got := string(resp.Body()); resp.StatusCode() != status || !strings.Contains(got, want) || !gjson.Valid(got) {
				t.Errorf("%s: got %d %s, want %d %s", body, resp.StatusCode(), got, status, want)
			}
			if o := string(resp.Header.Peek("Access-Control-Allow-Origin")); o != "*" {
				t.Errorf("%s: pages may not read the answer: %q", body, o)
			}
			if status == 400 {
				time.Sleep(time.Second) // it counts as an event
			}
			if status == 401 && string(resp.Header.Peek("WWW-Authenticate")) != "Bearer" {
				t.Errorf("%s: without WWW-Authenticate", body)
			}
		}
		const good = `{"name":"Contact Created","payload":{"email":"ada@example.com"}}`
		a1 := r.token("a1")
		f("/api/v1/apps/other/events", a1, good, 404, "There is no such app")
		f(appRoute, "", good, 401, "there is no token")
		f(appRoute, "s2s.app", good, 401, "the token is no JWT")
		f(appRoute+"?token="+a1, "", good, 401, "there is no token")
		f(appRoute, a1[:len(a1)-4]+"AAAA", good, 401, "the signature of the token is of none of the app's keys")
		f(appRoute, a1, ``, 400, "empty JSON body")
		f(appRoute, a1, `{"name":`, 400, "unexpected EOF")
		f(appRoute, a1, `7`, 400, "malformed JSON body begins with")
		f(appRoute, a1, `[7]`, 400, "element 0 is a number, not an object")
		f(appRoute, a1, strings.Repeat("[", 200), 400, "not an object")
		f(appRoute, a1, `{"name":"Contact Created","payload":`+strings.Repeat(`{"a":`, 200)+"1"+strings.Repeat("}", 200)+"}", 400, "nesting exceeds limit")
		f(appRoute, a1, `{"template":{},"events":[{}]}`, 400, `{"path":"/template","problem":"is not known`)
		f(appRoute, a1, `{}`, 400, `"violations":[{"path":"/name","problem":"is missing"},{"path":"/payload","problem":"is missing"}]`)
		f(appRoute, a1, `{"name":7,"payload":[],"event_id":{},"at":"soon"}`, 400, `"violations":[{"path":"/name","problem":"must be a text"},{"path":"/payload","problem":"must be an object"},{"path":"/event_id"`)
		f(appRoute, a1, `{"name":"Contact created","payload":{}}`, 400, `{"path":"/name","problem":"is the name of no event of the app; is it \"Contact Created\"?"}`)
		f(appRoute, a1, `{"name":"Contact Created","payload":{"email":"ada"}}`, 400, `{"path":"/payload/email","problem":"is no email"}`)
		f(appRoute, a1, `{"name":"Contact Created","payload":{"email":"ada@example.com","email":7}}`, 400, `{"path":"/payload/email","problem":"is number, and must be string"}`)
		f(appRoute, a1, `[`+good+`,{"name":"Contact Created","payload":{"plan":"x"}}]`, 400, `{"path":"/1/payload/email","problem":"is missing"},{"path":"/1/payload/plan"`)
		f(appRoute, a1, `[]`, 200, "")

		// One account's flood is its own, also of what is refused.
		for range 5 {
			r.request("POST", appRoute, a1, "{}")
		}
		f(appRoute, a1, good, 429, "events per second for each account")
		time.Sleep(5 * time.Second)
		many := "[" + strings.TrimSuffix(strings.Repeat(good+",", 9), ",") + "]"
		f(appRoute, a1, many, 200, "")
		f(appRoute, a1, good, 429, "events per second for each account")
		f(appRoute, r.token("a2"), good, 200, "")
		time.Sleep(5 * time.Second)
		f(appRoute, a1, good, 200, "")
		r.want("1001", "ada@example.com")

		pre := r.request("OPTIONS", appRoute, "", "")
		if h := &pre.Header; pre.StatusCode() != 200 || string(h.Peek("Access-Control-Allow-Origin")) != "*" || !strings.Contains(string(h.Peek("Access-Control-Allow-Headers")), "Authorization") ||
			len(h.Peek("Access-Control-Allow-Credentials")) != 0 {
			t.Errorf("preflight: %d\n%s", pre.StatusCode(), h)
		}
	})
}

// TestAppEventSwitchedOff: what the people of an account have switched off is accepted, and goes nowhere; it goes on when they want it again.
func TestAppEventSwitchedOff(t *testing.T) {
	inAppRig(t, "", func(r *appRig) {
		r.connect("a1", "1001")
		choose := func(on bool) {
			t.Helper()
			if err := r.srv.connected.Choose(context.Background(), "crm", "a1", connections.Chosen{AppEvents: map[string]bool{"Contact Created": on}}); err != nil {
				t.Fatal(err)
			}
		}
		choose(false)
		r.posts("a1", `{"name":"Contact Created","event_id":"e1","payload":{"email":"ada@example.com"}}`)
		r.want("1001", "")
		if told := r.told("e1"); !strings.Contains(told, "switched off by the account") {
			t.Errorf("explain: %s", told)
		}
		choose(true)
		r.posts("a1", `{"name":"Contact Created","event_id":"e2","payload":{"email":"bob@example.com"}}`)
		r.want("1001", "bob@example.com")
	})
}

// told is what explain says of an event.
func (r *appRig) told(id string) string {
	r.t.Helper()
	return string(r.request("GET", explainPath+"?event_id="+id, "admin-1234", "").Body())
}

// TestAppEventDryRun: who has a server secret can try an event of an app in the name of an account; nothing of it is delivered.
func TestAppEventDryRun(t *testing.T) {
	inAppRig(t, "", func(r *appRig) {
		r.connect("a1", "1001")
		path := "/api/v1/events/dry-run?route=" + appRoute
		resp := r.request("POST", path+"&account=a1", "s2s.app", `{"name":"Contact Created","payload":{"email":"ada@example.com","first_name":"Ada","plan":"pro"}}`)
		var answer struct {
			Events []struct{ Destinations []json.RawMessage }
		}
		body := string(resp.Body())
		if err := json.Unmarshal(resp.Body(), &answer); err != nil || resp.StatusCode() != 200 || !strings.Contains(body, "user_identify") || !strings.Contains(body, "Went Pro") {
			t.Errorf("%v, %d %s", err, resp.StatusCode(), body)
		}
		for _, c := range [][3]string{
			{path, "s2s.app", "account is missing"},
			{path + "&account=a1", "js.app", "isn't a server secret"},
			{path + "&account=a1", r.token("a1"), "The token is not found"},
			{"/api/v1/events/dry-run?account=a1&route=/api/v1/apps/zz/events", "s2s.app", "There is no such app"},
		} {
			if got := string(r.request("POST", c[0], c[1], `{"name":"Contact Created","payload":{"email":"x@example.com"}}`).Body()); !strings.Contains(got, c[2]) {
				t.Errorf("%s: got %s, want %s", c[0], got, c[2])
			}
		}
		if got := string(r.request("POST", path+"&account=a1", "s2s.app", `{"name":"Contact Created","payload":{}}`).Body()); !strings.Contains(got, "/payload/email") {
			t.Errorf("a violation: %s", got)
		}
		r.want("1001", "")
	})
}

// TestAppConfig: what is wrong with keys and events of an app is found by a check, with its place, and a private key is not shown.
func TestAppConfig(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write("private.pem", private)
	write("schema.json", `{"type":"nothing"}`)
	write("router.yaml", `server: {encryption: {key: "`+seal.NewKey()+`"}}
api_keys: [{id: "app:crm", client_secret: js.x}]
apps:
  crm:
    client_id: c
    client_secret: planted-secret
    redirect_url: https://events.example.com/connect/crm/callback
    scopes: [oauth]
    tokens:
      keys: [nonsense]
      key_files:
        - private.pem
        - missing.pem
    app_events:
      A:
        schema: schema.json
        steps: [{to: nowhere}]
destinations:
  customers: {type: hubspot, connection: crm, hubspot: {}}
`)
	_, err = load(filepath.Join(dir, "router.yaml"))
	text := fmt.Sprint(err)
	for _, want := range []string{
		"router.yaml:4: apps.crm: app:crm is the id of an API key",
		"router.yaml:10: apps.crm.tokens.keys[0]: is no key in PEM",
		"router.yaml:12: apps.crm.tokens.key_files[0]: is a private key",
		"router.yaml:13: apps.crm.tokens.key_files[1]: there is no file",
		"router.yaml:16: apps.crm.app_events.A.schema: is no JSON Schema: at /type",
		"router.yaml:17: apps.crm.app_events.A.steps[0].to: must be contact or event",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("lacks %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, strings.Split(private, "\n")[1]) {
		t.Errorf("the private key is shown:\n%s", text)
	}
}

// TestAppEventsWithoutARouter: router try and router test play events of an app in the name of an account, and tell what is wrong with them.
func TestAppEventsWithoutARouter(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	r := &appRig{virtual: &virtual{dir: dir, server: "name: x"}, sealed: seal.NewKey(), apps: appSteps, app: "crm"}
	text := strings.Replace(r.text(), `tokens: {keys: [""]}`, "tokens: {}", 1)
	file := write("router.yaml", text)
	do := func(args ...string) string {
		var out strings.Builder
		err := run(context.Background(), args, &out, &out)
		return fmt.Sprint(out.String(), err)
	}
	f := func(body, account string, want ...string) {
		t.Helper()
		out := do("try", "--config", file, "--route", appRoute, "--account", account, "--event", write("event.json", body))
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%s: lacks %q:\n%s", body, w, out)
			}
		}
	}
	f(`{"name":"Contact Created","payload":{"email":"ada@example.com","first_name":"Ada","plan":"pro"}}`, "a1", "firstname", "ada@example.com", "went_pro")
	f(`{"name":"Contact Created","payload":{"email":7}}`, "a1", "/payload/email is number, and must be string")
	f(`{"name":"Contact Created","payload":{"email":"ada@example.com"}}`, "", "account is missing")

	write("a.txtar", "-- events.jsonl --\n@ app=crm account=a1\n"+`{"name":"Contact Created","payload":{"email":"ada@example.com","first_name":"Ada"}}`+"\n-- want/customers.txt --\n")
	out := do("test", "--config", file, "--update", filepath.Join(dir, "a.txtar"))
	data, err := os.ReadFile(filepath.Join(dir, "a.txtar"))
	if err != nil || !strings.Contains(string(data), `"firstname":"Ada"`) && !strings.Contains(string(data), `"firstname": "Ada"`) {
		t.Errorf("%v, %s, the case became\n%s", err, out, data)
	}
}

// TestAppWarnings: what starts but is hardly meant is told by check.
func TestAppWarnings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "router.yaml")
	if err := os.WriteFile(path, []byte(`server: {encryption: {key: "`+seal.NewKey()+`"}}
api_keys: [{id: k, server_secret: s2s.x}]
apps:
  crm:
    client_id: c
    client_secret: planted-secret
    redirect_url: http://events.example.com/connect/crm/callback
    scopes: [crm.objects.contacts.write]
    tokens: {jwks_url: "https://app.example.com/keys.json", audience: router}
    app_events:
      A:
        example: {email: a@example.com, plan: null}
        steps: [{to: contact, properties: {email: "{{.payload.email}}", plan: "{{.payload.plam}}", at: $.utc_time}}]
destinations:
  customers: {type: hubspot, connection: crm}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"router.yaml:7: apps.crm.redirect_url: HubSpot sends browsers to https only, save on localhost",
		"router.yaml:13: apps.crm.app_events.A.steps[0].properties.plan: gives nothing for the example",
		"destinations.customers.connection: no account grants crm.schemas.contacts.read, which is needed to know the types of properties",
		"destinations.customers.connection: no account gets custom events: add analytics.behavioral_events.send and behavioral_events.event_definitions.read_write to optional_scopes",
	} {
		if !strings.Contains(cfg.Warnings.Error(), want) {
			t.Errorf("does not warn of %s:\n%s", want, cfg.Warnings.Error())
		}
	}
	if n := len(cfg.Warnings); n != 4 {
		t.Errorf("got %d warnings, want 4:\n%s", n, cfg.Warnings.Error())
	}
}

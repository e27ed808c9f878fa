package docs

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// client sends what the tests of openapi.yaml send: nothing is added or followed.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       time.Minute,
}

// The configurations of the routers that the examples name.
const (
	exampleDestination = `
destinations:
  crm:
    type: hubspot
    hubspot: {access_token: pat-na1-example, hub_id: "20546336", base_url: "http://HUB"}
`
	webKey = `
  - {id: web, client_secret: js.change-me, server_secret: s2s.change-me}
`
	otherKeys = `
  - {id: shop, client_secret: js.shop, server_secret: s2s.shop, origins: [www.example.com], enforce_origins: true}
  - {id: app, client_secret: js.app, server_secret: s2s.app, rate_limit: {events_per_second: 0.1, burst: 1}}
  - {id: spare, client_secret: js.spare, server_secret: s2s.spare}
`
	alone = "server: {host: 127.0.0.1, port: 0, min_free_bytes: 1MiB"
)

var rigConfigs = map[string]string{
	"":      alone + ", admin_token: admin.change-me, static_files_dir: static}\napi_keys:" + webKey + otherKeys + exampleDestination + "    only_tokens: [web, shop, app]\n",
	"small": alone + ", max_event_size: 4096, max_body_size: 4096, max_bulk_size: 4096}\napi_keys:" + webKey + exampleDestination,
	"full":  "server: {host: 127.0.0.1, port: 0, min_free_bytes: 1000000GiB}\napi_keys:" + webKey + exampleDestination, // more than there is
	// Its first dead letter is that of the examples.
	"dead": alone + ", admin_token: admin.change-me}\napi_keys:" + webKey + exampleDestination,
	// Without an admin token and files, and one whose configuration is changed.
	"bare":    alone + "}\napi_keys:" + webKey + exampleDestination,
	"another": alone + "}\napi_keys:" + webKey + exampleDestination,
	// With an app, of which the examples have end users.
	"apps": alone + ", encryption: {key: \"SEAL\"}}\napi_keys:" + webKey + `
apps:
  crm:
    client_id: shop
    client_secret: a-secret-of-the-app
    redirect_url: http://localhost:8001/connect/crm/callback
    scopes: [crm.objects.contacts.write]
    base_url: http://HUB
    tokens: {key_files: [public.pem]}
    app_events:
      Contact Created:
        schema: {type: object, properties: {email: {type: string, format: email}}}
        steps: [{to: contact, properties: {email: "{{.payload.email}}"}}]
destinations:
  customers: {type: hubspot, connection: crm, hubspot: {}}
`,
}

// token is one that the team signs for an account.
func (d *deployment) token(t *testing.T, account string) string {
	t.Helper()
	return d.command(t, "token", "--app", "crm", "--account", account, "--key", "private.pem")
}

// command runs the router with arguments where the deployment is, and returns what it says.
func (d *deployment) command(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary(), args...)
	cmd.Dir = d.dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("router %s: %v", args[0], err)
	}
	return strings.TrimSpace(string(out))
}

// rigs are the routers of a test, each started when it is needed.
type rigs struct {
	mu   sync.Mutex
	hub  string
	runs map[string]*deployment
	test *testing.T // ends them
}

func newRigs(t *testing.T) *rigs {
	return &rigs{runs: map[string]*deployment{}, test: t}
}

// at is the router of a name.
func (r *rigs) at(t *testing.T, name string) *deployment {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if d := r.runs[name]; d != nil {
		return d
	}
	text, ok := rigConfigs[name]
	if !ok {
		t.Fatalf("no router is called %q", name)
	}
	d := &deployment{dir: r.test.TempDir()}
	if r.hub == "" {
		r.hub = d.start(r.test, exec.Command(binary(), "sandbox", "--addr", "127.0.0.1:0"), regexp.MustCompile(`at http://(\S+),`))
	}
	d.hub = r.hub
	if name == "apps" {
		d.command(t, "keys", "generate")
		text = strings.ReplaceAll(text, "SEAL", d.command(t, "keygen"))
	}
	d.write(t, strings.ReplaceAll(text, "HUB", d.hub))
	static := filepath.Join(d.dir, "static")
	if err := os.Mkdir(static, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"lib.js", "p.js"} {
		if err := os.WriteFile(filepath.Join(static, file), []byte("/* the SDK */"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.router = d.start(r.test, exec.Command(binary(), "serve", "--config", "router.yaml"), regexp.MustCompile(`"router is ready","address":"([^"]+)"`))
	if name == "" { // the key with a limit owes some events
		if status, body := answer(t, "POST", "http://"+d.router+"/s2s/events?token=s2s.app", "["+strings.Repeat("{},", 199)+"{}]"); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	r.runs[name] = d
	return d
}

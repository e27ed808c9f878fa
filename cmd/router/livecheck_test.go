package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// hubAt is a sandbox on the loopback interface.
func hubAt(t *testing.T, o sandbox.Options) (url string) {
	t.Helper()
	o.HubID, o.Token = demoHub, demoToken
	remote := httptest.NewServer(sandbox.New(o))
	t.Cleanup(remote.Close)
	return remote.URL
}

// TestCheckLive: findings for each destination, staged ones too; an exit code that tells of errors; nothing is asked without --live.
func TestCheckLive(t *testing.T) {
	good, poor := hubAt(t, sandbox.Options{Burst: 190, Daily: 1000}), hubAt(t, sandbox.Options{MissingScopes: []string{"crm.objects.contacts.write"}})
	file := func(url, token string) string {
		return write(t, fmt.Sprintf(`
api_keys: [{server_secret: s2s.x}]
destinations:
  crm:
    type: hubspot
    hubspot: {access_token: %s, hub_id: %s, base_url: %q}
  later:
    type: hubspot
    staged: true
    hubspot: {access_token: %s, hub_id: %s, base_url: %q}
`, demoToken, demoHub, good, token, demoHub, url))
	}
	out, errText, code := command(t, "check", "--live", "--config", file(good, demoToken))
	for _, want := range []string{
		": ok: 1 API key, 2 destinations", "\ncrm (hubspot)\n", "\nlater (hubspot)\n", "  ok  token       HubSpot accepts the access token\n",
		"  ok  account     the token is for account " + demoHub, "calls in 10s are left",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	if code != exitOK || errText != "" {
		t.Errorf("exit %d, %s", code, errText)
	}

	out, errText, code = command(t, "check", "--live", "--config", file(poor, demoToken))
	if code != exitFailed || !strings.Contains(errText, "errors in 1 of 2 destinations") ||
		!strings.Contains(out, "error    scopes") || !strings.Contains(out, "to do: add the scope") {
		t.Errorf("exit %d, %s\n%s", code, errText, out)
	}
	out, errText, code = command(t, "check", "--live", "--config", file(good, "pat-na1-of-yesterday"))
	if code != exitFailed || !strings.Contains(out, "does not accept the access token") || strings.Contains(out+errText, "of-yesterday") {
		t.Errorf("exit %d, %s\n%s", code, errText, out)
	}
	out, _, code = command(t, "check", "--config", file("http://127.0.0.1:1", demoToken))
	if code != exitOK || strings.Contains(out, "token") {
		t.Errorf("offline: exit %d\n%s", code, out)
	}
	out, _, code = command(t, "check", "--live", "--config", file("http://127.0.0.1:1", demoToken))
	if code != exitFailed || !strings.Contains(out, "does not answer") {
		t.Errorf("nobody listens: exit %d\n%s", code, out)
	}
}

// TestDestinationTest posts to a running router.
func TestDestinationTest(t *testing.T) {
	hub := hubAt(t, sandbox.Options{Burst: 190})
	cfg, err := load(write(t, fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB, admin_token: letmein}
api_keys: [{server_secret: s2s.x}]
destinations:
  crm:
    type: hubspot
    hubspot: {access_token: %s, hub_id: %s, base_url: %q}
  other:
    type: hubspot
    staged: true
    hubspot: {access_token: %s, hub_id: "777", base_url: %q}
`, t.TempDir(), demoToken, demoHub, hub, demoToken, hub)))
	if err != nil {
		t.Fatal(err)
	}
	run := startService(t, cfg)
	post := func(admin, body string) (int, string) {
		t.Helper()
		r, _ := http.NewRequest("POST", run.url+"/api/v1/destinations/test", strings.NewReader(body))
		r.Header.Set("X-Admin-Token", admin)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	f := func(body string, wantStatus int, want ...string) {
		t.Helper()
		status, got := post("letmein", body)
		for _, w := range want {
			if status != wantStatus || !strings.Contains(got, w) {
				t.Errorf("%s: %d %s, want %d with %s", body, status, got, wantStatus, w)
			}
		}
		if strings.Contains(got, "pat-") || strings.Contains(got, demoToken) {
			t.Errorf("%s: the answer shows a token: %s", body, got)
		}
	}
	inline := func(token, hubID string) string {
		return fmt.Sprintf(`{"type":"hubspot","mode":"stream","only_tokens":["x"],"config":{"access_token":%q,"hub_id":%s,"base_url":%q}}`, token, hubID, hub)
	}
	f(`{"destination":"crm"}`, 200, `"status":"ok"`, `"check":"token","level":"ok"`)
	f(`{"destination":"other"}`, 400, `"message":"account: the token is for account `+demoHub, `"error":"set hub_id`)
	f(`{"destination":"nosuch"}`, 400, `"message":"no destination is called nosuch; there are: crm, other`)
	f(inline(demoToken, demoHub), 200, `"status":"ok"`)
	f(inline(demoToken, `"`+demoHub+`"`), 200, `"status":"ok"`)
	f(strings.Replace(inline(demoToken, demoHub), `"config"`, `"hubspot"`, 1), 200, `"status":"ok"`)
	f(inline("pat-wrong", demoHub), 400, `"message":"token: `, `"error":"copy the token`)
	f(`{"type":"hubspot","config":{"hub_id":1}}`, 400, "access_token: is required")
	f(`{"type":"hubspot","config":{"access_tokenn":"pat-1"}}`, 400, "access_tokenn")
	f(`{"type":"hubspot","config":{"access_token":"${env.HOME}","hub_id":1}}`, 400, "has no meaning here")
	f(`{"type":"postgres","config":{"host":"pat-1"}}`, 400, `unknown type \"postgres\"`)
	f(`{"type":7}`, 400, `\"type\" is required`)
	f(`{"destination":"crm","config":{}}`, 400, "stands alone")
	f(`[]`, 400, "must be a JSON object")
	f(`{} {}`, 400, "behind the JSON object")
	f(``, 400, "must be a JSON object")
	if status, got := post("wrong", `{"destination":"crm"}`); status != 401 {
		t.Errorf("a wrong admin token: %d %s", status, got)
	}
	res, err := http.Get(run.url + "/api/v1/destinations/test")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusNotFound {
		t.Errorf("GET: %s", res.Status)
	}
	if n := run.srv.store.Position(); n != 0 {
		t.Errorf("the store moved to %d", n)
	}
}

// TestDestinationTestOfForeignPage: a page of another site must not make a browser on this machine ask.
func TestDestinationTestOfForeignPage(t *testing.T) {
	r := httptest.NewRequest("POST", "/api/v1/destinations/test", strings.NewReader(`{"destination":"crm"}`))
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	(&destinationTest{parts: quiet(&destinations.Shared{}, nil)}).ServeHTTP(w, r)
	if w.Code != 400 || !strings.Contains(w.Body.String(), "cross-origin") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// FuzzRequestedDestination: any body is a destination or a clear error, and never takes a variable of the process.
func FuzzRequestedDestination(f *testing.F) {
	f.Setenv("FUZZ_SECRET", "secret-of-the-process")
	for _, body := range []string{
		`{"destination":"crm"}`, `{"type":"hubspot","config":{"access_token":"pat-1","hub_id":1}}`, `{"type":"hubspot","hubspot":{}}`,
		`{"type":"hubspot","config":{"access_token":"${env.FUZZ_SECRET}"}}`, `{"type":"hubspot","config":{"access_token":"$\u007benv.FUZZ_SECRET}"}}`,
		`{"type":"*a","\u2028":"😀"}`, `{}`, `[]`, `{"type":"hubspot","config":{"access_token":"${FUZZ_SECRET}","hub_id":1}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		name, cfg, err := requestedDestination(body)
		switch {
		case err != nil && (name != "" || cfg != nil), err == nil && cfg != nil && name != "test":
			t.Fatalf("%q: %q %v %v", body, name, cfg, err)
		case err == nil && cfg != nil:
			if len(cfg.Destinations) != 1 {
				t.Fatalf("%q: %d destinations", body, len(cfg.Destinations))
			}
			var set struct {
				AccessToken string `yaml:"access_token"`
			}
			_ = cfg.Destinations[0].Settings.Decode(&set)
			if strings.Contains(set.AccessToken, "secret-of-the-process") {
				t.Fatalf("%q reads a variable", body)
			}
			_, _, _ = routes(cfg, quiet(&destinations.Shared{}, nil))
		}
		if b, err := json.Marshal(testAnswer{Message: fmt.Sprint(err)}); err != nil || len(b) == 0 {
			t.Fatal(err)
		}
	})
}

package sandbox

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// TestProviderControl: apps, hubs and installs by HTTP, as scripts do it.
func TestProviderControl(t *testing.T) {
	c := &oauthClient{newClient(t, Options{Token: "pat-na1-test"})}
	f := func(method, path, body string, status int, want string) {
		t.Helper()
		got, answer := c.view(method, path, body)
		if got != status || !strings.Contains(answer, want) || strings.Contains(answer, "csecret") {
			t.Errorf("%s %s %s: %d %s, want %d %s", method, path, body, got, answer, status, want)
		}
	}
	const app = `{"client_id":"cid","client_secret":"csecret","name":"Shop","redirect_urls":["http://localhost:8080/cb"],` +
		`"scopes":["crm.objects.contacts.read","crm.objects.contacts.write"],"optional_scopes":["analytics.behavioral_events.send"]}`
	f("POST", "/apps", app, 201, `"app_id": 19083857`)
	f("GET", "/apps", "", 200, `"client_id": "cid"`)
	f("POST", "/hubs", `{"id":"1001","name":"Acme","tier":"starter"}`, 201, `"added": 1`)
	f("POST", "/hubs", `{"first":2000,"count":1000}`, 201, `"added": 1000`)
	f("GET", "/hubs", "", 200, `"total": 1002`)

	access, _ := c.install("1001")
	f("GET", "/installs", "", 200, `"hub_id": "1001"`)
	if status, _ := c.as(access, "POST", upsertPath, upsert("ada@b.co")); status != 200 {
		t.Fatalf("%d", status)
	}
	f("GET", "/hubs/1001/contacts", "", 200, "ada@b.co")
	f("GET", "/contacts", "", 200, `"total": 0`)
	f("GET", "/hubs/1001/options", "", 200, `"enterprise": false`)
	f("POST", "/hubs/1001/faults", `{"endpoint":"contacts","status":503}`, 201, `"id": 1`)
	if status, _ := c.as(access, "GET", contactsPath, ""); status != 503 {
		t.Errorf("the hub's fault: %d", status)
	}
	f("POST", "/hubs/1001/reset", "", 204, "")
	f("GET", "/hubs/1001/contacts", "", 200, `"total": 0`)
	if status, _ := c.as(access, "GET", contactsPath, ""); status != 200 {
		t.Errorf("after the hub was emptied its token is good: %d", status)
	}
	f("POST", "/installs/cid/1001/expire", "", 204, "")
	if status, answer := c.as(access, "GET", contactsPath, ""); status != 401 || answer.Get("category").Str != expiredAuth {
		t.Errorf("%d %s", status, answer.Raw)
	}
	f("POST", "/installs/*/1001/revoke", "", 204, "")
	f("GET", "/installs", "", 200, `"can_refresh": false`)
	f("DELETE", "/installs/cid/1001", "", 204, "")
	f("GET", "/installs", "", 200, `"total": 0`)
	f("DELETE", "/hubs/1001", "", 204, "")
	f("PATCH", "/options", `{"access_token_seconds":60,"rotate_refresh_tokens":true,"app_burst":0}`, 200, `"access_token_seconds": 60`)
	if _, answer := c.exchange(c.code("2000")); answer.Get("expires_in").Int() != 60 {
		t.Errorf("%s", answer.Raw)
	}

	f("POST", "/apps", `{"client_id":"x"}`, 400, "client_secret are required")
	f("POST", "/apps", strings.Replace(app, "http://localhost:8080/cb", "http://shop.example/cb", 1), 400, "must begin with https://")
	f("POST", "/apps", strings.Replace(app, "http://localhost:8080/cb", "/cb", 1), 400, "no absolute URL")
	f("POST", "/apps", strings.Replace(app, `"name":"Shop"`, `"webhook_url":"http://shop.example"`, 1), 400, "webhook_url")
	f("POST", "/apps", strings.Replace(app, "analytics.behavioral_events.send", readContacts, 1), 400, "both required and optional")
	f("POST", "/apps", strings.Replace(app, "cid", "c/d", 1), 400, "plain characters")
	f("POST", "/hubs", `{"id":"2000"}`, 400, "exists")
	f("POST", "/hubs", `{"id":"x"}`, 400, "whole number")
	f("POST", "/hubs", `{"id":"1","tier":"gold"}`, 400, "tier")
	f("POST", "/hubs", `{"id":"1","first":3}`, 400, "first and count")
	f("DELETE", "/hubs/20546336", "", 404, "can be removed")
	f("DELETE", "/hubs/999", "", 404, "")
	f("GET", "/hubs/999/contacts", "", 404, "no hub")
	f("POST", "/installs/cid/999/expire", "", 404, "no such app")
	f("POST", "/installs/cid/2000/explode", "", 404, "none of")
	f("POST", "/installs/cid", "", 404, "")
	f("GET", "/hubs/2000/hubs", "", 404, "")
	f("PATCH", "/options", `{"access_token_seconds":0}`, 400, "access_token_seconds")
	f("PATCH", "/options", `{"app_burst":-1}`, 400, "app_burst")
}

// TestHubsPage: who installed what, with what scopes, and a button that ends it; each hub has its own pages.
func TestHubsPage(t *testing.T) {
	c := newOAuthClient(t, Options{})
	access, _ := c.install("1001")
	c.as(access, "POST", upsertPath, upsert("ada@b.co"))
	_, page := c.view("GET", "/pages/hubs", "")
	checkHTML(t, "hubs", page)
	for _, want := range []string{
		`<a href="/_sandbox/hubs/1001">1001</a>`, "<td>Acme</td>", "Shop &lt;sync&gt; since", "can refresh", "1 good access tokens", "<code>" + sendEvents + "</code>",
		"<button>Uninstall Shop &lt;sync&gt; from hub 1001</button>", "starter", "http://localhost:8080/cb",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	for _, secret := range []string{"csecret", access, "na1-"} {
		if strings.Contains(page, secret) {
			t.Errorf("the page shows %s", secret)
		}
	}
	if _, page := c.view("GET", "/pages/hubs?q=biz", ""); strings.Contains(page, "Acme") || !strings.Contains(page, "1 shown of 3") {
		t.Errorf("search: %s", page)
	}
	_, own := c.view("GET", "/hubs/1001/pages/contacts", "")
	checkHTML(t, "contacts of a hub", own)
	if !strings.Contains(own, "hub 1001") || !strings.Contains(own, `href="/_sandbox/hubs/1001/pages/contacts/101"`) {
		t.Errorf("%s", own)
	}
	if status, one := c.view("GET", "/hubs/1001/pages/contacts/101", ""); status != 200 || !strings.Contains(one, "ada@b.co") {
		t.Errorf("%d %s", status, one)
	}

	action := regexp.MustCompile(`<form method="post" action="([^"]+)">`).FindStringSubmatch(page)
	if action == nil {
		t.Fatal("no button")
	}
	press := func(site string) (int, string) {
		r := httptest.NewRequest("POST", action[1], nil)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		return w.Code, w.Header().Get("Location")
	}
	if status, _ := press("cross-site"); status != 403 || len(c.Installs()) != 1 {
		t.Errorf("pressed by another site: %d", status)
	}
	if status, location := press("same-origin"); status != 303 || location != "/_sandbox/pages/hubs" || len(c.Installs()) != 0 {
		t.Errorf("%d %s, %v", status, location, c.Installs())
	}
}

// FuzzProvider sends any form to the token endpoints, any query to the consent page and any body to the control routes: nothing panics, no
// form without the app's secret gets a token, and no link but a registered one leads anywhere.
func FuzzProvider(f *testing.F) {
	for _, text := range []string{
		"grant_type=authorization_code&client_id=cid&client_secret=csecret&code=na1-x&redirect_uri=http%3A%2F%2Flocalhost%3A8080%2Fcb",
		"grant_type=refresh_token&client_id=cid&refresh_token=CODE", "token=%zz", "client_id=cid&client_secret=csecret&token=x&token=y", link()[len("/oauth/authorize?"):],
		"redirect_uri=http://localhost:8080/cb&client_id=cid&scope=%00", `{"client_id":"a","client_secret":"b","redirect_urls":["http://[::1"]}`,
		`{"first":1,"count":99}`, `{"id":"007"}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := newOAuthClient(t, Options{})
		_, refresh := c.install("1001")
		text = strings.ReplaceAll(text, "CODE", refresh)
		for _, path := range []string{tokenPath, tokenPath + "/introspect", tokenPath + "/revoke", "/oauth/v1/token"} {
			status, _, page := c.browse("POST", path, text)
			if page != "" && !gjson.Valid(page) || status == 200 && !strings.Contains(text, "csecret") {
				t.Errorf("%s: %d %s", path, status, page)
			}
		}
		r := httptest.NewRequest("GET", "/oauth/authorize", nil)
		r.URL.RawQuery = text
		call := newCall(r, nil)
		call.method, call.form = "POST", map[string][]string{"hub": {"1001"}, "decision": {"grant"}}
		location, refusal := c.st.consent(call)
		if (location == "") == (refusal == "") || location != "" && !strings.HasPrefix(location, "http://localhost:8080/cb?") &&
			!strings.HasPrefix(location, "https://shop.example/cb?") {
			t.Errorf("%q leads to %q, refusal %q", text, location, refusal)
		}
		for _, path := range []string{"/apps", "/hubs", "/installs/" + strings.Map(pathRune, text)} {
			if status, answer := c.view("POST", path, text); status >= 500 {
				t.Errorf("%s %q: %d %s", path, text, status, answer)
			}
		}
	})
}

// pathRune keeps what httptest.NewRequest takes in a path.
func pathRune(r rune) rune {
	if r <= ' ' || r >= 0x7f || strings.ContainsRune("%?#", r) {
		return -1
	}
	return r
}

package portal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/endusers"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

const home = "https://events.example.com/connect/crm/"

// rig is a portal with a store and a sandbox. A token is the word "token-" and the account.
type rig struct {
	t   *testing.T
	hub *sandbox.Sandbox
	s   *connections.Service
	p   *Portal
	all http.Handler
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func newRig(t *testing.T) *rig {
	t.Helper()
	key, err := seal.ParseKey(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := seal.NewRing(true, key)
	if err != nil {
		t.Fatal(err)
	}
	app := config.DefaultApp("crm")
	app.ClientID, app.ClientSecret, app.RedirectURL, app.Scopes = "cid", "csecret", home+"callback", []string{"crm.objects.contacts.write"}
	app.Portal.Title = `</script><b>"Shop"`
	app.Portal.Parents = []string{"https://app.example.com", "https://admin.example.com:8443"}
	app.Portal.Options = []config.PortalOption{
		{Name: "marketing", Label: map[string]string{"en": "Marketing fields", "de": "Marketing-Felder"}, Default: true, Properties: []string{"plan"}},
		{Name: "visits", Events: []string{"pageview"}},
	}
	r := &rig{t: t, hub: sandbox.New(sandbox.Options{
		Hubs: sandbox.Hubs(1001, 2), Apps: []sandbox.App{{ClientID: "cid", ClientSecret: "csecret", RedirectURLs: []string{home + "callback"}, Scopes: app.Scopes}},
	})}
	kept, err := store.Open(t.TempDir(), store.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	r.s, err = connections.New(connections.Options{Apps: []config.App{app}, Store: kept, Keys: keys, Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		r.hub.ServeHTTP(w, req)
		return w.Result(), nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.s.Close()
		if err := kept.Close(); err != nil {
			t.Error(err)
		}
	})
	r.p = New(Options{
		App: func(name string) (config.App, bool) { return app, name == "crm" },
		Verify: func(_ string, token []byte) (string, error) {
			account, ok := strings.CutPrefix(string(token), "token-")
			switch {
			case string(token) == "unknown":
				return "", fmt.Errorf("%w: no such host secret.example.com", endusers.ErrUnavailable)
			case !ok:
				return "", errors.New("the token has expired: sign another one")
			}
			return account, nil
		},
		Connections: r.s,
	})
	mux := http.NewServeMux()
	mux.Handle(connections.PagesPath, r.p.Pages(r.s.Handler()))
	mux.Handle(APIPath, r.p.API())
	r.all = mux
	return r
}

// ask sends a request; what names method and path.
func (r *rig) ask(what, token, body string, headers ...string) *httptest.ResponseRecorder {
	r.t.Helper()
	method, path, _ := strings.Cut(what, " ")
	req := httptest.NewRequest(method, "https://events.example.com"+path, strings.NewReader(body))
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.all.ServeHTTP(w, req)
	return w
}

// connect goes the way of a browser.
func (r *rig) connect(account, hub string) {
	r.t.Helper()
	var link struct{ URL string }
	if err := json.Unmarshal(r.ask("POST /api/v1/apps/crm/connection", "token-"+account, "{}").Body.Bytes(), &link); err != nil {
		r.t.Fatal(err)
	}
	start := r.ask("GET "+strings.TrimPrefix(link.URL, "https://events.example.com"), "", "")
	back, err := r.hub.Consent(start.Header().Get("Location"), hub, true)
	if err != nil {
		r.t.Fatal(err)
	}
	end := r.ask("GET "+strings.TrimPrefix(back, "https://events.example.com"), "", "", "Cookie", start.Result().Cookies()[0].String())
	if want := "hub-" + hub + ".example (" + hub + ")"; !strings.Contains(end.Body.String(), want) {
		r.t.Errorf("the page at the end: %s, want %s on it", end.Body, want)
	}
	if end.Code != http.StatusOK || !strings.Contains(end.Body.String(), `data-app="crm" data-outcome="connected"`) || !strings.Contains(end.Body.String(), `src="../done.js"`) {
		r.t.Fatalf("the page at the end: %d %s", end.Code, end.Body)
	}
}

// TestAccountOfToken: the routes of the page answer for the account of the token, and for no other, whatever else a request says.
func TestAccountOfToken(t *testing.T) {
	r := newRig(t)
	r.connect("a1", "1001")
	r.connect("b1", "1001")
	const own = " /api/v1/apps/crm/connection"
	f := func(what, token, body string, wantStatus int, want string) {
		t.Helper()
		w := r.ask(what, token, body)
		var got struct {
			Message, Error, Account, Status, Hub, Reason string
			Since                                        *string
			Options                                      []choice
			Revoked                                      *bool
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil && want != "" {
			t.Fatalf("%s: %v: %s", what, err, w.Body)
		}
		text := strings.TrimSuffix(got.Message+": "+got.Error, ": ")
		switch {
		case got.Revoked != nil:
			text = fmt.Sprintf("%s revoked %t", got.Hub, *got.Revoked)
		case got.Account != "":
			text = strings.TrimSpace(fmt.Sprintf("%s %s %s %s", got.Account, got.Status, got.Hub, got.Reason))
			for _, o := range got.Options {
				text += fmt.Sprintf("; %s %t", o.Label, o.On)
			}
		}
		if w.Code != wantStatus || text != want {
			t.Errorf("%s as %q with %q: %d %q, want %d %q", what, token, body, w.Code, text, wantStatus, want)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be cached", what)
		}
		if account := strings.TrimPrefix(token, "token-"); account == "b1" && strings.Contains(w.Body.String(), "a1") || account == "a1" && strings.Contains(w.Body.String(), "b1") {
			t.Errorf("%s as %q tells of another account: %s", what, token, w.Body)
		}
	}
	f("GET"+own, "token-a1", "", 200, "a1 connected 1001; Marketing fields true; visits false")
	f("GET"+own+"?account=b1&token=token-b1&lang=de", "token-a1", "", 200, "a1 connected 1001; Marketing-Felder true; visits false")
	f("GET"+own, "token-nobody", "", 200, "nobody not_connected; Marketing fields true; visits false")
	f("PATCH"+own, "token-a1", `{"options":{"marketing":false}}`, 200, "a1 connected 1001; Marketing fields false; visits false")
	f("PATCH"+own, "token-a1", `{"options":{"visits":true}}`, 200, "a1 connected 1001; Marketing fields false; visits true")
	f("GET"+own, "token-b1", "", 200, "b1 connected 1001; Marketing fields true; visits false")
	f("PATCH"+own, "token-a1", `{"options":{"none":true}}`, 400, `No such option: the app has no option "none", it has ["marketing" "visits"]`)
	f("PATCH"+own, "token-a1", `{"options":{"marketing":true,"<b>\n\u202e":true}}`, 400, `No such option: the app has no option "<b>\n\u202e", it has ["marketing" "visits"]`)
	f("PATCH"+own, "token-a1", `{"options":{"`+strings.Repeat("é", 1000)+`":true}}`, 400, `No such option: the app has no option "`+strings.Repeat("é", 32)+`…", it has ["marketing" "visits"]`)
	f("PATCH"+own, "token-a1", `{"app_events":{"none":true}}`, 400, `No such option: the app has no app event "none", it has none`)
	f("PATCH"+own, "token-a1", `{"account":"b1"}`, 400, `The body is not what this route takes: write {"options": {"marketing": false}, "app_events": {"Contact Created": true}}`)
	f("PATCH"+own, "token-nobody", `{"options":{"visits":true}}`, 404, "The account is not connected")
	f("POST"+own, "token-a1", `{"account":"b1"}`, 400, `The body is not what this route takes: write {}, or {"return_url": "https://app.example.com/settings"}`)
	f("POST"+own, "token-a1", `{"return_url":"https://elsewhere.example.com/"}`, 400, "The link is not made: return_url is not below one of the app's return_urls")

	f("GET"+own, "", "", 401, "The token is not taken: the token has expired: sign another one")
	f("GET"+own+"?token=token-a1", "", "", 401, "The token is not taken: the token has expired: sign another one")
	f("DELETE"+own, "s2s.secret", "", 401, "The token is not taken: the token has expired: sign another one")
	f("GET"+own, "unknown", "", 503, "Tokens can not be verified at the moment, try again later: "+endusers.ErrUnavailable.Error())
	f("GET /api/v1/apps/none/connection", "token-a1", "", 404, "No such app: it is none of apps in the configuration")

	f("DELETE"+own, "token-b1", "", 200, "1001 revoked false") // its hub's token is a1's, too
	f("DELETE"+own, "token-b1", "", 404, "The account is not connected")
	f("GET"+own, "token-b1", "", 200, "b1 not_connected; Marketing fields true; visits false")
	f("GET"+own, "token-a1", "", 200, "a1 connected 1001; Marketing fields false; visits true")

	held, err := r.s.Token(t.Context(), "crm", "a1", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.hub.Uninstall("cid", "1001"); err != nil {
		t.Fatal(err)
	}
	r.s.Refused("crm", "a1", held)
	if _, err := r.s.Token(t.Context(), "crm", "a1", ""); err == nil {
		t.Fatal("there is a token of an app that was uninstalled")
	}
	f("GET"+own, "token-a1", "", 200, "a1 reconnect_needed 1001 refused; Marketing fields false; visits true")
	r.connect("a1", "1001")
	f("GET"+own, "token-a1", "", 200, "a1 connected 1001; Marketing fields false; visits true")
	f("DELETE"+own, "token-a1", "", 200, "1001 revoked true")
}

// TestPageHeaders: the page may be embedded by the app's parents alone, runs nothing but its own files, and is kept and told nowhere. Names of the configuration are text in it.
func TestPageHeaders(t *testing.T) {
	r := newRig(t)
	w := r.ask("GET /connect/crm/portal?token=token-a1", "", "", "Accept-Language", "de-AT,en;q=0.5")
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	h := w.Header()
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "Content-Language": "de", "Vary": "Accept-Language", "X-Frame-Options": "", "Set-Cookie": "",
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; " +
			"require-trusted-types-for 'script'; frame-ancestors https://app.example.com https://admin.example.com:8443",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	body := w.Body.String()
	for _, bad := range []string{"token-a1", "<b>", "</script><", " style=", "onclick"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if policy := policy(nil); !strings.HasSuffix(policy, "frame-ancestors 'none'") {
		t.Errorf("without parents: %s", policy)
	}
	f := func(query, accept, want string) {
		t.Helper()
		if got := r.ask("GET /connect/crm/portal"+query, "", "", "Accept-Language", accept).Header().Get("Content-Language"); got != want {
			t.Errorf("%q, Accept-Language %q: %s, want %s", query, accept, got, want)
		}
	}
	f("", "", "en")
	f("", "fr, de;q=0.8, en;q=0.7", "de")
	f("", "EN-gb", "en")
	f("?lang=de", "en", "de")
	f("?lang=fr", "de", "de")
}

// TestFiles: the page's files are served with what pages of other sites need of them, and asked for anew only when they have changed.
func TestFiles(t *testing.T) {
	r := newRig(t)
	f := func(name, kind, policy string) {
		t.Helper()
		w := r.ask("GET /connect/"+name, "", "")
		if w.Code != 200 || w.Header().Get("Content-Type") != kind+"; charset=utf-8" || w.Header().Get("Cross-Origin-Resource-Policy") != policy {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
		if again := r.ask("GET /connect/"+name, "", "", "If-None-Match", w.Header().Get("ETag")); again.Code != http.StatusNotModified || again.Body.Len() != 0 {
			t.Errorf("%s, a second time: %d", name, again.Code)
		}
	}
	f("connect.js", "text/javascript", "cross-origin")
	f("connect.d.ts", "text/plain", "cross-origin")
	f("portal.js", "text/javascript", "same-origin")
	f("portal.css", "text/css", "same-origin")
	f("done.js", "text/javascript", "same-origin")
	for _, what := range []string{"GET /connect/crm/connect.js", "POST /connect/crm/portal", "GET /connect/portal.html"} {
		if w := r.ask(what, "", ""); w.Code != http.StatusNotFound || w.Body.String() != "404 page not found" {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
}

package sandbox

import (
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// browse sends what a browser would and returns status, Location and page; header is name, value, name, value.
func (c *oauthClient) browse(method, target, form string, header ...string) (status int, location, page string) {
	c.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(form))
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	c.header = w.Header()
	return w.Code, w.Header().Get("Location"), html.UnescapeString(w.Body.String())
}

// TestConsentPage: what a person sees, chooses and is led to.
func TestConsentPage(t *testing.T) {
	c := newOAuthClient(t, Options{})
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest("GET", link(), nil))
	if csp := w.Header().Get("Content-Security-Policy"); w.Code != 200 || !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "form-action") {
		t.Errorf("%d %q", w.Code, csp)
	}
	page := w.Body.String()
	for _, want := range []string{
		"<h1>Connect Shop &lt;sync&gt; to HubSpot</h1>", `<label for="hub">HubSpot account</label>`, `<option value="1001">Acme (1001)</option>`,
		`<option value="20546336">`, `value="grant">Connect app</button>`, `value="deny" formnovalidate>Cancel</button>`,
		"<code>" + writeContacts + "</code></li>", "<code>" + sendEvents + "</code>, if the account has it",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	checkConsentHTML(t, page)

	f := func(target, form, wantPath string, want url.Values) {
		t.Helper()
		status, location, page := c.browse("POST", target, form, "Sec-Fetch-Site", "same-origin")
		u, err := url.Parse(location)
		if status != 302 || err != nil || u.Scheme+"://"+u.Host+u.Path != wantPath {
			t.Errorf("%s %s: %d %q %s", target, form, status, location, page)
			return
		}
		for name, value := range want {
			if got := u.Query().Get(name); got != value[0] && (value[0] != "*" || got == "") {
				t.Errorf("%s %s: %s is %q, want %q", target, form, name, got, value[0])
			}
		}
	}
	f(link(), "hub=1001&decision=grant", "http://localhost:8080/cb", url.Values{"code": {"*"}, "state": {"s-1"}, "error": {""}})
	f(link("state", "-", "redirect_uri", "https://shop.example/cb?from=hubspot"), "hub=1001&decision=grant", "https://shop.example/cb",
		url.Values{"code": {"*"}, "state": {""}, "from": {"hubspot"}})
	f(link(), "decision=deny", "http://localhost:8080/cb", url.Values{"error": {"access_denied"}, "error_description": {"*"}, "state": {"s-1"}, "code": {""}})
	chosen := strings.Replace(link(), "/oauth/", "/oauth/1001/", 1)
	f(chosen, "decision=grant", "http://localhost:8080/cb", url.Values{"code": {"*"}})
	if _, _, page := c.browse("GET", chosen, ""); strings.Contains(page, "<select") || !strings.Contains(page, "Acme (1001)") {
		t.Errorf("a link for one hub: %s", page)
	}
	for _, site := range []string{"cross-site", "same-site"} {
		if status, location, page := c.browse("POST", link(), "hub=1001&decision=grant", "Sec-Fetch-Site", site); status != 400 || location != "" || !strings.Contains(page, "did not come from this page") {
			t.Errorf("a decision posted by another site (%s): %d %q", site, status, location)
		}
	}
}

// checkConsentHTML: as checkHTML, for pages without navigation and tables.
func checkConsentHTML(t *testing.T, page string) {
	t.Helper()
	var open []string
	for _, m := range tag.FindAllStringSubmatch(page, -1) {
		switch {
		case isEmpty[m[2]]:
		case m[1] == "":
			open = append(open, m[2])
		case len(open) == 0 || open[len(open)-1] != m[2]:
			t.Fatalf("</%s> within %v", m[2], open)
		default:
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 || strings.Count(page, "<h1>") != 1 || strings.Count(page, "<main") != 1 || !strings.Contains(page, `<html lang="en">`) {
		t.Errorf("open %v in\n%s", open, page)
	}
}

// TestConsentRefusals: what HubSpot says in words, and tells nobody else.
func TestConsentRefusals(t *testing.T) {
	c := newOAuthClient(t, Options{})
	f := func(target, want string) {
		t.Helper()
		for _, method := range []string{"GET", "POST"} {
			form := ""
			if method == "POST" {
				form = "hub=1001&decision=grant"
			}
			status, location, page := c.browse(method, target, form)
			if status != 400 || location != "" || !strings.Contains(page, `<p role="alert">`) || !strings.Contains(page, want) {
				t.Errorf("%s %s: %d %q, want %q in %s", method, target, status, location, want, page)
			}
			checkConsentHTML(t, page)
		}
	}
	const mismatch = "mismatch between the scopes in the install URL and the app's configured scopes"
	f(link("client_id", "-"), "client_id is missing or unknown")
	f(link("client_id", "<b>"), "client_id is missing or unknown")
	f(link("redirect_uri", "-"), "redirect_uri doesn't match")
	f(link("redirect_uri", "http://localhost:8080/cb/"), "redirect_uri doesn't match")
	f(link("redirect_uri", "https://shop.example/cb?from=hubspot&x=1"), "redirect_uri doesn't match")
	f(link("scope", "-"), mismatch)
	f(link("scope", readContacts), "Missing in scope: "+writeContacts)
	f(link("scope", strings.Join([]string{readContacts, writeContacts, "tickets"}, " ")), "Not required by the app: tickets")
	f(link("optional_scope", "tickets"), "Not optional in the app: tickets")
	f(link("optional_scope", readContacts), readContacts+" is both in scope and in optional_scope")
	f(link("response_type", "token"), "response_type")
	f(link("code_challenge", "x", "code_challenge_method", "plain"), "code_challenge_method is not S256")
	f(link("code_challenge", "x"), "code_challenge_method is not S256")
	f(link("code_challenge", "x", "code_challenge_method", "S256"), "no SHA-256")
	f(link("code_challenge_method", "S256"), "no SHA-256")
	f(strings.Replace(link(), "/oauth/", "/oauth/999/", 1), "no access to that account")

	g := func(target, form, want string) {
		t.Helper()
		if status, location, page := c.browse("POST", target, form); status != 400 || location != "" || !strings.Contains(page, want) {
			t.Errorf("%s: %d %q %s", form, status, location, page)
		}
	}
	g(link(), "hub=999&decision=grant", "no access to that account")
	g(link(), "decision=grant", "no access to that account")
	g(link(), "hub=1001", "neither grant nor deny")
	g(strings.Replace(link(), "/oauth/", "/oauth/1001/", 1), "hub=1002&decision=grant", "for another account")
}

// TestConsentOverHTTP: the same with a client that follows redirects as a browser does.
func TestConsentOverHTTP(t *testing.T) {
	var got url.Values
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.Query()
		io.WriteString(w, "back at the app")
	}))
	defer app.Close()
	mine := testApp()
	mine.RedirectURLs = []string{app.URL + "/cb"}
	hubspot := httptest.NewServer(New(Options{Apps: []App{mine}, Hubs: Hubs(1001, 1)}))
	defer hubspot.Close()
	resp, err := http.PostForm(hubspot.URL+link("redirect_uri", app.URL+"/cb"), url.Values{"hub": {"1001"}, "decision": {"grant"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if page, _ := io.ReadAll(resp.Body); string(page) != "back at the app" || got.Get("code") == "" || got.Get("state") != "s-1" {
		t.Errorf("%s, app got %v", page, got)
	}
}

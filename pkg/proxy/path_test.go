package proxy

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"eventrouter/pkg/config"
)

func TestPaths(t *testing.T) {
	f := func(raw string, ok bool) {
		t.Helper()
		if _, problem := splitPath(raw); (problem == "") != ok {
			t.Errorf("%q: got problem %q, want taken %v", raw, problem, ok)
		}
	}
	f("/crm/v3/objects/contacts", true)
	f("/crm/v3/objects/contacts/a%40one.co", true)
	f("/crm/v3/objects/contacts/a%20b%3Ac", true)
	f("/crm/objects/2026-03/0-1/1:2,3", true)
	f("", false)
	f("/", false)
	f("crm", false)
	f("/crm/", false)
	f("//crm", false)
	f("/crm//v3", false)
	f("/crm/./v3", false)
	f("/crm/../oauth", false)
	f("/crm/.../v3", false)
	f("/crm/%2e%2e/oauth", false)
	f("/crm/%2E./oauth", false)
	f("/crm%2fv3", false)
	f("/crm%2Fv3", false)
	f("/crm%5cv3", false)
	f(`/crm\v3`, false)
	f("/crm/%252e%252e/oauth", false)
	f("/%6fauth/v1/token", false)
	f("/crm;x=1/v3", false)
	f("/crm/a%3bb", false)
	f("/crm/a%3fb", false)
	f("/crm/a%23b", false)
	f("/crm/a%00b", false)
	f("/crm/a%0d%0ab", false)
	f("/crm/a%c0%afb", false)
	f("/crm/a%", false)
	f("/crm/a%4", false)
	f("/crm/a%zz", false)
	f("/crm/ä", false)
	f("/crm/a b", false)
	f("/crm/*", false)
	f("/"+strings.Repeat("x", maxPath), false)
}

func TestRules(t *testing.T) {
	f := func(allow, method, raw string, want bool) {
		t.Helper()
		segments, problem := splitPath(raw)
		rs, _, problems := compile(config.App{Name: "crm", Proxy: config.Proxy{Allow: strings.Split(allow, "|")}})
		if problem != "" || len(problems) > 0 {
			t.Fatalf("%s, %s: %s, %v", allow, raw, problem, problems)
		}
		if _, got := rs.find(method, segments); got != want {
			t.Errorf("%s: %s %s: got %v, want %v", allow, method, raw, got, want)
		}
	}
	f("GET /a/*", "GET", "/a/b", true)
	f("GET /a/*", "HEAD", "/a/b", true)
	f("GET /a/*", "POST", "/a/b", false)
	f("GET /a/*", "GET", "/a", false)
	f("GET /a/*", "GET", "/a/b/c", false)
	f("GET /a/*", "GET", "/A/b", false)
	f("GET /a/**", "GET", "/a/b/c", true)
	f("GET /a/**", "GET", "/a", false)
	f("ANY /a/*/c", "DELETE", "/a/b/c", true)
	f("ANY /a/*/c", "DELETE", "/a/b/d", false)
	f("contacts.read|GET /x", "GET", "/x", true)
	f("contacts.read", "GET", "/crm/v3/objects/contacts", true)
	f("contacts.read", "GET", "/crm/objects/2026-03/contacts/1", true)
	f("contacts.read", "POST", "/crm/v3/objects/0-1/search", true)
	f("contacts.read", "POST", "/crm/v3/objects/contacts", false)
	f("contacts.read", "GET", "/crm/v3/objects/companies", false)
	f("contacts.write", "POST", "/crm/v3/objects/contacts/merge", false)
	f("contacts.write", "POST", "/crm/v3/objects/contacts/gdpr-delete", false)
	f("contacts.write", "DELETE", "/crm/v3/objects/contacts/1", false)
	f("contacts.delete", "DELETE", "/crm/v3/objects/contacts/1", true)
	f("properties.read", "GET", "/crm/v3/properties/contacts", true)
	f("properties.read", "POST", "/crm/v3/properties/contacts", false)
	f("owners.read", "GET", "/crm/v3/owners", true)
	f("associations.read", "GET", "/crm/v4/objects/contacts/1/associations/companies", true)
	f("associations.read", "PUT", "/crm/v4/objects/contacts/1/associations/companies/2", false)
	f("associations.write", "PUT", "/crm/v4/objects/contacts/1/associations/default/companies/2", true)

	wrong := func(rule, want string) {
		t.Helper()
		problems := Check(config.App{Name: "crm", Proxy: config.Proxy{Allow: []string{rule}}})
		if got := problems.Error(); !strings.Contains(got, "apps.crm.proxy.allow[0]") || !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %q", rule, got, want)
		}
	}
	wrong("contact.read", "is it contacts.read?")
	wrong("everything", "is no preset")
	wrong("FETCH /a", "begins with no method")
	wrong("GET a", "must begin with a slash")
	wrong("GET /a*", "a whole part")
	wrong("GET /**/a", "only at its end")
	wrong("GET /a/", "slash at its end")
	wrong("GET /a%40b", "without escapes")
	wrong("POST /oauth/v1/token", "never forwarded")
	wrong("POST /OAuth/v1/x", "never forwarded")
}

// FuzzPath: what is taken means to net/http, and to who cleans paths or decodes them twice, what it means here; nothing that is not allowed passes, and nothing below /oauth.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{
		"/crm/v3/objects/contacts", "/crm/v3/objects/contacts/a%40one.co", "/crm/../oauth", "/crm/%2e%2e/oauth", "/crm%2foauth", "//oauth/v1/token", "/OAUTH/v1/token", "/crm/v3/objects/contacts/1;x",
		"/crm/v3/objects/contacts/1#x", "/crm/v3/objects/contacts?x", "/crm/v3/objects/contacts/%E2%80%AE", "/x:y@z/a", "/crm/v3/objects/contacts/a+b%2Bc",
	} {
		f.Add(seed, "limit=1&token=x")
	}
	everything := rules{{method: anyMethod, segments: []string{anyPart}, below: true}}
	contacts, _, _ := compile(config.App{Proxy: config.Proxy{Allow: []string{"contacts.read"}}})
	f.Fuzz(func(t *testing.T, raw, rawQuery string) {
		segments, problem := splitPath(raw)
		query, ok := cleanQuery(rawQuery, nil)
		if problem != "" || !ok {
			return
		}
		c := &call{method: http.MethodGet, path: raw, query: query, app: &app{App: App{Config: config.DefaultApp("crm")}}}
		req, err := newRequest(context.Background(), c, http.Header{}, nil, "t")
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if req.URL.Host != "api.hubapi.com" || req.URL.EscapedPath() != raw || req.URL.RawQuery != query || req.URL.Fragment != "" || req.URL.User != nil {
			t.Fatalf("%q?%q: HubSpot gets %s", raw, query, req.URL)
		}
		want := raw
		if query != "" {
			want += "?" + query
		}
		if req.URL.RequestURI() != want {
			t.Fatalf("%q: the request line has %q", want, req.URL.RequestURI())
		}
		decoded, err := url.PathUnescape(raw)
		if err != nil || decoded != req.URL.Path {
			t.Fatalf("%q: decoded %q, %v", raw, decoded, err)
		}
		if path.Clean(decoded) != decoded || path.Clean(raw) != raw {
			t.Fatalf("%q: a cleaner makes %q of it", raw, path.Clean(decoded))
		}
		if twice, err := url.PathUnescape(decoded); err == nil && twice != decoded {
			t.Fatalf("%q: decoded twice it is %q", raw, twice)
		}
		if parts := strings.Split(decoded[1:], "/"); len(parts) != len(segments) {
			t.Fatalf("%q: has %d parts here, and %d when it is decoded", raw, len(segments), len(parts))
		}
		if strings.HasPrefix(strings.ToLower(decoded), "/oauth") && !answersTokens(segments) && strings.HasPrefix(strings.ToLower(decoded)+"/", "/oauth/") {
			t.Fatalf("%q: is not held back", raw)
		}
		if _, ok := everything.find(c.method, segments); !ok {
			t.Fatalf("%q: a rule for everything does not match", raw)
		}
		if _, ok := contacts.find(c.method, segments); ok && !isContacts(segments) {
			t.Fatalf("%q: passes contacts.read", raw)
		}
		for name := range req.URL.Query() {
			if slices.Contains(secretArgs, strings.ToLower(name)) {
				t.Fatalf("%q: HubSpot gets %s", rawQuery, name)
			}
		}
	})
}

// isContacts says by itself whether a path is one of contacts, as contacts.read has them for GET.
func isContacts(segments []string) bool {
	joined := strings.Join(segments, "/")
	for _, base := range []string{"crm/v3/objects/contacts", "crm/v3/objects/0-1", "crm/objects/2026-03/contacts", "crm/objects/2026-03/0-1", "crm/objects/2026-09/contacts", "crm/objects/2026-09/0-1"} {
		if rest, ok := strings.CutPrefix(joined, base); ok && (rest == "" || rest[0] == '/' && !strings.Contains(rest[1:], "/")) {
			return true
		}
	}
	return false
}

// TestNoTokenPathPasses: whatever is allowed, what answers tokens is not called.
func TestNoTokenPathPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, []string{"ANY /**"})
		for _, path := range []string{
			"/oauth/v1/token", "/oauth/2026-03/token", "/OAuth/v1/access-tokens/x", "/oauth", "/oauth/v2/private-apps/get/access-token-info", "/conversations/v3/visitor-identification/tokens/create",
			"/x/oauth/y", "/crm/v3/refresh-tokens",
		} {
			for _, method := range []string{"GET", "POST"} {
				if a := r.as("a1", method, path, ""); a.status != 403 || len(r.sent) > 0 {
					t.Errorf("%s %s: got %d, %q", method, path, a.status, r.sent)
				}
			}
		}
		if a := r.as("a1", "GET", contactsPath, ""); a.status != 200 {
			t.Errorf("another path: got %d %s", a.status, a.body)
		}
	})
}

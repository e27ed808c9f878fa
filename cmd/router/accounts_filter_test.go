package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/seal"
)

// TestAccountFilters asks a router, by its commands and over HTTP, for what concerns one account: dead letters, events, lanes. It is told that and nothing of others, and a replay of one account's letters leaves the others'.
func TestAccountFilters(t *testing.T) {
	const redirect = "http://localhost:8001/connect/crm/callback"
	box := sandbox.New(sandbox.Options{Hubs: sandbox.Hubs(1001, 1), Apps: []sandbox.App{{
		ClientID: "client-1", ClientSecret: "client-secret-1", RedirectURLs: []string{redirect}, Scopes: []string{"crm.objects.contacts.read", "crm.objects.contacts.write", "crm.schemas.contacts.read"},
	}}})
	cfg, err := config.Parse("accounts.yaml", fmt.Appendf(nil, `
server: {data_dir: %s, min_free_bytes: 1MiB, admin_token: admin-secret, encryption: {key: %s}}
api_keys: [{id: app, server_secret: s2s.app}]
apps: {crm: {client_id: client-1, client_secret: client-secret-1, redirect_url: %q, scopes: [crm.objects.contacts.read, crm.objects.contacts.write, crm.schemas.contacts.read]}}
destinations:
  customers: {type: hubspot, connection: crm, account: "{{.tenant}}", unknown_account_ttl: 1s, hubspot: {}}
`, t.TempDir(), seal.NewKey(), redirect), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), box.RoundTripper())
	if err != nil {
		t.Fatal(err)
	}
	r := runService(t, srv, "0")
	command := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		if err := run(t.Context(), append(args, "--url", r.url, "--admin-token", "admin-secret"), &out, &errs); err != nil {
			t.Errorf("%s: %v %s", args, err, errs.String())
		}
		return out.String()
	}
	only := func(what, got, want, not string) {
		t.Helper()
		if !strings.Contains(got, want) || strings.Contains(got, not) {
			t.Errorf("%s: got\n%s\nwant %s in it and not %s", what, got, want, not)
		}
	}
	page := func(path string) string {
		t.Helper()
		status, answer := ask(t, "GET", r.url+path, "", "X-Admin-Token", "admin-secret")
		if status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, answer)
		}
		return answer
	}
	eventually := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(10 * time.Millisecond) { // real I/O
			if time.Now().After(deadline) {
				t.Fatalf("not after 20 s: %s\n%s", what, command("explain", "--person", "ada@example.com"))
			}
		}
	}
	for _, account := range []string{"a1", "a2"} {
		r.post("s2s.app", fmt.Sprintf(`{"event_id":"of-%s","event_type":"user_identify","tenant":%q,"user":{"email":"ada@example.com","firstname":"Ada of %s"}}`, account, account, account))
	}
	eventually("two dead letters", func() bool {
		return strings.Count(command("deadletters", "list", "--json"), `"reason":"unknown_account"`) == 2
	})

	only("deadletters list", command("deadletters", "list", "--account", "a1", "--json"), `"account":"a1"`, `"a2"`)
	only("GET deadletters", page(lettersPath+"?account=a2"), `"account":"a2"`, `"a1"`)
	only("explain", command("explain", "--person", "ada@example.com", "--account", "a1"), "account a1", "a2")
	only("GET explain", page(explainPath+"?person=ada@example.com&account=a2"), `"account":"a2"`, `"a1"`)
	only("lanes list", command("lanes", "list", "--account", "a1"), "a1", "a2")
	only("GET status", page(statusPath+"?account=a2"), `"a2"`, `"a1"`)
	only("forget", command("forget", "--user-id", "ada", "--api-key", "app", "--account", "a1", "--dry-run"), "app a1", "a2")

	link, _, err := srv.connected.Link("crm", "a1", "")
	if err != nil {
		t.Fatal(err)
	}
	visit := func(address string, cookies []*http.Cookie) *http.Response {
		req := httptest.NewRequest(http.MethodGet, address, nil)
		for _, c := range cookies {
			req.AddCookie(c)
		}
		w := httptest.NewRecorder()
		srv.connected.Handler().ServeHTTP(w, req)
		return w.Result()
	}
	begun := visit(link, nil)
	back, err := box.Consent(begun.Header.Get("Location"), "1001", true)
	if err != nil {
		t.Fatal(err)
	}
	visit(back, begun.Cookies())
	only("replay", command("deadletters", "replay", "--account", "a1"), "1", "2")
	eventually("a1's letter is replayed", func() bool { return len(box.Hub("1001").Contacts()) == 1 })
	if name := box.Hub("1001").Contacts()[0].Properties["firstname"]; name != "Ada of a1" {
		t.Errorf("the hub of a1 has a contact of %q", name)
	}
	only("what is left", command("deadletters", "list", "--json"), `"account":"a2"`, `"a1"`)
}

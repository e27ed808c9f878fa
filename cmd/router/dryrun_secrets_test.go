package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestDryRunsKeepSecrets: whoever holds the secret of a server reads with it neither who persons are nor what the configuration hides.
func TestDryRunsKeepSecrets(t *testing.T) {
	t.Setenv("HOOK_TOKEN", "env-s3cr3t-of-the-body")
	t.Setenv("PARTNER_KEY", "env-s3cr3t-of-the-script")
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer hook.Close()
	cfg, err := load(write(t, fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB, admin_token: letmein-admin}
api_keys: [{id: web, server_secret: s2s.x, client_secret: js.x}, {id: other, server_secret: s2s.other}]
destinations:
  hook:
    type: webhook
    only_tokens: [web]
    data_layout:
      transform: |
        if ($.event_type == "keep") { await $kv.set("who", $.user.email); return null }
        if ($.event_type == "who") return {...$, kept: await $kv.get("who")}
        if ($.event_type == "moved") return {...$, JITSU_ENVELOP: {url: "https://example.net/?api_key=literal-s3cr3t-1", headers: {Authorization: "Bearer literal-s3cr3t-2"}}}
        return {...$, partner: "${env.PARTNER_KEY}"}
    webhook:
      url: %s/in?key=url-s3cr3t-1
      allow_private: true
      secret: signing-s3cr3t-12345
      headers: {X-Partner: header-s3cr3t}
      body: '({token: "${env.HOOK_TOKEN}", event: $, signing: "signing-s3cr3t-12345"})'
`, t.TempDir(), hook.URL)))
	if err != nil {
		t.Fatal(err)
	}
	r := startService(t, cfg)
	r.post("s2s.x", `[{"event_id":"1","event_type":"keep","user":{"id":"u1","email":"ada@example.com"}},{"event_id":"2","event_type":"x","user":{"id":"u1","email":"ada@example.com"}}]`)
	r.settle()
	f := func(name, query, body string, status int, want string, not string, headers ...string) {
		t.Helper()
		got, answer := r.ask("/api/v1/events/dry-run"+query, body, headers...)
		if got != status || !strings.Contains(answer, want) || not != "" && strings.Contains(answer, not) {
			t.Errorf("%s: %d %s, want %d with %q and without %q", name, got, answer, status, want, not)
		}
	}
	admin := []string{"X-Admin-Token", "letmein-admin"}
	const byID, kept, whole = `{"event_type":"x","user":{"id":"u1"}}`, `{"event_type":"who","user":{"id":"u1"}}`, `{"event_type":"x","user":{"email":"b@b.co"}}`
	f("who an id is", "?token=s2s.x", byID, 200, "admin token", "ada@example.com")
	f("who an id is, for an administrator", "?token=s2s.x", byID, 200, `"remembered_email":"ada@example.com"`, "", admin...)
	f("what scripts keep", "?token=s2s.x", kept, 200, "admin token", "ada@example.com")
	f("what scripts keep, for an administrator", "?token=s2s.x", kept, 200, `"kept":"ada@example.com"`, "", admin...)
	f("which ids have come", "?token=s2s.x", `{"event_id":"2","event_type":"x"}`, 200, "admin token", `"duplicate":true`)
	f("another key's destination", "?token=s2s.other&destination_id=hook", whole, 400, "does not exist", "web")
	f("the same, for an administrator", "?token=s2s.other&destination_id=hook", whole, 200, "only events of these API keys go to it", "", admin...)
	for _, who := range [][]string{nil, admin} {
		f("secrets", "?token=s2s.x", whole, 200, `"token":"***"`, "s3cr3t", who...)
		f("secrets of an envelope", "?token=s2s.x", `{"event_type":"moved"}`, 200, `https://example.net/`, "s3cr3t", who...)
	}
}

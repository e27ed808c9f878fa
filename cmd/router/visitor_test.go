package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// request makes one and returns the answer's status and body; headers are pairs of name and value.
func (r *running) request(method, path, body string, headers ...string) (status int, answer string) {
	r.t.Helper()
	return ask(r.t, method, r.url+path, body, headers...)
}

// TestPoliciesHoldOnDisk: what a policy forbids, and what is a secret, is in no file, at no time. What is kept is found, so the search works.
func TestPoliciesHoldOnDisk(t *testing.T) {
	dir := t.TempDir()
	writeGeo(t, filepath.Join(dir, "City.mmdb")) // 81.2.69.0/24 is in the United Kingdom
	data := filepath.Join(dir, "data")
	cfg, err := config.Parse("test.yaml", fmt.Appendf(nil, `
server: {data_dir: %s, min_free_bytes: 1MiB, event_enrichment: {http_context: true}}
geo: {maxmind_path: %s}
api_keys: [{id: web, client_secret: js.websecret, server_secret: s2s.websecret}]
destinations:
  crm:
    type: hubspot
    hubspot: {access_token: %s, hub_id: %q, base_url: "http://127.0.0.1:1"}
`, data, dir, demoToken, demoHub), nil)
	if err != nil {
		t.Fatal(err)
	}
	run := startService(t, cfg)
	const address, kept = "81.2.69.142", "81.2.69.77"
	headers := []string{"X-Forwarded-For", address, "X-Real-Ip", address, "Cookie", "sid=sessionsecret; __eventn_id=cookieid", "User-Agent", "UA", "X-Auth-Token", "js.websecret"}
	policies := "cookie_policy=comply&ip_policy=comply"
	body := `{"event_type":"user_identify","user":{"email":"ada@example.com","anonymous_id":"cookieid"},"source_ip":"` + address + `","api_key":"js.websecret"}`
	for _, r := range []struct{ method, path, body string }{
		{"POST", "/api/v1/event?" + policies, body},
		{"POST", "/api/v1/events?" + policies, "[" + body + "]"},
		{"POST", "/v1/track?" + policies, `{"type":"track","event":"e","userId":"u","anonymousId":"cookieid","writeKey":"js.websecret","context":{"ip":"` + address + `","traits":{"email":"ada@example.com"}}}`},
		{"GET", "/api/v1/p.gif?token=js.websecret&user.email=ada%40example.com&" + policies, ""},
		{"GET", "/api/v1/p.gif?data=eyJ0b2tlbiI6ImpzLndlYnNlY3JldCIsInVzZXIiOnsiZW1haWwiOiJhZGFAZXhhbXBsZS5jb20ifX0&" + policies, ""},
	} {
		if status, answer := run.request(r.method, r.path, r.body, headers...); status != 200 {
			t.Fatalf("%s: %d %s", r.path, status, answer)
		}
	}
	run.request("POST", "/api/v1/event?token=js.websecret", `{"event_type":"t","user":{"email":"bob@example.com","anonymous_id":"keptid"}}`, "X-Forwarded-For", kept, "X-Plan", "keptheader")
	forbidden := []string{address, "cookieid", "sessionsecret", "websecret"}
	wanted := map[string]bool{kept: false, "keptid": false, "keptheader": false, "81.2.69.1": false}
	for range 2 {
		err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			for _, text := range forbidden {
				if bytes.Contains(content, []byte(text)) {
					t.Errorf("%s holds %s", filepath.Base(path), text)
				}
			}
			for text := range wanted {
				wanted[text] = wanted[text] || bytes.Contains(content, []byte(text))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		run.stop() // and once more when all is written
	}
	for text, found := range wanted {
		if !found {
			t.Errorf("no file holds %s", text)
		}
	}
}

// TestPixelReachesHubSpot: a pixel and an event of the older format from the request to HubSpot.
func TestPixelReachesHubSpot(t *testing.T) {
	box := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
	remote := httptest.NewServer(box)
	defer remote.Close()
	cfg, err := config.Parse("test.yaml", fmt.Appendf(nil, `
server: {data_dir: %s, min_free_bytes: 1MiB, event_enrichment: {http_context: true}}
api_keys: [{id: web, client_secret: js.web}]
destinations:
  crm:
    type: hubspot
    data_layout: {table_name_template: '$context.header("x-drop") ? "" : "x"'}
    hubspot: {access_token: %s, hub_id: %q, base_url: %s}
`, t.TempDir(), demoToken, demoHub, remote.URL), nil)
	if err != nil {
		t.Fatal(err)
	}
	run := startService(t, cfg)
	run.request("POST", "/api/v1/event?token=js.web",
		`{"event_type":"user_identify","eventn_ctx":{"user":{"email":"ada@example.com","firstname":"Ada","anonymous_id":"mail1"}}}`)
	run.request("GET", "/api/v1/p.gif?token=js.web&event_type=open_email&campaign=spring", "", "Cookie", "__eventn_id=mail1", "Referer", "https://mail.example.com/read?m=1")
	run.request("GET", "/api/v1/p.gif?token=js.web&event_type=dropped", "", "Cookie", "__eventn_id=mail1", "X-Drop", "1")
	run.settle()
	wantContact(t, box, "ada@example.com", map[string]string{"firstname": "Ada"})
	events := box.Events()
	if len(events) != 1 {
		t.Fatalf("HubSpot has %d events", len(events))
	}
	e := events[0]
	if e.Email != "ada@example.com" || e.Properties["campaign"] != "spring" || e.Properties["hs_page_url"] != "https://mail.example.com/read?m=1" {
		t.Errorf("HubSpot has the event %+v", e)
	}
	for name, value := range e.Properties {
		if strings.Contains(name+value, "js.web") || strings.Contains(name, "http") || strings.Contains(value, "127.0.0.1") {
			t.Errorf("HubSpot has %s: %s", name, value)
		}
	}
}

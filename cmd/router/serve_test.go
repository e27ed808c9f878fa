package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestWhoGetsWhat: only_tokens and staged, from a posted event to what each HubSpot account holds.
func TestWhoGetsWhat(t *testing.T) {
	text := fmt.Sprintf(`
server: {data_dir: %s, min_free_bytes: 1MiB}
api_keys:
  - {id: shop, server_secret: s2s.shop}
  - {id: blog, server_secret: s2s.blog}
destinations:
`, t.TempDir())
	hubs := map[string]*sandbox.Sandbox{}
	for name, more := range map[string]string{"all": "", "shop": "only_tokens: [shop]", "staged": "staged: true"} {
		hubs[name] = sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
		remote := httptest.NewServer(hubs[name])
		defer remote.Close()
		text += fmt.Sprintf("  %s:\n    type: hubspot\n    mode: stream\n    hubspot: {access_token: %s, hub_id: %s, base_url: %q}\n    %s\n",
			name, demoToken, demoHub, remote.URL, more)
	}
	cfg, err := load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	run := startService(t, cfg)
	for _, key := range []string{"shop", "blog"} {
		res, err := http.Post(run.url+"/s2s/event?token=s2s."+key, "application/json",
			strings.NewReader(`{"event_type":"user_identify","user":{"email":"`+key+`@example.com"}}`))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("an event of %s: %s", key, res.Status)
		}
	}
	run.settle()
	run.stop()

	f := func(hub string, want ...string) {
		t.Helper()
		var got []string
		for _, key := range []string{"shop", "blog"} {
			if _, ok := hubs[hub].Contact(key + "@example.com"); ok {
				got = append(got, key)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("destination %s got events of %v, want %v", hub, got, want)
		}
	}
	f("all", "shop", "blog")
	f("shop", "shop")
	f("staged")
}

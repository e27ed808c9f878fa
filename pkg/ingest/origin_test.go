package ingest

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"eventrouter/pkg/config"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestEnforcedOrigins(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	o.APIKeys[0].EnforceOrigins = true // *example.com, good.io
	url := start(t, o)
	// f posts with headers and wants the event stored or refused.
	f := func(stored bool, path string, headers ...string) {
		t.Helper()
		res := send(t, "POST", url+path, []byte(`{"event_type":"x"}`), headers...)
		want := 403
		if stored {
			want = 200
		}
		if n := len(log.take(t)); res.status != want || (n == 1) != stored {
			t.Errorf("%s with %q: got %d %s, stored %d", path, headers, res.status, res.body, n)
		}
		if !stored && !strings.Contains(res.body, `"Events from this origin are not accepted"`) {
			t.Errorf("got %s", res.body)
		}
	}
	const browser, random, open, server = "/api/v1/event?token=js.client", "/api.x?p_1=js.client", "/api/v1/event?token=js.open", "/s2s/event?token=s2s.secret"
	f(true, browser, "Origin", "https://www.example.com")
	f(true, browser, "Origin", "https://example.com:8443")
	f(true, random, "Origin", "http://GOOD.io")
	f(false, browser, "Origin", "https://notexample.com")
	f(false, browser, "Origin", "https://example.com.evil.org")
	f(false, browser, "Origin", "https://evil.org/example.com")
	f(false, random, "Origin", "https://evil.org")
	f(false, browser, "Origin", "null")
	f(false, browser, "Origin", "https://evil.org", "Referer", "https://good.io/") // Origin counts
	f(true, browser, "Origin", "https://good.io", "Referer", "https://evil.org/")
	f(true, browser, "Referer", "https://good.io/page?from=https://evil.org/")
	f(false, browser, "Referer", "https://evil.org/page?from=https://good.io/")
	f(false, browser, "Referer", "https://good.io@evil.org/")
	f(false, browser, "Referer", "https://good.io:x@evil.org/")
	f(true, browser, "Referer", "https://user:x@good.io/")
	f(true, browser, "Origin", "https://good.io.") // the same host, with the dot of the root
	f(false, browser, "Origin", "https://good.io..")
	f(false, browser, "Referer", "https://evil.org?https://good.io/")
	f(false, browser, "Referer", "https://evil.org#good.io")
	f(false, browser, "Referer", "good.io.evil.org")
	f(false, browser) // no page of a browser, or one that hides where it is
	f(true, open)     // a key that does not enforce them
	f(true, open, "Origin", "https://evil.org")
	f(true, server) // servers have no origin
	f(true, server, "Origin", "https://evil.org")
}

// Whoever asks chooses how the router's name is written: that must not widen {{APP_TLD}}.
func TestOwnSiteOrigins(t *testing.T) {
	f := func(want bool, rule, origin, host string) {
		t.Helper()
		src := source{origins: []originRule{newOriginRule(rule)}}
		if got := src.allows([]byte(origin), []byte(host)); got != want {
			t.Errorf("%s: page %s, router %s: %v", rule, origin, host, got)
		}
	}
	for _, rule := range []string{"{{APP_TLD}}", "*.{{APP_TLD}}"} {
		for _, host := range []string{"events.good.io", "events.good.io:8443", "events.good.io.", "EVENTS.GOOD.IO.:443"} {
			f(true, rule, "https://www.good.io", host)
			f(true, rule, "https://www.good.io.", host)
			f(false, rule, "https://evil.io", host)
			f(false, rule, "https://evil.io.", host)
			f(false, rule, "https://www.evil.io.", host)
		}
		f(false, rule, "https://evil.io", ".")
		f(false, rule, "https://evil.io", "..")
		f(false, rule, "", "")
	}
	f(true, "{{APP_TLD}}", "http://[2001:db8::1]:80", "[2001:db8::1]:8000")
	f(false, "{{APP_TLD}}", "http://[::ffff:9.9.2.1]", "[::ffff:1.2.2.1]")
}

// Each secret of a list is valid. The use of an older one is counted, and logged once without showing it.
func TestSecretsWhileTheyChange(t *testing.T) {
	var out bytes.Buffer
	reg := prometheus.NewRegistry()
	o := testOptions(&memoryLog{})
	o.Logger, o.Registerer = slog.New(slog.NewTextHandler(&out, nil)), reg
	o.APIKeys = []config.APIKey{
		{
			ID: "web", ClientSecret: "js.new", OldClientSecrets: []config.Secret{"js.old", "js.older"},
			ServerSecret: "s2s.new", OldServerSecrets: []config.Secret{"s2s.old"},
		},
		{ID: "other", ClientSecret: "js.other"},
	}
	s := newServer(t, o)
	post := func(path string, status int) {
		t.Helper()
		if got := handle(s, "POST", path, `{"event_type":"x"}`).StatusCode(); got != status {
			t.Errorf("%s: got %d, want %d", path, got, status)
		}
	}
	for range 3 {
		post("/api/v1/event?token=js.new", 200)
		post("/api/v1/event?token=js.old", 200)
		post("/api/v1/event?token=js.older", 200)
		post("/s2s/event?token=s2s.new", 200)
		post("/s2s/event?token=s2s.old", 200)
	}
	post("/s2s/event?token=js.old", 401)
	post("/api/v1/event?token=s2s.old", 401)
	post("/api/v1/event?token=js.other", 200)
	const want = `
# HELP router_old_secret_used_total Requests with a secret of the API key that is not the first of its list.
# TYPE router_old_secret_used_total counter
router_old_secret_used_total{api_key="web"} 9
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "router_old_secret_used_total"); err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "an older secret of an API key is still in use"); n != 1 || strings.Contains(out.String(), "old\"") || strings.Contains(out.String(), "s.old") {
		t.Errorf("logged %d times:\n%s", n, out.String())
	}

	o.APIKeys[0].OldClientSecrets = nil
	s.SetSources(o.APIKeys, o.Destinations)
	post("/api/v1/event?token=js.old", 401)
	post("/s2s/event?token=s2s.old", 200)
}

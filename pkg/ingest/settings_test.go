package ingest

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMessageCORS(t *testing.T) {
	base := start(t, testOptions(&memoryLog{}))
	const headers = "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, Host, X-Auth-Token, X-Write-Key, X-IP-Policy, X-Retry-Count, AnonymousId, Content-Encoding"
	f := func(method, path, origin, wantOrigin, wantHeaders string, more ...string) {
		t.Helper()
		got := send(t, method, base+path, []byte(`{"type":"page"}`), append(more, "Origin", origin)...)
		gotOrigin, gotHeaders := got.header.Get("Access-Control-Allow-Origin"), got.header.Get("Access-Control-Allow-Headers")
		if gotOrigin != wantOrigin || gotHeaders != wantHeaders || method == "OPTIONS" && got.status != 200 {
			t.Errorf("%s %s from %s: got %d, origin %q, headers %q", method, path, origin, got.status, gotOrigin, gotHeaders)
		}
	}
	const ours, foreign = "https://app.example.com", "https://elsewhere.io"
	for _, path := range []string{"/v1/t", "/v1/track", "/v1/batch", "/api/s/track", "/api/s/event"} {
		f("OPTIONS", path, foreign, foreign, headers) // nobody knows whose key will come
		f("OPTIONS", path+"?writekey=key1:js.client", foreign, "", headers)
		f("POST", path, ours, ours, headers, "Authorization", basic("js.client", ""))
		f("POST", path, foreign, "", headers, "Authorization", basic("js.client", ""))
		f("POST", path, foreign, foreign, headers)
	}
	f("OPTIONS", "/api/s/s2s/track", ours, "", "")
	f("OPTIONS", "/api/v1/segment", ours, "", "")
	f("POST", "/api/v1/segment", ours, "", "", "X-Auth-Token", "s2s.secret")
}

// TestSegmentSettings: what Segment's library for browsers asks for.
func TestSegmentSettings(t *testing.T) {
	base := start(t, testOptions(&memoryLog{}))
	got := send(t, "GET", base+"/v1/projects/js.client/settings", nil, "Origin", "https://app.example.com", "X-Forwarded-Proto", "https")
	if got.status != 200 || got.header.Get("Access-Control-Allow-Origin") != "https://app.example.com" {
		t.Fatalf("got %d %s, %q", got.status, got.body, got.header)
	}
	var settings struct {
		Integrations map[string]struct{ APIKey, APIHost, Protocol string }
		Metrics      struct {
			SampleRate *float64
			Host       string
		}
	}
	if err := json.Unmarshal([]byte(got.body), &settings); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(base, "http://") + "/v1"
	if in := settings.Integrations["Segment.io"]; len(settings.Integrations) != 1 || in.APIKey != "js.client" || in.APIHost != host || in.Protocol != "https" {
		t.Errorf("got %s", got.body)
	}
	if m := settings.Metrics; m.SampleRate == nil || *m.SampleRate != 0 || m.Host != host {
		t.Errorf("the library would measure itself: %s", got.body)
	}
	if got := send(t, "GET", base+"/v1/projects/js.client/settings/", nil); !strings.Contains(got.body, `"protocol":"http"`) {
		t.Errorf("without TLS: %s", got.body)
	}
	for _, path := range []string{"/v1/projects/s2s.secret/settings", "/v1/projects/nobody/settings"} {
		got := send(t, "GET", base+path, nil, "Origin", "https://x.io")
		if want := `{"message":"The write key is not found","error":"it is the client_secret of no API key"}`; got.status != 404 || got.body != want {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	for _, path := range []string{"/v1/projects/js.client", "/v1/projects/settings", "/v1/projects/a/b/settings", "/v1/projects/js.client/settings/x"} {
		if got := send(t, "GET", base+path, nil); got.status != 404 || got.body != "404 page not found" {
			t.Errorf("%s: got %d %s", path, got.status, got.body)
		}
	}
	if got := send(t, "POST", base+"/v1/m", []byte(`{"series":[]}`), "Origin", "https://x.io"); got.status != 200 || got.body != `{"success":true}` ||
		got.header.Get("Access-Control-Allow-Origin") != "https://x.io" {
		t.Errorf("measurements: got %d %s", got.status, got.body)
	}
	if got := send(t, "OPTIONS", base+"/v1/m", nil, "Origin", "https://x.io"); got.status != 200 {
		t.Errorf("preflight of measurements: %d", got.status)
	}
}

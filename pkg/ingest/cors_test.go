package ingest

import "testing"

func TestOriginRules(t *testing.T) {
	f := func(pattern, origin string, want bool) {
		t.Helper()
		r := newOriginRule(pattern)
		if got := r.matches(bareHost([]byte(origin)), []byte("track.mine.io:8001")); got != want {
			t.Errorf("%q matches %q: got %v, want %v", pattern, origin, got, want)
		}
	}
	f("good.io", "https://good.io", true)
	f("good.io", "http://GOOD.io:8080", true)
	f("https://good.io:443", "http://good.io", true)
	f("good.io", "https://www.good.io", false)
	f("good.io", "https://good.io.evil.com", false)
	f("good.io", "null", false)
	f("good.io", "", false)

	f("*example.com", "https://example.com", true)
	f("*example.com", "https://app.example.com", true)
	f("*example.com", "https://a.b.example.com:1", true)
	f("*example.com", "https://notexample.com", false)
	f("*example.com", "https://example.com.evil.io", false)
	f("*.example.com", "https://app.example.com", true)
	f("*.example.com", "https://a.b.example.com", true)
	f("*.example.com", "https://example.com", false)
	f("*.example.com", "https://notexample.com", false)
	f("*.example.com", "https://example.com.example.com", true)

	f("example*", "https://example.org", true)
	f("example*", "https://examples.org", true)
	f("example*", "https://www.example.org", false)
	f("*example*", "https://www.example.org", true)
	f("*example*", "https://www.notexample.org", false)
	f("*.example.*", "https://www.example.org", true)
	f("*.example.*", "https://example.org", false)
	f("*", "https://anything.io", true)
	f("*", "null", true)
	f("localhost", "http://localhost:3000", true)
	f("[::1]", "http://[::1]:3000", true)
	f("[::1]", "http://[::1", false)

	f("{{APP_TLD}}", "https://www.mine.io", true)
	f("{{APP_TLD}}", "https://notmine.io", false)
	f("*.{{APP_TLD}}", "https://www.mine.io", true)
	f("*.{{APP_TLD}}", "https://mine.io", false)
	f("*.{{APP_TLD}}", "https://notmine.io", false)
}

// A preflight and every answer of a browser's route carry the headers: an SDK must be able to read a refusal.
func TestCORSAnswers(t *testing.T) {
	base := start(t, testOptions(&memoryLog{}))
	f := func(method, path, body string, status int, origin, want string) {
		t.Helper()
		got := send(t, method, base+path, []byte(body), "Origin", origin)
		if acao := got.header.Get("Access-Control-Allow-Origin"); got.status != status || acao != want {
			t.Errorf("%s %s from %s: got %d for %q, want %d for %q", method, path, origin, got.status, acao, status, want)
		}
		if got.header.Get("Access-Control-Max-Age") != "86400" || got.header.Get("Vary") != "Origin" {
			t.Errorf("%s %s from %s: headers %v", method, path, origin, got.header)
		}
	}
	f("OPTIONS", "/api/v1/event?token=js.client", "", 200, "https://app.example.com", "https://app.example.com")
	f("OPTIONS", "/api/v1/event?token=js.client", "", 200, "https://evil.io", "")
	f("OPTIONS", "/api.x?p_y=js.client", "", 200, "https://evil.io", "")
	f("OPTIONS", "/api/v1/events?token=guess", "", 200, "https://evil.io", "https://evil.io")
	f("POST", "/api/v1/event?token=js.client", "{}", 200, "https://good.io", "https://good.io")
	f("POST", "/api/v1/event?token=js.client", "{}", 200, "https://evil.io", "")
	f("POST", "/api/v1/event?token=js.client", "{", 400, "https://good.io", "https://good.io")
	f("POST", "/api/v1/event?token=guess", "{}", 401, "https://good.io", "https://good.io")
	f("POST", "/api/v1/event?token=s2s.secret", "{}", 401, "https://evil.io", "")
	f("POST", "/api.x?p_y=js.open", "null", 400, "http://any.io", "http://any.io")
}

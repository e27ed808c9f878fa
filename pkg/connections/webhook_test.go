package connections

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func sign(secret, method, address, body, stamp string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(method + address + body + stamp))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// post posts what HubSpot would.
func (r *rig) post(body string, change func(*http.Request)) answer {
	req := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8001/connect/crm/hubspot", strings.NewReader(body))
	stamp := strconv.FormatInt(time.Now().UnixMilli(), 10)
	req.Header.Set("X-HubSpot-Request-Timestamp", stamp)
	req.Header.Set("X-HubSpot-Signature-v3", sign(secretText, "POST", home+"hubspot", body, stamp))
	if change != nil {
		change(req)
	}
	return serve(r.s.Handler(), req)
}

// TestUninstalledInHubSpot takes the word of HubSpot's webhook, as the sandbox posts it.
func TestUninstalledInHubSpot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		r.mustConnect("a2", hubA)
		r.mustConnect("a3", hubB)
		if err := r.hub.Uninstall("", hubA); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for account, want := range map[string]Status{"a1": ReconnectNeeded, "a2": ReconnectNeeded, "a3": Connected} {
			if got := r.status(account); got != want {
				t.Errorf("%s: got %q, want %q\n%s", account, got, want, r.logged())
			}
		}
		if _, err := r.token(); !isBlocked(err) || !strings.Contains(err.Error(), "uninstalled") || r.s.Hub("crm", "a1") != hubA {
			t.Errorf("got %v, hub %q", err, r.s.Hub("crm", "a1"))
		}
	})
}

func TestWebhookIsChecked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		uninstall := fmt.Sprintf(`[{"portalId":1001,"eventTypeId":"4-1916193","occurredAt":%d}]`, time.Now().Add(time.Minute).UnixMilli())
		at := func(d time.Duration) func(*http.Request) {
			return func(req *http.Request) {
				stamp := strconv.FormatInt(time.Now().Add(d).UnixMilli(), 10)
				req.Header.Set("X-HubSpot-Request-Timestamp", stamp)
				req.Header.Set("X-HubSpot-Signature-v3", sign(secretText, "POST", home+"hubspot", uninstall, stamp))
			}
		}
		header := func(name, value string) func(*http.Request) {
			return func(req *http.Request) { req.Header.Set(name, value) }
		}
		f := func(name, body string, change func(*http.Request), status int) {
			t.Helper()
			if a := r.post(body, change); a.status != status {
				t.Errorf("%s: got %d %s, want %d", name, a.status, a.body, status)
			}
			if r.status("a1") != Connected {
				t.Fatalf("%s: status %q", name, r.status("a1"))
			}
		}
		f("no signature", uninstall, header("X-HubSpot-Signature-v3", ""), 401)
		f("another signature", uninstall, header("X-HubSpot-Signature-v3", sign("x", "POST", home+"hubspot", uninstall, "1")), 401)
		f("no base64", uninstall, header("X-HubSpot-Signature-v3", "%%%"), 401)
		f("no time", uninstall, header("X-HubSpot-Request-Timestamp", ""), 401)
		f("another time", uninstall, header("X-HubSpot-Request-Timestamp", strconv.FormatInt(time.Now().UnixMilli()-1, 10)), 401)
		f("too old", uninstall, at(-signatureAge-time.Second), 401)
		f("from the future", uninstall, at(signatureAge+time.Second), 401)
		f("another address", uninstall, func(req *http.Request) { req.RequestURI += "?a=b" }, 401)
		f("GET", uninstall, func(req *http.Request) { req.Method = http.MethodGet }, 404)
		f("no JSON", `[`, nil, 400)
		f("no list", `"x"`, nil, 400)
		f("too many", `[`+strings.Repeat(`{},`, maxWebhookList)+`{}]`, nil, 400)
		f("too large", `[`+strings.Repeat(` `, maxWebhook)+`]`, nil, 413)
		f("nothing", `[]`, nil, 204)
		f("another event", `[{"portalId":1001,"subscriptionType":"contact.creation"}]`, nil, 204)
		f("an install", `[{"portalId":1001,"eventTypeId":"4-1909196","subscriptionType":"APP_LIFECYCLE_EVENT"}]`, nil, 204)
		f("another hub", `[{"portalId":77,"eventTypeId":"4-1916193"}]`, nil, 204)
		f("of before it connected", fmt.Sprintf(`[{"portalId":1001,"eventTypeId":"4-1916193","occurredAt":%d}]`, time.Now().Add(-time.Minute).UnixMilli()), nil, 204)
		if a := r.post(uninstall, nil); a.status != 204 || r.status("a1") != ReconnectNeeded {
			t.Errorf("right: got %d %s, status %q", a.status, a.body, r.status("a1"))
		}
		if a := r.post(uninstall, nil); a.status != 204 {
			t.Errorf("once more: got %d", a.status)
		}
	})
}

func TestSignedAddress(t *testing.T) {
	body, now := `[]`, time.Now()
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	header := http.Header{}
	header.Set("X-HubSpot-Request-Timestamp", stamp)
	header.Set("X-HubSpot-Signature-v3", sign("s", "POST", "https://x.example/a:b?q=(1)&r=%20", body, stamp))
	if err := checkSignature("s", "POST", "https://x.example/a%3Ab?q=%281%29&r=%20", []byte(body), header, now); err != nil {
		t.Error(err)
	}
}

func FuzzDecodeWebhook(f *testing.F) {
	f.Add([]byte(`[{"portalId":1001,"eventTypeId":"4-1916193","occurredAt":1700000000000}]`))
	f.Add([]byte(`{"hubId":"1001","subscriptionType":"app.uninstalled","occurredAt":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`[{"portalId":-1e400},null,{"occurredAt":{}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		found, err := decodeWebhook(body)
		if err != nil && found != nil {
			t.Errorf("%q: got both", body)
		}
		for _, u := range found {
			if !digits.MatchString(u.hub) {
				t.Errorf("%q: hub %q", body, u.hub)
			}
		}
	})
}

// FuzzPages gives the pages whatever a browser, or somebody who is not HubSpot, may send.
func FuzzPages(f *testing.F) {
	f.Add("start", "link=AAAA", "", "", "")
	f.Add("callback", "state=AQ&code=x", "", "", "")
	f.Add("callback", "state=%00&error=access_denied", "", "", "")
	f.Add("hubspot", "a=%3A", `[{"portalId":1001,"eventTypeId":"4-1916193"}]`, "AAAA", "1700000000000")
	f.Add("../x", "a=%zz", "", "", "")
	ring := fuzzRing(f)
	at := time.UnixMilli(1700000000000)
	s := &Service{opts: Options{Now: func() time.Time { return at }}, box: ring.Box("connections"), apps: map[string]*app{"crm": newApp(fuzzApp())}}
	var err error
	if s.metrics, err = newMetrics(prometheus.NewRegistry(), s); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, page, query, body, signature, stamp string) {
		req := httptest.NewRequest(http.MethodGet, "https://events.example.com/connect/crm/start", strings.NewReader(body))
		req.URL.Path, req.URL.RawQuery, req.RequestURI = "/connect/crm/"+page, query, "/connect/crm/"+page+"?"+query
		if body != "" {
			req.Method = http.MethodPost
			req.Header.Set("X-HubSpot-Signature-v3", signature)
			req.Header.Set("X-HubSpot-Request-Timestamp", stamp)
		}
		a := serve(s.Handler(), req) // which has no store: nothing of it may be needed
		if a.location != "" || a.status < 400 {
			t.Errorf("%s?%s: got %d %q", page, query, a.status, a.location)
		}
	})
}

// FuzzReturnURL holds that every address that browsers may be sent to begins as the configuration says.
func FuzzReturnURL(f *testing.F) {
	for _, seed := range []string{returns, returns + "/a?b=c", "https://app.example.com@evil.example/settings", "https://app.example.com/settings/..;/x", home + "portal?token=x", "javascript:alert(1)"} {
		f.Add(seed)
	}
	cfg := fuzzApp()
	cfg.ReturnURLs = []string{returns}
	ap := newApp(cfg)
	sound := regexp.MustCompile(`^((?i:https://app\.example\.com)/settings|(?i:https://events\.example\.com)/connect/crm/portal)([/?][!-\[\]-~]*)?$`)
	f.Fuzz(func(t *testing.T, text string) {
		if ap.mayReturn(text) && !sound.MatchString(text) {
			t.Errorf("%q is allowed", text)
		}
	})
}

// FuzzAnswers gives HubSpot's answers about tokens in any form.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","refresh_token":"r","expires_in":1800,"hub_id":1001,"hub_domain":"acme.com","scopes":["oauth"]}`))
	f.Add([]byte(`{"hub_id":1001,"hub_domain":"<script>\u202e acme.com"}`))
	f.Add([]byte(`{"access_token":1,"expires_in":"-1e999","hub_id":"1001","scopes":"a b"}`))
	f.Add([]byte(`27700000000`)) // seconds that do not fit into a time.Duration
	f.Add([]byte(`{"status":"BAD_REFRESH_TOKEN","error":"invalid_grant","correlationId":"0-0-0-0-0"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readAnswer(data)
		if life := lifetime(a.ExpiresIn); life < shortestLife || life > longestLife {
			t.Errorf("%q: a life of %v", data, life)
		}
		if hub := hubName(unquoted(a.HubID)); hub != "" && !digits.MatchString(hub) {
			t.Errorf("%q: hub %q", data, hub)
		}
		if d := hubDomain(a.HubDomain); len(d) > 253 || strings.ContainsFunc(d, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`<>&"'()/`, c) }) {
			t.Errorf("%q: domain %q", data, d)
		}
		if err != nil && len(data) > 40 && strings.Contains(err.Error(), string(data)) {
			t.Errorf("the error quotes the answer: %v", err)
		}
		r := refused(&http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{"Retry-After": {string(data)}}}, data)
		if r.code != "" && !knownCodes[r.code] || r.correlation != "" && !correlationID.MatchString(r.correlation) || r.after < 0 || r.after > 24*time.Hour {
			t.Errorf("%q: got %+v", data, r)
		}
	})
}

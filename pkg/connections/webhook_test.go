package connections

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
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

// FuzzPages gives the pages whatever a browser may send.
func FuzzPages(f *testing.F) {
	for _, seed := range [][2]string{{"start", "link=AAAA"}, {"callback", "state=AQ&code=x"}, {"callback", "state=%00&error=access_denied"}, {"hubspot", ""}, {"../x", "a=%zz"}} {
		f.Add(seed[0], seed[1])
	}
	ring := fuzzRing(f)
	s := &Service{opts: Options{Now: time.Now}, box: ring.Box("connections"), apps: map[string]*app{"crm": newApp(fuzzApp())}}
	f.Fuzz(func(t *testing.T, page, query string) {
		req := httptest.NewRequest(http.MethodGet, "https://events.example.com/connect/crm/start", nil)
		req.URL.Path, req.URL.RawQuery = "/connect/crm/"+page, query
		if page == "callback" {
			return // without a store it is asked only for states that open, which none does: see open
		}
		a := serve(s.Handler(), req)
		if a.location != "" || a.status < 400 {
			t.Errorf("%s?%s: got %d %q", page, query, a.status, a.location)
		}
		var st state
		if s.open(kindState, "crm", query, &st) {
			t.Errorf("%q opens", query)
		}
	})
}

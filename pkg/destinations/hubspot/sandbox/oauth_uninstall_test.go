package sandbox

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"
)

// appServer takes webhooks as an app does; answers is what it says, 200 when they are used up.
type appServer struct {
	mu      sync.Mutex
	answers []int
	got     []received
}

func (a *appServer) list() []received {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

type received struct {
	at     time.Time
	url    string
	header http.Header
	body   []byte
}

func (a *appServer) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.got = append(a.got, received{time.Now(), r.URL.String(), r.Header, body})
	status := 200
	if len(a.answers) > 0 {
		status, a.answers = a.answers[0], a.answers[1:]
	}
	if status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(nil))}, nil
}

// TestUninstallWebhook: the app is told, signed, and again until it says that it has taken the event.
func TestUninstallWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testApp()
		a.ClientID, a.WebhookURL, a.ID = "told", "https://shop.example/hook%2Fa?x=%3F", 77
		server := &appServer{answers: []int{503, 0}}
		c := newOAuthClient(t, Options{Apps: []App{a}, Webhooks: server})
		_, answer := c.exchange(c.code("1001", "client_id", "told"), "client_id", "told")
		began := time.Now()
		if err := c.Uninstall("told", "1001"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if status, _ := c.as(answer.Get("access_token").Str, "GET", contactsPath, ""); status != 401 || len(server.list()) != 1 {
			t.Fatalf("%d, %d webhooks", status, len(server.list()))
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		list := server.list()
		if len(list) != 3 {
			t.Fatalf("%d webhooks, want 3: one that failed, one without an answer, one taken", len(list))
		}
		for i, wait := range []time.Duration{0, time.Minute, 3 * time.Minute} {
			got := list[i]
			event := gjson.ParseBytes(got.body).Get("0")
			if got.at.Sub(began) != wait || event.Get("attemptNumber").Int() != int64(i) || event.Get("portalId").Int() != 1001 || event.Get("appId").Int() != 77 ||
				event.Get("subscriptionType").Str != "APP_LIFECYCLE_EVENT" || event.Get("eventTypeId").Str != "4-1916193" || event.Get("occurredAt").Int() != began.UnixMilli() {
				t.Errorf("after %s: %s", got.at.Sub(began), got.body)
			}
			at := got.header.Get("X-HubSpot-Request-Timestamp")
			if want := signatureV3("csecret", "POST", "https://shop.example/hook/a?x=?", got.body, at); got.header.Get("X-HubSpot-Signature-v3") != want {
				t.Errorf("signature %q, want %q", got.header.Get("X-HubSpot-Signature-v3"), want)
			}
		}
	})
}

// TestSignatureV3 compares with a value that openssl made.
func TestSignatureV3(t *testing.T) {
	// printf 'POSThttps://shop.example/hook?a=b[]1700000000000' | openssl dgst -sha256 -hmac csecret -binary | base64
	const want = "pAy32mmNr1sv9E/cyMGtAAhuXdE6BiSMDNO88UKElKs="
	if got := signatureV3("csecret", "POST", "https://shop.example/hook?a=b", []byte("[]"), "1700000000000"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestIntrospectAndRevoke: both generations tell of a token and end it; access tokens outlive the refresh token.
func TestIntrospectAndRevoke(t *testing.T) {
	c := newOAuthClient(t, Options{})
	access, refresh := c.install("1001")
	f := func(path, field, token, want string) {
		t.Helper()
		status, answer := c.post(path, field, token)
		got := answer.Get("token_use").Str
		if !answer.Get("active").Bool() {
			got = "inactive"
		}
		if status != 200 || got != want || want != "inactive" && (answer.Get("hub_id").Int() != 1001 || answer.Get("client_id").Str != "cid" || all(answer, "scopes") == "") {
			t.Errorf("%s %s: %d %s, want %s", path, field, status, answer.Raw, want)
		}
	}
	f("/oauth/2026-03/token/introspect", "token", access, "access_token")
	f("/oauth/2026-09/token/introspect", "token", refresh, "refresh_token")
	f("/oauth/2026-03/token/introspect", "access_token", access, "access_token")
	f("/oauth/2026-03/token/introspect", "refresh_token", refresh, "refresh_token")
	f("/oauth/2026-03/token/introspect", "token", "na1-wrong", "inactive")
	if status, answer := c.post("/oauth/2026-03/token/introspect", "token", access, "client_secret", "wrong"); status != 400 || answer.Get("status").Str != "BAD_CLIENT_SECRET" {
		t.Errorf("%d %s", status, answer.Raw)
	}
	if status, answer := c.post("/oauth/2026-03/token/introspect"); status != 400 {
		t.Errorf("without a token: %d %s", status, answer.Raw)
	}
	for _, path := range []string{"/oauth/v1/access-tokens/" + access, "/oauth/v1/refresh-tokens/" + refresh} {
		if answer := c.must(200, "GET", path, ""); answer.Get("hub_id").Int() != 1001 || answer.Get("token").Str == "" || answer.Get("app_id").Int() != defaultAppID {
			t.Errorf("%s: %s", path, answer.Raw)
		}
	}
	c.must(404, "GET", "/oauth/v1/refresh-tokens/"+access, "")
	for _, call := range c.Calls() {
		if strings.Contains(call.Path, access) || strings.Contains(call.Path, refresh) {
			t.Errorf("the list of calls holds a token: %s", call.Path)
		}
	}

	if status, _ := c.post("/oauth/2026-03/token/revoke", "token", refresh); status != 200 {
		t.Errorf("revoke: %d", status)
	}
	f("/oauth/2026-03/token/introspect", "token", refresh, "inactive")
	if status, _ := c.as(access, "GET", contactsPath, ""); status != 200 {
		t.Errorf("the access token: %d", status)
	}
	if in := c.Installs(); len(in) != 1 || in[0].CanRefresh || in[0].AccessTokens != 1 {
		t.Errorf("%+v", in)
	}
	_, second := c.install("1001")
	if second == refresh {
		t.Error("who connects again gets the revoked refresh token")
	}
	c.must(204, "DELETE", "/oauth/v1/refresh-tokens/"+second, "")
	c.must(404, "DELETE", "/oauth/v1/refresh-tokens/"+second, "")
	if status, _ := c.as(access, "DELETE", "/appinstalls/2026-03/external-install", ""); status != 204 || len(c.Installs()) != 0 {
		t.Errorf("%d, %v", status, c.Installs())
	}
	if status, _ := c.as("pat-na1-test", "DELETE", "/appinstalls/v3/external-install", ""); status != 403 {
		t.Errorf("a private app's token: %d", status)
	}
}

// TestProviderFaults: the token endpoint fails for all hubs or for one, and other calls of one hub alone.
func TestProviderFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newOAuthClient(t, Options{RotateRefreshTokens: true})
		access1, refresh1 := c.install("1001")
		access2, refresh2 := c.install("1002")
		clear := c.Inject(Fault{Endpoint: "oauth/token", Status: 503})
		for _, token := range []string{refresh1, refresh2} {
			if status, _ := c.refresh(token); status != 503 {
				t.Errorf("down for all: %d", status)
			}
		}
		clear()
		clear = c.Hub("1001").Inject(Fault{Endpoint: "oauth", Status: 429, Delay: 3 * time.Second})
		began := time.Now()
		if status, answer := c.refresh(refresh1); status != 429 || time.Since(began) != 3*time.Second {
			t.Errorf("slow and busy for one: %d %s after %s", status, answer.Raw, time.Since(began))
		}
		status, answer := c.refresh(refresh2)
		if status != 200 {
			t.Errorf("the other: %d", status)
		}
		clear()
		refresh2 = answer.Get("refresh_token").Str

		// The answer that bears the rotated token is lost: nobody has it.
		c.Inject(Fault{Endpoint: "oauth/token", Status: 502, Apply: true, Times: 1})
		if status, _ := c.refresh(refresh2); status != 502 {
			t.Errorf("%d", status)
		}
		if status, _ := c.refresh(refresh2); status != 400 {
			t.Errorf("a refresh token that was rotated unseen: %d", status)
		}

		c.Hub("1002").Inject(Fault{Endpoint: "contacts", Status: 500})
		if status, _ := c.as(access1, "GET", contactsPath, ""); status != 200 {
			t.Errorf("hub 1001: %d", status)
		}
		if status, _ := c.as(access2, "GET", contactsPath, ""); status != 500 {
			t.Errorf("hub 1002: %d", status)
		}
		c.Inject(Fault{Endpoint: "contacts", Status: 503})
		for _, token := range []string{access1, access2, "pat-na1-test"} {
			if status, _ := c.as(token, "GET", contactsPath, ""); status != 503 {
				t.Errorf("down for all: %d", status)
			}
		}
	})
}

package sandbox

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"
)

const tokenPath = "/oauth/2026-03/token"

// testApp wants contacts, and events where the hub has them.
func testApp() App {
	return App{
		ClientID: "cid", ClientSecret: "csecret", Name: "Shop <sync>", RedirectURLs: []string{"https://shop.example/cb?from=hubspot", "http://localhost:8080/cb"},
		Scopes: []string{readContacts, writeContacts}, OptionalScopes: []string{sendEvents, eventDefinition},
	}
}

// oauthClient is an app in front of a sandbox with the hubs 1001 (Enterprise) and 1002 (Starter).
type oauthClient struct {
	*client
}

func newOAuthClient(t *testing.T, o Options) *oauthClient {
	o.Apps = append(o.Apps, testApp())
	o.Hubs = append(o.Hubs, Hub{ID: "1001", Name: "Acme"}, Hub{ID: "1002", Name: "Biz", Tier: "starter"})
	return &oauthClient{client: newClient(t, o)}
}

// link is an install link; more is name, value, name, value and replaces what stands there. A value "-" leaves the name out.
func link(more ...string) string {
	q := url.Values{
		"client_id": {"cid"}, "redirect_uri": {"http://localhost:8080/cb"}, "scope": {"oauth " + readContacts + " " + writeContacts},
		"optional_scope": {sendEvents}, "state": {"s-1"},
	}
	for i := 0; i < len(more); i += 2 {
		if q.Set(more[i], more[i+1]); more[i+1] == "-" {
			q.Del(more[i])
		}
	}
	return "/oauth/authorize?" + q.Encode()
}

// code lets a person of the hub grant what the link asks for.
func (c *oauthClient) code(hub string, more ...string) string {
	c.t.Helper()
	back, err := c.Consent(link(more...), hub, true)
	if err != nil {
		c.t.Fatal(err)
	}
	u, err := url.Parse(back)
	if err != nil || u.Query().Get("code") == "" {
		c.t.Fatalf("%s: no code", back)
	}
	return u.Query().Get("code")
}

// post sends a form; more is as in link.
func (c *oauthClient) post(path string, more ...string) (int, gjson.Result) {
	c.t.Helper()
	form := url.Values{"client_id": {"cid"}, "client_secret": {"csecret"}}
	for i := 0; i < len(more); i += 2 {
		if form.Set(more[i], more[i+1]); more[i+1] == "-" {
			form.Del(more[i])
		}
	}
	r, err := http.NewRequest("POST", "http://sandbox"+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.do(r)
}

func (c *oauthClient) exchange(code string, more ...string) (int, gjson.Result) {
	c.t.Helper()
	return c.post(tokenPath, append([]string{"grant_type", "authorization_code", "redirect_uri", "http://localhost:8080/cb", "code", code}, more...)...)
}

func (c *oauthClient) refresh(token string, more ...string) (int, gjson.Result) {
	c.t.Helper()
	return c.post(tokenPath, append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...)...)
}

// install connects the hub and returns its tokens.
func (c *oauthClient) install(hub string) (access, refresh string) {
	c.t.Helper()
	status, answer := c.exchange(c.code(hub))
	if status != 200 {
		c.t.Fatalf("exchange: %d %s", status, answer.Raw)
	}
	return answer.Get("access_token").Str, answer.Get("refresh_token").Str
}

// as calls with a token.
func (c *oauthClient) as(token, method, path, body string) (int, gjson.Result) {
	c.t.Helper()
	r, err := http.NewRequest(method, "http://sandbox"+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	return c.do(r)
}

// TestInstall: from the link to a contact in the hub of who granted, and in no other; then to the end.
func TestInstall(t *testing.T) {
	c := newOAuthClient(t, Options{Token: "pat-na1-test"})
	access, refresh := c.install("1001")
	other, _ := c.install("1002")
	for token, email := range map[string]string{access: "ada@b.co", other: "grace@b.co", "pat-na1-test": "own@b.co"} {
		if status, answer := c.as(token, "POST", upsertPath, upsert(email)); status != 200 {
			t.Fatalf("%d %s", status, answer.Raw)
		}
	}
	for hub, email := range map[string]string{"1001": "ada@b.co", "1002": "grace@b.co", "20546336": "own@b.co"} {
		if list := c.Hub(hub).Contacts(); len(list) != 1 || list[0].Properties["email"] != email {
			t.Errorf("hub %s holds %v, want %s", hub, list, email)
		}
	}
	if _, info := c.as(access, "GET", "/account-info/v3/details", ""); info.Get("portalId").Int() != 1001 {
		t.Errorf("account: %s", info.Raw)
	}

	status, answer := c.refresh(refresh)
	if status != 200 || answer.Get("refresh_token").Str != refresh || answer.Get("access_token").Str == access || answer.Get("expires_in").Int() != 1800 ||
		answer.Get("token_type").Str != "bearer" || answer.Get("token_use").Str != "access_token" || answer.Get("hub_id").Int() != 1001 {
		t.Errorf("refresh: %d %s", status, answer.Raw)
	}
	if got := all(answer, "scopes"); got != sendEvents+" "+readContacts+" "+writeContacts+" oauth" {
		t.Errorf("scopes: %s", got)
	}
	if err := c.Uninstall("cid", "1001"); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{access, answer.Get("access_token").Str} {
		if status, _ := c.as(token, "POST", upsertPath, upsert("late@b.co")); status != 401 {
			t.Errorf("after the app was uninstalled: %d", status)
		}
	}
	if status, answer := c.refresh(refresh); status != 400 || answer.Get("status").Str != "BAD_REFRESH_TOKEN" {
		t.Errorf("refresh after the app was uninstalled: %d %s", status, answer.Raw)
	}
	if status, _ := c.as(other, "POST", upsertPath, upsert("grace@b.co")); status != 200 {
		t.Errorf("the other hub: %d", status)
	}
	c.Reset()
	if status, _ := c.as(other, "POST", upsertPath, upsert("late@b.co")); status != 401 || c.ContactCount() != 0 || c.Hub("1002").ContactCount() != 0 {
		t.Errorf("a token from before Reset: %d", status)
	}
}

// TestTokenErrors: the refusals of the token endpoint, by status.
func TestTokenErrors(t *testing.T) {
	c := newOAuthClient(t, Options{})
	f := func(want string, form ...string) {
		t.Helper()
		for _, path := range []string{tokenPath, "/oauth/2026-09/token", "/oauth/v1/token"} {
			status, answer := c.post(path, form...)
			if status != 400 || answer.Get("status").Str != want || answer.Get("error").Str == "" || answer.Get("correlationId").Str == "" ||
				answer.Get("message").Str == "" || answer.Get("error_description").Str != answer.Get("message").Str {
				t.Errorf("%s %q: %d %s, want %s", path, form, status, answer.Raw, want)
			}
		}
	}
	_, refresh := c.install("1001")
	good := []string{"grant_type", "refresh_token", "refresh_token", refresh}
	f("BAD_GRANT_TYPE")
	f("BAD_GRANT_TYPE", "grant_type", "password")
	f("BAD_GRANT_TYPE", "grant_type", "client_credentials")
	f("BAD_CLIENT_ID", append(good, "client_id", "-")...)
	f("BAD_CLIENT_ID", append(good, "client_id", "nobody")...)
	f("BAD_CLIENT_SECRET", append(good, "client_secret", "-")...)
	f("BAD_CLIENT_SECRET", append(good, "client_secret", "wrong")...)
	f("BAD_REFRESH_TOKEN", "grant_type", "refresh_token")
	f("BAD_REFRESH_TOKEN", "grant_type", "refresh_token", "refresh_token", "na1-wrong")
	f("BAD_AUTH_CODE", "grant_type", "authorization_code", "redirect_uri", "http://localhost:8080/cb")
	f("BAD_AUTH_CODE", "grant_type", "authorization_code", "redirect_uri", "http://localhost:8080/cb", "code", "na1-wrong")

	second := testApp()
	second.ClientID = "other"
	if err := c.Register(second); err != nil {
		t.Fatal(err)
	}
	f("BAD_REFRESH_TOKEN", append(good, "client_id", "other")...)
	f("BAD_AUTH_CODE", "client_id", "other", "grant_type", "authorization_code", "redirect_uri", "http://localhost:8080/cb", "code", c.code("1001"))
	if err := c.RemoveHub("1001"); err != nil {
		t.Fatal(err)
	}
	f("BAD_HUB", good...)

	expect := func(want string, status int, answer gjson.Result) {
		t.Helper()
		if status != 400 || answer.Get("status").Str != want {
			t.Errorf("%d %s, want %s", status, answer.Raw, want)
		}
	}
	code := c.code("1002")
	if status, answer := c.exchange(code); status != 200 {
		t.Fatalf("%d %s", status, answer.Raw)
	}
	status, answer := c.exchange(code)
	expect("BAD_AUTH_CODE", status, answer) // used
	status, answer = c.exchange(c.code("1002"), "redirect_uri", "https://shop.example/cb?from=hubspot")
	expect("MISMATCH_REDIRECT_URI_AUTH_CODE", status, answer)
	status, answer = c.exchange(c.code("1002"), "redirect_uri", "https://elsewhere.example/cb")
	expect("BAD_REDIRECT_URI", status, answer)

	const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // of RFC 7636, appendix B
	pkce := []string{"code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method", "S256"}
	if status, answer := c.exchange(c.code("1002", pkce...), "code_verifier", verifier); status != 200 {
		t.Errorf("%d %s", status, answer.Raw)
	}
	for _, wrong := range []string{"-", verifier + "x"} {
		status, answer = c.exchange(c.code("1002", pkce...), "code_verifier", wrong)
		expect("BAD_CODE_VERIFIER", status, answer)
	}
}

// TestTokenLife: codes and access tokens end in time, whatever the clock is.
func TestTokenLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newOAuthClient(t, Options{AccessTokenLife: 10 * time.Minute, RotateRefreshTokens: true})
		access, refresh := c.install("1001")
		code := c.code("1001")
		time.Sleep(10*time.Minute - time.Nanosecond)
		if status, _ := c.as(access, "GET", contactsPath, ""); status != 200 {
			t.Errorf("before it expires: %d", status)
		}
		time.Sleep(5*time.Second + time.Nanosecond)
		status, answer := c.as(access, "GET", contactsPath, "")
		if status != 401 || answer.Get("category").Str != "EXPIRED_AUTHENTICATION" ||
			answer.Get("message").Str != "The OAuth token used to make this call expired 5 second(s) ago." || answer.Get("context.expire time.0").Str != "2000-01-01T00:10:00Z" {
			t.Errorf("%d %s", status, answer.Raw)
		}
		if status, answer := c.exchange(code); status != 400 || answer.Get("status").Str != "EXPIRED_AUTH_CODE" {
			t.Errorf("an old code: %d %s", status, answer.Raw)
		}
		status, answer = c.refresh(refresh)
		rotated := answer.Get("refresh_token").Str
		if status != 200 || rotated == refresh || answer.Get("expires_in").Int() != 600 {
			t.Fatalf("%d %s", status, answer.Raw)
		}
		if status, answer := c.refresh(refresh); status != 400 || answer.Get("status").Str != "BAD_REFRESH_TOKEN" {
			t.Errorf("the refresh token before: %d %s", status, answer.Raw)
		}
		access = answer.Get("access_token").Str
		if err := c.ExpireAccess("", "1001"); err != nil {
			t.Fatal(err)
		}
		if status, _ := c.as(access, "GET", contactsPath, ""); status != 401 {
			t.Errorf("made to expire: %d", status)
		}
		if status, _ := c.refresh(rotated); status != 200 {
			t.Errorf("refresh: %d", status)
		}
		if err := c.RevokeRefresh("cid", "1001"); err != nil {
			t.Fatal(err)
		}
		if status, _ := c.refresh(rotated); status != 400 {
			t.Errorf("a revoked refresh token: %d", status)
		}
		if err := c.ExpireAccess("cid", "1002"); err == nil {
			t.Error("nothing is installed there")
		}
	})
}

// TestGrantedScopes: what the hub lacks is not granted, and calls that need it are refused.
func TestGrantedScopes(t *testing.T) {
	c := newOAuthClient(t, Options{})
	f := func(hub, want string, status int) {
		t.Helper()
		_, answer := c.exchange(c.code(hub, "optional_scope", sendEvents+" "+eventDefinition))
		if got := all(answer, "scopes"); got != want {
			t.Errorf("hub %s: %s, want %s", hub, got, want)
		}
		got, refusal := c.as(answer.Get("access_token").Str, "GET", definitionsPath, "")
		if got != status || status == 403 && refusal.Get("category").Str != missingScopes {
			t.Errorf("hub %s: %d %s", hub, got, refusal.Raw)
		}
		if got, refusal := c.as(answer.Get("access_token").Str, "GET", propertiesPath, ""); got != 403 || all(refusal, "context.requiredGranularScopes") != readSchemas {
			t.Errorf("hub %s, never asked for: %d %s", hub, got, refusal.Raw)
		}
	}
	f("1001", strings.Join([]string{sendEvents, eventDefinition, readContacts, writeContacts, "oauth"}, " "), 200)
	f("1002", strings.Join([]string{readContacts, writeContacts, "oauth"}, " "), 403)
	if status, body := c.view("PATCH", "/hubs/1002/options", `{"missing_scopes":["crm.objects.contacts.write"]}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if _, err := c.Consent(link(), "1002", true); err == nil || !strings.Contains(err.Error(), "the account lacks") || !strings.Contains(err.Error(), writeContacts) {
		t.Errorf("a hub that lacks a required scope: %v", err)
	}
}

// TestAppQuota: 110 calls in ten seconds for an app in a hub, whatever its token, and no limit of the day.
func TestAppQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newOAuthClient(t, Options{Burst: 5, Daily: 50})
		access, refresh := c.install("1001")
		for i := range 110 {
			if i == 50 {
				_, answer := c.refresh(refresh)
				access = answer.Get("access_token").Str
			}
			if status, answer := c.as(access, "GET", contactsPath, ""); status != 200 {
				t.Fatalf("call %d: %d %s", i, status, answer.Raw)
			}
		}
		if c.header.Get("X-HubSpot-RateLimit-Max") != "110" || c.header.Get("X-HubSpot-RateLimit-Remaining") != "0" || c.header.Get("X-HubSpot-RateLimit-Daily") != "" {
			t.Errorf("headers %v", c.header)
		}
		if status, answer := c.as(access, "GET", contactsPath, ""); status != 429 || answer.Get("policyName").Str != "TEN_SECONDLY_ROLLING" {
			t.Errorf("%d %s", status, answer.Raw)
		}
		other, _ := c.install("1002")
		if status, _ := c.as(other, "GET", contactsPath, ""); status != 200 {
			t.Errorf("another hub: %d", status)
		}
		time.Sleep(10 * time.Second)
		if status, _ := c.as(access, "GET", contactsPath, ""); status != 200 {
			t.Errorf("after the window: %d", status)
		}
	})
}

package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

var contactPresets = []string{"contacts.read", "contacts.write"}

func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}

func newContact(email string) string {
	return `{"properties":{"email":"` + email + `","firstname":"A"}}`
}

func TestCallsGoToTheAccountsOwnHub(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		f := func(a answer, status int) {
			t.Helper()
			if a.status != status {
				t.Errorf("got %d %s, want %d", a.status, a.body, status)
			}
		}
		f(r.as("a1", "POST", contactsPath, newContact("a@one.co")), 201)
		f(r.user("a2", "POST", contactsPath, newContact("b@two.co")), 201)
		f(r.as("a1", "GET", contactsPath+"/a%40one.co?idProperty=email", ""), 200)
		f(r.as("a1", "GET", contactsPath+"/b%40two.co?idProperty=email", ""), 404)
		f(r.user("a2", "GET", contactsPath+"/b%40two.co?idProperty=email", ""), 200)
		f(r.user("a2", "GET", contactsPath+"/b%40two.co?idProperty=email", "", "X-Account", "a2"), 200)
		f(r.raw("GET", "/api/v1/proxy/crm"+contactsPath+"/a%40one.co?idProperty=email", "", "Authorization", "Bearer "+ownSecret), 200) // of account a1
		f(r.as("a1", "POST", contactsPath+"/search", `{"filterGroups":[{"filters":[{"propertyName":"email","operator":"EQ","value":"a@one.co"}]}]}`), 200)
		for hub, want := range map[string]string{"1001": "a@one.co", "1002": "b@two.co"} {
			if list := r.box.Hub(hub).Contacts(); len(list) != 1 || list[0].Properties["email"] != want {
				t.Errorf("hub %s: got %v, want one contact, %s", hub, list, want)
			}
		}
		if got := r.counter("router_proxy_calls_total", "app", "crm", "status", "2xx"); got != 7 {
			t.Errorf("router_proxy_calls_total 2xx: got %v, want 7", got)
		}
		if a := r.as("a1", "HEAD", contactsPath+"/a%40one.co?idProperty=email", ""); a.body != "" {
			t.Errorf("HEAD: got a body, %s", a.body)
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		r.app.Name = "other"
		f := func(a answer, status int, want ...string) {
			t.Helper()
			message, detail := a.said()
			for _, text := range want {
				if a.status != status || !strings.Contains(message+": "+detail, text) {
					t.Errorf("got %d %s: %s, want %d with %q", a.status, message, detail, status, text)
				}
			}
			if a.header["Access-Control-Allow-Origin"] != "*" {
				t.Errorf("%d %s: a page can not read it", a.status, message)
			}
		}
		bearer := func(token string) []string { return []string{"Authorization", "Bearer " + token} }
		const contact = "/api/v1/proxy/crm" + contactsPath
		f(r.raw("GET", "/api/v1/proxy/nope"+contactsPath, ""), 401, "The token is not found")
		f(r.raw("GET", "/api/v1/proxy/nope"+contactsPath, "", bearer(serverSecret)...), 404, "There is no such app")
		f(r.raw("GET", contact, ""), 401, "send an API key's server secret")
		f(r.raw("GET", contact, "", bearer("unknown")...), 401, "The token is not found")
		f(r.raw("GET", contact, "", bearer(clientSecret)...), 401, "The token is not found")
		f(r.raw("GET", contact, "", bearer(r.token("a1")+"x")...), 401, "The token is not taken")
		f(r.raw("GET", contact, "", bearer(serverSecret)...), 400, "X-Account")
		f(r.raw("GET", contact, "", append(bearer(serverSecret), "X-Account", "a1", "X-Account", "a2")...), 400, "more than one")
		f(r.user("a1", "GET", contactsPath, "", "X-Account", "a2"), 403, "The account is not the token's")
		f(r.raw("GET", contact, "", append(bearer(ownSecret), "X-Account", "a2")...), 403, "The account is not the API key's")
		f(r.as("a9", "GET", contactsPath, ""), 404, "The account is not connected")
		f(r.as("a1", "OPTIONS", contactsPath, ""), 204, "")
		f(r.as("a1", "TRACE", contactsPath, ""), 405, "GET, HEAD, POST")
		f(r.as("a1", "DELETE", contactsPath+"/1", ""), 403, "The call is not allowed", "the preset contacts.delete", `"DELETE /crm/v3/objects/contacts/*"`, "apps.crm.proxy.allow")
		f(r.as("a1", "GET", "/crm/v3/objects/quotes", ""), 403, `add "GET /crm/v3/objects/quotes" to`)
		f(r.as("a1", "GET", "/oauth/v1/access-tokens/x", ""), 403, "The call is never forwarded")
		f(r.raw("GET", contact+"/", ""), 401, "The token is not found")
		f(r.as("a1", "GET", contactsPath+"/", ""), 400, "one at its end")
		f(r.as("a1", "POST", contactsPath, strings.Repeat("x", 10<<20+1)), 413, "The body is too large: proxy.max_bytes of the app is 10485760")
		f(r.as("a1", "GET", contactsPath+"?a=%zz", ""), 400, "its query")
		if len(r.sent) != 0 {
			t.Errorf("HubSpot got %q", r.sent)
		}
		if got := r.counter("router_proxy_refused_total", "reason", "not_allowed"); got != 3 {
			t.Errorf("router_proxy_refused_total not_allowed: got %v, want 3", got)
		}
	})
}

// TestEndUsersHaveAListOfTheirOwn: what servers may call end users may not, until it is said.
func TestEndUsersHaveAListOfTheirOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		with := func(own ...string) {
			t.Helper()
			r.app.Proxy.AllowEndUsers = own
			if err := r.proxy.SetApps(r.apps(false)); err != nil {
				t.Fatal(err)
			}
		}
		f := func(a answer, status int, want string) {
			t.Helper()
			if a.status != status || !strings.Contains(a.body, want) {
				t.Errorf("got %d %s, want %d with %q", a.status, a.body, status, want)
			}
		}
		with()
		f(r.user("a1", "GET", contactsPath, ""), 403, `apps.crm.proxy.allow_end_users`)
		f(r.as("a1", "GET", contactsPath, ""), 200, "")
		with("GET /crm/v3/objects/contacts/*", "owners.read")
		f(r.user("a1", "GET", contactsPath+"/1", ""), 404, "")
		f(r.user("a1", "GET", contactsPath, ""), 403, `apps.crm.proxy.allow_end_users`)
		f(r.user("a1", "POST", contactsPath, newContact("a@one.co")), 403, "the preset contacts.write")
		f(r.as("a1", "POST", contactsPath, newContact("a@one.co")), 201, "")
		f(r.as("a1", "GET", "/crm/v3/owners", ""), 404, "") // what end users may do servers may; the sandbox has none
		if n := len(r.box.Hub("1001").Contacts()); n != 1 {
			t.Errorf("the hub holds %d contacts, want 1", n)
		}
	})
}

// TestKeyOfOneAccount: the server secret of an API key that is for one account calls in no other.
func TestKeyOfOneAccount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		f := func(status int, headers ...string) {
			t.Helper()
			headers = append([]string{"Authorization", "Bearer " + ownSecret, "Content-Type", "application/json"}, headers...)
			if a := r.raw("POST", "/api/v1/proxy/crm"+contactsPath, newContact("a@one.co"), headers...); a.status != status {
				t.Errorf("%q: got %d %s, want %d", headers[4:], a.status, a.body, status)
			}
		}
		f(403, "X-Account", "a2")
		f(201)
		f(409, "X-Account", "a1") // it is there already
		if one, two := len(r.box.Hub("1001").Contacts()), len(r.box.Hub("1002").Contacts()); one != 1 || two != 0 {
			t.Errorf("the hubs hold %d and %d contacts, want 1 and none", one, two)
		}
	})
}

// TestCallsDoNotStopDeliveries: calls that HubSpot answers with 401, whatever the token, neither take the account's token away nor have it refreshed again and again.
func TestCallsDoNotStopDeliveries(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		refreshes := func() (n int) {
			for _, c := range r.box.Counts() {
				if strings.Contains(c.Endpoint, "token") {
					n += c.Calls
				}
			}
			return n
		}
		before := refreshes()
		r.box.Hub("1001").Inject(sandbox.Fault{Endpoint: "contacts", Status: 401})
		for range 5 {
			if a := r.user("a1", "GET", contactsPath, ""); a.status != 502 {
				t.Errorf("got %d %s, want 502", a.status, a.body)
			}
			if _, err := r.conns.For("crm").Token(t.Context(), "a1", "1001"); err != nil {
				t.Errorf("a delivery gets no token: %v", err)
			}
			time.Sleep(time.Minute)
		}
		if n := refreshes() - before; n > 1 {
			t.Errorf("the token was refreshed %d times, want once at most", n)
		}
	})
}

func TestNothingIsAllowedByDefault(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		a := r.as("a1", "GET", contactsPath, "")
		if _, detail := a.said(); a.status != 403 || !strings.Contains(detail, "add the preset contacts.read") {
			t.Errorf("got %d %s, want 403 that says what to add", a.status, a.body)
		}
	})
}

func TestTokensAreRefreshedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		r.box.ExpireAccess("client-1", "1001")
		if a := r.as("a1", "POST", contactsPath, newContact("a@one.co")); a.status != 201 || len(r.sent) != 2 || r.sent[0] != r.sent[1] {
			t.Errorf("after the token expired: got %d %s, want 201 at the second try with the same body; calls %q", a.status, a.body, r.sent)
		}
		time.Sleep(15 * time.Minute)
		r.sent = nil
		clear := r.box.Hub("1001").Inject(sandbox.Fault{Endpoint: "contacts", Status: 401})
		if a := r.as("a1", "GET", contactsPath, ""); a.status != 502 || len(r.sent) != 2 {
			t.Errorf("while HubSpot refuses each token: got %d %s after %d calls, want 502 after 2", a.status, a.body, len(r.sent))
		}
		clear()
		if a := r.as("a2", "GET", contactsPath, ""); a.status != 200 {
			t.Errorf("another account: got %d %s", a.status, a.body)
		}
		r.box.Uninstall("client-1", "1002")
		a := r.as("a2", "GET", contactsPath, "")
		if message, detail := a.said(); a.status != 409 || message != "The account has to connect anew" || !strings.Contains(detail, "BAD_REFRESH_TOKEN") {
			t.Errorf("after the app was uninstalled: got %d %s", a.status, a.body)
		}
	})
}

func TestHubSpotDownSlowOrOdd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		hub := r.box.Hub("1001")
		f := func(fault sandbox.Fault, status int, want string) answer {
			t.Helper()
			fault.Endpoint = "contacts"
			clear := hub.Inject(fault)
			defer clear()
			a := r.as("a1", "GET", contactsPath, "")
			if a.status != status || !strings.Contains(a.body, want) {
				t.Errorf("%+v: got %d %s, want %d with %q", fault, a.status, a.body, status, want)
			}
			return a
		}
		began := time.Now()
		f(sandbox.Fault{Delay: time.Hour}, 504, "HubSpot did not answer in time")
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("it took %v, want proxy.timeout", took)
		}
		f(sandbox.Fault{Drop: true}, 502, "HubSpot does not answer")
		f(sandbox.Fault{Status: 503, Body: "down"}, 503, "down")
		f(sandbox.Fault{Status: 500, Body: `{"message":"x"}`}, 500, `{"message":"x"}`)
		if a := f(sandbox.Fault{Status: 302, Header: map[string]string{"Location": "https://elsewhere.example"}}, 502, "redirects are not followed"); strings.Contains(fmt.Sprint(a), "elsewhere.example") {
			t.Errorf("the answer says where a redirect leads: %v", a)
		}
		f(sandbox.Fault{Status: 200, Body: strings.Repeat("x", 10<<20+1)}, 502, "HubSpot's answer is too large")
		a := f(sandbox.Fault{Status: 201, Body: "{}", Header: map[string]string{
			"Location": "https://elsewhere.example", "Set-Cookie": "a=b", "X-HubSpot-Correlation-Id": "c-1", "Retry-After": "7", "Connection": "Etag", "Etag": "e", "X-Powered-By": "x",
		}}, 201, "{}")
		for name, want := range map[string]string{"Location": "", "Set-Cookie": "", "Etag": "", "X-Powered-By": "", "X-Hubspot-Correlation-Id": "c-1", "Retry-After": "7", "Cache-Control": "no-store"} {
			if got := a.header[name]; got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	})
}

// endless is an answer of an unknown size that is longer than allowed.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, strings.Repeat("x", len(p))), nil }
func (endless) Close() error               { return nil }

func TestAnswersAreStreamedAndBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets, func(r *rig, _ *sandbox.Options) { r.app.Proxy.MaxBytes = 1 << 20 })
		answerWith := func(body io.ReadCloser) {
			r.intercept(func(req *http.Request, _ http.RoundTripper) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body, ContentLength: -1, Request: req}, nil
			})
		}
		answerWith(endless{})
		if a := r.as("a1", "GET", contactsPath, ""); !errors.Is(a.err, errTooLong) || len(a.body) != 1<<20 {
			t.Errorf("an endless answer: got %d bytes and %v, want max_bytes and an error", len(a.body), a.err)
		}
		pr, pw := io.Pipe()
		answerWith(pr)
		go func() {
			for i := range 3 {
				fmt.Fprint(pw, i)
				time.Sleep(time.Second)
			}
			pw.Close()
		}()
		began := time.Now()
		if a := r.as("a1", "GET", contactsPath, ""); a.body != "012" || a.err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("a slow answer: got %q after %v, %v", a.body, time.Since(began), a.err)
		}
		if !strings.Contains(r.logged(), `"status":200,"bytes":3,"ms":3000`) {
			t.Errorf("the log has not the call's size and time: %s", r.logged())
		}
	})
}

// TestSecretsGoNowhere plants credentials wherever a caller, or something in front of HubSpot, can put them.
func TestSecretsGoNowhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		var tokens []string
		r.intercept(func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
			token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
			tokens = append(tokens, token)
			res, err := next.RoundTrip(req)
			if err == nil { // it repeats the request
				res.Body = io.NopCloser(strings.NewReader(strings.Repeat("-", 32<<10-20) + "you sent " + token + " and " + token))
				res.ContentLength = -1
				res.Header.Set("X-HubSpot-Echo", token)
				res.Header.Set("Set-Cookie", "session="+token)
			}
			return res, err
		})
		planted := []string{
			"Cookie", "session=planted-cookie-1", "X-Auth-Token", serverSecret, "Proxy-Authorization", "Basic planted-proxy-1", "X-Forwarded-For", "203.0.113.7",
			"Forwarded", "for=203.0.113.7", "X-Real-IP", "203.0.113.7", "X-HubSpot-Custom", "x" + serverSecret, "Connection", "X-HubSpot-Hop", "X-HubSpot-Hop", "planted-hop-1",
			"X-HubSpot-Kept", "kept", "Accept", "application/json",
		}
		var got []answer
		for _, query := range []string{"?limit=1&token=" + serverSecret + "&p_x=planted-arg-1&hapikey=planted-key-1", "?limit=1"} {
			got = append(got, r.as("a1", "GET", contactsPath+query, "", planted...))
			got = append(got, r.raw("GET", "/api/v1/proxy/crm"+contactsPath+strings.ReplaceAll(query, "token="+serverSecret, "x="+r.token("a1")), "", "Authorization", "Bearer "+r.token("a1")))
		}
		clear := r.box.Hub("1001").Inject(sandbox.Fault{Endpoint: "contacts", Status: 401})
		got = append(got, r.as("a1", "GET", contactsPath, ""))
		clear()
		if len(tokens) < 4 || len(tokens[0]) < 20 || got[0].status != 200 || got[1].status != 200 {
			t.Fatalf("tokens %q, answers %v", tokens, got)
		}
		families := must(r.reg.Gather())
		everywhere := fmt.Sprint(got) + r.logged() + fmt.Sprint(families) + fmt.Sprint(must(New(Options{})))
		for _, secret := range append([]string{serverSecret, clientSecret, "planted-app-secret-4711", r.token("a1"), r.token("a1")[:40]}, tokens...) {
			if strings.Contains(everywhere, secret) {
				t.Errorf("%.12s… is in an answer, the log or the metrics", secret)
			}
		}
		for _, text := range append([]string{"203.0.113", "planted", serverSecret}, tokens...) {
			if strings.Contains(strings.Join(r.sent, "\n"), text) {
				t.Errorf("HubSpot got %.12s…:\n%s", text, strings.Join(r.sent, "\n"))
			}
		}
		if strings.Contains(r.sent[0], "Hubspot") || !strings.Contains(r.sent[0], "Accept: application/json") || !strings.Contains(r.sent[0], "?limit=1\n") {
			t.Errorf("HubSpot got %s, want header and query that are no secrets", r.sent[0])
		}
		if want := "you sent " + strings.Repeat("*", len(tokens[0])) + " and " + strings.Repeat("*", len(tokens[0])); !strings.HasSuffix(got[0].body, want) {
			t.Errorf("got …%s, want stars for the token", got[0].body[len(got[0].body)-200:])
		}
	})
}

func TestAuditLine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, contactPresets)
		f := func(want string) {
			t.Helper()
			lines := strings.Split(strings.TrimSpace(r.logged()), "\n")
			if got := lines[len(lines)-1]; !strings.Contains(got, want) {
				t.Errorf("got %s, want %s", got, want)
			}
			if got := r.logged(); strings.Contains(got, "one.co") || strings.Contains(got, "12345") || strings.Contains(got, "firstname") {
				t.Errorf("the log tells of a person, a query or a body: %s", got)
			}
		}
		r.as("a1", "POST", contactsPath, newContact("a@one.co"))
		f(`"msg":"proxied call","app":"crm","account":"a1","hub":"1001","api_key":"backend","method":"POST","path":"/crm/v3/objects/contacts","status":201,"bytes":`)
		r.as("a1", "GET", contactsPath+"/a%40one.co?idProperty=email&properties=firstname", "")
		f(`"path":"/crm/v3/objects/contacts/*","status":200`)
		r.as("a1", "GET", contactsPath+"/12345?idProperty=phone", "")
		f(`"path":"/crm/v3/objects/contacts/*"`)
		r.user("a2", "GET", contactsPath+"/77", "")
		f(`"account":"a2","hub":"1002","end_user":true,"method":"GET","path":"/crm/v3/objects/contacts/77","status":404`)
		r.box.Hub("1001").Inject(sandbox.Fault{Endpoint: "contacts", Drop: true, Times: 1})
		r.as("a1", "GET", contactsPath, "")
		f(`"status":502,"bytes":0,"ms":0,"refused":"remote","error":"HubSpot does not answer"`)

		// Calls that are not forwarded have their line, too, where it is known who makes them.
		r.as("a1", "DELETE", contactsPath+"/77", "")
		f(`"account":"a1","hub":"","api_key":"backend","method":"DELETE","path":"/crm/v3/objects/contacts/77","status":403,"bytes":0,"ms":0,"refused":"not_allowed","error":"The call is not allowed"`)
		r.user("a1", "PUT", contactsPath+"/12345?idProperty=phone", "")
		f(`"end_user":true,"method":"PUT","path":"/crm/v3/objects/contacts/*","status":403`)
		r.user("a1", "GET", "/contacts/v1/contact/email/a@one.co/profile", "")
		f(`"path":"/contacts/v1/contact/email/*/profile","status":403`)
		r.as("a1", "GET", contactsPath+"/..", "")
		f(`"method":"GET","path":"","status":400,"bytes":0,"ms":0,"refused":"path"`)
		r.as("a1", "A-ONE.CO", contactsPath, "")
		f(`"method":"","path":"","status":405`)
		r.user("a2", "GET", contactsPath, "", "X-Account", "a1")
		f(`"account":"a2","hub":"","end_user":true,"method":"GET","path":"","status":403,"bytes":0,"ms":0,"refused":"account"`)
		r.as("a9", "GET", contactsPath, "")
		f(`"account":"a9","hub":"","api_key":"backend","method":"GET","path":"/crm/v3/objects/contacts","status":404,"bytes":0,"ms":0,"refused":"not_connected"`)
		r.as("a1", "POST", contactsPath, strings.Repeat("x", 10<<20+1))
		f(`"status":413,"bytes":0,"ms":0,"refused":"size"`)
		lines := strings.Count(r.logged(), "\n")
		r.raw("GET", "/api/v1/proxy/crm"+contactsPath, "", "Authorization", "Bearer unknown")
		if n := strings.Count(r.logged(), "\n"); n != lines {
			t.Errorf("anybody can fill the log: %s", r.logged())
		}
	})
}

func TestCallsAtOnceAreBounded(t *testing.T) {
	type caller = func(r *rig, account string) answer
	server := func(r *rig, account string) answer { return r.as(account, "GET", contactsPath, "") }
	endUser := func(r *rig, account string) answer { return r.user(account, "GET", contactsPath, "") }
	f := func(who string, call caller, most int, others ...caller) {
		bubble(t, func(t *testing.T) {
			r := newRig(t, contactPresets)
			r.box.Hub("1001").Inject(sandbox.Fault{Endpoint: "contacts", Delay: 10 * time.Second})
			answers := make(chan answer, most+len(others))
			for range most {
				go func() { answers <- call(r, "a1") }()
			}
			synctest.Wait()
			if a := call(r, "a1"); a.status != 429 || a.header["Retry-After"] != "1" {
				t.Errorf("%s: one more call of the account: got %d %s, want 429", who, a.status, a.body)
			}
			for _, other := range others {
				go func() { answers <- other(r, "a1") }()
			}
			if a := call(r, "a2"); a.status != 200 {
				t.Errorf("%s: a call of another account: got %d %s, want 200", who, a.status, a.body)
			}
			for range cap(answers) {
				if a := <-answers; a.status != 200 {
					t.Errorf("%s: got %d %s", who, a.status, a.body)
				}
			}
			if a := call(r, "a1"); a.status != 200 {
				t.Errorf("%s: after that: got %d %s, want 200", who, a.status, a.body)
			}
		})
	}
	f("servers", server, mostOfAccount)
	f("end users", endUser, mostOfAccount*3/4, server, server)
}

// TestPresetsAreDocumented: docs/accounts.md has each preset, with all its calls.
func TestPresetsAreDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "accounts.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range presets {
		for _, part := range p.parts {
			row := presetRow(p.name, part)
			if !strings.Contains(string(page), row) {
				t.Errorf("docs/accounts.md lacks the row:\n%s", row)
			}
		}
	}
}

// presetRow is a part of a preset as docs/accounts.md has it.
func presetRow(name string, p part) string {
	return fmt.Sprintf("| `%s` | `%s` | `%s` |", name, strings.Join(p.calls, "`, `"), strings.Join(p.bases, "`, `"))
}

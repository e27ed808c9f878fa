package connections

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

func TestConnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		if got := r.s.Hub("crm", "a1"); got != hubA {
			t.Errorf("hub: got %q, want %q", got, hubA)
		}
		token, err := r.s.Token(t.Context(), "crm", "a1", hubA)
		if err != nil || token == "" {
			t.Fatalf("token: %v", err)
		}
		r.restart()
		if again, err := r.s.Token(t.Context(), "crm", "a1", hubA); err != nil || again != token {
			t.Errorf("token after a restart: %v, same: %v", err, again == token)
		}
		if _, err := r.s.Token(t.Context(), "crm", "a1", hubB); !isBlocked(err) {
			t.Errorf("token for another hub: got %v, want that it is blocked", err)
		}
	})
}

// TestStart holds what keeps a browser's way to HubSpot its own.
func TestStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		a := r.browser().get(r.link("customer-4711", returns))
		u, err := url.Parse(a.location)
		if err != nil || a.status != http.StatusSeeOther {
			t.Fatalf("got %d %q, want a redirect", a.status, a.location)
		}
		q := u.Query()
		for name, want := range map[string]string{
			"client_id": "client-1", "redirect_uri": home + "callback", "scope": strings.Join(r.app.Scopes, " "), "code_challenge_method": "S256", "response_type": "code",
		} {
			if got := q.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		if strings.Contains(a.location, "customer-4711") || strings.Contains(a.location, "app.example.com") {
			t.Errorf("the address tells whose it is: %s", a.location)
		}
		if len(a.cookies) != 1 {
			t.Fatalf("got %d cookies, want 1", len(a.cookies))
		}
		c := a.cookies[0]
		if !strings.HasPrefix(c.Name, "__Host-") || c.Path != "/" || c.Domain != "" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.MaxAge != 15*60 {
			t.Errorf("cookie: got %s", c)
		}
		for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY"} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("Content-Security-Policy: got %q", csp)
		}
	})
}

// TestOutcomes plays each way in which connecting ends.
func TestOutcomes(t *testing.T) {
	type step func(r *rig, b *browser) answer
	f := func(name string, wantWord string, wantStatus int, wantText string, connected bool, play step) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				for _, withReturn := range []bool{true, false} {
					r := newRig(t, func(_ *rig, o *sandbox.Options) {
						o.Apps = append(o.Apps, sandbox.App{ClientID: "client-2", ClientSecret: "x", RedirectURLs: o.Apps[0].RedirectURLs, Scopes: o.Apps[0].Scopes})
					})
					r.linkReturn = ""
					if withReturn {
						r.linkReturn = returns + "?tab=crm"
					}
					a := play(r, r.browser())
					back := returns + "?connection=" + wantWord + "&tab=crm"
					switch {
					case withReturn && wantText == "" && a.location != back:
						t.Errorf("with a return address: got %d %q, want %q\n%s", a.status, a.location, back, r.logged())
					case withReturn && wantText == "":
					case a.location != "" || a.status != wantStatus && wantText != "":
						t.Errorf("with return address %t: got %d %q %s, want %d", withReturn, a.status, a.location, a.body, wantStatus)
					case !withReturn && a.status != wantStatus:
						t.Errorf("without a return address: got %d %s, want %d", a.status, a.body, wantStatus)
					case !strings.Contains(a.body, "<h1>") || !strings.Contains(a.body, texts["en"][wantWord].title) || strings.Contains(a.body, "%!"):
						t.Errorf("without a return address: got %s, want the words of %q", a.body, wantWord)
					}
					if got := r.status("a1"); (got == Connected) != connected {
						t.Errorf("status: got %q, connected should be %t", got, connected)
					}
				}
			})
		})
	}
	grant := func(r *rig, b *browser) string { return b.consent(r.link("a1", r.linkReturn), hubA, true) }
	const page = "page" // it is told on a page of ours alone, for nobody knows where the browser belongs

	f("granted", "connected", 200, "", true, func(r *rig, b *browser) answer { return b.get(grant(r, b)) })
	f("denied", "denied", 200, "", false, func(r *rig, b *browser) answer { return b.get(b.consent(r.link("a1", r.linkReturn), hubA, false)) })
	f("expired", "expired", 400, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		time.Sleep(r.app.StateAge)
		return b.get(back)
	})
	f("used", "used", 400, page, true, func(r *rig, b *browser) answer {
		back := grant(r, b)
		b.get(back)
		return b.get(back)
	})
	f("state changed", "foreign", 400, page, false, func(r *rig, b *browser) answer {
		return b.get(with(grant(r, b), "state", func(s string) string { return s[:len(s)-2] + flip(s[len(s)-2:]) }))
	})
	f("no state", "foreign", 400, page, false, func(r *rig, b *browser) answer {
		return b.get(with(grant(r, b), "state", func(string) string { return "" }))
	})
	f("link in place of state", "foreign", 400, page, false, func(r *rig, b *browser) answer {
		link := r.link("a1", r.linkReturn)
		return b.get(with(grant(r, b), "state", func(string) string { return link[strings.Index(link, "=")+1:] }))
	})
	f("no cookie", "other_browser", 400, page, false, func(r *rig, b *browser) answer { return r.browser().get(grant(r, b)) })
	f("another's cookie", "other_browser", 400, page, false, func(r *rig, b *browser) answer {
		other := r.browser()
		grant(r, other)
		back := grant(r, b)
		for name := range b.cookies {
			for _, value := range other.cookies {
				b.cookies[name] = value
			}
		}
		return b.get(back)
	})
	f("restart on the way", "connected", 200, "", true, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.restart()
		return b.get(back)
	})
	f("two tabs", "connected", 200, "", true, func(r *rig, b *browser) answer {
		first := grant(r, b)
		b.get(b.consent(r.link("a1", r.linkReturn), hubA, true))
		return b.get(first)
	})
	f("wrong code", "refused", 400, "", false, func(r *rig, b *browser) answer {
		return b.get(with(grant(r, b), "code", func(string) string { return "planted-code" }))
	})
	f("no code", "refused", 400, "", false, func(r *rig, b *browser) answer {
		return b.get(with(grant(r, b), "code", func(string) string { return "" }))
	})
	f("code too old", "refused", 400, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.answerWith(400, `{"status":"EXPIRED_AUTH_CODE","message":"auth code is expired","error":"invalid_grant"}`)
		return b.get(back)
	})
	f("redirect address of another app", "unavailable", 500, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.answerWith(400, `{"status":"MISMATCH_REDIRECT_URI_AUTH_CODE","error":"invalid_grant"}`)
		return b.get(back)
	})
	f("wrong client secret", "unavailable", 500, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.app.ClientSecret = "another"
		r.restart()
		return b.get(back)
	})
	f("wrong client id", "unavailable", 500, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.app.ClientID = "nobody"
		r.restart()
		return b.get(back)
	})
	f("another redirect address", "unavailable", 500, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.app.RedirectURL = "https://other.example.com/connect/crm/callback"
		r.restart()
		return b.get(back)
	})
	f("scopes missing", "scopes_missing", 403, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.app.Scopes = append(slices.Clone(r.app.Scopes), "crm.lists.read")
		r.restart()
		a := b.get(back)
		if a.location == "" && !strings.Contains(a.body, "crm.lists.read") {
			r.t.Errorf("the page does not name the scope: %s", a.body)
		}
		return a
	})
	f("HubSpot down", "unavailable", 503, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.answerWith(503, "<html>gateway</html>")
		return b.get(back)
	})
	f("HubSpot's answer is no JSON", "unavailable", 503, "", false, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.answerWith(200, `{"access_token":"x\r\ny","refresh_token":"r","expires_in":1800,"hub_id":1001}`)
		return b.get(back)
	})
	f("return address not allowed any more", "connected", 200, page, true, func(r *rig, b *browser) answer {
		back := grant(r, b)
		r.app.ReturnURLs = nil
		r.restart()
		return b.get(back)
	})
	f("link too old", "link_expired", 400, "", false, func(r *rig, b *browser) answer {
		link := r.link("a1", r.linkReturn)
		time.Sleep(r.app.LinkAge)
		return b.get(link)
	})
	f("link of before it connected", "link_used", 400, "", true, func(r *rig, b *browser) answer {
		link := r.link("a1", r.linkReturn)
		time.Sleep(time.Second)
		b.get(grant(r, b))
		return r.browser().get(link)
	})
	f("begun by a link of before it connected another hub", "link_used", 400, "", true, func(r *rig, b *browser) answer {
		thief := r.browser()
		back := thief.consent(r.link("a1", r.linkReturn), hubB, true)
		time.Sleep(time.Second)
		b.get(grant(r, b))
		a := thief.get(back)
		if hub := r.s.Hub("crm", "a1"); hub != hubA {
			r.t.Errorf("the account is connected to hub %s, want %s", hub, hubA)
		}
		return a
	})
	f("link of before it disconnected", "link_used", 400, "", false, func(r *rig, b *browser) answer {
		b.get(grant(r, b))
		time.Sleep(time.Second)
		link := r.link("a1", r.linkReturn)
		time.Sleep(time.Second)
		if _, err := r.s.Disconnect(r.t.Context(), "crm", "a1"); err != nil {
			r.t.Error(err)
		}
		return b.get(link)
	})
	f("link of before it disconnected, and the router was killed", "link_used", 400, "", false, func(r *rig, b *browser) answer {
		b.get(grant(r, b))
		time.Sleep(time.Second)
		link := r.link("a1", r.linkReturn)
		time.Sleep(time.Second)
		if _, err := r.s.Disconnect(r.t.Context(), "crm", "a1"); err != nil {
			r.t.Error(err)
		}
		r.kill()
		return b.get(link)
	})
	f("link_age is less by now", "link_expired", 400, "", false, func(r *rig, b *browser) answer {
		link := r.link("a1", r.linkReturn)
		time.Sleep(2 * time.Minute)
		r.app.LinkAge = time.Minute
		r.restart()
		return b.get(link)
	})
	f("disconnected while the code is exchanged", "link_used", 400, "", false, func(r *rig, b *browser) answer {
		b.get(grant(r, b))
		time.Sleep(time.Second)
		back := grant(r, b)
		r.intercept(func(req *http.Request, next func() (*http.Response, error)) (*http.Response, error) {
			res, err := next()
			r.intercept(nil)
			time.Sleep(time.Second)
			if _, err := r.s.Disconnect(r.t.Context(), "crm", "a1"); err != nil {
				r.t.Error(err)
			}
			return res, err
		})
		return b.get(back)
	})
	f("a new link to another hub", "connected", 200, "", true, func(r *rig, b *browser) answer {
		b.get(grant(r, b))
		a := b.get(b.consent(r.link("a1", r.linkReturn), hubB, true))
		if hub := r.s.Hub("crm", "a1"); hub != hubB {
			r.t.Errorf("the account is connected to hub %s, want %s", hub, hubB)
		}
		return a
	})
	f("link changed", "link_invalid", 400, page, false, func(r *rig, b *browser) answer {
		return b.get(with(r.link("a1", r.linkReturn), "link", func(s string) string { return s[:len(s)-2] + flip(s[len(s)-2:]) }))
	})
}

// flip is another text.
func flip(s string) string {
	if s == "AA" {
		return "BA"
	}
	return "AA"
}

// with changes one parameter of an address.
func with(address, name string, change func(string) string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	q := u.Query()
	q.Set(name, change(q.Get(name)))
	u.RawQuery = q.Encode()
	return u.String()
}

func TestPagesSpeakGerman(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		a := r.browser().get(home+"start?link=x", "Accept-Language", "de-AT,de;q=0.9,en;q=0.5")
		if !strings.Contains(a.body, `lang="de"`) || !strings.Contains(a.body, "Link ungültig") {
			t.Errorf("got %s", a.body)
		}
	})
	for word := range texts["en"] {
		if texts["de"][word] == (words{}) {
			t.Errorf("%s has no German words", word)
		}
	}
}

// TestReturnURL holds that browsers are sent nowhere but where the configuration says.
func TestReturnURL(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		f := func(address string, allowed bool) {
			t.Helper()
			_, _, err := r.s.Link("crm", "a1", address)
			if (err == nil) != allowed {
				t.Errorf("%q: got %v, allowed should be %t", address, err, allowed)
			}
		}
		f("https://app.example.com/settings", true)
		f("https://APP.example.com/settings", true)
		f("https://app.example.com/settings/", true)
		f("https://app.example.com/settings/crm?a=b", true)
		f("https://events.example.com/connect/crm/portal?token=x", true) // the router's own page
		f("https://events.example.com/connect/crm/start", false)
		f("https://app.example.com/settingsevil", false)
		f("https://app.example.com/", false)
		f("https://app.example.com", false)
		f("http://app.example.com/settings", false)
		f("https://app.example.com:8443/settings", false)
		f("https://app.example.com.evil.example/settings", false)
		f("https://app.example.com@evil.example/settings", false)
		f("https://user@app.example.com/settings", false)
		f("https://evil.example/https://app.example.com/settings", false)
		f("//app.example.com/settings", false)
		f("//evil.example/settings", false)
		f(`https://app.example.com\@evil.example/settings`, false)
		f(`https:\\app.example.com/settings`, false)
		f("https://app.example.com/settings/../admin", false)
		f("https://app.example.com/settings/%2e%2e/admin", false)
		f("https://app.example.com/settings/..%2fadmin", false)
		f("https://app.example.com/settings/%252e%252e/admin", false)
		f("https://app.example.com/settings/..;/admin", false)
		f("https://app.example.com/settings/..;a=b/admin", false)
		f("https://app.example.com/settings/%2e%2e%3b/admin", false)
		f("https://app.example.com//settings", false)
		f("https://app.example.com/settings//evil", false)
		f("https://app.example.com/settings#fragment", false)
		f("https://app.example.com/settings#", false)
		f("https://app.example.com/settings\r\nSet-Cookie: a=b", false)
		f(" https://app.example.com/settings", false)
		f("javascript:alert(1)", false)
		f("https:app.example.com/settings", false)
		f("https://app.example.com/settings?x="+strings.Repeat("y", 3000), false)
	})
}

func TestSameAndOtherHubs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		var changes []Change
		r.s.Subscribe(func(c Change) { changes = append(changes, c) })
		r.mustConnect("a1", hubA)
		since, _ := r.s.Get("crm", "a1")
		time.Sleep(time.Hour)

		// The same hub once more: renewed. The router is told, for what was blocked may go on; the team is not.
		r.mustConnect("a1", hubA)
		again, _ := r.s.Get("crm", "a1")
		if len(changes) != 2 || changes[1].WasHub != hubA || len(r.told()) != 1 || !again.Since.Equal(*since.Since) || !again.Granted.After(*since.Granted) {
			t.Errorf("renewed: got %d changes, since %v, granted %v; was %v, %v", len(changes), again.Since, again.Granted, since.Since, since.Granted)
		}

		// Another account with the same hub: both are connected, and who looks sees it.
		r.mustConnect("a2", hubA)
		for account, other := range map[string]string{"a1": "a2", "a2": "a1"} {
			if c, _ := r.s.Get("crm", account); c.Status != Connected || !slices.Equal(c.AlsoConnected, []string{other}) {
				t.Errorf("%s: got %+v, want it connected, also %s", account, c, other)
			}
		}
		if !strings.Contains(r.logged(), "connected to the same hub") {
			t.Errorf("no warning in the log:\n%s", r.logged())
		}

		// Another hub than before.
		r.mustConnect("a1", hubB)
		last := changes[len(changes)-1]
		if last.Hub != hubB || last.WasHub != hubA || last.Status != Connected || r.s.Hub("crm", "a1") != hubB {
			t.Errorf("another hub: got %+v and hub %s", last, r.s.Hub("crm", "a1"))
		}
		if c, _ := r.s.Get("crm", "a2"); len(c.AlsoConnected) != 0 {
			t.Errorf("a2: got %+v, want that nobody else has its hub", c)
		}
		// The other account's tokens were the same, and must not have been revoked.
		time.Sleep(time.Hour)
		if _, err := r.s.Token(t.Context(), "crm", "a2", hubA); err != nil {
			t.Errorf("token of a2: %v", err)
		}
	})
}

func TestOldHubIsRevoked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		r.mustConnect("a1", hubB)
		for _, in := range r.hub.Installs() {
			if in.CanRefresh != (in.HubID == hubB) {
				t.Errorf("hub %s: can refresh %t", in.HubID, in.CanRefresh)
			}
		}
	})
}

func TestLinksAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		f := func(body string, status int) {
			t.Helper()
			if a := r.api(http.MethodPost, "", body); a.status != status || !strings.Contains(a.body, `"message"`) {
				t.Errorf("%s: got %d %s, want %d", body, a.status, a.body, status)
			}
		}
		f(`{"app":"none","account":"a1"}`, 404)
		f(`{"app":"crm"}`, 400)
		f(`{"app":"crm","account":"a\u0000b"}`, 400)
		f(`{"app":"crm","account":"`+strings.Repeat("a", 257)+`"}`, 400)
		f(`{"app":"crm","account":"a1","return_url":"https://evil.example/"}`, 400)
		f(`{"app":"crm","account":"a1","colour":1}`, 400)
		f(`[]`, 400)
		f(``, 400)
	})
}

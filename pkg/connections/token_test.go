package connections

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// token asks for one of a1's in hubA.
func (r *rig) token() (config.Secret, error) {
	return r.s.Token(context.Background(), "crm", "a1", hubA)
}

func (r *rig) mustToken() config.Secret {
	r.t.Helper()
	token, err := r.token()
	if err != nil {
		r.t.Fatalf("token: %v", err)
	}
	return token
}

// valid says whether HubSpot takes a token.
func (r *rig) valid(token config.Secret) bool {
	r.t.Helper()
	req, _ := http.NewRequest(http.MethodGet, "https://api.hubapi.com/crm/v3/objects/contacts?limit=1", nil)
	req.Header.Set("Authorization", "Bearer "+string(token))
	res, err := r.hub.RoundTripper().RoundTrip(req)
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// countRefreshes counts the calls that refresh, and lets them take a while.
func (r *rig) countRefreshes(takes time.Duration) (count func() int) {
	var mu sync.Mutex
	n := 0
	r.intercept(func(req *http.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if strings.HasSuffix(req.URL.Path, "/token") {
			mu.Lock()
			n++
			mu.Unlock()
			time.Sleep(takes)
		}
		return next()
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

func TestTokenIsRefreshedAheadOfItsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		first := r.mustToken()
		count := r.countRefreshes(time.Second)

		time.Sleep(20 * time.Minute) // of 30: 0.7 are 21
		if again := r.mustToken(); again != first || count() != 0 {
			t.Errorf("after 20 minutes: another token: %t, %d refreshes", again != first, count())
		}
		time.Sleep(6 * time.Minute) // 0.85 are 25.5
		began := time.Now()
		if again := r.mustToken(); again != first || time.Since(began) != 0 {
			t.Errorf("the old token is good yet: got another one: %t, after %v", again != first, time.Since(began))
		}
		time.Sleep(2 * time.Second)
		if again := r.mustToken(); again == first || count() != 1 || !r.valid(again) {
			t.Errorf("after 26 minutes: the same token: %t, %d refreshes", again == first, count())
		}

		// One that has expired is waited for.
		time.Sleep(2 * time.Hour)
		began = time.Now()
		if again := r.mustToken(); time.Since(began) != time.Second || count() != 2 || !r.valid(again) {
			t.Errorf("after its end: got a token after %v, %d refreshes", time.Since(began), count())
		}
	})
}

func TestOneRefreshForAllWhoAsk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		count := r.countRefreshes(5 * time.Second)
		time.Sleep(time.Hour)
		var wg sync.WaitGroup
		tokens := make([]config.Secret, 100)
		for i := range tokens {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i == 0 { // who began it does not wait for it
					time.AfterFunc(time.Second, cancel)
				}
				time.Sleep(time.Duration(i) * time.Millisecond)
				token, err := r.s.Token(ctx, "crm", "a1", hubA)
				if i > 0 && err != nil || i == 0 && !errors.Is(err, context.Canceled) {
					t.Errorf("caller %d: %v", i, err)
				}
				tokens[i] = token
			})
		}
		wg.Wait()
		if count() != 1 {
			t.Errorf("got %d refreshes for 100 who ask, want 1", count())
		}
		for i, token := range tokens[1:] {
			if token != tokens[1] {
				t.Errorf("caller %d got another token", i+1)
			}
		}
	})
}

// TestRefreshFails holds what becomes of an account whose token can not be refreshed.
func TestRefreshFails(t *testing.T) {
	const blocks, retries, lost = "blocks", "retries", "lost"
	f := func(name, want string, play func(r *rig)) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t)
				r.mustConnect("a1", hubA)
				time.Sleep(time.Hour)
				play(r)
				_, err := r.token()
				_, again := errors.AsType[*destinations.RetryError](err)
				switch {
				case want == retries && again && r.status("a1") == Connected:
				case want == blocks && isBlocked(err) && r.status("a1") == Connected:
				case want == lost && isBlocked(err) && r.status("a1") == ReconnectNeeded:
				default:
					t.Fatalf("got %v and status %q, want %s", err, r.status("a1"), want)
				}
				c, _ := r.s.Get("crm", "a1")
				if c.LastError == "" || c.LastErrorAt == nil || c.Hub != hubA {
					t.Errorf("got %+v, want the hub and the error", c)
				}

				// A restart changes nothing of it, and what was wrong can be put right.
				r.intercept(nil)
				r.app.ClientSecret, r.app.ClientID = secretText, "client-1"
				r.restart()
				if want == lost {
					if _, err := r.token(); !isBlocked(err) || r.status("a1") != ReconnectNeeded {
						t.Errorf("after a restart: got %v, status %q", err, r.status("a1"))
					}
					if err := r.hub.AddHubs(sandbox.Hub{ID: hubA}); err == nil {
						t.Log("the hub is there again")
					}
					r.mustConnect("a1", hubA)
				}
				if token := r.mustToken(); !r.valid(token) || r.status("a1") != Connected {
					t.Errorf("at last: status %q", r.status("a1"))
				}
			})
		})
	}
	secret := func(change func(*config.App)) func(r *rig) {
		return func(r *rig) {
			change(&r.app)
			if err := r.s.SetApps([]config.App{r.app}); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	f("refresh token revoked", lost, func(r *rig) { r.hub.RevokeRefresh("", hubA) })
	f("uninstalled", lost, func(r *rig) { r.hub.Uninstall("", hubA) })
	f("hub deleted", lost, func(r *rig) { r.hub.RemoveHub(hubA) })
	f("a refresh token that is good no more, in the standard's words alone", lost, func(r *rig) { r.answerWith(400, `{"error":"invalid_grant","error_description":"?"}`) })
	f("an app that is unknown, likewise", blocks, func(r *rig) { r.answerWith(401, `{"status":"NEW_WORD","error":"invalid_client"}`) })
	f("client secret changed", blocks, secret(func(a *config.App) { a.ClientSecret = "another" }))
	f("client id changed", blocks, secret(func(a *config.App) { a.ClientID = "nobody" }))
	f("gateway", retries, func(r *rig) { r.answerWith(502, "<html>") })
	f("500 with the words of a lost token", retries, func(r *rig) { r.answerWith(500, `{"status":"BAD_REFRESH_TOKEN"}`) })
	f("429", retries, func(r *rig) { r.answerWith(429, `{"status":"error"}`) })
	f("403 of something between", retries, func(r *rig) { r.answerWith(403, `<html>blocked</html>`) })
	f("400 without a reason", retries, func(r *rig) { r.answerWith(400, `{"message":"?"}`) })
	f("no JSON", retries, func(r *rig) { r.answerWith(200, `{`) })
	f("no token", retries, func(r *rig) { r.answerWith(200, `{"expires_in":1800}`) })
	f("another hub's token", retries, func(r *rig) { r.answerWith(200, `{"access_token":"t","expires_in":1800,"hub_id":99}`) })
	f("redirect", retries, func(r *rig) { r.answerWith(302, ``) })
	f("network", retries, func(r *rig) {
		r.intercept(func(*http.Request, func() (*http.Response, error)) (*http.Response, error) {
			return nil, errors.New("connection refused")
		})
	})
}

// TestRefreshesBackOff counts the calls while HubSpot gives no token, and when it does again.
func TestRefreshesBackOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		calls, down := 0, true
		r.intercept(func(req *http.Request, next func() (*http.Response, error)) (*http.Response, error) {
			if calls++; down {
				return nil, errors.New("connection refused")
			}
			return next()
		})
		time.Sleep(time.Hour)
		for range 3600 {
			if _, err := r.token(); err == nil {
				t.Fatal("got a token of a remote that is down")
			}
			time.Sleep(time.Second)
		}
		if calls < 15 || calls > 30 { // 1, 2, 4, ... 256, then 300 s, each up to a quarter less
			t.Errorf("got %d calls in an hour, want about 20", calls)
		}
		down = false
		time.Sleep(longestPause)
		if !r.valid(r.mustToken()) {
			t.Error("the token is not valid")
		}
	})
}

func TestRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		r.mustConnect("a1", hubA)
		first := r.mustToken()
		r.hub.ExpireAccess("", hubA)
		count := r.countRefreshes(0)
		for range 10 { // as many calls were on their way
			r.s.Refused("crm", "a1", first)
		}
		second := r.mustToken()
		r.s.Refused("crm", "a1", first) // and one comes late
		if third := r.mustToken(); second == first || third != second || count() != 1 || !r.valid(third) {
			t.Errorf("another token: %t, kept: %t, %d refreshes, want 1", second != first, third == second, count())
		}

		// HubSpot refuses whatever it gives: that must not become a loop.
		began := time.Now()
		for time.Since(began) < time.Hour {
			if token, err := r.token(); err == nil {
				r.s.Refused("crm", "a1", token)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if count() < 10 || count() > 40 {
			t.Errorf("got %d refreshes in an hour of refusals, want some 20", count())
		}
		if r.status("a1") != Connected {
			t.Errorf("status: got %q", r.status("a1"))
		}
	})
}

// TestRotation holds that a refresh token which HubSpot replaces is kept, for all accounts that had the old one.
func TestRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(_ *rig, o *sandbox.Options) { o.RotateRefreshTokens = true })
		r.mustConnect("a1", hubA)
		r.mustConnect("a2", hubA)
		for range 5 {
			time.Sleep(time.Hour)
			var wg sync.WaitGroup
			for _, account := range []string{"a1", "a2"} {
				wg.Go(func() {
					if token, err := r.s.Token(t.Context(), "crm", account, hubA); err != nil || !r.valid(token) {
						t.Errorf("%s: %v", account, err)
					}
				})
			}
			wg.Wait()
			time.Sleep(time.Hour)
			if _, err := r.s.Token(t.Context(), "crm", "a1", hubA); err != nil {
				t.Errorf("a1 alone: %v", err)
			}
			synctest.Wait()
			r.restart()
		}
		if a, b := r.status("a1"), r.status("a2"); a != Connected || b != Connected {
			t.Errorf("got %q and %q\n%s", a, b, r.logged())
		}
	})
}

func TestUnknownAccounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t)
		c := r.s.For("crm")
		if hub := c.Hub("nobody"); hub != "" {
			t.Errorf("hub: got %q", hub)
		}
		for _, hub := range []string{"", hubA} {
			if _, err := c.Token(t.Context(), "nobody", hub); !isBlocked(err) {
				t.Errorf("token: got %v, want that it is blocked", err)
			}
		}
		c.Refused("nobody", "x")
		c.Delivered("nobody")
		r.mustConnect("a1", hubA)
		if _, err := c.Token(t.Context(), "a1", ""); !isBlocked(err) {
			t.Errorf("token for no hub: got %v, want that it is blocked", err)
		}
		if err := r.s.SetApps(nil); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Token(t.Context(), "a1", hubA); !isBlocked(err) || c.Hub("a1") != hubA {
			t.Errorf("an app that is gone: got %v, hub %q", err, c.Hub("a1"))
		}
	})
}

func TestChoices(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, func(r *rig, _ *sandbox.Options) {
			r.app.Portal.Options = []config.PortalOption{
				{Name: "marketing", Default: true, Properties: []string{"newsletter"}, Events: []string{"page"}},
				{Name: "sales", Default: false, Properties: []string{"plan"}},
			}
		})
		check := func(account string, newsletter, page, plan bool) {
			t.Helper()
			c := r.s.For("crm").Choices(account)
			if c.Properties["newsletter"] != newsletter || c.EventTypes["page"] != page || c.Properties["plan"] != plan {
				t.Errorf("%s: got %+v, want off: newsletter %t, page %t, plan %t", account, c, newsletter, page, plan)
			}
		}
		check("nobody", false, false, true)
		if err := r.s.Choose(t.Context(), "crm", "a1", Chosen{Options: map[string]bool{"sales": true}}); !errors.Is(err, ErrNotConnected) {
			t.Errorf("choose before it connects: %v", err)
		}
		r.mustConnect("a1", hubA)
		for _, c := range []Chosen{{Options: map[string]bool{"sales": true}}, {Options: map[string]bool{"marketing": false}}} {
			if err := r.s.Choose(t.Context(), "crm", "a1", c); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []Chosen{{Options: map[string]bool{"none": true}}, {AppEvents: map[string]bool{"none": true}}} {
			if err := r.s.Choose(t.Context(), "crm", "a1", c); !errors.Is(err, ErrNoOption) {
				t.Errorf("choose what there is not: %v", err)
			}
		}
		check("a1", true, true, false)
		time.Sleep(time.Hour)
		r.mustToken()
		r.restart()
		check("a1", true, true, false)
		r.mustConnect("a1", hubA)
		check("a1", true, true, false)
		check("a2", false, false, true)
	})
}

package sandbox

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestHubsAtOnce: many hubs are connected, written to, refreshed and left at the same time; each holds its own contact and no other.
func TestHubsAtOnce(t *testing.T) {
	const hubs, rounds = 20, 5
	c := newOAuthClient(t, Options{Token: "pat-na1-test", RotateRefreshTokens: true})
	if err := c.AddHubs(Hubs(3000, hubs)...); err != nil {
		t.Fatal(err)
	}
	connect := func(own *oauthClient, hub string) (access, refresh string, err error) {
		back, err := own.Consent(link(), hub, true)
		if err != nil {
			return "", "", err
		}
		u, err := url.Parse(back)
		if err != nil {
			return "", "", err
		}
		_, answer := own.exchange(u.Query().Get("code"))
		return answer.Get("access_token").Str, answer.Get("refresh_token").Str, nil
	}
	var done sync.WaitGroup
	for i := range hubs {
		done.Go(func() {
			own, hub := &oauthClient{&client{t: t, Sandbox: c.Sandbox}}, strconv.Itoa(3000+i)
			for n := range rounds {
				access, refresh, err := connect(own, hub)
				if err != nil {
					t.Errorf("hub %s: %v", hub, err)
					return
				}
				if status, answer := own.refresh(refresh); status == 200 {
					access = answer.Get("access_token").Str
				}
				if status, answer := own.as(access, "POST", upsertPath, upsert("of-"+hub+"@b.co", "city", fmt.Sprint(n))); status != 200 {
					t.Errorf("hub %s: %d %s", hub, status, answer.Raw)
				}
				own.Installs()
				own.view("GET", "/pages/hubs", "")
				own.view("GET", "/hubs/"+hub+"/contacts", "")
				if err := own.Uninstall("cid", hub); err != nil {
					t.Errorf("hub %s: %v", hub, err)
				}
				if status, _ := own.as(access, "GET", contactsPath, ""); status != 401 {
					t.Errorf("hub %s, uninstalled: %d", hub, status)
				}
			}
		})
	}
	done.Go(func() { // a hub from Options is emptied meanwhile
		for range rounds {
			c.Hub("1001").Reset()
			c.Hub("1001").Contacts()
		}
	})
	done.Wait()
	for i := range hubs {
		hub := strconv.Itoa(3000 + i)
		if list := c.Hub(hub).Contacts(); len(list) != 1 || !strings.HasPrefix(list[0].Properties["email"], "of-"+hub) || list[0].Properties["city"] != strconv.Itoa(rounds-1) {
			t.Errorf("hub %s holds %v", hub, list)
		}
	}
	c.Reset()
	if got := c.provider.hub("3000"); got != nil || len(c.Installs()) != 0 {
		t.Errorf("after Reset: %v, %v", got, c.Installs())
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/router"
)

// explained is what router explain --account prints of a person, by the answer of the API.
func (r *appRig) explained(person, account string) string {
	r.t.Helper()
	resp := r.request("GET", explainPath+"?"+url.Values{"person": {person}, "account": {account}}.Encode(), "admin-1234", "")
	var x router.Explanation
	if err := json.Unmarshal(resp.Body(), &x); err != nil || resp.StatusCode() != 200 {
		r.t.Fatalf("%d %s: %v", resp.StatusCode(), resp.Body(), err)
	}
	var text strings.Builder
	if err := writeExplanation(&text, &x); err != nil {
		r.t.Fatal(err)
	}
	return text.String()
}

// ofTenant posts an event of an account with a server secret.
func (r *appRig) ofTenant(account, email string) {
	r.t.Helper()
	body := fmt.Sprintf(`{"event_type":"user_identify","tenant":%q,"user":{"email":%q}}`, account, email)
	if resp := r.request("POST", "/api/v1/s2s/event?token=s2s.app", "", body); resp.StatusCode() != 200 {
		r.t.Fatalf("%s: %d %s", body, resp.StatusCode(), resp.Body())
	}
}

// TestExplainAccounts: of an event that waits for an account, is blocked until it connects anew, is parked because it has connected another hub, or was given up, people read in the answer whose it is, why, and what to do;
// of one account alone if they ask for that. The same person's events in other accounts are theirs.
func TestExplainAccounts(t *testing.T) {
	inAppRig(t, "", func(r *appRig) {
		r.stop()
		r.more = ", unknown_account_ttl: 10m"
		r.start()
		r.ofTenant("a4", "ada@example.com")
		time.Sleep(11 * time.Minute)
		r.ofTenant("a1", "ada@example.com")
		for account, hub := range map[string]string{"a2": "1001", "a3": "1002"} {
			r.connect(account, hub)
			if err := r.box.Uninstall("client-1", hub); err != nil {
				t.Fatal(err)
			}
			r.ofTenant(account, "ada@example.com")
			time.Sleep(time.Minute)
		}
		r.connect("a3", "1001")
		time.Sleep(time.Minute)

		f := func(account string, want ...string) {
			t.Helper()
			got := r.explained("ada@example.com", account)
			text := strings.Join(strings.Fields(got), " ")
			for _, want := range want {
				if !strings.Contains(text, want) {
					t.Errorf("of %s: got\n%s\nwant %q in it", account, got, want)
				}
			}
			for _, other := range []string{"a1", "a2", "a3", "a4"} {
				if other != account && strings.Contains(text, "account "+other) {
					t.Errorf("of %s: got\n%s\nwhich tells of %s", account, got, other)
				}
			}
		}
		f("a1", "customers, contacts (account a1)", "waiting for the account a1 to connect: its people need an install link (router connections link)", "because the account a1 is not connected")
		f("a2", "customers, contacts (hub 1001, account a2)", "its lane is blocked", "because the account has to connect anew: HubSpot says that the app may not use the account any more")
		f("a3", "customers, contacts (hub 1002, account a3)", "it goes on when the account a3 is connected to hub 1002 again, or a person moves or drops it (router lanes move, router lanes drop)", "because the account a3 is not connected to this hub any more")
		f("a4", "customers, contacts (account a4)", "dead letter", "reason unknown_account", "error the account a4 has not connected within 10m0s (unknown_account_ttl): replay it when it has")
		if got := r.explained("ada@example.com", ""); strings.Count(got, "received ") != 4 {
			t.Errorf("of all accounts: got\n%s", got)
		}
		if got := r.explained("ada@example.com", "a5"); !strings.Contains(got, "nothing is known") {
			t.Errorf("of an account that there is not: got\n%s", got)
		}
	})
}

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestProblemOfAnAccount: what keeps the events of an account from HubSpot is told to its people in a word, when it lasts, and to no other account's; no word of HubSpot's answers is with it. Who
// connects anew because of a permission has what waits leave at once.
func TestProblemOfAnAccount(t *testing.T) {
	inAppRig(t, "", func(r *appRig) {
		r.connect("a1", "1001")
		r.connect("a2", "1002")
		told := func(account string) string {
			resp := r.request("GET", "/api/v1/apps/crm/connection", r.token(account), "")
			body := string(resp.Body())
			if strings.Contains(body, "planted") || strings.Contains(body, "correlation") || account == "a2" && strings.Contains(body, "a1") {
				t.Errorf("%s is told %s", account, body)
			}
			if at := gjson.Get(body, "problem_at"); at.Exists() != (gjson.Get(body, "problem").String() != "") {
				t.Errorf("a time without a problem, or the other way round: %s", body)
			}
			return gjson.Get(body, "problem").String()
		}
		want := func(when, want string) {
			t.Helper()
			if got, other := told("a1"), told("a2"); got != want || other != "" {
				t.Errorf("%s: %q, and the other account %q; want %q and nothing", when, got, other, want)
			}
		}
		f := func(fault sandbox.Fault, soon, later, end string) {
			t.Helper()
			fault.Endpoint = "contacts"
			clear := r.box.Hub("1001").Inject(fault)
			r.posts("a1", `{"name":"Contact Created","payload":{"email":"ada@example.com"}}`)
			r.posts("a2", `{"name":"Contact Created","payload":{"email":"bob@example.com"}}`)
			time.Sleep(40 * time.Second)
			want("soon", soon)
			time.Sleep(2 * time.Minute)
			want("later", later)
			clear()
			r.drain(10 * time.Minute)
			want("in the end", end)
		}
		f(sandbox.Fault{Status: 503, Body: "planted"}, "", "unavailable", "")
		f(sandbox.Fault{Status: 429, Body: `{"status":"error","policyName":"DAILY","message":"planted"}`}, "", "limit", "")
		f(sandbox.Fault{Status: 403, Body: `{"status":"error","message":"planted"}`}, "permission", "permission", "")
		f(sandbox.Fault{Status: 405, Body: "planted"}, "", "other", "")

		clear := r.box.Hub("1001").Inject(sandbox.Fault{Endpoint: "contacts", Status: 403, Body: `{"status":"error","message":"planted"}`})
		r.posts("a1", `{"name":"Contact Created","payload":{"email":"late@example.com"}}`)
		time.Sleep(11 * time.Minute) // probes are minutes apart by now
		want("later", "permission")
		clear()
		r.connect("a1", "1001")
		time.Sleep(5 * time.Second)
		want("connected anew", "")
		if _, ok := r.box.Hub("1001").Contact("late@example.com"); !ok {
			t.Error("what waited for a permission waits still, seconds after the account has connected anew")
		}

		f(sandbox.Fault{Status: 400, Body: `{"status":"error","category":"VALIDATION_ERROR","message":"planted"}`}, "refused", "refused", "refused")
	})
}

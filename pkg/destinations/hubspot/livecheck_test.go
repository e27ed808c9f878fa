package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// held is everything in the account.
func held(t *testing.T, box *sandbox.Sandbox) string {
	t.Helper()
	b, err := json.Marshal([]any{box.Contacts(), box.Events(), box.Definitions(), box.Properties()})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// liveCheckReads are the operations that change nothing.
var liveCheckReads = []string{"account-info", "token-info", "properties/list", "properties/groups/list", "contacts/list", "definitions/list"}

// runCheck makes a live check and returns a line per finding: level check: text -> fix. It fails when anything was written or a token is
// shown.
func runCheck(t *testing.T, r *rig) []string {
	t.Helper()
	before := held(t, r.box)
	var lines []string
	for _, f := range r.dest.Test(t.Context()) {
		lines = append(lines, fmt.Sprintf("%s %s: %s -> %s", f.Level, f.Check, f.Text, f.Fix))
	}
	if held(t, r.box) != before {
		t.Error("the check changed the account")
	}
	for _, call := range r.box.Calls() {
		if !slices.Contains(liveCheckReads, call.Endpoint) {
			t.Errorf("the check made a call of %s", call.Endpoint)
		}
	}
	all := strings.Join(lines, "\n")
	if strings.Contains(all, testToken) || strings.Contains(r.logs.String(), testToken) {
		t.Errorf("the token is shown:\n%s", all)
	}
	return lines
}

// TestLiveCheckOfSoundAccount reads like a list of what is well.
func TestLiveCheckOfSoundAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 190, Daily: 1000, TimeZone: time.FixedZone("Europe/Berlin", 3600), Properties: []sandbox.Property{
			{Name: "user_id", Label: "U", Type: "string", FieldType: "text", HasUniqueValue: true},
			{Name: "interests", Label: "I", Type: "enumeration", FieldType: "checkbox", Options: []sandbox.Option{{Label: "A", Value: "a"}}},
		}}, `
id_property: user_id
properties:
  map: {company: "x", plan_tier: "x"}
  except: [phone]
  write: {firstname: if_empty, interests: append}
  unknown: create
events: {define: ["Signed Up"]}
`)
		got := runCheck(t, r)
		want := []string{
			"ok token: HubSpot accepts the access token -> ",
			"ok account: the token is for account 12345, type STANDARD, time zone Europe/Berlin, data in na1 -> ",
			"ok scopes: the token has crm.objects.contacts.write, crm.schemas.contacts.read, crm.objects.contacts.read, crm.schemas.contacts.write, " +
				"analytics.behavioral_events.send, behavioral_events.event_definitions.read_write -> ",
			"ok tier: the account may have custom events -> ",
			"ok properties: will be made when a value for them comes: plan_tier -> ",
			"ok events: will be defined when they first occur: signed_up -> ",
			"ok quota: 184 of 190 calls in 10s are left, 994 of 1000 today -> ",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestLiveCheckFinds has, for what is wrong with an account, what is found and what the fix must name.
func TestLiveCheckFinds(t *testing.T) {
	f := func(o sandbox.Options, yaml string, change func(*rig), want ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, o, yaml)
			if change != nil {
				change(r)
			}
			got := runCheck(t, r)
			for _, w := range want {
				level, words, _ := strings.Cut(w, " ")
				if !slices.ContainsFunc(got, func(line string) bool {
					if !strings.HasPrefix(line, level) {
						return false
					}
					for _, word := range strings.Split(words, "|") {
						if !strings.Contains(line, word) {
							return false
						}
					}
					return true
				}) {
					t.Errorf("%+v %s: no finding %q in\n%s", o, yaml, w, strings.Join(got, "\n"))
				}
			}
		})
	}
	text := func(name string) sandbox.Property {
		return sandbox.Property{Name: name, Label: name, Type: "string", FieldType: "text"}
	}
	lacks := func(scopes ...string) sandbox.Options { return sandbox.Options{MissingScopes: scopes} }
	none := sandbox.Options{}

	f(none, "", func(r *rig) {
		r.yaml = strings.Replace(r.yaml, testToken, "pat-wrong", 1)
		r.restart()
	}, "error token: |401|set access_token", "unknown rest: was not looked at")
	f(none, "", func(r *rig) {
		r.yaml = strings.Replace(r.yaml, testHub, "777", 1)
		r.restart()
	}, `error account: |12345|777|set hub_id: "12345"`)

	f(lacks(scopeWriteContacts), "", nil, "error scopes: |lacks the scope crm.objects.contacts.write|to write contacts|add the scope")
	f(lacks(scopeReadSchema), "", nil, "error scopes: |lacks the scope crm.schemas.contacts.read")
	f(lacks(scopeReadContacts), "properties: {write: {city: if_empty}}", nil, "error scopes: |lacks the scope crm.objects.contacts.read|if_empty")
	f(lacks(scopeWriteSchema), "properties: {options: create}", nil, "warning scopes: |lacks the scope crm.schemas.contacts.write")
	f(lacks(scopeSendEvents), "", nil, "warning scopes: |lacks the scope analytics.behavioral_events.send|Enterprise", "ok tier:")
	f(lacks(scopeDefinitions), "", nil, "warning scopes: |lacks the scope behavioral_events.event_definitions.read_write", "unknown tier: |scope|Enterprise")
	f(sandbox.Options{NoEnterprise: true}, "", nil, "warning tier: |no Enterprise tier|user_identify", "unknown quota:")

	// When nobody tells what the token may do, reads show some of it.
	untold := sandbox.Options{NoTokenInfo: true, MissingScopes: []string{scopeReadSchema}}
	f(untold, "", nil, "error scopes: |lacks the scope crm.schemas.contacts.read", "unknown scopes: |crm.objects.contacts.write|first delivery",
		"unknown scopes: |analytics.behavioral_events.send", "ok scopes: the token has behavioral_events.event_definitions.read_write ->")
	f(sandbox.Options{NoTokenInfo: true, NoEnterprise: true}, "", nil, "unknown tier: |lacks the scope for them, or the account the Enterprise tier")
	f(none, "", func(r *rig) { r.box.Inject(sandbox.Fault{Endpoint: "token-info", Status: 401}) }, "ok token", "unknown scopes: |contacts.write", "unknown quota")

	f(none, "id_property: user_id", nil, "error properties: id_property: |no contact property user_id|unique values|id_property: email")
	f(sandbox.Options{Properties: []sandbox.Property{text("user_id")}}, "id_property: user_id", nil, "error properties: id_property: |user_id are not unique|unique values")
	f(none, "properties: {map: {first_name: x}}", nil, "warning properties: properties.map: |no contact property first_name (it has firstname)|left out|unknown: create")
	f(none, "properties: {only: [nosuch]}", nil, "warning properties: properties.only: |nosuch")
	f(none, "properties: {except: [nosuch], unknown: create}", nil, "warning properties: properties.except: |nosuch")
	f(none, "properties: {write: {hs_object_id: if_empty}}", nil, "warning properties: properties.write: |hs_object_id|fills itself")
	f(none, "properties: {write: {city: append}}", nil, "warning properties: |append|city is a string|multiple checkboxes")
	f(none, "properties: {map: {city: x}, write: {city: if_empty}}", nil, "ok properties: |among them all that the configuration names")
	f(none, "properties: {map: {plan_tier: x}, unknown: create, group: mine}", nil, "ok properties: will be made|plan_tier", "warning properties: properties.group: |mine|contactinformation")
	f(none, "events: {map: {Signed Up: signed_up}, create: false}", nil, "warning events: |signed_up|create: true")

	f(sandbox.Options{Daily: 3}, "", func(*rig) { time.Sleep(time.Hour) }, "error quota: |used up|00:00")
	f(sandbox.Options{Daily: 121}, "", func(r *rig) {
		for range 112 {
			r.http("GET", "/account-info/v3/details", "")
		}
		r.box.ForgetCalls()
	}, "warning quota: |5 of 121 today|almost")
	f(sandbox.Options{Burst: 100, Daily: 1000}, "daily_budget: 500\nquota_share: 0.8", nil, "ok quota: |at most 500 a day|0.8 of the calls")
	f(sandbox.Options{Burst: 100, Daily: 1000}, "daily_budget: 2", nil, "error quota: |daily_budget of 2 calls is used up")
	f(none, "properties: {write: {lifecyclestage: force}}", nil, "ok scopes: |crm.objects.contacts.read")
	f(none, "", func(r *rig) {
		r.box.Inject(sandbox.Fault{Status: 429, Body: `{"policyName":"TEN_SECONDLY_ROLLING","message":"You have reached your ten_secondly_rolling limit."}`})
	}, "error quota: |3 times in a row")
	f(none, "", func(r *rig) { r.box.Inject(sandbox.Fault{Status: 503}) }, "error account: |503|later")
	f(none, "", func(r *rig) { r.box.Inject(sandbox.Fault{Status: 302}) }, "error account: |redirects|base_url")
	f(none, "", func(r *rig) { r.box.Inject(sandbox.Fault{Drop: true}) }, "error account: |does not answer|base_url")
	f(none, "", func(r *rig) { r.box.Inject(sandbox.Fault{Endpoint: "properties", Drop: true}) }, "ok token", "error account: |does not answer")
	f(none, "", func(r *rig) {
		r.box.Inject(sandbox.Fault{Status: 477, Header: map[string]string{"Retry-After": "7200"}})
	}, "error account: |another data centre|2h0m0s")
	f(none, "", func(r *rig) { r.box.Inject(sandbox.Fault{Status: 404}) }, "unknown account: |base_url", "error properties: |404|api_version", "unknown tier:")
	f(none, "", func(r *rig) { r.box.Inject(sandbox.Fault{Status: 200, Body: "<html>" + testToken}) }, "unknown account: |not HubSpot's", "error properties:")
}

// TestLiveCheckWaitsForQuota: a quota used up by others is waited for, and the calls of the check count in it.
func TestLiveCheckWaitsForQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 5}, "")
		for range 5 {
			r.http("GET", "/account-info/v3/details", "")
		}
		r.box.ForgetCalls()
		began := time.Now()
		lines := runCheck(t, r)
		if took := time.Since(began); took < 10*time.Second || took > 30*time.Second {
			t.Errorf("took %v", took)
		}
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "ok quota") {
			t.Errorf("%s", strings.Join(lines, "\n"))
		}
		if n := r.calls("", 429); n != 1 {
			t.Errorf("%d calls refused", n)
		}
	})
}

// TestLiveCheckEnds with its context: no call is made in vain, and it says so.
func TestLiveCheckEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.env.Transport = script(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, errors.New("cut")
		})
		r.restart()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		found := r.dest.Test(ctx)
		if len(found) != 2 || found[0].Level != destinations.FindingError || found[1].Level != destinations.FindingUnknown {
			t.Errorf("%+v", found)
		}
	})
}

package hubspot

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// What people complain about most in what feeds HubSpot, a test each. Those of the numbers that are not here are about the quota and about batches.

func TestComplaint06AnUnknownPropertyLosesTheEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, subscriber(), "")
		mustDeliver(t, r.run(identify(`{"email":"first@b.co"}`)))
		r.http(http.MethodDelete, "/crm/v3/properties/contacts/plan", "") // the router still knows it
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","firstname":"Ann","plan":"pro","never":"there"}`)))
		if diff := cmp.Diff(map[string]string{"firstname": "Ann"}, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestComplaint07APropertyIsDroppedAndNobodyKnows(t *testing.T) {
	o, r := mapped(t, "", `{"never":"there","createdate":"2020-01-01","seats":"many","interest":"x"}`)
	want := map[string]string{"never": "unknown", "createdate": "read-only", "seats": "value", "interest": "option"}
	if diff := cmp.Diff(want, o.Stripped); diff != "" {
		t.Error(diff)
	}
	for name, reason := range want {
		if n := r.metric("router_stripped_properties_total", "property", name, "reason", reason); n != 1 {
			t.Errorf("%s: counted %v times", name, n)
		}
	}
}

func TestComplaint08AnOptionInAnotherCaseIsRefused(t *testing.T) {
	o, _ := mapped(t, "", `{"interest":"BIKES","vip":"Yes","plan":"kept","interests":["art","nothing"]}`)
	if diff := cmp.Diff(map[string]string{"interest": "b", "vip": "true", "plan": "kept", "interests": "a"}, o.Contact); diff != "" {
		t.Error(diff)
	}
}

func TestComplaint09OptionsThatAreKeptElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","hubspot_owner_id":"12345"}`)))
		if got := r.properties("a@b.co")["hubspot_owner_id"]; got != "12345" {
			t.Errorf("owner %q", got)
		}
	})
}

func TestComplaint10CheckboxesNeedSemicolons(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, subscriber(), "properties: {write: {interests: append}}")
		for _, user := range []string{`"interests":["Art"]`, `"interests":"Bikes; Cars"`, `"interests":["a"]`} {
			mustDeliver(t, r.run(identify(`{"email":"a@b.co",`+user+`}`)))
		}
		if got := r.properties("a@b.co")["interests"]; got != "a;b;c" {
			t.Errorf("interests %q", got)
		}
	})
}

func TestComplaint11Dates(t *testing.T) {
	f := func(settings, sent, born, seen string) {
		t.Helper()
		o, _ := mapped(t, settings, fmt.Sprintf(`{"born":%s,"seen":%[1]s}`, sent))
		if o.Contact["born"] != born || o.Contact["seen"] != seen {
			t.Errorf("%s: %v", sent, o.Contact)
		}
	}
	f("", `"2026-01-02"`, "2026-01-02", "1767312000000")
	f("", `"2026-01-02T13:01:00Z"`, "2026-01-02", "1767358860000") // HubSpot: "is at 13:1:0.0 UTC, not midnight!"
	f("", `1767358860`, "2026-01-02", "1767358860000")
	f("", `1767358860000`, "2026-01-02", "1767358860000")
	f("", `"1767358860000"`, "2026-01-02", "1767358860000")
	f("time_zone: Asia/Tokyo\n", `"2026-01-02T20:00:00Z"`, "2026-01-03", "1767384000000")
}

func TestComplaint12NamesNeverMatch(t *testing.T) {
	for _, name := range []string{"first_name", "First Name", "FIRST-NAME", "first.name"} {
		if o, _ := mapped(t, "", fmt.Sprintf(`{%q:"Ann"}`, name)); o.Contact["first_name"] != "Ann" {
			t.Errorf("%s: %v", name, o.Contact)
		}
	}
	for _, name := range []string{"jobTitle", "job_title", "Job Title", "JobTitle"} {
		// The account has jobtitle, HubSpot's own, and job_title.
		if o, _ := mapped(t, "", fmt.Sprintf(`{%q:"CTO"}`, name)); len(o.Contact) != 1 || len(o.Stripped) != 0 {
			t.Errorf("%s: %v", name, o)
		}
	}
	if o, _ := mapped(t, "properties: {map: {plan: '$.user[\"Tier Name\"]'}}", `{"Tier Name":"pro"}`); o.Contact["plan"] != "pro" {
		t.Errorf("mapped: %v", o)
	}
}

func TestComplaint13NumericText(t *testing.T) {
	o, _ := mapped(t, "", `{"zip":"01234","phone":"+49 30 1234","seats":"","plan":9007199254740993}`)
	want := map[string]string{"zip": "01234", "phone": "+49 30 1234", "plan": "9007199254740993"}
	if diff := cmp.Diff(want, o.Contact); diff != "" || len(o.Stripped) != 0 {
		t.Errorf("%s, stripped %v", diff, o.Stripped)
	}
	for sent, want := range map[string]string{`"45"`: "45", `"0x10"`: "", `"1,000"`: "", `"4e3"`: "", `4e3`: "4000", `" 4.5 "`: "4.5"} {
		if o, _ := mapped(t, "", `{"seats":`+sent+`}`); o.Contact["seats"] != want {
			t.Errorf("%s: %v", sent, o.Contact)
		}
	}
}

func TestComplaint14AChangedAddressMakesASecondContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, externalID(), byExternalID+"properties: {map: {external_id: $.user.id}, except: [id]}\n")
		mustDeliver(t, r.run(identify(`{"id":7,"email":"old@b.co","firstname":"Ann"}`), identify(`{"id":8,"email":"bob@b.co"}`)))
		mustDeliver(t, r.run(identify(`{"id":7,"email":"new@b.co"}`)))
		mustDeliver(t, r.run(identify(`{"id":7,"email":"bob@b.co","plan":"pro"}`))) // another's
		if diff := cmp.Diff(map[string]string{"firstname": "Ann", "plan": "pro", "external_id": "7"}, r.properties("new@b.co")); diff != "" {
			t.Error(diff)
		}
		if n := r.box.ContactCount(); n != 2 {
			t.Errorf("%d contacts, want 2", n)
		}
	})
}

// TestComplaint17AnOlderValueWinsAfterARetry: what failed and is sent again does not go over what came later.
func TestComplaint17AnOlderValueWinsAfterARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 2, Status: 502, Apply: true})
		mustDeliver(t, r.run(
			identify(`{"email":"a@b.co","city":"Rome","firstname":"Ann"}`),
			identify(`{"email":"A@B.co","city":"Oslo"}`),
		))
		if diff := cmp.Diff(map[string]string{"city": "Oslo", "firstname": "Ann"}, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestComplaint20SuccessAndNothingChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: 200, Body: `{"status":"COMPLETE","results":[]}`})
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","city":"Rome"}`)))
		if got := r.properties("a@b.co")["city"]; got != "Rome" {
			t.Errorf("city %q", got)
		}
	})
	for settings, want := range map[string]string{"": "Rome", "properties: {null: ignore}": "Rome", "properties: {null: clear}": ""} {
		for _, nothing := range []string{`null`, `""`} {
			if o, _ := mapped(t, settings, `{"city":"Rome"}`, `{"city":`+nothing+`}`); o.Contact["city"] != want {
				t.Errorf("%s, %s: city %q, want %q", settings, nothing, o.Contact["city"], want)
			}
		}
	}
	if o, _ := mapped(t, "", `{"city":"Rome"}`, `{"other":"`+strings.Repeat("x", 10)+`"}`); o.Contact["city"] != "Rome" {
		t.Errorf("an identify without the property: city %q", o.Contact["city"])
	}
}

package sandbox

import (
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// custom are properties of each kind that HubSpot's own lack.
var custom = []Property{
	{Name: "visits", Label: "Visits", Type: "number", FieldType: "number"},
	{Name: "day", Label: "Day", Type: "date", FieldType: "date"},
	{Name: "moment", Label: "Moment", Type: "datetime", FieldType: "date"},
	{Name: "agreed", Label: "Agreed", Type: "bool", FieldType: "booleancheckbox"},
	{Name: "plan", Label: "Plan", Type: "enumeration", FieldType: "select", Options: []Option{{Label: "Pro", Value: "pro"}, {Label: "Free", Value: "free"}}},
	{Name: "likes", Label: "Likes", Type: "enumeration", FieldType: "checkbox", Options: []Option{
		{Label: "Art", Value: "art"}, {Label: "Sea", Value: "sea"}, {Label: "Air", Value: "air"},
	}},
}

// TestValues writes one JSON value to one property. An empty code means that it is stored, as stored.
func TestValues(t *testing.T) {
	c := newClient(t, Options{Properties: custom})
	f := func(name, jsonValue, code, message, stored string) {
		t.Helper()
		status, answer := c.call("POST", upsertPath, batch(`{"idProperty":"email","id":"a@b.co","properties":{"`+name+`":`+jsonValue+`}}`))
		if got := answer.Get("errors.0.code").Str; got != code || (status == 200) != (code == "") {
			t.Errorf("%s=%s: status %d, code %q, want %q", name, jsonValue, status, got, code)
		}
		if got := answer.Get("errors.0.message").Str; got != message {
			t.Errorf("%s=%s: message %q, want %q", name, jsonValue, got, message)
		}
		if code != "" {
			embedded := gjson.Parse(strings.TrimPrefix(answer.Get("message").Str, "Property values were not valid: "))
			if embedded.Get("0.error").Str != code || embedded.Get("0.name").Str != name || embedded.Get("0.isValid").Bool() {
				t.Errorf("%s=%s: message %s", name, jsonValue, answer.Get("message").Str)
			}
			return
		}
		if ct, _ := c.Contact("a@b.co"); ct.Properties[name] != stored {
			t.Errorf("%s=%s: stored %q, want %q", name, jsonValue, ct.Properties[name], stored)
		}
	}
	ok := func(name, jsonValue, stored string) { t.Helper(); f(name, jsonValue, "", "", stored) }
	bad := func(name, jsonValue, code, message string) { t.Helper(); f(name, jsonValue, code, message, "") }

	ok("city", `"Köln \"Dom\" \u00fc"`, `Köln "Dom" ü`)
	ok("city", `12.50`, "12.50") // scalars pass though only strings are documented
	ok("city", `true`, "true")
	ok("city", `""`, "")
	ok("zip", `"1"`, "1")
	ok("zip", `null`, "")
	bad("nosuch", `"x"`, "PROPERTY_DOESNT_EXIST", `Property "nosuch" does not exist`)
	bad("createdate", `"2020-01-01"`, "READ_ONLY_VALUE", `"createdate" is a read only property; its value cannot be set.`)
	bad("email", `"000"`, "INVALID_EMAIL", "Email address 000 is invalid")
	bad("email", `"a@b.c1"`, "INVALID_EMAIL", "Email address a@b.c1 is invalid")

	ok("visits", `"-12.5"`, "-12.5")
	ok("visits", `7`, "7")
	bad("visits", `"1,000"`, "INVALID_INTEGER", "1,000 was not a valid number.")
	bad("visits", `1.4210854715202004e-14`, "INVALID_INTEGER", "1.4210854715202004e-14 was not a valid number.")
	bad("visits", `" 5"`, "INVALID_INTEGER", " 5 was not a valid number.")
	bad("visits", `"1.2.3"`, "INVALID_INTEGER", "1.2.3 was not a valid number.")
	bad("visits", `"-"`, "INVALID_INTEGER", "- was not a valid number.")

	ok("day", `"2020-02-29"`, "2020-02-29")
	ok("day", `1579132800000`, "1579132800000")
	bad("day", `"1579179660000"`, "INVALID_DATE", "1579179660000 is at 13:1:0.0 UTC, not midnight!")
	bad("day", `"157913280000000"`, "INVALID_DATE", "157913280000000 is more than 1,000 years ago or 1,000 years from now.")
	bad("day", `"2020-01-16T13:01:00Z"`, "INVALID_DATE", "2020-01-16T13:01:00Z was not a valid date.")

	ok("moment", `"2020-01-16T13:01:00.123Z"`, "2020-01-16T13:01:00.123Z")
	ok("moment", `"2020-01-16T13:01:00+01:00"`, "2020-01-16T13:01:00+01:00")
	ok("moment", `1579179660000`, "1579179660000")
	bad("closedate", `"asd000"`, "INVALID_LONG", "asd000 was not a valid long.")

	ok("agreed", `true`, "true")
	bad("agreed", `"yes"`, "INVALID_OPTION", "yes was not one of the allowed options: [true, false]")
	ok("plan", `"pro"`, "pro")
	bad("plan", `"Pro"`, "INVALID_OPTION", "Pro was not one of the allowed options: [pro, free]")
	bad("plan", `"pro;free"`, "INVALID_OPTION", "pro;free was not one of the allowed options: [pro, free]")
	ok("hubspot_owner_id", `"77"`, "77") // options from elsewhere

	ok("likes", `"sea;art"`, "sea;art")
	ok("likes", `";air;art"`, "sea;art;air") // adds
	ok("likes", `"air"`, "air")              // replaces
	bad("likes", `"air; art"`, "INVALID_OPTION", " art was not one of the allowed options: [art, sea, air]")

	bad("city", `"`+strings.Repeat("x", 65537)+`"`, "PROPERTY_VALUE_TOO_LONG", "Property value is too long; the limit is 65536 characters.")
	ok("city", `"`+strings.Repeat("ü", 65536)+`"`, strings.Repeat("ü", 65536))
}

// TestEmailAddresses has addresses as HubSpot judges them.
func TestEmailAddresses(t *testing.T) {
	f := func(address string, want bool) {
		t.Helper()
		if got := isEmail(address); got != want {
			t.Errorf("%q: %t", address, got)
		}
	}
	for _, good := range []string{"a@b.co", "jon+1@web-site.example.com", "o'neil@x.museum", "ü@exämple.de", "a@b.xn--p1ai", "a.b_c@1.2.io"} {
		f(good, true)
	}
	for _, bad := range []string{"", "000", "a@b", "@b.co", "a@", "a b@c.co", "a@b@c.co", "a@b.c", "a@b.12", "a@.co", "a..b@c.co", ".a@c.co", "a@-b.co", "a@b_c.co", "a@b.co,"} {
		f(bad, false)
	}
}

// TestLifecycleStage: it moves forward only, silently; clearing it first lets it go back.
func TestLifecycleStage(t *testing.T) {
	c := newClient(t, Options{LifecycleStage: "lead"})
	f := func(write, want string) {
		t.Helper()
		c.must(200, "POST", upsertPath, upsert("a@b.co", "lifecyclestage", write))
		if ct, _ := c.Contact("a@b.co"); ct.Properties["lifecyclestage"] != want {
			t.Errorf("after %q: %q, want %q", write, ct.Properties["lifecyclestage"], want)
		}
	}
	c.must(200, "POST", upsertPath, upsert("a@b.co"))
	f("subscriber", "lead")
	f("customer", "customer")
	f("lead", "customer")
	f("", "")
	f("lead", "lead")
	f("evangelist", "evangelist")
	bad := c.must(400, "POST", upsertPath, upsert("a@b.co", "lifecyclestage", "Friend"))
	if bad.Get("errors.0.code").Str != "INVALID_OPTION" {
		t.Errorf("unknown stage: %s", bad.Raw)
	}
}

// TestManyProblems: the message lists all, errors[] three.
func TestManyProblems(t *testing.T) {
	c := newClient(t, Options{})
	answer := c.must(400, "POST", upsertPath, upsert("a@b.co", "n1", "", "n2", "", "n3", "", "n4", "x"))
	embedded := gjson.Parse(strings.TrimPrefix(answer.Get("message").Str, "Property values were not valid: "))
	if n := len(embedded.Array()); n != 4 || len(answer.Get("errors").Array()) != 3 {
		t.Errorf("%d in message: %s", n, answer.Raw)
	}
}

package hubspot

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// TestNamesThatCleaningWouldMiss is about properties whose internal names are not as cleanName leaves them, such as those that come from
// Salesforce.
func TestNamesThatCleaningWouldMiss(t *testing.T) {
	text := func(name string) sandbox.Property {
		return sandbox.Property{Name: name, Label: name, Type: "string", FieldType: "text"}
	}
	f := func(user string, want map[string]string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Properties: []sandbox.Property{text("region__c"), text("tier_c"), text("tier__c")}}, "")
			mustDeliver(t, r.run(identify(user)))
			if diff := cmp.Diff(want, r.properties("a@b.co")); diff != "" {
				t.Errorf("%s: %s", user, diff)
			}
		})
	}
	f(`{"email":"a@b.co","region__c":"EU"}`, map[string]string{"region__c": "EU"})
	f(`{"email":"a@b.co","Region__c":"EU"}`, map[string]string{"region__c": "EU"})
	f(`{"email":"a@b.co","region c":"EU"}`, map[string]string{"region__c": "EU"})
	f(`{"email":"a@b.co","tier__c":"1","tier_c":"2"}`, map[string]string{"tier__c": "1", "tier_c": "2"})
	f(`{"email":"a@b.co","Tier  C":"3"}`, map[string]string{"tier_c": "3"})
}

// TestTimesThatHubSpotTakes is about forms of ISO 8601 beside RFC 3339, and those that databases print.
func TestTimesThatHubSpotTakes(t *testing.T) {
	datetime := valueType{kind: kindDatetime}
	for s, want := range map[string]string{
		`"2026-01-02T00:00Z"`:             "1767312000000",
		`"2026-01-02T01:00+01:00"`:        "1767312000000",
		`"2026-01-02T01:00:00+0100"`:      "1767312000000",
		`"2026-01-02T01:00:00.250+0100"`:  "1767312000250",
		`"2026-01-02 01:00:00+01:00"`:     "1767312000000",
		`"2026-01-02 01:00:00.25+01"`:     "1767312000250",
		`"2026-01-02 00:00:00 UTC"`:       "1767312000000",
		`"2026-01-02 00:00"`:              "1767312000000",
		`"2026-01-02 01:00:00 +0100"`:     "1767312000000",
		`"2026-01-02T00:00:00.000000000"`: "1767312000000",
	} {
		if got, ok := datetime.format(gjson.Parse(s)); got != want || !ok {
			t.Errorf("%s: %s, %v, want %s", s, got, ok, want)
		}
	}
}

// TestDigitsThatAreNoEpoch is about years and dates of digits alone, which would all be in 1970.
func TestDigitsThatAreNoEpoch(t *testing.T) {
	date := valueType{kind: kindDate}
	for s, want := range map[string]string{
		`"19900517"`: "1990-05-17", `19900517`: "1990-05-17", `"20260102"`: "2026-01-02",
		`"19901317"`: "1970-08-19", // no such month: seconds
		`"2024"`:     "", `2024`: "", `1990`: "",
		`0`: "1970-01-01", `86400`: "1970-01-02", `643075200`: "1990-05-19",
	} {
		got, ok := date.format(gjson.Parse(s))
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
	}
}

// TestCheckboxesAreAddedTo is about values that begin with a semicolon: HubSpot adds them to what is there, and so do merged writes.
func TestCheckboxesAreAddedTo(t *testing.T) {
	tags := sandbox.Property{Name: "tags", Label: "Tags", Type: "enumeration", FieldType: "checkbox"}
	for _, v := range []string{"a", "b", "c", "d"} {
		tags.Options = append(tags.Options, sandbox.Option{Label: "Label " + v, Value: v})
	}
	f := func(want string, values ...string) {
		t.Helper()
		for _, merged := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, sandbox.Options{Properties: []sandbox.Property{tags}}, "")
				mustDeliver(t, r.run(identify(`{"email":"a@b.co","tags":"a"}`)))
				var events []*event.Event
				for _, v := range values {
					events = append(events, identify(`{"email":"a@b.co","tags":`+v+`}`))
				}
				if merged {
					mustDeliver(t, r.run(events...))
				} else {
					for _, ev := range events {
						mustDeliver(t, r.run(ev))
					}
				}
				if got := r.properties("a@b.co")["tags"]; got != want {
					t.Errorf("%v, merged %v: %s, want %s", values, merged, got, want)
				}
			})
		}
	}
	f("b", `"b"`)
	f("a;b", `";b"`)
	f("a;b;c", `";b;label C"`)
	f("a;b;c", `";b"`, `";c;b"`)
	f("c;b", `"c"`, `";b"`)
	f("d", `";b"`, `"d"`)
	f("a", `";x"`)
	f("b;c", `["","b","c"]`)
}

func TestAnOptionWithSpacesAround(t *testing.T) {
	var plan valueType
	plan.kind = kindEnum
	plan.setOptions([]option{{"pro", "Pro plan"}})
	for _, s := range []string{" pro", "Pro plan ", "\tPRO\n"} {
		if got, ok := plan.option(s); got != "pro" || !ok {
			t.Errorf("%q: %q, %v", s, got, ok)
		}
	}
}

// TestScalarsInsideTheContext is about the compatibility format with fields of the client's own inside eventn_ctx.
func TestScalarsInsideTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(serverEvent(`{"event_type":"x","plan":"outer","eventn_ctx":{"event_id":"1","plan":"inner","seats":3,"list":[1],"revenue":5,
			"ids":{"ga":"1"},"utc_time":"1999-11-21T02:52:27.371000Z","url":"https://a.b","user":{"email":"a@b.co"}}}`)))
		want := map[string]string{"plan": "outer", "seats": "3", "hs_page_url": "https://a.b", "revenue": "5"}
		if diff := cmp.Diff(want, r.last().Properties); diff != "" {
			t.Error(diff)
		}
	})
}

// TestAQualifiedEventName is about clients that name events as HubSpot lists them.
func TestAQualifiedEventName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(track("signed_up"), track("pe"+testHub+"_signed_up"), track("PE"+testHub+"_Signed Up")))
		if diff := cmp.Diff([]string{"signed_up"}, r.definitionNames()); diff != "" {
			t.Error(diff)
		}
		mustDeliver(t, r.run(track("pe"+testHub+"_"), track("pe"+testHub+"_5")))
	})
}

// TestManyDefinitions is about a list of several pages.
func TestManyDefinitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "events: {create: false}\n")
		var events []*event.Event
		for i := range 250 {
			r.http(http.MethodPost, "/events/v3/event-definitions", fmt.Sprintf(`{"label":"E%[1]d","name":"e%[1]d","propertyDefinitions":[]}`, i))
			events = append(events, track(fmt.Sprint("e", i)))
		}
		mustDeliver(t, r.run(events...))
		if n := r.calls("definitions/list", 0); n != 3 {
			t.Errorf("%d pages, want 3", n)
		}
	})
}

// TestAnEnumerationWithoutOptions is about properties whose options are not told, or null: HubSpot decides.
func TestAnEnumerationWithoutOptions(t *testing.T) {
	for _, options := range []string{``, `,"options":null`, `,"options":[]`} {
		s, err := parseSchema([]byte(`{"results":[{"name":"plan","type":"enumeration","fieldType":"select"`+options+`}]}`), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := s.find("plan").format(gjson.Parse(`"pro"`)); got != "pro" || !ok {
			t.Errorf("%s: %q, %v", options, got, ok)
		}
	}
}

package hubspot

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// addRecordings seeds with what HubSpot was recorded to say.
func addRecordings(f *testing.F) {
	files, err := filepath.Glob("testdata/wire/*.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no recordings: %v", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(``))
	f.Add([]byte(`{"errors":[[[[`))
	f.Add([]byte(`<html>502 Bad Gateway</html>`))
}

func FuzzParseUpsert(f *testing.F) {
	addRecordings(f)
	f.Add([]byte(`{"results":[{"id":"1","new":true,"objectWriteTraceId":"0"}],"numErrors":-1,"errors":[{"context":{"objectWriteTraceId":["1","1","x"]}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		a := parseUpsert(body, 3)
		a.recognise(emailProperty, strconv.Itoa)
		for i, u := range a.inputs {
			if u.done && u.refused != nil && !strings.Contains(string(body), "errors") {
				t.Errorf("input %d is done and refused", i)
			}
		}
		if len(a.inputs) != 3 {
			t.Errorf("%d inputs", len(a.inputs))
		}
	})
}

func FuzzParseRefusal(f *testing.F) {
	addRecordings(f)
	f.Add([]byte(`{"message":"Property values were not valid: [{\"isValid\":false,\"message\":\"x\",\"error\":\"E\",\"name\":\"n\"},{\"isVal"}`))
	f.Add([]byte(`{"message":"[{[{[{\"name\":\"a\\\"}\"}"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := parseRefusal(body)
		if s := r.String(); len(r.category) < 1000 && len(s) > maxAnswerText+len(r.category)+10 {
			t.Errorf("%d bytes of HubSpot's words", len(s))
		}
		if len(r.problems) > maxProblems {
			t.Errorf("%d problems", len(r.problems))
		}
		if s := r.String(); utf8.Valid(body) && !utf8.ValidString(s) {
			t.Errorf("%q is not UTF-8", s)
		}
	})
}

// FuzzPartialAnswer reads what HubSpot may say of events: an error that names the uuid of one is about it.
func FuzzPartialAnswer(f *testing.F) {
	addRecordings(f)
	o := &occurrence{uuid: destinations.EventUUID(&event.Event{ID: "1", APIKey: "k"}, 0), person: &person{email: "a@b.co"}, values: []field{{"plan", "pro"}}}
	other := &occurrence{uuid: destinations.EventUUID(&event.Event{ID: "2", APIKey: "k"}, 0), person: &person{utk: strings.Repeat("ab", 16)}}
	f.Add([]byte(`{"numErrors":1,"errors":[{"message":"` + o.uuid.String() + ` already exists"}]}`))
	f.Add([]byte(`{"errors":[{"subCategory":{"a":1},"context":{"uuid":["` + other.uuid.String() + `",5]}},7,null]}`))
	f.Add([]byte(`{"errors":{"message":"a@b.co"},"numErrors":"x"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		errs, failed := partialErrors(body)
		if len(errs) > 0 && !failed || len(errs) > maxProblems {
			t.Errorf("%d errors, failed %t", len(errs), failed)
		}
		bad, ok := blame([]*occurrence{o, other}, errs)
		if ok != (len(bad) > 0) {
			t.Errorf("%d are to blame, and %t", len(bad), ok)
		}
		for i := range errs {
			r := &errs[i]
			if r.repeats(o) && r.repeats(other) && !strings.Contains(r.words(), "uuid") && !r.names(o) {
				t.Errorf("%q repeats everything", r.words())
			}
			_, _ = r.aboutRoom(), r.aboutDeleted()
		}
	})
}

func FuzzParseSchema(f *testing.F) {
	addRecordings(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		s, err := parseSchema(body, time.Time{})
		if err != nil {
			return
		}
		again, err := parseSchema(s.encode(), time.Time{})
		if err != nil || len(again.properties) > len(s.properties) {
			t.Errorf("what is kept of %q cannot be read: %v", body, err)
		}
	})
}

func FuzzParseDefinitions(f *testing.F) {
	f.Add([]byte(`{"results":[{"name":"a","fullyQualifiedName":"pe1_a","properties":[{"name":"x","type":"enumeration","options":[{"value":"1","label":"One"}]}]}],"paging":{"next":{"after":"100"}}}`))
	f.Add([]byte(`{"results":[{"fullyQualifiedName":"pe1_a"},{"name":"pe1_"},7,null,{"name":5,"properties":{"a":1}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, _, err := parseDefinitions(body, "1")
		if err != nil {
			return
		}
		c := &newAccount(newDay()).definitions
		c.replace(list, time.Time{})
		again, _, err := parseDefinitions(c.encode(), "1")
		if err != nil || len(again) > len(list) {
			t.Errorf("what is kept of %q cannot be read: %v", body, err)
		}
		for name, def := range list {
			if name == "" || def.qualified == "" {
				t.Errorf("a definition without a name: %+v", def)
			}
		}
	})
}

var internalName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,49}$`)

func FuzzNames(f *testing.F) {
	for _, s := range []string{"", "Signed Up", "заказ", "5", "__x", "a\xff", strings.Repeat("й1", 60), "😀"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := eventName(s)
		if !internalName.MatchString(name) {
			t.Errorf("eventName(%q) = %q", s, name)
		}
		if again := eventName(name); again != name {
			t.Errorf("eventName(%q) = %q", name, again)
		}
		clean := cleanName(s)
		if again := cleanName(clean); again != clean {
			t.Errorf("cleanName(%q) = %q", clean, again)
		}
		if got := label(s, "name", 50); len(got) > 50 || got == "" {
			t.Errorf("label(%q) = %q", s, got)
		}
	})
}

// FuzzBodies puts any event through the mapping: what is sent is valid JSON of strings, within HubSpot's limits.
func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"event_type":"user_identify","user":{"email":"a@b.co","firstname":"A","hubspotscore":"45","hs_pipeline":["x"]}}`))
	f.Add([]byte(`{"event_type":"Größe 1","plan":"\u0000","url":5,"user":{"address":{"x":[1,{}]}}}`))
	f.Add([]byte(`{"eventn_ctx":{"user":{"a":1}},"a":1e999,"a":-0}`))
	body, err := os.ReadFile("testdata/wire/properties-sampled.json")
	if err != nil {
		f.Fatal(err)
	}
	s, err := parseSchema(body, time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	d := newRig(f, sandbox.Options{}, `properties: {null: clear, unknown: create, options: create, except: [zip], write: {city: if_empty, hs_buying_role: append},
  map: {firstname: $.a, lastname: "{{.a}}", company: "[$.a, {b: $.user}]", hs_language: "$.user && $.user.address"}}`).dest
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) || len(body) == 0 || gjson.ParseBytes(body).Type != gjson.JSON || !utf8.Valid(body) {
			return
		}
		ev := &event.Event{ID: "1", JSON: event.Normalize(body)}
		e := destinations.Entry{Event: ev, Plan: destinations.Plan{ID: "a@b.co"}}
		send := &contactSend{d: d, batch: []destinations.Entry{e}, schema: s, sources: map[source]string{}}
		w, _, _ := send.merge()
		var contacts struct {
			Inputs []struct{ Properties map[string]string }
		}
		if err := json.Unmarshal(appendBatch(nil, emailProperty, w), &contacts); err != nil || len(contacts.Inputs) != 1 {
			t.Errorf("%s: %v in %s", body, err, appendBatch(nil, emailProperty, w))
		}
		if detail := send.appendDetail(nil, w[0], &upserted{}, ""); !json.Valid(detail) {
			t.Errorf("detail %s", detail)
		}
		o := newOccurrence(0, &e, &person{email: "a@b.co"}, s, d.rules)
		def := &definition{name: o.name, qualified: "pe1_" + o.name, properties: map[string]*eventProperty{}}
		for _, p := range o.wants() {
			if !internalName.MatchString(p.name) {
				t.Errorf("property %q", p.name)
			}
			def.properties[p.name] = newEventProperty(p.typeName, nil)
		}
		for name, p := range defaultProperties {
			def.properties[name] = p
		}
		o.fill(def)
		var events struct {
			Inputs []struct{ Properties map[string]string }
		}
		if err := json.Unmarshal(appendSend(nil, []*occurrence{o}), &events); err != nil || len(events.Inputs) != 1 {
			t.Fatalf("%s: %v in %s", body, err, appendSend(nil, []*occurrence{o}))
		}
		if n := len(events.Inputs[0].Properties); n > maxEventProperties {
			t.Errorf("%d properties", n)
		}
		for name, v := range events.Inputs[0].Properties {
			if utf16Len(v) > valueLimit(name) {
				t.Errorf("%s has %d characters", name, utf16Len(v))
			}
		}
		if detail := o.appendDetail(nil, false, true, ""); !json.Valid(detail) {
			t.Errorf("detail %s", detail)
		}
	})
}

// FuzzPlan plans any event by each kind of identity: what comes out can be sent, and orders what is the same to HubSpot.
func FuzzPlan(f *testing.F) {
	for _, body := range []string{
		`{"event_type":"user_identify","user":{"external_id":"Ab\u0000","email":" A@B.co ","hs_object_id":"0012"}}`,
		`{"event_type":"x","user":{"externalId":1e400,"Email":"x@y.z","HS Object ID":12}}`,
		`{"user":{"external_id":"\u200b İ ","email":"\u0130@b.co","hs_object_id":"９"}}`,
		`{"eventn_ctx":{"user":{"External-Id":[1],"email":{"a":1}}},"id":"ſ"}`,
		`{"id":"K\u212a","user":{}}`,
	} {
		f.Add([]byte(body))
	}
	var all []*Destination
	for _, settings := range []string{
		"", byExternalID, byObjectID, byExternalID + "contact_events: all\nproperties: {map: {external_id: $.id, email: '{{.user.email}}'}}\n",
	} {
		all = append(all, newRig(f, sandbox.Options{}, settings).dest)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) || len(body) == 0 || gjson.ParseBytes(body).Type != gjson.JSON || !utf8.Valid(body) {
			return
		}
		ev := &event.Event{ID: "1", JSON: event.Normalize(body)}
		for _, d := range all {
			plans, err := d.Plan(ev)
			if (err == nil) != (len(plans) > 0) {
				t.Errorf("%s: %v and %v", body, plans, err)
			}
			for _, p := range plans {
				if p.ID == "" && p.Key == "" && p.Lane == laneEvents && len(plans) == 1 { // it tells itself whose it is
					if person := d.contacts.eventPerson(ev, ""); person.none() {
						t.Errorf("%s: an event of nobody", body)
					}
					continue
				}
				if p.ID == "" || p.ID != strings.TrimSpace(p.ID) || len(p.ID) > maxKey || !utf8.ValidString(p.ID) || p.Key != strings.ToLower(p.ID) || strings.ContainsAny(p.ID, "\x00\n") {
					t.Errorf("%s: %+v", body, p)
				}
				if d.contacts.key == objectIDProperty && !isDigits(p.ID) {
					t.Errorf("%s: %+v", body, p)
				}
			}
		}
	})
}

package appevents

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// app is one with events in YAML, and schema files.
func app(t testing.TB, yaml string, files map[string]string) config.App {
	t.Helper()
	a := config.DefaultApp("crm")
	var err error
	if a.AppEvents, err = config.NewSettings("router.yaml", "apps.crm.app_events", []byte(yaml)); err != nil {
		t.Fatal(err)
	}
	a.Schemas = files
	return a
}

func mustSet(t testing.TB, yaml string, files map[string]string) *Set {
	t.Helper()
	s, warnings, err := New(app(t, yaml, files))
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	return s
}

// told is what Check says of a payload, a line each.
func told(s *Set, name, payload string) string {
	var lines []string
	for _, v := range s.Check(name, []byte(payload)) {
		lines = append(lines, v.Path+" "+v.Problem)
	}
	return strings.Join(lines, "\n")
}

// TestSchemas: each kind of violation is told with its path, and none quotes a value.
func TestSchemas(t *testing.T) {
	const schema = `{"type":"object","required":["email"],"additionalProperties":false,"properties":{
		"email":{"type":"string","format":"email","maxLength":30},"age":{"type":"integer","minimum":18,"exclusiveMaximum":120,"multipleOf":1},
		"tags":{"type":"array","maxItems":2,"uniqueItems":true,"items":{"enum":["a","b","hidden"]}},"code":{"pattern":"^x[0-9]+$"},
		"plan":{"const":"pro"},"a/b~c":{"type":"boolean"},"either":{"oneOf":[{"type":"string"},{"type":"number"}]},"any":{"anyOf":[{"type":"string"},{"minimum":5}]},
		"address":{"$ref":"#/$defs/address"},"no":false,"not":{"not":{"type":"string"}}},
		"$defs":{"address":{"type":"object","required":["city","zip"],"minProperties":2}}}`
	file := mustSet(t, "{Made: {schema: made.json}}", map[string]string{"made.json": schema})
	inline := mustSet(t, "{Made: {schema: "+schema+"}}", nil)
	f := func(payload, want string) {
		t.Helper()
		for _, s := range []*Set{file, inline} {
			if got := told(s, "Made", payload); got != want {
				t.Errorf("%s: got\n%s\nwant\n%s", payload, got, want)
			}
		}
	}
	f(`{"email":"ada@example.com","age":30,"tags":["a"],"code":"x1","plan":"pro","a/b~c":true,"address":{"city":"x","zip":1}}`, "")
	f(`{}`, "/payload/email is missing")
	f(`{"email":7}`, "/payload/email is number, and must be string")
	f(`{"email":"hidden"}`, "/payload/email is no email")
	f(`{"email":"a@example.com","age":17.5}`, "/payload/age is number, and must be integer")
	f(`{"email":"a@example.com","age":17}`, "/payload/age is less than 18")
	f(`{"email":"a@example.com","age":120}`, "/payload/age must be less than 120")
	f(`{"email":"a@example.com","tags":["a","x","b"]}`, "/payload/tags has 3 elements, and may have at most 2\n/payload/tags/1 is none of the values that are allowed")
	f(`{"email":"a@example.com","tags":["a","a"]}`, "/payload/tags has the same element at 0 and 1")
	f(`{"email":"a@example.com","code":"hidden"}`, "/payload/code does not match ^x[0-9]+$")
	f(`{"email":"a@example.com","plan":"hidden"}`, "/payload/plan is not the value that is allowed")
	f(`{"email":"a@example.com","a/b~c":1}`, "/payload/a~1b~0c is number, and must be boolean")
	f(`{"email":"a@example.com","either":true}`, "/payload/either fits none of the choices that are allowed")
	f(`{"email":"a@example.com","any":1}`, "/payload/any fits none of the choices that are allowed")
	f(`{"email":"a@example.com","address":{"city":1}}`, "/payload/address has 1 members, and must have at least 2\n/payload/address/zip is missing")
	f(`{"email":"a@example.com","x":1,"no":1}`, "/payload/no is not allowed\n/payload/x is not known")
	f(`{"email":"a@example.com","not":"hidden"}`, "/payload/not is what is not allowed")
	f(`{"email":"a@example.com","age":1e999999999}`, "/payload holds a number with more than 100 digits, or with an exponent of more than 100")
	f(`{"email":"a@example.com","age":`+strings.Repeat("1", 101)+`}`, "/payload holds a number with more than 100 digits, or with an exponent of more than 100")

	var many strings.Builder
	for i := range 100 {
		fmt.Fprintf(&many, `"x%d":1,`, i)
	}
	if n := len(file.Check("Made", []byte(`{`+many.String()+`"email":"a@example.com"}`))); n != maxViolations {
		t.Errorf("%d violations, want %d", n, maxViolations)
	}
	if got := told(file, "made", "{}"); got != `/name is the name of no event of the app; is it "Made"?` {
		t.Error(got)
	}
	if got := told(file, "Something else", "{}"); got != `/name is the name of no event of the app` {
		t.Error(got)
	}
}

// TestExamples: a schema that is made of an example demands its members and types, and lets others pass.
func TestExamples(t *testing.T) {
	s := mustSet(t, `{Made: {example: {email: a@b.c, age: 5, vip: true, tags: [x], other: [], note: ~, address: {city: x, geo: [{lat: 1.5}]}}}, Open: {steps: []}}`, nil)
	f := func(payload, want string) {
		t.Helper()
		if got := told(s, "Made", payload); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", payload, got, want)
		}
	}
	const good = `"age":1.5,"vip":false,"tags":[],"other":[1,"x"],"note":{"a":1},"address":{"city":"y","geo":[{"lat":2},{"lat":3,"more":1}]},"more":[]}`
	f(`{"email":"x",`+good, "")
	f(`{"email":null,`+good, "/payload/email is null, and must be string")
	f(`{`+good, "/payload/email is missing")
	f(strings.Replace(`{"email":"x",`+good, `"lat":3`, `"lat":"3"`, 1), "/payload/address/geo/1/lat is string, and must be number")
	f(strings.Replace(`{"email":"x",`+good, `"tags":[]`, `"tags":[1]`, 1), "/payload/tags/0 is number, and must be string")
	if got := told(s, "Open", `{"any":["thing"]}`); got != "" {
		t.Errorf("without a schema: %s", got)
	}
}

// TestWrongEvents: what is wrong in the file is said with its line.
func TestWrongEvents(t *testing.T) {
	f := func(yaml, want string) {
		t.Helper()
		_, _, err := New(app(t, yaml, map[string]string{"bad.json": "{", "big.json": `{"minimum": 1e999999999}`}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", yaml, err, want)
		}
		if _, ok := errors.AsType[config.Problems](err); !ok {
			t.Errorf("%T is no list of problems", err)
		}
	}
	f("[x]", "router.yaml:1: apps.crm.app_events: must be a map")
	f("A: 5", "router.yaml:1: apps.crm.app_events.A: must hold keys")
	f("A:\n  shema: {}", `router.yaml:2: apps.crm.app_events.A: unknown key "shema" (did you mean "schema"?)`)
	f("A: {schema: {}, example: {}}", "apps.crm.app_events.A.example: stands beside schema")
	f("A: {schema: bad.json}", "is no JSON")
	f("A: {schema: [1]}", "must be a JSON Schema: an object")
	f("A: {example: [1]}", "example: must be an object")
	f("A:\n  schema:\n    type: strin", "router.yaml:2: apps.crm.app_events.A.schema: is no JSON Schema: at /type it")
	f("A: {schema: {properties: {a: {pattern: '(?!x)'}}}}", "RE2 has no look-around")
	f(`A: {schema: {properties: {a: {pattern: '(a)\1'}}}}`, "RE2 has no look-around")
	f("A: {schema: {$ref: 'https://evil.example/schema.json'}}", "schema: $ref https://evil.example/schema.json is somewhere else")
	f("A: {schema: {$ref: 'other.json'}}", "is somewhere else")
	f("A: {schema: {$ref: 'file:///etc/passwd'}}", "is somewhere else")
	f("A: {schema: {$schema: 'https://evil.example/meta'}}", "https://evil.example/meta is somewhere else")
	f("A: {schema: {$ref: '#/$defs/a'}}", "is no JSON Schema")
	f("A: {schema: big.json}", "holds a number with more than")
	f("' A': {}", "a name has 1 to 100 bytes")
	f(`"A\u202e": {}`, "a name must be printable")
	f("A: {steps: [{to: person}]}", "steps[0].to: must be contact or event")
	f("A:\n  steps:\n  - to: event\n  - to: contact", "router.yaml:4: apps.crm.app_events.A.steps[1].properties: is required")
	f("A: {steps: [{to: contact, name: x, properties: {email: x}}]}", "name: is for events")
	f("A: {steps: [{to: event, name: '{{.payload.x}}'}]}", "name: must be one name")
	f("A: {steps: [{to: event, name: user_identify}]}", "name: user_identify describes a person")
	f("A: {steps: [{to: event, when: '{{.x', properties: {a: $.payload.}}]}", "when: ")
	f("A: {steps: [{to: event, properties: {a: $.payload.}}]}", "properties.a: ")
	f("A: {steps: [{to: event, properties: {A: x}}]}", "properties.A: is not the name of a property")
	f("A: {steps: [{to: event, properties: {user: x}}]}", "properties.user: is a name that events keep")
	f("A: {steps: ["+strings.Repeat("{to: event},", 21)+"]}", "has 21 steps")
	f("user_identify: {steps: [{to: event}]}", "user_identify describes a person")
}

// posted is an event of the app as ingest makes it.
func posted(name, payload string) *event.Event {
	return &event.Event{
		ID: "e1", APIKey: "app:crm", Account: "a1", Source: event.AppSource, Received: time.Unix(1, 0).UTC(),
		JSON: []byte(fmt.Sprintf(`{"event_type":%q,"app":"crm","account":"a1","name":%q,"utc_time":"2026-11-22T12:00:00Z","payload":%s}`, name, name, payload)),
	}
}

// TestSteps: an app event becomes the writes and events that its steps say, for the person whom they name.
func TestSteps(t *testing.T) {
	s := mustSet(t, `
Contact Created:
  steps:
    - {to: contact, properties: {email: "{{.payload.email}}", firstname: $.payload.first_name, age: $.payload.age, account_id: "{{.account}}", gone: $.payload.none}}
    - {to: event, when: "$.payload.plan == 'pro'", name: Went Pro, properties: {plan: $.payload.plan, at: $.utc_time}}
    - {to: event, properties: {email: $.payload.referrer, kind: referral}, when: "{{if .payload.referrer}}yes{{end}}"}
Only When: {steps: [{to: contact, when: $.payload.write, properties: {email: $.payload.email, x: 1}}, {to: event, name: Seen}]}
Nothing: {steps: []}
`, nil)
	tr := s.Transform(For{Name: "crm", Type: "hubspot"})
	f := func(ev *event.Event, want string) {
		t.Helper()
		outputs, why, err := tr.Eval(ev, filters.World{})
		var got []string
		for _, o := range outputs {
			if o.Event.Account != ev.Account || o.Event.APIKey != ev.APIKey {
				t.Errorf("the output is another account's: %+v", o.Event)
			}
			got = append(got, o.Event.ID+" "+string(o.Event.JSON))
		}
		if err != nil {
			got = append(got, err.Error())
		}
		if len(outputs) == 0 && err == nil {
			got = append(got, why)
		}
		if text := strings.Join(got, "\n"); text != want {
			t.Errorf("%s: got\n%s\nwant\n%s", ev.JSON, text, want)
		}
	}
	f(posted("Contact Created", `{"email":"ada@example.com","first_name":"Ada","age":12345678901234567890,"plan":"pro","referrer":"bob@example.com"}`),
		`e1 {"event_type":"user_identify","utc_time":"2026-11-22T12:00:00Z","user":{"email":"ada@example.com","firstname":"Ada","age":12345678901234567890,"account_id":"a1"}}
e1_1 {"event_type":"Went Pro","utc_time":"2026-11-22T12:00:00Z","plan":"pro","at":"2026-11-22T12:00:00Z","user":{"email":"ada@example.com"}}
e1_2 {"event_type":"Contact Created","utc_time":"2026-11-22T12:00:00Z","kind":"referral","user":{"email":"bob@example.com"}}`)
	f(posted("Contact Created", `{"email":"ada@example.com","first_name":null,"referrer":"bob@example.com"}`),
		`e1 {"event_type":"user_identify","utc_time":"2026-11-22T12:00:00Z","user":{"email":"ada@example.com","firstname":null,"account_id":"a1"}}
e1_2 {"event_type":"Contact Created","utc_time":"2026-11-22T12:00:00Z","kind":"referral","user":{"email":"bob@example.com"}}`)
	f(posted("Only When", `{"email":"ada@example.com","write":false}`), `e1_1 {"event_type":"Seen","utc_time":"2026-11-22T12:00:00Z","user":{"email":"ada@example.com"}}`)
	f(posted("Nothing", `{}`), "the app event has no steps")
	f(posted("Removed", `{}`), "skipped: the app has no such event any more")

	// What is no event of the app stays as it is, also where it says that it is one.
	for _, forged := range []event.Event{
		{APIKey: "app:crm", Source: "api", JSON: []byte(`{"event_type":"Nothing"}`)},
		{APIKey: "web", Source: event.AppSource, JSON: []byte(`{"event_type":"Nothing"}`)},
		{APIKey: "app:other", Source: event.AppSource, JSON: []byte(`{"event_type":"Nothing"}`)},
	} {
		f(&forged, ` {"event_type":"Nothing"}`)
	}
	off := s.Transform(For{Choices: func(account string) destinations.Choices {
		return destinations.Choices{AppEvents: map[string]bool{"Contact Created": account == "a1"}}
	}})
	_, _, err := off.Eval(posted("Contact Created", `{}`), filters.World{})
	if reason, ok := destinations.IsSkip(err); !ok || reason != "switched off by the account" {
		t.Errorf("switched off: %v", err)
	}
	other := posted("Contact Created", `{"email":"x@example.com"}`)
	other.Account = "a2"
	if outputs, _, err := off.Eval(other, filters.World{}); err != nil || len(outputs) != 1 {
		t.Errorf("another account: %v, %v", outputs, err)
	}
}

// TestFurtherTransform: the destination's own transform gets what the steps have made.
func TestFurtherTransform(t *testing.T) {
	own, err := filters.CompileTransform(`return $.event_type == "Seen" ? null : [{...$, user: {...$.user, via: "x"}}, {...$, event_type: "more"}]`, filters.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := mustSet(t, `A: {steps: [{to: contact, properties: {email: $.payload.email}}, {to: event, name: Seen}, {to: event, name: Other}]}`, nil)
	tr := s.Transform(For{Next: own})
	outputs, _, err := tr.Eval(posted("A", `{"email":"ada@example.com"}`), filters.World{})
	var got []string
	for _, o := range outputs {
		got = append(got, o.Event.ID+" "+o.Event.Type())
	}
	if want := "[e1 user_identify e1_1 more e1_2 Other e1_2_1 more]"; fmt.Sprint(got) != want || err != nil {
		t.Errorf("got %v, %v, want %s", got, err, want)
	}
}

// TestIDProperty: contacts that are identified by another property are found by it.
func TestIDProperty(t *testing.T) {
	s := mustSet(t, `A: {steps: [{to: contact, properties: {customer: $.payload.id}}, {to: event, properties: {x: 1}}, {to: event, properties: {customer: $.payload.other}}]}`, nil)
	outputs, _, err := s.Transform(For{IDProperty: "customer"}).Eval(posted("A", `{"id":7,"other":8}`), filters.World{})
	if err != nil || len(outputs) != 3 {
		t.Fatal(err, outputs)
	}
	for i, want := range []string{`"user":{"customer":7}}`, `"x":1,"user":{"customer":7}}`, `"user":{"customer":8}}`} {
		if got := string(outputs[i].Event.JSON); !strings.HasSuffix(got, want) {
			t.Errorf("output %d: got %s, want %s", i, got, want)
		}
	}
}

// FuzzCheck: no payload panics, and what Check says is bounded.
func FuzzCheck(f *testing.F) {
	s := mustSet(f, `A: {schema: {type: object, properties: {a: {type: number, multipleOf: 0.1}, b: {$ref: "#"}, c: {uniqueItems: true}, d: {pattern: "^(a+)+$"}, e: {format: date-time}}, unevaluatedProperties: false}}`, nil)
	f.Add([]byte(`{"a":1e400,"b":{"b":{"a":"x"}},"c":[1,1.0],"d":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!","e":"2026"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if found := s.Check("A", payload); len(found) > maxViolations {
			t.Fatalf("%d violations", len(found))
		}
	})
}

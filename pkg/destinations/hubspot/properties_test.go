package hubspot

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// subscriber is the account of the tests of properties.
func subscriber() sandbox.Options {
	options := []sandbox.Option{{Label: "Art", Value: "a"}, {Label: "Bikes", Value: "b"}, {Label: "Cars", Value: "c"}}
	return sandbox.Options{Properties: []sandbox.Property{
		{Name: "plan", Label: "Plan", Type: "string", FieldType: "text"},
		{Name: "fullname", Label: "Name", Type: "string", FieldType: "text"},
		{Name: "job_title", Label: "Title", Type: "string", FieldType: "text"},
		{Name: "first_name", Label: "First name", Type: "string", FieldType: "text"},
		{Name: "region__c", Label: "Region", Type: "string", FieldType: "text"},
		{Name: "seats", Label: "Seats", Type: "number", FieldType: "number"},
		{Name: "vip", Label: "VIP", Type: "bool", FieldType: "booleancheckbox"},
		{Name: "born", Label: "Born", Type: "date", FieldType: "date"},
		{Name: "seen", Label: "Seen", Type: "datetime", FieldType: "date"},
		{Name: "interests", Label: "Interests", Type: "enumeration", FieldType: "checkbox", Options: options},
		{Name: "interest", Label: "Interest", Type: "enumeration", FieldType: "select", Options: options},
	}}
}

// outcome is what became of a contact and of its last event.
type outcome struct {
	Contact  map[string]string
	Stripped map[string]string
	Coerced  map[string]string
	Collided []string
}

// mapped sends events whose user is a@b.co, all in one batch.
func mapped(t *testing.T, settings string, bodies ...string) (o outcome, r *rig) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r = newRig(t, subscriber(), settings)
		var events []*event.Event
		for _, body := range bodies {
			if !strings.Contains(body, "event_type") {
				body = `{"event_type":"user_identify","user":{"email":"a@b.co",` + strings.TrimPrefix(body, "{") + `}`
			}
			events = append(events, serverEvent(body))
		}
		got := r.run(events...)
		mustDeliver(t, got)
		d := detail(t, got[len(got)-1].outcome)
		o = outcome{r.properties("a@b.co"), d.Stripped, d.Coerced, d.Collided}
	})
	return o, r
}

type pairs = map[string]string

func TestProperties(t *testing.T) {
	f := func(settings string, want outcome, bodies ...string) {
		t.Helper()
		got, _ := mapped(t, settings, bodies...)
		if want.Contact == nil {
			want.Contact = pairs{}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s of %v: (-want +got)\n%s", settings, bodies, diff)
		}
	}
	is := func(contact pairs) outcome { return outcome{Contact: contact} }

	// Expressions.
	f(`properties: {map: {plan: $.user.traits.Plan, fullname: "{{.user.first}} {{.user.last}}", seats: "$.user.list.filter(s => s.on).length",
      interests: "$.user.list.map(s => s.name)", vip: true, city: Rome}, except: [traits, list, first, last]}`,
		outcome{
			Contact:  pairs{"plan": "Pro", "fullname": "Ann", "seats": "1", "interests": "a;b", "vip": "true", "city": "Rome"},
			Stripped: pairs{"traits": "excluded", "list": "excluded", "first": "excluded"},
			Coerced:  pairs{"interests": "label"},
		},
		`{"traits":{"Plan":"Pro"},"first":"Ann","list":[{"on":true,"name":"Art"},{"on":false,"name":"Bikes"}]}`)
	f("properties: {map: {plan: $.user.id, fullname: '$.user.list', seats: $.user.n}}",
		outcome{
			Contact:  pairs{"plan": "12345678901234567890", "fullname": "9007199254740993", "seats": "7"},
			Stripped: pairs{"id": "unknown", "list": "unknown", "n": "unknown"}, Coerced: pairs{"fullname": "list"},
		},
		`{"id":12345678901234567890,"list":[9007199254740993],"n":"7"}`)
	// What an expression makes comes from nowhere else, whether it has a value or not.
	f("properties: {map: {plan: $.user.tier}}", is(pairs{"city": "Rome"}), `{"plan":"no","Plan":"no","city":"Rome"}`)
	f("properties: {map: {plan: '$.user.none.x()', city: $.user.town}}",
		outcome{Contact: pairs{"city": "Rome"}, Stripped: pairs{"n": "unknown", "town": "unknown"}}, `{"n":7,"town":"Rome"}`)
	f("properties: {map: {plan: '$.user.n()', city: $.user.town}}",
		outcome{Contact: pairs{"city": "Rome"}, Stripped: pairs{"plan": "expression", "n": "unknown", "town": "unknown"}}, `{"n":7,"town":"Rome"}`)
	f("properties: {map: {nobody: $.user.plan}}", outcome{Contact: pairs{"plan": "pro"}, Stripped: pairs{"nobody": "unknown"}}, `{"plan":"pro"}`)
	f("properties: {map: {seats: $.user.plan}}", outcome{Contact: pairs{"plan": "pro"}, Stripped: pairs{"seats": "value"}}, `{"plan":"pro"}`)

	// Only and except.
	f("properties: {only: [city, nobody]}",
		outcome{Contact: pairs{"city": "Rome"}, Stripped: pairs{"plan": "excluded", "other": "excluded", "nobody": "unknown"}},
		`{"City":"Rome","plan":"pro","other":1,"nobody":1}`)
	f("properties: {except: [plan, other_thing]}",
		outcome{Contact: pairs{"city": "Rome"}, Stripped: pairs{"plan": "excluded", "otherthing": "excluded", "x": "unknown"}},
		`{"city":"Rome","Plan":"pro","otherThing":1,"x":1}`)

	// Names.
	f("", is(pairs{"firstname": "Ann"}), `{"firstName":"Ann"}`)
	f("", is(pairs{"first_name": "Ann"}), `{"first_name":"Ann"}`)
	f("", is(pairs{"hs_lead_status": "NEW"}), `{"hsLeadStatus":"NEW"}`)
	f("", is(pairs{"job_title": "x"}), `{"JOB-TITLE":"x"}`)
	f("", is(pairs{"region__c": "x"}), `{"region__c":"x"}`)
	f("", outcome{Contact: pairs{"job_title": "exact"}, Collided: []string{"job_title"}}, `{"Job Title":"a","job_title":"exact","job-title":"b"}`)
	f("", outcome{Contact: pairs{"job_title": "b"}, Collided: []string{"job_title"}}, `{"Job Title":"a","job-title":"b","JOB TITLE":null}`)
	f("", outcome{Contact: pairs{"seats": "5"}, Stripped: pairs{"seats": "value"}}, `{"Seats":5,"SEATS":"many"}`)

	// null and "".
	for _, nothing := range []string{`null`, `""`, `[]`, `[null,""]`} {
		f("", is(pairs{"plan": "pro", "interests": "a", "seats": "5"}), `{"plan":"pro","interests":"a","seats":5}`,
			`{"plan":`+nothing+`,"interests":`+nothing+`,"seats":`+nothing+`,"other":`+nothing+`}`)
		f("properties: {null: clear}", is(pairs{}), `{"plan":"pro","interests":"a","seats":5}`,
			`{"plan":`+nothing+`,"interests":`+nothing+`,"seats":`+nothing+`,"other":`+nothing+`,"createdate":`+nothing+`}`)
	}
	f("properties: {null: clear}", is(pairs{"plan": "free"}), `{"plan":"pro"}`, `{"plan":null}`, `{"plan":"free"}`)
	f("properties: {null: clear, map: {plan: '$.user.on ? 1 : null', city: $.user.town}}",
		outcome{Contact: pairs{"city": "Rome"}, Stripped: pairs{"on": "unknown", "town": "unknown"}}, `{"on":true,"town":"Rome"}`, `{"on":false}`)
	f("properties: {null: clear, write: {interests: append}}", is(pairs{"interests": "c"}), `{"interests":["a","b"]}`, `{"interests":[]}`, `{"interests":"c"}`)
	f("properties: {null: clear, write: {firstname: if_empty}}", is(pairs{"firstname": "Ann"}), `{"firstname":null}`, `{"firstname":"Ann"}`, `{"firstname":""}`, `{"firstname":"Bob"}`)

	// Policies.
	f("", is(pairs{"plan": "c"}), `{"plan":"a"}`, `{"plan":"b"}`, `{"plan":"c"}`)
	f("properties: {write: {plan: if_empty}}", is(pairs{"plan": "a"}), `{"plan":"a"}`, `{"plan":"b"}`, `{"plan":"c"}`)
	f("properties: {write: {interests: append}}", is(pairs{"interests": "a;b;c"}), `{"interests":"a"}`, `{"interests":["b","a"]}`, `{"interests":"c"}`)
	f("properties: {write: {plan: append}}", is(pairs{"plan": "b"}), `{"plan":"a"}`, `{"plan":"b"}`)
	f("", is(pairs{"interests": "a;b"}), `{"interests":"a"}`, `{"interests":";b"}`)

	// Options.
	f("", outcome{Contact: pairs{"interests": "a;c"}, Stripped: pairs{"interests": "option"}, Coerced: pairs{"interests": `without "x", "y", "z", 1 more`}},
		`{"interests":["a","x","y","c","z","zz","a"]}`)
	f("", outcome{Stripped: pairs{"interests": "option", "interest": "option"}}, `{"interests":["x"],"interest":"y"}`)
	f("", outcome{Contact: pairs{"interest": "b"}, Coerced: pairs{"interest": "label"}}, `{"interest":"bIKES"}`)
	f("", is(pairs{"interest": "b"}), `{"interest":"B"}`)

	// Days.
	f("time_zone: Europe/Berlin\n", outcome{Contact: pairs{"born": "2026-01-03", "seen": "1767396600000"}, Coerced: pairs{"born": "day"}},
		`{"born":"2026-01-02T23:30:00Z","seen":"2026-01-02T23:30:00Z"}`)
	f("time_zone: America/New_York\n", outcome{Contact: pairs{"born": "2026-01-02", "seen": "1767312000000"}, Coerced: pairs{"seen": "midnight"}},
		`{"born":"2026-01-02","seen":"2026-01-02"}`)
	f("time_zone: America/New_York\n", outcome{Contact: pairs{"born": "2026-01-02"}, Coerced: pairs{"born": "day"}}, `{"born":1767312000000}`) // HubSpot's own way
	f("time_zone: America/New_York\n", outcome{Contact: pairs{"born": "2026-01-01"}, Coerced: pairs{"born": "day"}}, `{"born":"2026-01-02T00:00:00Z"}`)

	// What was made of values.
	f("", outcome{
		Contact: pairs{"vip": "true", "plan": `{"a":1}`, "city": "a;5", "seats": "1500", "seen": "1767323045000"},
		Coerced: pairs{"vip": "boolean", "plan": "json", "city": "list", "seats": "number", "seen": "seconds"},
	},
		`{"vip":"Yes","plan":{"a":1},"city":["a",5],"seats":1.5e3,"seen":1767323045}`)
	f("", is(pairs{"vip": "true", "plan": "01234", "seats": "01234", "seen": "1767323045000"}),
		`{"vip":"TRUE","plan":"01234","seats":"01234","seen":1767323045000}`)
	f("", outcome{Contact: pairs{"city": "Rome"}, Stripped: pairs{"plan": "length"}}, `{"city":"Rome","plan":"`+strings.Repeat("x", 65537)+`"}`)
}

// TestAppendToWhatIsThere adds to options that HubSpot has already.
func TestAppendToWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, subscriber(), "properties: {write: {interests: append, plan: append}}")
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","interests":["a","b"],"plan":"x"}`)))
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","interests":["c"],"plan":"y"}`), identify(`{"email":"a@b.co","interests":";b"}`)))
		if diff := cmp.Diff(pairs{"interests": "a;b;c", "plan": "y"}, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
		if n := r.logs.Count("append is for enumerations of checkboxes"); n != 1 {
			t.Errorf("%d warnings, want one", n)
		}
	})
}

// TestARefusedValueYields: of a merged write the next value in line is written.
func TestARefusedValueYields(t *testing.T) {
	f := func(settings, want, wantReason string, values ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, subscriber(), settings)
			r.box.Inject(sandbox.Fault{
				Endpoint: upsertEndpoint, Status: 400, Match: has("bad"),
				Body: `{"category":"VALIDATION_ERROR","errors":[{"code":"INVALID_OPTION","context":{"propertyName":["plan"]}}]}`,
			})
			var events []*event.Event
			for _, v := range values {
				events = append(events, identify(`{"email":"a@b.co","plan":`+v+`}`))
			}
			got := r.run(events...)
			mustDeliver(t, got)
			if p := r.properties("a@b.co")["plan"]; p != want {
				t.Errorf("%s %q: %q, want %q", settings, values, p, want)
			}
			if reason := detail(t, got[0].outcome).Stripped["plan"]; reason != wantReason {
				t.Errorf("%s %q: left out for %q, want %q", settings, values, reason, wantReason)
			}
		})
	}
	f("", "2", "refused", `"1"`, `"2"`, `"bad3"`)
	f("", "1", "refused", `"1"`, `"bad2"`, `"bad3"`)
	f("", "1", "refused", `"bad0"`, `"1"`, `"bad2"`, `"bad2"`)
	f("", "", "refused", `"bad0"`, `"bad1"`)
	f("properties: {write: {plan: if_empty}}", "2", "refused", `"bad1"`, `"2"`, `"3"`)
	f("properties: {write: {plan: if_empty}}", "1", "", `"1"`, `"bad2"`)
	f("properties: {null: clear}", "", "refused", `"1"`, `null`, `"bad2"`)
	f("properties: {null: clear}", "3", "refused", `"1"`, `null`, `"3"`, `"bad4"`)
	f("properties: {null: clear}", "", "", `"1"`, `null`)
}

// TestNeeds: what the account lacks for a batch is asked for once, as far as the policy makes it.
func TestNeeds(t *testing.T) {
	f := func(settings, want string, users ...string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, subscriber(), "")
			mustDeliver(t, r.run(identify(`{"email":"first@b.co"}`)))
			r.yaml += settings
			r.reload()
			var events []*event.Event
			for _, u := range users {
				events = append(events, identify(`{"email":"a@b.co",`+u+`}`))
			}
			contacts, _ := r.entries(events...)
			s := &contactSend{d: r.dest, batch: contacts, schema: r.dest.account.schema.get()}
			_, needs, options := s.merge()
			var got []string
			for _, n := range needs {
				s := n.name + " " + n.label
				for _, v := range n.values {
					s += " " + v.Raw
				}
				got = append(got, s)
			}
			for _, n := range options {
				got = append(got, n.property.name+" "+strings.Join(n.options, " "))
			}
			if s := strings.Join(got, ", "); s != want {
				t.Errorf("%s %q:\n got %s\nwant %s", settings, users, s, want)
			}
		})
	}
	f("", "", `"newOne":1,"interests":["x"]`)
	f("properties: {unknown: create}", "new_one newOne 1 2, shoe_size Shoe Size 43, last last true",
		`"newOne":1,"Shoe Size":43,"2fa":1,"_x":1,"empty":null`, `"newOne":2,"interests":["x"],"last":true`)
	f("properties: {unknown: create, only: [shoe_size], map: {shoe_size: $.user.size}}", "shoe_size shoe_size 43", `"newOne":1,"size":43`)
	f("properties: {unknown: create, except: [new_one]}", "size size 43", `"newOne":1,"size":43`)
	f("properties: {options: create}", "interests x y, interest z", `"interests":["x","a"],"other":1,"interest":"z"`, `"interests":"y;x"`)
}

// TestExpressionsAreNotShared runs Sends and Plans at a time, as the router does. In a bubble no busy machine makes an expression late.
func TestExpressionsAreNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, externalID(), byExternalID+`properties: {map: {external_id: "'u' + $.user.n", plan: "[1, 2, 3].map(x => x * $.user.n).join()", city: "{{.user.n}}"}}`)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 20 {
					n := g*1000 + i
					ev := identify(fmt.Sprintf(`{"n":%d}`, n))
					plans, err := r.dest.Plan(ev)
					if err != nil || plans[0].ID != fmt.Sprint("u", n) {
						t.Errorf("%v, %v", plans, err)
					}
					for _, v := range r.dest.contacts.expressions.all(nil, ev, "external_id") {
						want := map[string]string{"plan": fmt.Sprintf("%d,%d,%d", n, 2*n, 3*n), "city": fmt.Sprint(n)}[v.name]
						if v.err != nil || v.value.Str != want {
							t.Errorf("%s of %d: %s, %v", v.name, n, v.value, v.err)
						}
					}
				}
			})
		}
		wg.Wait()
		if n := len(r.dest.contacts.expressions.free); n > 8 {
			t.Errorf("%d sets of engines for 8 users", n)
		}
	})
}

func TestAFailingExpressionIsLoggedOnce(t *testing.T) {
	_, r := mapped(t, "properties: {map: {plan: '$.user.n()'}}", `{"n":1}`, `{"n":2}`, `{"n":3}`)
	if n := r.logs.Count("an expression fails"); n != 1 {
		t.Errorf("%d log lines, want one", n)
	}
}

// TestAnyWritesEndAsInOrder sends any identifies of a few people under every policy, merged as they come, through refusals and faults: the
// contacts end as if each had been applied alone, in order.
func TestAnyWritesEndAsInOrder(t *testing.T) {
	const settings = "properties: {null: %s, write: {firstname: if_empty, interests: append}}\n"
	f := func(seed uint64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 2))
			null := []string{"ignore", "clear"}[seed%2]
			r := newRig(t, subscriber(), fmt.Sprintf(settings, null))
			for _, name := range []string{"city", "firstname"} {
				r.box.Inject(sandbox.Fault{
					Endpoint: upsertEndpoint, Status: 400, Match: has("bad " + name),
					Body: `{"category":"VALIDATION_ERROR","message":"no","errors":[{"code":"INVALID_OPTION","context":{"propertyName":["` + name + `"]}}]}`,
				})
			}
			want := map[string]map[string]string{}
			for range 6 {
				var events []*event.Event
				for range 1 + rnd.IntN(40) {
					email := fmt.Sprintf("p%d@example.com", rnd.IntN(5))
					user := randomUser(rnd)
					if want[email] == nil {
						want[email] = map[string]string{}
					}
					applyInOrder(want[email], user, null == "clear")
					user["email"] = email
					body, err := json.Marshal(user)
					if err != nil {
						t.Fatal(err)
					}
					events = append(events, identify(string(body)))
				}
				for range rnd.IntN(3) {
					fault := faultsOfARun[rnd.IntN(len(faultsOfARun))]
					fault.Endpoint, fault.Times = upsertEndpoint, 1
					r.box.Inject(fault)
				}
				mustDeliver(t, r.run(events...))
			}
			for email, properties := range want {
				got := r.properties(email)
				for name, v := range got {
					if v == "" {
						delete(got, name)
					}
				}
				if diff := cmp.Diff(properties, got); diff != "" {
					t.Errorf("seed %d, %s: %s", seed, email, diff)
				}
			}
		})
	}
	for seed := range uint64(40) {
		f(seed)
	}
}

func randomUser(rnd *rand.Rand) map[string]any {
	user := map[string]any{}
	for _, name := range []string{"city", "firstname"} {
		switch rnd.IntN(6) {
		case 0:
			user[name] = nil
		case 1:
			user[name] = fmt.Sprintf("bad %s %d", name, rnd.IntN(3))
		case 2, 3:
			user[name] = fmt.Sprint(name, rnd.IntN(100))
		}
	}
	switch rnd.IntN(4) {
	case 0:
		user["interests"] = []string{}
	case 1, 2:
		user["interests"] = []string{string(rune('a' + rnd.IntN(3))), string(rune('a' + rnd.IntN(4)))} // d is no option
	}
	return user
}

// applyInOrder is the model: what one identify alone makes of a contact.
func applyInOrder(contact map[string]string, user map[string]any, clears bool) {
	for name, v := range user {
		list, _ := v.([]string)
		text, _ := v.(string)
		switch {
		case v == nil || list != nil && len(list) == 0:
			if clears && name != "firstname" {
				delete(contact, name)
			}
		case list != nil:
			have := strings.FieldsFunc(contact[name], func(r rune) bool { return r == ';' })
			for _, option := range list {
				if option != "d" && !strings.Contains(strings.Join(have, ";"), option) {
					have = append(have, option)
				}
			}
			if len(have) > 0 {
				contact[name] = strings.Join(have, ";")
			}
		case strings.HasPrefix(text, "bad"), name == "firstname" && contact[name] != "":
		default:
			contact[name] = text
		}
	}
}

package hubspot

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// names are those of the events that HubSpot took, in their order.
func (r *rig) eventNames() (names []string) {
	for _, ev := range r.box.Events() {
		names = append(names, ev.EventName)
	}
	return names
}

func TestEventsAreMapped(t *testing.T) {
	f := func(settings, eventType, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, settings)
			got := r.run(track(eventType))
			switch o := outcomeOf(got[len(got)-1].outcome.Err); {
			case len(want) > 2 && want[:2] == "pe":
				if names := r.eventNames(); o != "delivered" || len(names) != 1 || names[0] != want {
					t.Errorf("%q with %s: %s, events %v, want %s", eventType, settings, o, names, want)
				}
			case o != want:
				t.Errorf("%q with %s: %s, want %s", eventType, settings, o, want)
			}
		})
	}
	const mapped = "events: {map: {Order Completed: pe12345_order_done, order completed: other, 'Größe': size, 'a.b': ab}}\n"
	f(mapped, "Order Completed", "pe12345_order_done")
	f(mapped, "order completed", "pe12345_other")
	f(mapped, "Order completed", "pe12345_order_completed") // neither of the two
	f(mapped, " GRÖßE ", "pe12345_size")
	f(mapped, " größe ", "pe12345_size")
	f(mapped, "a.b", "pe12345_ab")
	f(mapped, "else", "pe12345_else")
	f("events: {map: {' Order Completed ': done}}\n", "ORDER COMPLETED", "pe12345_done")
	f("events: {only: [Sign Up]}\n", "sign up", "pe12345_sign_up")
	f("events: {only: [Sign Up]}\n", "pageview", "skipped: excluded event type")
	f("events: {except: [pageview]}\n", " Pageview", "skipped: excluded event type")
	f("events: {except: [pageview]}\n", "page view", "pe12345_page_view")
	f("events: {except: [unknown]}\n", "", "pe12345_unknown") // what has no type is not of the type unknown
	f("events: {map: {x: never_made}, create: false}\n", "x", "skipped: undefined event name")
	f("events: {map: {x: made}, new_per_account: 0}\n", "x", "pe12345_made")
	f("events: {map: {x: made}, new_per_account: 0}\n", "y", "skipped: undefined event name")
}

// TestExcludedEventsMakeNoContact is about events of which nothing is to be sent, and of those that write contacts.
func TestExcludedEventsMakeNoContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "events: {except: [a, c]}\ncontact_events: [c]\n")
		r.run(
			serverEvent(`{"event_type":"a","user":{"email":"a@b.co"}}`), serverEvent(`{"event_type":"b","user":{"email":"b@b.co"}}`),
			serverEvent(`{"event_type":"c","user":{"email":"c@b.co","firstname":"C"}}`),
		)
		if _, ok := r.box.Contact("a@b.co"); ok {
			t.Error("an excluded event made a contact")
		}
		if got := r.properties("c@b.co")["firstname"]; got != "C" {
			t.Errorf("an event that writes its contact and is excluded as an event: firstname %q", got)
		}
		if diff := cmp.Diff([]string{"pe12345_b"}, r.eventNames()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestEventProperties(t *testing.T) {
	f := func(settings, body string, want map[string]string, stripped map[string]string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, settings)
			got := r.run(serverEvent(body))
			mustDeliver(t, got)
			if diff := cmp.Diff(want, r.last().Properties); diff != "" {
				t.Errorf("%s: %s", settings, diff)
			}
			if diff := cmp.Diff(stripped, detail(t, got[len(got)-1].outcome).Stripped); diff != "" {
				t.Errorf("%s: stripped: %s", settings, diff)
			}
		})
	}
	const body = `{"event_type":"x","url":"https://a.b/","plan":"free","zip":"01234","n":5,"empty":"","conversion":{"revenue":9},` +
		`"traits":{"plan":"pro","tags":["a","b"],"o":{"k":1}},"user":{"email":"a@b.co","firstname":"Ada"}}`
	all := map[string]string{"hs_page_url": "https://a.b/", "plan": "free", "zip": "01234", "n": "5", "revenue": "9", "firstname": "Ada"}
	with := func(more map[string]string, less ...string) map[string]string {
		m := map[string]string{}
		for k, v := range all {
			if !slices.Contains(less, k) {
				m[k] = v
			}
		}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	f("", body, all, nil)
	f("events: {properties: {only: [plan, hs_page_url]}}\n", body, map[string]string{"plan": "free", "hs_page_url": "https://a.b/"},
		map[string]string{"zip": "excluded", "n": "excluded", "revenue": "excluded", "firstname": "excluded"})
	f("events: {properties: {except: [plan, revenue, firstname]}}\n", body, with(nil, "plan", "revenue", "firstname"),
		map[string]string{"plan": "excluded", "revenue": "excluded", "firstname": "excluded"})
	f("events: {properties: {map: {plan: '$.traits.plan', tags: '$.traits.tags', o: '$.traits.o', who: 'Dr. {{.user.firstname}}', kind: web, revenue: '$.n * 2', hs_page_url: '$.url + \"?x\"'}}}\n",
		body, with(map[string]string{
			"plan": "pro", "tags": "a;b", "o": `{"k":1}`, "who": "Dr. Ada", "kind": "web", "revenue": "10", "hs_page_url": "https://a.b/?x",
		}), nil)
	f("events: {properties: {map: {bad: '$.user.firstname.toFixed(2)', none: '$.nope.x'}}}\n", body, all, map[string]string{"bad": "expression"})
	f("events: {properties: {map: {k: '$.traits.plan'}, only: [k]}}\n", body, map[string]string{"k": "pro"}, map[string]string{
		"plan": "excluded", "zip": "excluded", "n": "excluded", "revenue": "excluded", "firstname": "excluded",
	})
	f("events: {properties: {map: {plan: '$.nope', 'n': '$.traits.nope.x'}}}\n", body, with(nil, "plan", "n"), nil) // the expression alone decides
}

func TestEventSettingsProblems(t *testing.T) {
	f := func(events, want string) {
		t.Helper()
		_, _, err := newFromYAML(t, "access_token: pat-abc\nhub_id: 12345\nevents:\n  "+events+"\n")
		if err == nil || err.Error() != want {
			t.Errorf("%s\n%v, want\n%s", events, err, want)
		}
	}
	const at = "router.yaml:4: destinations.crm.hubspot.events."
	f("map: {a: pe99_x}", at+`map.a: pe99_x is an event of the HubSpot account 99, hub_id is 12345`)
	f("map: {a: Order Completed}", at+`map.a: "Order Completed" is not the name of an event: lower-case letters, digits and _, a letter first, at most 50; is it order_completed?`)
	f("map: {a: ''}", at+`map.a: "" is not the name of an event: lower-case letters, digits and _, a letter first, at most 50`)
	f("map: {' ': x}", at+`map: an event type is empty`)
	f("map: {user_identify: x}", at+`map.user_identify: events of this type describe a person: they are contacts, never custom events`)
	f("map: {a: x}\n  only: [b]", at+`map.a: no custom event is made of this type: see only and except`)
	f("map: {a.b: x!}", at+`map.a.b: "x!" is not the name of an event: lower-case letters, digits and _, a letter first, at most 50; is it x_?`)
	f("only: [a, '']", at+`only: an event type is empty`)
	f("only: [user_identify]", at+`only: user_identify describes a person: it is a contact, never a custom event`)
	f("only: [a]\n  except: [A]", "router.yaml:5: destinations.crm.hubspot.events.except: A stands under only as well")
	f("anonymous: yes", at+`anonymous: must be skip or utk`)
	f("properties: {only: [Plan]}", at+`properties.only: Plan is not the name of an event property: lower-case letters, digits and _, a letter first, at most 50; is it plan?`)
	f("properties: {except: [a, a]}", at+`properties.except: a stands here twice`)
	f("properties: {map: {a: '$.x'}, except: [a]}", at+`properties.map.a: is never sent: see only and except`)
	f("properties: {map: {a b: '$.x'}}", at+`properties.map.a b: a b is not the name of an event property: lower-case letters, digits and _, a letter first, at most 50; is it a_b?`)
	f("properties: {map: {a: '{{.x'}}", at+`properties.map.a: line 1, column 1: unclosed action; end the action with }}`)
	f("properties: {map: {a: '$.('}}", at+"properties.map.a: line 1, column 3: unexpected token (")
}

func TestTypesOfNewEventProperties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		send := func(body string) map[string]string {
			t.Helper()
			got := r.run(serverEvent(`{"event_type":"x","user":{"email":"a@b.co"},` + body + `}`))
			mustDeliver(t, got)
			return detail(t, got[len(got)-1].outcome).Stripped
		}
		send(`"n":5,"zip":"01234","yes":true,"at":"2026-01-02T03:04:05Z","offset":"2026-01-02T03:04:05.678+01:00","day":"2026-01-02",
			"local":"2026-01-02T03:04:05","long ago":"0001-01-01T00:00:00Z","version":"2026-01-02T03:04:05Z and more","big":12345678901234567890`)
		var types []string
		for _, p := range r.box.Definitions()[0].Properties {
			types = append(types, p.Name+" "+p.Type)
		}
		slices.Sort(types)
		want := []string{
			"at datetime", "big number", "day string", "local string", "long_ago string", "n number", "offset datetime", "version string", "yes string", "zip string",
		}
		if diff := cmp.Diff(want, types); diff != "" {
			t.Error(diff)
		}
		got := r.last().Properties
		for name, v := range map[string]string{
			"at": "1767323045000", "offset": "1767319445678", "zip": "01234", "yes": "true", "day": "2026-01-02", "big": "12345678901234567890",
		} {
			if got[name] != v {
				t.Errorf("%s is %q, want %q", name, got[name], v)
			}
		}
		stripped := send(`"n":"","zip":"","at":"soon","offset":1767323045000,"yes":"perhaps"`)
		if diff := cmp.Diff(map[string]string{"at": "value"}, stripped); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]string{"offset": "1767323045000", "yes": "perhaps"}, r.last().Properties); diff != "" {
			t.Error(diff)
		}
		if n := r.metric("router_stripped_properties_total", "property", "at", "reason", "value"); n != 1 {
			t.Errorf("the metric says %v", n)
		}
	})
}

func TestExpressionsAreForManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "events: {properties: {map: {double: '(() => $.n * 2)()'}}}\n")
		done := make(chan struct{})
		for g := range 8 {
			go func() {
				defer func() { done <- struct{}{} }()
				for i := range 50 {
					n := g*1000 + i
					all := candidates(serverEvent(fmt.Sprintf(`{"n":%d}`, n)), nil, &r.dest.rules.properties)
					if got := all[0].value.Int(); got != int64(2*n) {
						t.Errorf("the double of %d is %d", n, got)
					}
				}
			}()
		}
		for range 8 {
			<-done
		}
	})
}

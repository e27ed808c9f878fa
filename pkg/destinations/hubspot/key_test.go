package hubspot

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

const (
	byExternalID = "id_property: external_id\n"
	byObjectID   = "id_property: hs_object_id\n"
	updateCalls  = "contacts/batch/update"
)

// externalID is a property that may identify contacts.
func externalID() sandbox.Options {
	return sandbox.Options{Properties: []sandbox.Property{
		{Name: "external_id", Label: "External id", Type: "string", FieldType: "text", HasUniqueValue: true},
		{Name: "plan", Label: "Plan", Type: "string", FieldType: "text"},
	}}
}

// contactBy returns the properties of the only contact that has the value; nil when there is none.
func (r *rig) contactBy(property, value string) (id string, properties map[string]string) {
	r.t.Helper()
	for _, c := range r.box.Contacts() {
		if c.Properties[property] != value {
			continue
		}
		if properties != nil {
			r.t.Errorf("two contacts have %s %s", property, value)
		}
		id, properties = c.ID, c.Properties
	}
	return id, properties
}

// TestEmails sends addresses as people have them and looks for their contacts.
func TestEmails(t *testing.T) {
	f := func(sent, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			user := fmt.Sprintf(`{"email":%s,"firstname":"Ann"}`, event.AppendString(nil, sent))
			mustDeliver(t, r.run(identify(user), identify(strings.Replace(user, `:"Ann"`, `:"Bob"`, 1)), serverEvent(`{"event_type":"x","user":`+user+`}`)))
			c, ok := r.box.Contact(want)
			if !ok || r.box.ContactCount() != 1 || c.Properties["firstname"] != "Bob" || c.Properties["email"] != want {
				t.Errorf("%s: %d contacts, %v", sent, r.box.ContactCount(), c.Properties)
			}
			if events := r.box.Events(); len(events) != 1 || events[0].Email != want {
				t.Errorf("%s: events %v", sent, events)
			}
		})
	}
	f("ann@example.com", "ann@example.com")
	f("  Ann@Example.COM\t", "ann@example.com")
	f("ann+news@example.com", "ann+news@example.com")
	f("ann+a/b?c#d%e@example.com", "ann+a/b?c#d%e@example.com")
	f("o'neil&co={x}|y~z^`$!*@example.com", "o'neil&co={x}|y~z^`$!*@example.com")
	f("%41nn%40@example.com", "%41nn%40@example.com")
	f("jürgen@example.com", "jürgen@example.com")
	f("JÜRGEN@münchen.example", "jürgen@münchen.example")
	f("ann@xn--mnchen-3ya.example", "ann@xn--mnchen-3ya.example")
	f("用户@例子.广告", "用户@例子.广告")
	f("a@"+strings.Repeat("b", 60)+".co", "a@"+strings.Repeat("b", 60)+".co")
}

// TestEmailsThatHubSpotRefuses are possible ones that HubSpot does not take: each is a dead letter, and no more than that.
func TestEmailsThatHubSpotRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		got := r.run(identify(`{"email":"\"ann lee\"@example.com"}`), identify(`{"email":"ann@nodomain"}`), identify(`{"email":"bob@example.com"}`))
		for i, want := range []string{"rejected", "rejected", "delivered"} {
			if o := outcomeOf(got[i].outcome.Err); o != want {
				t.Errorf("%s: %v", got[i].entry.Plan.ID, got[i].outcome.Err)
			}
		}
	})
}

func TestPlanByAProperty(t *testing.T) {
	f := func(settings, body, want string) {
		t.Helper()
		d := newRig(t, sandbox.Options{}, settings).dest
		plans, err := d.Plan(&event.Event{JSON: []byte(body)})
		var got []string
		for _, p := range plans {
			s := p.Lane + " " + p.Key + " " + p.ID
			if p.IfNew {
				s += " if new"
			}
			got = append(got, s)
		}
		if err != nil {
			got = append(got, outcomeOf(err)+": "+err.Error())
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s of %s:\n got %s\nwant %s", settings, body, s, want)
		}
	}
	user := func(members string) string { return `{"event_type":"user_identify","user":{` + members + `}}` }
	f(byExternalID, user(`"external_id":"Ab-1"`), "contacts ab-1 Ab-1")
	f(byExternalID, user(`"externalId":" 7 "`), "contacts 7 7")
	f(byExternalID, user(`"External ID":12345678901234567890`), "contacts 12345678901234567890 12345678901234567890")
	f(byExternalID, user(`"externalId":"a","external_id":"b","External-Id":"c"`), "contacts b b")
	f(byExternalID, user(`"externalId":"a","External-Id":"c"`), "contacts c c")
	f(byExternalID, user(`"externalId":"a","External-Id":null`), "contacts a a")
	f(byExternalID, user(`"email":"a@b.co"`), "skipped: no identity: skipped: no identity")
	f(byExternalID, user(`"external_id":""`), "skipped: no identity: skipped: no identity")
	f(byExternalID, user(`"external_id":["a"]`), "skipped: no identity: skipped: no identity")
	f(byExternalID, user(`"external_id":true`), "skipped: no identity: skipped: no identity")
	f(byExternalID, user(`"external_id":"`+strings.Repeat("x", 513)+`"`), "rejected: external_id is longer than 512 bytes")
	f(byExternalID, user(`"external_id":"a\nb"`), "rejected: external_id holds a character that does not print")
	f(byExternalID+"missing_key: reject\n", user(`"email":"a@b.co"`),
		"rejected: the event has no external_id, which identifies contacts (id_property); missing_key is reject")
	f("missing_key: reject\n", user(`"id":"1"`), "rejected: the event has no email, which identifies contacts (id_property); missing_key is reject")
	f(byExternalID, `{"event_type":"x","user":{"external_id":"A","email":"a@b.co"}}`, "contacts a A if new, events a A")
	f(byExternalID, `{"event_type":"x","user":{"external_id":"A"}}`, "contacts a A if new, events a A")
	f(byExternalID+"contact_events: [x]\n", `{"event_type":"x","user":{"external_id":"A"}}`, "contacts a A, events a A")
	f(byExternalID, `{"event_type":"x","user":{"email":"a@b.co"}}`, "events  ")
	f("contact_events: [x]\n", `{"event_type":"x","user":{"email":"a@b.co"}}`, "contacts a@b.co a@b.co, events a@b.co a@b.co")
	f("contact_events: x\n", `{"event_type":"x","user":{"email":"a@b.co"}}`, "contacts a@b.co a@b.co, events a@b.co a@b.co")
	f("contact_events: [x]\n", `{"event_type":"y","user":{"email":"a@b.co"}}`, "contacts a@b.co a@b.co if new, events a@b.co a@b.co")
	f("contact_events: all\n", `{"event_type":"y","user":{"email":"a@b.co"}}`, "contacts a@b.co a@b.co, events a@b.co a@b.co")

	f(byObjectID, user(`"hs_object_id":"0123"`), "contacts 123 123")
	f(byObjectID, user(`"hsObjectId":123`), "contacts 123 123")
	f(byObjectID, user(`"hs_object_id":"12a"`), "rejected: hs_object_id is not the number of a contact")
	f(byObjectID, user(`"hs_object_id":"000"`), "rejected: hs_object_id is not the number of a contact")
	f(byObjectID, user(`"hs_object_id":-5`), "rejected: hs_object_id is not the number of a contact")
	f(byObjectID, user(`"hs_object_id":12345678901234567890`), "rejected: hs_object_id is not the number of a contact")
	f(byObjectID, `{"event_type":"x","user":{"hs_object_id":5}}`, "events 5 5")

	mapped := func(name, expression string) string {
		return "properties: {map: {" + name + ": '" + expression + "'}}\n"
	}
	f(byExternalID+mapped("external_id", "$.user.id"), user(`"id":9007199254740993,"external_id":"no"`), "contacts 9007199254740993 9007199254740993")
	f(byExternalID+mapped("external_id", "{{.tenant}}:{{.user.id}}"), `{"event_type":"user_identify","tenant":"T","user":{"id":7}}`, "contacts t:7 T:7")
	f(byExternalID+mapped("external_id", "$.user.id"), user(`"external_id":"no"`), "skipped: no identity: skipped: no identity")
	f(byExternalID+mapped("external_id", "throw new Error(1)"), user(`"external_id":"no"`), "rejected: properties.map.external_id: line 1, column 7: Error: 1")
	f(byObjectID+mapped("hs_object_id", "$.vid"), `{"event_type":"user_identify","vid":77}`, "contacts 77 77")
	f(mapped("email", "$.mail"), `{"event_type":"user_identify","mail":" A@B.co ","user":{"email":"x@y.co"}}`, "contacts a@b.co a@b.co")
	f(mapped("email", "$.mail"), `{"event_type":"user_identify","mail":"nobody"}`, "rejected: the e-mail address has no @")
}

// TestAMappedAddressYieldsToTheMemory: the e-mail that the identity memory supplies counts where the expression has none.
func TestAMappedAddressYieldsToTheMemory(t *testing.T) {
	d := newRig(t, sandbox.Options{}, "properties: {map: {email: $.mail}}\n").dest
	plans, err := d.Plan(&event.Event{Email: "A@b.co", JSON: []byte(`{"event_type":"user_identify","user":{"id":1}}`)})
	if err != nil || len(plans) != 1 || plans[0].ID != "a@b.co" {
		t.Errorf("%v, %v", plans, err)
	}
}

func TestContactsByAUniqueProperty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, externalID(), byExternalID)
		got := r.run(
			identify(`{"external_id":"U1","email":" Ann@Example.com ","firstname":"Ann"}`),
			identify(`{"externalId":"u1","firstname":"Other case, other contact"}`),
			identify(`{"external_id":"U2","email":"not an address","firstname":"Bob"}`),
			identify(`{"external_id":"U3","email":7,"firstname":"Cid"}`),
			identify(`{"external_id":"U1","email":"new@example.com","plan":"pro"}`),
		)
		mustDeliver(t, got)
		want := map[string]map[string]string{
			"U1": {"external_id": "U1", "email": "new@example.com", "firstname": "Ann", "plan": "pro"},
			"u1": {"external_id": "u1", "firstname": "Other case, other contact"},
			"U2": {"external_id": "U2", "firstname": "Bob"},
			"U3": {"external_id": "U3", "firstname": "Cid"},
		}
		for id, properties := range want {
			_, has := r.contactBy("external_id", id)
			if diff := cmp.Diff(properties, has); diff != "" {
				t.Errorf("%s: %s", id, diff)
			}
		}
		if d := detail(t, got[2].outcome); d.Stripped["email"] != "value" || !cmp.Equal(d.Written, []string{"external_id", "firstname"}) {
			t.Errorf("%+v", d)
		}
		// A new address is the same contact.
		id, _ := r.contactBy("external_id", "U1")
		mustDeliver(t, r.run(identify(`{"external_id":"U1","email":"third@example.com"}`)))
		if after, p := r.contactBy("external_id", "U1"); after != id || p["email"] != "third@example.com" {
			t.Errorf("contact %s became %s with %v", id, after, p)
		}
	})
}

// TestAnAddressThatAnotherContactHas: only the address is left out.
func TestAnAddressThatAnotherContactHas(t *testing.T) {
	f := func(name string, prepare func(*rig)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, externalID(), byExternalID)
			mustDeliver(t, r.run(identify(`{"external_id":"U1","email":"ann@example.com"}`)))
			prepare(r)
			got := r.run(
				identify(`{"external_id":"U2","email":"mine@example.com","firstname":"Bob"}`),
				identify(`{"external_id":"U2","email":"Ann@example.com","plan":"pro"}`),
				identify(`{"external_id":"U3","email":"ann@example.com","firstname":"Cid"}`),
				identify(`{"external_id":"U4","email":"free@example.com","firstname":"Dan"}`),
			)
			mustDeliver(t, got)
			for id, want := range map[string]map[string]string{
				"U1": {"external_id": "U1", "email": "ann@example.com"},
				"U2": {"external_id": "U2", "email": "mine@example.com", "firstname": "Bob", "plan": "pro"}, // the older address of the merged write
				"U3": {"external_id": "U3", "firstname": "Cid"},
				"U4": {"external_id": "U4", "email": "free@example.com", "firstname": "Dan"},
			} {
				if _, has := r.contactBy("external_id", id); !cmp.Equal(want, has) {
					t.Errorf("%s, %s: %v", name, id, has)
				}
			}
			for i, want := range []string{"in-use", "in-use", "in-use", ""} {
				if got := detail(t, got[i].outcome).Stripped["email"]; got != want {
					t.Errorf("%s, entry %d: e-mail left out for %q, want %q", name, i, got, want)
				}
			}
		})
	}
	f("a partial success", func(*rig) {})
	f("a whole refusal", func(r *rig) {
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Status: 409, Match: has(`"ann@example.com"`), Body: `{"status":"error","message":"Contact already exists","category":"CONFLICT"}`,
		})
	})
	f("as a problem of the property", func(r *rig) {
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Status: 400, Match: has(`"ann@example.com"`),
			Body: `{"message":"Property values were not valid","category":"VALIDATION_ERROR","errors":[{"code":"CONFLICTING_UNIQUE_VALUE",` +
				`"message":"A contact with this email already exists","context":{"propertyName":["email"]}}]}`,
		})
	})
}

// TestAnAddressThatHubSpotRefuses is one that looks possible, of a contact that something else identifies.
func TestAnAddressThatHubSpotRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, externalID(), byExternalID)
		got := r.run(identify(`{"external_id":"U1","email":"ann@nodomain","firstname":"Ann"}`))
		mustDeliver(t, got)
		if _, p := r.contactBy("external_id", "U1"); !cmp.Equal(p, map[string]string{"external_id": "U1", "firstname": "Ann"}) {
			t.Errorf("%v", p)
		}
		if d := detail(t, got[0].outcome); d.Stripped["email"] != "value" {
			t.Errorf("%+v", d)
		}
	})
}

// TestAContactOfAnEventByAUniqueProperty: the contact that is made for an event has the address by which the event finds it.
func TestAContactOfAnEventByAUniqueProperty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, externalID(), byExternalID)
		mustDeliver(t, r.run(serverEvent(`{"event_type":"x","user":{"external_id":"U1","email":"Ann@example.com","plan":"pro"}}`)))
		if _, p := r.contactBy("external_id", "U1"); !cmp.Equal(p, map[string]string{"external_id": "U1", "email": "ann@example.com"}) {
			t.Errorf("%v", p)
		}
		if events := r.box.Events(); len(events) != 1 || events[0].Email != "ann@example.com" {
			t.Errorf("%v", events)
		}
	})
}

// TestAPropertyThatCannotIdentify blocks the lane and says why, instead of losing every contact.
func TestAPropertyThatCannotIdentify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, byExternalID)
		contacts, _ := r.entries(identify(`{"external_id":"U1"}`))
		f := func(want string) {
			t.Helper()
			if err := r.send(contacts)[0].Err; outcomeOf(err) != "lane" || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
		}
		f("the account has no such contact property")
		r.http(http.MethodPost, "/crm/v3/properties/contacts",
			`{"name":"external_id","label":"x","type":"string","fieldType":"text","groupName":"contactinformation"}`)
		time.Sleep(schemaAgain)
		f("may have the same value in several contacts")
		r.http(http.MethodDelete, "/crm/v3/properties/contacts/external_id", "")
		r.box.Reset()
		r.http(http.MethodPost, "/crm/v3/properties/contacts",
			`{"name":"external_id","label":"x","type":"string","fieldType":"text","groupName":"contactinformation","hasUniqueValue":true}`)
		time.Sleep(schemaAgain)
		if err := r.send(contacts)[0].Err; err != nil {
			t.Error(err)
		}
		r.restart() // the cache knows which properties are unique
		calls := r.calls("properties/list", 0)
		mustDeliver(t, r.run(identify(`{"external_id":"U1"}`)))
		if n := r.calls("properties/list", 0) - calls; n != 0 {
			t.Errorf("%d loads of the properties after a restart", n)
		}
	})
}

func TestContactsByTheirNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(people(3)...))
		ids := map[string]string{}
		for i := range 3 {
			email := fmt.Sprintf("p%d@example.com", i)
			c, _ := r.box.Contact(email)
			ids[email] = c.ID
		}
		r.yaml += byObjectID
		r.restart()
		got := r.run(
			identify(`{"hs_object_id":`+ids["p0@example.com"]+`,"city":"Rome"}`),
			identify(`{"hs_object_id":"99999","city":"Oslo"}`),
			identify(`{"hs_object_id":"`+ids["p1@example.com"]+`","email":"Changed@example.com"}`),
			identify(`{"hs_object_id":"88888","city":"Oslo"}`),
			identify(`{"hs_object_id":"`+ids["p2@example.com"]+`","email":"p0@example.com","city":"Bonn"}`),
			identify(`{"hs_object_id":"`+ids["p2@example.com"]+`"}`),
			serverEvent(`{"event_type":"x","user":{"hs_object_id":"`+ids["p0@example.com"]+`"}}`),
		)
		for i, want := range []string{"delivered", "rejected", "delivered", "rejected", "delivered", "delivered", "delivered"} {
			if o := outcomeOf(got[i].outcome.Err); o != want {
				t.Errorf("%d: %v", i, got[i].outcome.Err)
			}
		}
		if err := got[1].outcome.Err; !strings.Contains(err.Error(), "HubSpot has no contact with the id 99999") {
			t.Error(err)
		}
		for email, want := range map[string]map[string]string{
			"p0@example.com":      {"firstname": "P0", "city": "Rome"},
			"changed@example.com": {"firstname": "P1"},
			"p2@example.com":      {"firstname": "P2", "city": "Bonn"},
		} {
			if diff := cmp.Diff(want, r.properties(email)); diff != "" {
				t.Errorf("%s: %s", email, diff)
			}
		}
		if d := detail(t, got[4].outcome); d.Stripped["email"] != "in-use" || d.New || d.ContactID != ids["p2@example.com"] || !cmp.Equal(d.Written, []string{"city"}) {
			t.Errorf("%+v", d)
		}
		if events := r.box.Events(); len(events) != 1 || events[0].ObjectID != ids["p0@example.com"] {
			t.Errorf("%+v", events)
		}
		if n := r.box.ContactCount(); n != 3 {
			t.Errorf("%d contacts", n)
		}
	})
}

// TestAnUnknownNumberAsAWholeAnswer is about a 404 for all, which names them or not.
func TestAnUnknownNumberAsAWholeAnswer(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(people(1)...))
			c, _ := r.box.Contact("p0@example.com")
			r.yaml += byObjectID
			r.restart()
			r.box.Inject(sandbox.Fault{Endpoint: updateCalls, Status: 404, Match: has(`"77"`), Body: body})
			contacts, _ := r.entries(identify(`{"hs_object_id":"`+c.ID+`"}`), identify(`{"hs_object_id":"77"}`))
			var got []string
			for _, o := range r.send(contacts) {
				got = append(got, outcomeOf(o.Err))
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("%s: %s, want %s", body, s, want)
			}
		})
	}
	f(`{"category":"OBJECT_NOT_FOUND","message":"Object not found","context":{"ids":["77"]}}`, "delivered rejected")
	f(`{"category":"OBJECT_NOT_FOUND","message":"Object not found"}`, "delivered rejected")
	f(`<html>404</html>`, "lane lane")
}

// TestTwoAddressesOfOneContact: HubSpot knows both, and whatever comes under either is the one contact's.
func TestTwoAddressesOfOneContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{KeepOldEmail: true}, "")
		mustDeliver(t, r.run(identify(`{"email":"old@example.com","firstname":"Ann"}`)))
		c, _ := r.box.Contact("old@example.com")
		r.http(http.MethodPatch, "/crm/v3/objects/contacts/"+c.ID, `{"properties":{"email":"new@example.com"}}`)

		got := r.run( // one batch, and then two
			identify(`{"email":"old@example.com","city":"Rome"}`),
			identify(`{"email":"new@example.com","lastname":"Lee"}`),
		)
		mustDeliver(t, got)
		mustDeliver(t, r.run(identify(`{"email":"old@example.com","city":"Oslo"}`)))
		mustDeliver(t, r.run(identify(`{"email":"new@example.com","lastname":"Low"}`), serverEvent(`{"event_type":"x","user":{"email":"old@example.com"}}`)))
		want := map[string]string{"firstname": "Ann", "city": "Oslo", "lastname": "Low"}
		if diff := cmp.Diff(want, r.properties("new@example.com")); diff != "" || r.box.ContactCount() != 1 {
			t.Errorf("%d contacts, %s", r.box.ContactCount(), diff)
		}
		for _, g := range got {
			if d := detail(t, g.outcome); d.ContactID != c.ID || d.New {
				t.Errorf("%s went to %+v", g.entry.Plan.ID, d)
			}
		}
	})
}

// TestAChangeOfAddress: with the e-mail as the key, a new address is a new contact, and the old one stays as it was.
func TestAChangeOfAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(
			identify(`{"id":7,"email":"old@example.com","firstname":"Ann"}`),
			identify(`{"id":7,"email":"new@example.com","firstname":"Ann"}`),
		))
		for _, email := range []string{"old@example.com", "new@example.com"} {
			if diff := cmp.Diff(map[string]string{"firstname": "Ann"}, r.properties(email)); diff != "" {
				t.Errorf("%s: %s", email, diff)
			}
		}
	})
}

// TestContactEvents: such an event writes what it knows of its person and is a custom event as well.
func TestContactEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, externalID(), "contact_events: [subscribed]\nproperties: {map: {plan: $.plan}}\n")
		mustDeliver(t, r.run(
			identify(`{"email":"a@b.co","firstname":"Ann"}`),
			serverEvent(`{"event_type":"subscribed","plan":"pro","user":{"email":"a@b.co","city":"Rome"}}`),
			serverEvent(`{"event_type":"looked","plan":"none","user":{"email":"a@b.co","city":"Oslo"}}`),
			serverEvent(`{"event_type":"looked","plan":"none","user":{"email":"b@b.co","city":"Oslo"}}`),
		))
		if diff := cmp.Diff(map[string]string{"firstname": "Ann", "plan": "pro", "city": "Rome"}, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]string{}, r.properties("b@b.co")); diff != "" {
			t.Error(diff)
		}
		if n := len(r.box.Events()); n != 3 {
			t.Errorf("%d custom events, want 3", n)
		}
	})
}

// The property that identifies contacts is deleted while the router runs. Its lane waits; nothing is rejected.
func TestThePropertyOfTheKeyIsDeleted(t *testing.T) {
	for _, answer := range []string{
		"", `{"category":"VALIDATION_ERROR","message":"Unable to perform update/upsert by non-unique 0-1 property external_id"}`,
		`{"category":"VALIDATION_ERROR","errors":[{"code":"PROPERTY_DOESNT_EXIST","context":{"propertyName":["external_id"]}}]}`,
	} {
		inBubble(t, externalID(), byExternalID, func(t *testing.T, r *rig) {
			mustDeliver(t, r.run(identify(`{"external_id":"1","firstname":"A"}`)))
			time.Sleep(2 * time.Minute)
			r.http(http.MethodDelete, "/crm/v3/properties/contacts/external_id", "")
			if answer != "" {
				r.box.Inject(sandbox.Fault{Endpoint: "contacts/batch/upsert", Status: 400, Body: answer})
			}
			for n := range 2 {
				contacts, _ := r.entries(identify(`{"external_id":"1","firstname":"B"}`), identify(`{"external_id":"2","firstname":"C"}`))
				for _, o := range r.send(contacts[:2-n]) {
					if isFinal(o.Err) || !strings.Contains(o.Err.Error(), "id_property") {
						t.Errorf("%.80s: %v", answer, o.Err)
					}
				}
			}
		})
	}
}

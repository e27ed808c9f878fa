package hubspot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

const (
	aToken       = "0123456789abcdef0123456789abcdef"
	anotherToken = "fedcba9876543210fedcba9876543210"
)

func TestWhoAnEventIsAbout(t *testing.T) {
	f := func(settings, body, want string, stripped map[string]string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, settings)
			got := r.run(serverEvent(strings.ReplaceAll(body, "TOKEN", aToken)))
			last := got[len(got)-1].outcome
			if last.Err != nil || !strings.HasPrefix(want, "by") {
				if o := outcomeOf(last.Err); o != want {
					t.Errorf("%s%s: %v, want %s", settings, body, last.Err, want)
				}
				return
			}
			ev := r.last()
			if s := strings.TrimSpace("by " + ev.ObjectID + " " + ev.Email + " " + ev.UTK); strings.Join(strings.Fields(s), " ") != want {
				t.Errorf("%s%s: sent %q, want %q", settings, body, s, want)
			}
			if diff := cmp.Diff(stripped, detail(t, last).Stripped); diff != "" {
				t.Errorf("%s%s: stripped: %s", settings, body, diff)
			}
		})
	}
	const visitors = "events: {anonymous: utk}\n"
	f("", `{"event_type":"x","user":{"email":"A@b.co"}}`, "by a@b.co", nil)
	f("", `{"event_type":"x","user":{"email":"a@b.co"},"hubspotutk":"TOKEN"}`, "by a@b.co "+aToken, nil)
	f("", `{"event_type":"x","user":{"email":"a@b.co","hs_object_id":"00512"}}`, "by 512 a@b.co", nil)
	f("", `{"event_type":"x","user":{"hs_object_id":512}}`, "by 512", nil)
	f("", `{"event_type":"x","user":{"hs_object_id":"x512"}}`, "skipped: no identity", nil)
	f("", `{"event_type":"x","user":{"email":"a@b.co","hs_object_id":"x512"}}`, "by a@b.co", map[string]string{"object_id": "value"})
	// A stranger is skipped unless asked for.
	f("", `{"event_type":"x","hubspotutk":"TOKEN"}`, "skipped: no identity", nil)
	f(visitors, `{"event_type":"x","hubspotutk":"TOKEN"}`, "by "+aToken, nil)
	f(visitors, `{"event_type":"x","user":{"id":"1"}}`, "skipped: no identity", nil)
	f(visitors, `{"event_type":"user_identify","hubspotutk":"TOKEN"}`, "skipped: no identity", nil)
	f(visitors, `{"event_type":"x","hubspotutk":"short"}`, "skipped: no identity", nil)
	f(visitors, `{"event_type":"x","hubspotutk":["TOKEN"]}`, "skipped: no identity", nil)
	for _, body := range []string{
		`{"event_type":"x","user":{"hubspotutk":"TOKEN"}}`, `{"event_type":"x","ids":{"hubspotutk":"TOKEN"}}`,
		`{"event_type":"x","eventn_ctx":{"hubspotutk":"TOKEN"}}`, `{"event_type":"x","eventn_ctx":{"ids":{"hubspotutk":" TOKEN "}}}`,
		`{"event_type":"x","__HTTP_CONTEXT__":{"headers":{"cookie":["a=b","x=y; hubspotutk=TOKEN; __hstc=1.TOKEN.2"]}}}`,
		`{"event_type":"x","__HTTP_CONTEXT__":{"Cookie":"hubspotutk=TOKEN"}}`,
		`{"event_type":"x","headers":{"Cookie":" _ga=1;hubspotutk=\"TOKEN\""}}`,
		`{"event_type":"x","hubspotutk":"","ids":{"hubspotutk":"TOKEN"}}`,
	} {
		f(visitors, body, "by "+aToken, nil)
	}
	f(visitors, `{"event_type":"x","headers":{"cookie":"nothubspotutk=TOKEN"}}`, "skipped: no identity", nil)
	// A bad address does not stop an event that has a good token or number, and alone it does.
	f("", `{"event_type":"x","user":{"email":"nobody"},"hubspotutk":"TOKEN"}`, "by "+aToken, map[string]string{"email": "value"})
	f("", `{"event_type":"x","user":{"email":"nobody","hs_object_id":"512"}}`, "by 512", map[string]string{"email": "value"})
	f("", `{"event_type":"x","user":{"email":"nobody"}}`, "rejected", nil)
	f("", `{"event_type":"x","user":{"email":"nobody"},"hubspotutk":"?"}`, "rejected", nil)
	// It is no property of the event.
	f("", `{"event_type":"x","user":{"email":"a@b.co"},"hubspotutk":"?"}`, "by a@b.co", map[string]string{"utk": "value"})
}

// TestHubSpotRefusesAnIdentity is about addresses that are possible and that HubSpot does not take.
func TestHubSpotRefusesAnIdentity(t *testing.T) {
	body := func(i int, email, token string) *event.Event {
		return serverEvent(fmt.Sprintf(`{"event_type":"x","n":%d,"user":{"email":%q},"hubspotutk":%q}`, i, email, token))
	}
	f := func(mode sandbox.BadEvents) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{BadEvents: mode}, "")
			mustDeliver(t, r.run(track("x")))
			// The contact was refused by an earlier process.
			contacts, others := r.entries(body(1, "a@b.co", aToken), body(2, "bad@nodomain", anotherToken), body(3, "c@b.co", aToken))
			r.drain(contacts)
			r.restart()
			r.results = nil
			r.drain(others)
			mustDeliver(t, r.results)
			var got []string
			for _, ev := range r.box.Events()[1:] {
				got = append(got, strings.TrimSpace(ev.Properties["n"]+" "+ev.Email+" "+ev.UTK))
			}
			slices.Sort(got)
			want := []string{"1 a@b.co " + aToken, "2  " + anotherToken, "3 c@b.co " + aToken}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("mode %d: %s", mode, diff)
			}
			for _, g := range r.results {
				lost := detail(t, g.outcome).Stripped["email"]
				if bad := g.entry.Plan.ID == "bad@nodomain"; bad != (lost == "refused") {
					t.Errorf("mode %d: %s: e-mail stripped: %q", mode, g.entry.Plan.ID, lost)
				}
			}
			// The next event of the address is not refused first.
			before := r.calls(sendEndpoint, 0)
			_, next := r.entries(body(4, "bad@nodomain", anotherToken))
			r.results = nil
			r.drain(next)
			mustDeliver(t, r.results)
			if n := r.calls(sendEndpoint, 0) - before; n != 1 {
				t.Errorf("mode %d: the next event of the address took %d calls", mode, n)
			}
		})
	}
	f(sandbox.RefuseBatch)
	f(sandbox.NamePartly)
	f(sandbox.CountPartly)
}

func TestATokenOrNumberThatHubSpotRefuses(t *testing.T) {
	f := func(match, answer string, stripped map[string]string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(track("x")))
			r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: 400, Match: has(match), Body: answer})
			got := r.run(serverEvent(fmt.Sprintf(`{"event_type":"x","user":{"email":"a@b.co","hs_object_id":"512"},"hubspotutk":%q}`, aToken)))
			mustDeliver(t, got)
			if diff := cmp.Diff(stripped, detail(t, got[len(got)-1].outcome).Stripped); diff != "" {
				t.Errorf("%s: %s", answer, diff)
			}
		})
	}
	f(`"utk"`, `{"category":"VALIDATION_ERROR","message":"utk is not known"}`, map[string]string{"utk": "refused"})
	f(`"objectId"`, `{"category":"VALIDATION_ERROR","message":"No contact with objectId 512"}`, map[string]string{"object_id": "refused"})
}

// TestContactsKnownByAProperty is about accounts whose contacts have a key of their own, which events cannot name.
func TestContactsKnownByAProperty(t *testing.T) {
	options := sandbox.Options{Properties: []sandbox.Property{{Name: "external_id", Label: "Id", Type: "string", FieldType: "text", HasUniqueValue: true}}}
	ev := func(user string) *event.Event { return serverEvent(`{"event_type":"x","user":{` + user + `}}`) }
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options, byExternalID)
		mustDeliver(t, r.run(ev(`"external_id":"A1"`), ev(`"external_id":"A2"`), ev(`"external_id":"A3","email":"a3@b.co"`)))
		if n := r.calls("contacts/batch/read", 0); n != 0 {
			t.Errorf("%d reads of contacts whose numbers the answers told", n)
		}
		var got []string
		for _, ev := range r.box.Events() {
			i := slices.IndexFunc(r.box.Contacts(), func(c sandbox.Contact) bool { return c.ID == ev.ContactID })
			if i < 0 {
				t.Fatalf("an event of nobody: %+v", ev)
			}
			got = append(got, fmt.Sprintf("%s by %t %s", r.box.Contacts()[i].Properties["external_id"], ev.ObjectID != "", ev.Email))
		}
		if diff := cmp.Diff([]string{"A1 by true ", "A2 by true ", "A3 by false a3@b.co"}, got); diff != "" {
			t.Error(diff)
		}

		// Another process does not know them: one call tells all.
		_, others := r.entries(ev(`"external_id":"A1"`), ev(`"external_id":"A2"`), ev(`"external_id":"A1"`))
		r.restart()
		r.results = nil
		r.drain(others)
		mustDeliver(t, r.results)
		if n := r.calls("contacts/batch/read", 0); n != 1 {
			t.Errorf("%d reads, want one", n)
		}
		if n := r.box.EventCount(); n != 6 {
			t.Errorf("%d events, want 6", n)
		}
		mustDeliver(t, r.run(ev(`"external_id":"A1"`)))
		if n := r.calls("contacts/batch/read", 0); n != 1 {
			t.Errorf("%d reads, want none for one that was asked for before", n-1)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, options, byExternalID)
		_, others := r.entries(ev(`"external_id":"nobody"`), ev(`"external_id":"B","hs_object_id":"7"`))
		r.drain(others) // their contacts were never written
		if g := r.results[len(r.results)-1]; outcomeOf(g.outcome.Err) != "rejected" || g.tries != lookUpTries || !strings.Contains(g.outcome.Err.Error(), "external_id is nobody") {
			t.Errorf("%d tries: %v", g.tries, g.outcome.Err)
		}
		if ev := r.last(); ev.ObjectID != "7" {
			t.Errorf("the event that names its contact: %+v", ev)
		}
	})
	// A scope that is missing for it is no word about custom events.
	synctest.Test(t, func(t *testing.T) {
		options := options
		options.MissingScopes = []string{"crm.objects.contacts.read"}
		r := newRig(t, options, byExternalID)
		_, others := r.entries(ev(`"external_id":"A"`))
		if err := r.send(others)[0].Err; outcomeOf(err) != "retry after 5m0s" || !strings.Contains(err.Error(), "crm.objects.contacts.read") {
			t.Errorf("without the scope to read: %s %v", outcomeOf(err), err)
		}
		if r.logs.Count("HubSpot refuses custom events") != 0 {
			t.Error("the log says that the account has no custom events")
		}
	})
}

// TestAContactThatWasMerged is about a number that was right once.
func TestAContactThatWasMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: []sandbox.Property{
			{Name: "external_id", Label: "Id", Type: "string", FieldType: "text", HasUniqueValue: true},
		}}, byExternalID)
		mustDeliver(t, r.run(serverEvent(`{"event_type":"x","user":{"external_id":"A1"}}`)))
		id := r.last().ContactID
		r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: 400, Times: 1, Match: has(`"objectId":"` + id + `"`), Body: `{"category":"VALIDATION_ERROR","message":"No CONTACT with ID ` + id + `"}`})
		mustDeliver(t, r.run(serverEvent(`{"event_type":"x","user":{"external_id":"A1"}}`)))
		if n := r.calls("contacts/batch/read", 0); n != 1 {
			t.Errorf("%d reads, want one", n)
		}
	})
}

func TestContactIDsAreBounded(t *testing.T) {
	var c contactIDs
	key := func(i int) contactKey { return contactKey{"k", fmt.Sprint(i)} }
	for i := range 3 * maxContactIDs {
		c.put(key(i), fmt.Sprint(i))
		if c.get(key(0)) != "0" {
			t.Fatalf("one that is asked for all the time is forgotten after %d", i)
		}
	}
	if n := len(c.young) + len(c.old); n > 2*maxContactIDs {
		t.Errorf("%d are kept", n)
	}
	if c.get(key(1)) != "" {
		t.Error("the oldest is still there")
	}
	c.forget(key(0))
	if c.get(key(0)) != "" {
		t.Error("not forgotten")
	}
}

func TestEventsDoNotHappenInTheFuture(t *testing.T) {
	f := func(at string, want time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			now := time.Now().UTC()
			at := strings.ReplaceAll(at, "NOW", now.Add(5*time.Minute).Format(time.RFC3339))
			mustDeliver(t, r.run(serverEvent(`{"event_type":"x","user":{"email":"a@b.co"},`+at+`}`)))
			if got := r.last().OccurredAt.Sub(now); got != want {
				t.Errorf("%s: %v from receipt, want %v", at, got, want)
			}
		})
	}
	f(`"utc_time":"NOW"`, 0)
	f(`"utc_time":"1999-12-31T23:00:00Z"`, -time.Hour)
	f(`"timestamp":946681200000`, -time.Hour)
	f(`"timestamp":"946681200"`, -time.Hour)
	f(`"_timestamp":"1999-12-31T23:00:00.000000Z"`, -time.Hour)
	f(`"eventn_ctx":{"utc_time":"1999-12-31T23:00:00.000000Z"}`, -time.Hour)
	f(`"utc_time":"soon"`, 0)
}

func TestDeviceType(t *testing.T) {
	f := func(device, system, want string) {
		t.Helper()
		if got := deviceType(device, system); got != want {
			t.Errorf("%q on %q is %q, want %q", device, system, got, want)
		}
	}
	f("", "", "")
	f("iPhone", "iOS", "Smartphone")
	f("iPad", "iOS", "Tablet")
	f("Mac", "Mac OS X", "Desktop")
	f("Other", "Windows", "Desktop")
	f("Other", "Ubuntu", "Desktop")
	f("Generic Smartphone", "Android", "Smartphone")
	f("Samsung SM-G960F", "Android", "")
	f("Spider", "Other", "")
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(serverEvent(`{"event_type":"x","user":{"email":"a@b.co"},"parsed_ua":{"device_family":"iPhone","os_family":"iOS","os_version":"17","ua_family":"Mobile Safari"}}`)))
		want := map[string]string{"hs_device_type": "Smartphone", "hs_operating_system": "iOS", "hs_operating_version": "17", "hs_browser": "Mobile Safari"}
		if diff := cmp.Diff(want, r.last().Properties); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzPerson(f *testing.F) {
	for _, s := range []string{
		`{"hubspotutk":"` + aToken + `"}`, `{"eventn_ctx":{"ids":{"hubspotutk":5}},"user":{"hs_object_id":"00"}}`,
		`{"__HTTP_CONTEXT__":{"headers":{"cookie":["hubspotutk=` + aToken + `",5,null,[]]}}}`, `{"headers":{"cookie":"hubspotutk"}}`,
		`{"headers":{"headers":{"headers":{"cookie":"hubspotutk=\"\";"}}}}`, `{"user":{"email":"a@b.co","hs_object_id":1e3}}`,
	} {
		f.Add([]byte(s))
	}
	d := testDestination(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		p := d.contacts.eventPerson(&event.Event{JSON: event.Normalize(body)}, "")
		if p.utk != "" && !isUTK(p.utk) || p.objectID != "" && !isDigits(p.objectID) || p.email != "" && checkEmail(p.email) != nil {
			t.Errorf("%s: %+v", body, p)
		}
	})
}

package hubspot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// The tests TestComplaint01 to TestComplaint20 hold the twenty things that users of other tools complain of most; docs/hubspot.md lists them.

func TestComplaint01RateLimitStorms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 100, Daily: 1500}, "")
		r.env.Transport = slow{r.env.Transport, constantWay(60 * time.Millisecond)}
		r.restart()
		time.Sleep(time.Hour) // just after midnight a refusal may be about the day before
		ctx, cancel := context.WithCancel(context.Background())
		var others sync.WaitGroup
		for range 8 {
			others.Go(func() { r.backlog(ctx) })
		}
		time.Sleep(2 * time.Minute)
		if n := r.calls("", http.StatusTooManyRequests); n != 0 {
			t.Errorf("%d calls were refused", n)
		}
		if n := r.calls("", 0); n < 1100 {
			t.Errorf("%d calls in two minutes, want nearly 1,200", n)
		}
		time.Sleep(2 * time.Minute) // the day's calls are used up
		spent := r.calls("", 0)
		time.Sleep(2 * time.Hour)
		if n := r.calls("", 0) - spent; n != 0 || spent > 1500 {
			t.Errorf("%d calls of 1,500, and %d more when the day was spent", spent, n)
		}
		cancel()
		others.Wait()
		contacts, _ := r.entries(people(1)...)
		var block *destinations.BlockError
		if err := r.send(contacts)[0].Err; !errors.As(err, &block) || block.Until.IsZero() {
			t.Errorf("what comes meanwhile: %v, want a block until midnight", err)
		}
		time.Sleep(24 * time.Hour)
		mustDeliver(t, r.run(people(3)...))
	})
}

func TestComplaint02SearchHasALimitOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "properties: {write: {firstname: if_empty}, unknown: create}\n")
		events := people(150)
		events = append(events, track("signed_up"), identify(`{"email":"p1@example.com","firstname":"Other","new_thing":"x"}`))
		mustDeliver(t, r.run(events...))
		if n := r.calls("contacts/search", 0); n != 0 {
			t.Errorf("%d searches", n)
		}
	})
}

func TestComplaint03DuplicateContactsInRaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Lag: time.Second}, "")
		second := *r
		second.known, second.results = map[string]bool{}, nil
		second.restart() // another process with the same token
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Times: 2, Status: http.StatusConflict,
			Body: `{"status":"error","message":"Contact already exists. Existing ID: 17","category":"CONFLICT"}`,
		})
		var both sync.WaitGroup
		for _, r := range []*rig{r, &second} {
			both.Go(func() { mustDeliver(t, r.run(people(120)...)) })
		}
		both.Wait()
		if n := r.box.ContactCount(); n != 120 {
			t.Errorf("%d contacts of 120 people", n)
		}
	})
}

func TestComplaint04OneBadContactFailsTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		contacts, _ := r.entries(append(people(99), identify(`{"email":"x@no-top-level-domain","firstname":"X"}`))...)
		began := time.Now()
		delivered := 0
		for i, o := range r.send(contacts) {
			if o.Err == nil {
				delivered++
			} else if contacts[i].Plan.ID != "x@no-top-level-domain" || outcomeOf(o.Err) != "rejected" {
				t.Errorf("%s: %v", contacts[i].Plan.ID, o.Err)
			}
		}
		if delivered != 99 || r.box.ContactCount() != 99 || time.Since(began) > time.Minute {
			t.Errorf("%d delivered, %d contacts in HubSpot after %s", delivered, r.box.ContactCount(), time.Since(began))
		}
	})
}

func TestComplaint05SuccessGivenToTheWrongRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.env.Transport = script(func(req *http.Request) (*http.Response, error) { return reversed(r.box.RoundTripper().RoundTrip(req)) })
		r.restart()
		events := people(20)
		events[7] = identify(`{"email":"x@no-top-level-domain"}`)
		for _, g := range r.run(events...) {
			c, ok := r.box.Contact(g.entry.Plan.ID)
			switch {
			case ok != (g.outcome.Err == nil):
				t.Errorf("%s: in HubSpot %t, outcome %v", g.entry.Plan.ID, ok, g.outcome.Err)
			case ok && detail(t, g.outcome).ContactID != c.ID:
				t.Errorf("%s is contact %s, its detail says %s", g.entry.Plan.ID, c.ID, detail(t, g.outcome).ContactID)
			}
		}
	})
}

func TestComplaint06AnUnknownPropertyLosesTheEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: []sandbox.Property{{Name: "plan", Label: "Plan", Type: "string", FieldType: "text"}}}, "")
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","plan":"pro","shoe size":46}`)))
		r.http(http.MethodDelete, "/crm/v3/properties/contacts/plan", "") // and the schema that we know is old now
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","firstname":"Ada","plan":"free"}`)))
		if got := r.properties("a@b.co")["firstname"]; got != "Ada" {
			t.Errorf("firstname is %q", got)
		}
		r.http(http.MethodPost, "/crm/v3/properties/contacts", `{"name":"shoe_size","label":"Shoe size","groupName":"contactinformation","type":"number","fieldType":"number"}`)
		time.Sleep(6 * time.Minute)
		mustDeliver(t, r.run(identify(`{"email":"a@b.co"}`)))
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","shoe size":46}`)))
		if got := r.properties("a@b.co")["shoe_size"]; got != "46" {
			t.Errorf("shoe_size is %q, though it exists by now", got)
		}
	})
}

func TestComplaint07APropertyIsDroppedAndNobodyKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		got := r.run(identify(`{"email":"a@b.co","shoe size":46,"createdate":"2026-01-01","numemployees":"many"}`))
		mustDeliver(t, got)
		want := map[string]string{"shoe_size": "unknown", "createdate": "read-only", "numemployees": "option"}
		if diff := cmp.Diff(want, detail(t, got[0].outcome).Stripped); diff != "" {
			t.Error(diff)
		}
		for name, reason := range want {
			if n := r.metric("router_stripped_properties_total", "property", name, "reason", reason); n != 1 {
				t.Errorf("%s is counted %v times", name, n)
			}
		}
	})
}

// choices is a property with options, and one without any that HubSpot keeps elsewhere.
var choices = []sandbox.Property{
	{Name: "tier", Label: "Tier", Type: "enumeration", FieldType: "select", Options: []sandbox.Option{
		{Label: "Free of charge", Value: "free"}, {Label: "Professional", Value: "PRO_1"}, {Label: "Yes", Value: "true"}, {Label: "No", Value: "false"},
	}},
	{Name: "interests", Label: "Interests", Type: "enumeration", FieldType: "checkbox", Options: []sandbox.Option{
		{Label: "Books", Value: "books"}, {Label: "Music", Value: "music"}, {Label: "Sports", Value: "sports"},
	}},
	{Name: "account_owner", Label: "Owner", Type: "enumeration", FieldType: "select", ExternalOptions: true},
}

func TestComplaint08ValuesThatAreNoOption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: choices}, "")
		f := func(sent, want string) {
			t.Helper()
			email := fmt.Sprintf("u%d@b.co", r.offset)
			got := r.run(identify(fmt.Sprintf(`{"email":%q,"firstname":"A","tier":%s}`, email, sent)))
			mustDeliver(t, got)
			p := r.properties(email)
			if p["tier"] != want || p["firstname"] != "A" {
				t.Errorf("%s is written as %v, want tier %q", sent, p, want)
			}
			if reason := detail(t, got[0].outcome).Stripped["tier"]; (want == "") != (reason != "") {
				t.Errorf("%s: stripped for %q", sent, reason)
			}
		}
		f(`"free"`, "free")
		f(`"FREE"`, "free")
		f(`"pro_1"`, "PRO_1")
		f(`"professional"`, "PRO_1")
		f(`" Free of Charge "`, "free")
		f(`"Yes"`, "true")
		f(`true`, "true")
		f(`false`, "false")
		f(`"no"`, "false")
		f(`"platinum"`, "")
		f(`{"a":1}`, "")
	})
}

func TestComplaint09OptionsThatAreKeptElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: choices}, "")
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","account_owner":"81234567","hubspot_owner_id":70012}`)))
		want := map[string]string{"account_owner": "81234567", "hubspot_owner_id": "70012"}
		if diff := cmp.Diff(want, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestComplaint10SeveralCheckboxes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: choices}, "properties: {write: {interests: append}}\n")
		f := func(sent, want string) {
			t.Helper()
			mustDeliver(t, r.run(identify(fmt.Sprintf(`{"email":"a@b.co","interests":%s}`, sent))))
			if got := r.properties("a@b.co")["interests"]; got != want {
				t.Errorf("after %s it is %q, want %q", sent, got, want)
			}
		}
		f(`["books"]`, "books")
		f(`"Music"`, "books;music")
		f(`["books","Sports"]`, "books;music;sports")
		r.yaml = strings.Replace(r.yaml, "append", "overwrite", 1)
		r.restart()
		f(`["music","books"]`, "music;books")
		f(`"sports; books"`, "sports;books")
	})
}

func TestComplaint11DatesThatAreNotMidnight(t *testing.T) {
	dates := []sandbox.Property{
		{Name: "renewal", Label: "Renewal", Type: "date", FieldType: "date"},
		{Name: "last_seen", Label: "Last seen", Type: "datetime", FieldType: "date"},
	}
	f := func(zone, sent, renewal string, seen time.Time) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Properties: dates}, "time_zone: "+zone+"\n")
			mustDeliver(t, r.run(identify(fmt.Sprintf(`{"email":"a@b.co","renewal":%s,"last_seen":%s}`, sent, sent))))
			p := r.properties("a@b.co")
			at, err := time.Parse(time.RFC3339, p["last_seen"])
			if err != nil {
				var ms int64
				if _, err := fmt.Sscan(p["last_seen"], &ms); err != nil {
					t.Errorf("%s: last_seen is %q", sent, p["last_seen"])
				}
				at = time.UnixMilli(ms)
			}
			if p["renewal"] != renewal || !at.Equal(seen) {
				t.Errorf("%s in %s: %v, want %s and %s", sent, zone, p, renewal, seen)
			}
		})
	}
	noon := time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)
	f("UTC", `"2026-03-14T12:00:00Z"`, "2026-03-14", noon)
	f("UTC", `1773489600`, "2026-03-14", noon)
	f("UTC", `1773489600000`, "2026-03-14", noon)
	f("UTC", `"1773489600000"`, "2026-03-14", noon)
	f("UTC", `"2026-03-14"`, "2026-03-14", noon.Add(-12*time.Hour))
	f("UTC", `"2026-03-14T23:30:00-05:00"`, "2026-03-15", noon.Add(16*time.Hour+30*time.Minute))
	f("America/New_York", `"2026-03-14T23:30:00-04:00"`, "2026-03-14", noon.Add(15*time.Hour+30*time.Minute))
	f("Asia/Tokyo", `"2026-03-14T18:00:00Z"`, "2026-03-15", noon.Add(6*time.Hour))
}

func TestComplaint12NamesThatNeverMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: []sandbox.Property{
			{Name: "plan_tier", Label: "Plan tier", Type: "string", FieldType: "text"},
			{Name: "favourite_colour", Label: "Colour", Type: "string", FieldType: "text"},
		}}, `properties: {map: {favourite_colour: "$.user.prefs?.colour"}}`+"\n")
		f := func(member, property string) {
			t.Helper()
			email := fmt.Sprintf("u%d@b.co", r.offset)
			mustDeliver(t, r.run(identify(fmt.Sprintf(`{"email":%q,%s}`, email, member))))
			if got := r.properties(email)[property]; got != "x" {
				t.Errorf("%s: %s is %q", member, property, got)
			}
		}
		f(`"FirstName":"x"`, "firstname")
		f(`"firstName":"x"`, "firstname")
		f(`"Plan Tier":"x"`, "plan_tier")
		f(`"plan.tier":"x"`, "plan_tier")
		f(`"planTier":"x"`, "plan_tier")
		f(`"PLAN-TIER":"x"`, "plan_tier")
		f(`"prefs":{"colour":"x"}`, "favourite_colour")
	})
}

func TestComplaint13NumbersThatAreText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: []sandbox.Property{{Name: "seats", Label: "Seats", Type: "number", FieldType: "number"}}}, "")
		f := func(sent, seats, zip string) {
			t.Helper()
			email := fmt.Sprintf("u%d@b.co", r.offset)
			mustDeliver(t, r.run(identify(fmt.Sprintf(`{"email":%q,"seats":%s,"zip":%s,"phone":%s}`, email, sent, sent, sent))))
			p := r.properties(email)
			if p["seats"] != seats || p["zip"] != zip || p["phone"] != zip {
				t.Errorf("%s: %v, want %q and %q", sent, p, seats, zip)
			}
		}
		f(`"45"`, "45", "45")
		f(`45`, "45", "45")
		f(`"01234"`, "01234", "01234")
		f(`"+49 30 123"`, "", "+49 30 123")
		f(`"0x10"`, "", "0x10")
		f(`""`, "", "")
		f(`null`, "", "")
		f(`12345678901234567890`, "12345678901234567890", "12345678901234567890")
		f(`0`, "0", "0")
	})
}

func TestComplaint14AChangeOfEmail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: []sandbox.Property{
			{Name: "external_id", Label: "Id", Type: "string", FieldType: "text", HasUniqueValue: true},
		}}, "id_property: external_id\n")
		mustDeliver(t, r.run(
			identify(`{"external_id":"u1","email":"old@b.co","firstname":"Ada"}`),
			identify(`{"external_id":"u2","email":"taken@b.co","firstname":"Bob"}`),
		))
		mustDeliver(t, r.run(identify(`{"external_id":"u1","email":"new@b.co","lastname":"Byron"}`)))
		got := r.run(identify(`{"external_id":"u1","email":"taken@b.co","city":"London"}`))
		mustDeliver(t, got)
		if n := r.box.ContactCount(); n != 2 {
			t.Errorf("%d contacts of two people", n)
		}
		want := map[string]string{"external_id": "u1", "firstname": "Ada", "lastname": "Byron", "city": "London"}
		if diff := cmp.Diff(want, r.properties("new@b.co")); diff != "" {
			t.Error(diff)
		}
		if reason := detail(t, got[0].outcome).Stripped["email"]; reason == "" {
			t.Error("nobody says that the address was left out")
		}
		// A second address of one contact, as HubSpot has after a merge.
		if err := r.box.AddEmail("new@b.co", "second@b.co"); err != nil {
			t.Fatal(err)
		}
		r.yaml = strings.Replace(r.yaml, "external_id", "email", 1)
		r.restart()
		mustDeliver(t, r.run(identify(`{"email":"new@b.co","phone":"1"}`), identify(`{"email":"second@b.co","fax":"2"}`)))
		if n := r.box.ContactCount(); n != 2 {
			t.Errorf("%d contacts of two people, after a second address", n)
		}
		if p := r.properties("new@b.co"); p["phone"] != "1" || p["fax"] != "2" {
			t.Errorf("properties %v", p)
		}
	})
}

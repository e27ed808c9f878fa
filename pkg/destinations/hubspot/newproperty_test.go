package hubspot

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

const createUnknown = "properties: {unknown: create}\n"

func TestInferType(t *testing.T) {
	f := func(values, want string) {
		t.Helper()
		got := inferType(gjson.Parse(values).Array())
		if got.typeName+"/"+got.field != want {
			t.Errorf("%s: %v, want %s", values, got, want)
		}
	}
	f(`[]`, "string/text")
	f(`["", null]`, "string/text")
	f(`[true, false, null]`, "bool/booleancheckbox")
	f(`[true, "yes"]`, "string/text")
	f(`[1, 2.5, -3e2]`, "number/number")
	f(`[1, "2"]`, "string/text")
	f(`["45"]`, "string/text") // a house number, a zip
	f(`[12345678901234567890]`, "string/text")
	f(`[1e300]`, "string/text")
	f(`["2026-11-21"]`, "date/date")
	f(`["2026-11-21T10:00:00Z", "2026-11-21T10:00:00.123+02:00", "2026-11-21T10:00:00"]`, "datetime/date")
	f(`["2026-11-21", "2026-11-21T10:00:00Z"]`, "datetime/date")
	f(`["2026-11-21", "soon"]`, "string/text")
	f(`["2026-13-21"]`, "string/text")
	f(`["0001-01-01"]`, "string/text")
	f(`["2026"]`, "string/text")
	f(`[["a", "b"]]`, "string/textarea")
	f(`[{"a": 1}]`, "string/textarea")
	f(`["short", ["a"]]`, "string/textarea")
	f(`["two\nlines"]`, "string/textarea")
	f(`["`+strings.Repeat("ä", 255)+`"]`, "string/text")
	f(`["`+strings.Repeat("ä", 256)+`", "short"]`, "string/textarea")
}

func TestHumanLabel(t *testing.T) {
	f := func(s, name, want string) {
		t.Helper()
		if got := humanLabel(s, name); got != want {
			t.Errorf("humanLabel(%q, %q) = %q, want %q", s, name, got, want)
		}
	}
	f("Job Title!", "job_title_", "Job Title!")
	f("plan_tier", "plan_tier", "Plan tier")
	f("newProp1", "newprop1", "NewProp1")
	f("", "x_", "X")
	f("Größe", "gr_e", "Größe")
	f("x\x00y", "x_y", "X y")
	f(strings.Repeat("y", 300), "y", "Y"+strings.Repeat("y", 99))
}

// provideNeeds makes what the batch would need; each pair is a name and its values as a JSON list.
func (r *rig) provideNeeds(pairs ...string) *schema {
	r.t.Helper()
	ps := &permits{d: r.dest}
	defer ps.release()
	s := &contactSend{d: r.dest, permits: ps}
	var err error
	if s.schema, err = r.dest.contactSchema(context.Background(), ps); err != nil {
		r.t.Fatal(err)
	}
	var needs []need
	for i := 0; i < len(pairs); i += 2 {
		needs = append(needs, need{pairs[i], pairs[i], gjson.Parse(pairs[i+1]).Array()})
	}
	if _, err := s.provide(context.Background(), needs, nil); err != nil {
		r.t.Fatal(err)
	}
	return s.schema
}

// made lists the account's own properties with their types.
func (r *rig) made() string {
	var all []string
	for _, p := range r.box.Properties() {
		if !p.HubSpotDefined && !p.Archived {
			all = append(all, p.Name+":"+p.Type)
		}
	}
	return strings.Join(all, " ")
}

func (r *rig) wantMade(want string) {
	r.t.Helper()
	if got := r.made(); got != want {
		r.t.Errorf("the account has the properties %q, want %q", got, want)
	}
}

func TestNewProperties(t *testing.T) {
	yaml := "properties: {unknown: create, write: {interests: append}, group: contact_activity}\n"
	inBubble(t, sandbox.Options{}, yaml, func(t *testing.T, r *rig) {
		s := r.provideNeeds("plan_tier", `["pro"]`, "seats", `[5]`, "trial", `[true]`, "since", `["2026-01-02"]`, "hs_own", `[1]`, "2fa", `[1]`,
			"interests", `[["Art", "art"], "Music;Art;"]`)
		r.wantMade("interests:enumeration plan_tier:string seats:number since:date trial:bool")
		if s.find("seats").kind != kindNumber || s.find("trial").kind != kindBool || !s.find("interests").multi {
			t.Error("the schema has other types")
		}
		for _, p := range r.box.Properties() {
			switch {
			case p.Name == "plan_tier" && (p.Label != "Plan tier" || p.GroupName != "contact_activity"):
				t.Errorf("%+v", p)
			case p.Name == "interests" && (len(p.Options) != 2 || p.Options[0].Value != "Art" || p.Options[1].Value != "Music"):
				t.Errorf("%+v", p.Options)
			}
		}
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","plan_tier":"pro","seats":5,"trial":true,"since":"2026-01-02"}`)))
		r.want("a@x.co", map[string]string{"plan_tier": "pro", "seats": "5", "trial": "true", "since": "2026-01-02"})
		before := r.calls("", 0)
		r.provideNeeds("seats", `[7]`, "hs_own", `[1]`)
		if r.calls("", 0) != before {
			t.Error("calls for what is there")
		}
	})
}

// A name that was archived comes back with its old type, and values are written by that.
func TestArchivedPropertyComesBack(t *testing.T) {
	o := sandbox.Options{Properties: []sandbox.Property{{Name: "seats", Label: "Seats", Type: "string", FieldType: "text", GroupName: "contactinformation"}}}
	inBubble(t, o, createUnknown, func(t *testing.T, r *rig) {
		r.http("DELETE", "/crm/v3/properties/contacts/seats", "")
		if s := r.provideNeeds("seats", `[5]`); s.find("seats") == nil || s.find("seats").kind != kindString {
			t.Errorf("the schema has %+v", s.find("seats"))
		}
		r.wantMade("seats:string")
	})
}

// Writers that know nothing of each other make one property each in turn, through reads that lag: each is made once, and all know all.
func TestPropertyWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Lag: 700 * time.Millisecond}, createUnknown)
		r.box.Inject(sandbox.Fault{Endpoint: "properties", Delay: 50 * time.Millisecond})
		var wg sync.WaitGroup
		for range 6 {
			writer := r.another()
			wg.Go(func() {
				s := writer.provideNeeds("a", `[1]`, "b", `["x"]`)
				if s.find("a") == nil || s.find("a").kind != kindNumber || s.find("b") == nil {
					t.Error("one does not know what was made")
				}
				mustDeliver(t, writer.run(identify(`{"email":"x@x.co","a":5,"b":"y"}`)))
			})
		}
		wg.Wait()
		r.wantMade("a:number b:string")
		if n := r.calls("properties/create", 201); n != 2 {
			t.Errorf("%d created", n)
		}
	})
}

func TestNewPropertiesAreBounded(t *testing.T) {
	inBubble(t, sandbox.Options{}, "properties: {unknown: create, new_per_account: 3}\n", func(t *testing.T, r *rig) {
		r.provideNeeds("a", `[1]`, "b", `[1]`)
		r.restart()
		r.provideNeeds("c", `[1]`, "d", `[1]`, "e", `[1]`)
		r.provideNeeds("f", `[1]`)
		r.wantMade("a:number b:number c:number")
		if n := r.logs.Count("new_per_account: 100"); n != 1 {
			t.Errorf("%d lines say what to add: %s", n, r.logs)
		}
	})
}

// What HubSpot refuses is not asked for again by every batch, and the rest is made.
func TestRefusedProperties(t *testing.T) {
	inBubble(t, sandbox.Options{}, createUnknown, func(t *testing.T, r *rig) {
		clear := r.box.Inject(sandbox.Fault{
			Endpoint: "properties/create", Status: 400, Body: `{"category":"VALIDATION_ERROR","message":"no"}`,
			Match: func(b []byte) bool { return strings.Contains(string(b), `"name":"bad`) },
		})
		attempts := func() int { return r.calls("properties/create", 400) }
		for range 5 {
			r.provideNeeds("bad", `[1]`, "good", `[1]`)
		}
		r.wantMade("good:number")
		if attempts() != 1 {
			t.Errorf("%d attempts", attempts())
		}
		time.Sleep(refusedWait + time.Second)
		r.provideNeeds("bad", `[1]`)
		time.Sleep(refusedWait + time.Second)
		r.provideNeeds("bad", `[1]`)
		if attempts() != 2 {
			t.Errorf("%d attempts, the second wait must be longer", attempts())
		}
		// One refusal after the other stops all for a while.
		for i := range 20 {
			r.provideNeeds(fmt.Sprintf("bad%d", i), `[1]`)
		}
		if attempts() > 2+maxStrikes {
			t.Errorf("%d attempts", attempts())
		}
		clear()
		time.Sleep(time.Hour)
		r.provideNeeds("bad", `[1]`, "bad1", `[1]`)
		r.wantMade("bad:number bad1:number good:number")
	})
}

// Without the scope the properties are left out, which is said once, and tried again every ten minutes.
func TestNewPropertiesWithoutScope(t *testing.T) {
	inBubble(t, sandbox.Options{}, createUnknown, func(t *testing.T, r *rig) {
		clear := r.box.Inject(sandbox.Fault{
			Endpoint: "properties/create", Status: 403, Body: `{"category":"MISSING_SCOPES","context":{"requiredGranularScopes":["crm.schemas.contacts.write"]}}`,
		})
		for range 4 {
			r.provideNeeds("a", `[1]`, "b", `[1]`)
			time.Sleep(4 * time.Minute)
		}
		if n := r.calls("properties/create", 403); n != 2 {
			t.Errorf("%d attempts in 12 minutes", n)
		}
		if n := r.logs.Count("crm.schemas.contacts.write; until it has it"); n != 1 {
			t.Errorf("said %d times: %s", n, r.logs)
		}
		clear()
		time.Sleep(forbiddenAgain)
		r.provideNeeds("a", `[1]`)
		r.wantMade("a:number")
	})
}

// A call over which HubSpot breaks down again and again keeps the batch from being sent a few times, not for ever.
func TestNewPropertyThatBreaksHubSpot(t *testing.T) {
	inBubble(t, sandbox.Options{}, createUnknown, func(t *testing.T, r *rig) {
		r.box.Inject(sandbox.Fault{Endpoint: "properties/create", Status: 500})
		ps := &permits{d: r.dest}
		s := &contactSend{d: r.dest, permits: ps}
		s.schema, _ = r.dest.contactSchema(context.Background(), ps)
		failures := 0
		for range 20 {
			if _, err := s.provide(context.Background(), []need{{"a", "a", nil}}, nil); err != nil {
				failures++
			}
		}
		ps.release()
		if failures != maxFailures-1 || r.calls("properties/create", 500) != maxFailures {
			t.Errorf("%d failures, %d calls", failures, r.calls("properties/create", 500))
		}
	})
}

// A new property that parts of HubSpot do not know for a while is written all the same; one that stays unknown is left out in the end.
func TestNewPropertyLags(t *testing.T) {
	unknown := `{"category":"VALIDATION_ERROR","message":"x","errors":[{"code":"PROPERTY_DOESNT_EXIST","context":{"propertyName":["a"]}}]}`
	f := func(times int, min, max time.Duration, want map[string]string) {
		t.Helper()
		inBubble(t, sandbox.Options{Lag: 500 * time.Millisecond}, createUnknown, func(t *testing.T, r *rig) {
			r.provideNeeds("a", `["x"]`)
			r.box.Inject(sandbox.Fault{
				Endpoint: "contacts/batch/upsert", Times: times, Status: 400, Body: unknown,
				Match: func(b []byte) bool { return strings.Contains(string(b), `"a":`) },
			})
			began := time.Now()
			mustDeliver(t, r.run(identify(`{"email":"a@x.co","a":"x","city":"Rome"}`)))
			if took := time.Since(began); took < min || took > max {
				t.Errorf("after %d refusals it took %v", times, took)
			}
			r.want("a@x.co", want)
		})
	}
	both := map[string]string{"a": "x", "city": "Rome"}
	f(1, lagStep, 2*lagStep, both)
	f(4, 4*lagStep, 5*lagStep, both)
	f(5, lagRetry, lagRetry+3*lagInSend, both)
	f(0, lagMost-lagRetry, lagMost+30*time.Second, map[string]string{"city": "Rome"})
}

// A list of properties that lags does not take away what was just made.
func TestNewPropertyOutlivesARefresh(t *testing.T) {
	inBubble(t, sandbox.Options{Lag: 90 * time.Second, Properties: []sandbox.Property{planProperty}}, "properties: {unknown: create, options: create}\n",
		func(t *testing.T, r *rig) {
			r.provideNeeds("a", `["x"]`)
			for range 4 {
				r.dest.refreshSchema(context.Background(), &permits{d: r.dest}, 0)
				if r.dest.account.schema.get().find("a") == nil {
					t.Fatal("forgotten")
				}
				time.Sleep(20 * time.Second)
			}
			r.http("DELETE", "/crm/v3/properties/contacts/a", "")
			time.Sleep(2 * lagMost)
			r.dest.refreshSchema(context.Background(), &permits{d: r.dest}, 0)
			if r.dest.account.schema.get().find("a") != nil {
				t.Error("a property that was archived is still there")
			}
		})
}

// From the event to the contact: the type comes from all values of the batch, and nothing is lost to lag.
func TestUnknownPropertiesOfEventsAreMade(t *testing.T) {
	inBubble(t, sandbox.Options{Lag: 700 * time.Millisecond}, "properties: {unknown: create, options: create, write: {interests: append}}\n", func(t *testing.T, r *rig) {
		results := r.run(
			identify(`{"email":"a@x.co","Plan Tier":"pro","seats":5,"interests":["art"],"hs_x":"1","firstname":"Ada","since":"2026-01-02"}`),
			identify(`{"email":"b@x.co","plan-tier":"free","seats":"many","interests":["music","Art"]}`),
			identify(`{"email":"b@x.co","interests":["sport"]}`),
		)
		mustDeliver(t, results)
		r.wantMade("interests:enumeration plan_tier:string seats:string since:date")
		r.want("a@x.co", map[string]string{"plan_tier": "pro", "seats": "5", "interests": "art", "firstname": "Ada", "since": "2026-01-02"})
		r.want("b@x.co", map[string]string{"plan_tier": "free", "seats": "many", "interests": "music;art;sport"})
		if n := r.calls("contacts/batch/upsert", 207); n != 0 {
			t.Errorf("%d calls came too early", n)
		}
		if got := detail(t, results[0].outcome).Stripped; got["hs_x"] != "unknown" || len(got) != 1 {
			t.Errorf("stripped %v", got)
		}
		mustDeliver(t, r.run(identify(`{"email":"b@x.co","interests":"dance"}`)))
		r.want("b@x.co", map[string]string{"plan_tier": "free", "seats": "many", "interests": "music;art;sport;dance"})
	})
}

// The calls of one process that need the same property make it once.
func TestNewPropertyIsMadeOnce(t *testing.T) {
	inBubble(t, sandbox.Options{Lag: 700 * time.Millisecond}, createUnknown, func(t *testing.T, r *rig) {
		mustDeliver(t, r.run(identify(`{"email":"first@x.co"}`)))
		r.box.Inject(sandbox.Fault{Endpoint: "*", Delay: 100 * time.Millisecond})
		var wg sync.WaitGroup
		for i := range 4 {
			contacts, _ := r.entries(identify(fmt.Sprintf(`{"email":"c%d@x.co","seats":%d}`, i, i)))
			wg.Go(func() {
				for _, o := range r.send(contacts) {
					if o.Err != nil {
						t.Error(o.Err)
					}
				}
			})
		}
		wg.Wait()
		for i := range 4 {
			r.want(fmt.Sprintf("c%d@x.co", i), map[string]string{"seats": fmt.Sprint(i)})
		}
		if n := r.calls("properties/create", 0); n != 1 {
			t.Errorf("%d calls to make it", n)
		}
	})
}

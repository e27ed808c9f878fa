package sandbox

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
)

func TestUpsertCreatesThenUpdates(t *testing.T) {
	c := newClient(t, Options{})
	first := c.must(200, "POST", upsertPath, upsert(" Jon@Website.COM", "firstname", "Jon", "city", "Bonn")).Get("results.0")
	if !first.Get("new").Bool() || first.Get("properties.email").Str != "jon@website.com" {
		t.Errorf("first upsert: %s", first.Raw)
	}
	second := c.must(200, "POST", upsertPath, upsert("JON@website.com", "city", "Berlin")).Get("results.0")
	if second.Get("new").Bool() || second.Get("id").Str != first.Get("id").Str {
		t.Errorf("second upsert: %s", second.Raw)
	}
	if p := second.Get("properties"); p.Get("city").Str != "Berlin" || p.Get("email").Str != "jon@website.com" || p.Get("firstname").Exists() {
		t.Errorf("an update answers what it wrote: %s", p.Raw)
	}
	got, _ := c.Contact("jon@website.com")
	want := map[string]string{"email": "jon@website.com", "firstname": "Jon", "city": "Berlin"} // what is not named stays
	if diff := cmp.Diff(want, got.Properties); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
	if h := got.History["city"]; len(h) != 2 || h[0].Value != "Bonn" || h[1].Value != "Berlin" {
		t.Errorf("history of city: %v", h)
	}
}

// TestVersions checks that each form of a path reaches the same account.
func TestVersions(t *testing.T) {
	c := newClient(t, Options{})
	for i, base := range []string{
		"/crm/v3/objects/contacts", "/crm/objects/2026-03/contacts", "/crm/objects/2026-09/contacts", "/crm/2026-09/objects/contacts",
		"/crm/v3/objects/CONTACT", "/crm/objects/2026-03/0-1",
	} {
		answer := c.must(200, "POST", base+"/batch/upsert", upsert("a@b.co"))
		if got := answer.Get("results.0.new").Bool(); got != (i == 0) {
			t.Errorf("%s: new is %t", base, got)
		}
	}
	for _, path := range []string{
		"/crm/v3/properties/contacts/email", "/crm/properties/2026-03/contacts/email", "/crm/properties/2026-09/0-1/email",
		"/account-info/v3/details", "/account-info/2026-03/details", "/events/v3/event-definitions",
		"/events/2026-03/event-definitions", "/events/custom/2026-09/event-definitions",
	} {
		c.must(200, "GET", path, "")
	}
	for _, path := range []string{"/", "/crm/v4/objects/contacts/1", "/crm/v3/objects/deals/1", "/crm/v3", "/events/v3/nothing"} {
		c.must(404, "GET", path, "")
	}
	c.must(405, "PUT", contactsPath+"/1", "{}")
}

// TestBatchRefusals has the mistakes that fail a whole batch whether or not inputs carry trace ids; nothing is written.
func TestBatchRefusals(t *testing.T) {
	f := func(body, message string, ids ...string) {
		t.Helper()
		c := newClient(t, Options{})
		answer := c.must(400, "POST", upsertPath, body)
		if got := answer.Get("message").Str; !strings.Contains(got, message) || answer.Get("category").Str != "VALIDATION_ERROR" {
			t.Errorf("%.100s: got %s, want %q", body, answer.Raw, message)
		}
		if got := all(answer, "context.ids"); got != strings.Join(ids, " ") {
			t.Errorf("%.100s: context.ids %q, want %q", body, got, ids)
		}
		if n := c.ContactCount(); n != 0 {
			t.Errorf("%.100s: %d contacts written", body, n)
		}
	}
	good := inputOf("t-1", "a@b.co")
	f(batch(good, inputOf("t-2", "A@B.co ")), "Duplicate IDs found in batch input: [a@b.co]. IDs must be unique", "a@b.co")
	f(batch(good, good, inputOf("t-3", "c@d.co"), inputOf("t-4", "c@d.co")), "[a@b.co, c@d.co]", "a@b.co", "c@d.co")
	f(batch(good, `{"idProperty":"email","properties":{}}`), "required fields were not set")
	f(batch(good, `{"idProperty":"email","id":"x@y.co"}`), "required fields were not set")
	f(batch(good, `{"id":"5","properties":{}}`), "non-unique 0-1 property  in portal")
	f(batch(good, `{"idProperty":"city","id":"x","objectWriteTraceId":"t-2","properties":{}}`), "non-unique 0-1 property city in portal ID 20546336")
	f(batch(good, `{"idProperty":"email","id":"c@d.co","objectWriteTraceId":"t-2","properties":{"city":{"a":1}}}`), "Cannot deserialize")
	f(batch(good, `{"idProperty":"email","id":"c@d.co","objectWriteTraceId":"t-2","properties":{"city":["a"]}}`), "Cannot deserialize")
	f(batch(good, `7`), "must be objects")
	f(`{"inputs":{}}`, "must be a list")
	f(`[]`, "expected an object")
	f(`{"inputs":[`, "Invalid input JSON")
	f(strings.Repeat(`{"a":`, 100)+"1"+strings.Repeat("}", 100), "Invalid input JSON")
	f(upsertBody(101, 0), "limit of 100")
}

func TestHundredInputsPass(t *testing.T) {
	c := newClient(t, Options{})
	answer := c.must(200, "POST", upsertPath, upsertBody(100, 0))
	if n := len(answer.Get("results").Array()); n != 100 || c.ContactCount() != 100 {
		t.Errorf("%d results, %d contacts", n, c.ContactCount())
	}
}

// TestSilentNoOp: a body without inputs is answered as complete.
func TestSilentNoOp(t *testing.T) {
	c := newClient(t, Options{})
	for _, body := range []string{`{}`, `{"id":"a@b.co","properties":{"email":"a@b.co"}}`, `{"inputs":[]}`} {
		answer := c.must(200, "POST", upsertPath, body)
		if answer.Get("status").Str != "COMPLETE" || len(answer.Get("results").Array()) != 0 || answer.Get("errors").Exists() {
			t.Errorf("%s: %s", body, answer.Raw)
		}
	}
}

// TestPartialSuccess: only when each input has a trace id of its own are the valid ones written.
func TestPartialSuccess(t *testing.T) {
	inputs := func(t1, t2, t3 string) string {
		return batch(inputOf(t1, "good@b.co"), inputOf(t2, "bad@b.co", "nosuch", "x", "city", "Bonn"), inputOf(t3, "000"))
	}
	c := newClient(t, Options{})
	answer := c.must(207, "POST", upsertPath, inputs("t-1", "t-2", "t-3"))
	if all(answer, "results.#.objectWriteTraceId") != "t-1" || answer.Get("numErrors").Int() != 2 || answer.Get("status").Str != "COMPLETE" {
		t.Errorf("207: %s", answer.Raw)
	}
	if got := all(answer, "errors.#.context.objectWriteTraceId.0"); got != "t-2 t-3" {
		t.Errorf("failed trace ids %q", got)
	}
	if got := answer.Get("errors.0.message").Str; !strings.Contains(got, `"error":"PROPERTY_DOESNT_EXIST","name":"nosuch"`) {
		t.Errorf("message of the first failure: %s", got)
	}
	if got := answer.Get("errors.1.message").Str; !strings.Contains(got, "Email address 000 is invalid") {
		t.Errorf("message of the second failure: %s", got)
	}
	if n := c.ContactCount(); n != 1 {
		t.Errorf("%d contacts, want the valid one", n)
	}

	for _, untraced := range []string{inputs("", "", ""), inputs("t-1", "", "t-3"), inputs("t-1", "t-1", "t-3")} {
		c := newClient(t, Options{})
		answer := c.must(400, "POST", upsertPath, untraced)
		if got := all(answer, "errors.#.code"); got != "PROPERTY_DOESNT_EXIST INVALID_EMAIL" || c.ContactCount() != 0 {
			t.Errorf("%s: codes %q, %d contacts", untraced, got, c.ContactCount())
		}
	}
}

// TestResultOrder: results never begin with the first input, in the same order in each run, and match by trace id.
func TestResultOrder(t *testing.T) {
	order := func() string {
		c := newClient(t, Options{})
		var lists []string
		for range 3 {
			answer := c.must(200, "POST", upsertPath, upsertBody(7, 0))
			for _, r := range answer.Get("results").Array() {
				if r.Get("properties.email").Str != "user"+strings.TrimPrefix(r.Get("objectWriteTraceId").Str, "t-")+"@example.com" {
					t.Errorf("trace id does not match: %s", r.Raw)
				}
			}
			lists = append(lists, all(answer, "results.#.objectWriteTraceId"))
		}
		return strings.Join(lists, "\n")
	}
	first := order()
	if strings.HasPrefix(first, "t-0") || strings.Contains(first, "\nt-0") {
		t.Errorf("the first result is that of the first input:\n%s", first)
	}
	if second := order(); first != second {
		t.Errorf("order differs between runs:\n%s\n%s", first, second)
	}
}

func TestUpsertByUniqueProperty(t *testing.T) {
	c := newClient(t, Options{Properties: []Property{{Name: "user_id", Label: "User id", Type: "string", FieldType: "text", HasUniqueValue: true}}})
	in := func(id string, pairs ...string) string {
		return batch(`{"idProperty":"user_id","id":"` + id + `","objectWriteTraceId":"t","properties":` + object(pairs...) + `}`)
	}
	created := c.must(200, "POST", upsertPath, in("u1", "email", "a@b.co")).Get("results.0")
	updated := c.must(200, "POST", upsertPath, in("u1", "city", "Bonn")).Get("results.0")
	if !created.Get("new").Bool() || updated.Get("new").Bool() || created.Get("id").Str != updated.Get("id").Str {
		t.Errorf("created %s, updated %s", created.Raw, updated.Raw)
	}
	if ct, _ := c.Contact("a@b.co"); ct.Properties["user_id"] != "u1" || ct.Properties["city"] != "Bonn" {
		t.Errorf("contact: %v", ct.Properties)
	}
	taken := c.must(207, "POST", upsertPath, in("u2", "email", "a@b.co")).Get("errors.0")
	if taken.Get("category").Str != "CONFLICT" || taken.Get("context.existingId.0").Str != created.Get("id").Str {
		t.Errorf("an address in use: %s", taken.Raw)
	}
	unique := c.must(207, "POST", upsertPath, batch(inputOf("t", "c@d.co", "user_id", "u1"))).Get("errors.0.message").Str
	if !strings.Contains(unique, "CONFLICTING_UNIQUE_VALUE") {
		t.Errorf("a unique value in use: %s", unique)
	}
	c.must(200, "POST", upsertPath, in("u1", "user_id", "u9"))
	if got := c.must(200, "POST", upsertPath, in("u9", "city", "Ulm")).Get("results.0.new"); got.Bool() {
		t.Error("the new value does not find the contact")
	}
	if got := c.must(200, "POST", upsertPath, in("u1", "city", "Ulm")).Get("results.0.new"); !got.Bool() {
		t.Error("the old value still finds the contact")
	}
}

// TestInputsOfOneNewContact: a later input finds what an earlier one made, by another property.
func TestInputsOfOneNewContact(t *testing.T) {
	c := newClient(t, Options{Properties: []Property{{Name: "user_id", Label: "User id", Type: "string", FieldType: "text", HasUniqueValue: true}}})
	c.must(200, "POST", upsertPath, batch(
		`{"idProperty":"user_id","id":"u1","objectWriteTraceId":"t-1","properties":{"email":"a@b.co"}}`, inputOf("t-2", "a@b.co", "city", "Bonn"),
	))
	if ct, _ := c.Contact("a@b.co"); c.ContactCount() != 1 || ct.Properties["user_id"] != "u1" || ct.Properties["city"] != "Bonn" {
		t.Errorf("%d contacts, %v", c.ContactCount(), ct.Properties)
	}
}

// TestUpsertKeepsItsAddress: an empty address among the properties does not clear the one that identifies the record.
func TestUpsertKeepsItsAddress(t *testing.T) {
	c := newClient(t, Options{})
	for range 2 {
		c.must(200, "POST", upsertPath, batch(`{"idProperty":"email","id":"a@b.co","properties":{"email":"","city":"Bonn"}}`))
	}
	if ct, _ := c.Contact("a@b.co"); ct.Properties["email"] != "a@b.co" || c.ContactCount() != 1 {
		t.Errorf("%d contacts, %v", c.ContactCount(), ct.Properties)
	}
}

// TestTimes: milliseconds, left out when they are zero.
func TestTimes(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.FixedZone("", 3600))
	c := newClient(t, Options{Now: func() time.Time { return now }})
	f := func(want string) {
		t.Helper()
		if got := c.must(200, "POST", upsertPath, upsert("a@b.co")).Get("results.0.updatedAt").Str; got != want {
			t.Errorf("%v is %s, want %s", now, got, want)
		}
	}
	f("2026-11-21T08:00:00Z")
	now = now.Add(120*time.Millisecond + time.Microsecond)
	f("2026-11-21T08:00:00.120Z")
}

// TestShuffle: a permutation that never begins with the first.
func TestShuffle(t *testing.T) {
	st := newState(&Options{Now: time.Now}, nil)
	for n := range 20 {
		for st.seq = range 50 {
			order := st.shuffle(n)
			if n > 1 && order[0] == 0 {
				t.Fatalf("%d inputs, call %d: %v", n, st.seq, order)
			}
			slices.Sort(order)
			if len(order) != n || n > 0 && (order[0] != 0 || order[n-1] != n-1 || len(slices.Compact(order)) != n) {
				t.Fatalf("%d inputs, call %d: no permutation", n, st.seq)
			}
		}
	}
}

// TestSecondaryEmail: an additional address finds the same contact, whose primary one stays.
func TestSecondaryEmail(t *testing.T) {
	c := newClient(t, Options{})
	c.must(200, "POST", upsertPath, upsert("main@b.co"))
	if err := c.AddEmail("main@b.co", "Other@B.co"); err != nil {
		t.Fatal(err)
	}
	// Two inputs, two ids, one contact: not a duplicate.
	answer := c.must(200, "POST", upsertPath, batch(inputOf("t-1", "other@b.co", "city", "Bonn"), inputOf("t-2", "main@b.co", "zip", "53111")))
	if ids := answer.Get("results.#.id").Array(); len(ids) != 2 || ids[0].Str != ids[1].Str || c.ContactCount() != 1 {
		t.Errorf("answer %s, %d contacts", answer.Raw, c.ContactCount())
	}
	ct, _ := c.Contact("other@b.co")
	if ct.Properties["email"] != "main@b.co" || ct.Properties["city"] != "Bonn" || ct.Properties["zip"] != "53111" {
		t.Errorf("contact: %v", ct.Properties)
	}
	if err := c.AddEmail("nobody@b.co", "x@b.co"); err == nil {
		t.Error("AddEmail to nobody passed")
	}
	if err := c.AddEmail("main@b.co", "main@b.co"); err == nil {
		t.Error("AddEmail of an address in use passed")
	}
}

func TestBatchCreateConflicts(t *testing.T) {
	c := newClient(t, Options{})
	create := contactsPath + "/batch/create"
	one := func(trace, email string) string {
		return `{"objectWriteTraceId":"` + trace + `","properties":` + object("email", email) + `}`
	}
	if answer := c.must(201, "POST", create, batch(one("", "a@b.co"))); answer.Get("results.0.new").Exists() {
		t.Errorf("create answers new: %s", answer.Raw)
	}
	whole := c.must(409, "POST", create, batch(one("", "a@b.co"), one("", "c@d.co")))
	if whole.Get("message").Str != "Contact already exists" || c.ContactCount() != 1 {
		t.Errorf("untraced: %s, %d contacts", whole.Raw, c.ContactCount())
	}
	part := c.must(207, "POST", create, batch(one("1", "a@b.co"), one("2", "e@f.co"), one("3", "e@f.co")))
	if got := all(part, "errors.#.context.objectWriteTraceId.0"); got != "1 3" || c.ContactCount() != 2 {
		t.Errorf("traced: %s, %d contacts", part.Raw, c.ContactCount())
	}
	c.must(400, "POST", create, batch(`{"properties":{"city":"Bonn"}}`))
}

func TestBatchUpdate(t *testing.T) {
	c := newClient(t, Options{})
	id := c.must(200, "POST", upsertPath, upsert("a@b.co")).Get("results.0.id").Str
	in := func(id string) string { return `{"id":"` + id + `","properties":{"city":"Bonn"}}` }
	// An address instead of an id changes nothing and is no error for who looks at the status class alone.
	answer := c.must(207, "POST", contactsPath+"/batch/update", batch(in(id), in("a@b.co"), in("999")))
	if got := all(answer, "errors.0.context.ids"); got != "a@b.co 999" || len(answer.Get("results").Array()) != 1 {
		t.Errorf("unknown ids: %s", answer.Raw)
	}
	byEmail := batch(`{"idProperty":"email","id":"a@b.co","properties":{"city":"Ulm"}}`)
	c.must(400, "POST", contactsPath+"/batch/update", byEmail)
	c.must(200, "POST", "/crm/objects/2026-03/contacts/batch/update", byEmail)
	if ct, _ := c.Contact("a@b.co"); ct.Properties["city"] != "Ulm" {
		t.Errorf("contact: %v", ct.Properties)
	}
	c.must(400, "POST", contactsPath+"/batch/update", batch(in(id), in(id)))
}

func TestBatchRead(t *testing.T) {
	c := newClient(t, Options{})
	c.must(200, "POST", upsertPath, upsert("a@b.co", "city", "Bonn"))
	answer := c.must(207, "POST", contactsPath+"/batch/read",
		`{"idProperty":"email","inputs":[{"id":"A@b.co"},{"id":"no@b.co"}],"properties":["city","zip","nosuch"]}`)
	got := answer.Get("results.0.properties")
	if got.Get("city").Str != "Bonn" || got.Get("zip").Type != gjson.Null || !got.Get("zip").Exists() || got.Get("nosuch").Exists() {
		t.Errorf("properties: %s", got.Raw)
	}
	if answer.Get("errors.0.category").Str != "OBJECT_NOT_FOUND" || answer.Get("errors.0.context.ids.0").Str != "no@b.co" {
		t.Errorf("errors: %s", answer.Get("errors").Raw)
	}
	c.must(200, "POST", contactsPath+"/batch/read", `{"inputs":[{"id":"101"}]}`)
	c.must(400, "POST", contactsPath+"/batch/read", `{"idProperty":"city","inputs":[{"id":"Bonn"}]}`)
}

func TestSingleContact(t *testing.T) {
	c := newClient(t, Options{})
	id := c.must(201, "POST", contactsPath, `{"associations":[],"properties":{"email":"jon+1@x.co","firstname":"Jon"}}`).Get("id").Str
	again := c.must(409, "POST", contactsPath, `{"properties":{"email":"JON+1@x.co"}}`)
	if again.Get("message").Str != "Contact already exists. Existing ID: "+id || again.Get("category").Str != "CONFLICT" || again.Get("context").Exists() {
		t.Errorf("second create: %s", again.Raw)
	}
	c.must(200, "PATCH", contactsPath+"/jon%2B1%40x.co?idProperty=email", `{"properties":{"city":"Bonn"}}`)
	read := c.must(200, "GET", contactsPath+"/"+id+"?properties=city,firstname&properties=zip", "")
	if read.Get("properties.city").Str != "Bonn" || read.Get("properties.firstname").Str != "Jon" || !read.Get("properties.zip").Exists() {
		t.Errorf("read: %s", read.Raw)
	}
	if email := c.must(200, "GET", contactsPath+"/jon%2B1%40x.co?idProperty=email", "").Get("properties.email").Str; email != "jon+1@x.co" {
		t.Errorf("read by e-mail: %q", email)
	}
	c.must(404, "PATCH", contactsPath+"/nobody%40x.co?idProperty=email", `{"properties":{"city":"Bonn"}}`)
	c.must(404, "GET", contactsPath+"/999", "")
	c.must(400, "GET", contactsPath+"/Bonn?idProperty=city", "")
	c.must(400, "PATCH", contactsPath+"/"+id, `{"city":"Bonn"}`)
	invalid := c.must(400, "PATCH", contactsPath+"/"+id, `{"properties":{"nosuch":"x"}}`)
	if invalid.Get("errors.0.context.propertyName.0").Str != "nosuch" {
		t.Errorf("invalid: %s", invalid.Raw)
	}
	c.must(201, "POST", contactsPath, `{"properties":{"email":"other@x.co"}}`)
	c.must(409, "PATCH", contactsPath+"/"+id, `{"properties":{"email":"other@x.co"}}`)
	c.must(200, "PATCH", contactsPath+"/"+id, `{"properties":{"email":"new@x.co"}}`)
	if _, ok := c.Contact("jon+1@x.co"); ok {
		t.Error("the old address still finds the contact")
	}
}

func TestArchive(t *testing.T) {
	c := newClient(t, Options{})
	first := c.must(200, "POST", upsertPath, upsert("a@b.co")).Get("results.0.id").Str
	c.must(204, "DELETE", contactsPath+"/"+first, "")
	c.must(204, "DELETE", contactsPath+"/"+first, "")
	c.must(404, "GET", contactsPath+"/"+first, "")
	second := c.must(200, "POST", upsertPath, upsert("a@b.co")).Get("results.0")
	if !second.Get("new").Bool() || second.Get("id").Str == first {
		t.Errorf("the address of an archived contact: %s", second.Raw)
	}
	c.must(204, "POST", contactsPath+"/batch/archive", batch(`{"id":"`+second.Get("id").Str+`"}`))
	if _, ok := c.Contact("a@b.co"); ok {
		t.Error("archived contact is found")
	}
}

func TestSearch(t *testing.T) {
	c := newClient(t, Options{})
	c.must(200, "POST", upsertPath, upsertBody(30, 0))
	search := func(filters, more string) gjson.Result {
		t.Helper()
		c.Sandbox.st.quota = newQuota(c.Sandbox.st.opts) // its limit has its own test
		return c.must(200, "POST", contactsPath+"/search", `{"filterGroups":[`+filters+`],"properties":["email"]`+more+`}`)
	}
	eq := func(name, value string) string {
		return fmt.Sprintf(`{"filters":[{"propertyName":%q,"operator":"EQ","value":%q}]}`, name, value)
	}
	one := search(eq("email", "USER7@example.com"), "")
	if one.Get("total").Int() != 1 || one.Get("results.0.properties.email").Str != "user7@example.com" {
		t.Errorf("EQ: %s", one.Raw)
	}
	if n := search(eq("email", "user1@example.com")+","+eq("email", "user2@example.com"), "").Get("total").Int(); n != 2 {
		t.Errorf("two groups: %d", n)
	}
	in := search(`{"filters":[{"propertyName":"email","operator":"IN","values":["user1@example.com","user9@example.com","x@y.co"]}]}`, "")
	if in.Get("total").Int() != 2 {
		t.Errorf("IN: %s", in.Raw)
	}
	page := search(eq("city", "Berlin"), `,"limit":20,"after":"0"`)
	next := search(eq("city", "Berlin"), `,"limit":20,"after":"`+page.Get("paging.next.after").Str+`"`)
	if len(page.Get("results").Array()) != 20 || len(next.Get("results").Array()) != 10 || next.Get("paging").Exists() {
		t.Errorf("pages of %d and %d", len(page.Get("results").Array()), len(next.Get("results").Array()))
	}
	c.must(204, "DELETE", contactsPath+"/"+one.Get("results.0.id").Str, "")
	if n := search(eq("email", "user7@example.com"), "").Get("total").Int(); n != 0 {
		t.Errorf("an archived contact is found")
	}
	c.must(400, "POST", contactsPath+"/search", `{"limit":201}`)
	c.must(400, "POST", contactsPath+"/search", `{"filterGroups":[{"filters":[{"propertyName":"email","operator":"NEAR","value":"x"}]}]}`)
}

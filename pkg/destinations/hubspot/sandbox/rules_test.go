package sandbox

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const strictUpsert = "/crm/objects/2026-09/contacts/batch/upsert"

// TestRequired: rules of the account hold in 2026-09 alone; a new record needs what every record needs, a conditional rule holds for
// each write that touches it.
func TestRequired(t *testing.T) {
	c := newClient(t, Options{Required: []Requirement{{Property: "city"}, {Property: "zip", When: "state", Equals: "BE"}}})
	f := func(path string, wantStatus int, wantCode string, pairs ...string) {
		t.Helper()
		status, answer := c.call("POST", path, upsert("a@b.co", pairs...))
		if code := answer.Get("errors.0.code").Str; status != wantStatus || code != wantCode {
			t.Errorf("%s %v: %d %q, want %d %q", path, pairs, status, code, wantStatus, wantCode)
		}
	}
	f(strictUpsert, 400, "MISSING_REQUIRED_PROPERTY")
	f(strictUpsert, 400, "MISSING_REQUIRED_PROPERTY", "city", "")
	f(strictUpsert, 400, "MISSING_CONDITIONAL_REQUIRED_PROPERTY", "city", "Bonn", "state", "BE")
	f(strictUpsert, 200, "", "city", "Bonn", "state", "NW")
	f(strictUpsert, 200, "", "firstname", "Ada") // an update need not repeat it
	f(strictUpsert, 200, "", "city", "")         // only creation requires it
	f(strictUpsert, 400, "MISSING_CONDITIONAL_REQUIRED_PROPERTY", "state", "BE")
	f(strictUpsert, 200, "", "state", "BE", "zip", "10115")
	f(strictUpsert, 400, "MISSING_CONDITIONAL_REQUIRED_PROPERTY", "zip", "")
	f(upsertPath, 200, "", "zip", "") // v3 does not know the rules
	f("/crm/objects/2026-03/contacts/batch/upsert", 200, "", "zip", "")
	f(strictUpsert, 200, "", "firstname", "Eva") // the write has nothing to do with the rule

	part := c.must(207, "POST", strictUpsert, batch(inputOf("t-1", "c@d.co"), inputOf("t-2", "e@f.co", "city", "Bonn")))
	if got := part.Get("errors.0.message").Str; !strings.Contains(got, "A value for city must be provided") || !strings.Contains(got, "MISSING_REQUIRED_PROPERTY") ||
		part.Get("errors.0.context.objectWriteTraceId.0").Str != "t-1" || len(part.Get("results").Array()) != 1 {
		t.Errorf("traced: %s", part.Raw)
	}
	// The property that identifies the record needs no second mention.
	id := newClient(t, Options{Required: []Requirement{{Property: "email"}}})
	id.must(200, "POST", strictUpsert, batch(`{"idProperty":"email","id":"a@b.co","properties":{"city":"Bonn"}}`))
}

// TestNormalizedIsTold in 2026-09 alone, for the record that it concerns.
func TestNormalizedIsTold(t *testing.T) {
	c := newClient(t, Options{})
	body := batch(inputOf("t-1", "Ada@B.co"), inputOf("t-2", "c@d.co"))
	for _, path := range []string{strictUpsert, upsertPath} {
		for _, r := range c.must(200, "POST", path, body).Get("results").Array() {
			want := ""
			if path == strictUpsert && r.Get("objectWriteTraceId").Str == "t-1" {
				want = `["email"] ["Ada@B.co"] ["ada@b.co"]`
			}
			w := r.Get("warnings.0.context")
			got := strings.TrimSpace(fmt.Sprint(w.Get("propertyName"), w.Get("rawValue"), w.Get("normalizedValue")))
			if got != want || want != "" && r.Get("warnings.0.category").Str != "PROPERTY_VALUE_NORMALIZED" {
				t.Errorf("%s: %s", path, r.Raw)
			}
		}
	}
}

// TestChangeOfAddress: the old one is gone, or a secondary one where the account keeps it.
func TestChangeOfAddress(t *testing.T) {
	f := func(keep bool) {
		t.Helper()
		c := newClient(t, Options{KeepOldEmail: keep})
		id := c.must(200, "POST", upsertPath, upsert("old@b.co")).Get("results.0.id").Str
		c.must(200, "PATCH", contactsPath+"/"+id, `{"properties":{"email":"new@b.co"}}`)
		answer := c.must(200, "POST", upsertPath, upsert("old@b.co", "city", "Bonn")).Get("results.0")
		if found := answer.Get("id").Str == id; found != keep || answer.Get("new").Bool() == keep {
			t.Errorf("keep %v: an upsert of the old address: %s", keep, answer.Raw)
		}
		read := c.must(200, "GET", contactsPath+"/"+id+"?properties=email,hs_additional_emails", "").Get("properties")
		if want := map[bool]string{true: "old@b.co"}[keep]; read.Get("email").Str != "new@b.co" || read.Get("hs_additional_emails").Str != want {
			t.Errorf("keep %v: %s", keep, read.Raw)
		}
	}
	f(true)
	f(false)
}

// TestSecondaryEmailElsewhere: reads and updates by a secondary address reach its contact; another contact can not have it.
func TestSecondaryEmailElsewhere(t *testing.T) {
	c := newClient(t, Options{})
	id := c.must(200, "POST", upsertPath, upsert("main@b.co")).Get("results.0.id").Str
	if err := c.AddEmail("main@b.co", "second@b.co"); err != nil {
		t.Fatal(err)
	}
	read := c.must(200, "POST", contactsPath+"/batch/read", `{"idProperty":"email","inputs":[{"id":"second@b.co"}],"properties":["email","hs_additional_emails"]}`)
	if r := read.Get("results.0"); r.Get("id").Str != id || r.Get("properties.email").Str != "main@b.co" || r.Get("properties.hs_additional_emails").Str != "second@b.co" {
		t.Errorf("read: %s", read.Raw)
	}
	c.must(200, "POST", "/crm/objects/2026-03/contacts/batch/update", batch(`{"idProperty":"email","id":"second@b.co","properties":{"city":"Bonn"}}`))
	other := c.must(200, "POST", upsertPath, upsert("other@b.co")).Get("results.0.id").Str
	taken := c.must(409, "PATCH", contactsPath+"/"+other, `{"properties":{"email":"second@b.co"}}`)
	if want := "Contact already exists. Existing ID: " + id; taken.Get("message").Str != want {
		t.Errorf("an address in use: %s", taken.Raw)
	}
	if ct, _ := c.Contact("main@b.co"); ct.Properties["city"] != "Bonn" || c.ContactCount() != 2 {
		t.Errorf("%v, %d contacts", ct.Properties, c.ContactCount())
	}
}

// TestPropertyHistory: each value with its time and the call that wrote it, over the API and for inspection.
func TestPropertyHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Options{})
		var calls []string
		for _, city := range []string{"Bonn", "", "Ulm"} {
			c.must(200, "POST", upsertPath, upsert("a@b.co", "city", city))
			calls = append(calls, c.header.Get("X-Hubspot-Correlation-Id"))
			time.Sleep(time.Second)
		}
		read := c.must(200, "POST", contactsPath+"/batch/read",
			`{"idProperty":"email","inputs":[{"id":"a@b.co"}],"properties":[],"propertiesWithHistory":["city","nosuch"]}`)
		one := c.must(200, "GET", contactsPath+"/101?propertiesWithHistory=city,nosuch", "")
		for _, r := range []string{read.Get("results.0.propertiesWithHistory").Raw, one.Get("propertiesWithHistory").Raw} {
			want := `{"city":[{"value":"Ulm","timestamp":"2000-01-01T00:00:02Z","sourceType":"INTEGRATION","sourceId":"19083857"},` +
				`{"value":"","timestamp":"2000-01-01T00:00:01Z","sourceType":"INTEGRATION","sourceId":"19083857"},` +
				`{"value":"Bonn","timestamp":"2000-01-01T00:00:00Z","sourceType":"INTEGRATION","sourceId":"19083857"}]}`
			if r != want {
				t.Errorf("history %s,\nwant %s", r, want)
			}
		}
		ct, _ := c.Contact("a@b.co")
		var got []string
		for _, w := range ct.History["city"] {
			got = append(got, w.CorrelationID)
		}
		var listed []string
		for _, call := range c.Calls()[:3] {
			listed = append(listed, call.CorrelationID)
		}
		if !cmp.Equal(got, calls) || !cmp.Equal(listed, calls) {
			t.Errorf("writes by %v, calls %v, listed %v", got, calls, listed)
		}
	})
}

// TestLedgerOfFaults: a call that fails shows the correlation id of its answer and of what it wrote all the same.
func TestLedgerOfFaults(t *testing.T) {
	c := newClient(t, Options{})
	c.Inject(Fault{Status: 502, Apply: true, Times: 1})
	c.must(502, "POST", upsertPath, upsert("a@b.co", "city", "Bonn"))
	call := c.Calls()[0]
	ct, _ := c.Contact("a@b.co")
	if id := c.header.Get("X-Hubspot-Correlation-Id"); !call.Faulty || call.CorrelationID != id || ct.History["city"][0].CorrelationID != id || call.Number != 1 {
		t.Errorf("answer %s, listed %+v, wrote %+v", id, call, ct.History["city"])
	}
	c.must(200, "POST", upsertPath, upsert("a@b.co"))
	if call := c.Calls()[1]; call.Faulty || call.Number != 2 {
		t.Errorf("%+v", call)
	}
}

func TestListContacts(t *testing.T) {
	c := newClient(t, Options{})
	c.must(200, "POST", upsertPath, upsertBody(5, 0))
	c.must(204, "DELETE", contactsPath+"/102", "")
	first := c.must(200, "GET", contactsPath+"?limit=2&properties=email", "")
	rest := c.must(200, "GET", contactsPath+"?limit=2&after="+first.Get("paging.next.after").Str, "")
	if a, b := all(first, "results.#.id"), all(rest, "results.#.id"); a != "101 103" || b != "104 105" || rest.Get("paging").Exists() {
		t.Errorf("pages %q and %q: %s", a, b, rest.Raw)
	}
	if n := len(c.must(200, "GET", contactsPath+"?after=999", "").Get("results").Array()); n != 0 {
		t.Errorf("%d after the last", n)
	}
	c.must(400, "GET", contactsPath+"?limit=101", "")
	c.must(400, "GET", contactsPath+"?limit=0", "")
	c.must(400, "GET", contactsPath+"?after=-1", "")
}

// TestGroups: a property needs a group that exists.
func TestGroups(t *testing.T) {
	c := newClient(t, Options{Properties: []Property{{Name: "a", Label: "A", Type: "string", FieldType: "text", GroupName: "mine"}}})
	property := func(group string) string {
		return `{"name":"p_` + group + `","label":"P","type":"string","fieldType":"text","groupName":"` + group + `"}`
	}
	c.must(201, "POST", propertiesPath, property("mine"))
	if got := c.must(400, "POST", propertiesPath, property("yours")).Get("message").Str; !strings.Contains(got, "yours") {
		t.Errorf("message %q", got)
	}
	c.must(400, "PATCH", propertiesPath+"/a", `{"groupName":"yours"}`)
	c.must(201, "POST", propertiesPath+"/groups", `{"name":"yours","label":"Yours"}`)
	c.must(409, "POST", propertiesPath+"/groups", `{"name":"yours","label":"Yours"}`)
	c.must(400, "POST", propertiesPath+"/groups", `{"name":"yours"}`)
	c.must(400, "POST", propertiesPath+"/groups", `{"name":"Y","label":"Yours"}`)
	c.must(201, "POST", propertiesPath, property("yours"))
	c.must(200, "PATCH", propertiesPath+"/a", `{"groupName":"yours"}`)
	if got := all(c.must(200, "GET", propertiesPath+"/groups", ""), "results.#.name"); !strings.HasSuffix(got, "mine sales_properties socialmediainformation yours") {
		t.Errorf("groups: %s", got)
	}
}

func TestTokenInfo(t *testing.T) {
	const path = "/oauth/v2/private-apps/get/access-token-info"
	c := newClient(t, Options{Token: "pat-na1-test", MissingScopes: []string{"crm.objects.contacts.write"}})
	info := c.must(200, "POST", path, `{"tokenKey":"pat-na1-test"}`)
	if scopes := all(info, "scopes"); info.Get("hubId").Int() != 20546336 || strings.Contains(scopes, "crm.objects.contacts.write") || !strings.Contains(scopes, "crm.schemas.contacts.write") {
		t.Errorf("info: %s", info.Raw)
	}
	c.must(401, "POST", path, `{"tokenKey":"other"}`)
	c.must(400, "POST", path, `{}`)
	newClient(t, Options{NoTokenInfo: true}).must(404, "POST", path, `{"tokenKey":"x"}`)
}

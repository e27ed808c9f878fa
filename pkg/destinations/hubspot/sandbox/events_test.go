package sandbox

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
)

const signedUp = `{"label":"Signed up","name":"signed_up","primaryObject":"CONTACT","propertyDefinitions":[` +
	`{"name":"plan","label":"Plan","type":"string"},{"name":"seats","label":"Seats","type":"number"},` +
	`{"name":"tier","label":"Tier","type":"enumeration","options":[{"label":"Pro","value":"pro"}]}]}`

// newEventClient has the event pe20546336_signed_up.
func newEventClient(t *testing.T, o Options) *client {
	c := newClient(t, o)
	c.must(201, "POST", definitionsPath, signedUp)
	c.Sandbox.mu.Lock()
	c.Sandbox.calls = callLog{}
	c.Sandbox.mu.Unlock()
	return c
}

// occurrence is an event with the members given, over defaults.
func occurrence(members string) string {
	defaults := `"eventName":"pe20546336_signed_up","email":"a@b.co","properties":{}`
	for _, name := range []string{"eventName", "email", "properties"} {
		if strings.Contains(members, `"`+name+`":`) {
			start := strings.Index(defaults, `"`+name+`"`)
			end := strings.IndexByte(defaults[start:], ',')
			if end < 0 {
				defaults = strings.TrimSuffix(defaults[:start], ",")
			} else {
				defaults = defaults[:start] + defaults[start+end+1:]
			}
		}
	}
	return "{" + strings.Trim(defaults+","+members, ",") + "}"
}

func TestSendEvent(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	c := newEventClient(t, Options{Now: func() time.Time { return now }})
	id := c.must(200, "POST", upsertPath, upsert("a@b.co")).Get("results.0.id").Str
	c.must(204, "POST", sendPath, occurrence(`"uuid":"u-1","occurredAt":"2026-01-20T21:14:16.512Z","properties":{"plan":"pro","seats":3,"hs_page_url":"https://x"}`))
	if c.header.Get("X-HubSpot-Correlation-Id") == "" || c.header.Get("Content-Type") != "" {
		t.Errorf("headers of a 204: %v", c.header)
	}
	c.must(204, "POST", "/events/2026-03/send", occurrence(`"email":"unknown@b.co"`))
	c.must(204, "POST", "/events/custom/2026-09/send", `{"eventName":"pe20546336_signed_up","objectId":"`+id+`","properties":{}}`)
	c.must(204, "POST", sendPath, `{"eventName":"pe20546336_signed_up","utk":"t","occurredAt":1768943656512,"properties":{}}`)
	at := time.Date(2026, 1, 20, 21, 14, 16, 512e6, time.UTC)
	want := []Event{
		{
			EventName: "pe20546336_signed_up", Email: "a@b.co", UUID: "u-1", OccurredAt: at, ReceivedAt: now, ContactID: id,
			Properties: map[string]string{"plan": "pro", "seats": "3", "hs_page_url": "https://x"},
		},
		{EventName: "pe20546336_signed_up", Email: "unknown@b.co", OccurredAt: now, ReceivedAt: now, Properties: map[string]string{}},
		{EventName: "pe20546336_signed_up", ObjectID: id, OccurredAt: now, ReceivedAt: now, ContactID: id, Properties: map[string]string{}},
		{EventName: "pe20546336_signed_up", UTK: "t", OccurredAt: at, ReceivedAt: now, Properties: map[string]string{}},
	}
	if diff := cmp.Diff(want, c.Events()); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if c.ContactCount() != 1 {
		t.Errorf("%d contacts: events make none", c.ContactCount())
	}
}

// TestEventRefusals has what fails a single event, and with it the whole batch.
func TestEventRefusals(t *testing.T) {
	f := func(event, message string) {
		t.Helper()
		c := newEventClient(t, Options{})
		single := c.must(400, "POST", sendPath, event)
		if !strings.Contains(single.Get("message").Str, message) || single.Get("category").Str != "VALIDATION_ERROR" {
			t.Errorf("%.150s: %s", event, single.Raw)
		}
		c.must(400, "POST", sendPath+"/batch", batch(occurrence(""), event))
		if n := c.EventCount(); n != 0 {
			t.Errorf("%.150s: %d events accepted", event, n)
		}
	}
	prop := func(name, value string) string { return occurrence(fmt.Sprintf(`"properties":{%q:%q}`, name, value)) }
	f(occurrence(`"eventName":"signed_up"`), "Event with fully qualified name signed_up does not exist.")
	f(occurrence(`"eventName":"pe20546336_other"`), "pe20546336_other does not exist")
	f(`{"eventName":"pe20546336_signed_up","properties":{}}`, "email, utk, or objectId is required")
	f(`{"eventName":"pe20546336_signed_up","email":"a@b.co"}`, "required fields were not set")
	f(`{"email":"a@b.co","properties":{}}`, "required fields were not set")
	f(occurrence(`"email":"000"`), "Email address 000 is invalid")
	f(occurrence(`"occurredAt":"yesterday"`), "occurredAt")
	f(prop("nosuch", "x"), "Property nosuch does not exist on event pe20546336_signed_up")
	f(prop("seats", "many"), "INVALID_INTEGER")
	f(prop("tier", "Pro"), "INVALID_OPTION")
	f(prop("hs_screen_width", "wide"), "INVALID_INTEGER")
	f(prop("hs_device_type", "Toaster"), "INVALID_OPTION")
	f(prop("hs_page_content_type", "page"), "INVALID_OPTION")
	f(prop("hs_language", "English"), "INVALID_OPTION")
	f(prop("plan", strings.Repeat("x", 257)), "longer than the limit of 256")
	f(prop("hs_page_url", strings.Repeat("x", 1025)), "longer than the limit of 1024")
	f(occurrence(`"properties":{"plan":{"a":1}}`), "Cannot deserialize")
}

func TestEventValuesThatPass(t *testing.T) {
	c := newEventClient(t, Options{})
	for name, value := range map[string]string{
		"plan": strings.Repeat("ü", 256), "hs_page_url": strings.Repeat("x", 1024), "hs_referrer": strings.Repeat("x", 1024),
		"hs_link_href": strings.Repeat("x", 1024), "hs_device_type": "Desktop", "hs_page_content_type": "BLOG_POST", "hs_language": "pt-br",
		"hs_screen_height": "1080", "hs_touchpoint_source": "anything", "tier": "pro", "seats": "",
	} {
		c.must(204, "POST", sendPath, occurrence(`"properties":`+object(name, value)))
	}
}

func TestEventPropertyLimit(t *testing.T) {
	c := newEventClient(t, Options{AcceptUnknownEventProperties: true})
	properties := func(n int) string {
		var pairs []string
		for i := range n {
			pairs = append(pairs, "p"+strconv.Itoa(i), "x")
		}
		return occurrence(`"properties":` + object(pairs...))
	}
	c.must(204, "POST", sendPath, properties(50))
	c.must(400, "POST", sendPath, properties(51))
}

// TestUUID: the first occurrence wins; a repeat fails alone, and in a batch unseen unless StrictUUID.
func TestUUID(t *testing.T) {
	for _, strict := range []bool{false, true} {
		c := newEventClient(t, Options{StrictUUID: strict})
		first := occurrence(`"uuid":"u-1","properties":{"plan":"first"}`)
		second := occurrence(`"uuid":"u-1","properties":{"plan":"second"}`)
		c.must(204, "POST", sendPath, first)
		if answer := c.must(400, "POST", sendPath, second); !strings.Contains(answer.Get("message").Str, "u-1") {
			t.Errorf("repeat: %s", answer.Raw)
		}
		want := 204
		if strict {
			want = 400
		}
		c.must(want, "POST", sendPath+"/batch", batch(second, occurrence(`"uuid":"u-2"`), occurrence(`"uuid":"u-2"`)))
		events := c.Events()
		if events[0].Properties["plan"] != "first" || len(events) != map[bool]int{false: 2, true: 1}[strict] {
			t.Errorf("strict %t: %v", strict, events)
		}
		// The same uuid under another event is another occurrence.
		c.must(201, "POST", definitionsPath, `{"label":"Other","name":"other"}`)
		c.must(204, "POST", sendPath, occurrence(`"eventName":"pe20546336_other","uuid":"u-1"`))
	}
}

func TestEventBatchLimit(t *testing.T) {
	c := newEventClient(t, Options{})
	list := func(n int) string { return batch(strings.Split(strings.Repeat(occurrence("")+"\n", n), "\n")[:n]...) }
	c.must(204, "POST", sendPath+"/batch", list(500))
	c.must(400, "POST", sendPath+"/batch", list(501))
	c.must(204, "POST", sendPath+"/batch", `{}`)
	if n := c.EventCount(); n != 500 {
		t.Errorf("%d events", n)
	}
}

func TestAutoContactFromEvent(t *testing.T) {
	c := newEventClient(t, Options{AutoContactFromEvent: true})
	c.must(204, "POST", sendPath, occurrence(`"email":"New@b.co"`))
	ct, ok := c.Contact("new@b.co")
	if events := c.Events(); !ok || events[0].ContactID != ct.ID {
		t.Errorf("contact %v, events %v", ct, events)
	}
}

func TestDefinitionLife(t *testing.T) {
	c := newClient(t, Options{HubID: "7"})
	created := c.must(201, "POST", definitionsPath, signedUp)
	if created.Get("fullyQualifiedName").Str != "pe7_signed_up" || created.Get("name").Str != "signed_up" ||
		all(created, "properties.#.name")[:15] != "plan seats tier" {
		t.Errorf("created: %s", created.Raw)
	}
	again := c.must(409, "POST", definitionsPath, signedUp)
	if !strings.Contains(again.Get("message").Str, "already exists") {
		t.Errorf("again: %s", again.Raw)
	}
	for _, name := range []string{"signed_up", "pe7_signed_up", "signed_up/"} {
		if got := c.must(200, "GET", definitionsPath+"/"+name+"?includeProperties=true", ""); got.Get("id").Str != created.Get("id").Str {
			t.Errorf("%s: %s", name, got.Raw)
		}
	}
	c.must(400, "GET", definitionsPath+"/nosuch", "")

	c.must(201, "POST", definitionsPath+"/pe7_signed_up/property", `{"name":"source","label":"Source","type":"string"}`)
	c.must(409, "POST", definitionsPath+"/signed_up/property", `{"name":"source","label":"Source","type":"string"}`)
	c.must(400, "POST", definitionsPath+"/nosuch/property", `{"name":"source","label":"Source","type":"string"}`)
	c.must(204, "POST", sendPath, `{"eventName":"pe7_signed_up","email":"a@b.co","properties":{"source":"x"}}`)
	if d := c.Definitions(); len(d) != 1 || len(d[0].Properties) != 4 || d[0].Properties[3].Name != "source" {
		t.Errorf("definitions: %+v", d)
	}

	c.must(204, "DELETE", definitionsPath+"/signed_up", "")
	c.must(400, "DELETE", definitionsPath+"/signed_up", "")
	c.must(400, "POST", sendPath, `{"eventName":"pe7_signed_up","email":"a@b.co","properties":{}}`)
	if burned := c.must(400, "POST", definitionsPath, signedUp); !strings.Contains(burned.Get("message").Str, "cannot be used again") {
		t.Errorf("a name used before: %s", burned.Raw)
	}
}

func TestDefinitionsWithoutDefaults(t *testing.T) {
	c := newClient(t, Options{})
	c.must(201, "POST", definitionsPath, `{"label":"Bare One","includeDefaultProperties":false}`) // the name comes from the label
	c.must(204, "POST", sendPath, occurrence(`"eventName":"pe20546336_bare_one"`))
	c.must(400, "POST", sendPath, occurrence(`"eventName":"pe20546336_bare_one","properties":{"hs_page_url":"x"}`))
}

func TestDefinitionRefusals(t *testing.T) {
	f := func(body, message string) {
		t.Helper()
		c := newClient(t, Options{})
		if answer := c.must(400, "POST", definitionsPath, body); !strings.Contains(answer.Get("message").Str, message) {
			t.Errorf("%.200s: %s", body, answer.Raw)
		}
	}
	prop := func(p string) string { return `{"label":"X","name":"x","propertyDefinitions":[` + p + `]}` }
	f(`{"name":"x"}`, "event label")
	f(`{"name":"x","label":"`+strings.Repeat("x", 101)+`"}`, "event label")
	f(`{"name":"Signed Up","label":"X"}`, "Event name Signed Up is invalid")
	f(`{"name":"`+strings.Repeat("x", 51)+`","label":"X"}`, "is invalid")
	f(prop(`{"name":"A b","label":"A"}`), "Event property name A b is invalid")
	f(prop(`{"name":"a","label":"`+strings.Repeat("x", 51)+`"}`), "property label")
	f(prop(`{"name":"a","label":"A","type":"json"}`), "type json is invalid")
	f(prop(`{"name":"a","label":"A","type":"enumeration"}`), "needs options")
	f(prop(`{"name":"hs_page_url","label":"A"}`), "default properties")
	f(prop(`{"name":"a","label":"A"},{"name":"a","label":"A"}`), "given twice")
	var many []string
	for i := range 51 {
		many = append(many, fmt.Sprintf(`{"name":"p%d","label":"P"}`, i))
	}
	f(prop(strings.Join(many, ",")), "limit of 50")
}

func TestListDefinitions(t *testing.T) {
	c := newClient(t, Options{})
	for i := range 25 {
		c.must(201, "POST", definitionsPath, fmt.Sprintf(`{"label":"E %d","name":"e_%02d"}`, i, i))
	}
	var names []string
	after := ""
	for range 10 {
		page := c.must(200, "GET", definitionsPath+"?after="+after, "")
		names = append(names, all(page, "results.#.name"))
		if page.Get("results.0.properties.0").Exists() {
			t.Error("properties unasked")
		}
		if after = page.Get("paging.next.after").Str; after == "" {
			break
		}
	}
	if len(names) != 3 || !strings.HasPrefix(strings.Join(names, " "), "e_00 e_01") || !strings.HasSuffix(names[2], "e_24") {
		t.Errorf("pages: %q", names)
	}
	found := c.must(200, "GET", definitionsPath+"?searchString=e_1&limit=100&includeProperties=true", "")
	if found.Get("total").Int() != 10 || !found.Get("results.0.properties.0.name").Exists() {
		t.Errorf("search: %d", found.Get("total").Int())
	}
	c.must(400, "GET", definitionsPath+"?limit=x", "")
}

// TestKeepEvents: of a long run the newest are kept, and each is told once.
func TestKeepEvents(t *testing.T) {
	told := map[string]int{}
	c := newEventClient(t, Options{KeepEvents: 100, Accepted: func(name string, properties gjson.Result) {
		told[name+" "+properties.Get("plan").String()]++
	}})
	for i := range 1000 {
		c.must(204, "POST", sendPath, occurrence(fmt.Sprintf(`"uuid":"u%d","properties":{"plan":"p%d"}`, i, i)))
	}
	if n := c.EventCount(); n < 100 || n > 113 {
		t.Errorf("%d events are kept, want 100 to 113", n)
	}
	if got := c.Events()[c.EventCount()-1].UUID; got != "u999" {
		t.Errorf("the last is %s, want u999", got)
	}
	if n := len(c.st.events.uuids); n != c.EventCount() {
		t.Errorf("%d uuids of %d events", n, c.EventCount())
	}
	if len(told) != 1000 || told["pe20546336_signed_up p7"] != 1 {
		t.Errorf("%d events were told, want each of 1000 once", len(told))
	}
}

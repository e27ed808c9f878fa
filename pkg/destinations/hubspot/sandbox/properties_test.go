package sandbox

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const planTier = `{"name":"plan_tier","label":"Plan tier","groupName":"contactinformation","type":"enumeration","fieldType":"select",` +
	`"options":[{"label":"Pro","value":"pro","displayOrder":0,"hidden":false}]}`

func TestDefaultProperties(t *testing.T) {
	c := newClient(t, Options{})
	list := c.must(200, "GET", propertiesPath, "").Get("results").Array()
	if len(list) != 405 {
		t.Errorf("%d properties, want 405", len(list))
	}
	f := func(name, kind, fieldType string, readOnly bool) {
		t.Helper()
		p := c.must(200, "GET", propertiesPath+"/"+name, "")
		if p.Get("type").Str != kind || p.Get("fieldType").Str != fieldType || p.Get("modificationMetadata.readOnlyValue").Bool() != readOnly {
			t.Errorf("%s: %s", name, p.Raw)
		}
	}
	f("email", "string", "text", false)
	f("createdate", "datetime", "date", true)
	f("lifecyclestage", "enumeration", "radio", false)
	f("annualrevenue", "string", "text", false) // not a number
	f("numemployees", "enumeration", "select", false)
	f("phone", "string", "phonenumber", false)
	c.must(404, "GET", propertiesPath+"/nosuch", "")
}

func TestPropertyLife(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	c := newClient(t, Options{Now: func() time.Time { now = now.Add(time.Second); return now }})
	c.must(400, "POST", upsertPath, upsert("a@b.co", "plan_tier", "pro"))
	created := c.must(201, "POST", propertiesPath, planTier).Get("createdAt").Str
	if c.header.Get("Location") == "" {
		t.Error("no Location")
	}
	c.must(200, "POST", upsertPath, upsert("a@b.co", "plan_tier", "pro"))

	again := c.must(409, "POST", propertiesPath, planTier)
	if again.Get("category").Str != "OBJECT_ALREADY_EXISTS" || again.Get("subCategory").Str != "Properties.PROPERTY_WITH_NAME_EXISTS" ||
		again.Get("message").Str != "A property named 'plan_tier' already exists." {
		t.Errorf("second create: %s", again.Raw)
	}

	// A list of options replaces the old one; other members leave it alone.
	c.must(200, "PATCH", propertiesPath+"/plan_tier", `{"label":"Tier"}`)
	c.must(200, "POST", upsertPath, upsert("a@b.co", "plan_tier", "pro"))
	c.must(200, "PATCH", propertiesPath+"/plan_tier", `{"options":[{"label":"Ent","value":"ent","hidden":false}]}`)
	c.must(200, "POST", upsertPath, upsert("a@b.co", "plan_tier", "ent"))
	c.must(400, "POST", upsertPath, upsert("a@b.co", "plan_tier", "pro"))
	if label := c.must(200, "GET", propertiesPath+"/plan_tier", "").Get("label").Str; label != "Tier" {
		t.Errorf("label %q", label)
	}

	// Archiving hides it; creating the name restores it, with the new definition.
	c.must(204, "DELETE", propertiesPath+"/plan_tier", "")
	c.must(404, "GET", propertiesPath+"/plan_tier", "")
	c.must(200, "GET", propertiesPath+"/plan_tier?archived=true", "")
	if answer := c.must(400, "POST", upsertPath, upsert("a@b.co", "plan_tier", "ent")); answer.Get("errors.0.code").Str != "PROPERTY_DOESNT_EXIST" {
		t.Errorf("write to an archived property: %s", answer.Raw)
	}
	c.must(404, "PATCH", propertiesPath+"/plan_tier", `{"label":"x"}`)
	other := strings.Replace(planTier, `"type":"enumeration","fieldType":"select"`, `"type":"string","fieldType":"text"`, 1)
	if restored := c.must(201, "POST", propertiesPath, other); restored.Get("type").Str != "enumeration" || restored.Get("fieldType").Str != "select" {
		t.Errorf("restored with another type: %s", restored.Raw)
	}
	c.must(204, "DELETE", propertiesPath+"/plan_tier", "")
	if restored := c.must(201, "POST", propertiesPath, planTier); restored.Get("createdAt").Str != created || restored.Get("updatedAt").Str == created {
		t.Errorf("restored: %s, created at %s", restored.Raw, created)
	}
	c.must(200, "POST", upsertPath, upsert("a@b.co", "plan_tier", "pro"))
	c.must(400, "DELETE", propertiesPath+"/email", "")
}

func TestPropertyRefusals(t *testing.T) {
	f := func(body, message string) {
		t.Helper()
		c := newClient(t, Options{})
		answer := c.must(400, "POST", propertiesPath, body)
		if !strings.Contains(answer.Get("message").Str, message) || answer.Get("category").Str != "VALIDATION_ERROR" {
			t.Errorf("%s: %s", body, answer.Raw)
		}
	}
	with := func(old, replacement string) string { return strings.Replace(planTier, old, replacement, 1) }
	f(`{"name":"x"}`, "required fields were not set: [label, type, fieldType, groupName]")
	f(with("plan_tier", "Plan"), "Property name 'Plan' is invalid")
	f(with("plan_tier", "1st"), "Property name '1st' is invalid")
	f(with("plan_tier", "a-b"), "Property name 'a-b' is invalid")
	f(with("plan_tier", "a"+strings.Repeat("x", 100)), "is invalid")
	f(with("enumeration", "json"), "type 'json' is invalid")
	f(with("select", "text"), "Field type 'text' is invalid")
	f(with(`"value":"pro"`, `"value":""`), "need a label and a value")
	f(with(`[{`, `[{"label":"P","value":"pro"},{`), "'pro' is given twice")
}

func TestPropertyBatches(t *testing.T) {
	c := newClient(t, Options{})
	c.must(201, "POST", propertiesPath+"/batch/create", batch(planTier))
	second := c.must(207, "POST", propertiesPath+"/batch/create", batch(planTier, strings.Replace(planTier, "plan_tier", "other", 1)))
	if all(second, "results.#.name") != "other" || all(second, "errors.#.context.name.0") != "plan_tier" {
		t.Errorf("second create: %s", second.Raw)
	}
	read := c.must(207, "POST", propertiesPath+"/batch/read", batch(`{"name":"other"}`, `{"name":"nosuch"}`))
	if all(read, "results.#.name") != "other" || read.Get("numErrors").Int() != 1 {
		t.Errorf("read: %s", read.Raw)
	}
	c.must(204, "POST", propertiesPath+"/batch/archive", batch(`{"name":"other"}`, `{"name":"plan_tier"}`))
	c.must(404, "GET", propertiesPath+"/other", "")
	if archived := c.must(200, "GET", propertiesPath+"?archived=true", ""); all(archived, "results.#.name") != "other plan_tier" {
		t.Errorf("archived: %s", archived.Raw)
	}
}

func TestCustomPropertyLimit(t *testing.T) {
	var o Options
	for i := range maxCustomProperties {
		o.Properties = append(o.Properties, Property{Name: "p" + strconv.Itoa(i), Label: "P", Type: "string", FieldType: "text"})
	}
	c := newClient(t, o)
	if answer := c.must(400, "POST", propertiesPath, planTier); !strings.Contains(answer.Get("message").Str, "limit of 1000") {
		t.Errorf("beyond the limit: %s", answer.Raw)
	}
	c.must(204, "DELETE", propertiesPath+"/p1", "")
	c.must(201, "POST", propertiesPath, planTier)
	names := c.Properties()
	if !slices.ContainsFunc(names, func(p Property) bool { return p.Name == "plan_tier" }) {
		t.Error("Properties lacks the new one")
	}
}

func TestReadOnlyOptions(t *testing.T) {
	c := newClient(t, Options{Properties: []Property{{
		Name: "fixed", Label: "Fixed", Type: "enumeration", FieldType: "select", GroupName: "contactinformation", ReadOnlyOptions: true,
		Options: []Option{{Label: "A", Value: "a"}},
	}}})
	if !c.must(200, "GET", propertiesPath+"/fixed", "").Get("modificationMetadata.readOnlyOptions").Bool() {
		t.Error("not shown as read-only")
	}
	c.must(400, "PATCH", propertiesPath+"/fixed", `{"options":[{"label":"B","value":"b"}]}`)
	c.must(200, "PATCH", propertiesPath+"/fixed", `{"label":"Still"}`)
}

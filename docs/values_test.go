package docs

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

var planOptions = []sandbox.Option{{Label: "Pro plan", Value: "pro"}, {Label: "Free", Value: "free"}}

// valueProperties are contact properties of each type that the page has examples of.
var valueProperties = []sandbox.Property{
	{Name: "x_string", Label: "s", Type: "string", FieldType: "text"},
	{Name: "x_number", Label: "n", Type: "number", FieldType: "number"},
	{Name: "x_bool", Label: "b", Type: "bool", FieldType: "booleancheckbox"},
	{Name: "x_date", Label: "d", Type: "date", FieldType: "date"},
	{Name: "x_datetime", Label: "t", Type: "datetime", FieldType: "date"},
	{Name: "x_enumeration", Label: "e", Type: "enumeration", FieldType: "select", Options: planOptions},
	{Name: "x_checkbox", Label: "c", Type: "enumeration", FieldType: "checkbox", Options: planOptions},
	{Name: "x_computed", Label: "r", Type: "string", FieldType: "text", ReadOnlyValue: true},
}

// refusal is what HubSpot answers to a value that breaks a rule of the account.
const refusal = `{"status":"error","category":"VALIDATION_ERROR","message":"Property values were not valid",` +
	`"errors":[{"message":"breaks a rule","code":"INVALID_VALUE","context":{"propertyName":["x_string"]}}]}`

// TestValues: the table of values in hubspot.md, from the event to what HubSpot holds and what is told.
func TestValues(t *testing.T) {
	t.Parallel()
	examples := load(t, "hubspot.md").tableUnder(t, "What happens to a value that…")
	if len(examples.rows) < 30 {
		t.Errorf("the table of values has %d rows", len(examples.rows))
	}
	for _, row := range examples.rows {
		synctest.Test(t, func(t *testing.T) { valueExample(t, row) })
	}
}

func valueExample(t *testing.T, row []string) {
	t.Helper()
	name := map[string]string{"none such": "x_nothing", "read-only": "x_computed"}[row[1]]
	if name == "" {
		name = "x_" + code(row[1])[0]
	}
	value := `"` + strings.Repeat("a", 65537) + `"` // as "65,537 letters" says
	if spans := code(row[2]); len(spans) == 1 {
		value = spans[0]
	} else if row[2] != "65,537 letters" {
		t.Fatalf("%s: what is %s?", row[0], row[2])
	}
	a := newAccount(t, "", sandbox.Options{Properties: valueProperties})
	a.box.Inject(sandbox.Fault{Endpoint: "contacts/batch/upsert", Contains: "against a rule", Status: 400, Body: refusal})
	identify := func(members string) (detail struct{ Coerced, Stripped map[string]string }) {
		entries, err := a.plan(`{"event_type":"user_identify","user":{"email":"a@example.com",` + members + `}}`)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(a.deliver(t, entries...)[0].Detail, &detail); err != nil {
			t.Fatal(err)
		}
		return detail
	}
	want := ""
	switch spans := code(row[3]); {
	case row[3] == "as it was":
		want = "before"
		identify(`"` + name + `":"before"`)
	case len(spans) == 1:
		want = spans[0]
	case row[3] != "left out":
		t.Fatalf("%s: what is %s?", row[0], row[3])
	}
	detail := identify(`"city":"Rome","` + name + `":` + value)
	told := detail.Coerced[name] + detail.Stripped[name]
	if spans := code(row[4]); strings.Join(spans, "") != told {
		t.Errorf("a value that %s: told as %q, the page says %s", row[0], told, row[4])
	}
	got := a.box.Contacts()[0].Properties
	if got[name] != want || got["city"] != "Rome" {
		t.Errorf("a value that %s: HubSpot has %q and city %q, the page says %s", row[0], got[name], got["city"], row[3])
	}
}

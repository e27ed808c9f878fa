package sandbox

import "testing"

// TestSeed: an account that begins with properties, groups and definitions has just those, also after a reset.
func TestSeed(t *testing.T) {
	c := newClient(t, Options{
		OnlyProperties: true, Groups: []string{"empty"},
		Properties: []Property{
			{Name: "email", Type: "string", FieldType: "text", HasUniqueValue: true},
			{Name: "plan", Type: "string", FieldType: "text", GroupName: "own"},
		},
		Definitions: []Definition{{Name: "order", Label: "Order", Properties: []Property{{Name: "n", Type: "number"}}}},
	})
	for range 2 {
		if got := c.must(200, "GET", "/crm/v3/properties/contacts", "").Get("results.#.name").Raw; got != `["email","plan"]` {
			t.Errorf("properties %s", got)
		}
		if got := c.must(200, "GET", "/crm/v3/properties/contacts/groups", "").Get("results.#.name").Raw; got != `["contactinformation","empty","own"]` {
			t.Errorf("groups %s", got)
		}
		if got := c.must(200, "GET", "/events/v3/event-definitions/order", "").Get("fullyQualifiedName").Str; got != "pe20546336_order" {
			t.Errorf("a definition is called %s", got)
		}
		c.must(204, "POST", "/events/v3/send", `{"eventName":"pe20546336_order","email":"a@b.co","properties":{"n":"1"}}`)
		c.must(400, "POST", "/events/v3/send", `{"eventName":"pe20546336_order","email":"a@b.co","properties":{"hs_page_url":"x"}}`) // it has no default ones
		c.must(201, "POST", "/crm/v3/properties/contacts", `{"name":"new","label":"New","type":"string","fieldType":"text","groupName":"empty"}`)
		c.must(400, "POST", "/crm/v3/properties/contacts", `{"name":"other","label":"Other","type":"string","fieldType":"text","groupName":"deal_information"}`)
		c.Reset()
	}
}

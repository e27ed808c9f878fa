package sandbox

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/gjson"
)

// Property is a contact property, or one of a custom event.
type Property struct {
	Name        string `json:"name"`
	Label       string `json:"label"`
	Type        string `json:"type"`      // string, number, date, datetime, bool, enumeration, phone_number, ...
	FieldType   string `json:"fieldType"` // text, textarea, select, checkbox, ...
	Description string `json:"description"`
	GroupName   string `json:"groupName"`
	// Options are the values of an enumeration. One without any accepts every value.
	Options         []Option `json:"options"`
	ExternalOptions bool     `json:"externalOptions"` // HubSpot takes the values from elsewhere, such as its users
	ReadOnlyValue   bool     `json:"readOnlyValue"`
	ReadOnlyOptions bool     `json:"readOnlyOptions"` // its options cannot be changed
	Calculated      bool     `json:"calculated"`
	HasUniqueValue  bool     `json:"hasUniqueValue"` // may identify contacts in upserts
	Hidden          bool     `json:"hidden"`
	Archived        bool     `json:"archived"`
	HubSpotDefined  bool     `json:"hubspotDefined"`

	created, updated time.Time
}

// Option is one value of an enumeration.
type Option struct {
	Label        string `json:"label"`
	Value        string `json:"value"`
	Description  string `json:"description,omitempty"`
	DisplayOrder int    `json:"displayOrder"`
	Hidden       bool   `json:"hidden"`
}

// property is a Property made ready for checking values; immutable.
type property struct {
	Property
	options map[string]int // value: place in the list
	allowed string         // the list for error messages
	check   func(*property, string) *problem
}

func newProperty(p Property) *property {
	if p.Options == nil {
		p.Options = []Option{}
	}
	q := &property{Property: p, options: make(map[string]int, len(p.Options)), check: checks[p.Type]}
	values := make([]string, len(p.Options))
	for i, o := range p.Options {
		q.options[o.Value] = i
		values[i] = o.Value
	}
	if p.Type == "bool" {
		values = []string{"true", "false"}
	}
	q.allowed = "[" + strings.Join(values, ", ") + "]"
	if q.check == nil {
		q.check = checkString
	}
	return q
}

// multiple reports whether values are lists separated by semicolons.
func (p *property) multiple() bool { return p.Type == "enumeration" && p.FieldType == "checkbox" }

// contactProperties are HubSpot's own: names, types and options of 405, as recorded from accounts and published lists.
//
//go:embed data/contact-properties.json
var contactProperties string

// defaultProperties reads contactProperties once; the values are shared, as they are immutable.
var defaultProperties = sync.OnceValue(func() []*property {
	var all []*property
	for _, r := range gjson.Parse(contactProperties).Array() {
		p := Property{
			Name: r.Get("name").Str, Label: r.Get("label").Str, Type: r.Get("type").Str, FieldType: r.Get("fieldType").Str,
			GroupName: r.Get("groupName").Str, ReadOnlyValue: r.Get("readOnlyValue").Bool(), Calculated: r.Get("calculated").Bool(),
			HasUniqueValue: r.Get("hasUniqueValue").Bool(), HubSpotDefined: true,
			ExternalOptions: r.Get("externalOptions").Bool(),
			created:         time.Date(2019, 8, 6, 2, 41, 8, 0, time.UTC), updated: time.Date(2024, 9, 12, 14, 22, 56, 0, time.UTC),
		}
		for i, o := range r.Get("options").Array() {
			p.Options = append(p.Options, Option{Label: o.Str, Value: o.Str, DisplayOrder: i})
		}
		if p.Type == "bool" && p.Options == nil { // as all have; the lists seen leave them out
			p.Options = []Option{{Label: "Yes", Value: "true"}, {Label: "No", Value: "false", DisplayOrder: 1}}
		}
		all = append(all, newProperty(p))
	}
	return all
})

// propertyTypes are the types that can be created, with their field types.
var propertyTypes = map[string][]string{
	"string":       {"text", "textarea", "html", "file", "phonenumber", "calculation_equation"},
	"number":       {"number", "calculation_equation"},
	"date":         {"date"},
	"datetime":     {"date"},
	"bool":         {"booleancheckbox", "calculation_equation"},
	"enumeration":  {"select", "radio", "checkbox", "booleancheckbox", "calculation_equation"},
	"phone_number": {"phonenumber"},
}

// validate says what is wrong with a definition to be created, or "".
func (p *Property) validate() string {
	fieldTypes, known := propertyTypes[p.Type]
	switch {
	case !isName(p.Name, 100):
		return "Property name '" + p.Name + "' is invalid: it must start with a letter and hold lower-case letters, digits and underscores"
	case !known:
		return "Property type '" + p.Type + "' is invalid"
	case !slices.Contains(fieldTypes, p.FieldType):
		return "Field type '" + p.FieldType + "' is invalid for type '" + p.Type + "'"
	}
	return p.validateOptions()
}

func (p *Property) validateOptions() string {
	seen := map[string]bool{}
	for _, o := range p.Options {
		if o.Value == "" || o.Label == "" {
			return "Property options need a label and a value"
		}
		if seen[o.Value] {
			return "Property option '" + o.Value + "' is given twice"
		}
		seen[o.Value] = true
	}
	return ""
}

// isName reports whether s is a lower-case letter followed by lower-case letters, digits and underscores, at most limit long.
func isName(s string, limit int) bool {
	for i := range len(s) {
		if b := s[i]; (b < 'a' || b > 'z') && (i == 0 || (b < '0' || b > '9') && b != '_') {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

// parseOptions reads the options of a definition. One without displayOrder comes after the others.
func parseOptions(list gjson.Result) []Option {
	options := []Option{}
	last := -1
	for _, o := range list.Array() {
		last = max(last, int(o.Get("displayOrder").Int()))
	}
	for _, o := range list.Array() {
		order := int(o.Get("displayOrder").Int())
		if !o.Get("displayOrder").Exists() {
			last++
			order = last
		}
		options = append(options, Option{
			Label: o.Get("label").String(), Value: o.Get("value").String(), Description: o.Get("description").Str,
			DisplayOrder: order, Hidden: o.Get("hidden").Bool(),
		})
	}
	return options
}

package appevents

import (
	"regexp"
	"strings"

	"eventrouter/pkg/config"
	"eventrouter/pkg/filters"
)

// Kinds of steps.
const (
	toContact = "contact"
	toEvent   = "event"
)

// emailProperty names a person in either kind of step.
const emailProperty = "email"

// propertyName is what HubSpot takes as the name of a property.
var propertyName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,99}$`)

// reserved are members of an event that are no properties of it.
var reserved = map[string]bool{"event_type": true, "event_id": true, "user": true, "utc_time": true, "timestamp": true, "eventn_ctx": true, "eventn_ctx_event_id": true, "src": true, "api_key": true}

// stepSource is a step as the file has it. It was compiled once, to find what is wrong with it.
type stepSource struct {
	to, when, name string
	properties     []property // in the order of the file
}

type property struct{ name, source string }

// step checks one step, which stands at section.
func (c *compiler) step(section config.Settings, set stepSettings) stepSource {
	s := stepSource{to: set.To, when: string(set.When), name: set.Name}
	fail := func(key, format string, args ...any) {
		c.problems = append(c.problems, section.Problem(key, format, args...))
	}
	switch {
	case set.To != toContact && set.To != toEvent:
		fail("to", "must be %s or %s", toContact, toEvent)
	case set.To == toContact && set.Name != "":
		fail("name", "is for events: a contact has none")
	case set.To == toContact && len(set.Properties) == 0:
		fail("properties", "is required: what is written to the contact, such as email: \"{{.payload.email}}\"")
	}
	if s.name == "" {
		s.name = c.name
	}
	switch {
	case strings.Contains(s.name, "{{"):
		fail("name", "must be one name: accounts take a bounded number of events, which nobody may choose from outside")
	case strings.EqualFold(strings.TrimSpace(s.name), identifyType):
		fail("name", "%s describes a person: write to: contact", identifyType)
	case len(s.name) > maxName:
		fail("name", "has more than %d bytes", maxName)
	}
	compile := func(key, source string) {
		v, err := filters.CompileValue(source, optionsFor("", ""))
		if err != nil {
			fail(key, "%v", err)
			return
		}
		for _, w := range v.Warnings() {
			c.warnings = append(c.warnings, section.Problem(key, "%s", w))
		}
		if c.example == nil || key == "when" {
			return
		}
		if got, err := v.Eval(filters.NewView(c.example)); err == nil && !got.Exists() {
			c.warnings = append(c.warnings, section.Problem(key, "gives nothing for the example: is each member that it names there?"))
		}
	}
	if s.when != "" {
		compile("when", s.when)
	}
	for _, name := range propertyOrder(section) {
		source := set.Properties[name]
		key := "properties." + name
		switch {
		case !propertyName.MatchString(name):
			fail(key, "is not the name of a property: lower-case letters, digits and _, a letter first, at most 100")
		case set.To == toEvent && reserved[name]:
			fail(key, "is a name that events keep for themselves: choose another property")
		default:
			compile(key, source)
		}
		s.properties = append(s.properties, property{name, source})
	}
	return s
}

// propertyOrder are the names of a step's properties in the order of the file.
func propertyOrder(section config.Settings) (names []string) {
	for _, m := range section.Members() {
		if m.Key == "properties" {
			for _, p := range m.Value.Members() {
				names = append(names, p.Key)
			}
		}
	}
	return names
}

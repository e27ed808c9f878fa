package hubspot

import (
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/filters"
)

// PropertiesSettings are what stands under `properties:`, the policy of contact properties. Names are HubSpot's.
type PropertiesSettings struct {
	Map     map[string]string `yaml:"map"`     // property: where its value comes from; an expression as in filters
	Only    []string          `yaml:"only"`    // write no others
	Except  []string          `yaml:"except"`  // never write these
	Write   map[string]string `yaml:"write"`   // property: overwrite, if_empty, append or force
	Null    string            `yaml:"null"`    // what null and "" do: ignore, clear
	Unknown string            `yaml:"unknown"` // properties that the account lacks: strip, create
	Options string            `yaml:"options"` // options that a property lacks: keep, create
	Group   string            `yaml:"group"`   // where new properties go
	// NewPerAccount bounds the properties that are made, in all, and NewOptionsPerProperty the options that a property is given.
	NewPerAccount         int `yaml:"new_per_account"`
	NewOptionsPerProperty int `yaml:"new_options_per_property"`
}

// Words of the settings.
const (
	nullIgnore = "ignore"
	nullClear  = "clear"

	unknownStrip  = "strip"
	unknownCreate = "create"

	optionsKeep   = "keep"
	optionsCreate = "create"

	missingSkip   = "skip"
	missingReject = "reject"
)

// policy says what a write does to the value that a property has.
type policy uint8

const (
	overwrite policy = iota // replaces it
	ifEmpty                 // sets it only where there is none
	appendTo                // adds options to those that are chosen
	force                   // replaces it even where HubSpot does not let it go back: clear, then set
)

var policies = map[string]policy{"overwrite": overwrite, "if_empty": ifEmpty, "append": appendTo, "force": force}

// stageProperty is the only one for which there is force: HubSpot moves it forward only.
const stageProperty = "lifecyclestage"

// contacts is how events become contacts, compiled from the settings.
type contacts struct {
	key        string         // property that identifies them
	rejectLost bool           // events without one are dead letters, not skipped
	events     eventNames     // that write the contact too, beside user_identify
	zone       *time.Location // whose calendar days dates are
	properties *properties

	expressions *expressions
	warned      sync.Map // properties whose policy does not fit their type
}

// describes says whether events of the type write what they know of their person.
func (c *contacts) describes(eventType string) bool {
	return eventType == identifyType || c.events.has(eventType)
}

// objectIDProperty is the contact's own number.
const objectIDProperty = "hs_object_id"

// compileContacts checks the settings of contacts and compiles them.
func (set *Settings) compileContacts(s config.Settings, o filters.Options, log *slog.Logger) (*contacts, config.Problems) {
	var problems config.Problems
	fail := func(key, format string, args ...any) { problems = append(problems, s.Problem(key, format, args...)) }
	if !propertyName.MatchString(set.IDProperty) {
		fail("id_property", "%s", badName(set.IDProperty))
	}
	if _, ok := set.Properties.Write[set.IDProperty]; ok {
		fail("properties.write."+set.IDProperty, "is the property that identifies contacts, which has no policy")
	}
	if slices.Contains(set.Properties.Except, set.IDProperty) {
		fail("properties.except", "%s is the property that identifies contacts, which is always written", set.IDProperty)
	}
	for name := range set.Properties.Map {
		if s.Has("properties.map." + name + ".*") { // no single value, which is reported
			delete(set.Properties.Map, name)
		}
	}
	if set.MissingKey != missingSkip && set.MissingKey != missingReject {
		fail("missing_key", "must be %s or %s", missingSkip, missingReject)
	}
	return &contacts{
		key: set.IDProperty, rejectLost: set.MissingKey == missingReject, events: contactEvents(set.ContactEvents, fail),
		zone: timeZone(set.TimeZone, fail), properties: set.Properties.compile(set.IDProperty, fail), expressions: compileExpressions("properties.map", set.Properties.Map, o, log, fail),
	}, problems
}

// properties is the compiled policy of properties.
type properties struct {
	only      map[string]bool
	except    map[string]bool
	policies  map[string]policy
	clear     bool // null and "" clear
	create    bool // properties that the account lacks
	addOption bool // that a property lacks
	group     string

	newProperties, newOptions int // most to make, of a property's options
}

// policyOf is the policy of the property with that name, as configured.
func (ps *properties) policyOf(name string) policy { return ps.policies[name] }

// excluded says whether a property, which may have one of the names, is never written.
func (ps *properties) excluded(names ...string) bool {
	if slices.ContainsFunc(names, func(name string) bool { return ps.except[name] }) {
		return true
	}
	return len(ps.only) > 0 && !slices.ContainsFunc(names, func(name string) bool { return ps.only[name] })
}

// propertyName is what HubSpot takes as the internal name of a property; older ones hold more than new ones may.
var propertyName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,99}$`)

// compile checks the settings and makes the policy.
func (set *PropertiesSettings) compile(key string, fail func(key, format string, args ...any)) *properties {
	ps := &properties{
		only: set.names("only", set.Only, fail), except: set.names("except", set.Except, fail), policies: map[string]policy{},
		group: set.Group, newProperties: set.NewPerAccount, newOptions: set.NewOptionsPerProperty,
	}
	if set.NewPerAccount < 0 {
		fail("properties.new_per_account", "must not be negative")
	}
	if set.NewOptionsPerProperty < 0 {
		fail("properties.new_options_per_property", "must not be negative")
	}
	for _, name := range slices.Sorted(maps.Keys(ps.only)) {
		if ps.except[name] {
			fail("properties.except", "%s stands under only as well", name)
		}
	}
	word := func(key, got, first, second string) bool {
		if got != first && got != second {
			fail("properties."+key, "must be %s or %s", first, second)
		}
		return got == second
	}
	ps.clear = word("null", set.Null, nullIgnore, nullClear)
	ps.create = word("unknown", set.Unknown, unknownStrip, unknownCreate)
	ps.addOption = word("options", set.Options, optionsKeep, optionsCreate)
	if !propertyName.MatchString(set.Group) {
		fail("properties.group", "must be the internal name of a property group: lower-case letters, digits and _, a letter first")
	}
	set.compileWrite(ps, fail)
	for _, name := range slices.Sorted(maps.Keys(set.Map)) {
		if name != key {
			set.checkName(ps, "map", name, fail)
		}
	}
	return ps
}

func (set *PropertiesSettings) compileWrite(ps *properties, fail func(key, format string, args ...any)) {
	for _, name := range slices.Sorted(maps.Keys(set.Write)) {
		key := "properties.write." + name
		p, ok := policies[set.Write[name]]
		switch {
		case !ok:
			fail(key, "must be overwrite, if_empty, append or force")
		case p == force && name != stageProperty:
			fail(key, "force is for %s alone, the only property that HubSpot does not let go back", stageProperty)
		default:
			set.checkName(ps, "write", name, fail)
		}
		ps.policies[name] = p
	}
}

// checkName reports a name that no property can have, or that is never written.
func (set *PropertiesSettings) checkName(ps *properties, section, name string, fail func(key, format string, args ...any)) {
	key := "properties." + section + "." + name
	switch {
	case !propertyName.MatchString(name):
		fail(key, "%s", badName(name))
	case ps.except[name]:
		fail(key, "is never written: it stands under except")
	case ps.excluded(name):
		fail(key, "is never written: it is not among only")
	}
}

// names makes a set of a list.
func (set *PropertiesSettings) names(key string, list []string, fail func(key, format string, args ...any)) map[string]bool {
	all := make(map[string]bool, len(list))
	for _, name := range list {
		switch {
		case !propertyName.MatchString(name):
			fail("properties."+key, "%s", badName(name))
		case all[name]:
			fail("properties."+key, "%s stands here twice", name)
		}
		all[name] = true
	}
	return all
}

func badName(name string) string {
	text := "is not the internal name of a property: lower-case letters, digits and _, a letter first, at most 100"
	if clean := strings.Trim(cleanName(name), "_"); clean != name && propertyName.MatchString(clean) {
		text += "; is it " + clean + "?"
	}
	return shorten(name) + " " + text
}

// eventNames are those of `contact_events`.
type eventNames struct {
	all   bool
	names map[string]bool
}

func (n *eventNames) has(eventType string) bool { return n.all || n.names[eventType] }

// allEvents is the word for every event type.
const allEvents = "all"

// contactEvents is a list of event types, or the word all.
func contactEvents(list []string, fail func(key, format string, args ...any)) (n eventNames) {
	n.names = make(map[string]bool, len(list))
	for _, name := range list {
		switch {
		case name == allEvents && len(list) > 1:
			fail("contact_events", "all stands for every event type; write it alone, or only the types")
		case name == "":
			fail("contact_events", "an event type is empty")
		}
		n.all = n.all || name == allEvents
		n.names[name] = true
	}
	return n
}

// timeZone loads the IANA time zone.
func timeZone(name string, fail func(key, format string, args ...any)) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" || name == "Local" {
		fail("time_zone", "must be a name of the IANA time zone database, such as Europe/Berlin or UTC")
		return time.UTC
	}
	return zone
}

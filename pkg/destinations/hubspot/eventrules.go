package hubspot

import (
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/filters"
)

// EventPropertiesSettings are what stands under `events.properties:`. Names are HubSpot's.
type EventPropertiesSettings struct {
	Map    map[string]string `yaml:"map"`    // property: where its value comes from; an expression as in filters
	Only   []string          `yaml:"only"`   // send no others
	Except []string          `yaml:"except"` // never send these
}

// Words of events.anonymous.
const (
	anonymousSkip = "skip"
	anonymousUTK  = "utk"
)

// excludedReason is why events are skipped of which the settings make no custom events.
const excludedReason = "excluded event type"

// eventRules is how events become custom events, compiled from the settings.
type eventRules struct {
	hubID      string
	mapped     byType[mappedEvent]
	only       byType[bool]
	except     byType[bool]
	targets    map[string]bool // the names in mapped: chosen by the operator, so no client can make more of them
	named      map[string]bool // of events.define: made in any case
	create     bool
	visitors   bool // those of whom nothing but the visitor's token is known are sent, too
	properties eventProperties
	zone       *time.Location // whose calendar days dates are
}

// eventProperties is the compiled policy of event properties.
type eventProperties struct {
	only        map[string]bool
	except      map[string]bool
	expressions *expressions
}

// excluded says whether the property is never sent.
func (p *eventProperties) excluded(name string) bool {
	return p.except[name] || len(p.only) > 0 && !p.only[name]
}

// byType finds what is said of an event type: exactly as it is written first, then trimmed and in any case.
type byType[V comparable] struct {
	exact, folded map[string]V
}

func foldType(eventType string) string { return strings.ToLower(strings.TrimSpace(eventType)) }

func (t *byType[V]) add(eventType string, v V) {
	if t.exact == nil {
		t.exact, t.folded = map[string]V{}, map[string]V{}
	}
	t.exact[eventType] = v
	if known, ok := t.folded[foldType(eventType)]; ok && known != v {
		var none V // two that differ in nothing but case: neither is meant by a third
		v = none
	}
	t.folded[foldType(eventType)] = v
}

// find returns the zero value for a type of which nothing is said.
func (t *byType[V]) find(eventType string) V {
	v, ok := t.exact[eventType]
	if !ok && len(t.folded) > 0 {
		v = t.folded[foldType(eventType)]
	}
	return v
}

func (t *byType[V]) empty() bool { return len(t.exact) == 0 }

// excluded says whether no custom event is made of events of the type.
func (r *eventRules) excluded(eventType string) bool {
	return !r.only.empty() && !r.only.find(eventType) || !r.except.empty() && r.except.find(eventType)
}

// mappedEvent is what events.map makes of an event type.
type mappedEvent struct {
	name  string // short, in HubSpot
	label string // the type as the settings write it
}

// name is the short name of an event type's definition, and its label. Some clients say the name as HubSpot lists it: pe{hub}_signed_up.
func (r *eventRules) name(eventType string) (name, text string) {
	if !r.mapped.empty() {
		if m := r.mapped.find(eventType); m.name != "" {
			return m.name, m.label
		}
	}
	name = shortName(eventType, r.hubID)
	if eventType == "" {
		eventType = unknownEvent
	}
	return name, label(eventType, name, maxEventLabel)
}

// eventInternalName is what HubSpot takes as the short name of an event, and as that of an event's property.
var eventInternalName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,49}$`)

// qualifiedName parts a name as HubSpot lists it: pe20546336_signed_up.
var qualifiedName = regexp.MustCompile(`^(?i)pe([0-9]+)_(.*)$`)

// compile checks the settings and makes the rules.
func (set *Settings) compileEvents(s config.Settings, o filters.Options, zone *time.Location, log *slog.Logger) (*eventRules, config.Problems) {
	var problems config.Problems
	fail := func(key, format string, args ...any) { problems = append(problems, s.Problem(key, format, args...)) }
	r := set.Events.compile(string(set.HubID), func(key, format string, args ...any) { fail("events."+key, format, args...) })
	r.zone = zone
	r.properties.expressions = compileExpressions("events.properties.map", set.Events.Properties.Map, o, log, fail)
	return r, problems
}

func (set *EventsSettings) compile(hubID string, fail func(key, format string, args ...any)) *eventRules {
	r := &eventRules{
		hubID: hubID, targets: map[string]bool{}, named: map[string]bool{}, create: set.Create, visitors: set.Anonymous == anonymousUTK,
	}
	if set.Anonymous != anonymousSkip && set.Anonymous != anonymousUTK {
		fail("anonymous", "must be %s or %s", anonymousSkip, anonymousUTK)
	}
	set.compileTypes(r, fail)
	for _, eventType := range slices.Sorted(maps.Keys(set.Map)) {
		key := "map." + eventType
		name, err := mappedName(set.Map[eventType], hubID)
		switch {
		case strings.TrimSpace(eventType) == "":
			fail("map", "an event type is empty")
		case err != nil:
			fail(key, "%v", err)
		case eventType == identifyType:
			fail(key, "events of this type describe a person: they are contacts, never custom events")
		case r.excluded(eventType):
			fail(key, "no custom event is made of this type: see only and except")
		default:
			r.mapped.add(eventType, mappedEvent{name, label(eventType, name, maxEventLabel)})
			r.targets[name] = true
		}
	}
	for _, name := range set.Define {
		r.named[shortName(name, hubID)] = true
	}
	r.properties = set.Properties.compile(fail)
	return r
}

// compileTypes takes the event types that are sent, and those that are not.
func (set *EventsSettings) compileTypes(r *eventRules, fail func(key, format string, args ...any)) {
	for _, list := range [...]struct {
		key   string
		types []string
		into  *byType[bool]
	}{{"only", set.Only, &r.only}, {"except", set.Except, &r.except}} {
		for _, eventType := range list.types {
			switch {
			case strings.TrimSpace(eventType) == "":
				fail(list.key, "an event type is empty")
			case eventType == identifyType && list.key == "only":
				fail(list.key, "%s describes a person: it is a contact, never a custom event", identifyType)
			case list.key == "except" && r.only.find(eventType):
				fail(list.key, "%s stands under only as well", shorten(eventType))
			}
			list.into.add(eventType, true)
		}
	}
}

// mappedName is the short name of a name in events.map, which may be qualified.
func mappedName(name, hubID string) (string, error) {
	short := name
	if parts := qualifiedName.FindStringSubmatch(name); parts != nil {
		if parts[1] != hubID {
			return "", fmt.Errorf("%s is an event of the HubSpot account %s, hub_id is %s", shorten(name), parts[1], hubID)
		}
		short = parts[2]
	}
	if !eventInternalName.MatchString(short) {
		text := "is not the name of an event: lower-case letters, digits and _, a letter first, at most 50"
		if clean := eventName(short); short != "" && clean != short && clean != unknownEvent {
			text += "; is it " + clean + "?"
		}
		return "", fmt.Errorf("%q %s", shorten(name), text)
	}
	return short, nil
}

// compile checks the settings and makes the policy.
func (set *EventPropertiesSettings) compile(fail func(key, format string, args ...any)) eventProperties {
	bad := func(name string) string {
		text := "is not the name of an event property: lower-case letters, digits and _, a letter first, at most 50"
		if clean := eventName(name); clean != name && clean != unknownEvent {
			text += "; is it " + clean + "?"
		}
		return shorten(name) + " " + text
	}
	p := eventProperties{only: map[string]bool{}, except: map[string]bool{}, expressions: &expressions{}}
	for _, list := range [...]struct {
		key   string
		names []string
		into  map[string]bool
	}{{"properties.only", set.Only, p.only}, {"properties.except", set.Except, p.except}} {
		for _, name := range list.names {
			switch {
			case !eventInternalName.MatchString(name):
				fail(list.key, "%s", bad(name))
			case list.into[name]:
				fail(list.key, "%s stands here twice", name)
			case list.key == "properties.except" && p.only[name]:
				fail(list.key, "%s stands under only as well", name)
			}
			list.into[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(set.Map)) {
		key := "properties.map." + name
		switch {
		case !eventInternalName.MatchString(name):
			fail(key, "%s", bad(name))
		case p.excluded(name):
			fail(key, "is never sent: see only and except")
		}
	}
	return p
}

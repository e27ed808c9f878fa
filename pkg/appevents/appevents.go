// Package appevents makes of an app's events what destinations understand: writes of contacts, and custom events.
//
//	{"name","payload"} ─ Check: name, schema ─▶ log ─▶ sorter ─ Transform: steps ─▶ user_identify with traits, custom event with properties ─▶ destination
//
// Check holds a payload against the JSON Schema of its event when it comes; the steps are run when it is sorted, for destinations that deliver to accounts of the app.
package appevents

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

const (
	// maxName is the longest name of an event, in bytes.
	maxName = 100
	// maxSteps is how many steps an event may have.
	maxSteps = 20
	// maxViolations is how many violations of a schema are told.
	maxViolations = 20
)

// Set are the events of one app. It is read-only, and may be shared.
type Set struct {
	app    config.App
	events map[string]*definition
	names  []string // in the order of the file
}

// definition is one event.
type definition struct {
	schema *schema // nil: any object
	steps  []stepSource
}

type eventSettings struct {
	Schema  config.Settings `yaml:"schema"`
	Example config.Settings `yaml:"example"`
	Steps   []stepSettings  `yaml:"steps"`
}

type stepSettings struct {
	To         string            `yaml:"to"`
	When       config.Text       `yaml:"when"`
	Name       string            `yaml:"name"`
	Properties map[string]string `yaml:"properties"`
}

// New checks the events of an app and compiles their schemas. Its error is a [config.Problems]; warnings are about what works but is hardly meant.
func New(app config.App) (set *Set, warnings config.Problems, err error) {
	set = &Set{app: app, events: map[string]*definition{}}
	var problems config.Problems
	section := app.AppEvents
	if shape := section.Shape(); shape != config.Nothing && shape != config.Map {
		return nil, nil, config.Problems{section.Problem("", "must be a map from the names of events to their settings")}
	}
	for _, m := range section.Members() {
		c := compiler{app: app, section: m.Value, name: m.Key}
		set.events[m.Key] = c.event()
		set.names = append(set.names, m.Key)
		problems, warnings = append(problems, c.problems...), append(warnings, c.warnings...)
	}
	return set, warnings, problems.Sorted().Err()
}

// Has says whether there are any events.
func (s *Set) Has() bool { return len(s.events) > 0 }

// Same says whether another app has the same events.
func (s *Set) Same(o config.App) bool {
	return s.app.Name == o.Name && s.app.AppEvents.Same(o.AppEvents) && maps.Equal(s.app.Schemas, o.Schemas)
}

// Names are the names of the events, in the order of the file.
func (s *Set) Names() []string { return slices.Clone(s.names) }

// compiler compiles one event.
type compiler struct {
	app                config.App
	section            config.Settings
	name               string
	example            *event.Event // an event with the example as its payload; nil: there is none
	problems, warnings config.Problems
}

func (c *compiler) fail(key, format string, args ...any) {
	c.problems = append(c.problems, c.section.Problem(key, format, args...))
}

func (c *compiler) event() *definition {
	switch {
	case strings.TrimSpace(c.name) != c.name || c.name == "" || len(c.name) > maxName:
		c.fail("", "a name has 1 to %d bytes, and no space at its ends", maxName)
	case strings.ContainsFunc(c.name, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }):
		c.fail("", "a name must be printable")
	}
	if c.section.Shape() != config.Map {
		c.fail("", "must hold keys with values: schema or example, and steps")
		return &definition{}
	}
	var set eventSettings
	if err := c.section.Decode(&set); err != nil {
		problems, ok := err.(config.Problems) //nolint:errorlint // Decode returns them as they are
		if !ok {
			problems = config.Problems{c.section.Problem("", "%v", err)}
		}
		c.problems = append(c.problems, problems...)
	}
	d := &definition{schema: c.schema(set)}
	steps := c.stepSections()
	if len(steps) > maxSteps {
		c.fail("steps", "has %d steps, at most %d are taken", len(steps), maxSteps)
	}
	for i := range min(len(steps), len(set.Steps)) {
		d.steps = append(d.steps, c.step(steps[i], set.Steps[i]))
	}
	return d
}

// stepSections are the places of the steps.
func (c *compiler) stepSections() []config.Settings {
	for _, m := range c.section.Members() {
		if m.Key == "steps" {
			return m.Value.Items()
		}
	}
	return nil
}

// schema compiles what the payload is held against; nil: nothing.
func (c *compiler) schema(set eventSettings) *schema {
	has, hasExample := set.Schema.Shape() != config.Nothing, set.Example.Shape() != config.Nothing
	var text []byte
	var err error
	at := "schema"
	switch {
	case has && hasExample:
		c.fail("example", "stands beside schema: one of the two says what a payload is")
		return nil
	case has && set.Schema.Shape() == config.Single:
		text = []byte(c.app.Schemas[set.Schema.Text()])
		if len(text) == 0 {
			return nil // it could not be read, which is said
		}
	case has:
		text, err = set.Schema.JSON()
	case hasExample:
		at = "example"
		if set.Example.Shape() != config.Map {
			c.fail(at, "must be an object, as a payload is")
			return nil
		}
		if text, err = set.Example.JSON(); err == nil {
			c.example = &event.Event{Source: event.AppSource, APIKey: event.AppPrefix + c.app.Name, JSON: fmt.Appendf(nil,
				`{"event_type":%s,"app":%q,"account":"a1","utc_time":"2026-11-22T12:00:00Z","payload":%s,"name":%[1]s}`, event.AppendString(nil, c.name), c.app.Name, text)}
			text, err = inferred(text)
		}
	default:
		return nil
	}
	if err != nil {
		c.fail(at, "%v", err)
		return nil
	}
	s, err := newSchema(text)
	if err != nil {
		c.fail(at, "%v", err)
	}
	return s
}

// optionsFor are those of expressions; the names are of a destination.
func optionsFor(name, typ string) filters.Options {
	return filters.Options{Destination: name, Type: typ}
}

// unknown is the violation for a name that no event has.
func (s *Set) unknown(name string) string {
	var near string
	folded := make([]string, len(s.names))
	for i, n := range s.names {
		folded[i] = strings.ToLower(n)
	}
	if best := config.Nearest(strings.ToLower(name), folded); best != "" {
		near = s.names[slices.Index(folded, best)]
	}
	switch {
	case len(s.names) == 0:
		return "the app has no events: see app_events"
	case near != "":
		return fmt.Sprintf("is the name of no event of the app; is it %q?", near)
	}
	return "is the name of no event of the app"
}

package appevents

import (
	"fmt"
	"strconv"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// identifyType is the type of events that describe a person.
const identifyType = "user_identify"

// Next is a transform that takes what the steps have made; package filters has one.
type Next interface {
	Eval(ev *event.Event, w filters.World) (outputs []filters.Output, why string, err error)
	UsesKV() bool
}

// Transform makes of the events of an app what their steps say, and hands that on to the destination's own transform, as it does with all other events. It is not for
// concurrent use.
type Transform struct {
	app     string
	events  map[string][]step
	id      string // the property that identifies contacts
	choices func(account string) destinations.Choices
	next    Next
}

// step is one step, compiled.
type step struct {
	contact    bool
	name       string
	when       *filters.Value // nil: always
	properties []compiled
}

type compiled struct {
	name  string
	value *filters.Value
}

// For is the destination that a [Transform] is for.
type For struct {
	Name, Type string
	IDProperty string // that identifies contacts; "": email
	// Choices are what an account has switched off; nil: nothing.
	Choices func(account string) destinations.Choices
	// Next is the destination's own transform; nil: none.
	Next Next
}

// Transform compiles the steps for a destination. The set was made without an error.
func (s *Set) Transform(o For) *Transform {
	t := &Transform{app: s.app.Name, events: map[string][]step{}, id: o.IDProperty, choices: o.Choices, next: o.Next}
	must := func(source string) *filters.Value {
		v, err := filters.CompileValue(source, optionsFor(o.Name, o.Type))
		if err != nil {
			panic("BUG: an expression that was checked does not compile: " + err.Error())
		}
		return v
	}
	for name, d := range s.events {
		steps := make([]step, len(d.steps))
		for i, src := range d.steps {
			steps[i] = step{contact: src.to == toContact, name: src.name}
			if src.when != "" {
				steps[i].when = must(src.when)
			}
			for _, p := range src.properties {
				steps[i].properties = append(steps[i].properties, compiled{p.name, must(p.source)})
			}
		}
		t.events[name] = steps
	}
	return t
}

// Next returns the destination's own transform; nil: none.
func (t *Transform) Next() Next { return t.next }

// UsesKV says whether the destination's own transform may reach World.KV.
func (t *Transform) UsesKV() bool { return t.next != nil && t.next.UsesKV() }

// Eval runs the steps on an event of the app, and the destination's own transform on what comes of them and on all other events. An error made by [destinations.Skip] says why
// the event is not for the destination.
func (t *Transform) Eval(ev *event.Event, w filters.World) (outputs []filters.Output, why string, err error) {
	if ev.App() != t.app {
		return t.further(nil, ev, w)
	}
	name := ev.Type()
	if t.choices != nil && t.choices(ev.Account).AppEvents[name] {
		return nil, "", destinations.Skip("switched off by the account")
	}
	steps, known := t.events[name]
	switch {
	case !known:
		return nil, "", destinations.Skip("the app has no such event any more")
	case len(steps) == 0:
		return nil, "the app event has no steps", nil
	}
	made, err := t.run(ev, steps)
	if err != nil {
		return nil, "", err
	}
	for _, out := range made {
		if outputs, why, err = t.further(outputs, out, w); err != nil {
			return nil, "", err
		}
	}
	switch {
	case len(outputs) > 0:
		return outputs, "", nil
	case len(made) == 0:
		why = "no step of the app event applies"
	}
	return nil, why, nil
}

// further appends what the destination's own transform makes of an event.
func (t *Transform) further(outputs []filters.Output, ev *event.Event, w filters.World) ([]filters.Output, string, error) {
	if t.next == nil {
		return append(outputs, filters.Output{Event: ev}), "", nil
	}
	more, why, err := t.next.Eval(ev, w)
	return append(outputs, more...), why, err
}

// run makes the events of those steps that apply.
func (t *Transform) run(ev *event.Event, steps []step) (made []*event.Event, err error) {
	view := filters.NewView(ev)
	person, err := t.person(view, steps)
	if err != nil {
		return nil, err
	}
	for i := range steps {
		s := &steps[i]
		if s.when != nil {
			v, err := s.when.Eval(view)
			if err != nil {
				return nil, fmt.Errorf("steps[%d].when: %w", i, err)
			}
			if !holds(v) {
				continue
			}
		}
		out, err := t.output(ev, view, i, s, person)
		if err != nil {
			return nil, err
		}
		made = append(made, out)
	}
	return made, nil
}

// holds says whether a condition does: it is there, and is not false, 0, null, or a text that is empty or says false or null.
func holds(v gjson.Result) bool {
	switch v.Type {
	case gjson.True, gjson.JSON:
		return true
	case gjson.Number:
		return v.Num != 0
	case gjson.String:
		return v.Str != "" && v.Str != "false" && v.Str != "null"
	}
	return false
}

// identity are the values by which a person is known, as JSON; "" where there is none.
type identity struct{ email, id string }

// person is whom the contact steps name: the first one that says it. Their conditions do not matter, for an event may happen to a contact that is not to be written.
func (t *Transform) person(view *filters.View, steps []step) (who identity, err error) {
	for i := range steps {
		if !steps[i].contact {
			continue
		}
		for _, p := range steps[i].properties {
			into := who.of(p.name, t.id)
			if into == nil || *into != "" {
				continue
			}
			v, err := p.value.Eval(view)
			if err != nil {
				return who, fmt.Errorf("steps[%d].properties.%s: %w", i, p.name, err)
			}
			if v.Exists() && v.Type != gjson.Null {
				*into = v.Raw
			}
		}
	}
	return who, nil
}

// of is the place of a property that identifies; nil for any other.
func (who *identity) of(property, id string) *string {
	switch property {
	case emailProperty:
		return &who.email
	case id:
		return &who.id
	}
	return nil
}

// output makes the event of one step. It is known by the step's place, whichever other steps apply.
func (t *Transform) output(ev *event.Event, view *filters.View, i int, s *step, person identity) (*event.Event, error) {
	var members, user []byte
	var own identity
	for _, p := range s.properties {
		v, err := p.value.Eval(view)
		if err != nil {
			return nil, fmt.Errorf("steps[%d].properties.%s: %w", i, p.name, err)
		}
		if !v.Exists() {
			continue
		}
		into := own.of(p.name, t.id)
		switch {
		case s.contact:
			user = appendMember(user, p.name, v.Raw)
		case into != nil:
			*into = v.Raw
		default:
			members = appendMember(members, p.name, v.Raw)
		}
	}
	typ := identifyType
	if !s.contact {
		typ = s.name
		if own == (identity{}) {
			own = person
		}
		if own.email != "" {
			user = appendMember(user, emailProperty, own.email)
		}
		if own.id != "" {
			user = appendMember(user, t.id, own.id)
		}
	}
	json := event.AppendString([]byte(`{"event_type":`), typ)
	if at := gjson.GetBytes(ev.JSON, "utc_time"); at.Exists() {
		json = append(append(json, `,"utc_time":`...), at.Raw...)
	}
	if len(members) > 0 {
		json = append(append(json, ','), members...)
	}
	json = append(append(append(json, `,"user":{`...), user...), "}}"...)

	out := *ev
	out.JSON, out.Email, out.AnonymousHash = json, "", ""
	// What is written, and how events are called, stands in the configuration: no browser has chosen it.
	out.Server = true
	if i > 0 {
		out.ID += "_" + strconv.Itoa(i)
	}
	return &out, nil
}

func appendMember(dst []byte, name, raw string) []byte {
	if len(dst) > 0 {
		dst = append(dst, ',')
	}
	return append(append(event.AppendString(dst, name), ':'), raw...)
}

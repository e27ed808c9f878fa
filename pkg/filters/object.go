package filters

import (
	"math"
	"slices"
	"strings"

	"github.com/dop251/goja"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// object is a JSON object as scripts see it. Its members are found when the script first asks for one, and only those that it
// reads become values of the engine: a filter on two fields of an event with fifty should pay for two. What the script
// writes stays in here; the event does not change.
type object struct {
	space   *space
	json    string
	members []member // in the order of json, then of writing
	read    bool     // members holds what json does

	places map[string]int // of keys in members, when there are too many to look through; nil when out of date
}

// manyMembers is from how many on a map finds a member faster than looking at each. Without one, copying an event of
// thousands of members would take seconds, in engine code that nothing interrupts.
const manyMembers = 64

// member is a member of an object. One of the event has its JSON, and a value when the script asked for it; one that the script wrote has only a value.
type member struct {
	key    string
	rawKey string // as the event has it; "" when the script wrote it
	cell
	shared *cell // in place of the above, when a copy of the object has it as well; nil: it has not
}

// cell is what a member holds.
type cell struct {
	json  string
	value goja.Value
}

// in returns what m holds.
func (m *member) in() *cell {
	if m.shared != nil {
		return m.shared
	}
	return &m.cell
}

// share returns m for a copy of its object. What the two hold is one thing, as in JavaScript, without a look into it: a text or a number cannot be told
// from another, so only objects and arrays need to be shared.
func (m *member) share() member {
	if m.shared == nil && (m.json == "" || m.json[0] == '{' || m.json[0] == '[') {
		m.shared = &cell{m.json, m.value}
	}
	return *m
}

// space is where the values of one event live.
type space struct {
	runtime *goja.Runtime
	// numbers are those that the engine would print in another way than the event has them: beyond 53 bits it rounds. Nil: nobody wants to know.
	// Two that it takes for one have "".
	numbers map[float64]string
	// lists are the arrays of the event that the script asked for.
	lists map[*goja.Object]list
	// hidden is the name of members that objects of the event do not show: who sends an event must not say by it what only the script may. "": none.
	hidden string
}

// list is an array as the event has it.
type list struct {
	json   []string
	values []any
}

// value makes a JSON value one of the engine. Arrays are real ones, so that all their methods work.
func (s *space) value(v gjson.Result) goja.Value {
	rt := s.runtime
	switch {
	case v.IsObject():
		return rt.NewDynamicObject(&object{space: s, json: v.Raw})
	case v.IsArray():
		var of list
		v.ForEach(func(_, e gjson.Result) bool {
			of.values = append(of.values, s.value(e))
			if s.lists != nil {
				of.json = append(of.json, e.Raw)
			}
			return true
		})
		array := rt.NewArray(of.values...)
		if s.lists != nil {
			s.lists[array] = of
		}
		return array
	case v.Type == gjson.String:
		return scriptText(rt, v)
	case v.Type == gjson.Number:
		s.keep(v)
		return rt.ToValue(v.Num)
	case v.Type == gjson.Null:
		return goja.Null()
	default:
		return rt.ToValue(v.Type == gjson.True)
	}
}

// keep remembers how the event writes a number. One that is whole and not large is not worth it: 1.0 should not be how a script's own 1 comes out.
func (s *space) keep(v gjson.Result) {
	if s.numbers == nil || len(v.Raw) <= maxExactDigits && !strings.ContainsAny(v.Raw, ".eE") || v.Num == math.Trunc(v.Num) && math.Abs(v.Num) < 1<<53 {
		return
	}
	if raw, ok := s.numbers[v.Num]; ok && raw != v.Raw {
		s.numbers[v.Num] = ""
		return
	}
	s.numbers[v.Num] = v.Raw
}

// maxExactDigits is how many digits a whole number may have to be exact as a float64, whatever they are.
const maxExactDigits = 15

func (o *object) readMembers() {
	if o.read {
		return
	}
	o.read = true
	event.Members(o.json, func(key, rawKey, raw string) bool {
		if o.space.hidden != "" && key == o.space.hidden {
			return true
		}
		o.members = append(o.members, member{key: key, rawKey: rawKey, cell: cell{json: raw}})
		return true
	})
}

func (o *object) index(key string) int {
	o.readMembers()
	if len(o.members) < manyMembers {
		return slices.IndexFunc(o.members, func(m member) bool { return m.key == key })
	}
	if o.places == nil {
		o.places = make(map[string]int, len(o.members))
		for i := range o.members {
			o.places[o.members[i].key] = i
		}
	}
	if i, ok := o.places[key]; ok {
		return i
	}
	return -1
}

// Get returns the member as a value of the engine, nil when there is none.
func (o *object) Get(key string) goja.Value {
	i := o.index(key)
	if i < 0 {
		return nil
	}
	in := o.members[i].in()
	if in.value == nil {
		in.value = o.space.value(gjson.Parse(in.json))
	}
	return in.value
}

// Set writes a member of this object alone.
func (o *object) Set(key string, v goja.Value) bool {
	if v == nil { // Object.defineProperty without a value
		v = goja.Undefined()
	}
	if i := o.index(key); i >= 0 && unchanged(v, o.members[i].in().value) {
		return true // and it stays as the event writes it
	}
	o.put(member{key: key, cell: cell{value: v}})
	return true
}

// put makes m a member, in the place of one with its key.
func (o *object) put(m member) {
	if i := o.index(m.key); i >= 0 {
		m.rawKey = o.members[i].rawKey
		o.members[i] = m
		return
	}
	o.members = append(o.members, m)
	if o.places != nil {
		o.places[m.key] = len(o.members) - 1
	}
}

// copy returns an object with the same members.
func (o *object) copy() *object {
	o.readMembers()
	c := &object{space: o.space, read: true, members: make([]member, len(o.members), len(o.members)+4)}
	for i := range o.members {
		c.members[i] = o.members[i].share()
	}
	return c
}

// Has tells whether the object has the member.
func (o *object) Has(key string) bool { return o.index(key) >= 0 }

// Delete removes the member; one that is not there is no failure.
func (o *object) Delete(key string) bool {
	if i := o.index(key); i >= 0 {
		o.members = slices.Delete(o.members, i, i+1)
		o.places = nil
	}
	return true
}

// Keys lists the members in their order.
func (o *object) Keys() []string {
	o.readMembers()
	keys := make([]string, len(o.members))
	for i := range o.members {
		keys[i] = o.members[i].key
	}
	return keys
}

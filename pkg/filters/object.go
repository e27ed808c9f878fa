package filters

import (
	"slices"
	"strings"

	"github.com/dop251/goja"
	"github.com/tidwall/gjson"
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

type member struct {
	key   string
	json  string
	value goja.Value // nil until it is asked for
}

// space is where the values of one event live.
type space struct {
	runtime *goja.Runtime
	// numbers are those that the engine would print in another way than the event has them: beyond 53 bits it rounds. Nil: nobody wants to know.
	// Two that it takes for one have "".
	numbers map[float64]string
}

// value makes a JSON value one of the engine. Arrays are real ones, so that all their methods work.
func (s *space) value(v gjson.Result) goja.Value {
	rt := s.runtime
	switch {
	case v.IsObject():
		return rt.NewDynamicObject(&object{space: s, json: v.Raw})
	case v.IsArray():
		var elements []any
		v.ForEach(func(_, e gjson.Result) bool {
			elements = append(elements, s.value(e))
			return true
		})
		return rt.NewArray(elements...)
	case v.Type == gjson.String:
		return rt.ToValue(v.Str)
	case v.Type == gjson.Number:
		s.keep(v)
		return rt.ToValue(v.Num)
	case v.Type == gjson.Null:
		return goja.Null()
	default:
		return rt.ToValue(v.Type == gjson.True)
	}
}

// keep remembers how the event writes a number.
func (s *space) keep(v gjson.Result) {
	if s.numbers == nil || len(v.Raw) <= maxExactDigits && !strings.ContainsAny(v.Raw, ".eE") {
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
	gjson.Parse(o.json).ForEach(func(k, v gjson.Result) bool {
		o.members = append(o.members, member{key: k.Str, json: v.Raw})
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
	m := &o.members[i]
	if m.value == nil {
		m.value = o.space.value(gjson.Parse(m.json))
	}
	return m.value
}

// Set writes a member of this object alone.
func (o *object) Set(key string, v goja.Value) bool {
	if v == nil { // Object.defineProperty without a value
		v = goja.Undefined()
	}
	if i := o.index(key); i >= 0 {
		o.members[i].value = v
		return true
	}
	o.members = append(o.members, member{key: key, value: v})
	if o.places != nil {
		o.places[key] = len(o.members) - 1
	}
	return true
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

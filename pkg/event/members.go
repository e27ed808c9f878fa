package event

import (
	"strings"

	"github.com/tidwall/gjson"
)

// member is one member of a JSON object, as it is written there.
type member struct {
	key    string // unescaped
	rawKey string // with its quotes
	raw    string // the value; "": there is no such member
}

func (m member) is() bool { return m.raw != "" }

// Members calls f for each member of a valid JSON object, and not at all for another value: with its key, with the key as it stands there, in its quotes, and with the value
// as it stands there. When f returns false there are no more calls. It does not look into the values: that is the larger part of what gjson does for this.
func Members(json string, f func(key, rawKey, raw string) bool) {
	for s, ok := firstSpan(json); ok; s, ok = nextSpan(json, s.end) {
		rawKey := json[s.key:s.keyEnd]
		if !f(unquote(rawKey), rawKey, json[s.value:s.end]) {
			return
		}
	}
}

// span is where in the JSON of its object a member stands. It has no pointers: there are many spans, and the garbage collector need not look at them.
type span struct {
	key, keyEnd, value, end int
}

// firstSpan finds the first member of an object; false for an empty one and for other values.
func firstSpan(json string) (span, bool) {
	i := skipSpace(json, 0)
	if i >= len(json) || json[i] != '{' {
		return span{}, false
	}
	return spanAt(json, i+1)
}

// nextSpan finds the member behind the one that ends at end.
func nextSpan(json string, end int) (span, bool) {
	i := skipSpace(json, end)
	if i >= len(json) || json[i] != ',' {
		return span{}, false
	}
	return spanAt(json, i+1)
}

func spanAt(json string, i int) (s span, ok bool) {
	if s.key = skipSpace(json, i); s.key >= len(json) || json[s.key] != '"' {
		return s, false // the end, or no JSON
	}
	s.keyEnd = skipString(json, s.key)
	if i = skipSpace(json, s.keyEnd); i >= len(json) || json[i] != ':' {
		return s, false
	}
	s.value = skipSpace(json, i+1)
	s.end = skipValue(json, s.value)
	return s, true
}

// unquote returns what a JSON string says.
func unquote(raw string) string {
	if strings.IndexByte(raw, '\\') >= 0 {
		return gjson.Parse(raw).Str
	}
	return raw[1:max(len(raw)-1, 1)]
}

func skipSpace(json string, i int) int {
	for i < len(json) && (json[i] == ' ' || json[i] == '\t' || json[i] == '\n' || json[i] == '\r') {
		i++
	}
	return i
}

// skipValue returns where the value that begins at at ends.
func skipValue(json string, at int) int {
	if at >= len(json) {
		return at
	}
	switch json[at] {
	case '"':
		return skipString(json, at)
	case '{', '[':
		return skipNested(json, at)
	}
	for at < len(json) && json[at] > ' ' && json[at] != ',' && json[at] != '}' && json[at] != ']' {
		at++
	}
	return at
}

// skipString returns where the string that begins at at ends, behind its closing quote.
func skipString(json string, at int) int {
	for start := at + 1; ; {
		n := strings.IndexByte(json[at+1:], '"')
		if n < 0 {
			return len(json)
		}
		if at += n + 1; json[at-1] != '\\' || at > start && !escapes(json[start:at]) {
			return at + 1
		}
	}
}

// escapes says whether the backslashes at the end of text escape what follows.
func escapes(text string) bool { return (len(text)-len(strings.TrimRight(text, `\`)))%2 == 1 }

// nesting is what skipNested stops at.
var nesting = [256]int8{'"': 2, '{': 1, '[': 1, '}': -1, ']': -1}

// skipNested returns where the object or array that begins at at ends.
func skipNested(json string, at int) int {
	depth := 0
	for at < len(json) {
		switch n := nesting[json[at]]; n {
		case 0:
			at++
		case 2:
			at = skipString(json, at)
		default:
			at++
			if depth += int(n); depth == 0 {
				return at
			}
		}
	}
	return len(json)
}

// object is the members of an object, found by key.
type object struct {
	json    string
	members []span
	next    int            // the member after the one that was found last: two objects are mostly in the same order
	places  map[string]int // of many members; nil until it is needed
	there   bool           // it is an object at all
	escaped bool           // some of its keys are
}

// manyMembers is from how many on a map finds a member faster than looking at each.
const manyMembers = 64

// read makes o the object that json is; none, when it is another value.
func (o *object) read(json string) {
	*o = object{json: json, members: o.members[:0], there: strings.HasPrefix(json[skipSpace(json, 0):], "{")}
	for s, ok := firstSpan(json); ok; s, ok = nextSpan(json, s.end) {
		o.members = append(o.members, s)
		o.escaped = o.escaped || strings.IndexByte(json[s.key:s.keyEnd], '\\') >= 0
	}
}

// forget drops the JSON and keeps the space, unless that is large.
func (o *object) forget() {
	*o = object{members: o.members[:0]}
	if cap(o.members) > 4*manyMembers {
		o.members = nil
	}
}

// at returns a member by its place.
func (o *object) at(i int) member {
	s := &o.members[i]
	rawKey := o.json[s.key:s.keyEnd]
	return member{key: unquote(rawKey), rawKey: rawKey, raw: o.json[s.value:s.end]}
}

// is says whether the member at that place has that key.
func (o *object) is(i int, key string) bool {
	rawKey := o.json[o.members[i].key:o.members[i].keyEnd]
	if len(rawKey) == len(key)+len(`""`) {
		return rawKey[1:len(rawKey)-1] == key && !(o.escaped && strings.IndexByte(key, '\\') >= 0)
	}
	return o.escaped && unquote(rawKey) == key
}

// find returns the member of that key, or none.
func (o *object) find(key string) member {
	if o.next < len(o.members) && o.is(o.next, key) {
		o.next++
		return o.at(o.next - 1)
	}
	i := o.place(key)
	if i < 0 {
		return member{}
	}
	o.next = i + 1
	return o.at(i)
}

// place returns where the member of that key stands, -1 when there is none.
func (o *object) place(key string) int {
	if len(o.members) < manyMembers {
		for i := len(o.members) - 1; i >= 0; i-- { // should a name stand twice, the last counts
			if o.is(i, key) {
				return i
			}
		}
		return -1
	}
	if o.places == nil {
		o.places = make(map[string]int, len(o.members))
		for i := range o.members {
			o.places[o.at(i).key] = i
		}
	}
	if i, ok := o.places[key]; ok {
		return i
	}
	return -1
}

// value returns the JSON of the member of that key, "" when there is none.
func (o *object) value(key string) string { return o.find(key).raw }

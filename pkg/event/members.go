package event

import (
	"strings"

	"github.com/tidwall/gjson"
)

// member is one member of a JSON object, as it is written there.
type member struct {
	key    string // unescaped
	rawKey string // with its quotes
	raw    string // the value
}

// Members calls f for each member of a valid JSON object, and not at all for another value: with its key, with the key as it stands there, in its quotes, and with the value
// as it stands there. When f returns false there are no more calls. It does not look into the values: that is the larger part of what gjson does for this.
func Members(json string, f func(key, rawKey, raw string) bool) {
	i := skipSpace(json, 0)
	if i >= len(json) || json[i] != '{' {
		return
	}
	for {
		i = skipSpace(json, i+1)
		if i >= len(json) || json[i] != '"' {
			return // the end, or no JSON
		}
		start := i
		i = skipString(json, i)
		rawKey := json[start:i]
		i = skipSpace(json, i)
		if i >= len(json) || json[i] != ':' {
			return
		}
		start = skipSpace(json, i+1)
		i = skipValue(json, start)
		if !f(unquote(rawKey), rawKey, json[start:i]) {
			return
		}
		if i = skipSpace(json, i); i >= len(json) || json[i] != ',' {
			return
		}
	}
}

// appendMembers appends the members of an object to list.
func appendMembers(list []member, json string) []member {
	Members(json, func(key, rawKey, raw string) bool {
		list = append(list, member{key, rawKey, raw})
		return true
	})
	return list
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
	members []member
	next    int            // the member after the one that was found last: two objects are mostly in the same order
	places  map[string]int // of many members; nil until it is needed
	there   bool           // it is an object at all
}

// manyMembers is from how many on a map finds a member faster than looking at each.
const manyMembers = 64

// read makes o the object that json is; none, when it is another value.
func (o *object) read(json string) {
	o.members, o.next, o.places = appendMembers(o.members[:0], json), 0, nil
	o.there = strings.HasPrefix(json[skipSpace(json, 0):], "{")
}

// forget drops what o refers to and keeps its space, unless that is large.
func (o *object) forget() {
	clear(o.members)
	*o = object{members: o.members[:0]}
	if cap(o.members) > 4*manyMembers {
		o.members = nil
	}
}

// find returns the member of that key, nil when there is none.
func (o *object) find(key string) *member {
	if o.next < len(o.members) && o.members[o.next].key == key {
		o.next++
		return &o.members[o.next-1]
	}
	i := -1
	if len(o.members) < manyMembers {
		for at := range o.members {
			if o.members[at].key == key {
				i = at
			}
		}
	} else {
		if o.places == nil {
			o.places = make(map[string]int, len(o.members))
			for at := range o.members {
				o.places[o.members[at].key] = at
			}
		}
		if at, ok := o.places[key]; ok {
			i = at
		}
	}
	if i < 0 {
		return nil
	}
	o.next = i + 1
	return &o.members[i]
}

// value returns the JSON of the member of that key, "" when there is none.
func (o *object) value(key string) string {
	if m := o.find(key); m != nil {
		return m.raw
	}
	return ""
}

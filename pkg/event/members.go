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

// appendMembers appends the members of a valid JSON object to list; nothing for another value. It does not look into the values: that is the larger part of what
// gjson does here.
func appendMembers(list []member, json string) []member {
	i := skipSpace(json, 0)
	if i >= len(json) || json[i] != '{' {
		return list
	}
	for {
		i = skipSpace(json, i+1)
		if i >= len(json) || json[i] != '"' {
			return list // the end, or no JSON
		}
		start := i
		i = skipString(json, i)
		rawKey := json[start:i]
		i = skipSpace(json, i)
		if i >= len(json) || json[i] != ':' {
			return list
		}
		start = skipSpace(json, i+1)
		i = skipValue(json, start)
		list = append(list, member{key: unquote(rawKey), rawKey: rawKey, raw: json[start:i]})
		if i = skipSpace(json, i); i >= len(json) || json[i] != ',' {
			return list
		}
	}
}

// unquote returns what a JSON string says.
func unquote(raw string) string {
	if strings.IndexByte(raw, '\\') >= 0 {
		return gjson.Parse(raw).Str
	}
	return strings.Trim(raw, `"`)
}

func skipSpace(json string, i int) int {
	for i < len(json) && (json[i] == ' ' || json[i] == '\t' || json[i] == '\n' || json[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the index behind the string that opens at i.
func skipString(json string, i int) int {
	start := i + 1
	for {
		n := strings.IndexByte(json[i+1:], '"')
		if n < 0 {
			return len(json)
		}
		i += 1 + n
		slashes := 0
		for j := i - 1; j >= start && json[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

// skipValue returns the index behind the value that begins at i.
func skipValue(json string, i int) int {
	depth := 0
	for i < len(json) {
		switch json[i] {
		case '"':
			i = skipString(json, i)
		case '{', '[':
			depth++
			i++
		case '}', ']':
			if depth--; depth < 0 {
				return i
			}
			i++
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			i++
			continue
		}
		if depth == 0 {
			return i
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

package segment

import (
	"bytes"
	"unsafe"

	"github.com/tidwall/gjson"
)

// member is one of an object's: its name as it stands there, quotes included, and without escapes, and its raw value.
type member struct{ rawName, name, value []byte }

// members walks over the members of an object of valid JSON. Anything else has none.
type members struct {
	data []byte
	at   int
}

func membersOf(object []byte) members {
	if !isObject(object) {
		return members{}
	}
	return members{object, 1}
}

// next returns the next member, false after the last one.
func (m *members) next() (member, bool) {
	i := space(m.data, m.at)
	if i < len(m.data) && m.data[i] == ',' {
		i = space(m.data, i+1)
	}
	if i >= len(m.data) || m.data[i] != '"' {
		return member{}, false
	}
	end := stringEnd(m.data, i)
	el := member{rawName: m.data[i:end], name: m.data[i+1 : end-1]}
	if bytes.IndexByte(el.name, '\\') >= 0 { // rare: another spelling, as in "write\u004bey"
		el.name = []byte(gjson.ParseBytes(el.rawName).Str)
	}
	i = space(m.data, end)
	i = space(m.data, i+1) // the colon
	m.at = valueEnd(m.data, i)
	el.value = m.data[i:m.at]
	return el, true
}

// Find returns the raw value of the member of a name of an object of valid JSON, the last one's if there are several; nil if there is none.
func Find(object []byte, name string) []byte {
	var found []byte
	for m := membersOf(object); ; {
		el, ok := m.next()
		if !ok {
			return found
		}
		if string(el.name) == name {
			found = el.value
		}
	}
}

// valueEnd returns the offset after the value at i.
func valueEnd(data []byte, i int) int {
	switch data[i] {
	case '"':
		return stringEnd(data, i)
	case '{', '[':
		for level := 0; ; i++ {
			switch data[i] {
			case '"':
				i = stringEnd(data, i) - 1
			case '{', '[':
				level++
			case '}', ']':
				if level--; level == 0 {
					return i + 1
				}
			}
		}
	}
	for ; i < len(data); i++ {
		switch data[i] {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			return i
		}
	}
	return i
}

// stringEnd returns the offset after the string that begins at i.
func stringEnd(data []byte, i int) int {
	for i++; ; i++ {
		switch data[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
}

// space returns the offset of the first byte from i on that is no white space.
func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

func isObject(raw []byte) bool { return len(raw) > 0 && raw[0] == '{' }

// isText says whether a raw value is a string that is not empty.
func isText(raw []byte) bool { return len(raw) > 2 && raw[0] == '"' }

func isNumber(raw []byte) bool {
	return len(raw) > 0 && (raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9')
}

// isID says whether a raw value identifies anything: a text that is not empty, or a number.
func isID(raw []byte) bool { return isText(raw) || isNumber(raw) }

// text is the text of a raw string.
func text(raw []byte) string {
	if len(raw) < 2 || raw[0] != '"' {
		return ""
	}
	if bytes.IndexByte(raw, '\\') >= 0 {
		return gjson.ParseBytes(raw).Str
	}
	return view(raw[1 : len(raw)-1])
}

// view returns b as a string without a copy. Nothing in this package keeps one longer than the bytes that it was given.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

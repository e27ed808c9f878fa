package ingest

import (
	"bytes"
	"errors"

	"github.com/tidwall/gjson"
)

// maxDepth bounds the nesting of a body. gjson.Valid and the readers after it recurse, and overflow the stack without a bound.
const maxDepth = 128

// errSyntax stops a scan of bytes that are no JSON. What is wrong, and where, is worked out on this slow path alone ([syntaxError]).
var errSyntax = errors.New("malformed JSON")

// depthError is the offset of the bracket that goes deeper than maxDepth.
type depthError int

func (depthError) Error() string { return "too deep" }

// span is a stretch of the scanned bytes; the zero span is none.
type span struct{ from, to int }

func (s span) of(data []byte) []byte { return data[s.from:s.to] }

// element is one event as a single pass over its top level found it.
type element struct {
	span
	ids              [3]span // raw values: eventn_ctx.event_id, eventn_ctx_event_id, event_id
	timed, ctxTimed  bool    // utc_time is a string that is not empty; the same inside eventn_ctx
	template, events span    // raw values of the members of a template body
	sourceIP         span    // raw value
	cuts             span    // of scanner.cuts
}

// scanner finds where things stand in JSON that nobody has checked yet, so that depth and size are known before a
// recursive validator runs. It reads the structure only: what it accepts may still be invalid, what it finds there means nothing then.
type scanner struct {
	data []byte
	cuts []span // the write keys of all elements, in ascending order
}

// field is a member name that ingest looks for.
type field uint8

const (
	other field = iota
	apiKey
	eventID
	flatEventID
	utcTime
	eventnCtx
	template
	events
	sourceIP
)

func fieldOf(name []byte) field {
	switch string(name) {
	case "api_key":
		return apiKey
	case "event_id":
		return eventID
	case "eventn_ctx_event_id":
		return flatEventID
	case "utc_time":
		return utcTime
	case "eventn_ctx":
		return eventnCtx
	case "template":
		return template
	case "events":
		return events
	case "source_ip":
		return sourceIP
	}
	return other
}

// place says which object a member belongs to.
type place uint8

const (
	atTop       place = iota // the event itself
	inCtx                    // its eventn_ctx
	inContainer              // its template, or an element of its events
)

// event scans the object at i into e and returns the offset after it.
func (s *scanner) event(i, depth int, e *element) (int, error) {
	*e = element{span: span{from: i}, cuts: span{from: len(s.cuts)}}
	end, err := s.object(i, depth, atTop, e)
	e.to, e.cuts.to = end, len(s.cuts)
	return end, err
}

// object scans the object at i, whose nesting is depth, notes what of its members ingest needs, and marks write keys to be cut.
func (s *scanner) object(i, depth int, in place, e *element) (int, error) {
	if depth > maxDepth {
		return i, depthError(i)
	}
	comma, kept := 0, false // the last comma; whether a member before it stays
	for i = s.space(i + 1); ; i = s.space(i + 1) {
		if i >= len(s.data) {
			return i, errSyntax
		}
		if s.data[i] == '}' {
			return i + 1, nil
		}
		from := i
		f, i2, err := s.name(i)
		if err != nil {
			return i2, err
		}
		to, err := s.member(i2, depth, in, f, e)
		if err != nil {
			return to, err
		}
		i = s.space(to)
		if i >= len(s.data) || s.data[i] != ',' && s.data[i] != '}' {
			return i, errSyntax
		}
		switch {
		case f != apiKey:
			kept = true
		case kept:
			s.cuts = append(s.cuts, span{comma, to})
		case s.data[i] == ',':
			s.cuts = append(s.cuts, span{from, i + 1})
		default:
			s.cuts = append(s.cuts, span{from, to})
		}
		if s.data[i] == '}' {
			return i + 1, nil
		}
		comma = i
	}
}

// name reads a member's name at i and returns the offset of its value.
func (s *scanner) name(i int) (field, int, error) {
	name, i, err := s.rawName(i)
	return fieldOf(name), i, err
}

// rawName reads a member's name at i, without its escapes, and returns the offset of its value.
func (s *scanner) rawName(i int) (name []byte, value int, err error) {
	if s.data[i] != '"' {
		return nil, i, errSyntax
	}
	end := stringEnd(s.data, i)
	if end < 0 {
		return nil, i, errSyntax
	}
	name = s.data[i+1 : end-1]
	if bytes.IndexByte(name, '\\') >= 0 { // rare: another spelling, as in "api\u005fkey"
		name = []byte(gjson.ParseBytes(s.data[i:end]).Str)
	}
	i = s.space(end)
	if i >= len(s.data) || s.data[i] != ':' {
		return nil, i, errSyntax
	}
	i = s.space(i + 1)
	if i >= len(s.data) {
		return nil, i, errSyntax
	}
	return name, i, nil
}

// member scans the value at i of the member f and returns the offset after it. Of duplicate members the last one counts,
// as in encoding/json and in the sorter.
func (s *scanner) member(i, depth int, in place, f field, e *element) (end int, err error) {
	if in == atTop && (f == eventnCtx || f == template || f == events) {
		where := inContainer
		if f == eventnCtx {
			where, e.ids[0], e.ctxTimed = inCtx, span{}, false
		}
		end, err = s.container(i, depth+1, where, e)
	} else {
		end, err = s.value(i, depth)
	}
	if err != nil {
		return end, err
	}
	v := span{i, end}
	switch {
	case in == inCtx && f == eventID:
		e.ids[0] = v
	case in == inCtx && f == utcTime:
		e.ctxTimed = isText(v.of(s.data))
	case in != atTop:
	case f == flatEventID:
		e.ids[1] = v
	case f == eventID:
		e.ids[2] = v
	case f == utcTime:
		e.timed = isText(v.of(s.data))
	case f == template:
		e.template = v
	case f == events:
		e.events = v
	case f == sourceIP:
		e.sourceIP = v
	}
	return end, nil
}

// container scans the value at i like value, and if it is an object, or an array of objects, their members as well.
func (s *scanner) container(i, depth int, in place, e *element) (int, error) {
	if s.data[i] == '{' {
		return s.object(i, depth, in, e)
	}
	if s.data[i] != '[' || in == inCtx {
		return s.value(i, depth-1)
	}
	for i = s.space(i + 1); ; i = s.space(i + 1) {
		if i >= len(s.data) {
			return i, errSyntax
		}
		if s.data[i] == ']' {
			return i + 1, nil
		}
		var err error
		if s.data[i] == '{' {
			i, err = s.object(i, depth+1, in, e)
		} else {
			i, err = s.value(i, depth)
		}
		if err != nil {
			return i, err
		}
		i = s.space(i)
		if i >= len(s.data) || s.data[i] != ',' && s.data[i] != ']' {
			return i, errSyntax
		}
		if s.data[i] == ']' {
			return i + 1, nil
		}
	}
}

// value returns the offset after the value at i, which stands inside depth containers.
func (s *scanner) value(i, depth int) (int, error) {
	switch s.data[i] {
	case '"':
		end := stringEnd(s.data, i)
		if end < 0 {
			return i, errSyntax
		}
		return end, nil
	case '{', '[':
		return s.nested(i, depth)
	}
	from := i
	for ; i < len(s.data); i++ {
		switch s.data[i] {
		case ',', ']', '}', ' ', '\t', '\n', '\r':
			if i == from {
				return i, errSyntax
			}
			return i, nil
		}
	}
	return i, nil
}

// nested returns the offset after the container at i without looking at what is in it, depth excepted.
func (s *scanner) nested(i, depth int) (int, error) {
	for level := depth; i < len(s.data); i++ {
		switch s.data[i] {
		case '"':
			end := stringEnd(s.data, i)
			if end < 0 {
				return i, errSyntax
			}
			i = end - 1
		case '{', '[':
			if level++; level > maxDepth {
				return i, depthError(i)
			}
		case '}', ']':
			if level--; level == depth {
				return i + 1, nil
			}
		}
	}
	return i, errSyntax
}

// blank writes null over the container at i, of any depth, so that nobody who recurses meets it, and returns the offset after it.
func (s *scanner) blank(i int) (int, error) {
	end, err := s.nested(i, maxDepth-len(s.data)) // there are no more brackets than bytes
	if err == nil {
		n := copy(s.data[i:end], "null")
		for i += n; i < end; i++ {
			s.data[i] = ' '
		}
	}
	return end, err
}

// space returns the offset of the first byte from i on that is no white space.
func (s *scanner) space(i int) int {
	for i < len(s.data) && (s.data[i] == ' ' || s.data[i] == '\n' || s.data[i] == '\t' || s.data[i] == '\r') {
		i++
	}
	return i
}

// shortString is the length from which on a string is searched for its end with bytes.IndexByte, which is faster from there on.
const shortString = 16

// stringEnd returns the offset after the string that begins at i, -1 if it does not end.
func stringEnd(data []byte, i int) int {
	i++
	for short := min(len(data), i+shortString); i < short; i++ {
		switch data[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	for i < len(data) {
		n := bytes.IndexByte(data[i:], '"')
		if n < 0 {
			return -1
		}
		backslashes := 0
		for backslashes < n && data[i+n-1-backslashes] == '\\' {
			backslashes++
		}
		i += n + 1
		if backslashes%2 == 0 { // else the quote is escaped
			return i
		}
	}
	return -1
}

// isText says whether a raw value is a string that is not empty.
func isText(raw []byte) bool { return len(raw) > 2 && raw[0] == '"' }

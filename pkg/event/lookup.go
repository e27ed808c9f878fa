package event

import (
	"slices"
	"strings"
	"unsafe"

	"github.com/tidwall/gjson"
)

// Names are the members of the view's top level that somebody wants to look up. They are read-only and may be shared.
type Names struct {
	names   []string
	kinds   []nameKind
	lengths uint64 // bit n: some name has n bytes; bit 63: 63 or more
	context int    // where eventn_ctx is in names, -1 when nothing depends on it
}

// nameKind says what beside the client's JSON may have a member of the view.
type nameKind uint8

const (
	fromClient  nameKind = iota // the client, or else Added
	fromUs                      // the envelope alone
	fromEither                  // the client, or else the envelope
	fromEventID                 // the client's event_id, unless it says what ID does
	fromHeaders                 // Added, if that has it
	fromUser                    // the client, with what is remembered in it
	fromContext                 // the client, with all that belongs inside
)

var nameKinds = map[string]nameKind{
	FieldAPIKey: fromUs, FieldEventID: fromUs, FieldTimestamp: fromEither, FieldSource: fromEither, FieldSourceIP: fromEither, FieldUserAgent: fromEither,
	"event_id": fromEventID, FieldHTTPContext: fromHeaders, "user": fromUser, fieldContext: fromContext,
}

// NewNames returns the set of names, each of which must be there once. [Lookup.Get] knows them by their places.
func NewNames(names ...string) *Names {
	n := &Names{names: slices.Clone(names), context: -1}
	if slices.ContainsFunc(names, dependsOnContext) && !slices.Contains(names, fieldContext) {
		n.names = append(n.names, fieldContext)
	}
	n.context = slices.Index(n.names, fieldContext)
	for _, name := range n.names {
		n.kinds = append(n.kinds, nameKinds[name])
		n.lengths |= lengthBit(name)
	}
	return n
}

// dependsOnContext says whether a member stands inside eventn_ctx, if the event has one.
func dependsOnContext(name string) bool {
	return name == FieldEventID || name == FieldUserAgent || name == FieldLocation || name == FieldParsedUA
}

// Lookup finds members of the view of one event without making the view. It reads the client's JSON once, and only as far as what is asked for. The zero Lookup is
// ready for Reset; it is not for concurrent use.
type Lookup struct {
	names *Names
	event *Event
	json  string
	next  int // where in json to go on; len(json): all is read

	own   []string // the client's values, "" where none is found yet
	found []string // what Get has returned
	done  []bool   // of found
	space []byte   // of what stands in no JSON, and is made
}

// Reset makes l look into ev. What it returned before is not valid any more.
func (l *Lookup) Reset(ev *Event, names *Names) {
	n := len(names.names)
	if cap(l.own) < n {
		l.own, l.found, l.done = make([]string, n), make([]string, n), make([]bool, n)
	}
	l.own, l.found, l.done = l.own[:n], l.found[:n], l.done[:n]
	clear(l.own)
	clear(l.done)
	// The string shares the event's bytes, which nobody writes to.
	l.names, l.event, l.json, l.next, l.space = names, ev, unsafe.String(unsafe.SliceData(ev.JSON), len(ev.JSON)), 0, l.space[:0]
	if l.next = inside(l.json); l.next == 0 {
		l.json = ""
	}
}

// Release drops all references to the event.
func (l *Lookup) Release() {
	clear(l.own)
	clear(l.found)
	l.event, l.json = nil, ""
}

// Get returns the JSON of the i-th name as [Event.AppendView] would write it, or "" where the view has no such member. It is valid until the next Reset, and
// for as long as the event's bytes stay as they are.
func (l *Lookup) Get(i int) string {
	if !l.done[i] {
		l.found[i] = l.get(i)
		l.done[i] = true
	}
	return l.found[i]
}

func (l *Lookup) get(i int) string {
	name := l.names.names[i]
	switch l.names.kinds[i] {
	case fromClient:
		return l.withAdded(name, l.ownValue(i))
	case fromUs, fromEither:
		return l.fromEnvelope(i, name)
	case fromEventID:
		own := l.ownValue(i)
		if id := gjson.Parse(own).String(); own != "" && !l.hides(HideID) && (id == "" || id == l.event.ID) {
			own = ""
		}
		return l.withAdded(name, own)
	case fromHeaders:
		if l.event.ownContext() {
			return l.withAdded(name, "")
		}
		return l.withAdded(name, l.ownValue(i))
	case fromUser:
		own := l.ownValue(i)
		if l.event.Email == "" && l.event.AnonymousHash == "" || !strings.HasPrefix(own, "{") {
			return l.withAdded(name, own)
		}
		return l.made(l.event.appendUser(l.space, gjson.Parse(own)))
	case fromContext:
		own := l.ownValue(i)
		if !strings.HasPrefix(own, "{") {
			return l.withAdded(name, own)
		}
		var space [4]addedMember
		return l.made(l.event.appendContext(l.space, gjson.Parse(own), l.event.added(space[:0])))
	}
	panic("BUG: kind of a name")
}

// fromEnvelope returns a member that the envelope has, unless the client's own goes before.
func (l *Lookup) fromEnvelope(i int, name string) string {
	if l.names.kinds[i] == fromEither || name == FieldEventID && l.hides(HideID) {
		if own := l.ownValue(i); own != "" {
			return l.withAdded(name, own)
		}
	}
	value := ""
	switch name {
	case FieldAPIKey:
		value = l.event.APIKey
	case FieldEventID:
		value = l.event.ID
	case FieldSource:
		value = l.event.Source
	case FieldSourceIP:
		value = l.event.SourceIP
	case FieldUserAgent:
		value = l.event.UserAgent
	case FieldTimestamp:
		if l.hides(HideTimestamp) {
			break
		}
		return l.made(append(l.event.Received.UTC().AppendFormat(append(l.space, '"'), TimestampLayout), '"'))
	}
	if value == "" || l.hides(hiders[name]) || dependsOnContext(name) && l.hasContext() {
		return l.withAdded(name, "")
	}
	return l.made(AppendString(l.space, value))
}

// hiders are the parts of the envelope that an event may hide.
var hiders = map[string]Hidden{FieldAPIKey: HideAPIKey, FieldEventID: HideID, FieldSource: HideSource}

func (l *Lookup) hides(part Hidden) bool { return l.event.Hidden&part != 0 }

// hasContext says whether the client's event is of the compatibility format.
func (l *Lookup) hasContext() bool { return strings.HasPrefix(l.ownValue(l.names.context), "{") }

// withAdded returns the client's own value, and in its place, or inside it, what Added has.
func (l *Lookup) withAdded(name, own string) string {
	if len(l.event.Added) == 0 || own != "" && name != FieldParsedUA {
		return own
	}
	added := Member(unsafe.String(unsafe.SliceData(l.event.Added), len(l.event.Added)), name)
	if added == "" || (name == FieldLocation || name == FieldParsedUA) && l.hasContext() {
		return own
	}
	if own == "" {
		return added
	}
	if !strings.HasPrefix(own, "{") {
		return own
	}
	return l.made(appendMerged(l.space, gjson.Parse(own), gjson.Parse(added)))
}

// made returns what has been appended to l.space as a string that shares its bytes: they are not written again before the next Reset.
func (l *Lookup) made(space []byte) string {
	from := len(l.space)
	l.space = space
	return unsafe.String(unsafe.SliceData(space[from:]), len(space)-from)
}

// ownValue reads on until it finds the client's value of the i-th name.
func (l *Lookup) ownValue(i int) string {
	for l.own[i] == "" && l.next < len(l.json) {
		name, value, next := nextMember(l.json, l.next, l.names.lengths)
		l.next = next
		for k, wanted := range l.names.names {
			if l.own[k] == "" && isNamed(name, wanted) {
				l.own[k] = value
			}
		}
	}
	return l.own[i]
}

// Member returns the JSON of a member of object, "" if it has none of that name, or is no object.
func Member(object, name string) string {
	at := inside(object)
	if at == 0 {
		return ""
	}
	for lengths := lengthBit(name); at < len(object); {
		found, value, next := nextMember(object, at, lengths)
		if isNamed(found, name) {
			return value
		}
		at = next
	}
	return ""
}

// inside returns where the members of an object begin, 0 for what is no object.
func inside(json string) int {
	at := 0
	for at < len(json) && (json[at] == ' ' || json[at] == '\n' || json[at] == '\t' || json[at] == '\r') {
		at++
	}
	if at == len(json) || json[at] != '{' {
		return 0
	}
	return at + 1
}

// Elements calls f with the JSON of each element of array, until f returns false.
func Elements(array string, f func(element string) bool) {
	if !strings.HasPrefix(array, "[") {
		return
	}
	for at := 1; at < len(array); {
		for at < len(array) && (array[at] <= ' ' || array[at] == ',') {
			at++
		}
		if at == len(array) || array[at] == ']' {
			return
		}
		end := skipValue(array, at)
		if end <= at || !f(array[at:end]) {
			return
		}
		at = end
	}
}

// lengthBit is the bit of a name's length in [Names].
func lengthBit(name string) uint64 { return 1 << min(len(name), 63) }

// nextMember reads, inside an object, from at on to the next member with a name of one of the lengths, or one with an escape in it. name is as the JSON has it. Where there
// is none, or what follows is no JSON, next is len(json) and value "".
func nextMember(json string, at int, lengths uint64) (name, value string, next int) {
	for {
		for at < len(json) && json[at] != '"' {
			if json[at] == '}' {
				return "", "", len(json)
			}
			at++
		}
		// Names are short: a call would take longer than to look at each byte.
		start, escaped := at+1, false
		for at = start; at < len(json) && json[at] != '"'; at++ {
			if json[at] == '\\' {
				escaped = true
				at++
			}
		}
		if at >= len(json) {
			return "", "", len(json)
		}
		name = json[start:at]
		for at++; at < len(json) && (json[at] <= ' ' || json[at] == ':'); {
			at++
		}
		if at+1 < len(json) && json[at] == '"' { // mostly, and mostly without escapes
			n := strings.IndexByte(json[at+1:], '"')
			if next = at + n + 2; n < 0 || json[next-2] == '\\' {
				next = skipString(json, at)
			}
		} else if next = skipValue(json, at); next == at {
			return "", "", len(json)
		}
		if escaped || lengths&(1<<min(len(name), 63)) != 0 {
			return name, json[at:next], next
		}
		at = next
	}
}

// isNamed says whether a name of the JSON stands for a text.
func isNamed(name, text string) bool {
	return name == text || isEscaped(name) && gjson.Parse(`"`+name+`"`).Str == text
}

func isEscaped(name string) bool { return strings.IndexByte(name, '\\') >= 0 }

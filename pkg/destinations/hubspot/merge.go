package hubspot

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// emailProperty is the property that identifies contacts; it is written by every input, from the identity.
const emailProperty = "email"

// Reasons for leaving a property out, as metrics and details show them.
const (
	reasonUnknown  = "unknown"   // the account has no such property
	reasonReadOnly = "read-only" // HubSpot computes it
	reasonValue    = "value"     // the value does not fit the property's type
	reasonLimit    = "limit"     // more than 50 in one event
	reasonRefused  = "refused"   // HubSpot refused it, the rest was delivered
	reasonFilled   = "not empty" // HubSpot has a value, and the policy is if_empty
	reasonOlder    = "older"     // a later event's value was delivered before
)

// written is one property of a write with its value as it travels.
type written struct {
	name, value string
	policy      policy
	entry       int // of the batch, whose value it is; the newest one of an append
	// older are the values of other entries, to be written in turn where value is refused: those of older entries, the newest first, as if the entries
	// had been sent one by one. For if_empty, which takes the first value, they are those of later entries, the oldest first.
	older []older
}

// older is a value that another entry of the write has for a property.
type older struct {
	value string
	entry int
}

// stripped is a property that was left out.
type stripped struct{ name, reason string }

// write is what becomes one input: all entries of a batch with one identity.
type write struct {
	id       string
	entries  []int // of the batch, oldest first
	values   []written
	stripped []stripped
	collided []string // names that several members of one user object clean to; the last one with a value counts
}

// merge makes one write for each identity in the batch, in the order of their oldest entries. It also lists what the account lacks and the
// policy makes.
func (s *contactSend) merge() (writes []*write, needs []need, options []needOption) {
	writes = make([]*write, 0, min(len(s.batch), maxContacts))
	byID := make(map[string]*write, min(len(s.batch), maxContacts))
	for i := range s.batch {
		id := s.batch[i].Plan.ID
		w := byID[id]
		if w == nil {
			w = &write{id: id}
			byID[id] = w
			writes = append(writes, w)
		}
		s.add(w, i)
	}
	return writes, nil, nil
}

// part is a write of some entries of a merged one.
func (s *contactSend) part(w *write, entries []int) *write {
	p := &write{id: w.id}
	for _, i := range entries {
		s.add(p, i)
	}
	return p
}

// add merges the event of entry i, newer than those before it, into the write.
func (s *contactSend) add(w *write, i int) {
	w.entries = append(w.entries, i)
	ev := s.batch[i].Event
	if !s.d.contacts.describes(ev.Type()) {
		return // only makes sure that the contact is there
	}
	var seen [16]string // names of this event, for collisions
	names := seen[:0]
	ev.User().ForEach(func(k, v gjson.Result) bool {
		if absent(v) {
			return true
		}
		p := s.schema.find(k.Str)
		if p == nil {
			if name := cleanName(k.Str); name != emailProperty {
				w.strip(name, reasonUnknown)
			}
			return true
		}
		name := p.name
		if name == emailProperty {
			return true
		}
		if p.readOnly {
			w.strip(name, reasonReadOnly)
			return true
		}
		text, ok := p.format(v)
		if !ok {
			w.strip(name, reasonValue)
			return true
		}
		if slices.Contains(names, name) && !slices.Contains(w.collided, name) {
			w.collided = append(w.collided, name)
		}
		names = append(names, name)
		w.set(written{name: name, value: text, policy: s.d.contacts.properties.policyOf(name), entry: i})
		return true
	})
}

// set gives the property a newer value, by its policy. One that begins with a semicolon is added to those that are chosen.
func (w *write) set(v written) {
	i := w.find(v.name)
	if i < 0 {
		w.values = append(w.values, v)
		return
	}
	old := &w.values[i]
	if v.policy == ifEmpty {
		old.older = append(old.older, older{v.value, v.entry})
		return
	}
	v.older = append([]older{{old.value, old.entry}}, old.older...)
	if strings.HasPrefix(v.value, ";") {
		v.value = addOptions(old.value, v.value)
	}
	*old = v
}

func (w *write) find(name string) int {
	return slices.IndexFunc(w.values, func(v written) bool { return v.name == name })
}

// addOptions is what HubSpot would have after old and then more, which begins with a semicolon.
func addOptions(old, more string) string {
	have := strings.Split(old, ";")
	for option := range strings.SplitSeq(more[1:], ";") {
		if !slices.Contains(have, option) {
			have = append(have, option)
		}
	}
	return strings.Join(have, ";")
}

// strip notes that a property was left out, the first reason of each.
func (w *write) strip(name, reason string) {
	w.stripped = addStripped(w.stripped, name, reason)
}

// maxStripped bounds the list of what was left out: names are the client's. The last of them stands for the rest.
const maxStripped = 200

// maxNameShown is the length of HubSpot's own names.
const maxNameShown = 100

func addStripped(all []stripped, name, reason string) []stripped {
	if len(all) == maxStripped {
		return all
	}
	if len(name) > maxNameShown {
		name = name[:maxNameShown] + "..."
	}
	for _, s := range all {
		if s.name == name {
			return all
		}
	}
	if len(all) == maxStripped-1 {
		name = "_other"
	}
	return append(all, stripped{name, reason})
}

// drop takes out the property and says whether it was there.
func (w *write) drop(name, reason string) bool {
	i := w.find(name)
	if i < 0 {
		return false
	}
	w.values = slices.Delete(w.values, i, i+1)
	w.strip(name, reason)
	return true
}

// refuse takes out the value of a property that HubSpot refuses. The next one of the other entries takes its place.
func (w *write) refuse(name string) {
	i := w.find(name)
	v := w.values[i]
	refused := v.value
	for len(v.older) > 0 && v.older[0].value == refused {
		v.older = v.older[1:]
	}
	w.drop(name, reasonRefused)
	if len(v.older) > 0 {
		v.value, v.entry, v.older = v.older[0].value, v.older[0].entry, v.older[1:]
		w.values = append(w.values, v)
	}
}

// appendUpsert appends the body of a batch upsert. The trace id of each input is its index; HubSpot's results and errors name it, and
// without it one bad input would fail the whole call.
func appendUpsert(dst []byte, writes []*write) []byte {
	dst = append(dst, `{"inputs":[`...)
	for i, w := range writes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"idProperty":"email","objectWriteTraceId":"`...)
		dst = strconv.AppendInt(dst, int64(i), 10)
		dst = append(dst, `","id":`...)
		dst = event.AppendString(dst, w.id)
		dst = append(dst, `,"properties":{"email":`...)
		dst = event.AppendString(dst, w.id)
		if len(w.values) > 0 {
			dst = appendMembers(append(dst, ','), w.values)
		}
		dst = append(dst, "}}"...)
	}
	return append(dst, "]}"...)
}

// appendMembers appends values as members of a JSON object, without its braces.
func appendMembers(dst []byte, values []written) []byte {
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendString(dst, v.name)
		dst = append(dst, ':')
		dst = event.AppendString(dst, v.value)
	}
	return dst
}

// appendDetail appends what became of a write.
func (w *write) appendDetail(dst []byte, u *upserted, correlation string) []byte {
	dst = append(dst, `{"contact_id":`...)
	dst = event.AppendString(dst, u.id)
	dst = append(dst, `,"new":`...)
	dst = strconv.AppendBool(dst, u.created)
	dst = append(dst, `,"written":["email"`...)
	for _, v := range w.values {
		dst = append(dst, ',')
		dst = event.AppendString(dst, v.name)
	}
	dst = append(dst, ']')
	dst = appendStripped(dst, w.stripped)
	if len(w.collided) > 0 {
		dst = append(dst, `,"collided":`...)
		dst = appendNames(dst, w.collided)
	}
	dst = append(dst, `,"merged":`...)
	dst = strconv.AppendInt(dst, int64(len(w.entries)), 10)
	dst = append(dst, `,"correlation_id":`...)
	dst = event.AppendString(dst, correlation)
	return append(dst, '}')
}

func appendStripped(dst []byte, all []stripped) []byte {
	if len(all) == 0 {
		return dst
	}
	dst = append(dst, `,"stripped":{`...)
	for i, s := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendString(dst, s.name)
		dst = append(dst, ':')
		dst = event.AppendString(dst, s.reason)
	}
	return append(dst, '}')
}

func appendNames(dst []byte, names []string) []byte {
	dst = append(dst, '[')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendString(dst, name)
	}
	return append(dst, ']')
}

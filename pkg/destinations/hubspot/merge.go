package hubspot

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
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
)

// written is one property of a write with its value as it travels.
type written struct{ name, value string }

// stripped is a property that was left out.
type stripped struct{ name, reason string }

// write is what becomes one input: all entries of a batch with one identity.
type write struct {
	id       string
	entries  []int // of the batch, oldest first
	values   []written
	stripped []stripped
	refused  []written // values that HubSpot refused
	collided []string  // names that several members of one user object clean to; the last one with a value counts
}

// merge makes one write for each identity in batch, in the order of their oldest entries.
func merge(batch []destinations.Entry, s *schema) []*write {
	writes := make([]*write, 0, min(len(batch), maxContacts))
	byID := make(map[string]*write, min(len(batch), maxContacts))
	for i := range batch {
		id := batch[i].Plan.ID
		w := byID[id]
		if w == nil {
			w = &write{id: id}
			byID[id] = w
			writes = append(writes, w)
		}
		w.add(i, batch[i].Event, s)
	}
	return writes
}

// add merges the event of entry i, newer than those before it, into the write.
func (w *write) add(i int, ev *event.Event, s *schema) {
	w.entries = append(w.entries, i)
	if ev.Type() != identifyType {
		return // only makes sure that the contact is there
	}
	var seen [16]string // names of this event, for collisions
	names := seen[:0]
	ev.User().ForEach(func(k, v gjson.Result) bool {
		if absent(v) {
			return true
		}
		p := s.find(k.Str)
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
		w.set(name, text, p.multi && text[0] == ';')
		return true
	})
}

// set gives the property a newer value, which replaces the older one or is added to it.
func (w *write) set(name, value string, add bool) {
	for i := range w.values {
		if w.values[i].name == name {
			if add {
				value = addOptions(w.values[i].value, value)
			}
			w.values[i].value = value
			return
		}
	}
	w.values = append(w.values, written{name, value})
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
	i := slices.IndexFunc(w.values, func(v written) bool { return v.name == name })
	if i < 0 {
		return false
	}
	w.values = slices.Delete(w.values, i, i+1)
	w.strip(name, reason)
	return true
}

// refuse takes out the value of a property that HubSpot refuses. The newest value of the other entries takes its place, as if the entries had
// been sent one by one.
func (w *write) refuse(name string, batch []destinations.Entry, s *schema) {
	i := slices.IndexFunc(w.values, func(v written) bool { return v.name == name })
	w.refused = append(w.refused, w.values[i])
	w.drop(name, reasonRefused)
	for _, entry := range slices.Backward(w.entries) {
		for _, v := range w.part([]int{entry}, batch, s).values {
			if v.name == name && !slices.Contains(w.refused, v) {
				w.set(v.name, v.value, false)
				return
			}
		}
	}
}

// part is a write of some entries of a merged one.
func (w *write) part(entries []int, batch []destinations.Entry, s *schema) *write {
	p := &write{id: w.id}
	for _, i := range entries {
		p.add(i, batch[i].Event, s)
	}
	return p
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

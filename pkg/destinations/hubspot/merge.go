package hubspot

import (
	"slices"
	"strconv"
	"strings"

	"eventrouter/pkg/event"
)

// emailProperty is the property that identifies contacts where id_property says nothing else.
const emailProperty = "email"

// Reasons for leaving a property out, as metrics and details show them.
const (
	reasonUnknown    = "unknown"   // the account has no such property
	reasonReadOnly   = "read-only" // HubSpot computes it
	reasonExcluded   = "excluded"  // by only or except
	reasonOff        = "switched off by the account"
	reasonExpression = "expression" // the expression that makes it failed
	reasonValue      = "value"      // the value does not fit the property's type
	reasonOption     = "option"     // the property has no such option
	reasonLength     = "length"     // the text is longer than HubSpot takes
	reasonLimit      = "limit"      // more than 50 in one event
	reasonRefused    = "refused"    // HubSpot refused it, the rest was delivered
	reasonInUse      = "in-use"     // another contact has the e-mail address
	reasonCut        = "cut"        // shortened, not left out: only in metrics
	reasonFilled     = "not empty"  // HubSpot has a value, and the policy is if_empty
	reasonOlder      = "older"      // a later event's value was delivered before
)

// written is one property of a write with its value as it travels.
type written struct {
	name, value string
	policy      policy
	multi       bool   // several options may be chosen: a value that begins with a semicolon is added to them
	entry       int    // of the batch, whose value it is; the newest one of an append
	how         string // what was made of the value that was sent; "": nothing to tell
	sum         bool   // of the options of several entries
	// older are the values of other entries, to be written in turn where value is refused: those of older entries, from the newest back, as if the entries
	// had been sent one by one. For if_empty, which takes the first value, they are those of later entries, from the oldest on. They stand in the order of
	// the entries, so that one person's thousands are merged in one go.
	older []older
}

// older is a value that another entry of the write has for a property.
type older struct {
	value string
	entry int
	how   string
	sum   bool
}

// adds says whether the value, the property's or an older one, is added to the options that are chosen.
func (v *written) adds(value string) bool { return v.multi && strings.HasPrefix(value, ";") }

// next replaces the value by the next one, if there is one.
func (v *written) next() bool {
	if len(v.older) == 0 {
		return false
	}
	o, rest := v.older[0], v.older[1:]
	if v.policy != ifEmpty {
		last := len(v.older) - 1
		o, rest = v.older[last], v.older[:last]
	}
	v.value, v.entry, v.how, v.sum, v.older = o.value, o.entry, o.how, o.sum, rest
	return true
}

// stripped is a property that was left out.
type stripped struct{ name, reason string }

// write is what becomes one input: all entries of a batch with one identity.
type write struct {
	id       string
	entries  []int // of the batch, oldest first
	values   []written
	stripped []stripped
	collided []string // names that several members of one user object come to; one of them counts
	late     bool     // HubSpot does not know yet what was made for it, or it is to be made again
}

// merge makes one write for each identity in the batch, in the order of their oldest entries. It also lists what the account lacks and the
// policy makes.
func (s *contactSend) merge() (writes []*write, needs []need, options []needOption) {
	s.lacks = lacks{}
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
	return writes, s.lacks.needs, s.lacks.options
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
	if ev := s.batch[i].Event; !s.d.contacts.describes(ev.Type()) {
		s.introduce(w, i, ev)
		return
	}
	r := reading{s: s, w: w, entry: i, values: s.found[:0]}
	r.read(s.batch[i].Event)
	for _, v := range r.values {
		s.tellSource(i, v.name, v.from)
		s.set(w, v.written)
	}
	clear(r.values)
	s.found = r.values
}

// introduce only makes sure that the contact is there, for an event to find. By what identifies it, unless that is not how events find contacts.
func (s *contactSend) introduce(w *write, i int, ev *event.Event) {
	c := s.d.contacts
	if c.key == emailProperty || c.key == objectIDProperty || c.properties.excluded(emailProperty) {
		return
	}
	if email, err := c.email(ev); email != "" && err == nil {
		s.set(w, written{name: emailProperty, value: email, entry: i, policy: c.properties.policyOf(emailProperty)})
	}
}

// set gives the property a newer value, unless that of a later event was delivered.
func (s *contactSend) set(w *write, v written) {
	if s.knownOf(w).memory.older(v.name, &s.batch[v.entry], v.adds(v.value)) {
		w.strip(v.name, reasonOlder)
		return
	}
	w.set(v)
}

// set gives the property a newer value, by its policy. "" clears, and what was there before does not come back.
func (w *write) set(v written) {
	i := w.find(v.name)
	switch {
	case v.policy == ifEmpty && v.value == "":
		return // what is empty stays so, and what is not is not touched
	case i < 0:
		w.values = append(w.values, v)
		return
	}
	old := &w.values[i]
	if v.policy == ifEmpty {
		old.older = append(old.older, older{value: v.value, entry: v.entry, how: v.how})
		return
	}
	if v.name == stageProperty && (old.value == "" || old.policy == force) {
		v.policy = force // the clear before it lets it go back
	}
	switch {
	case v.value == "":
	case old.value == "":
		if v.adds(v.value) {
			v.value = v.value[1:]
		}
		v.older = []older{{entry: old.entry}}
	default:
		v.older = append(old.older, older{old.value, old.entry, old.how, old.sum})
		if v.adds(v.value) {
			v.value, v.sum = addOptions(old.value, v.value), true
		}
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

// refuse takes out the value of a property that HubSpot does not take. The next one of the other entries takes its place.
func (w *write) refuse(name, reason string) {
	v := w.values[w.find(name)]
	w.drop(name, reason)
	v.older = slices.DeleteFunc(v.older, func(o older) bool { return o.value == v.value })
	if v.next() {
		w.values = append(w.values, v)
	}
}

// appendBatch appends the body of a batch upsert by the property key, or of a batch update by hs_object_id. The trace id of each input is its
// index; HubSpot's results and errors name it, and without it one bad input would fail the whole call.
func appendBatch(dst []byte, key string, writes []*write) []byte {
	dst = append(dst, `{"inputs":[`...)
	for i, w := range writes {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		if key != objectIDProperty {
			dst = append(dst, `"idProperty":`...)
			dst = event.AppendString(dst, key)
			dst = append(dst, ',')
		}
		dst = append(dst, `"objectWriteTraceId":"`...)
		dst = strconv.AppendInt(dst, int64(i), 10)
		dst = append(dst, `","id":`...)
		dst = event.AppendString(dst, w.id)
		dst = append(dst, `,"properties":{`...)
		if key != objectIDProperty {
			dst = event.AppendString(dst, key)
			dst = append(dst, ':')
			dst = event.AppendString(dst, w.id)
			if len(w.values) > 0 {
				dst = append(dst, ',')
			}
		}
		dst = append(appendMembers(dst, w.values), "}}"...)
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
func (s *contactSend) appendDetail(dst []byte, w *write, u *upserted, correlation string) []byte {
	key := s.d.contacts.key
	dst = append(dst, '{')
	if !s.d.simulation { // there every contact is new
		dst = append(dst, `"contact_id":`...)
		dst = event.AppendString(dst, u.id)
		dst = append(dst, `,"new":`...)
		dst = append(strconv.AppendBool(dst, u.created), ',')
	}
	names := make([]string, 0, 16)
	if key != objectIDProperty {
		names = append(names, key)
	}
	for _, v := range w.values {
		names = append(names, v.name)
	}
	dst = append(dst, `"written":`...)
	dst = appendNames(dst, names)
	dst = appendStripped(dst, w.stripped)
	dst = w.appendCoerced(dst)
	dst = s.appendValues(dst, w)
	if len(w.collided) > 0 {
		dst = append(dst, `,"collided":`...)
		dst = appendNames(dst, w.collided)
	}
	dst = append(dst, `,"merged":`...)
	dst = strconv.AppendInt(dst, int64(len(w.entries)), 10)
	if !s.d.simulation {
		dst = append(dst, `,"correlation_id":`...)
		dst = event.AppendString(dst, correlation)
	}
	return append(dst, '}')
}

// appendCoerced appends what was made of values.
func (w *write) appendCoerced(dst []byte) []byte {
	open := false
	for _, v := range w.values {
		if v.how == "" {
			continue
		}
		if open {
			dst = append(dst, ',')
		} else {
			dst = append(dst, `,"coerced":{`...)
		}
		open = true
		dst = event.AppendString(dst, v.name)
		dst = append(dst, ':')
		dst = event.AppendString(dst, v.how)
	}
	if open {
		dst = append(dst, '}')
	}
	return dst
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

package sandbox

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Contact is a record as it stands, for inspection.
type Contact struct {
	ID         string             `json:"id"`
	Properties map[string]string  `json:"properties"`       // as written; without those that HubSpot computes
	Emails     []string           `json:"additionalEmails"` // secondary addresses
	CreatedAt  time.Time          `json:"createdAt"`
	UpdatedAt  time.Time          `json:"updatedAt"`
	Archived   bool               `json:"archived"`
	History    map[string][]Write `json:"history"` // of each property, oldest first
}

// Write is one value that a property was given; "" cleared it.
type Write struct {
	Value string    `json:"value"`
	At    time.Time `json:"at"`
	// CorrelationID is that of the call that wrote it.
	CorrelationID string `json:"correlationId"`
}

// contact is a stored record.
type contact struct {
	id               string
	values           []value  // by name
	emails           []string // secondary
	created, updated stamp
	archived         bool
	writes           []write // oldest first
}

// value is a property's present value; "" when it was cleared.
type value struct {
	name, text string
	seq        uint64 // of the call that wrote it
}

type write struct {
	name, text string
	at         time.Time
	seq        uint64 // of the call
}

func (ct *contact) find(name string) (int, bool) {
	return slices.BinarySearchFunc(ct.values, name, func(v value, name string) int { return strings.Compare(v.name, name) })
}

// stored returns the value that was written, or "".
func (ct *contact) stored(name string) string {
	if i, ok := ct.find(name); ok {
		return ct.values[i].text
	}
	return ""
}

// set writes a value and its history, of which it keeps at most so many writes.
func (ct *contact) set(name, text string, seq uint64, at time.Time, keep int) {
	i, ok := ct.find(name)
	if !ok {
		ct.values = slices.Insert(ct.values, i, value{name: name})
	}
	ct.values[i].text, ct.values[i].seq = text, seq
	if len(ct.writes) >= keep {
		ct.writes = append(ct.writes[:0], ct.writes[max(1, keep/10):]...)
	}
	ct.writes = append(ct.writes, write{name, text, at, seq})
}

// computedNames are the properties that HubSpot fills, by name. Those with true are in answers to updates too.
var computedNames = []struct {
	name     string
	onUpdate bool
}{
	{"createdate", true},
	{"hs_all_contact_vids", false},
	{"hs_email_domain", false},
	{"hs_full_name_or_email", false},
	{"hs_is_contact", false},
	{"hs_is_unworked", true},
	{"hs_object_id", true},
	{"hs_object_source", true},
	{"hs_object_source_id", true},
	{"hs_object_source_label", true},
	{"hs_pipeline", true},
	{"lastmodifieddate", true},
}

// computed returns a property that HubSpot fills; ok is false for others.
func (ct *contact) computed(name string) (text string, ok bool) {
	switch name {
	case "createdate":
		return ct.created.text, true
	case "lastmodifieddate":
		return ct.updated.text, true
	case "hs_object_id", "hs_all_contact_vids":
		return ct.id, true
	case "hs_email_domain":
		_, domain, _ := strings.Cut(ct.stored("email"), "@")
		return domain, true
	case "hs_full_name_or_email":
		if full := strings.TrimSpace(ct.stored("firstname") + " " + ct.stored("lastname")); full != "" {
			return full, true
		}
		return ct.stored("email"), true
	case "hs_additional_emails":
		return strings.Join(ct.emails, ";"), true
	case "hs_is_contact", "hs_is_unworked":
		return "true", true
	case "hs_object_source", "hs_object_source_label":
		return "INTEGRATION", true
	case "hs_object_source_id":
		return "19083857", true
	case "hs_pipeline":
		return "contacts-lifecycle-pipeline", true
	}
	return "", false
}

// appendRecord appends {"id":...,"archived":false; the caller closes it. appendProperties appends the members of "properties".
func (st *state) appendRecord(b []byte, ct *contact, appendProperties func([]byte) []byte) []byte {
	b = append(b, `{"id":"`...)
	b = append(b, ct.id...)
	b = append(b, `","properties":{`...)
	b = appendProperties(b)
	b = append(b, `},"createdAt":"`...)
	b = append(b, ct.created.text...)
	b = append(b, `","updatedAt":"`...)
	b = append(b, ct.updated.text...)
	b = append(b, `","archived":`...)
	b = strconv.AppendBool(b, ct.archived)
	b = append(b, `,"url":"https://app.hubspot.com/contacts/`...)
	b = append(b, st.opts.HubID...)
	b = append(b, `/record/0-1/`...)
	b = append(b, ct.id...)
	return append(b, '"')
}

// appendWritten appends what an answer to a write shows, sorted by name: what this call wrote, e-mail and lifecycle stage, and what
// HubSpot computes, more of it for a new record.
func (st *state) appendWritten(b []byte, ct *contact, isNew bool) []byte {
	first, next := true, 0
	put := func(name, text string) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, '"', ':')
		b = appendString(b, text)
	}
	computeUpTo := func(name string) {
		for ; next < len(computedNames) && (name == "" || computedNames[next].name < name); next++ {
			if c := computedNames[next]; isNew || c.onUpdate {
				if text, _ := ct.computed(c.name); text != "" {
					put(c.name, text)
				}
			}
		}
	}
	for i := range ct.values {
		v := &ct.values[i]
		if v.seq != st.seq && v.name != "email" && v.name != "lifecyclestage" {
			continue
		}
		computeUpTo(v.name)
		put(v.name, v.text)
	}
	computeUpTo("")
	return b
}

// standardRead is what reads show unasked; the first three even when other properties are asked for.
var standardRead = []string{"createdate", "hs_object_id", "lastmodifieddate", "email", "firstname", "lastname"}

// readNames returns what a read shows, sorted: asked properties that exist, and the standard ones.
func (st *state) readNames(asked []string) []string {
	names := slices.Clone(standardRead)
	if len(asked) > 0 {
		names = names[:3]
		for _, n := range asked {
			if st.contactProperty(n) != nil {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// appendRead appends the named properties; those without a value are null.
func appendRead(b []byte, ct *contact, names []string) []byte {
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, n...)
		b = append(b, '"', ':')
		text, ok := ct.computed(n)
		if !ok {
			text = ct.stored(n)
		}
		if text == "" {
			b = append(b, "null"...)
		} else {
			b = appendString(b, text)
		}
	}
	return b
}

// appendHistory appends ,"propertiesWithHistory":{name:[values, newest first]} for the asked properties that exist, or nothing when none
// is asked for.
func (st *state) appendHistory(b []byte, ct *contact, asked []string) []byte {
	if len(asked) == 0 {
		return b
	}
	b = append(b, `,"propertiesWithHistory":{`...)
	n := 0
	for _, name := range asked {
		if st.contactProperty(name) == nil {
			continue
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = appendString(b, name)
		b = append(b, `:[`...)
		b = ct.appendWrites(b, name)
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendWrites appends what the property was given, newest first.
func (ct *contact) appendWrites(b []byte, name string) []byte {
	n := 0
	for i := len(ct.writes) - 1; i >= 0; i-- {
		w := &ct.writes[i]
		if w.name != name {
			continue
		}
		if n++; n > 1 {
			b = append(b, ',')
		}
		b = append(b, `{"value":`...)
		b = appendString(b, w.text)
		b = append(b, `,"timestamp":"`...)
		b = append(b, stampOf(w.at).text...)
		b = append(b, `","sourceType":"INTEGRATION","sourceId":"19083857"}`...)
	}
	return b
}

// contactBook finds contacts by id, address and unique property.
type contactBook struct {
	all     []*contact // in order of creation; the id is firstID plus the place
	byEmail map[string]*contact
	unique  map[string]map[string]*contact // property: value
}

// firstID is the id of the first contact.
const firstID = 101

func newContactBook() contactBook {
	return contactBook{byEmail: map[string]*contact{}, unique: map[string]map[string]*contact{}}
}

// byID returns the record with that id unless it is archived.
func (k *contactBook) byID(id string) *contact {
	n, err := strconv.Atoi(id)
	if err != nil || n < firstID || n-firstID >= len(k.all) || k.all[n-firstID].archived {
		return nil
	}
	return k.all[n-firstID]
}

// by returns the contact whose property has the value, or nil. E-mail finds secondary addresses too.
func (k *contactBook) by(property, value string) *contact {
	switch property {
	case "", "hs_object_id":
		return k.byID(value)
	case "email":
		return k.byEmail[foldEmail(value)]
	}
	return k.unique[property][value]
}

// add makes an empty record with room for the values of its first write.
func (k *contactBook) add(now stamp, room int) *contact {
	ct := &contact{
		id: strconv.Itoa(firstID + len(k.all)), created: now, updated: now,
		values: make([]value, 0, room), writes: make([]write, 0, room),
	}
	k.all = append(k.all, ct)
	return ct
}

// archive hides the record and frees its address and unique values.
func (k *contactBook) archive(ct *contact) {
	ct.archived = true
	delete(k.byEmail, ct.stored("email"))
	for _, e := range ct.emails {
		delete(k.byEmail, e)
	}
	for name, values := range k.unique {
		delete(values, ct.stored(name))
	}
}

// setUnique moves the value of a unique property to ct.
func (k *contactBook) setUnique(name, old, value string, ct *contact) {
	values := k.unique[name]
	if values == nil {
		values = map[string]*contact{}
		k.unique[name] = values
	}
	delete(values, old)
	if value != "" {
		values[value] = ct
	}
}

package hubspot

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// HubSpot's limits on what one event holds.
const (
	maxEventName       = 50 // also of property names
	maxEventProperties = 50
	maxEventValue      = 256
	maxLinkValue       = 1024 // where the property's name contains url, referrer or link

	// maxCandidates bounds what is looked at in one event.
	maxCandidates = 500
)

// unknownEvent is the name of events that have no type, as in Jitsu.
const unknownEvent = "unknown"

// occurredLayout is RFC 3339 with milliseconds.
const occurredLayout = "2006-01-02T15:04:05.000Z"

// eventName writes a client's event type, or a property's name, as HubSpot's internal names are: a letter, then letters, digits and
// underscores, lower case, at most 50. A name in another script would leave nothing, or just its digits: a hash keeps such names apart.
func eventName(s string) string {
	s = strings.TrimSpace(s)
	b := make([]byte, 0, len(s)+2)
	letters, foreign := false, false
	for _, r := range s {
		switch {
		case r >= 'A' && r <= 'Z':
			r += 'a' - 'A'
			fallthrough
		case r >= 'a' && r <= 'z':
			letters = true
			fallthrough
		case r >= '0' && r <= '9', r == '_':
			b = append(b, byte(r))
		default:
			foreign = foreign || r >= 0x80
			if len(b) == 0 || b[len(b)-1] != '_' {
				b = append(b, '_')
			}
		}
	}
	if strings.Trim(string(b), "_") == "" && !foreign {
		return unknownEvent
	}
	if b[0] == '_' {
		b = append([]byte{'e'}, b...)
	} else if b[0] >= '0' && b[0] <= '9' {
		b = append([]byte("e_"), b...)
	}
	b = b[:min(len(b), maxEventName)]
	if foreign && !letters {
		h := fnv.New32a()
		_, _ = h.Write([]byte(s))
		suffix := fmt.Sprintf("_%08x", h.Sum32())
		b = append([]byte(strings.TrimRight(string(b[:min(len(b), maxEventName-len(suffix))]), "_")), suffix...)
	}
	return string(b)
}

// field is one property of an event with its value as it travels.
type field struct{ name, value string }

// occurrence is one event as it is sent.
type occurrence struct {
	entry      int // of the batch
	person     *person
	uuid       uuid.UUID
	at         string
	candidates []candidate
	name       string // short
	label      string
	zone       *time.Location // whose calendar days dates are

	def      *definition
	values   []field
	stripped []stripped
	cut      []string
}

// shortName is the name of an event type's definition. Some clients say it as HubSpot lists it: pe{hub}_signed_up.
func shortName(eventType, hubID string) string {
	prefix := "pe" + hubID + "_"
	if len(eventType) > len(prefix) && strings.EqualFold(eventType[:len(prefix)], prefix) {
		eventType = eventType[len(prefix):]
	}
	return eventName(eventType)
}

// newOccurrence reads the event of entry i, which is about p.
func newOccurrence(i int, e *destinations.Entry, p *person, s *schema, rules *eventRules) *occurrence {
	o := &occurrence{
		entry: i, person: p, uuid: destinations.EventUUID(e.Event, e.Name.Index), at: occurredAt(e.Event).Format(occurredLayout),
		candidates: candidates(e.Event, s, &rules.properties), zone: rules.zone,
	}
	o.name, o.label = rules.name(e.Event.Type())
	return o
}

// occurredAt is when the event happened: never after its receipt, for HubSpot's timeline is of the past. A client's clock may be ahead.
func occurredAt(ev *event.Event) time.Time {
	at := ev.Time()
	if at.After(ev.Received) {
		at = ev.Received
	}
	return at.UTC()
}

// wants are the properties that a definition should have for the occurrence.
func (o *occurrence) wants() []newProperty {
	all := make([]newProperty, 0, len(o.candidates))
	for i := range o.candidates {
		c := &o.candidates[i]
		if c.ours || c.left != "" || isDefaultProperty(c.name) || len(all) == maxEventProperties {
			continue
		}
		all = append(all, newProperty{c.name, c.label, c.propertyType()})
	}
	return all
}

// fill writes the candidates as the definition has them.
func (o *occurrence) fill(def *definition) {
	o.def, o.values, o.cut = def, make([]field, 0, min(len(o.candidates), maxEventProperties)), nil
	o.stripped = slices.Clip(o.person.lost)
	for i := range o.candidates {
		c := &o.candidates[i]
		p := def.properties[c.name]
		switch {
		case c.left != "":
			o.strip(c.name, c.left)
		case p != nil:
			o.put(c, p)
		case c.ours:
		case !isDefaultProperty(c.name) && def.own() >= maxOwnProperties:
			o.strip(c.name, reasonLimit)
		default:
			o.strip(c.name, reasonUnknown)
		}
	}
}

// put writes one candidate as its property wants it.
func (o *occurrence) put(c *candidate, p *eventProperty) {
	f, reason := p.formatIn(c.value, o.zone)
	if reason == reasonOption && c.name == "hs_language" { // en-GB where only en is an option
		language, _, _ := strings.Cut(c.value.Str, "-")
		if text, ok := p.option(language); ok {
			f.text, f.missing, reason = text, nil, ""
		}
	}
	if len(f.missing) > 0 && !c.ours {
		o.strip(c.name, reasonOption)
	}
	switch {
	case c.ours && reason != "":
	case reason == reasonLength: // of a contact's text: here it is cut
		reason = ""
		fallthrough
	case reason == "" && len(o.values) < maxEventProperties:
		if p.kind == kindString {
			var cut bool
			if f.text, cut = cutText(f.text, valueLimit(c.name)); cut {
				o.cut = append(o.cut, c.name)
			}
		}
		o.values = append(o.values, field{c.name, f.text})
	case reason == "":
		o.strip(c.name, reasonLimit)
	default:
		o.strip(c.name, reason)
	}
}

func valueLimit(name string) int {
	for _, part := range [...]string{"url", "referrer", "link"} {
		if strings.Contains(name, part) {
			return maxLinkValue
		}
	}
	return maxEventValue
}

func (o *occurrence) strip(name, reason string) { o.stripped = addStripped(o.stripped, name, reason) }

// lose notes that HubSpot does not take one of the identities.
func (o *occurrence) lose(identity string) {
	o.person.lost = append(o.person.lost, stripped{identity, reasonRefused})
	o.strip(identity, reasonRefused)
}

// drop takes a property out and says whether it was there.
func (o *occurrence) drop(name, reason string) bool {
	i := slices.IndexFunc(o.values, func(v field) bool { return v.name == name })
	if i < 0 {
		return false
	}
	o.values = slices.Delete(o.values, i, i+1)
	o.strip(name, reason)
	return true
}

// appendSend appends the body of a batch of events.
func appendSend(dst []byte, all []*occurrence) []byte {
	dst = append(dst, `{"inputs":[`...)
	for i, o := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"eventName":`...)
		dst = event.AppendString(dst, o.def.qualified)
		for _, id := range [...]struct{ member, value string }{
			{`,"email":`, o.person.email}, {`,"objectId":`, o.person.objectID}, {`,"utk":`, o.person.utk},
		} {
			if id.value != "" {
				dst = append(dst, id.member...)
				dst = event.AppendString(dst, id.value)
			}
		}
		dst = append(dst, `,"occurredAt":"`...)
		dst = append(dst, o.at...)
		dst = append(dst, `","uuid":"`...)
		dst = appendUUID(dst, o.uuid)
		dst = append(dst, `","properties":{`...)
		for i, v := range o.values {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = event.AppendString(dst, v.name)
			dst = append(dst, ':')
			dst = event.AppendString(dst, v.value)
		}
		dst = append(dst, "}}"...)
	}
	return append(dst, "]}"...)
}

func appendUUID(dst []byte, u uuid.UUID) []byte {
	text, _ := u.MarshalText() // never fails
	return append(dst, text...)
}

// appendDetail appends what became of an occurrence; told: in a simulation, with its values.
func (o *occurrence) appendDetail(dst []byte, repeated, told bool, correlation string) []byte {
	dst = append(dst, `{"event":`...)
	dst = event.AppendString(dst, o.def.qualified)
	dst = append(dst, `,"uuid":"`...)
	dst = appendUUID(dst, o.uuid)
	dst = append(dst, '"')
	if repeated {
		dst = append(dst, `,"repeated":true`...)
	}
	if o.person.objectID != "" || o.person.utk != "" { // else it is the e-mail
		dst = append(dst, `,"identity":`...)
		dst = appendNames(dst, o.person.names())
	}
	dst = append(dst, `,"written":[`...)
	for i, v := range o.values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = event.AppendString(dst, v.name)
	}
	dst = append(dst, ']')
	dst = appendStripped(dst, o.stripped)
	if told {
		dst = o.appendValues(dst)
	}
	if len(o.cut) > 0 {
		dst = append(dst, `,"cut":`...)
		dst = appendNames(dst, o.cut)
	}
	if !told {
		dst = append(dst, `,"correlation_id":`...)
		dst = event.AppendString(dst, correlation)
	}
	return append(dst, '}')
}

package sandbox

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// maxEvents is the most events of a batch.
const maxEvents = 500

// Event is one accepted occurrence, for inspection.
type Event struct {
	EventName  string            `json:"eventName"` // qualified
	Email      string            `json:"email,omitempty"`
	ObjectID   string            `json:"objectId,omitempty"`
	UTK        string            `json:"utk,omitempty"`
	UUID       string            `json:"uuid,omitempty"`
	OccurredAt time.Time         `json:"occurredAt"`
	Properties map[string]string `json:"properties"`
	ReceivedAt time.Time         `json:"receivedAt"`
	// ContactID is the contact that it belongs to; "" when e-mail and object id were unknown at that moment.
	ContactID string `json:"contactId,omitempty"`
}

// event is a stored occurrence: the JSON as sent, read again for inspection.
type event struct {
	raw      string
	name     string
	received time.Time
	contact  *contact
}

// eventLog is what was accepted.
type eventLog struct {
	list  []event
	uuids map[eventKey]struct{}
}

type eventKey struct{ name, uuid string }

func newEventLog() eventLog { return eventLog{uuids: map[eventKey]struct{}{}} }

// sendEvent answers POST events/send.
func (st *state) sendEvent(c *call) answer {
	d, e := st.checkEvent(c.json)
	if e != nil {
		return st.fail(e)
	}
	if uuid := c.json.Get("uuid").String(); uuid != "" && st.events.has(d, uuid) {
		return st.fail(uuidUsed(uuid))
	}
	st.accept(d, c.json)
	return answer{status: http.StatusNoContent}
}

// BadEvents is what becomes of a batch of events that holds one with a fault. All are modelled: HubSpot documents neither whether one fails the
// others nor what the answer says of it.
type BadEvents int

// Ways to treat a bad event.
const (
	RefuseBatch  BadEvents = iota // 400: none is taken, and it is not said which is at fault
	DropSilently                  // 204: the others are taken
	NamePartly                    // 207: the others are taken, each error names the uuid of its event
	CountPartly                   // 207: the others are taken, errors are not said to be of which event
)

// sendEvents answers POST events/send/batch with 204 for all, or as BadEvents says.
func (st *state) sendEvents(c *call) answer {
	inputs := c.items
	if len(inputs) > maxEvents {
		return st.fail(badInput("The batch holds more inputs than the limit of 500"))
	}
	definitions := make([]*definition, len(inputs))
	var failures []apiError
	for i, in := range inputs {
		d, e := st.checkEvent(in)
		if e == nil && st.opts.StrictUUID {
			if uuid := in.Get("uuid").String(); uuid != "" && st.events.has(d, uuid) {
				e = uuidUsed(uuid)
			}
		}
		switch {
		case e == nil:
			definitions[i] = d
		case st.opts.BadEvents == RefuseBatch:
			return st.fail(e)
		default:
			if st.opts.BadEvents == NamePartly {
				e.context = append(e.context, contextEntry{"uuid", []string{in.Get("uuid").String()}})
			}
			failures = append(failures, *e)
		}
	}
	for i, in := range inputs {
		if d := definitions[i]; d != nil && (in.Get("uuid").String() == "" || !st.events.has(d, in.Get("uuid").String())) {
			st.accept(d, in)
		}
	}
	if len(failures) > 0 && st.opts.BadEvents != DropSilently {
		partial := st.newBatch(0)
		partial.failures = failures
		return partial.finish(http.StatusMultiStatus)
	}
	return answer{status: http.StatusNoContent}
}

// has reports whether the uuid was used for this kind of event. HubSpot remembers for a year.
func (l *eventLog) has(d *definition, uuid string) bool {
	_, ok := l.uuids[eventKey{d.FullyQualifiedName, uuid}]
	return ok
}

// uuidUsed refuses a repeat; the text is modelled, but it names the uuid.
func uuidUsed(uuid string) *apiError {
	return badInput("An event with uuid " + uuid + " already exists.")
}

// accept stores an occurrence.
func (st *state) accept(d *definition, in gjson.Result) {
	ev := event{raw: strings.Clone(in.Raw), name: d.FullyQualifiedName, received: st.now.at}
	if uuid := in.Get("uuid").String(); uuid != "" {
		st.events.uuids[eventKey{d.FullyQualifiedName, strings.Clone(uuid)}] = struct{}{}
	}
	email := foldEmail(in.Get("email").String())
	if id := in.Get("objectId").String(); id != "" {
		ev.contact = st.contacts.byID(id)
	} else if email != "" {
		if ev.contact = st.contacts.byEmail[email]; ev.contact == nil && st.opts.AutoContactFromEvent {
			ev.contact = st.contacts.add(st.now, 1)
			st.setValue(ev.contact, field{value: email, prop: st.properties.view["email"]})
		}
	}
	st.events.list = append(st.events.list, ev)
	if keep := st.opts.KeepEvents; keep > 0 && len(st.events.list) > keep+keep/8 {
		st.events.forget(len(st.events.list) - keep)
	}
	if st.opts.Accepted != nil {
		st.opts.Accepted(d.FullyQualifiedName, in.Get("properties"))
	}
}

// forget drops the n oldest events and their uuids.
func (l *eventLog) forget(n int) {
	for i := range l.list[:n] {
		ev := &l.list[i]
		delete(l.uuids, eventKey{ev.name, gjson.Get(ev.raw, "uuid").String()})
	}
	l.list = append(make([]event, 0, len(l.list)), l.list[n:]...)
}

// checkEvent finds what is wrong with one occurrence.
func (st *state) checkEvent(in gjson.Result) (*definition, *apiError) {
	name := in.Get("eventName").String()
	if !in.IsObject() || name == "" || !in.Get("properties").IsObject() {
		return nil, badInput("Invalid input JSON on line 1, column 1: Some required fields were not set: [eventName, properties]")
	}
	d := st.definitions.view[st.shortName(name)]
	if d == nil || d.FullyQualifiedName != name { // the bare name is not enough
		return nil, unknownDefinition(name)
	}
	email := in.Get("email").String()
	if in.Get("objectId").String() == "" && email == "" && in.Get("utk").String() == "" {
		return nil, badInput("email, utk, or objectId is required")
	}
	if email != "" && !isEmail(strings.TrimSpace(email)) {
		return nil, badInput("Email address " + email + " is invalid")
	}
	if at := in.Get("occurredAt"); at.Exists() {
		if _, ok := parseTime(at.String()); !ok {
			return nil, badInput("occurredAt is not a valid time: " + at.String())
		}
	}
	return d, st.checkEventProperties(d, in.Get("properties"))
}

func (st *state) checkEventProperties(d *definition, properties gjson.Result) (e *apiError) {
	n := 0
	properties.ForEach(func(k, v gjson.Result) bool {
		p := d.property(k.Str)
		n++
		switch {
		case v.Type == gjson.JSON:
			e = badInput("Invalid input JSON on line 1, column 1: Cannot deserialize value of property " + k.Str + " as a string")
		case p == nil && st.opts.AcceptUnknownEventProperties:
		case p == nil:
			e = badInput("Property " + k.Str + " does not exist on event " + d.FullyQualifiedName)
		default:
			e = checkEventValue(p, v.String())
		}
		return e == nil
	})
	if e == nil && n > maxEventProperties {
		e = badInput("The limit of 50 properties of an event is exceeded")
	}
	return e
}

// checkEventValue applies the limits of length, then the rules of the type.
func checkEventValue(p *property, v string) *apiError {
	limit := 256
	for _, long := range []string{"url", "referrer", "link"} {
		if strings.Contains(p.Name, long) {
			limit = 1024
		}
	}
	if utf8.RuneCountInString(v) > limit {
		return badInput("Value of property " + p.Name + " is longer than the limit of " + strconv.Itoa(limit) + " characters")
	}
	if v == "" {
		return nil
	}
	if pr := p.check(p, v); pr != nil {
		return valuesNotValid([]problem{*pr})
	}
	return nil
}

// export reads a stored occurrence.
func (ev *event) export() Event {
	in := gjson.Parse(ev.raw)
	out := Event{
		EventName: ev.name, Email: in.Get("email").String(), ObjectID: in.Get("objectId").String(), UTK: in.Get("utk").String(),
		UUID: in.Get("uuid").String(), OccurredAt: ev.received, ReceivedAt: ev.received, Properties: map[string]string{},
	}
	if t, ok := parseTime(in.Get("occurredAt").String()); ok {
		out.OccurredAt = t.UTC()
	}
	in.Get("properties").ForEach(func(k, v gjson.Result) bool {
		out.Properties[k.String()] = v.String()
		return true
	})
	if ev.contact != nil {
		out.ContactID = ev.contact.id
	}
	return out
}

// defaultEventProperties are those of each definition unless it refuses them. hs_touchpoint_source is documented both as text and as an
// enumeration; any text is taken.
var defaultEventProperties = sync.OnceValue(func() map[string]*property {
	all := map[string]*property{}
	add := func(kind, fieldType string, options []string, names ...string) {
		for _, name := range names {
			p := Property{Name: name, Label: name, Type: kind, FieldType: fieldType, HubSpotDefined: true}
			for i, o := range options {
				p.Options = append(p.Options, Option{Label: o, Value: o, DisplayOrder: i})
			}
			all[name] = newProperty(p)
		}
	}
	add(
		"string", "text", nil,
		"hs_asset_description", "hs_asset_type", "hs_browser", "hs_campaign_id", "hs_city", "hs_country", "hs_device_name",
		"hs_element_class", "hs_element_id", "hs_element_text", "hs_link_href", "hs_operating_system", "hs_operating_version",
		"hs_page_id", "hs_page_title", "hs_page_url", "hs_parent_module_id", "hs_referrer", "hs_region", "hs_touchpoint_source",
		"hs_tracking_name", "hs_user_agent", "hs_utm_campaign", "hs_utm_content", "hs_utm_medium", "hs_utm_source", "hs_utm_term",
	)
	add("number", "number", nil, "hs_screen_height", "hs_screen_width")
	add("enumeration", "select", []string{
		"Game Console", "PDA", "Personal Computer", "Desktop", "Smartphone", "Smart TV", "Tablet",
		"Wearable Computer", "Unknown",
	}, "hs_device_type")
	add("enumeration", "select", []string{
		"BLOG_POST", "KNOWLEDGE_ARTICLE", "LANDING_PAGE", "LISTING_PAGE", "STANDARD_PAGE", "WEB_INTERACTIVE",
	}, "hs_page_content_type")
	add("enumeration", "select", nil, "hs_language")
	all["hs_language"].check = checkLanguage
	return all
})

// defaultEventNames are the names of defaultEventProperties, sorted.
var defaultEventNames = sync.OnceValue(func() []string {
	var names []string
	for name := range defaultEventProperties() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
})

// checkLanguage takes codes such as en and pt-br. Modelled: the list of hs_language is not published.
func checkLanguage(p *property, v string) *problem {
	lang, region, _ := strings.Cut(v, "-")
	if len(lang) < 2 || len(lang) > 3 || !isName(lang, 3) || region != "" && !isName(region, 8) {
		return p.notAnOption(v)
	}
	return nil
}

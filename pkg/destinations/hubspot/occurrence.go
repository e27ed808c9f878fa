package hubspot

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/tidwall/gjson"

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

// uuidSpace is the name space of event uuids. It must never change: HubSpot knows for a year which uuids it took.
var uuidSpace = uuid.MustParse("6d5a4e0c-0d7b-5a0e-9f0e-6b1f6a1c2f3e")

// eventUUID is the same whenever the same output of the same event is sent, whatever happened in between.
func eventUUID(ev *event.Event, index int) uuid.UUID {
	return uuid.NewSHA1(uuidSpace, fmt.Appendf(nil, "%s\x00%s\x00%d", ev.APIKey, ev.ID, index))
}

// eventName writes a client's event type, or a property's name, as HubSpot's internal names are: a letter, then letters, digits and
// underscores, lower case, at most 50. A name in another script would leave nothing, or just its digits: a hash keeps such names apart.
func eventName(s string) string {
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

// ownFields are members of an event that are not properties of what happened: the envelope's, the SDK's, and those that have a
// property of HubSpot's own.
var ownFields = func() map[string]bool {
	all := map[string]bool{}
	for _, name := range [...]string{
		"event_type", "event_id", "eventn_ctx", "eventn_ctx_event_id", "api_key", "_timestamp", "timestamp", "utc_time",
		"local_tz_offset", "src", "src_payload", "source_ip", "user", "ids", "click_id", "utm", "revenue", "conversion",
		"url", "page_title", "referer", "user_agent", "user_language", "screen_resolution", "vp_size",
		"doc_path", "doc_host", "doc_search", "doc_encoding", "parsed_ua", "location", "__HTTP_CONTEXT__",
	} {
		all[name] = true
	}
	return all
}()

// candidate is a property that an event may carry, in the order of preference.
type candidate struct {
	name, label string
	value       gjson.Result
	ours        bool // one of HubSpot's own that we fill: nothing to report when it cannot be
}

// candidates lists what the event has to say: its revenue, HubSpot's own properties from the page fields, its own scalar fields, and
// those of its user that the contact schema knows.
func candidates(ev *event.Event, s *schema) []candidate {
	all := make([]candidate, 0, 32)
	add := func(name, label string, v gjson.Result, ours bool) {
		if absent(v) || len(all) >= maxCandidates {
			return
		}
		for i := range all {
			if all[i].name == name {
				if !all[i].ours && !ours {
					all[i].value = v // of two that clean to one name the last counts, as in contacts
				}
				return
			}
		}
		all = append(all, candidate{name, label, v, ours})
	}
	root := gjson.ParseBytes(ev.JSON)
	fields := root
	if ctx := root.Get("eventn_ctx"); ctx.IsObject() {
		fields = ctx
	}
	if v := root.Get("revenue"); !absent(v) && v.Type != gjson.JSON {
		add("revenue", "Revenue", v, false)
	} else if v := root.Get("conversion.revenue"); v.Type != gjson.JSON {
		add("revenue", "Revenue", v, false)
	}
	addPage(ev, fields, add)
	revenue := len(all) > 0 && all[0].name == "revenue"
	root.ForEach(func(k, v gjson.Result) bool {
		if v.Type == gjson.JSON || ownFields[k.Str] {
			return true
		}
		if name := eventName(k.Str); name != "revenue" || !revenue {
			add(name, k.Str, v, false)
		}
		return true
	})
	if s == nil {
		return all
	}
	known := len(all)
	ev.User().ForEach(func(k, v gjson.Result) bool {
		name := cleanName(k.Str)
		if name == emailProperty || s.properties[name] == nil {
			return true
		}
		name = eventName(name)
		// What the event itself says under this name goes before what its user says.
		if !slices.ContainsFunc(all[:known], func(c candidate) bool { return c.name == name }) {
			add(name, k.Str, v, false)
		}
		return true
	})
	return all
}

// pageFields are HubSpot's own properties with where they are found, in the flat format or inside eventn_ctx.
var pageFields = [...]struct{ name, path string }{
	{"hs_page_url", "url"},
	{"hs_page_title", "page_title"},
	{"hs_referrer", "referer"},
	{"hs_utm_source", "utm.source"},
	{"hs_utm_medium", "utm.medium"},
	{"hs_utm_campaign", "utm.campaign"},
	{"hs_utm_term", "utm.term"},
	{"hs_utm_content", "utm.content"},
	{"hs_language", "user_language"},
	{"hs_browser", "parsed_ua.ua_family"},
	{"hs_operating_system", "parsed_ua.os_family"},
	{"hs_operating_version", "parsed_ua.os_version"},
	{"hs_device_name", "parsed_ua.device_model"},
	{"hs_city", "location.city"},
	{"hs_region", "location.region"},
	{"hs_country", "location.country_name"},
}

func addPage(ev *event.Event, fields gjson.Result, add func(name, label string, v gjson.Result, ours bool)) {
	for _, f := range pageFields {
		if v := fields.Get(f.path); v.Type != gjson.JSON {
			add(f.name, f.name, v, true)
		}
	}
	agent := fields.Get("user_agent")
	if absent(agent) || agent.Type == gjson.JSON {
		agent = gjson.Result{Type: gjson.String, Str: ev.UserAgent}
	}
	add("hs_user_agent", "hs_user_agent", agent, true)
	width, height, ok := strings.Cut(fields.Get("screen_resolution").Str, "x")
	if ok && isDigits(width) && isDigits(height) && width != "0" && height != "0" {
		add("hs_screen_width", "hs_screen_width", gjson.Result{Type: gjson.String, Str: width}, true)
		add("hs_screen_height", "hs_screen_height", gjson.Result{Type: gjson.String, Str: height}, true)
	}
}

// propertyType is the type of a new event property: a number where the first value is one, else text. A boolean is text too, for
// an enumeration would refuse what comes next.
func (c *candidate) propertyType() string {
	if c.value.Type == gjson.Number || c.name == "revenue" && isDecimal(c.value.Str) {
		return "number"
	}
	return "string"
}

// occurrence is one event as it is sent.
type occurrence struct {
	entry      int // of the batch
	email      string
	uuid       uuid.UUID
	at         string
	candidates []candidate
	name       string // short
	label      string

	def      *definition
	values   []written
	stripped []stripped
	cut      []string
}

// newOccurrence reads the event of entry i.
func newOccurrence(i int, e *destinations.Entry, s *schema) *occurrence {
	o := &occurrence{
		entry: i, email: e.Plan.ID, uuid: eventUUID(e.Event, e.Name.Index), at: e.Event.Time().UTC().Format(occurredLayout),
		candidates: candidates(e.Event, s), label: e.Event.Type(),
	}
	if o.label == "" {
		o.label = unknownEvent
	}
	o.name = eventName(o.label)
	return o
}

// wants are the properties that a definition should have for the occurrence.
func (o *occurrence) wants() []newProperty {
	all := make([]newProperty, 0, len(o.candidates))
	for i := range o.candidates {
		c := &o.candidates[i]
		if c.ours || isDefaultProperty(c.name) || len(all) == maxEventProperties {
			continue
		}
		all = append(all, newProperty{c.name, c.label, c.propertyType()})
	}
	return all
}

// fill writes the candidates as the definition has them.
func (o *occurrence) fill(def *definition) {
	o.def, o.values, o.stripped, o.cut = def, nil, nil, nil
	for i := range o.candidates {
		c := &o.candidates[i]
		p := def.properties[c.name]
		if p == nil {
			if !c.ours {
				o.strip(c.name, reasonUnknown)
			}
			continue
		}
		text, ok := p.format(c.value)
		if !ok && c.name == "hs_language" { // en-GB where only en is an option
			language, _, _ := strings.Cut(c.value.Str, "-")
			text, ok = p.option(language)
		}
		switch {
		case !ok && c.ours:
		case !ok:
			o.strip(c.name, reasonValue)
		case len(o.values) == maxEventProperties:
			o.strip(c.name, reasonLimit)
		default:
			if p.kind == kindString {
				var cut bool
				if text, cut = cutText(text, valueLimit(c.name)); cut {
					o.cut = append(o.cut, c.name)
				}
			}
			o.values = append(o.values, written{c.name, text})
		}
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

// drop takes a property out and says whether it was there.
func (o *occurrence) drop(name, reason string) bool {
	i := slices.IndexFunc(o.values, func(v written) bool { return v.name == name })
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
		dst = append(dst, `,"email":`...)
		dst = event.AppendString(dst, o.email)
		dst = append(dst, `,"occurredAt":"`...)
		dst = append(dst, o.at...)
		dst = append(dst, `","uuid":"`...)
		dst = appendUUID(dst, o.uuid)
		dst = append(dst, `","properties":{`...)
		for j, v := range o.values {
			if j > 0 {
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

// appendDetail appends what became of an occurrence.
func (o *occurrence) appendDetail(dst []byte, repeated bool, correlation string) []byte {
	dst = append(dst, `{"event":`...)
	dst = event.AppendString(dst, o.def.qualified)
	dst = append(dst, `,"uuid":"`...)
	dst = appendUUID(dst, o.uuid)
	dst = append(dst, '"')
	if repeated {
		dst = append(dst, `,"repeated":true`...)
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
	if len(o.cut) > 0 {
		dst = append(dst, `,"cut":`...)
		dst = appendNames(dst, o.cut)
	}
	dst = append(dst, `,"correlation_id":`...)
	dst = event.AppendString(dst, correlation)
	return append(dst, '}')
}

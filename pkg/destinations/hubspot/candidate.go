package hubspot

import (
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// ownFields are members of an event that are not properties of what happened: the envelope's, the SDK's, and those that have a
// property of HubSpot's own.
var ownFields = func() map[string]bool {
	all := map[string]bool{}
	for _, name := range [...]string{
		"event_type", "event_id", "eventn_ctx", "eventn_ctx_event_id", "api_key", "_timestamp", "timestamp", "utc_time",
		"local_tz_offset", "src", "src_payload", "source_ip", "user", "ids", "click_id", "utm", "revenue", "conversion",
		"url", "page_title", "referer", "user_agent", "user_language", "screen_resolution", "vp_size",
		"doc_path", "doc_host", "doc_search", "doc_encoding", "parsed_ua", "location", "__HTTP_CONTEXT__", utkField,
	} {
		all[name] = true
	}
	return all
}()

// candidate is a property that an event may carry, in the order of preference.
type candidate struct {
	name, label string
	value       gjson.Result
	ours        bool   // one of HubSpot's own that we fill: nothing to report when it cannot be
	mapped      bool   // made by an expression of the settings: nothing else of the event replaces it
	left        string // why it is left out whatever the definition says; ""
}

// candidateList collects candidates, each name once.
type candidateList []candidate

func (l *candidateList) add(c candidate) {
	if absent(c.value) && c.left == "" || c.value.Type == gjson.JSON && c.ours || len(*l) >= maxCandidates {
		return
	}
	if known := l.find(c.name); known == nil {
		*l = append(*l, c)
	} else if !known.ours && !c.ours && !known.mapped {
		known.value = c.value // of two that clean to one name the last counts, as in contacts
	}
}

func (l *candidateList) find(name string) *candidate {
	for i := range *l {
		if (*l)[i].name == name {
			return &(*l)[i]
		}
	}
	return nil
}

// candidates lists what the event has to say, as far as the settings let it: what their expressions make of it, its revenue, HubSpot's own
// properties from the page fields, its own scalar fields, and those of its user that the contact schema knows.
func candidates(ev *event.Event, s *schema, rules *eventProperties) []candidate {
	var page pageValues
	var revenue, conversion, compat gjson.Result
	var ownSpace [16]candidate
	own := ownSpace[:0]
	var inner []candidate // of the compatibility format
	gjson.ParseBytes(ev.JSON).ForEach(func(k, v gjson.Result) bool {
		switch k.Str {
		case "revenue":
			revenue = v
		case "conversion":
			conversion = v
		case "eventn_ctx":
			compat = v
		default:
			page.take(k.Str, v)
			if v.Type != gjson.JSON && !ownFields[k.Str] && len(own) < maxCandidates {
				own = append(own, candidate{name: eventName(k.Str), label: k.Str, value: v})
			}
		}
		return true
	})
	if ev.Source == segmentSource {
		own = withoutMessage(own, gjson.GetBytes(ev.JSON, "segment"))
	}
	if compat.IsObject() { // the compatibility format
		compat.ForEach(func(k, v gjson.Result) bool {
			page.take(k.Str, v)
			if v.Type != gjson.JSON && !ownFields[k.Str] && len(inner) < maxCandidates {
				inner = append(inner, candidate{name: eventName(k.Str), label: k.Str, value: v})
			}
			return true
		})
	}
	all := make(candidateList, 0, len(own)+len(inner)+16)
	var space [8]valueOf
	for _, m := range rules.expressions.all(space[:0], ev, "") {
		c := candidate{name: m.name, label: m.name, value: m.value, mapped: true}
		if m.err != nil {
			c.left = reasonExpression
		}
		all.add(c)
	}
	for _, other := range [...]gjson.Result{conversion.Get("revenue"), compat.Get("revenue"), compat.Get("conversion.revenue")} {
		if absent(revenue) || revenue.Type == gjson.JSON {
			revenue = other
		}
	}
	if revenue.Type != gjson.JSON {
		all.add(candidate{name: "revenue", label: "Revenue", value: revenue})
	}
	hasRevenue := all.find("revenue") != nil
	page.addTo(&all, ev.UserAgent)
	for _, c := range own {
		if c.name != "revenue" || !hasRevenue {
			all.add(c)
		}
	}
	said := all
	for _, c := range inner {
		if said.find(c.name) == nil { // what stands outside goes before it
			all.add(c)
		}
	}
	if s != nil {
		all.addUser(ev.User(), s)
	}
	return all.restrict(rules)
}

// segmentSource is the `src` of events of Jitsu's routes for Segment's messages. As in Jitsu they have all members of message and context at the top level.
const segmentSource = "segment_api"

// withoutMessage leaves out what a message of Segment's says of itself: it is no property of what happened.
func withoutMessage(own []candidate, message gjson.Result) []candidate {
	properties := map[string]bool{"name": true, "category": true}
	message.Get("properties").ForEach(func(k, _ gjson.Result) bool {
		properties[k.Str] = true
		return true
	})
	said := map[string]bool{}
	for _, object := range [...]gjson.Result{message, message.Get("context")} {
		object.ForEach(func(k, _ gjson.Result) bool {
			said[k.Str] = true
			return true
		})
	}
	return slices.DeleteFunc(own, func(c candidate) bool { return said[c.label] && !properties[c.label] })
}

// restrict leaves out what the settings do not let through, and what an expression is to make.
func (l candidateList) restrict(rules *eventProperties) candidateList {
	if len(rules.only)+len(rules.except)+len(rules.expressions.names) == 0 {
		return l
	}
	for i := range l {
		if rules.excluded(l[i].name) {
			l[i].left = reasonExcluded
		}
	}
	return slices.DeleteFunc(l, func(c candidate) bool {
		return c.ours && c.left != "" || !c.mapped && rules.expressions.has(c.name)
	})
}

// addUser adds what the schema knows of the user. What the event itself says under a name goes before it.
func (l *candidateList) addUser(user gjson.Result, s *schema) {
	said := *l
	user.ForEach(func(k, v gjson.Result) bool {
		p := s.find(k.Str)
		if p == nil || p.name == emailProperty || p.name == objectIDProperty {
			return true
		}
		if name := eventName(p.name); said.find(name) == nil {
			l.add(candidate{name: name, label: k.Str, value: v})
		}
		return true
	})
}

// pageFields are HubSpot's own properties with where they are found, in the flat format or inside eventn_ctx.
var pageFields = [...]struct{ name, object, field string }{
	{"hs_page_url", "", "url"},
	{"hs_page_title", "", "page_title"},
	{"hs_referrer", "", "referer"},
	{"hs_user_agent", "", "user_agent"},
	{"hs_utm_source", "utm", "source"},
	{"hs_utm_medium", "utm", "medium"},
	{"hs_utm_campaign", "utm", "campaign"},
	{"hs_utm_term", "utm", "term"},
	{"hs_utm_content", "utm", "content"},
	{"hs_language", "", "user_language"},
	{"hs_browser", "parsed_ua", "ua_family"},
	{"hs_operating_system", "parsed_ua", "os_family"},
	{"hs_operating_version", "parsed_ua", "os_version"},
	{"hs_device_name", "parsed_ua", "device_model"},
	{"hs_device_type", "parsed_ua", "device_family"},
	{"hs_city", "location", "city"},
	{"hs_region", "location", "region"},
	{"hs_country", "location", "country_name"},
}

// pageIndex finds a page field: object, field, place in pageFields. The object of a top-level field is "".
var pageIndex = func() map[string]map[string]int {
	index := map[string]map[string]int{}
	for i, f := range pageFields {
		if index[f.object] == nil {
			index[f.object] = map[string]int{}
		}
		index[f.object][f.field] = i
	}
	return index
}()

// osFamily is the place of the operating system in pageFields.
var osFamily = slices.IndexFunc(pageFields[:], func(f struct{ name, object, field string }) bool { return f.field == "os_family" })

// deviceType is HubSpot's word for the kind of device, as far as the families tell that a parser of user agents finds; "" where they do not: Android
// runs on telephones and tablets alike.
func deviceType(device, system string) string {
	device, system = strings.ToLower(device), strings.ToLower(system)
	switch {
	case containsAny(device, "ipad", "tablet", "kindle"):
		return "Tablet"
	case containsAny(device, "iphone", "ipod", "smartphone"):
		return "Smartphone"
	case containsAny(device, "playstation", "xbox", "nintendo"):
		return "Game Console"
	case containsAny(device, "smart tv", "smarttv", "appletv", "apple tv", "chromecast", "roku"):
		return "Smart TV"
	case containsAny(device, "watch"):
		return "Wearable Computer"
	case containsAny(system, "windows phone"):
		return "Smartphone"
	case containsAny(system, "windows", "mac os", "macos", "linux", "ubuntu", "fedora", "debian", "chrome os", "freebsd"):
		return "Desktop"
	}
	return ""
}

// pageValues are the page fields of one event.
type pageValues struct {
	values [len(pageFields)]gjson.Result
	screen string
}

// take keeps a member of the event if it is a page field, or holds some.
func (p *pageValues) take(name string, v gjson.Result) {
	if name == "screen_resolution" {
		p.screen = v.Str
		return
	}
	if v.Type != gjson.JSON {
		if i, ok := pageIndex[""][name]; ok {
			p.values[i] = v
		}
		return
	}
	if fields := pageIndex[name]; fields != nil && name != "" {
		v.ForEach(func(k, v gjson.Result) bool {
			if i, ok := fields[k.Str]; ok {
				p.values[i] = v
			}
			return true
		})
	}
}

func (p *pageValues) addTo(all *candidateList, userAgent string) {
	text := func(s string) gjson.Result { return gjson.Result{Type: gjson.String, Str: s} }
	for i, f := range pageFields {
		v := p.values[i]
		switch {
		case f.field == "user_agent" && absent(v):
			v = text(userAgent)
		case f.name == "hs_device_type":
			v = text(deviceType(v.Str, p.values[osFamily].Str))
		}
		all.add(candidate{name: f.name, label: f.name, value: v, ours: true})
	}
	width, height, ok := strings.Cut(p.screen, "x")
	if ok && isDigits(width) && isDigits(height) && width != "0" && height != "0" {
		all.add(candidate{name: "hs_screen_width", label: "hs_screen_width", value: text(width), ours: true})
		all.add(candidate{name: "hs_screen_height", label: "hs_screen_height", value: text(height), ours: true})
	}
}

// Types of the event properties that are made.
const (
	typeNumber   = "number"
	typeDatetime = "datetime"
	typeText     = "string" // whatever comes
)

// propertyType is the type of a new event property: a number where the first value is one, a time where it is a whole date-time of RFC 3339,
// else text. A boolean is text too: HubSpot's description of the API has no such type for events, and an enumeration of two would refuse
// what comes next.
func (c *candidate) propertyType() string {
	switch v := &c.value; {
	case v.Type == gjson.Number, c.name == "revenue" && isDecimal(v.Str):
		return typeNumber
	case v.Type == gjson.String && len(v.Str) >= len("2006-01-02T15:04:05Z") && v.Str[4] == '-':
		if at, err := time.Parse(time.RFC3339Nano, v.Str); err == nil && plausible(at) {
			return typeDatetime
		}
	}
	return typeText
}

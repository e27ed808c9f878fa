package event

import (
	"bytes"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// TimestampLayout is how `_timestamp` is written, as Jitsu writes it: UTC with microseconds.
const TimestampLayout = "2006-01-02T15:04:05.000000Z"

// Envelope fields as filters and transforms see them. A destination never takes them for the event's own properties.
const (
	FieldEventID   = "eventn_ctx_event_id" // inside an `eventn_ctx` object: event_id
	FieldAPIKey    = "api_key"
	FieldTimestamp = "_timestamp"
	FieldSource    = "src"
	FieldSourceIP  = "source_ip"
	FieldUserAgent = "user_agent"

	// FieldHTTPContext holds the request's headers, where that is configured.
	FieldHTTPContext = "__HTTP_CONTEXT__"
	// FieldLocation and FieldParsedUA are members of Added that stand inside an `eventn_ctx` object, if the event has one.
	FieldLocation = "location"
	FieldParsedUA = "parsed_ua"

	// FieldEnvelope says where a webhook sends the event, if a transform wrote it.
	FieldEnvelope = "JITSU_ENVELOP"

	// FieldAnonymousHash is a member of the user object.
	FieldAnonymousHash = "hashed_anonymous_id"
)

// Type returns event_type as text: "" when it is absent, null, an object or an array; a number as the client wrote it.
func (e *Event) Type() string {
	t := gjson.GetBytes(e.JSON, "event_type")
	switch t.Type {
	case gjson.String:
		return t.Str
	case gjson.Number, gjson.True, gjson.False:
		return t.Raw
	default:
		return ""
	}
}

// User returns the user object: `user`, or `eventn_ctx.user` of the compatibility format. It does not exist when
// neither is an object.
func (e *Event) User() gjson.Result {
	if u := gjson.GetBytes(e.JSON, "user"); u.IsObject() {
		return u
	}
	if u := gjson.GetBytes(e.JSON, "eventn_ctx.user"); u.IsObject() {
		return u
	}
	return gjson.Result{}
}

// UserEmail returns the e-mail that the event itself carries in its user object, trimmed and otherwise as sent, or else the one
// that the identity memory supplied; "" when there is neither. The key is matched without regard to case; a value
// that is not a string counts as absent.
func (e *Event) UserEmail() string {
	if v, ok := e.OwnEmail(); ok {
		return v
	}
	return e.Email
}

// OwnEmail returns the e-mail that the event itself carries: in its user object, or where that has none in eventn_ctx.user, as in Jitsu.
func (e *Event) OwnEmail() (string, bool) {
	user := e.User()
	if v, ok := OwnEmail(user); ok || !user.IsObject() || !bytes.Contains(e.JSON, []byte("eventn_ctx")) {
		return v, ok
	}
	return OwnEmail(gjson.GetBytes(e.JSON, "eventn_ctx.user"))
}

// OwnEmail returns the e-mail that a user object carries, trimmed. An exact `email` wins over other spellings.
func OwnEmail(user gjson.Result) (string, bool) {
	if !user.IsObject() {
		return "", false
	}
	found := ""
	user.ForEach(func(k, v gjson.Result) bool {
		if v.Type != gjson.String || len(k.Str) != len("email") || !strings.EqualFold(k.Str, "email") {
			return true
		}
		s := strings.TrimSpace(v.Str)
		if s == "" {
			return true
		}
		if k.Str == "email" {
			found = s
			return false
		}
		if found == "" {
			found = s
		}
		return true
	})
	return found, found != ""
}

// Time returns when the event happened: the client's utc_time or timestamp, in the flat or the eventn_ctx format, and else the
// time of receipt. They are texts or numbers since 1970. A client's time that does not parse, or lies more than a day after receipt, is not used.
func (e *Event) Time() time.Time {
	for _, path := range [...]string{"utc_time", "timestamp", "eventn_ctx.utc_time", FieldTimestamp} {
		t, ok := ParseTime(gjson.GetBytes(e.JSON, path))
		if ok && t.Year() > 1970 && t.Before(e.Received.Add(24*time.Hour)) {
			return t.UTC()
		}
	}
	return e.Received
}

// timeLayouts are how clients write times: RFC 3339, and the same without a zone, which is UTC. Fractions of seconds pass with any.
var timeLayouts = [...]string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00"}

// secondsBelow tells seconds since 1970 from milliseconds: as seconds it is the year 5138, as milliseconds 1973.
const secondsBelow = 1e11

// ParseTime reads a time as clients write it: a text, or a number of seconds or milliseconds since 1970.
func ParseTime(v gjson.Result) (time.Time, bool) {
	number := v.Num
	switch v.Type {
	case gjson.Number:
	case gjson.String:
		for _, layout := range timeLayouts {
			if len(v.Str) < len("2006-01-02T15:04:05") {
				break
			}
			if t, err := time.Parse(layout, v.Str); err == nil {
				return t, true
			}
		}
		var err error
		if number, err = strconv.ParseFloat(v.Str, 64); err != nil {
			return time.Time{}, false
		}
	default:
		return time.Time{}, false
	}
	if !(number > 0 && number < 1e14) { // not a number, too
		return time.Time{}, false
	}
	if number < secondsBelow {
		number *= 1000
	}
	return time.UnixMilli(int64(number)), true
}

// AppendView appends the event as filters and transforms see it: the client's members, and behind them those envelope
// fields that the client did not send. Like Jitsu, `api_key` is always the router's own (the key's id, never a secret), and so is the
// user's `hashed_anonymous_id`, in events that have a user. The user's e-mail that the identity memory supplied is there as if the client had sent it. A parsed_ua that the client sent gets the members that it lacks; a location is taken as a
// whole, for a mixture of two would be no place.
func (e *Event) AppendView(dst []byte) []byte {
	var has struct{ id, timestamp, source, sourceIP, userAgent bool }
	var space [4]addedMember
	added := e.added(space[:0])
	idHidden := e.Hidden&HideID != 0
	start := len(dst)
	dst = append(dst, '{')
	comma := func() {
		if len(dst) > start+1 {
			dst = append(dst, ',')
		}
	}
	Members(text(e.JSON), func(key, rawKey, raw string) bool {
		if e.leavesOut(key, raw) {
			return true
		}
		v := gjson.Result{Raw: raw}
		if isObject(raw) {
			v.Type = gjson.JSON
		}
		switch key {
		case FieldTimestamp:
			has.timestamp = true
		case FieldSource:
			has.source = true
		case FieldSourceIP:
			has.sourceIP = true
		case FieldUserAgent:
			has.userAgent = true
		}
		comma()
		dst = append(dst, rawKey...)
		dst = append(dst, ':')
		switch {
		case key == fieldContext && v.IsObject():
			has.id, has.userAgent = true, true // in there
			dst = e.appendContext(dst, v, added)
		case key == "user":
			if v.IsObject() { // another value stays as it is
				dst = e.appendUser(dst, v)
			} else {
				dst = append(dst, raw...)
			}
		default:
			dst = appendOwn(dst, key, v, added, false)
		}
		return true
	})
	add := func(there bool, key, value string) {
		if there || value == "" {
			return
		}
		comma()
		dst = AppendString(dst, key)
		dst = append(dst, ':')
		dst = AppendString(dst, value)
	}
	add(e.Hidden&HideAPIKey != 0, FieldAPIKey, e.APIKey)
	add(has.id || idHidden, FieldEventID, e.ID)
	add(has.source || e.Hidden&HideSource != 0, FieldSource, e.Source)
	add(has.sourceIP, FieldSourceIP, e.SourceIP)
	add(has.userAgent, FieldUserAgent, e.UserAgent)
	if !has.timestamp && e.Hidden&HideTimestamp == 0 {
		comma()
		dst = append(dst, `"`+FieldTimestamp+`":"`...)
		dst = append(e.Received.UTC().AppendFormat(dst, TimestampLayout), '"')
	}
	for i := range added {
		if m := &added[i]; !m.shown {
			comma()
			dst = m.appendTo(dst)
		}
	}
	return append(dst, '}')
}

// leavesOut says whether the view leaves out a member of the client's.
func (e *Event) leavesOut(key, raw string) bool {
	switch key {
	case FieldAPIKey: // would shadow the router's own
		return true
	case FieldEventID:
		return e.Hidden&HideID == 0 // ID is it, or what stands for it
	case FieldHTTPContext:
		return e.ownContext() // a client must not make up headers
	case "event_id":
		if e.Hidden&HideID != 0 {
			return false
		}
		id := gjson.Parse(raw).String()
		return id == "" || id == e.ID // moved, as in Jitsu
	}
	return false
}

// fieldContext is the object that holds all context in the compatibility format.
const fieldContext = "eventn_ctx"

// addedMember is a member of Added.
type addedMember struct {
	name, rawName, raw string
	inside             bool // it stands inside eventn_ctx
	shown              bool // it is in the view, or the client's own is
}

func (m *addedMember) appendTo(dst []byte) []byte {
	m.shown = true
	dst = append(dst, m.rawName...)
	dst = append(dst, ':')
	return append(dst, m.raw...)
}

// added appends the members of Added to list.
func (e *Event) added(list []addedMember) []addedMember {
	if len(e.Added) == 0 {
		return list
	}
	inside := strings.HasPrefix(Member(text(e.JSON), fieldContext), "{")
	gjson.Parse(text(e.Added)).ForEach(func(k, v gjson.Result) bool {
		list = append(list, addedMember{
			name: k.Str, rawName: k.Raw, raw: v.Raw, inside: inside && (k.Str == FieldLocation || k.Str == FieldParsedUA),
		})
		return true
	})
	return list
}

// appendOwn appends a value that the client sent as name, at the top or inside eventn_ctx, in place of the member of added that has this name there.
func appendOwn(dst []byte, name string, v gjson.Result, added []addedMember, inside bool) []byte {
	for i := range added {
		m := &added[i]
		if m.inside != inside || m.name != name {
			continue
		}
		m.shown = true
		if name == FieldParsedUA && v.IsObject() {
			return appendMerged(dst, v, gjson.Parse(m.raw))
		}
	}
	return append(dst, v.Raw...)
}

// appendMerged appends the object v with those members of more that it lacks.
func appendMerged(dst []byte, v, more gjson.Result) []byte {
	start := len(dst)
	put := func(k, v gjson.Result) {
		if len(dst) == start {
			dst = append(dst, '{')
		} else {
			dst = append(dst, ',')
		}
		dst = append(dst, k.Raw...)
		dst = append(dst, ':')
		dst = append(dst, v.Raw...)
	}
	v.ForEach(func(k, own gjson.Result) bool { put(k, own); return true })
	more.ForEach(func(k, other gjson.Result) bool {
		has := false
		v.ForEach(func(own, _ gjson.Result) bool { has = own.Str == k.Str; return !has })
		if !has {
			put(k, other)
		}
		return true
	})
	if len(dst) == start {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

// ownContext says whether the router noted the request's headers.
func (e *Event) ownContext() bool { return bytes.Contains(e.Added, []byte(`"`+FieldHTTPContext+`"`)) }

// appendUser appends the user object with the hash and the e-mail in it.
func (e *Event) appendUser(dst []byte, user gjson.Result) []byte {
	if e.AnonymousHash == "" && e.Email == "" {
		return append(dst, user.Raw...)
	}
	start := len(dst)
	dst = append(dst, '{')
	user.ForEach(func(k, v gjson.Result) bool {
		if k.Str == FieldAnonymousHash && e.AnonymousHash != "" || k.Str == "email" && e.Email != "" { // not a usable one, else there were no other
			return true
		}
		dst = append(dst, k.Raw...)
		dst = append(dst, ':')
		dst = append(dst, v.Raw...)
		dst = append(dst, ',')
		return true
	})
	if e.Email != "" {
		dst = append(dst, `"email":`...)
		dst = append(AppendString(dst, e.Email), ',')
	}
	if e.AnonymousHash != "" {
		dst = append(dst, `"`+FieldAnonymousHash+`":`...)
		dst = append(AppendString(dst, e.AnonymousHash), ',')
	}
	if len(dst) == start+1 {
		return append(dst, '}')
	}
	dst[len(dst)-1] = '}'
	return dst
}

// appendContext appends the eventn_ctx object with event_id, user_agent and what was added where the client left them out.
func (e *Event) appendContext(dst []byte, ctx gjson.Result, added []addedMember) []byte {
	start := len(dst)
	dst = append(dst, '{')
	comma := func() {
		if len(dst) > start+1 {
			dst = append(dst, ',')
		}
	}
	idHidden := e.Hidden&HideID != 0
	if !idHidden {
		dst = append(dst, `"event_id":`...)
		dst = AppendString(dst, e.ID)
	}
	userAgent := false
	ctx.ForEach(func(k, v gjson.Result) bool {
		if k.Str == "event_id" && !idHidden {
			return true
		}
		userAgent = userAgent || k.Str == FieldUserAgent
		comma()
		dst = append(dst, k.Raw...)
		dst = append(dst, ':')
		if k.Str == "user" && v.IsObject() {
			dst = e.appendUser(dst, v)
		} else {
			dst = appendOwn(dst, k.Str, v, added, true)
		}
		return true
	})
	if !userAgent && e.UserAgent != "" {
		comma()
		dst = append(dst, `"user_agent":`...)
		dst = AppendString(dst, e.UserAgent)
	}
	for i := range added {
		if m := &added[i]; m.inside && !m.shown {
			comma()
			dst = m.appendTo(dst)
		}
	}
	return append(dst, '}')
}

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte { return gjson.AppendJSONString(dst, s) }

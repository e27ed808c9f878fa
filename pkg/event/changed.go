package event

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"sync"
	"unsafe"

	"github.com/tidwall/gjson"
)

// Changed returns the event of which result is the view, where view is that of e and result the JSON object that a transform made of it, each name once. It is output
// index of its event: from the second one on its id is that of e with _1, _2 and so on, unless the transform gave it one. Neither e nor the arguments are
// changed; the event may share bytes of e, but none of the arguments.
//
//	client's JSON ─AppendView─▶ view ─transform─▶ result ─Changed─▶ JSON without what the envelope adds + envelope without what is not in result
//
// What the transform left as it was stays where it was, byte for byte: in the client's JSON or in the envelope. What it removed is in neither, what it made or changed
// is in the JSON. The API key stays, whatever the transform wrote, and so do time of receipt, source and id, which the router itself needs; of these the view no longer shows
// those that are not in result. A changed id becomes the event's, as [CleanID] writes it.
func (e *Event) Changed(view, result []byte, index int) *Event {
	out := *e
	if index == 0 {
		if bytes.Equal(view, result) {
			return &out
		}
		if json := e.extended(view, result); json != nil {
			out.JSON = json
			return &out
		}
	}
	c := changes.Get().(*change)
	defer c.release()
	c.from, c.out, c.index = e, &out, index
	c.own.read(text(e.JSON))
	c.view.read(text(view))
	c.result.read(text(result))
	c.ownContext.read(c.own.value(fieldContext))
	c.viewContext.read(c.view.value(fieldContext))
	c.resultContext.read(c.result.value(fieldContext))
	c.users()
	c.id()
	c.envelope()
	c.added()
	envelope := c.result.value(FieldEnvelope)
	out.Enveloped = envelope != "" && envelope != c.view.value(FieldEnvelope)
	out.JSON = c.json(make([]byte, 0, len(result)))
	return &out
}

// extended returns the JSON of an event whose view has only grown, {...$, plan: "pro"}, by members that mean nothing to the envelope; nil in all other cases. It is what
// most transforms do, and needs no look at what was there.
func (e *Event) extended(view, result []byte) []byte {
	end := len(view) - 1
	if end < len(`{"a":1`) || len(result) < len(view) || result[end] != ',' || !bytes.Equal(result[:end], view[:end]) {
		return nil
	}
	for s, ok := nextSpan(text(result), end); ok; s, ok = nextSpan(text(result), s.end) {
		if key := text(result[s.key:s.keyEnd]); meantByEnvelope[key] || strings.IndexByte(key, '\\') >= 0 {
			return nil
		}
	}
	own := bytes.TrimSpace(e.JSON)
	if !bytes.HasSuffix(own, []byte("}")) {
		return nil
	}
	own = bytes.TrimSpace(own[:len(own)-1])
	json := make([]byte, 0, len(own)+len(result)-end)
	json = append(json, own...)
	if bytes.HasSuffix(own, []byte("{")) {
		end++ // no comma
	}
	return append(json, result[end:]...)
}

// meantByEnvelope are the names, as JSON has them, with which a transform can mean the envelope.
var meantByEnvelope = map[string]bool{
	`"` + FieldAPIKey + `"`: true, `"` + FieldEventID + `"`: true, `"event_id"`: true, `"` + FieldTimestamp + `"`: true, `"` + FieldSource + `"`: true, `"` + FieldSourceIP + `"`: true,
	`"` + FieldUserAgent + `"`: true, `"` + FieldLocation + `"`: true, `"` + FieldParsedUA + `"`: true, `"` + FieldHTTPContext + `"`: true, `"user"`: true, `"` + fieldContext + `"`: true,
	`"` + FieldEnvelope + `"`: true,
}

// text is b as a string, for as long as nobody writes to it. To copy an event would be the larger part of the work.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// change is the way from one event to another. Flags that say keeps mean: it is in the envelope, the transform left it alone, and so it stays there.
type change struct {
	from, out *Event
	index     int

	own, view, result                      object
	ownContext, viewContext, resultContext object
	ownUser, viewUser, resultUser          object // of the user in hand

	keepsID, keepsEmail, keepsHash, keepsUserAgent bool
	keepsAdded                                     []string // members of Added that stay there
	writesID                                       bool     // the JSON says what the view shows as ids
}

// changes are kept, since their lists are as long as events have members.
var changes = sync.Pool{New: func() any { return new(change) }}

// release gives c back without what it knows of the event.
func (c *change) release() {
	for _, o := range [...]*object{
		&c.own, &c.view, &c.result, &c.ownContext, &c.viewContext, &c.resultContext, &c.ownUser, &c.viewUser, &c.resultUser,
	} {
		o.forget()
	}
	*c = change{
		own: c.own, view: c.view, result: c.result, ownContext: c.ownContext, viewContext: c.viewContext, resultContext: c.resultContext,
		ownUser: c.ownUser, viewUser: c.viewUser, resultUser: c.resultUser,
	}
	changes.Put(c)
}

// isSame says whether the transform left was alone.
func isSame(m, was member) bool {
	return m.is() && was.is() && same(m.raw, was.raw)
}

// context says whether the result is in the compatibility format.
func (c *change) context() bool { return c.resultContext.there }

// moved says whether the result is in another format than the event, so that parts of the envelope would be shown elsewhere.
func (c *change) moved() bool { return c.viewContext.there != c.resultContext.there }

// place returns where the view, the result and the client show a part of the envelope that stands inside eventn_ctx, if there is one.
func (c *change) place() (own, view, result *object) {
	if c.context() {
		return &c.ownContext, &c.viewContext, &c.resultContext
	}
	return &c.own, &c.view, &c.result
}

// users finds out whether the user's e-mail and hash were left alone, in all users of the event.
func (c *change) users() {
	c.keepsEmail, c.keepsHash = c.from.Email != "", c.from.AnonymousHash != ""
	if !c.keepsEmail && !c.keepsHash {
		return
	}
	for _, at := range [...]struct{ view, result *object }{{&c.view, &c.result}, {&c.viewContext, &c.resultContext}} {
		view, result := &c.viewUser, &c.resultUser
		view.read(at.view.value("user"))
		result.read(at.result.value("user"))
		if !view.there && !result.there {
			continue
		}
		both := view.there && result.there
		c.keepsEmail = c.keepsEmail && both && isSame(result.find("email"), view.find("email"))
		c.keepsHash = c.keepsHash && both && isSame(result.find(FieldAnonymousHash), view.find(FieldAnonymousHash))
	}
	if !c.keepsEmail {
		c.out.Email = ""
	}
	if !c.keepsHash {
		c.out.AnonymousHash = ""
	}
}

// id finds out what becomes of the event's id.
func (c *change) id() {
	name := FieldEventID
	if c.context() {
		name = "event_id"
	}
	_, _, result := c.place()
	given := result.find(name)
	var other member // in the compatibility format it means nothing, but it is what people write
	if c.context() {
		other = c.result.find(FieldEventID)
	}
	// The envelope can only show a text in the usual place.
	usual := !other.is() && (!given.is() || isID(given.raw))
	for _, m := range [...]member{given, other} {
		if id := CleanID(m.raw); id != "" && id != c.from.ID {
			c.out.ID = strings.Clone(id) // result belongs to the caller
		}
	}
	if old := c.result.find("event_id"); old.is() { // a view leaves out one that says nothing else than the id
		id := gjson.Parse(old.raw).String()
		usual = usual && id != "" && id != c.out.ID
	}
	switch {
	case c.index > 0:
		if c.out.ID == c.from.ID {
			c.out.ID += "_" + strconv.Itoa(c.index)
		}
		c.out.Hidden &^= HideID
	case !usual || c.from.Hidden&HideID != 0:
		c.out.Hidden |= HideID
		c.writesID = true
	case !given.is():
		if c.from.ID != "" {
			c.out.Hidden |= HideID
		}
	default:
		c.keepsID = c.out.ID == c.from.ID
	}
}

// isID says whether raw is a text that is an id as it stands.
func isID(raw string) bool {
	v := gjson.Parse(raw)
	return v.Type == gjson.String && v.Str != "" && len(v.Str) <= maxIDBytes
}

// CleanID returns the event id that a value of JSON gives: a text or a number as it is written, hashed if it is longer than 200 bytes; "" for other values.
func CleanID(raw string) string {
	id := ""
	switch v := gjson.Parse(raw); v.Type {
	case gjson.String:
		id = v.Str
	case gjson.Number:
		id = v.Raw
	}
	if len(id) <= maxIDBytes {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80 // a UUID of one's own hash, RFC 9562
	h := hex.EncodeToString(sum[:16])
	return strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")
}

// maxIDBytes is the longest event id that is kept as it is.
const maxIDBytes = 200

// envelope finds out which single fields of the envelope stay.
func (c *change) envelope() {
	hide := func(name string, bit Hidden, is bool) {
		switch {
		case c.result.find(name).is():
			c.out.Hidden &^= bit
		case is:
			c.out.Hidden |= bit
		}
	}
	hide(FieldAPIKey, HideAPIKey, c.from.APIKey != "")
	hide(FieldTimestamp, HideTimestamp, true)
	hide(FieldSource, HideSource, c.from.Source != "")
	if !isSame(c.result.find(FieldSourceIP), c.view.find(FieldSourceIP)) {
		c.out.SourceIP = ""
	}
	_, view, result := c.place()
	c.keepsUserAgent = !c.moved() && isSame(result.find(FieldUserAgent), view.find(FieldUserAgent))
	if !c.keepsUserAgent {
		c.out.UserAgent = ""
	}
}

// added leaves in Added what the transform left alone.
func (c *change) added() {
	if len(c.from.Added) == 0 {
		return
	}
	var all object
	all.read(text(c.from.Added))
	var added []byte
	for i := range all.members {
		m := all.at(i)
		view, result := &c.view, &c.result
		inside := m.key == FieldLocation || m.key == FieldParsedUA
		if inside {
			_, view, result = c.place()
		}
		if inside && c.moved() || !isSame(result.find(m.key), view.find(m.key)) {
			continue
		}
		c.keepsAdded = append(c.keepsAdded, m.key)
		if added == nil {
			added = append(make([]byte, 0, len(c.from.Added)), '{')
		} else {
			added = append(added, ',')
		}
		added = append(append(append(added, m.rawKey...), ':'), m.raw...)
	}
	switch {
	case len(c.keepsAdded) == len(all.members):
	case added == nil:
		c.out.Added = nil
	default:
		c.out.Added = append(added, '}')
	}
}

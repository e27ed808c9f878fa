package segment

import (
	"bytes"
	"time"
)

// Form is how a canonical event is laid out.
type Form uint8

const (
	// Flat is the canonical event.
	Flat Form = iota
	// Jitsu is Flat with what Jitsu Classic has beside it at the top level: ids, and every member of message and context that Flat leaves
	// in the kept message.
	Jitsu
	// JitsuCompat is Jitsu's older format: what describes user and page stands inside eventn_ctx.
	JitsuCompat
)

// Options are what a message does not say itself.
type Options struct {
	Protocol string    // segment, rudderstack, jitsu: the member that keeps the message
	Type     string    // the kind of message, where the path says it; "": the message's own
	Form     Form      //
	Received time.Time // to correct the client's clock by
	SentAt   []byte    // of the batch, a raw value; nil: none
	Context  []byte    // of the batch, a raw value; nil: none. The message's own members go before.
}

// Source is what a message tells of itself beside the event. Its slices are valid as long as those that Append was given and has returned.
type Source struct {
	ID    []byte // the raw value that identifies it, a text or a number; nil: none
	Timed bool   // it carries the client's time
	Kept  []byte // the message without its write keys
	IP    []byte // the raw value of the client's address; nil: it tells none
}

// Converter makes canonical events. It keeps its memory from one to the next, and is for one goroutine at a time.
type Converter struct {
	dst     []byte
	opts    Options
	fields  [numFields][]byte
	context [numContext][]byte
	taken   topNames            // by properties and by the message itself
	names   map[string]struct{} // at the top level, in Jitsu's forms alone
}

// Append appends the canonical event of a message, a JSON object, to dst.
func (c *Converter) Append(dst, message []byte, o *Options) ([]byte, Source) {
	c.forget() // after a panic, too
	c.dst, c.opts, c.taken = dst, *o, 0
	keyed := c.read(message)

	c.dst = append(c.dst, '{')
	c.appendType()
	c.appendTime()
	if isText(c.context[cIP]) {
		c.raw("source_ip", c.context[cIP])
	}
	if o.Form == JitsuCompat {
		at := c.open("eventn_ctx")
		c.appendUser()
		c.appendContext()
		c.close(at, "eventn_ctx")
	} else {
		c.appendUser()
	}
	c.appendOwn()
	c.appendProperties()
	if o.Form != JitsuCompat {
		c.appendContext()
	}
	c.appendNames()
	if o.Form != Flat {
		c.appendRest(message)
	}
	c.key(o.Protocol)
	from := len(c.dst)
	c.appendKept(message, keyed)
	src := Source{ID: c.id(), Timed: isID(c.fields[fTimestamp]) || isID(c.fields[fOriginalTimestamp]), Kept: c.dst[from:]}
	if src.IP = c.context[cIP]; !isText(src.IP) {
		src.IP = nil
		if o.Form != Flat {
			src.IP = c.fields[fSourceIP] // stays at the top level
		}
	}
	dst = append(c.dst, '}')

	c.forget()
	return dst, src
}

// forget drops all that refers to what Append was given.
func (c *Converter) forget() {
	clear(c.names)
	clear(c.fields[:])
	clear(c.context[:])
	c.dst, c.opts = nil, Options{}
}

// read finds what of the message has a meaning, the last of several members of one name, and says whether it holds a write key.
func (c *Converter) read(message []byte) (keyed bool) {
	for m := membersOf(message); ; {
		el, ok := m.next()
		if !ok {
			break
		}
		c.fields[fieldOf(el.name)] = el.value
	}
	for _, context := range [...][]byte{c.opts.Context, c.fields[fContext]} {
		for m := membersOf(context); ; {
			el, ok := m.next()
			if !ok {
				break
			}
			c.context[contextFieldOf(el.name)] = el.value
		}
	}
	return c.fields[fWriteKey] != nil
}

// id returns what identifies the message.
func (c *Converter) id() []byte {
	for _, f := range [...]field{fMessageID, fFlatEventID, fEventID} {
		if isID(c.fields[f]) {
			return c.fields[f]
		}
	}
	return nil
}

// kind is the kind of message: what the path says, or what it says itself.
func (c *Converter) kind() string {
	switch {
	case c.opts.Type != "":
		return c.opts.Type
	case isText(c.fields[fType]):
		return text(c.fields[fType])
	case isText(c.fields[fEvent]):
		return "track"
	}
	return ""
}

const identifyType = "user_identify"

// appendType appends event_type.
func (c *Converter) appendType() {
	value := c.fields[fType]
	switch kind := c.kind(); kind {
	case "identify":
		value = []byte(`"` + identifyType + `"`)
	case "page":
		value = []byte(`"pageview"`)
	case "screen":
		value = []byte(`"screen"`)
	case "group":
		value = []byte(`"group"`)
	case "alias":
		value = []byte(`"alias"`)
	case "track":
		// An event that somebody named user_identify shall not write contacts.
		if value = c.fields[fEvent]; !isID(value) || text(value) == identifyType {
			value = []byte(`"track"`)
		}
	case "":
		if value = c.fields[fEventType]; value == nil {
			return
		}
	}
	c.raw("event_type", value)
}

// appendOwn appends what messages of one kind alone say.
func (c *Converter) appendOwn() {
	switch c.kind() {
	case "group":
		if isID(c.fields[fGroupID]) {
			c.raw("group_id", c.fields[fGroupID])
			c.taken.add(tGroupID)
		}
		if isObject(c.fields[fTraits]) {
			c.raw("group", c.fields[fTraits])
			c.taken.add(tGroup)
		}
	case "alias":
		if isID(c.fields[fPreviousID]) {
			c.raw("previous_id", c.fields[fPreviousID])
		}
	}
}

// appendNames appends name and category of a page or screen.
func (c *Converter) appendNames() {
	switch c.kind() {
	case "page", "screen":
		c.soft(tName, "name", c.fields[fName])
		c.soft(tCategory, "category", c.fields[fCategory])
	}
}

// appendProperties appends the properties as members of the event itself, but for names that mean something else there.
func (c *Converter) appendProperties() {
	said := c.taken
	for m := membersOf(c.fields[fProperties]); ; {
		el, ok := m.next()
		if !ok {
			return
		}
		n := topNameOf(el.name)
		if n == reservedName || said.has(n) && n != freeName {
			continue
		}
		c.taken.add(n)
		c.rawMember(el)
	}
}

// appendRest appends what Jitsu Classic leaves at the top level: the members of context and message that have no other place.
func (c *Converter) appendRest(message []byte) {
	for _, context := range [...][]byte{c.fields[fContext], c.opts.Context} {
		for m := membersOf(context); ; {
			el, ok := m.next()
			if !ok {
				break
			}
			switch contextFieldOf(el.name) {
			case otherContext:
				if topNameOf(el.name) != reservedName && !c.has(el.name) {
					c.rawMember(el)
				}
			case cReferrer:
				at := c.open("referrer")
				for r := membersOf(el.value); ; {
					inner, ok := r.next()
					if !ok {
						break
					}
					if string(inner.name) != "url" {
						c.inner(inner)
					}
				}
				c.close(at, "referrer")
			}
		}
	}
	for m := membersOf(message); ; {
		el, ok := m.next()
		if !ok {
			return
		}
		switch fieldOf(el.name) {
		case fType, fTraits, fProperties, fContext, fUserID, fAnonymousID, fMessageID, fFlatEventID, fEventID, fWriteKey:
			continue
		}
		if !c.has(el.name) && string(el.name) != c.opts.Protocol {
			c.rawMember(el)
		}
	}
}

// appendKept appends the message as it came, without its write keys.
func (c *Converter) appendKept(message []byte, keyed bool) {
	if !keyed {
		c.dst = append(c.dst, message...)
		return
	}
	c.dst = append(c.dst, '{')
	for m := membersOf(message); ; {
		el, ok := m.next()
		if !ok {
			break
		}
		if fieldOf(el.name) != fWriteKey {
			c.inner(el)
		}
	}
	c.dst = append(c.dst, '}')
}

// key appends the name of a member, one without escapes, after a comma where one is due: a value never ends in an opening brace.
func (c *Converter) key(name string) {
	c.comma()
	c.dst = append(c.dst, '"')
	c.dst = append(c.dst, name...)
	c.dst = append(c.dst, '"', ':')
}

func (c *Converter) comma() {
	if c.dst[len(c.dst)-1] != '{' {
		c.dst = append(c.dst, ',')
	}
}

// raw appends a member at the top level.
func (c *Converter) raw(name string, value []byte) {
	c.note(name)
	c.member(name, value)
}

// member appends a member to whatever object is open.
func (c *Converter) member(name string, value []byte) {
	c.key(name)
	c.dst = append(c.dst, value...)
}

// rawMember appends a member at the top level as it was sent.
func (c *Converter) rawMember(el member) {
	c.note(view(el.name))
	c.inner(el)
}

// inner appends a member as it was sent to whatever object is open.
func (c *Converter) inner(el member) {
	c.comma()
	c.dst = append(c.dst, el.rawName...)
	c.dst = append(c.dst, ':')
	c.dst = append(c.dst, el.value...)
}

// open begins an object as a member, and close ends it; where nothing is in it, close takes all away that came after at.
func (c *Converter) open(name string) (at int) {
	at = len(c.dst)
	c.key(name)
	c.dst = append(c.dst, '{')
	return at
}

func (c *Converter) close(at int, name string) {
	if at < 0 {
		return
	}
	if c.dst[len(c.dst)-1] == '{' {
		c.dst = c.dst[:at]
		return
	}
	c.dst = append(c.dst, '}')
	c.note(name)
}

// note remembers a name for appendRest, until Append returns. That some stand inside another object does no harm: they have their place.
func (c *Converter) note(name string) {
	if c.opts.Form == Flat {
		return
	}
	if c.names == nil {
		c.names = map[string]struct{}{}
	}
	c.names[name] = struct{}{}
}

func (c *Converter) has(name []byte) bool {
	_, ok := c.names[string(name)]
	return ok
}

// IsRudderStack says whether a message is from one of RudderStack's libraries: their names have it in them; the one for node has kept the name of Segment's
// that it comes from, but tells the time as originalTimestamp alone.
func IsRudderStack(message []byte) bool {
	var context []byte
	var timestamp, original bool
	for m := membersOf(message); ; {
		el, ok := m.next()
		if !ok {
			break
		}
		switch fieldOf(el.name) {
		case fContext:
			context = el.value
		case fTimestamp:
			timestamp = true
		case fOriginalTimestamp:
			original = true
		}
	}
	library := Find(Find(context, "library"), "name")
	return original && !timestamp || bytes.Contains(library, []byte("udder")) // Rudder, rudder
}

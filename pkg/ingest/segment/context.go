package segment

import "bytes"

// appendUser appends the user: the ids of the message, and the traits that it or its context carries. A group's traits are not the user's.
func (c *Converter) appendUser() {
	at := c.open("user")
	if isID(c.fields[fUserID]) {
		if c.opts.Form != JitsuCompat {
			c.member("id", c.fields[fUserID])
		}
		if c.opts.Form != Flat {
			c.member("internal_id", c.fields[fUserID])
		}
	}
	if isID(c.fields[fAnonymousID]) {
		c.member("anonymous_id", c.fields[fAnonymousID])
	}
	own := c.fields[fTraits]
	if c.kind() == "group" {
		own = nil
	}
	for m := membersOf(own); ; {
		el, ok := m.next()
		if !ok {
			break
		}
		if !c.isUserID(el.name) {
			c.inner(el)
		}
	}
	if known := c.context[cTraits]; !bytes.Equal(known, own) { // RudderStack sends them twice
		c.appendKnownTraits(known, own)
	}
	c.close(at, "user")
	if c.opts.Form == Flat {
		return
	}
	at = c.open("ids")
	if isID(c.fields[fUserID]) {
		c.member("ajs_user_id", c.fields[fUserID])
	}
	if isID(c.fields[fAnonymousID]) {
		c.member("ajs_anonymous_id", c.fields[fAnonymousID])
	}
	c.close(at, "ids")
}

// isUserID says whether the message itself says what a trait of this name would say.
func (c *Converter) isUserID(name []byte) bool {
	switch string(name) {
	case "id":
		return c.opts.Form != JitsuCompat && isID(c.fields[fUserID])
	case "internal_id":
		return c.opts.Form != Flat && isID(c.fields[fUserID])
	case "anonymous_id":
		return isID(c.fields[fAnonymousID])
	}
	return false
}

// appendKnownTraits appends the traits that the context carries and the message itself does not.
func (c *Converter) appendKnownTraits(known, own []byte) {
	var names map[string]bool
	for m := membersOf(own); ; {
		el, ok := m.next()
		if !ok {
			break
		}
		if names == nil {
			names = map[string]bool{}
		}
		names[view(el.name)] = true
	}
	for m := membersOf(known); ; {
		el, ok := m.next()
		if !ok {
			return
		}
		if !names[view(el.name)] && !c.isUserID(el.name) {
			c.inner(el)
		}
	}
}

// appendContext appends what the context tells of page, campaign and device, under the names that Jitsu has for it.
func (c *Converter) appendContext() {
	referer := Find(c.context[cReferrer], "url")
	var title, url []byte
	at := c.openSoft(tDoc, "doc")
	for m := membersOf(c.context[cPage]); ; {
		el, ok := m.next()
		if !ok {
			break
		}
		switch string(el.name) {
		case "title":
			title = el.value
			continue
		case "url":
			url = el.value
		case "referrer":
			if referer == nil {
				referer = el.value
			}
		}
		if at >= 0 {
			c.inner(el)
		}
	}
	c.close(at, "doc")
	c.soft(tURL, "url", url)
	c.soft(tPageTitle, "page_title", title)
	c.soft(tReferer, "referer", referer)
	c.appendCampaign()
	if isText(c.context[cUserAgent]) {
		c.raw("user_agent", c.context[cUserAgent])
	}
	c.soft(tLanguage, "user_language", c.context[cLocale])
	if isObject(c.context[cLocation]) {
		c.soft(tLocation, "location", c.context[cLocation])
	}
	c.appendDevice()
	c.appendScreen()
}

// appendCampaign appends utm. A campaign's name is what utm calls campaign; it keeps its own name beside it.
func (c *Converter) appendCampaign() {
	at := c.openSoft(tUTM, "utm")
	if at < 0 {
		return
	}
	name := Find(c.context[cCampaign], "name")
	if name != nil {
		c.member("campaign", name)
	}
	for m := membersOf(c.context[cCampaign]); ; {
		el, ok := m.next()
		if !ok {
			break
		}
		if name == nil || string(el.name) != "campaign" {
			c.inner(el)
		}
	}
	c.close(at, "utm")
}

// deviceNames are the members of a context's device, with what parsed_ua calls them.
var deviceNames = [...]struct{ from, to string }{
	{"id", "device_id"},
	{"advertisingId", "device_advertising_id"},
	{"manufacturer", "device_brand"},
	{"model", "device_model"},
	{"name", "device_name"},
	{"type", "device_type"},
	{"version", "ua_version"},
}

// appendDevice appends parsed_ua from what the client says of its system and device. Empty texts, which some SDKs send from browsers, would
// keep the router from reading the user agent.
func (c *Converter) appendDevice() {
	at := c.openSoft(tParsedUA, "parsed_ua")
	if at < 0 {
		return
	}
	if v := Find(c.context[cOS], "name"); isText(v) {
		c.member("os_family", v)
	}
	if v := Find(c.context[cOS], "version"); isID(v) {
		c.member("os_version", v)
	}
	if isObject(c.context[cDevice]) {
		for _, n := range deviceNames {
			if v := Find(c.context[cDevice], n.from); isID(v) {
				c.member(n.to, v)
			}
		}
	}
	c.close(at, "parsed_ua")
}

// appendScreen appends screen_resolution, as in 1024x768.
func (c *Converter) appendScreen() {
	if !isObject(c.context[cScreen]) || c.taken.has(tScreen) {
		return
	}
	width, height := Find(c.context[cScreen], "width"), Find(c.context[cScreen], "height")
	if !isNumber(width) || !isNumber(height) {
		return
	}
	c.note("screen_resolution")
	c.key("screen_resolution")
	c.dst = append(c.dst, '"')
	c.dst = append(c.dst, width...)
	c.dst = append(c.dst, 'x')
	c.dst = append(c.dst, height...)
	c.dst = append(c.dst, '"')
}

// openSoft is open for a name that a property may have taken: then it returns -1, and close does nothing.
func (c *Converter) openSoft(n topName, name string) (at int) {
	if c.taken.has(n) {
		return -1
	}
	return c.open(name)
}

// soft appends a member unless a property has taken its name, or it has no value.
func (c *Converter) soft(n topName, name string, value []byte) {
	if !c.taken.has(n) && value != nil && string(value) != "null" {
		c.raw(name, value)
	}
}

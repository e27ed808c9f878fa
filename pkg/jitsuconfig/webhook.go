package jitsuconfig

import (
	"net/netip"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// hostOf finds the host of a URL, without its port.
var hostOf = regexp.MustCompile(`^(?i:https?)://(?:[^/?#@]*@)?(\[[^\]]*\]|[^/?#:{}\s]*)`)

// bareInJSON finds a field of the event between the quotes of a JSON text.
var bareInJSON = regexp.MustCompile(`^\s*[{\[](?s:.*)"[^"{}]*\{\{-?\s*\.[^}]*\}\}[^"{}]*"`)

// webhook tells where requests are not those of Jitsu.
func (c *converter) webhook(d *destination, v *yaml.Node, path string) {
	if key, url := child(v, "url"); url != nil && !hasVariable(url.Value) {
		host := hostOf.FindStringSubmatch(url.Value)
		switch {
		case host == nil && said(url) != "":
			c.note(ToDo, key.Line, join(path, "url"), "must begin with https:// or http://; what differs from event to event stands in it as {{.user.id}} or the like")
		case host != nil && inside(host[1]) && empty(value(v, "allow_private")):
			c.note(ToDo, key.Line, join(path, "url"), "seems to be an address inside your network, and such are not called unless allow_private says so")
		}
	}
	if empty(value(v, "method")) {
		c.note(Changed, d.line, join(path, "method"), "is not set, and is POST here; write GET if that is what the endpoint was asked with")
	}
	if key, body := child(v, "body"); body != nil && bareInJSON.MatchString(said(body)) {
		c.note(ToDo, key.Line, join(path, "body"), `a value with a quote in it makes "{{…}}" invalid JSON; write {{json .field}} without quotes around it`)
	}
	script := said(value(value(d.node, "data_layout"), "transform")) // which may say all of a request itself
	if empty(value(v, "body")) && strings.ToUpper(said(value(v, "method"))) != "GET" && !strings.Contains(script, "JITSU_ENVELOP") {
		c.note(Changed, d.line, join(path, "body"), "is not set: Jitsu sent an empty body, here it is the event as JSON")
	}
}

// inside says whether a host is most likely in a network of one's own.
func inside(host string) bool {
	host = strings.ToLower(strings.Trim(host, "[]"))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
	}
	if !strings.Contains(host, ".") {
		return true
	}
	for _, suffix := range [...]string{".local", ".internal", ".lan", ".localhost", ".home.arpa"} {
		if strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

package jitsuconfig

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// server edits the section server.
func (c *converter) server(v *yaml.Node) {
	c.section(v, "server", "server.", "server", map[string]edit{
		"log":             func(key, v *yaml.Node) bool { return c.serverLog(key, v) },
		"auth_reload_sec": keep,
		"metrics":         keep,
		// oldPlaces moves them.
		"api_keys": keep, "auth": keep, "s2s_auth": keep, "destinations": keep,
	})
	if key, seconds := child(v, "auth_reload_sec"); key != nil {
		if value(v, "api_keys_reload_sec") == nil {
			key.Value = "api_keys_reload_sec"
			c.note(Changed, key.Line, "server.auth_reload_sec", "is an old name; it is api_keys_reload_sec now")
		} else {
			c.note(LeftOut, key.Line, "server.auth_reload_sec", "is an old name, and api_keys_reload_sec stands beside it")
			remove(v, key)
		}
		_ = seconds
	}
	c.metrics(v)
}

// metrics carries over that everybody may see them.
func (c *converter) metrics(server *yaml.Node) {
	key, v := child(server, "metrics")
	if key == nil {
		return
	}
	remove(server, key)
	prometheus := value(v, "prometheus")
	if isTrue(value(prometheus, "enabled")) && isFalse(value(prometheus, "auth")) && value(server, "metrics_access") == nil {
		block(server)
		set(server, "metrics_access", text("public")).Line = key.Line
		c.note(Changed, key.Line, "server.metrics", "becomes metrics_access: public, for the file lets everybody see metrics; at /metrics and /prometheus")
		return
	}
	c.note(LeftOut, key.Line, "server.metrics", "%s", "/metrics and /prometheus are always there and ask for admin_token; nothing is sent to anybody")
}

// levels that both know.
var levels = []string{"debug", "info", "warn", "warning", "error"}

func (c *converter) serverLog(key, v *yaml.Node) bool {
	if v.Kind != yaml.MappingNode {
		return true
	}
	c.section(v, "server.log", "server.log.", "server.log", map[string]edit{
		"level": func(key, v *yaml.Node) bool {
			if hasVariable(said(v)) || slices.Contains(levels, strings.ToLower(said(v))) {
				return true
			}
			c.note(LeftOut, key.Line, "server.log.level", "there are debug, info, warn and error; the default is info")
			return false
		},
	})
	return len(v.Content) > 0
}

// geo says whether anything of the section remains.
func (c *converter) geo(v *yaml.Node) bool {
	if v.Kind != yaml.MappingNode {
		return !empty(v)
	}
	c.section(v, "geo", "geo.", "geo", map[string]edit{
		"maxmind_path": func(key, v *yaml.Node) bool {
			if strings.Contains(said(v), "://") {
				c.note(LeftOut, key.Line, "geo.maxmind_path", "is a URL, and the router downloads no databases: have MaxMind's geoipupdate download them, and name their folder here")
				return false
			}
			return !empty(v)
		},
	})
	return len(v.Content) > 0
}

// oldPlaces moves what stands in server and belongs to the top level.
func (c *converter) oldPlaces(root *yaml.Node) {
	server := value(root, "server")
	for _, name := range [...]string{"api_keys", "auth", "destinations"} {
		key, v := child(server, name)
		if key == nil {
			continue
		}
		remove(server, key)
		to := name
		if name == "auth" {
			to = "api_keys"
		}
		if !empty(value(root, to)) {
			c.note(LeftOut, key.Line, "server."+name, "is an old place, and %s stands at the top level, which goes before it", to)
			continue
		}
		set(root, to, v).Line = key.Line
		c.note(Changed, key.Line, "server."+name, "stands at the top level now, as %s", to)
	}
	c.serverSecrets(root, server)
}

// serverSecrets makes API keys of the old list of server secrets.
func (c *converter) serverSecrets(root, server *yaml.Node) {
	key, v := child(server, "s2s_auth")
	if key == nil {
		return
	}
	remove(server, key)
	items := []*yaml.Node{v}
	if v.Kind == yaml.SequenceNode {
		items = v.Content
	}
	list := value(root, "api_keys")
	switch {
	case empty(list):
		list = &yaml.Node{Kind: yaml.SequenceNode, Line: key.Line}
		set(root, "api_keys", list).Line = key.Line
	case list.Kind == yaml.ScalarNode && !isAddress(list.Value) && !strings.HasPrefix(list.Value, "{") && !strings.HasPrefix(list.Value, "["):
		single := *list // one client secret
		*list = yaml.Node{Kind: yaml.SequenceNode, Line: list.Line, Content: []*yaml.Node{&single}}
	case list.Kind != yaml.SequenceNode:
		c.note(LeftOut, key.Line, "server.s2s_auth", "is an old name, and the API keys do not stand in this file: add each secret there, as a server_secret")
		return
	}
	block(list)
	for _, item := range items {
		if item.Kind == yaml.ScalarNode && item.Value != "" {
			m := &yaml.Node{Kind: yaml.MappingNode, Line: item.Line}
			set(m, "server_secret", item)
			item = m
		}
		if item.Kind == yaml.MappingNode {
			list.Content = append(list.Content, item)
		}
	}
	c.note(Changed, key.Line, "server.s2s_auth", "is an old name; each secret is an element of api_keys now, as its server_secret")
}

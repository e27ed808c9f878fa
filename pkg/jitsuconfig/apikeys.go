package jitsuconfig

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// apiKeys are what only_tokens may name.
type apiKeys struct {
	names map[string]bool // ids and secrets, as the file has them
	whole bool            // all are known: they stand in the file, without variables
	any   bool            // the file says where there are some
}

// apiKeys edits the list of API keys.
func (c *converter) apiKeys(root *yaml.Node) {
	c.keys = apiKeys{names: map[string]bool{}, whole: true}
	key, v := child(root, "api_keys")
	if empty(v) {
		if key != nil {
			remove(root, key)
		}
		c.keys.whole = false
		if c.keys.any = !empty(value(value(root, "configurator"), "base_url")); !c.keys.any {
			c.note(ToDo, 0, "api_keys", `are missing, and without one no event is accepted; write: api_keys: [{id: web, client_secret: "${env.CLIENT_SECRET}", server_secret: "${env.SERVER_SECRET}"}]`)
		}
		return
	}
	c.keys.any = true
	if v.Kind != yaml.SequenceNode {
		// One client secret, or where the keys stand.
		c.keys.whole = v.Kind == yaml.ScalarNode && !isAddress(v.Value) && !strings.HasPrefix(v.Value, "{") && !strings.HasPrefix(v.Value, "[")
		c.token(v)
		return
	}
	for i, item := range v.Content {
		if item.Kind != yaml.MappingNode {
			c.token(item)
			continue
		}
		c.section(item, "api_keys", "api_keys.*.", fmt.Sprintf("api_keys[%d]", i), nil)
		for _, name := range [...]string{"id", "client_secret", "server_secret"} {
			n := value(item, name)
			if n != nil && n.Kind == yaml.SequenceNode {
				for _, secret := range n.Content {
					c.token(secret)
				}
			} else if n != nil {
				c.token(n)
			}
		}
	}
}

// token notes an id or a secret.
func (c *converter) token(n *yaml.Node) {
	c.keys.names[n.Value] = true
	c.keys.whole = c.keys.whole && n.Kind == yaml.ScalarNode && !hasVariable(n.Value)
}

// onlyTokens edits a destination's only_tokens.
func (c *converter) onlyTokens(d *destination) {
	key, v := child(d.node, "only_tokens")
	path := join(d.path, "only_tokens")
	if empty(v) {
		if key != nil {
			remove(d.node, key)
		}
		if !isTrue(value(d.node, "staged")) {
			c.note(Changed, d.line, path, "is not set: in Jitsu such a destination gets no events once there are API keys, here it gets those of all; name its keys, or write staged: true")
		}
		return
	}
	items := []*yaml.Node{v}
	if v.Kind == yaml.SequenceNode {
		items = v.Content
	}
	if !c.keys.whole || v.Kind == yaml.MappingNode {
		return
	}
	var known []*yaml.Node
	for _, item := range items {
		if item.Kind == yaml.ScalarNode && (c.keys.names[item.Value] || hasVariable(item.Value)) {
			known = append(known, item)
		}
	}
	switch {
	case len(known) == len(items):
	case len(known) == 0:
		remove(d.node, key)
		c.stage(d)
		c.note(LeftOut, key.Line, path, "names no API key of this file, so that the destination got no events; it is staged: name its keys and remove that")
	default:
		v.Content = known
		c.note(LeftOut, key.Line, path, "%d of %d are neither the id nor a secret of an API key of this file; they are left out", len(items)-len(known), len(items))
	}
}

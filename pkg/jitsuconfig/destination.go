package jitsuconfig

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"eventrouter/pkg/config"
)

// destination is one that is being edited.
type destination struct {
	name string // as the result has it
	typ  string
	path string // in this file
	line int
	node *yaml.Node
}

// badInName are the characters that no name has.
var badInName = regexp.MustCompile(`[^a-z0-9_-]+`)

// destinations edits all of them, and says whether the result is of use: it has some, or the file never had any.
func (c *converter) destinations(root *yaml.Node) bool {
	key, v := child(root, "destinations")
	if empty(v) {
		if key != nil {
			remove(root, key)
		}
		configured := !empty(value(value(root, "configurator"), "base_url"))
		if !configured && c.keys.any {
			c.note(ToDo, 0, "destinations", "are missing: events are accepted and go nowhere")
		}
		return configured || c.keys.any
	}
	if v.Kind == yaml.ScalarNode {
		var ok bool
		if v, ok = c.inline(root, key, v); !ok {
			return true
		}
	}
	if v.Kind != yaml.MappingNode {
		c.note(LeftOut, key.Line, "destinations", "is a list, and must be a map from names to settings")
		return false
	}
	taken := map[string]bool{}
	var kept []*yaml.Node
	for i := 0; i+1 < len(v.Content); i += 2 {
		key, node := v.Content[i], v.Content[i+1]
		if c.destination(key, node, taken) {
			kept = append(kept, key, node)
		}
	}
	if len(kept) == 0 {
		c.note(ToDo, key.Line, "destinations", "none of them can be carried over: write one for hubspot or webhook, and put the API keys beside it")
		return false
	}
	v.Content = kept
	block(v)
	return true
}

// inline reads destinations that are text: JSON, or the name of a place. False: there is nothing to edit.
func (c *converter) inline(root, key, v *yaml.Node) (*yaml.Node, bool) {
	if !strings.HasPrefix(strings.TrimSpace(v.Value), "{") {
		c.note(ToDo, key.Line, "destinations", "stand elsewhere, and are not converted: what is served there must be what the router takes. `router import-config` reads such a file too")
		return nil, false
	}
	doc, err := config.Document("", []byte(v.Value))
	if err != nil || doc == nil || value(doc.Content[0], "destinations") == nil || hasAliases(doc) {
		c.note(ToDo, key.Line, "destinations", `is not JSON of the form {"destinations": {…}}, and is not converted`)
		return nil, false
	}
	all := value(doc.Content[0], "destinations")
	at(all, v.Line)
	plain(all)
	set(root, "destinations", all)
	c.note(Changed, key.Line, "destinations", "was JSON in a text; its destinations are written out")
	return all, true
}

// destination edits one, and says whether it stays.
func (c *converter) destination(key, node *yaml.Node, taken map[string]bool) bool {
	d := &destination{path: join("destinations", shown(key.Value)), line: key.Line, node: node}
	if node.Kind != yaml.MappingNode {
		c.note(LeftOut, key.Line, d.path, "holds no keys with values")
		return false
	}
	for i := 0; i+1 < len(node.Content); i += 2 { // as Jitsu read them
		if plainName.MatchString(node.Content[i].Value) {
			node.Content[i].Value = strings.ToLower(node.Content[i].Value)
		}
	}
	d.typ = strings.ToLower(said(value(node, "type")))
	if d.typ == "" {
		d.typ = strings.ToLower(key.Value)
	}
	if text, kept := typeText(d.typ); !kept {
		c.note(LeftOut, key.Line, d.path, "%s", text)
		return false
	}
	c.rename(key, d, taken)
	block(node)
	edits := map[string]edit{
		"mode":        func(key, v *yaml.Node) bool { return c.mode(d, key, v) },
		"enrichment":  func(_, v *yaml.Node) bool { c.enrichment(d, v); return !empty(v) },
		"only_tokens": keep, "data_layout": keep, "config": keep,
	}
	for _, typ := range Types() {
		if typ.Kept {
			edits[typ.Name] = func(key, _ *yaml.Node) bool { return c.ofType(d, key) }
		}
	}
	c.section(node, "destinations.NAME", "destinations.*.", d.path, edits)
	if value(node, "mode") == nil {
		c.note(Changed, d.line, join(d.path, "mode"), "is not set, which meant batch in Jitsu: here events are delivered one by one")
	}
	c.onlyTokens(d)
	c.settings(d)
	c.layout(d)
	return true
}

// ofType keeps the section of the destination's own type.
func (c *converter) ofType(d *destination, key *yaml.Node) bool {
	if key.Value != d.typ {
		c.note(LeftOut, key.Line, join(d.path, key.Value), "these are settings of another type than this destination's")
	}
	return key.Value == d.typ
}

// typeText says what becomes of destinations of a type.
func typeText(typ string) (string, bool) {
	all := Types()
	i := slices.IndexFunc(all, func(t Type) bool { return t.Name == typ })
	switch {
	case i >= 0 && all[i].Kept:
		return "", true
	case i >= 0:
		return "is a destination of type " + typ + ": " + all[i].Text, false
	default:
		return "is of a type that Jitsu does not have: " + noSuch, false
	}
}

// rename writes the name as Jitsu read it, and as the router takes it.
func (c *converter) rename(key *yaml.Node, d *destination, taken map[string]bool) {
	d.name = strings.ToLower(key.Value)
	if len(d.name) > 60 {
		d.name = d.name[:60]
	}
	if d.name = badInName.ReplaceAllString(d.name, "_"); d.name == "" {
		d.name = "_"
	}
	for base, n := d.name, 2; taken[d.name]; n++ {
		d.name = base + "_" + strconv.Itoa(n)
	}
	taken[d.name] = true
	if d.name == key.Value {
		return
	}
	switch {
	case d.name == strings.ToLower(key.Value):
		c.note(Changed, key.Line, d.path, "is %s now: Jitsu lower-cased names, and metrics and scripts go by them", d.name)
	default:
		c.note(Changed, key.Line, d.path, "is %s now: a name is made of 1 to 64 letters, digits, _ and -, and stands once", d.name)
	}
	if empty(value(d.node, "type")) {
		typ := text(d.typ)
		d.node.Content = append([]*yaml.Node{text("type"), typ}, d.node.Content...)
	}
	key.Value, key.Style = d.name, 0
}

func (c *converter) mode(d *destination, key, v *yaml.Node) bool {
	if mode := strings.ToLower(said(v)); mode != "stream" && !hasVariable(mode) {
		*v = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "stream", Line: v.Line, LineComment: v.LineComment}
		c.note(Changed, key.Line, join(d.path, "mode"), "is stream now: events are delivered as they come; there are no batches")
	}
	return true
}

// stage keeps a destination from getting events.
func (c *converter) stage(d *destination) {
	block(d.node)
	set(d.node, "staged", yes())
}

// settings edits the section of the destination's type.
func (c *converter) settings(d *destination) {
	key, v := child(d.node, "config")
	old, oldV := child(d.node, d.typ)
	if key != nil && empty(v) {
		remove(d.node, key)
		key = nil
	}
	if key != nil && old != nil {
		c.note(LeftOut, old.Line, join(d.path, d.typ), "config stands beside it, and goes before it")
		remove(d.node, old)
	} else if key == nil {
		key, v = old, oldV
	}
	if key == nil || v.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(v.Content); i += 2 {
		if plainName.MatchString(v.Content[i].Value) {
			v.Content[i].Value = strings.ToLower(v.Content[i].Value)
		}
	}
	switch path := join(d.path, key.Value); d.typ {
	case "hubspot":
		c.hubspot(d, v, path)
	case "webhook":
		c.webhook(d, v, path)
	}
}

// hubspot puts a token into the place of an API key.
func (c *converter) hubspot(d *destination, v *yaml.Node, path string) {
	key, _ := child(v, "api_key")
	if key == nil {
		return
	}
	path = join(path, "api_key")
	row := c.table["hubspot"]["api_key"]
	if !empty(value(v, "access_token")) {
		remove(v, key)
		c.note(LeftOut, key.Line, path, "access_token stands beside it, and goes before it")
		return
	}
	if t, _ := child(v, "access_token"); t != nil {
		remove(v, t)
	}
	variable := strings.ToUpper(strings.ReplaceAll(d.name, "-", "_")) + "_ACCESS_TOKEN"
	key.Value = "access_token"
	block(v)
	set(v, "access_token", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "${env." + variable + "}", Line: key.Line})
	c.note(LeftOut, key.Line, path, "%s", row.Text)
	c.note(ToDo, key.Line, path, "set the environment variable %s to the token of a private app", variable)
}

// enrichment writes the paths of rules as Jitsu read them.
func (c *converter) enrichment(d *destination, v *yaml.Node) {
	if v.Kind != yaml.SequenceNode {
		return
	}
	path := join(d.path, "enrichment")
	v.Content = slices.DeleteFunc(v.Content, func(rule *yaml.Node) bool {
		name := said(value(rule, "name"))
		if hasVariable(name) || name == "ip_lookup" || name == "user_agent_parse" {
			return false
		}
		c.note(LeftOut, rule.Line, path, "there are the rules ip_lookup and user_agent_parse; another one is left out")
		return true
	})
	for _, rule := range v.Content {
		for _, name := range [...]string{"from", "to"} {
			n := value(rule, name)
			if n == nil || n.Kind != yaml.ScalarNode || hasVariable(n.Value) {
				continue
			}
			if read := strings.ToLower(strings.ReplaceAll(n.Value, " ", "")); read != n.Value {
				n.Value = read
				c.note(Changed, rule.Line, path, "the path in %s is in lower case and without spaces now, as Jitsu read it", name)
			}
		}
	}
}

package jitsuconfig

import (
	"bytes"
	"errors"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"eventrouter/pkg/config"
)

// Result is what came of a file.
type Result struct {
	// YAML is the configuration of the router; nil when nothing usable came out.
	YAML []byte
	// Notes are what could not be carried over and what changed, by kind and line.
	Notes []Note
}

const madeBy = "# Made of Jitsu's configuration by router import-config."

// Convert makes the router's configuration of Jitsu's in data, YAML or JSON, which stands in a file called name. It reads nothing else: variables stay
// placeholders, and what stands at URLs or in other files is not looked at. An error is a [config.Problems]: the file can not be read as a configuration.
// Nothing in Notes or in an error shows a secret of the file.
func Convert(name string, data []byte) (Result, error) {
	doc, err := config.Document(name, data)
	if err != nil {
		return Result{}, err
	}
	if doc == nil || doc.Content[0].Kind != yaml.MappingNode {
		return Result{}, config.Problems{{Pos: config.Pos{File: name}, Text: "is no configuration: it holds no keys with values"}}
	}
	if hasAliases(doc) {
		doc = writtenOut(doc)
	}
	root := doc.Content[0]
	if root.Style&yaml.FlowStyle != 0 {
		plain(root)
	}
	c := newConverter()
	found := secretsOf(root)
	usable := c.file(root)
	if usable {
		c.adviseVariables(secretsOf(root).places)
	}
	r := Result{Notes: sorted(c.notes, found.values)}
	if !usable {
		return r, nil
	}
	block(root)
	if !strings.HasPrefix(doc.HeadComment, madeBy) {
		doc.HeadComment = strings.TrimSpace(madeBy + "\n\n" + doc.HeadComment)
	}
	r.YAML, err = encode(doc)
	if err != nil {
		return Result{}, config.Problems{{Pos: config.Pos{File: name}, Text: err.Error()}}
	}
	return r, nil
}

// encode writes a tree as YAML.
func encode(doc *yaml.Node) (data []byte, err error) {
	// The YAML library reports errors by panics of its own; one that it does not recover must not end the process.
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("can not be written as YAML")
		}
	}()
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(doc); err != nil {
		return nil, errors.New("can not be written as YAML")
	}
	return spaced(b.Bytes()), e.Close()
}

// spaced puts an empty line before each key of the top level, and the comment above it: the library keeps none.
func spaced(data []byte) []byte {
	var out []byte
	above := []byte("#")
	for line := range bytes.Lines(data) {
		begins := line[0] != ' ' && line[0] != '\n' && line[0] != '-'
		if begins && above[0] != '#' && above[0] != '\n' {
			out = append(out, '\n')
		}
		out = append(out, line...)
		above = line
	}
	return out
}

// converter edits one file.
type converter struct {
	known    map[string]bool // keys of the router, by dots
	sections map[string]bool // those of them that have keys below
	table    table

	notes []Note
	keys  apiKeys
}

func newConverter() *converter {
	c := &converter{known: map[string]bool{}, sections: map[string]bool{}, table: newTable()}
	for _, key := range config.FileKeys() {
		c.known[key] = true
		if i := strings.LastIndexByte(key, '.'); i >= 0 {
			c.sections[key[:i]] = true
		}
	}
	return c
}

// edit looks at one pair of a section; false takes it out.
type edit func(key, v *yaml.Node) bool

// section goes through the pairs of a mapping. Keys are lower-cased, as Jitsu read them. Those with an edit are left to it, those that the router has stay,
// all others go, with a note. name is the section's in the table, prefix and path are those of its keys in the router and in this file.
func (c *converter) section(m *yaml.Node, name, prefix, path string, edits map[string]edit) {
	if m.Kind != yaml.MappingNode {
		return // the router's own check tells of it
	}
	seen := map[string]bool{}
	var kept []*yaml.Node
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, v := m.Content[i], m.Content[i+1]
		lower := strings.ToLower(key.Value)
		if key.Kind == yaml.ScalarNode && plainName.MatchString(key.Value) {
			key.Value = lower
		}
		if c.pair(key, v, seen[lower], pairPlace{name, prefix, join(path, shown(key.Value)), edits[lower]}) {
			kept = append(kept, key, v)
		}
		seen[lower] = true
	}
	m.Content = kept
}

// pairPlace is where a pair stands.
type pairPlace struct {
	section, prefix, path string
	edit                  edit
}

// pair says whether a pair stays.
func (c *converter) pair(key, v *yaml.Node, again bool, at pairPlace) bool {
	row, inTable := c.table[at.section][key.Value]
	switch {
	case again:
		c.note(LeftOut, key.Line, at.path, "stands here for the second time; the first one counts")
		return false
	case at.edit != nil:
		return at.edit(key, v)
	case c.known[at.prefix+key.Value]:
		if name := at.prefix + key.Value; c.sections[name] {
			c.section(v, name, name+".", at.path, nil)
		}
		return true
	case inTable && !row.Kept:
		c.note(LeftOut, key.Line, at.path, "%s", row.Text)
		return false
	case inTable:
		return true
	default:
		c.note(LeftOut, key.Line, at.path, "neither Jitsu nor the router knows this key")
		return false
	}
}

// file edits the top level, and says whether what remains is of use.
func (c *converter) file(root *yaml.Node) bool {
	for i := 0; i < len(root.Content); i += 2 {
		if plainName.MatchString(root.Content[i].Value) {
			root.Content[i].Value = strings.ToLower(root.Content[i].Value)
		}
	}
	c.dots(root)
	c.section(root, "top level", "", "", map[string]edit{
		"server": func(_, v *yaml.Node) bool { c.server(v); return true },
		"geo":    func(_, v *yaml.Node) bool { return c.geo(v) },
		// Where the old places are, and what only_tokens may name, is known first.
		"api_keys": keep, "destinations": keep, "configurator": keep,
	})
	c.oldPlaces(root)
	c.apiKeys(root)
	usable := c.destinations(root)
	c.configurator(root)
	if empty(value(root, "server")) {
		if key, _ := child(root, "server"); key != nil {
			remove(root, key)
		}
	}
	return usable
}

func keep(_, _ *yaml.Node) bool { return true }

// dots puts `server.port: 8001` into the section server, as Jitsu read it.
func (c *converter) dots(root *yaml.Node) {
	for _, key := range slices.Clone(root.Content) {
		section, name, dotted := strings.Cut(key.Value, ".")
		k, v := child(root, key.Value)
		if k != key || !dotted || strings.Contains(name, ".") || section != "server" && section != "geo" && section != "configurator" {
			continue
		}
		remove(root, k)
		in := value(root, section)
		if in == nil || in.Kind != yaml.MappingNode {
			in = &yaml.Node{Kind: yaml.MappingNode, Line: key.Line}
			set(root, section, in).Line = key.Line
		}
		set(in, name, v).Line = key.Line
		c.note(Changed, key.Line, shown(key.Value), "stands in the section %s now: names with dots are no keys here", section)
	}
}

// configurator is of no use beside API keys and destinations.
func (c *converter) configurator(root *yaml.Node) {
	key, v := child(root, "configurator")
	switch {
	case key == nil:
	case empty(value(v, "base_url")):
		c.note(LeftOut, key.Line, "configurator", "has no base_url")
		remove(root, key)
	case !empty(value(root, "api_keys")) && !empty(value(root, "destinations")):
		c.note(LeftOut, key.Line, "configurator", "is not used: api_keys and destinations stand in this file")
		remove(root, key)
	default:
		c.section(v, "configurator", "configurator.", "configurator", nil)
		if empty(value(root, "destinations")) {
			c.note(ToDo, key.Line, "configurator", "the destinations that it hands out are not converted: what they hold must be what the router takes")
		}
	}
}

// adviseVariables says which secrets stand in the result itself.
func (c *converter) adviseVariables(places []place) {
	var paths []string
	line := 0
	for _, p := range places {
		if line == 0 {
			line = p.line
		}
		if !slices.Contains(paths, p.path) {
			paths = append(paths, p.path)
		}
	}
	if len(paths) > 0 {
		c.note(ToDo, line, "", "secrets stand in the file itself, at %s; they are carried over as they are. Write ${env.NAME} in their place and set the variables", strings.Join(paths, ", "))
	}
}

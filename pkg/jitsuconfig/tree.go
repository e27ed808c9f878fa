package jitsuconfig

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// child returns the key and the value of a mapping's first pair that is called name; nil without one.
func child(m *yaml.Node, name string) (key, value *yaml.Node) {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

// value is the value of a mapping's key; nil without one.
func value(m *yaml.Node, name string) *yaml.Node {
	_, v := child(m, name)
	return v
}

// remove takes a pair out of a mapping.
func remove(m *yaml.Node, key *yaml.Node) {
	if i := slices.Index(m.Content, key); i >= 0 {
		m.Content = slices.Delete(m.Content, i, i+2)
	}
}

// set gives a mapping's key a value: in its place if it is there, else behind what is there.
func set(m *yaml.Node, name string, v *yaml.Node) (key *yaml.Node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			m.Content[i+1] = v
			return m.Content[i]
		}
	}
	key = text(name)
	m.Content = append(m.Content, key, v)
	return key
}

// text is a single value that is text.
func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.Contains(s, "\n") {
		n.Style = yaml.LiteralStyle
	}
	return n
}

// yes is the value true.
func yes() *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"} }

// empty says whether n says nothing: absent, null, "" or without members.
func empty(n *yaml.Node) bool {
	return n == nil || n.Tag == "!!null" || n.Kind == yaml.ScalarNode && n.Value == "" || n.Kind != yaml.ScalarNode && len(n.Content) == 0
}

// said is the text of a single value, trimmed; "" for anything else.
func said(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return strings.TrimSpace(n.Value)
}

// isFalse and isTrue know the words of YAML 1.1 too, as Jitsu did. A value with a variable is neither.
func isFalse(n *yaml.Node) bool {
	return slices.Contains([]string{"false", "no", "off", "n", "0", "f"}, strings.ToLower(said(n)))
}

func isTrue(n *yaml.Node) bool {
	return slices.Contains([]string{"true", "yes", "on", "y", "1", "t"}, strings.ToLower(said(n)))
}

// hasVariable says whether a value has a placeholder, so that what it says is not known here.
func hasVariable(s string) bool { return strings.Contains(s, "${env.") }

// block has the mappings written line by line, not in braces, so that a script of several lines can stand in them.
func block(nodes ...*yaml.Node) {
	for _, n := range nodes {
		n.Style &^= yaml.FlowStyle
	}
}

// plain has all of a tree written as one writes YAML by hand: for what was JSON.
func plain(n *yaml.Node) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "\n") {
		n.Style = yaml.LiteralStyle
	}
	for _, c := range n.Content {
		plain(c)
	}
}

// writtenOut returns a copy of a tree in which aliases and merge keys are replaced by what they stand for. config.Document has bounded them.
func writtenOut(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		c := writtenOut(n.Alias)
		c.HeadComment, c.LineComment, c.FootComment = n.HeadComment, n.LineComment, n.FootComment
		return c
	}
	c := *n
	c.Anchor, c.Content = "", nil
	var merged []*yaml.Node
	for i, below := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Tag == "!!merge" {
			merged = append(merged, writtenOut(below))
		} else if n.Kind != yaml.MappingNode || below.Tag != "!!merge" || i%2 == 1 {
			c.Content = append(c.Content, writtenOut(below))
		}
	}
	for _, m := range merged {
		merge(&c, m)
	}
	return &c
}

// merge adds to a mapping what another one, or several in a list, have under other keys.
func merge(into, from *yaml.Node) {
	if from.Kind == yaml.SequenceNode {
		for _, m := range from.Content {
			merge(into, m)
		}
		return
	}
	if from.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(from.Content); i += 2 {
		if key, _ := child(into, from.Content[i].Value); key == nil {
			into.Content = append(into.Content, from.Content[i], from.Content[i+1])
		}
	}
}

// hasAliases says whether a tree has an alias in it.
func hasAliases(n *yaml.Node) bool {
	return n.Kind == yaml.AliasNode || slices.ContainsFunc(n.Content, hasAliases)
}

// at puts a tree on one line of the file, in which it stood as text.
func at(n *yaml.Node, line int) {
	n.Line = line
	for _, c := range n.Content {
		at(c, line)
	}
}

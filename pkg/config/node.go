package config

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// Bounds of one file. A configuration needs a tenth of them; they keep alias bombs and endless aliases small.
const (
	maxDepth   = 64
	maxAliased = 20_000 // nodes that aliases and merge keys add
)

type kind uint8

const (
	scalar kind = iota
	mapping
	sequence
)

// String names what a reader of the file would see.
func (k kind) String() string { return [...]string{"a single value", "a map", "a list"}[k] }

// node is one value of the file: aliases followed, merge keys applied, environment variables replaced.
type node struct {
	kind   kind
	line   int
	source string // scalar: as the file has it
	text   string // scalar: with environment variables replaced
	null   bool   // scalar: nothing, or a plain null
	quoted bool   // scalar: text, whatever it looks like
	pairs  []pair // mapping
	items  []*node
	faults []fault // what is wrong with this node itself; of interest only if it is read
}

type pair struct {
	key   string
	line  int
	value *node
}

type fault struct {
	line int
	text string
}

// child returns the pair of a mapping's key; false when n is nil or has none.
func (n *node) child(key string) (pair, bool) {
	if n != nil {
		for _, p := range n.pairs {
			if p.key == key {
				return p, true
			}
		}
	}
	return pair{}, false
}

// without returns n less one key.
func (n *node) without(key string) *node {
	rest := *n
	rest.pairs = nil
	for _, p := range n.pairs {
		if p.key != key {
			rest.pairs = append(rest.pairs, p)
		}
	}
	return &rest
}

// over puts what base says and n does not into n, map by map; the lines of that are n's.
func (n *node) over(base *node) *node {
	switch {
	case base == nil:
		return n
	case n == nil || n.null:
		return base
	case n.kind != mapping || base.kind != mapping:
		return n
	}
	both := *n
	both.pairs = nil
	for _, p := range n.pairs {
		if below, ok := base.child(p.key); ok {
			p.value = p.value.over(below.value)
		}
		both.pairs = append(both.pairs, p)
	}
	for _, p := range base.pairs {
		if _, ok := n.child(p.key); !ok {
			p.line = n.line
			both.pairs = append(both.pairs, p)
		}
	}
	return &both
}

// empty reports whether n says nothing: absent, null, "" or without members.
func (n *node) empty() bool {
	return n == nil || n.null || n.source == "" && len(n.pairs) == 0 && len(n.items) == 0
}

// builder makes nodes of the YAML library's.
type builder struct {
	env     *variables // nil: placeholders stay as they are
	aliases int        // depth of aliases around the node in hand
	spare   int        // nodes that aliases may still add

	noVariables bool // a value with one is a fault
}

func (b *builder) build(y *yaml.Node, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, &lineError{y.Line, fmt.Sprintf("is nested more than %d levels deep", maxDepth)}
	}
	if b.aliases > 0 {
		if b.spare--; b.spare < 0 {
			return nil, &lineError{y.Line, fmt.Sprintf("aliases add more than %d values", maxAliased)}
		}
	}
	n := &node{line: y.Line}
	if y.Kind != yaml.AliasNode && !knownTag(y.Tag) {
		n.faults = append(n.faults, fault{y.Line, "YAML tags are not understood here; a value that begins with ! needs quotes"})
	}
	switch y.Kind {
	case yaml.AliasNode:
		b.aliases++
		defer func() { b.aliases-- }()
		return b.build(y.Alias, depth+1)
	case yaml.MappingNode:
		n.kind = mapping
		return n, b.mapping(n, y, depth)
	case yaml.SequenceNode:
		n.kind = sequence
		for _, c := range y.Content {
			item, err := b.build(c, depth+1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
	default:
		b.scalar(n, y)
	}
	return n, nil
}

// mapping adds the pairs of y to n. Keys of its own go before merged ones, and among merged ones the first.
func (b *builder) mapping(n *node, y *yaml.Node, depth int) error {
	var merged []*node
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		value, err := b.build(y.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		if key.Kind != yaml.ScalarNode {
			n.faults = append(n.faults, fault{y.Content[i].Line, "a key must be a single word"})
		} else if key.Tag == "!!merge" {
			merged = append(merged, value)
		} else if earlier, ok := n.child(key.Value); ok {
			n.faults = append(n.faults, fault{y.Content[i].Line, fmt.Sprintf("key %q stands here for the second time, first on line %d", cut(key.Value), earlier.line)})
		} else {
			n.pairs = append(n.pairs, pair{key.Value, y.Content[i].Line, value})
		}
	}
	for _, m := range merged {
		n.merge(m, true)
	}
	return nil
}

// merge applies the value of a merge key: a mapping, or a sequence of them.
func (n *node) merge(m *node, sequences bool) {
	n.faults = append(n.faults, m.faults...)
	switch {
	case m.kind == mapping:
		for _, p := range m.pairs {
			if _, ok := n.child(p.key); !ok {
				n.pairs = append(n.pairs, p)
			}
		}
	case m.kind == sequence && sequences:
		for _, item := range m.items {
			n.merge(item, false)
		}
	default:
		n.faults = append(n.faults, fault{m.line, "<< merges a map or a list of maps"})
	}
}

func (b *builder) scalar(n *node, y *yaml.Node) {
	n.source, n.text = y.Value, y.Value
	if b.noVariables && strings.Contains(y.Value, envOpen) {
		n.faults = append(n.faults, fault{y.Line, errNoVariables.Error()})
	}
	if b.env != nil {
		text, err := b.env.replace(y.Value)
		if err != nil {
			n.faults = append(n.faults, fault{y.Line, err.Error()})
			return
		}
		n.text = text
	}
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle
	n.quoted = y.Style&quoted != 0 || y.Style&yaml.TaggedStyle != 0 && y.Tag == "!!str"
	if y.Style&yaml.TaggedStyle != 0 {
		n.null = y.Tag == "!!null"
	} else if y.Style&quoted == 0 {
		n.null = (&yaml.Node{Kind: yaml.ScalarNode, Value: n.text}).ShortTag() == "!!null"
	}
}

// knownTag accepts the tags of plain YAML types.
func knownTag(tag string) bool {
	switch tag {
	case "", "!!str", "!!int", "!!bool", "!!float", "!!null", "!!map", "!!seq", "!!timestamp", "!!merge":
		return true
	}
	return false
}

// cut shortens what is quoted in a message.
func cut(s string) string {
	const most = 60 // bytes; what is longer is no key that anybody knows
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

package jitsuconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// mappings are what a destination's data_layout says of members: the new style, or the old one.
type mappings struct {
	keep  bool // what no rule names stays
	rules []rule
}

// rule is one of them. Paths are as Jitsu read them: without spaces, one slash before each name; "/" is the event itself.
type rule struct {
	action string
	from   []string // move, remove: the first of them that leads somewhere
	to     string   // move, constant
	value  string   // constant: as JavaScript
	typed  bool     // it says the type of a column too, or only that
	line   int
}

// The actions.
const (
	move     = "move"
	drop     = "remove"
	cast     = "cast"
	constant = "constant"
)

// newStyle reads data_layout.mappings. Its error is what Jitsu said, when it refused to start the destination; nothing of the file is in it but actions.
func newStyle(m *yaml.Node) (mappings, error) {
	ms := mappings{keep: !isFalse(value(m, "keep_unmapped"))}
	fields := value(m, "fields")
	if fields == nil || fields.Kind != yaml.SequenceNode {
		return ms, nil
	}
	for _, f := range fields.Content {
		r, err := newRule(f)
		if err != nil {
			return ms, fmt.Errorf("the rule in line %d: %w", f.Line, err)
		}
		ms.rules = append(ms.rules, r)
	}
	return ms, nil
}

func newRule(f *yaml.Node) (rule, error) {
	src, dst := said(value(f, "src")), said(value(f, "dst"))
	r := rule{action: said(value(f, "action")), line: f.Line}
	r.typed = r.action == cast || said(value(f, "type")) != "" || said(value(f, "column_type")) != ""
	switch {
	case r.action != move && r.action != drop && r.action != cast && r.action != constant:
		return r, fmt.Errorf("unknown mapping action %s; there are move, remove, cast and constant", shown(r.action))
	case src == "" && (r.action == move || r.action == drop):
		return r, errors.New("src is required with move and remove")
	case r.action == cast && said(value(f, "type")) == "":
		return r, errors.New("type is required with cast")
	case dst == "" && r.action != drop:
		return r, errors.New("dst is required")
	}
	if err := r.paths(src, dst); err != nil {
		return r, err
	}
	if r.action == constant {
		var err error
		r.value, err = literal(value(f, "value"))
		return r, err
	}
	return r, nil
}

// oldStyle reads data_layout.mapping: "/a -> /b", "/a -> (integer) /b", and "/a ->", which removes.
func oldStyle(list *yaml.Node, strict bool) (mappings, error) {
	ms := mappings{keep: !strict}
	items := []*yaml.Node{list}
	if list.Kind == yaml.SequenceNode {
		items = list.Content
	}
	for _, item := range items {
		src, dst, ok := strings.Cut(strings.ReplaceAll(said(item), " ", ""), "->")
		if !ok || src == "" || strings.Contains(dst, "->") {
			return ms, fmt.Errorf("the rule in line %d: must be of the form /field1/subfield1 -> /field2/subfield2", item.Line)
		}
		r := rule{action: move, line: item.Line}
		if _, after, typed := strings.Cut(dst, ")"); typed {
			dst, r.typed = after, true
			if dst == "" || strings.Contains(dst, ")") {
				return ms, fmt.Errorf("the rule in line %d: must be of the form /field1/subfield1 -> (integer) /field2/subfield2", item.Line)
			}
		}
		if dst == "" {
			r.action = drop
		}
		if err := r.paths(src, dst); err != nil {
			return ms, fmt.Errorf("the rule in line %d: %w", item.Line, err)
		}
		ms.rules = append(ms.rules, r)
	}
	return ms, nil
}

func (r *rule) paths(src, dst string) error {
	for _, p := range strings.Split(src, "||") {
		r.from = append(r.from, path(p))
	}
	r.to = path(strings.Split(dst, "||")[0])
	for _, p := range append([]string{r.to}, r.from...) {
		for _, name := range strings.Split(p, "/") {
			if name == "__proto__" {
				return errors.New("a member called __proto__ can not be moved or set")
			}
		}
	}
	return nil
}

// path is a path as Jitsu read it; "" leads nowhere.
func path(p string) string {
	p = strings.ReplaceAll(p, " ", "")
	if p == "" || p == "/" {
		return p
	}
	if p = strings.TrimSuffix(strings.TrimPrefix(p, "/"), "/"); p == "" {
		return ""
	}
	return "/" + p
}

// names are the names on a path.
func names(path string) []string {
	if path == "/" || path == "" {
		return nil
	}
	return strings.Split(path[1:], "/")
}

// literal is a YAML value as JavaScript writes it.
func literal(n *yaml.Node) (string, error) {
	if n == nil {
		return "null", nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return "", errors.New("value is no value that JSON has")
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return "", errors.New("value is no value that JSON has")
	}
	return strings.TrimSpace(b.String()), nil
}

// effective leaves out rules that do nothing to an event: casts, which are for warehouses, and paths that lead nowhere.
func (m mappings) effective() mappings {
	out := mappings{keep: m.keep}
	for _, r := range m.rules {
		r.from = some(r.from)
		switch {
		case r.action == move && (len(r.from) == 0 || r.to == ""), r.action == drop && len(r.from) == 0, r.action == constant && r.to == "", r.action == cast:
		default:
			out.rules = append(out.rules, r)
		}
	}
	return out
}

// some are the paths that may lead somewhere.
func some(paths []string) (all []string) {
	for _, p := range paths {
		if p != "" {
			all = append(all, p)
		}
	}
	return all
}

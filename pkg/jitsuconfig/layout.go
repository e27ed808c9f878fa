package jitsuconfig

import (
	"strings"

	"gopkg.in/yaml.v3"

	"eventrouter/pkg/filters"
)

// layout edits a destination's data_layout: what decides which data is delivered.
func (c *converter) layout(d *destination) {
	key, m := child(d.node, "data_layout")
	if key == nil {
		return
	}
	path := join(d.path, "data_layout")
	c.section(m, "data_layout", "destinations.*.data_layout.", path, nil)
	if m.Kind == yaml.MappingNode {
		block(m)
		c.template(d, m, path)
		c.mappings(d, m, path)
		c.transform(d, m, path)
	}
	if empty(m) {
		remove(d.node, key)
	}
}

// template keeps a filter that the router can compile.
func (c *converter) template(d *destination, m *yaml.Node, path string) {
	key, v := child(m, "table_name_template")
	if key == nil || hasVariable(said(v)) || v.Kind != yaml.ScalarNode {
		return
	}
	if strings.TrimSpace(v.Value) == "" { // means the default
		remove(m, key)
		return
	}
	if _, err := filters.Compile(v.Value, filters.Options{Destination: d.name, Type: d.typ}); err != nil {
		remove(m, key)
		c.stage(d)
		c.remember(d, "table_name_template of Jitsu's, which the router can not compile", v.Value)
		c.note(LeftOut, key.Line, join(path, key.Value), "can not be compiled: %v; the destination is staged: write the filter anew (it stands as a comment), and remove that", err)
	}
}

// transform keeps a script that the router can compile, and switches off another.
func (c *converter) transform(d *destination, m *yaml.Node, path string) {
	key, v := child(m, "transform")
	if key == nil || !switchedOn(m) || hasVariable(said(v)) || v.Kind != yaml.ScalarNode {
		return
	}
	if _, err := filters.CompileTransform(v.Value, filters.Options{Destination: d.name, Type: d.typ}); err != nil {
		set(m, "transform_enabled", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "false"})
		c.stage(d)
		c.note(LeftOut, key.Line, join(path, key.Value), "can not be compiled: %v; it is switched off, and the destination is staged: mend the script and remove both", err)
	}
}

// switchedOn says whether Jitsu would run a transform.
func switchedOn(m *yaml.Node) bool {
	script := strings.TrimSuffix(said(value(m, "transform")), ";")
	return script != "" && script != "return $" && !isFalse(value(m, "transform_enabled"))
}

// remember keeps what could not be carried over as a comment.
func (c *converter) remember(d *destination, what, source string) {
	if key, _ := child(d.node, "staged"); key != nil {
		key.HeadComment = strings.TrimSpace(key.HeadComment + "\n" + comment(what, source))
	}
}

// comment is source as a comment, below a line that says what it is.
func comment(what, source string) string {
	var b strings.Builder
	b.WriteString("# " + what + ":\n")
	for line := range strings.Lines(source) {
		b.WriteString("#   " + strings.TrimRight(line, "\r\n\t ") + "\n")
	}
	return strings.TrimSpace(b.String())
}

// mappings makes a transform, or contact properties, of the mappings.
func (c *converter) mappings(d *destination, m *yaml.Node, path string) {
	style, _ := child(m, "mapping_type")
	strict := said(value(m, "mapping_type")) == "strict"
	if style != nil {
		remove(m, style)
	}
	newKey, newV := child(m, "mappings")
	oldKey, oldV := child(m, "mapping")
	for _, key := range []*yaml.Node{newKey, oldKey} {
		if key != nil {
			remove(m, key)
		}
	}
	var ms mappings
	var err error
	key := newKey
	switch {
	case !empty(oldV): // Jitsu took these before the others
		key = oldKey
		if newKey != nil {
			c.note(LeftOut, newKey.Line, join(path, newKey.Value), "mapping stands beside it, and goes before it")
		}
		ms, err = oldStyle(oldV, strict)
	case !empty(newV):
		ms, err = newStyle(newV)
	default:
		return
	}
	path = join(path, key.Value)
	if err == nil && !switchedOn(m) && len(ms.effective().rules) > 0 {
		for _, r := range ms.rules {
			if r.typed {
				c.note(LeftOut, r.line, path, "the type that this rule says is that of a column, of which there are none here: values stay as the client wrote them")
			}
		}
	}
	switch effective := ms.effective(); {
	case err != nil:
		c.stage(d)
		c.note(LeftOut, key.Line, path, "%v, so that Jitsu did not start the destination; it is staged: write a transform and remove that", err)
	case len(ms.rules) == 0:
		c.note(LeftOut, key.Line, path, "has no rules and changed nothing in Jitsu")
	case switchedOn(m):
		c.stage(d)
		c.note(LeftOut, key.Line, path, "mappings and a transform do not go together, so that Jitsu did not start the destination; it is staged: put all of it into the transform, and remove that")
	case len(effective.rules) == 0 && effective.keep:
		c.note(LeftOut, key.Line, path, "only says types of columns, of which there are none here")
	case c.asProperties(d, m, effective, key, path):
	default:
		c.asTransform(d, m, effective, key, path)
	}
}

// asTransform makes a script of the mappings.
func (c *converter) asTransform(d *destination, m *yaml.Node, ms mappings, key *yaml.Node, path string) {
	if script := value(m, "transform"); script != nil && !empty(script) && strings.TrimSpace(script.Value) != "return $" {
		k := set(m, "transform", text(""))
		k.HeadComment = strings.TrimSpace(k.HeadComment + "\n" + comment("the transform of Jitsu's file, which was switched off", script.Value))
	}
	if enabled, _ := child(m, "transform_enabled"); enabled != nil {
		remove(m, enabled)
	}
	k := set(m, "transform", text(script(ms)))
	k.Line = key.Line
	if k.HeadComment == "" {
		k.HeadComment = key.HeadComment
	}
	says := "is a transform now that does the same"
	if nested(ms) {
		says += ", but that a value set inside an object leaves the object's other members as they are: Jitsu replaced the whole object"
	}
	if strings.Contains(script(ms), "${env.") {
		says += ". A variable stands in the script: its value must hold no quotes, backslashes or new lines"
	}
	c.note(Changed, key.Line, path, "%s", says)
}

// nested says whether a rule that keeps the rest of the event sets something inside an object.
func nested(ms mappings) bool {
	for _, r := range ms.rules {
		if ms.keep && len(names(r.to)) > 1 {
			return true
		}
	}
	return false
}

package ingest

import (
	"eventrouter/pkg/event"

	"github.com/tidwall/gjson"
)

// object is a JSON object that can be changed: members in their order, each a piece of JSON or an object that was looked into.
type object struct {
	members []treeMember
	index   map[string]int // of members, by name
}

type treeMember struct {
	name string
	node *node // nil: taken away
}

// node is a value: an object, or JSON as it came.
type node struct {
	object *object
	raw    string
}

// objectOf reads a JSON object one level deep.
func objectOf(v gjson.Result) *object {
	o := &object{index: map[string]int{}}
	v.ForEach(func(k, v gjson.Result) bool {
		o.put(k.String(), &node{raw: v.Raw})
		return true
	})
	return o
}

func textNode(s string) *node { return &node{raw: string(event.AppendString(nil, s))} }

// text is the value of a string, and a number or truth value as it is written.
func (n *node) text() string {
	if n.object != nil {
		return ""
	}
	return gjson.Parse(n.raw).String()
}

// inside returns n's object; nil where it is another value.
func (n *node) inside() *object {
	if n.object == nil && n.raw != "" && n.raw[0] == '{' {
		n.object, n.raw = objectOf(gjson.Parse(n.raw)), ""
	}
	return n.object
}

func (o *object) get(name string) *node {
	if i, ok := o.index[name]; ok {
		return o.members[i].node
	}
	return nil
}

// inner returns the object of that name; nil: there is none.
func (o *object) inner(name string) *object {
	if n := o.get(name); n != nil {
		return n.inside()
	}
	return nil
}

// ensure returns the object of that name, and makes one where there is nothing; nil where there is something else.
func (o *object) ensure(name string) *object {
	if o.get(name) == nil {
		o.put(name, &node{object: &object{index: map[string]int{}}})
	}
	return o.inner(name)
}

// take takes a member away and returns it; nil: there is none.
func (o *object) take(name string) *node {
	i, ok := o.index[name]
	if !ok {
		return nil
	}
	n := o.members[i].node
	o.members[i].node = nil
	delete(o.index, name)
	return n
}

func (o *object) put(name string, n *node) {
	if i, ok := o.index[name]; ok {
		o.members[i].node = n
		return
	}
	o.index[name] = len(o.members)
	o.members = append(o.members, treeMember{name, n})
}

// set puts n at the end of a path. What stands in its way and is no object gives way.
func (o *object) set(path []string, n *node) {
	for ; len(path) > 1; path = path[1:] {
		next := o.ensure(path[0])
		if next == nil {
			next = &object{index: map[string]int{}}
			o.put(path[0], &node{object: next})
		}
		o = next
	}
	o.put(path[0], n)
}

// setIfAbsent sets a text; an empty one is nothing to tell.
func (o *object) setIfAbsent(name, text string) {
	if o.get(name) == nil && text != "" {
		o.put(name, textNode(text))
	}
}

// append appends o as JSON.
func (o *object) append(dst []byte) []byte {
	dst = append(dst, '{')
	start := len(dst)
	for _, m := range o.members {
		if m.node == nil {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(event.AppendString(dst, m.name), ':')
		if m.node.object != nil {
			dst = m.node.object.append(dst)
		} else {
			dst = append(dst, m.node.raw...)
		}
	}
	return append(dst, '}')
}

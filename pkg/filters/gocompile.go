package filters

import (
	"strings"
	"text/template/parse"

	"eventrouter/pkg/event"
)

// goCompiler makes closures of a template's tree.
type goCompiler struct {
	wantedNames
	inside int  // how many with are around: dot is the event where there are none
	failed bool // there is something that only text/template can do
}

// compileGoDirect returns the template in a form that runs without text/template, nil when it does more than that form can.
func compileGoDirect(root *parse.ListNode) *goDirect {
	c := &goCompiler{}
	body := c.list(root)
	if c.failed {
		return nil
	}
	return &goDirect{names: event.NewNames(c.names...), body: body}
}

func (c *goCompiler) fail() goExpr {
	c.failed = true
	return func(*goDirect) any { return nil }
}

func (c *goCompiler) list(list *parse.ListNode) goNode {
	if list == nil {
		return func(*goDirect) {}
	}
	nodes := make([]goNode, 0, len(list.Nodes))
	for _, n := range list.Nodes {
		if c.failed {
			break
		}
		nodes = append(nodes, c.node(n))
	}
	return func(d *goDirect) {
		for _, n := range nodes {
			if n(d); d.gaveUp {
				return
			}
		}
	}
}

func (c *goCompiler) node(n parse.Node) goNode {
	switch n := n.(type) {
	case *parse.TextNode:
		text := n.Text
		return func(d *goDirect) { d.out = append(d.out, text...) }
	case *parse.ActionNode:
		e := c.pipe(n.Pipe)
		return func(d *goDirect) { d.print(e(d)) }
	case *parse.IfNode:
		test, yes, no := c.pipe(n.Pipe), c.list(n.List), c.list(n.ElseList)
		return func(d *goDirect) {
			if d.truth(test(d)) {
				yes(d)
			} else {
				no(d)
			}
		}
	case *parse.WithNode:
		return c.with(n)
	}
	c.failed = true
	return func(*goDirect) {}
}

func (c *goCompiler) with(n *parse.WithNode) goNode {
	value := c.pipe(n.Pipe)
	c.inside++
	yes := c.list(n.List)
	c.inside--
	no := c.list(n.ElseList)
	return func(d *goDirect) {
		v := value(d)
		if !d.truth(v) {
			no(d)
			return
		}
		around := d.dot
		d.dot = v
		yes(d)
		d.dot = around
	}
}

// pipe compiles a pipeline of one command that declares nothing.
func (c *goCompiler) pipe(p *parse.PipeNode) goExpr {
	if p == nil || len(p.Decl) > 0 || len(p.Cmds) != 1 {
		return c.fail()
	}
	args := p.Cmds[0].Args
	if id, ok := args[0].(*parse.IdentifierNode); ok {
		return c.call(id.Ident, args[1:])
	}
	if _, ok := args[0].(*parse.NilNode); ok || len(args) > 1 {
		return c.fail()
	}
	return c.value(args[0])
}

// call compiles a function with its arguments.
func (c *goCompiler) call(name string, args []parse.Node) goExpr {
	switch name {
	case "and":
		return c.shortCircuit(args, false)
	case "or":
		return c.shortCircuit(args, true)
	case "not":
		return c.not(args)
	case "eq":
		return c.equalAny(args)
	case "ne":
		return c.compare(args, func(a, b any) bool { return !equal(a, b) })
	case "lt":
		return c.compare(args, func(a, b any) bool { c, ok := compare(a, b); return ok && c < 0 })
	case "le":
		return c.compare(args, func(a, b any) bool { c, ok := compare(a, b); return ok && c <= 0 })
	case "gt":
		return c.compare(args, func(a, b any) bool { c, ok := compare(a, b); return ok && c > 0 })
	case "ge":
		return c.compare(args, func(a, b any) bool { c, ok := compare(a, b); return ok && c >= 0 })
	case "get":
		return c.get(args)
	case "index":
		return c.index(args)
	case "len":
		return c.length(args)
	case "slice":
		return c.slice(args)
	}
	return c.fail()
}

// value compiles one operand.
func (c *goCompiler) value(n parse.Node) goExpr {
	switch n := n.(type) {
	case *parse.FieldNode:
		if c.inside == 0 {
			return c.eventField(n.Ident)
		}
		return func(d *goDirect) any { return d.field(d.dot, n.Ident) }
	case *parse.VariableNode:
		if n.Ident[0] == "$" && len(n.Ident) > 1 {
			return c.eventField(n.Ident[1:])
		}
	case *parse.DotNode:
		if c.inside > 0 {
			return func(d *goDirect) any { return d.dot }
		}
	case *parse.PipeNode:
		return c.pipe(n)
	case *parse.StringNode:
		return goConstant(n.Text)
	case *parse.BoolNode:
		return goConstant(n.True)
	case *parse.NilNode:
		return goConstant(nil)
	case *parse.NumberNode:
		if _, plain := parseDecimal(n.Text); !plain {
			break
		}
		if i := int(n.Int64); n.IsInt && int64(i) == n.Int64 && !strings.ContainsAny(n.Text, ".eE") {
			return goConstant(i)
		}
		if n.IsFloat && strings.ContainsAny(n.Text, ".eE") {
			return goConstant(n.Float64)
		}
	}
	return c.fail()
}

func goConstant(v any) goExpr { return func(*goDirect) any { return v } }

func (c *goCompiler) eventField(names []string) goExpr {
	place, below := c.place(names[0]), names[1:]
	return func(d *goDirect) any { return d.field(goOf(d.lookup.Get(place)), below) }
}

func (c *goCompiler) values(nodes []parse.Node) []goExpr {
	all := make([]goExpr, len(nodes))
	for i, n := range nodes {
		all[i] = c.value(n)
	}
	return all
}

func (c *goCompiler) compare(args []parse.Node, f func(a, b any) bool) goExpr {
	if len(args) != 2 {
		return c.fail()
	}
	a, b := c.value(args[0]), c.value(args[1])
	return func(d *goDirect) any {
		x := a(d)
		return f(x, b(d))
	}
}

func (c *goCompiler) equalAny(args []parse.Node) goExpr {
	if len(args) < 2 {
		return c.fail()
	}
	all := c.values(args)
	return func(d *goDirect) any {
		a, found := all[0](d), false
		for _, b := range all[1:] { // all of them: one may give up
			found = equal(a, b(d)) || found
		}
		return found
	}
}

// shortCircuit compiles and, which ends with the first argument that is false, and or.
func (c *goCompiler) shortCircuit(args []parse.Node, ends bool) goExpr {
	if len(args) == 0 {
		return c.fail()
	}
	all := c.values(args)
	return func(d *goDirect) (v any) {
		for _, e := range all {
			if v = e(d); d.truth(v) == ends {
				break
			}
		}
		return v
	}
}

func (c *goCompiler) not(args []parse.Node) goExpr {
	if len(args) != 1 {
		return c.fail()
	}
	e := c.value(args[0])
	return func(d *goDirect) any { return !d.truth(e(d)) }
}

// object compiles an argument that is an object: what name finds in it. The event is one that is not made for this.
func (c *goCompiler) object(n parse.Node) (in goExpr, isEvent bool) {
	switch n := n.(type) {
	case *parse.DotNode:
		isEvent = c.inside == 0
	case *parse.VariableNode:
		isEvent = len(n.Ident) == 1 && n.Ident[0] == "$"
	}
	if isEvent {
		return nil, true
	}
	return c.value(n), false
}

// get compiles get . "/user/email||/user/mail" "none".
func (c *goCompiler) get(args []parse.Node) goExpr {
	if len(args) < 2 || len(args) > 3 {
		return c.fail()
	}
	list, ok := args[1].(*parse.StringNode)
	if !ok {
		return c.fail()
	}
	var paths []goExpr
	in, isEvent := c.object(args[0])
	for path := range strings.SplitSeq(list.Text, "||") {
		names := strings.Split(strings.Trim(strings.TrimSpace(path), "/"), "/")
		of := in
		if isEvent {
			place := c.place(names[0])
			of = func(d *goDirect) any { return goOf(d.lookup.Get(place)) }
			names = names[1:]
		}
		paths = append(paths, func(d *goDirect) any { return getIn(of(d), names) })
	}
	fallback := goConstant(nil)
	if len(args) == 3 {
		fallback = c.value(args[2])
	}
	return func(d *goDirect) any {
		otherwise := fallback(d) // it may give up
		for _, path := range paths {
			if v := path(d); v != nil {
				return v
			}
		}
		return otherwise
	}
}

// getIn is what get finds below v: nothing in what is no object.
func getIn(v any, names []string) any {
	for _, name := range names {
		c, _ := v.(goCompound)
		v = goOf(event.Member(string(c), name))
	}
	return v
}

// index compiles index . "Job Title".
func (c *goCompiler) index(args []parse.Node) goExpr {
	if len(args) < 2 {
		return c.fail()
	}
	var names []string
	for _, a := range args[1:] {
		s, ok := a.(*parse.StringNode)
		if !ok {
			return c.fail()
		}
		names = append(names, s.Text)
	}
	of, isEvent := c.object(args[0])
	if isEvent {
		place := c.place(names[0])
		of = func(d *goDirect) any { return goOf(d.lookup.Get(place)) }
		names = names[1:]
	}
	return func(d *goDirect) any {
		v := of(d)
		for _, name := range names {
			if v == nil {
				return d.giveUp()
			}
			v = d.field(v, []string{name})
		}
		return v
	}
}

func (c *goCompiler) length(args []parse.Node) goExpr {
	if len(args) != 1 {
		return c.fail()
	}
	e := c.value(args[0])
	return func(d *goDirect) any {
		switch v := e(d).(type) {
		case string:
			return len(v)
		case goCompound:
			if v[0] == '[' {
				n := 0
				event.Elements(string(v), func(string) bool { n++; return true })
				return n
			}
		}
		return d.giveUp()
	}
}

// slice compiles slice .event_type 0 4.
func (c *goCompiler) slice(args []parse.Node) goExpr {
	if len(args) < 2 || len(args) > 3 {
		return c.fail()
	}
	var bounds []int
	for _, a := range args[1:] {
		n, ok := a.(*parse.NumberNode)
		if !ok || !n.IsInt || leadingDigits(n.Text) != n.Text {
			return c.fail()
		}
		bounds = append(bounds, int(n.Int64))
	}
	e := c.value(args[0])
	return func(d *goDirect) any {
		s, ok := e(d).(string)
		from, to := bounds[0], len(s)
		if len(bounds) == 2 {
			to = bounds[1]
		}
		if !ok || from > to || to > len(s) {
			return d.giveUp()
		}
		return s[from:to]
	}
}

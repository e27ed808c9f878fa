package filters

import (
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/unistring"

	"eventrouter/pkg/event"
)

// compileDirect returns the script in a form that runs without the engine, nil when it does more than that form can. f is as the user wrote it.
func compileDirect(f *ast.ArrowFunctionLiteral, o Options, timestamp bool) *jsDirect {
	c := &jsCompiler{options: o, scope: &jsScope{names: map[unistring.String]int{"$": theEvent, "_": theEvent, "event": theEvent}}}
	if timestamp {
		c.place(event.FieldTimestamp)
	}
	var body jsStep
	switch b := f.Body.(type) {
	case *ast.ExpressionBody:
		e := c.expression(b.Expression)
		body = func(r *jsRun) (jsValue, bool) { return e(r), true }
	case *ast.BlockStatement:
		body = c.block(b.List)
	}
	if c.failed || body == nil {
		return nil
	}
	return &jsDirect{names: event.NewNames(c.names...), run: jsRun{slots: make([]jsValue, c.slots)}, body: body, timestamp: timestamp}
}

// jsCompiler makes closures of a syntax tree.
type jsCompiler struct {
	wantedNames
	options Options
	scope   *jsScope
	slots   int
	depth   int
	failed  bool // there is something that only the engine can do
}

// jsScope is a level of declared names: their slots.
type jsScope struct {
	outer *jsScope
	names map[unistring.String]int
}

const (
	theEvent = -1 // in place of a slot
	notYet   = -2 // declared further down: reading it throws
	// maxDirectDepth bounds nesting; deeper scripts are nobody's.
	maxDirectDepth = 100
)

func (c *jsCompiler) fail() jsExpr {
	c.failed = true
	return func(*jsRun) jsValue { return jsValue{} }
}

// lookUp returns the slot of a name; false: nobody declares it.
func (c *jsCompiler) lookUp(name unistring.String) (slot int, ok bool) {
	for s := c.scope; s != nil; s = s.outer {
		if slot, ok := s.names[name]; ok {
			return slot, true
		}
	}
	return 0, false
}

// block compiles statements with a scope of their own.
func (c *jsCompiler) block(list []ast.Statement) jsStep {
	c.scope = &jsScope{outer: c.scope, names: map[unistring.String]int{}}
	defer func() { c.scope = c.scope.outer }()
	for _, s := range list {
		switch s := s.(type) {
		case *ast.LexicalDeclaration:
			for _, b := range s.List {
				if id, ok := b.Target.(*ast.Identifier); ok {
					c.scope.names[id.Name] = notYet
				}
			}
		case *ast.FunctionDeclaration, *ast.ClassDeclaration:
			c.failed = true
		}
	}
	steps := make([]jsStep, 0, len(list))
	for _, s := range list {
		if step := c.statement(s); step != nil {
			steps = append(steps, step)
		}
	}
	return func(r *jsRun) (jsValue, bool) {
		for _, step := range steps {
			if v, returned := step(r); returned || r.gaveUp || r.skips {
				return v, true
			}
		}
		return jsValue{}, false
	}
}

// statement compiles a statement; nil: it does nothing.
func (c *jsCompiler) statement(s ast.Statement) jsStep {
	if c.depth++; c.depth > maxDirectDepth {
		c.failed = true
		return nil
	}
	defer func() { c.depth-- }()
	switch s := s.(type) {
	case *ast.EmptyStatement:
		return nil
	case *ast.BlockStatement:
		return c.block(s.List)
	case *ast.ReturnStatement:
		if s.Argument == nil {
			return func(*jsRun) (jsValue, bool) { return jsValue{}, true }
		}
		e := c.expression(s.Argument)
		return func(r *jsRun) (jsValue, bool) { return e(r), true }
	case *ast.IfStatement:
		return c.ifElse(s)
	case *ast.LexicalDeclaration:
		return c.declaration(s)
	}
	c.failed = true
	return nil
}

func (c *jsCompiler) ifElse(s *ast.IfStatement) jsStep {
	nothing := func(*jsRun) (jsValue, bool) { return jsValue{}, false }
	branch := func(s ast.Statement) jsStep {
		if s == nil {
			return nothing
		}
		if step := c.statement(s); step != nil {
			return step
		}
		return nothing
	}
	test, yes, no := c.expression(s.Test), branch(s.Consequent), branch(s.Alternate)
	return func(r *jsRun) (jsValue, bool) {
		if test(r).truthy() {
			return yes(r)
		}
		return no(r)
	}
}

func (c *jsCompiler) declaration(s *ast.LexicalDeclaration) jsStep {
	var steps []func(*jsRun)
	for _, b := range s.List {
		id, ok := b.Target.(*ast.Identifier)
		if !ok {
			c.failed = true
			return nil
		}
		slot, value := c.slots, func(*jsRun) jsValue { return jsValue{} }
		c.slots++
		if b.Initializer != nil {
			value = c.expression(b.Initializer)
		}
		c.scope.names[id.Name] = slot
		steps = append(steps, func(r *jsRun) { r.slots[slot] = value(r) })
	}
	return func(r *jsRun) (jsValue, bool) {
		for _, step := range steps {
			step(r)
		}
		return jsValue{}, false
	}
}

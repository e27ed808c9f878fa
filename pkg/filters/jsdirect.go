package filters

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"

	"eventrouter/pkg/event"
)

// Most scripts only compare members of the event with constants. Those run as closures over the event's JSON, which takes a tenth of the time that a call of the
// engine does:
//
//	$.event_type == "a" && $.user?.email  ─parse─▶ syntax tree ─jsCompiler─▶ closures ─▶ value
//	                                                   └─▶ engine, where the compiler or, for one event, a closure gives up
//
// They come to what the engine comes to, or give up; tests hold them to that.

// jsDirect is a script that runs without the engine.
type jsDirect struct {
	names *event.Names
	run   jsRun
	body  jsStep
	// timestamp is true when the script mentions _timestamp; it is then the first of names.
	timestamp bool
}

type (
	// jsExpr is one expression.
	jsExpr func(*jsRun) jsValue
	// jsStep is a statement. It says whether it returned.
	jsStep func(*jsRun) (v jsValue, returned bool)
)

// eval runs the script for ev. decided is false when only the engine can tell what it comes to. Texts of the value are valid as long as the event's bytes, and until the next
// call.
func (d *jsDirect) eval(ev *event.Event) (v jsValue, err error, decided bool) {
	r := &d.run
	r.skips, r.gaveUp = false, false
	clear(r.slots)
	r.lookup.Reset(ev, d.names)
	if d.timestamp && r.lookup.Get(0) == "" {
		return jsValue{}, nil, false
	}
	v, _ = d.body(r)
	switch {
	case r.gaveUp || v.kind == jsShort:
		return jsValue{}, nil, false
	case r.skips:
		return jsValue{}, errSkip, true
	}
	return v, nil, true
}

// evalText is eval for what wants text, as scriptText makes it of the engine's values.
func (d *jsDirect) evalText(ev *event.Event) (text string, ok bool, err error, decided bool) {
	v, err, decided := d.eval(ev)
	if err != nil || !decided {
		return "", false, err, decided
	}
	switch v.kind {
	case jsString, jsBool:
		return d.run.print(v), true, nil, true
	case jsNumber:
		return printNumber(v.number), !math.IsNaN(v.number) && !math.IsInf(v.number, 0), nil, true
	}
	return "", false, nil, true
}

// compileDirect returns the script in a form that runs without the engine, nil when it does more than that form can. f is as the user wrote it.
func compileDirect(f *ast.ArrowFunctionLiteral, o Options, timestamp bool) *jsDirect {
	c := &jsCompiler{options: o, places: map[string]int{}, scope: &jsScope{names: map[unistring.String]int{"$": theEvent, "_": theEvent, "event": theEvent}}}
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
	options Options
	names   []string
	places  map[string]int // of names
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

func (c *jsCompiler) place(name string) int {
	i, ok := c.places[name]
	if !ok {
		i = len(c.names)
		c.names = append(c.names, name)
		c.places[name] = i
	}
	return i
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

// expression compiles an expression.
func (c *jsCompiler) expression(e ast.Expression) jsExpr {
	if c.depth++; c.depth > maxDirectDepth || c.failed {
		return c.fail()
	}
	defer func() { c.depth-- }()
	switch e := e.(type) {
	case *ast.StringLiteral:
		return c.text(e.Value)
	case *ast.NumberLiteral:
		switch n := e.Value.(type) {
		case int64:
			return constantOf(jsFloat(float64(n)))
		case float64:
			return constantOf(jsFloat(n))
		}
	case *ast.BooleanLiteral:
		return constantOf(jsTruth(e.Value))
	case *ast.NullLiteral:
		return constantOf(jsValue{kind: jsNull})
	case *ast.Identifier:
		return c.identifier(e)
	case *ast.DotExpression, *ast.BracketExpression, *ast.OptionalChain, *ast.Optional, *ast.CallExpression:
		return c.chain(e)
	case *ast.UnaryExpression:
		return c.unary(e)
	case *ast.BinaryExpression:
		return c.binary(e)
	case *ast.ConditionalExpression:
		test, yes, no := c.expression(e.Test), c.expression(e.Consequent), c.expression(e.Alternate)
		return func(r *jsRun) jsValue {
			if test(r).truthy() {
				return yes(r)
			}
			return no(r)
		}
	case *ast.TemplateLiteral:
		return c.template(e)
	}
	return c.fail()
}

func constantOf(v jsValue) jsExpr { return func(*jsRun) jsValue { return v } }

// text compiles a string of the script. Half of a surrogate pair is left to the engine: Go's strings hold none.
func (c *jsCompiler) text(s unistring.String) jsExpr {
	text := s.String()
	if strings.ContainsRune(text, utf8.RuneError) {
		return c.fail()
	}
	return constantOf(jsText(text))
}

func (c *jsCompiler) identifier(id *ast.Identifier) jsExpr {
	slot, declared := c.lookUp(id.Name)
	switch {
	case declared && slot >= 0:
		return func(r *jsRun) jsValue { return r.slots[slot] }
	case declared:
		return c.fail()
	}
	switch id.Name.String() {
	case "undefined":
		return constantOf(jsValue{})
	case "NaN":
		return constantOf(jsFloat(math.NaN()))
	case "destinationId":
		return constantOf(jsText(c.options.Destination))
	case "destinationType":
		return constantOf(jsText(c.options.Type))
	case "TABLE_NAME":
		return constantOf(jsText("JITSU_TABLE_NAME"))
	}
	return c.fail()
}

func (c *jsCompiler) unary(e *ast.UnaryExpression) jsExpr {
	if e.Operator == token.TYPEOF {
		if _, ok := e.Operand.(*ast.Identifier); ok {
			return c.fail() // typeof of a name that nobody declares is no error
		}
	}
	operand := c.expression(e.Operand)
	switch e.Operator {
	case token.NOT:
		return func(r *jsRun) jsValue { return jsTruth(!operand(r).truthy()) }
	case token.MINUS:
		return func(r *jsRun) jsValue { return jsFloat(-r.numeric(operand(r))) }
	case token.PLUS:
		return func(r *jsRun) jsValue { return jsFloat(r.numeric(operand(r))) }
	case token.TYPEOF:
		return func(r *jsRun) jsValue { return jsText(operand(r).typeName()) }
	}
	return c.fail()
}

func (c *jsCompiler) binary(e *ast.BinaryExpression) jsExpr {
	a, b := c.expression(e.Left), c.expression(e.Right)
	truth := func(f func(r *jsRun, a, b jsValue) bool) jsExpr {
		return func(r *jsRun) jsValue {
			x := a(r)
			return jsTruth(f(r, x, b(r)))
		}
	}
	switch e.Operator {
	case token.LOGICAL_AND:
		return func(r *jsRun) jsValue {
			if v := a(r); !v.truthy() {
				return v
			}
			return b(r)
		}
	case token.LOGICAL_OR:
		return func(r *jsRun) jsValue {
			if v := a(r); v.truthy() {
				return v
			}
			return b(r)
		}
	case token.COALESCE:
		return func(r *jsRun) jsValue {
			if v := a(r); !v.nullish() {
				return v
			}
			return b(r)
		}
	case token.STRICT_EQUAL:
		return truth((*jsRun).identical)
	case token.STRICT_NOT_EQUAL:
		return truth(func(r *jsRun, a, b jsValue) bool { return !r.identical(a, b) })
	case token.EQUAL:
		return truth((*jsRun).equal)
	case token.NOT_EQUAL:
		return truth(func(r *jsRun, a, b jsValue) bool { return !r.equal(a, b) })
	case token.LESS:
		return truth(func(r *jsRun, a, b jsValue) bool { return r.less(a, b, false) })
	case token.LESS_OR_EQUAL:
		return truth(func(r *jsRun, a, b jsValue) bool { return r.less(a, b, true) })
	case token.GREATER:
		return truth(func(r *jsRun, a, b jsValue) bool { return r.less(b, a, false) })
	case token.GREATER_OR_EQUAL:
		return truth(func(r *jsRun, a, b jsValue) bool { return r.less(b, a, true) })
	case token.PLUS:
		return func(r *jsRun) jsValue {
			x := a(r)
			return r.add(x, b(r))
		}
	case token.MINUS, token.MULTIPLY, token.SLASH:
		return c.arithmetic(e.Operator, a, b)
	}
	return c.fail()
}

func (c *jsCompiler) arithmetic(operator token.Token, a, b jsExpr) jsExpr {
	return func(r *jsRun) jsValue {
		x := r.numeric(a(r))
		y := r.numeric(b(r))
		switch operator {
		case token.MINUS:
			return jsFloat(x - y)
		case token.MULTIPLY:
			return jsFloat(x * y)
		}
		return jsFloat(x / y)
	}
}

func (c *jsCompiler) template(e *ast.TemplateLiteral) jsExpr {
	if e.Tag != nil {
		return c.fail()
	}
	var parts []jsExpr
	for i, element := range e.Elements {
		if !element.Valid {
			return c.fail()
		}
		parts = append(parts, c.text(element.Parsed))
		if i < len(e.Expressions) {
			parts = append(parts, c.expression(e.Expressions[i]))
		}
	}
	return func(r *jsRun) jsValue {
		var out []byte
		for _, part := range parts {
			out = append(out, r.print(part(r))...)
		}
		return jsText(string(out))
	}
}

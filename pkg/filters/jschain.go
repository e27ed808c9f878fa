package filters

import (
	"slices"

	"github.com/dop251/goja/ast"
)

// chain compiles what reads members, one of another, and calls their methods: $.user?.email.startsWith("x").
func (c *jsCompiler) chain(e ast.Expression) jsExpr {
	if c.depth++; c.depth > maxDirectDepth || c.failed {
		return c.fail()
	}
	defer func() { c.depth-- }()
	switch e := e.(type) {
	case *ast.OptionalChain:
		inner := c.chain(e.Expression)
		return func(r *jsRun) jsValue {
			v := inner(r)
			if v.kind == jsShort {
				return jsValue{}
			}
			return v
		}
	case *ast.Optional:
		inner := c.chain(e.Expression)
		return func(r *jsRun) jsValue {
			v := inner(r)
			if v.nullish() {
				return jsValue{kind: jsShort}
			}
			return v
		}
	case *ast.DotExpression:
		return c.member(e.Left, step{name: e.Identifier.Name.String(), index: -1})
	case *ast.BracketExpression:
		switch m := e.Member.(type) {
		case *ast.StringLiteral:
			if c.text(m.Value); !c.failed && leadingDigits(m.Value.String()) != m.Value.String() {
				return c.member(e.Left, step{name: m.Value.String(), index: -1})
			}
		case *ast.NumberLiteral:
			if i, ok := m.Value.(int64); ok && i >= 0 && i < maxElements {
				return c.member(e.Left, step{name: printNumber(float64(i)), index: int(i)})
			}
		}
		return c.fail()
	case *ast.CallExpression:
		return c.call(e)
	}
	return c.expression(e)
}

// member compiles the reading of one member.
func (c *jsCompiler) member(of ast.Expression, s step) jsExpr {
	if inherited[s.name] {
		return c.fail()
	}
	if c.isEvent(of) {
		place := c.place(s.name)
		return func(r *jsRun) jsValue { return r.jsOf(r.lookup.Get(place)) }
	}
	inner := c.chain(of)
	return func(r *jsRun) jsValue { return r.member(inner(r), s) }
}

// isEvent says whether e is the event itself, which is never missing.
func (c *jsCompiler) isEvent(e ast.Expression) bool {
	if o, ok := e.(*ast.Optional); ok {
		e = o.Expression
	}
	id, ok := e.(*ast.Identifier)
	if !ok {
		return false
	}
	slot, declared := c.lookUp(id.Name)
	return declared && slot == theEvent
}

// call compiles the call of a method that is the same for everybody.
func (c *jsCompiler) call(e *ast.CallExpression) jsExpr {
	if id, ok := e.Callee.(*ast.Identifier); ok && id.Name == "String" && len(e.ArgumentList) == 1 {
		if _, declared := c.lookUp(id.Name); declared {
			return c.fail()
		}
		argument := c.expression(e.ArgumentList[0])
		return func(r *jsRun) jsValue { return jsText(r.print(argument(r))) }
	}
	callee, ok := e.Callee.(*ast.DotExpression)
	if !ok {
		return c.fail()
	}
	method := callee.Identifier.Name.String()
	arguments, known := jsMethods[method]
	if !known || len(e.ArgumentList) != arguments || c.isEvent(callee.Left) {
		return c.fail()
	}
	argument := constantOf(jsValue{})
	if arguments == 1 {
		argument = c.expression(e.ArgumentList[0])
	}
	if list, ok := callee.Left.(*ast.ArrayLiteral); ok {
		if method != "includes" {
			return c.fail()
		}
		return c.listHas(list, argument)
	}
	inner := c.chain(callee.Left)
	return func(r *jsRun) jsValue {
		v := inner(r)
		if v.nullish() { // arguments are not looked at
			return r.call(v, method, jsValue{})
		}
		return r.call(v, method, argument(r))
	}
}

// listHas compiles ["a", "b"].includes(…).
func (c *jsCompiler) listHas(list *ast.ArrayLiteral, argument jsExpr) jsExpr {
	if slices.Contains(list.Value, nil) {
		return c.fail()
	}
	elements := make([]jsExpr, len(list.Value))
	texts := make([]string, 0, len(list.Value))
	for i, e := range list.Value {
		if _, ok := e.(*ast.SpreadElement); ok {
			return c.fail()
		}
		if t, ok := e.(*ast.StringLiteral); ok {
			texts = append(texts, t.Value.String())
		}
		elements[i] = c.expression(e)
	}
	if len(texts) == len(elements) {
		return func(r *jsRun) jsValue {
			wanted := argument(r)
			return jsTruth(wanted.kind == jsString && slices.Contains(texts, wanted.text))
		}
	}
	return func(r *jsRun) jsValue {
		values := make([]jsValue, len(elements))
		for i, e := range elements {
			values[i] = e(r)
		}
		wanted := argument(r)
		return jsTruth(slices.ContainsFunc(values, func(v jsValue) bool { return r.includes(v, wanted) }))
	}
}

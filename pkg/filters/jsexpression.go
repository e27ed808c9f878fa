package filters

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

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

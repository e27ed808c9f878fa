package filters

import (
	"reflect"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// boundStrings makes every string that a loop or an inner function of f puts together go through the function called grown, which
// stops the script when it is too long. `s += s` in a loop would else have taken hundreds of megabytes when its time is
// up, and the engine has no bound of its own. What runs once can not grow far.
func boundStrings(f *ast.ArrowFunctionLiteral) {
	switch body := f.Body.(type) {
	case *ast.BlockStatement:
		boundIn(reflect.ValueOf(body), false)
	case *ast.ExpressionBody:
		boundIn(reflect.ValueOf(body), false)
	}
}

var expressionType = reflect.TypeFor[ast.Expression]()

// boundIn replaces expressions below v; repeats is true inside loops and functions.
func boundIn(v reflect.Value, repeats bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			boundIn(v.Elem(), repeats || isRepeated(v.Interface()))
			boundPower(v.Interface())
			markLoop(v.Interface())
		}
	case reflect.Slice:
		for i := range v.Len() {
			boundIn(v.Index(i), repeats)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() && field.Type() != declarationType {
				boundIn(field, repeats)
			}
		}
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		boundIn(v.Elem(), repeats)
		if e, ok := v.Interface().(ast.Expression); ok && repeats && v.Type() == expressionType && makesString(e) {
			v.Set(reflect.ValueOf(callGrown(e)))
		}
	}
}

func isRepeated(n any) bool {
	switch n.(type) {
	case *ast.ForStatement, *ast.ForInStatement, *ast.ForOfStatement, *ast.WhileStatement, *ast.DoWhileStatement,
		*ast.FunctionLiteral, *ast.ArrowFunctionLiteral:
		return true
	}
	return false
}

// markLoop puts something into a loop that is empty or awaits, for else the engine can not say on which line it was when it ran away.
func markLoop(n any) {
	mark := func(at ast.Node, body *ast.Statement) {
		block, ok := (*body).(*ast.BlockStatement)
		_, empty := (*body).(*ast.EmptyStatement)
		here := &ast.ExpressionStatement{Expression: callGrown(&ast.NumberLiteral{Idx: at.Idx0(), Literal: "0", Value: int64(0)})}
		switch {
		case empty || ok && len(block.List) == 0:
			*body = here
		case contains([]ast.Statement{*body}, isAwait):
			*body = &ast.BlockStatement{LeftBrace: (*body).Idx0(), List: []ast.Statement{here, *body}, RightBrace: (*body).Idx1()}
		}
	}
	switch n := n.(type) {
	case *ast.ForStatement:
		mark(n, &n.Body)
	case *ast.WhileStatement:
		mark(n, &n.Body)
	case *ast.DoWhileStatement:
		mark(n, &n.Body)
	}
}

func isAwait(n ast.Node) bool { _, ok := n.(*ast.AwaitExpression); return ok }

// makesString tells whether e can be a string longer than its parts. Adding a number, as in i + 1, makes nothing grow fast.
func makesString(e ast.Expression) bool {
	switch e := e.(type) {
	case *ast.BinaryExpression:
		return e.Operator == token.PLUS && !isNumber(e.Left) && !isNumber(e.Right)
	case *ast.AssignExpression:
		return e.Operator == token.PLUS && !isNumber(e.Right)
	case *ast.TemplateLiteral:
		return e.Tag == nil && len(e.Expressions) > 0
	}
	return false
}

// boundPower makes the right side of ** and << go through grown as well: as a BigInt, it alone decides how large the result is.
func boundPower(n any) {
	switch n := n.(type) {
	case *ast.BinaryExpression:
		if n.Operator == token.EXPONENT || n.Operator == token.SHIFT_LEFT {
			n.Right = callGrown(n.Right)
		}
	case *ast.AssignExpression:
		if n.Operator == token.EXPONENT || n.Operator == token.SHIFT_LEFT {
			n.Right = callGrown(n.Right)
		}
	}
}

func isNumber(e ast.Expression) bool { _, ok := e.(*ast.NumberLiteral); return ok }

func callGrown(e ast.Expression) *ast.CallExpression {
	return &ast.CallExpression{
		Callee:           &ast.Identifier{Name: grown, Idx: e.Idx0()},
		LeftParenthesis:  e.Idx0(),
		ArgumentList:     []ast.Expression{e},
		RightParenthesis: e.Idx1(),
	}
}

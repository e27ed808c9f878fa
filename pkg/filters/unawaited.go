package filters

import "github.com/dop251/goja/ast"

// unawaitedWarning is for a script that takes what $kv.get returns for the value: it is a promise, which is true whatever is kept, so that the script runs and does
// something else than its author means.
func unawaitedWarning(src string, f *ast.ArrowFunctionLiteral) []string {
	var found ast.Node
	var walk func(n ast.Node)
	walk = func(n ast.Node) {
		for _, operand := range asValues(n) {
			if found == nil && isKVGet(operand) {
				found = operand
			}
		}
		for _, c := range children(n) {
			walk(c)
		}
	}
	walk(f)
	if found == nil {
		return nil
	}
	return []string{errorAt(src, offsetInScript(src, found.Idx0()), "$kv.get returns a promise, not the value", "write await $kv.get(…)").Error()}
}

// asValues are the operands of n that it needs the value of.
func asValues(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.BinaryExpression:
		return []ast.Node{n.Left, n.Right}
	case *ast.UnaryExpression:
		return []ast.Node{n.Operand}
	case *ast.IfStatement:
		return []ast.Node{n.Test}
	case *ast.ConditionalExpression:
		return []ast.Node{n.Test}
	case *ast.TemplateLiteral:
		var all []ast.Node
		for _, e := range n.Expressions {
			all = append(all, e)
		}
		return all
	}
	return nil
}

func isKVGet(n ast.Node) bool {
	call, ok := n.(*ast.CallExpression)
	if !ok {
		return false
	}
	member, ok := call.Callee.(*ast.DotExpression)
	if !ok || member.Identifier.Name != "get" {
		return false
	}
	of, ok := member.Left.(*ast.Identifier)
	return ok && of.Name == "$kv"
}

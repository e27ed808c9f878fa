package filters

import (
	"strconv"

	"github.com/dop251/goja/ast"
	"github.com/tidwall/gjson"
)

// step is one name of a path, or one index.
type step struct {
	name  string
	index int // -1: name
}

// maxPath is how long a path may be that is not left to the engine.
const maxPath = 16

// fieldPath returns the path of a script that only reads one field of the event, $.user.plan, and nil for others: most expressions are so
// simple that the engine would be waste.
func fieldPath(f *ast.ArrowFunctionLiteral) []step {
	body, ok := f.Body.(*ast.ExpressionBody)
	if !ok {
		return nil
	}
	return appendPath(nil, body.Expression)
}

func appendPath(path []step, e ast.Expression) []step {
	switch e := e.(type) {
	case *ast.OptionalChain:
		return appendPath(path, e.Expression)
	case *ast.Optional:
		return appendPath(path, e.Expression)
	case *ast.DotExpression:
		return appendStep(path, e.Left, step{name: e.Identifier.Name.String(), index: -1})
	case *ast.BracketExpression:
		switch m := e.Member.(type) {
		case *ast.StringLiteral:
			return appendStep(path, e.Left, step{name: m.Value.String(), index: -1})
		case *ast.NumberLiteral:
			if i, ok := m.Value.(int64); ok && i >= 0 && i < maxElements {
				return appendStep(path, e.Left, step{index: int(i)})
			}
		}
	}
	return nil
}

func appendStep(path []step, left ast.Expression, s step) []step {
	if id, ok := left.(*ast.Identifier); ok {
		switch id.Name.String() {
		case "$", "_", "event":
			return append(path, s)
		}
		return nil
	}
	path = appendPath(path, left)
	if path == nil || len(path) == maxPath {
		return nil
	}
	return append(path, s)
}

// inherited are members that every object has in JavaScript.
var inherited = set("constructor", "toString", "toLocaleString", "valueOf", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "__proto__",
	"__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__")

// walk follows path through an event. ok is false when it takes an engine to say what is there, such as the length of a text. A field of
// something that is missing or null is missing.
func walk(json string, path []step) (v gjson.Result, ok bool) {
	v = gjson.Parse(json)
	for _, s := range path {
		switch {
		case !v.Exists() || v.Type == gjson.Null:
			return gjson.Result{}, true
		case v.IsObject():
			name := s.name
			if s.index >= 0 {
				name = strconv.Itoa(s.index)
			}
			if v = memberOf(v, name); !v.Exists() && inherited[name] {
				return v, false
			}
		case v.IsArray() && s.index >= 0:
			v = elementOf(v, s.index)
		default:
			return v, false
		}
	}
	return v, true
}

// memberOf finds a name without the syntax that gjson gives names.
func memberOf(object gjson.Result, name string) (found gjson.Result) {
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str == name {
			found = v
			return false
		}
		return true
	})
	return found
}

func elementOf(array gjson.Result, index int) (found gjson.Result) {
	array.ForEach(func(_, v gjson.Result) bool {
		if index == 0 {
			found = v
			return false
		}
		index--
		return true
	})
	return found
}

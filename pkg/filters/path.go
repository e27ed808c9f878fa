package filters

import (
	"strconv"

	"github.com/dop251/goja/ast"

	"eventrouter/pkg/event"
)

// step is one name of a path, or one index.
type step struct {
	name  string
	index int // -1: name
}

// member is the name that the step has in an object.
func (s step) member() string {
	if s.index >= 0 {
		return strconv.Itoa(s.index)
	}
	return s.name
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

// walk follows path through a value of the event, "" for none. ok is false when it takes an engine to say what is there, such as the length of a text. A field of
// something that is missing or null is missing.
func walk(json string, path []step) (found string, ok bool) {
	for _, s := range path {
		switch {
		case json == "" || json == "null":
			return "", true
		case json[0] == '{':
			name := s.member()
			if json = event.Member(json, name); json == "" && inherited[name] {
				return "", false
			}
		case json[0] == '[' && s.index >= 0:
			json = elementOf(json, s.index)
		default:
			return "", false
		}
	}
	return json, true
}

// elementOf returns the element of an array at index, "" if it is shorter.
func elementOf(array string, index int) (found string) {
	event.Elements(array, func(element string) bool {
		if index == 0 {
			found = element
		}
		index--
		return index >= 0
	})
	return found
}

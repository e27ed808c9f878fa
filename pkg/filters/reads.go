package filters

import (
	"slices"
	"strconv"

	"github.com/dop251/goja/ast"
)

// maxReads is how many members of the event are looked up one by one; a script that names more gets the whole view.
const maxReads = 32

// eventReads returns the members of the event that a script can reach, if it names them all, as in $.user?.email; false when it may reach others, as Object.keys($) does.
// A name that is declared anew counts as the event, which costs time only.
func eventReads(f *ast.ArrowFunctionLiteral) (names []string, ok bool) {
	r := eventReader{ok: true}
	if f.ParameterList != nil {
		r.visit(f.Body)
	}
	slices.Sort(r.names)
	names = slices.Compact(r.names)
	return names, r.ok && len(names) <= maxReads
}

type eventReader struct {
	names []string
	ok    bool
}

func (r *eventReader) visit(n ast.Node) {
	switch n := n.(type) {
	case *ast.DotExpression:
		if isEventName(n.Left) {
			r.add(n.Identifier.Name.String())
		} else {
			r.visit(n.Left)
		}
		return
	case *ast.BracketExpression:
		if isEventName(n.Left) {
			switch m := n.Member.(type) {
			case *ast.StringLiteral:
				r.add(m.Value.String())
				return
			case *ast.NumberLiteral:
				if i, ok := m.Value.(int64); ok && i >= 0 {
					r.add(strconv.FormatInt(i, 10))
					return
				}
			}
		}
	case *ast.Identifier:
		if isEventName(n) || n.Name == "$context" || n.Name == "globalThis" { // $context knows the headers
			r.ok = false
		}
		return
	}
	for _, c := range children(n) {
		r.visit(c)
	}
}

// add notes a member. What all objects inherit looks at the whole event, as $.hasOwnProperty("a") does.
func (r *eventReader) add(name string) {
	r.ok = r.ok && !inherited[name]
	r.names = append(r.names, name)
}

// isEventName says whether e is a name of the event, or $?.
func isEventName(e ast.Expression) bool {
	if o, ok := e.(*ast.Optional); ok {
		e = o.Expression
	}
	id, ok := e.(*ast.Identifier)
	if !ok {
		return false
	}
	switch id.Name {
	case "$", "_", "event":
		return true
	}
	return false
}

// wantedNames are the names of an event's members that a compiler wants looked up, each once.
type wantedNames struct {
	names  []string
	places map[string]int // of names
}

// place returns where a name stands among them, and puts it there if it is new.
func (l *wantedNames) place(name string) int {
	i, ok := l.places[name]
	if !ok {
		if l.places == nil {
			l.places = map[string]int{}
		}
		i = len(l.names)
		l.names = append(l.names, name)
		l.places[name] = i
	}
	return i
}

package filters

import (
	"fmt"
	"reflect"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
	"github.com/dop251/goja/token"
	"github.com/dop251/goja/unistring"
)

// scope is one level of declared names.
type scope struct {
	outer *scope
	names map[unistring.String]bool
}

func (s *scope) inner() *scope { return &scope{outer: s, names: map[unistring.String]bool{}} }

func (s *scope) declares(name unistring.String) bool {
	for ; s != nil; s = s.outer {
		if s.names[name] {
			return true
		}
	}
	return false
}

// resolver finds the names that a script uses without anybody declaring them: in JavaScript those are run-time errors, or silent
// globals when they are assigned to.
type resolver struct {
	finding *finding        // the first, nil while there is none
	names   map[string]bool // that the dialect has beside builtins,
	uses    map[string]bool // and those of them that the script uses
	awaits  bool            // the script's own function uses await
	depth   int             // of functions around the node in hand
}

// finding is what a resolver objects to.
type finding struct {
	at        file.Idx
	what, fix string
}

func (r *resolver) report(at file.Idx, what, fix string) {
	if r.finding == nil || at < r.finding.at {
		r.finding = &finding{at, what, fix}
	}
}

func (r *resolver) use(id *ast.Identifier, s *scope) {
	name := id.Name.String()
	switch {
	case s.declares(id.Name) || builtins[name]:
	case r.names[name]:
		r.uses[name] = true
	default:
		r.report(id.Idx, name+" is not defined", unknownNameFix(name))
	}
}

// visit resolves the names in n. Node types that declare nothing and hold no names of their own take the default.
func (r *resolver) visit(n ast.Node, s *scope) {
	switch n := n.(type) {
	case *ast.Identifier:
		r.use(n, s)
	case *ast.DotExpression:
		r.visit(n.Left, s)
	case *ast.PrivateDotExpression:
		r.visit(n.Left, s)
	case *ast.MetaProperty, *ast.BranchStatement:
	case *ast.LabelledStatement:
		r.visit(n.Statement, s)
	case *ast.UnaryExpression:
		if _, ok := n.Operand.(*ast.Identifier); ok && n.Operator == token.TYPEOF {
			return // typeof is how one asks whether a name is defined
		}
		r.visit(n.Operand, s)
	case *ast.AwaitExpression:
		r.awaits = r.awaits || r.depth == 0
		r.visit(n.Argument, s)
	case *ast.PropertyShort:
		r.use(&n.Name, s)
		r.visitSome(n.Initializer, s)
	case *ast.PropertyKeyed:
		r.key(n.Key, n.Computed, s)
		r.visit(n.Value, s)
	case *ast.FieldDefinition:
		r.key(n.Key, n.Computed, s)
		r.visitSome(n.Initializer, s)
	case *ast.MethodDefinition:
		r.key(n.Key, n.Computed, s)
		r.visit(n.Body, s)
	case *ast.ClassLiteral:
		r.class(n, s)
	case *ast.ClassStaticBlock:
		r.body(n.DeclarationList, n.Block.List, s.inner())
	case *ast.FunctionLiteral:
		r.function(n, s)
	case *ast.ArrowFunctionLiteral:
		r.depth++
		r.arrow(n, s)
		r.depth--
	case *ast.WithStatement:
		r.report(n.With, "with is not supported", "names inside it can not be checked")
	default:
		r.visitBlock(n, s)
	}
}

// visitBlock resolves the names in statements with a scope of their own, and in all other nodes.
func (r *resolver) visitBlock(n ast.Node, s *scope) {
	switch n := n.(type) {
	case *ast.BlockStatement:
		s = s.inner()
		declareStatements(n.List, s)
	case *ast.SwitchStatement:
		s = s.inner()
		for _, c := range n.Body {
			declareStatements(c.Consequent, s)
		}
	case *ast.ForStatement:
		s = s.inner()
		if d, ok := n.Initializer.(*ast.ForLoopInitializerLexicalDecl); ok {
			declareBindings(d.LexicalDeclaration.List, s)
		}
	case *ast.ForInStatement:
		s = declareForInto(n.Into, s)
	case *ast.ForOfStatement:
		s = declareForInto(n.Into, s)
	case *ast.CatchStatement:
		s = s.inner()
		declareTarget(n.Parameter, s)
	}
	for _, c := range children(n) {
		r.visit(c, s)
	}
}

func (r *resolver) visitSome(n ast.Expression, s *scope) {
	if n != nil {
		r.visit(n, s)
	}
}

func (r *resolver) key(n ast.Expression, computed bool, s *scope) {
	if computed {
		r.visit(n, s)
	}
}

func (r *resolver) class(n *ast.ClassLiteral, s *scope) {
	s = s.inner()
	if n.Name != nil {
		s.names[n.Name.Name] = true
	}
	r.visitSome(n.SuperClass, s)
	r.depth++
	for _, e := range n.Body {
		r.visit(e, s)
	}
	r.depth--
}

func (r *resolver) function(n *ast.FunctionLiteral, s *scope) {
	s = s.inner()
	s.names["arguments"] = true
	if n.Name != nil {
		s.names[n.Name.Name] = true
	}
	r.depth++
	r.parameters(n.ParameterList, s)
	r.body(n.DeclarationList, n.Body.List, s)
	r.depth--
}

func (r *resolver) arrow(n *ast.ArrowFunctionLiteral, s *scope) {
	s = s.inner()
	r.parameters(n.ParameterList, s)
	switch body := n.Body.(type) {
	case *ast.BlockStatement:
		r.body(n.DeclarationList, body.List, s)
	case *ast.ExpressionBody:
		r.visit(body.Expression, s)
	}
}

func (r *resolver) parameters(list *ast.ParameterList, s *scope) {
	if list == nil {
		return
	}
	declareBindings(list.List, s)
	declareTarget(list.Rest, s)
	for _, b := range list.List {
		r.visit(b, s)
	}
	r.visitSome(list.Rest, s)
}

// body resolves a function's statements; vars are what its var statements declare at any depth.
func (r *resolver) body(vars []*ast.VariableDeclaration, list []ast.Statement, s *scope) {
	for _, v := range vars {
		declareBindings(v.List, s)
	}
	declareStatements(list, s)
	for _, st := range list {
		r.visit(st, s)
	}
}

// declareStatements adds what a block declares: let, const, class and function. The engine keeps functions inside their block.
func declareStatements(list []ast.Statement, s *scope) {
	for _, st := range list {
		switch st := st.(type) {
		case *ast.LexicalDeclaration:
			declareBindings(st.List, s)
		case *ast.FunctionDeclaration:
			s.names[st.Function.Name.Name] = true
		case *ast.ClassDeclaration:
			s.names[st.Class.Name.Name] = true
		}
	}
}

func declareForInto(into ast.ForInto, s *scope) *scope {
	if d, ok := into.(*ast.ForDeclaration); ok {
		s = s.inner()
		declareTarget(d.Target, s)
	}
	return s
}

func declareBindings(list []*ast.Binding, s *scope) {
	for _, b := range list {
		declareTarget(b.Target, s)
	}
}

// declareTarget adds the names of a binding: one name, or those of a pattern.
func declareTarget(n ast.Node, s *scope) {
	switch n := n.(type) {
	case *ast.Identifier:
		s.names[n.Name] = true
	case *ast.Binding:
		declareTarget(n.Target, s)
	case *ast.AssignExpression: // a default value
		declareTarget(n.Left, s)
	case *ast.PropertyShort:
		s.names[n.Name.Name] = true
	case *ast.PropertyKeyed:
		declareTarget(n.Value, s)
	case *ast.SpreadElement:
		declareTarget(n.Expression, s)
	case *ast.ArrayPattern:
		for _, e := range n.Elements {
			declareTarget(e, s)
		}
		declareTarget(n.Rest, s)
	case *ast.ObjectPattern:
		for _, p := range n.Properties {
			declareTarget(p, s)
		}
		declareTarget(n.Rest, s)
	}
}

var (
	nodeType        = reflect.TypeFor[ast.Node]()
	declarationType = reflect.TypeFor[[]*ast.VariableDeclaration]()
)

// children returns the nodes right below n. Reflection, because the syntax tree has no visitor and eighty types of node, and a
// type that a hand-written switch forgets would be a name that is not checked; scripts are compiled once.
func children(n ast.Node) []ast.Node {
	var found []ast.Node
	v := reflect.ValueOf(n)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	for i := range v.NumField() {
		field := v.Field(i)
		if !field.CanInterface() || field.Type() == declarationType {
			continue // var declarations stand in the body as well
		}
		found = appendNodes(found, field)
	}
	return found
}

func appendNodes(found []ast.Node, v reflect.Value) []ast.Node {
	switch {
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			found = appendNodes(found, v.Index(i))
		}
	case v.Kind() == reflect.Struct && v.CanAddr() && v.Addr().Type().Implements(nodeType):
		found = append(found, v.Addr().Interface().(ast.Node))
	case (v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer) && !v.IsNil():
		n, ok := v.Interface().(ast.Node)
		if ok {
			found = append(found, n)
		}
	}
	return found
}

// builtins are the names of the language, and ours in prelude.js, that a script may use. eval and Function are left out, since what they run can not be
// checked, and binary buffers, since a filter has no use for them.
var builtins = set(
	"Object", "Array", "String", "Number", "BigInt", "Boolean", "Symbol", "RegExp", "Date", "Math", "JSON", "Map", "Set", "WeakMap",
	"WeakSet", "Promise", "Proxy", "Reflect", "Error", "AggregateError", "TypeError", "ReferenceError", "SyntaxError", "RangeError",
	"EvalError", "URIError", "globalThis", "NaN", "Infinity", "undefined", "isNaN", "isFinite", "parseInt", "parseFloat", "decodeURI",
	"decodeURIComponent", "encodeURI", "encodeURIComponent", "escape", "unescape",
	"TABLE_NAME", "destinationId", "destinationType", "$context", "console", "get", "json", "json_indent", "json_indent_quote",
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// absent are names that scripts for Jitsu or for Node.js may use, and why they are not here.
var absent = map[string]string{
	"require":        "scripts have no modules",
	"module":         "scripts have no modules",
	"exports":        "scripts have no modules",
	"process":        "scripts do not see the environment",
	"fetch":          "scripts have no network",
	"$kv":            "only a transform keeps something between events: data_layout.transform",
	"toSegment":      "only a transform has it: data_layout.transform",
	"setTimeout":     "scripts have no timers",
	"setInterval":    "scripts have no timers",
	"XMLHttpRequest": "scripts have no network",
	"WebSocket":      "scripts have no network",
	"Deno":           "scripts do not see the environment",
	"eval":           "scripts run only what stands in the configuration",
	"Function":       "scripts run only what stands in the configuration",
	"Buffer":         "scripts have no binary data",
	"arguments":      "outside functions there are none",
}

func unknownNameFix(name string) string {
	if why, ok := absent[name]; ok {
		return why
	}
	return fmt.Sprintf("write $.%s for the event's field, or declare the name with let", name)
}

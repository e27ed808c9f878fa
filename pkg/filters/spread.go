package filters

import (
	"reflect"

	"github.com/dop251/goja"
	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/unistring"
)

// Copies of the event, {...$, plan: "pro"}, are what most transforms are about. The engine would make a value of each member to copy it; so scripts that make events
// have each object literal with a spread in it, and each Object.assign into a literal, done by these two:
//
//	{...$, plan: f()}                      «merge»(«copy»($), {plan: f()})
//	{a: 1, ...$.user, ...more}             «merge»({a: 1}, «copy»($.user), «copy»(more))
//	Object.assign({}, $, {a: 1})           «merge»({}, $, {a: 1})
//
// What is copied is read where it stands, before what follows can change it. Like [grown], no script can name them.
const (
	copied = "$__copied"
	merged = "$__merged"
)

// copyLazily rewrites what copies objects in f.
func copyLazily(f *ast.ArrowFunctionLiteral) {
	switch body := f.Body.(type) {
	case *ast.BlockStatement:
		copyIn(reflect.ValueOf(body))
	case *ast.ExpressionBody:
		copyIn(reflect.ValueOf(body))
	}
}

// copyIn replaces expressions below v.
func copyIn(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			copyIn(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			copyIn(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Field(i); field.CanSet() && field.Type() != declarationType {
				copyIn(field)
			}
		}
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		copyIn(v.Elem())
		if e, ok := v.Interface().(ast.Expression); ok && v.Type() == expressionType {
			if call := copying(e); call != nil {
				v.Set(reflect.ValueOf(call))
			}
		}
	}
}

// copying returns the call that does what e does, nil when e copies nothing.
func copying(e ast.Expression) *ast.CallExpression {
	switch e := e.(type) {
	case *ast.ObjectLiteral:
		return spreading(e)
	case *ast.CallExpression:
		if callee, ok := e.Callee.(*ast.DotExpression); !ok || callee.Identifier.Name != "assign" || !isName(callee.Left, "Object") {
			return nil
		}
		if len(e.ArgumentList) < 2 || !isLiteral(e.ArgumentList[0]) {
			return nil
		}
		for _, a := range e.ArgumentList {
			if _, ok := a.(*ast.SpreadElement); ok {
				return nil
			}
		}
		e.Callee = &ast.Identifier{Name: merged, Idx: e.Idx0()}
		return e
	}
	return nil
}

func isName(e ast.Expression, name string) bool {
	id, ok := e.(*ast.Identifier)
	return ok && id.Name.String() == name
}

// isLiteral says whether e is an object literal that only has values: with getters or __proto__ the parts of it are not the whole.
func isLiteral(e ast.Expression) bool {
	o, ok := e.(*ast.ObjectLiteral)
	if !ok {
		return false
	}
	for _, p := range o.Value {
		keyed, ok := p.(*ast.PropertyKeyed)
		if !ok {
			continue
		}
		if keyed.Kind == ast.PropertyKindGet || keyed.Kind == ast.PropertyKindSet {
			return false
		}
		if key, ok := keyed.Key.(*ast.StringLiteral); ok && !keyed.Computed && key.Value == "__proto__" {
			return false
		}
	}
	return true
}

// spreading returns the call for an object literal with a spread in it.
func spreading(o *ast.ObjectLiteral) *ast.CallExpression {
	if !isLiteral(o) {
		return nil
	}
	var parts []ast.Expression
	spreads := false
	for _, p := range o.Value {
		if spread, ok := p.(*ast.SpreadElement); ok {
			parts = append(parts, call(copied, spread.Expression))
			spreads = true
			continue
		}
		last := len(parts) - 1
		if last < 0 || !isPart(parts[last]) {
			parts = append(parts, &ast.ObjectLiteral{LeftBrace: p.Idx0(), RightBrace: o.RightBrace})
			last++
		}
		part := parts[last].(*ast.ObjectLiteral)
		part.Value = append(part.Value, p)
	}
	if !spreads {
		return nil
	}
	if len(parts) == 1 {
		return parts[0].(*ast.CallExpression)
	}
	return call(merged, parts...)
}

func isPart(e ast.Expression) bool { _, ok := e.(*ast.ObjectLiteral); return ok }

func call(name string, args ...ast.Expression) *ast.CallExpression {
	at := args[0]
	return &ast.CallExpression{
		Callee: &ast.Identifier{Name: unistring.String(name), Idx: at.Idx0()}, LeftParenthesis: at.Idx0(), ArgumentList: args, RightParenthesis: at.Idx1(),
	}
}

// own returns the object of the event, or the copy of one, that v is; nil when it is neither.
func own(v goja.Value) *object {
	o, ok := v.(*goja.Object)
	if !ok || o.ExportType() != ownType {
		return nil
	}
	return o.Export().(*object)
}

// copyOf is what {...v} makes.
func (s *script) copyOf(v goja.Value) goja.Value {
	if o := own(v); o != nil {
		return s.runtime.NewDynamicObject(o.copy())
	}
	plain := s.runtime.NewObject()
	s.assign(plain, v)
	return plain
}

// mergeOf puts the members of the other arguments into the first one, which nobody else has yet, and returns what that comes to.
func (s *script) mergeOf(args []goja.Value) goja.Value {
	target, _ := args[0].(*goja.Object)
	into := own(target)
	for _, from := range args[1:] {
		of := own(from)
		if of == nil && into == nil {
			s.assign(target, from)
			continue
		}
		if into == nil { // the event's members go into an object that is like the event
			into = &object{space: &s.space, read: true}
			s.put(into, target)
			target = s.runtime.NewDynamicObject(into)
		}
		if of == nil {
			s.put(into, from)
			continue
		}
		of.readMembers()
		for i := range of.members {
			into.put(of.members[i].share())
		}
	}
	return target
}

// assign is Object.assign for objects that are not the event's.
func (s *script) assign(to *goja.Object, v goja.Value) {
	from := s.source(v)
	if from == nil {
		return
	}
	for _, key := range from.Keys() {
		s.must(to.DefineDataProperty(key, from.Get(key), goja.FLAG_TRUE, goja.FLAG_TRUE, goja.FLAG_TRUE))
	}
	for _, symbol := range from.Symbols() {
		s.must(to.SetSymbol(symbol, from.GetSymbol(symbol)))
	}
}

// put is assign for a copy of the event's.
func (s *script) put(into *object, v goja.Value) {
	from := s.source(v)
	if from == nil {
		return
	}
	for _, key := range from.Keys() {
		into.Set(key, from.Get(key))
	}
}

func (s *script) source(v goja.Value) *goja.Object {
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return nil
	}
	return v.ToObject(s.runtime)
}

// must throws in the script what a function of the engine reports.
func (s *script) must(err error) {
	if err != nil {
		panic(s.runtime.NewGoError(err))
	}
}

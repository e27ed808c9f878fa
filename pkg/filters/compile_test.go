package filters

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestCompileErrors(t *testing.T) {
	// at is "line:column".
	f := func(src, at, message string) {
		t.Helper()
		_, err := Compile(src, Options{})
		var e *SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("Compile(%q) = %v, want a SyntaxError", src, err)
			return
		}
		if got := fmt.Sprintf("%d:%d", e.Line, e.Column); got != at {
			t.Errorf("Compile(%q): at %s, want %s (%v)", src, got, at, err)
		}
		if got := e.What + "; " + e.Fix; !strings.HasPrefix(got, message) {
			t.Errorf("Compile(%q):\n got %q\nwant %q", src, got, message)
		}
	}

	// Go templates never fall through to JavaScript.
	f("{{.event_type", "1:1", "unclosed action; end the action with }}")
	f("a {{.b}}\nc {{.d", "2:3", "unclosed action; end the action with }}")
	f("{{unknownfunc .a}}", "1:3", `function "unknownfunc" not defined; a field begins with a dot, as in {{.unknownfunc}}; the functions are and, call,`)
	f("{{.a}}\n{{if eq event_type `x`}}{{end}}", "2:9", `function "event_type" not defined; a field begins with a dot`)
	f("x{{if .a}}y", "1:2", "unexpected EOF; this block needs an {{end}}")
	f("{{if .a}}{{range .b}}{{end}}\n", "1:1", "unexpected EOF; this block needs an {{end}}")
	f("{{if .a}}{{end}}{{end}}", "1:17", "unexpected {{end}}")
	f("{{.a}}{{ | .b}}", "1:10", `unexpected "|" in command`)
	f("{{.a b}} }", "1:6", `function "b" not defined`)
	f("if ($.a) {{ return 1 }}", "1:13", `function "return" not defined; {{ always begins a Go template; if this is JavaScript, put a space between the braces`)
	f("`${{a: 1}.a}`", "1:5", `function "a" not defined; {{ always begins a Go template`)

	// JavaScript: syntax.
	f("$.a ==", "1:7", "unexpected end of the script")
	f("$.a == (\n  1", "2:4", "unexpected end of the script")
	f("if ($.a {", "1:9", "unexpected token {")
	f("return $.a +* 2", "1:13", "unexpected token *")
	f("let a = 1;\nlet é = 2; let b = = 3", "2:20", "unexpected token =")
	f("'abc", "1:1", "an unexpected character, or a string without its end")
	f("let a; let a; return a", "1:12", "identifier 'a' has already been declared")
	f("for (;;) { break x }", "1:12", "undefined label 'x'")
	f("}) ; (() => {", "1:1", "a closing bracket has no opening one")
	f("1 })(); (() => { return 2", "1:3", "a closing bracket has no opening one")
	f("$.a; })(); ($ => { $", "1:6", "a closing bracket has no opening one")
	f("/(/", "1:1", "unterminated group")
	f("const a; return a", "1:7", "missing initializer in const declaration")
	f("return (async function* () {})", "1:9", "async generators are not supported yet")

	// JavaScript: names.
	f("table-name", "1:1", "table is not defined; a constant table name begins with a letter and holds letters, digits")
	f("my_table\n", "1:1", "my_table is not defined; write $.my_table for the event's field")
	f("return foo", "1:8", "foo is not defined; write $.foo for the event's field, or declare the name with let")
	f("$.a\n  && bar($.b)", "2:6", "bar is not defined")
	f("return require('crypto')", "1:8", "require is not defined; scripts have no modules")
	f("await fetch('http://x')", "1:7", "fetch is not defined; scripts have no network")
	f("process.env['HOME']", "1:1", "process is not defined; scripts do not see the environment")
	f("$kv.get('a')", "1:1", "$kv is not defined; only a transform keeps something between events: data_layout.transform")
	f("eval('1')", "1:1", "eval is not defined; scripts run only what stands in the configuration")
	f("x = 1; return x", "1:1", "x is not defined")
	f("for (i = 0; i < 1; i++) {}", "1:6", "i is not defined")
	f("{ let a = 1 } return a", "1:22", "a is not defined")
	f("{ function g() {} } return g()", "1:28", "g is not defined")
	f("const f = a => a + b; return f(1)", "1:20", "b is not defined")
	f("return arguments.length", "1:8", "arguments is not defined; outside functions there are none")
	f("return {foo}", "1:9", "foo is not defined")
	f("const {a = q} = $; return a", "1:12", "q is not defined")
	f("return {[key]: 1}", "1:10", "key is not defined")
	f("class A extends B {} return 1", "1:17", "B is not defined")
	f("class A { static x = y } return 1", "1:22", "y is not defined")
	f("try {} catch (e) {} return e", "1:28", "e is not defined")
	f("return `${name}`", "1:11", "name is not defined")
	f("typeof a.b", "1:8", "a is not defined")
	f("return $__grown('x')", "1:8", "$__grown is not defined")
	f("with ($) { return event_type }", "1:1", "with is not supported; names inside it can not be checked")
	f("new Uint8Array(5)", "1:5", "Uint8Array is not defined")

	f(strings.Repeat("x", maxSourceBytes+1), "1:1", "the template is 65537 bytes long; a template has at most 65536 bytes")
}

// TestNames checks scripts whose names are all declared, in every way there is.
func TestNames(t *testing.T) {
	f := func(src string) {
		t.Helper()
		if _, err := Compile(src, Options{}); err != nil {
			t.Errorf("Compile(%q): %v", src, err)
		}
	}
	f("return a; var a = 1")
	f("if ($.x) { var a = 1 } return a")
	f("return f(); function f() { return g() } function g() { return 1 }")
	f("const {a, b: {c = 1, ...d}, ['e']: e, ...g} = $; return a + c + d + e + g")
	f("const [a, , [b] = [], ...c] = $.tags; return a + b + c")
	f("let a, b; [a, b = 1] = $.tags; ({a, x: b} = $); return a + b")
	f("for (let i = 0, n = 3; i < n; i++) { let j = i; if (j) continue } return ''")
	f("for (const k in $) if (k) return k; for (const {v} of []) return v; for (var w of []) {} return w")
	f("return ((a, {b}, [c] = [], ...d) => a + b + c + d)(1, {b: 2})")
	f("return (function named(a = 1) { return arguments.length && named && a })()")
	f("switch ($.n) { case 1: let x = 1; default: return x }")
	f("try { throw {code: 1} } catch ({code}) { return code }")
	f("class A { #p = 1; static s = A.name; static { var z = 1; z } m() { return this.#p + super.toString() } get g() { return 1 } ['c']() {} } return A")
	f("const C = class Inner { m() { return Inner } }; return C")
	f("function* g() { const x = yield 1; yield* [x] } return [...g()]")
	f("async function f() { await 1 } return f()")
	f("outer: for (;;) { break outer } return 1")
	f("return typeof nothing === 'undefined' && typeof(require)")
	f("return {a: 1, b() { return 2 }, get c() { return 3 }, $, ...event}.a")
	f("return $.a?.b?.[$.c]?.(1) ?? `x${$.d}`")
	f("return Math.max(Number('1'), parseInt('2')) + isNaN(NaN) + Infinity + undefined + globalThis")
	f("return String.raw`a${1}b` + Reflect.ownKeys({}) + new Proxy({}, {}) + new WeakMap() + BigInt(1)")
}

func TestWarnings(t *testing.T) {
	f := func(src string, want ...string) {
		t.Helper()
		got := mustCompile(t, src).Warnings()
		if len(got) != len(want) {
			t.Errorf("%q: warnings %q, want %q", src, got, want)
			return
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%q:\n got %q\nwant %q", src, got[i], want[i])
			}
		}
	}
	f("events")
	f(`"my schema"."my table"`)
	f("https://example.com/a")
	f("$.event_type")
	f("return $.event_type")
	f("throw new Error('x')")
	f("{{.event_type}}")
	f("event.event_type", `"event.event_type" is a constant table name, not a field: every event is kept; write $.event_type for the field`)
	f("user.email", `"user.email" is a constant table name, not a field: every event is kept; write $.user.email for the field`)
	f("event_type", `"event_type" is a constant table name, not a field: every event is kept; write $.event_type for the field`)
	f("event", `"event" is a constant table name, not the event: every event is kept`)
	f("true", `"true" is a constant table name: every event is kept`)
	f("undefined", `"undefined" is a constant table name: every event is kept`)
	f("process.env.HOME", `"process.env.HOME" is a constant table name, not an expression: every event is kept`)
	f("destinationId", `"destinationId" is a constant table name, not an expression: every event is kept; write (destinationId) for the expression`)
	f("Math.PI", `"Math.PI" is a constant table name, not an expression: every event is kept; write (Math.PI) for the expression`)
	f("json")
	f("false", `"false" is a constant that skips every event`)
	f("null", `"null" is a constant that skips every event`)
	f("NULL", `"NULL" is a constant that skips every event`)
	f("", "the template is empty: every event is skipped")
	f("if ($.a) { $.a }", "the script has no return: every event is skipped")
	f("$.a; $.b", "the script has no return: its first expression is the result, and what follows never runs")
	f("// nothing", "the script is empty: every event is skipped")
}

package filters

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// patient gives a busy machine time: these tests are about meaning, not speed.
var patient = Options{Destination: "crm", Type: "hubspot", Limit: 10 * time.Second}

const testView = `{"event_type":"signup","n":7,"price":12.5,"big":12345678901234567890,"off":false,"none":null,
 "user":{"id":"u1","email":"a@b.co","name":{"first":"Ann"}},"tags":["a",{"b":1},["c"]],"__proto__":{"x":1},
 "_timestamp":"2020-08-02T18:23:58.057807Z","with space":"x"}`

func TestScript(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		filter, err := Compile(src, patient)
		if err != nil {
			t.Errorf("Compile(%q): %v", src, err)
			return
		}
		text, ok, err := evalWhole(filter.engine, testView)
		if errors.Is(err, errSkip) {
			ok, err = false, nil
		}
		if err != nil {
			text = "error: " + err.Error()
		} else if !ok {
			text = "no text"
		}
		if text != want {
			t.Errorf("%s\n got %q\nwant %q", src, text, want)
		}
	}

	// The event is a plain object.
	f("$.event_type + _.event_type + event.event_type", "signupsignupsignup")
	f("$.user?.name?.first", "Ann")
	f("$.nobody?.name.first", "no text")
	f("'user' in $ && !('nobody' in $) && 'toString' in $", "true")
	f("Object.keys($).slice(0, 3).join()", "event_type,n,price")
	f("Object.entries($.user).length + Object.values($.user).length", "6")
	f("JSON.stringify($.user)", `{"id":"u1","email":"a@b.co","name":{"first":"Ann"}}`)
	f("JSON.stringify({...$.user, id: 2})", `{"id":2,"email":"a@b.co","name":{"first":"Ann"}}`)
	f("const {event_type, ...rest} = $; return event_type + Object.keys(rest).length", "signup10")
	f("const {user: {name: {first = 'x'}}, missing = 'y'} = $; return first + missing", "Anny")
	f("let r = ''; for (const k in $.user) r += k; return r", "idemailname")
	f("Array.isArray($.tags) && $.tags.length + ' ' + $.tags.includes('a') + ' ' + $.tags.map(t => typeof t)", "3 true string,object,object")
	f("[...$.tags].length + $.tags[1].b + $.tags.at(-1)[0]", "4c")
	f("$.hasOwnProperty('user') + ' ' + Object.hasOwn($, 'x') + ' ' + $.propertyIsEnumerable('user')", "true false true")
	f("$ === _ && $.user === event.user && $.user !== {...$.user}", "true")
	f("typeof $ + typeof $.n + typeof $.none + typeof $.off + typeof $.tags + typeof $.missing", "objectnumberobjectbooleanobjectundefined")
	f("$ instanceof Object && $.tags instanceof Array", "true")
	f("String($)", "[object Object]")
	f("$.n + 1 + $.price", "20.5")
	f("$.big", "12345678901234567000")
	f("$['with space']", "x")
	f("Object.assign({}, $.user).email", "a@b.co")
	f("({}).x", "no text")
	f("Object.getPrototypeOf($) === Object.prototype", "true")

	// What the script writes it can read, and the event stays as it is (see TestScriptsDoNotShare).
	f("$.event_type = 'x'; return _.event_type", "x")
	f("delete $.user; return 'user' in $", "false")
	f("$.user.name.first = 'Bob'; $.tags.push('z'); return $.user.name.first + $.tags.length", "Bob4")
	f("$.added = 1; return Object.keys($).at(-1)", "added")
	f("$.count ??= 5; $.n ||= 6; return $.count + $.n", "12")
	f("Object.defineProperty($, 'y', {value: 1, enumerable: true, writable: true, configurable: true}); return $.y", "1")

	// _timestamp is a string with Go's Format.
	f("`${_.event_type}_${_._timestamp.Format(\"2006_01\")}`", "signup_2020_08")
	f("typeof $._timestamp + ($._timestamp === '2020-08-02T18:23:58.057807Z') + $._timestamp.slice(0, 4)", "stringtrue2020")
	f("`${$._timestamp}`", "2020-08-02T18:23:58.057807Z")
	f("$.event_type.Format('2006')", `error: line 1, column 20: TypeError: Format: "signup" is not a time`)
	f("new Date($._timestamp).getUTCFullYear()", "2020")

	// Expressions, bodies, and what they return.
	f("return $.n", "7")
	f("$.event_type;", "signup")
	f("$.event_type; $.n", "signup")
	f("$.event_type // the type", "signup")
	f("// the type\n$.event_type", "signup")
	f("\n  $.event_type == 'x'\n  ? 'a'\n  : 'b'\n", "b")
	f("if ($.n > 5) { return 'big' }", "big")
	f("if ($.n > 50) { return 'big' }", "no text")
	f("switch ($.n) { case 7: return 'seven'; default: return '' }", "seven")
	f("let event = 1, $ = 2; var _ = 3; return event + $ + _", "6")
	f("function f() { return arguments.length } return f(1, 2)", "2")
	f("const f = function g(n) { return n ? g(n - 1) + 1 : 0 }; return f(5)", "5")
	f("class A { #x = 1; static y = 2; get x() { return this.#x } } return new A().x + A.y", "3")
	f("try { null.x } catch { return 'caught' }", "caught")
	f("try { null.x } catch (e) { return e.message.length > 0 } finally { }", "true")
	f("outer: for (const a of [1, 2]) { for (;;) { continue outer } } return 'done'", "done")
	f("['a', 'b'].includes($.event_type) && 'x'", "false")
	f("['a', 'signup'].some(function (t) { return t == $.event_type }) && 'x'", "x")
	f("[1, 2, 3].filter(n => n > 1).reduce((a, b) => a + b)", "5")
	f("(() => $.n)()", "7")
	f("true", "true") // a constant
	f("!0", "true")
	f("1/3", "0.3333333333333333")
	f("1e21 + 1", "1e+21")
	f("2 ** 10 + (1 << 4) + Number(2n ** 3n) + Number(1n << 2n)", "1052")
	f("let x = 3; x **= 2; x <<= 1; return x", "18")
	f("0/0", "no text")
	f("1/0", "no text")
	f("new Date(0)", "1970-01-01T00:00:00.000Z")
	f("new Date(NaN)", "no text")
	f("new String('s')", "s")
	f("new Number(5)", "5")
	f("Symbol('s')", "no text")
	f("() => 1", "no text")
	f("/x/", "no text")
	f("return;", "no text")
	f("void 0", "no text")
	f("new Map()", "no text")
	f("1n", "error: the script returns a BigInt, which is no table name; return a string")

	// Promises.
	f("await Promise.resolve('a')", "a")
	f("await Promise.resolve(1); return 'awaited'", "awaited")
	f("(async () => 'b')()", "b")
	f("Promise.all([1, $.n]).then(([a, b]) => a + b)", "8")
	f("const wait = async n => { for (let i = 0; i < n; i++) await null; return n }; return await wait(10)", "10")
	f("await new Promise(() => {})", "error: the script awaits something that never happens")
	f("let a = await null;\nthrow new Error('late')", "error: line 2, column 7: Error: late")
	f("let a = await null; throw 5", "error: 5")
	f("await null; return $.a.b", "no text")

	// What is there besides the language.
	f("destinationId + destinationType + TABLE_NAME", "crmhubspotJITSU_TABLE_NAME")
	f("$context.header('user-agent')", "no text")
	f("console.log($, 'x'); console.warn('y'); return 'quiet'", "quiet")
	f("get($, '/user/mail||user/email', 'none') + get($, 'x/y', 'none') + get($, 'x')", "a@b.cononeundefined")
	f("json($.user.name)", `{"first":"Ann"}`)
	f("json_indent($.user.name)", "{\n  \"first\": \"Ann\"\n}")
	f("json_indent_quote($.user.name)", `{\n  \"first\": \"Ann\"\n}`)
	f("typeof require + typeof fetch + typeof process + typeof eval + typeof Function", strings.Repeat("undefined", 5))

	// Errors of a run.
	f("$.a.b", "no text")
	f("$.none.b", "no text")
	f("$.a.b.c()", "no text")
	f("$.a[$.n]", "no text")
	f("const {b} = $.a; return b", "no text")
	f("$.event_type.missing()", "error: line 1, column 21: TypeError: Object has no member 'missing'")
	f("let x = 1;\n  x()", "error: line 2, column 4: TypeError: Value is not an object: 1")
	f("throw new Error('boom')", "error: line 1, column 7: Error: boom")
	f("if ($.n) {\n  throw new RangeError('r')\n}", "error: line 2, column 9: RangeError: r")
	f("throw {a: 1}", "error: line 1, column 1: [object Object]")
	f("throw new TypeError('mine')", "error: line 1, column 7: TypeError: mine")
	f("throw {toString() { throw 1 }}", "error: line 1, column 1: an object that can not be printed")
	f("throw null", "error: line 1, column 1: null")
	f("JSON.parse('{')", "error: line 1, column 11: SyntaxError: Unexpected end of JSON input (EOF)")
	f("[1].map(v => { throw new Error('in a callback') })", "error: line 1, column 22: Error: in a callback")
	f("'use strict'; undefined.x = 1; return 1", "error: line 1, column 25: TypeError: Cannot convert undefined or null to object")
	f("class E extends Error { constructor(m) { super(m); this.name = 'E' } } throw new E('own')", "error: line 1, column 47: E: own")
}

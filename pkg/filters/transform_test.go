package filters

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dop251/goja"

	"eventrouter/pkg/event"
)

// transformEvent is an event that came through a browser.
func transformEvent(json string) *event.Event {
	return &event.Event{
		ID: "e1", APIKey: "web", Received: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), Source: "jitsu", SourceIP: "10.0.0.1", UserAgent: "UA", AnonymousHash: "hash",
		Added: []byte(`{"location":{"country":"DE"}}`), JSON: []byte(json),
	}
}

const transformJSON = `{"event_type":"signup","user":{"id":9007199254740993,"email":"a@b.co"},"price":12.50,"big":12345678901234567890,"bigger":12345678901234567891,` +
	`"half":"a\ud800b","tags":["a",9007199254740993,1.0,{"b":1}],"none":null,"off":false,"\u0061b":1,"__proto__":{"x":1}}`

// results is what a transform comes to, in one line: the JSON of each output, or why there is none.
func results(t *testing.T, src, json string, w World) string {
	t.Helper()
	transform, err := CompileTransform(src, patient)
	if err != nil {
		return "syntax: " + err.Error()
	}
	ev := transformEvent(json)
	outputs, why, err := transform.Eval(ev, w)
	if string(ev.JSON) != json || ev.ID != "e1" || ev.SourceIP != "10.0.0.1" {
		t.Errorf("%s changed its event: %+v", src, ev)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	if (len(outputs) == 0) != (why != "") {
		t.Errorf("%s: %d outputs, and why is %q", src, len(outputs), why)
	}
	var parts []string
	for _, o := range outputs {
		part := string(o.Event.JSON)
		if o.Event.ID != "e1" {
			part = o.Event.ID + " " + part
		}
		if o.Table != nil {
			part += fmt.Sprintf(" table %q %v", o.Table.Name, o.Table.Keep)
		}
		parts = append(parts, part)
	}
	if why != "" {
		return "none: " + why
	}
	return strings.Join(parts, " | ")
}

func TestTransform(t *testing.T) {
	const json = `{"event_type":"signup","user":{"id":1},"n":5}`
	f := func(src, want string) {
		t.Helper()
		if got := results(t, src, json, World{}); got != want {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
	}
	// Objects.
	f("$", json)
	f("$;", json)
	f("({...$})", json)
	f("return {...$, plan: 'pro'}", `{"event_type":"signup","user":{"id":1},"n":5,"plan":"pro"}`)
	f("return {...$, n: 6}", `{"event_type":"signup","user":{"id":1},"n":6}`)
	f("return {plan: 'pro', ...$}", `{"plan":"pro","event_type":"signup","user":{"id":1},"n":5}`)
	f("return {...$, ...{a: 1}, ...null, ...undefined, ...'x'}", `{"event_type":"signup","user":{"id":1},"n":5,"a":1,"0":"x"}`)
	f("return {...$, user: {...$.user, plan: 'pro'}}", `{"event_type":"signup","user":{"id":1,"plan":"pro"},"n":5}`)
	f("return Object.assign({}, $, {a: 1})", `{"event_type":"signup","user":{"id":1},"n":5,"a":1}`)
	f("return Object.assign($, {a: 1})", `{"event_type":"signup","user":{"id":1},"n":5,"a":1}`)
	f("return Object.fromEntries(Object.entries($).filter(([k]) => k != 'n'))", `{"event_type":"signup","user":{"id":1}}`)
	f("const {n, ...rest} = $; return rest", `{"event_type":"signup","user":{"id":1}}`)
	f("$.a = 1; return $", `{"event_type":"signup","user":{"id":1},"n":5,"a":1}`)
	f("delete $.user.id; $.user.email = 'x@b.co'; return $", `{"event_type":"signup","user":{"email":"x@b.co"},"n":5}`)
	f("return {...$, get x() { return $.n }}", `{"event_type":"signup","user":{"id":1},"n":5,"x":5}`)
	f("const o = {...$, a: ($.n = 7)}; return o", `{"event_type":"signup","user":{"id":1},"n":5,"a":7}`)
	f("const o = {...$}; o.user.id = 2; return {same: o.user === $.user, id: $.user.id}", `{"same":true,"id":2}`)
	f("const o = {...$}; o.n = 6; delete o.user; return {n: $.n, user: $.user}", `{"n":5,"user":{"id":1}}`)
	f("return {}", `{}`)
	f("class A { x = 1; #y = 2; f() {} }; return new A()", `{"x":1}`)
	f("return {t: destinationType, d: destinationId, h: $context.header('a')}", `{"t":"hubspot","d":"crm"}`)
	f("return get($, '/nobody||/user')", `{"id":1,"hashed_anonymous_id":"hash"}`)
	f("throw new Error('boom')", "error: transform line 1, column 7: Error: boom")
	// None.
	f("return null", "none: the transform returned null")
	f("return", "none: the transform returned undefined")
	f("if ($.n > 9) { return $ }", "none: the transform returned undefined")
	f("return []", "none: the transform returned an empty list")
	f("return [null, undefined, false, 0, '', NaN]", "none: the transform returned a list of nothing but null, undefined, false, 0 and empty texts")
	f("await null; return null", "none: the transform returned null")
	// Several.
	f("return [$, {...$, event_type: 'copy'}]", json+` | e1_1 {"event_type":"copy","user":{"id":1},"n":5}`)
	f("return [null, $, $.missing && {a: 1}, {b: 2}]", json+` | e1_1 {"b":2}`)
	f("return [{...$, eventn_ctx_event_id: 'mine'}, {a: 1, eventn_ctx_event_id: 'yours'}]", `mine `+json+` | yours {"a":1}`)
	f("return ['u-1', 'u-2', 'u-3'].map(id => ({eventn_ctx_event_id: id}))", `u-1 {} | u-2 {} | u-3 {}`)
	f("return [1, 2].map(i => ({i}))", `{"i":1} | e1_1 {"i":2}`)
	f("return Array.from({length: 100}, (_, i) => ({i})).slice(98)", `{"i":98} | e1_1 {"i":99}`)
	// Tables.
	f("return {a: 1, JITSU_TABLE_NAME: 't2'}", `{"a":1} table "t2" true`)
	f("return {a: 1, [TABLE_NAME]: 'T 3'}", `{"a":1} table "T 3" true`)
	f("return {...$, [TABLE_NAME]: ''}", json+` table "" false`)
	f("return {...$, [TABLE_NAME]: 'null'}", json+` table "null" false`)
	f("return {...$, [TABLE_NAME]: 'false'}", json+` table "false" false`)
	f("return {...$, [TABLE_NAME]: null}", json)
	f("return {...$, [TABLE_NAME]: 5}", json)
	f("$[TABLE_NAME] = 't'; return [$, {...$, [TABLE_NAME]: false}]", json+` table "t" true | e1_1 `+json)
	// What is no event.
	const returns = "; a transform returns an object, a list of objects, or null to skip the event"
	f("return false", "error: transform: it returned false"+returns)
	f("return true", "error: transform: it returned true"+returns)
	f("return 'str'", `error: transform: it returned the text "str"`+returns)
	f("return ''", `error: transform: it returned the text ""`+returns)
	f("return 5", "error: transform: it returned the number 5"+returns)
	f("return 5n", "error: transform: it returned a BigInt"+returns)
	f("return Symbol('a')", "error: transform: it returned a symbol"+returns)
	f("return () => $", "error: transform: it returned a function"+returns)
	f("return new Date()", "error: transform: it returned a Date"+returns)
	f("return new Map()", "error: transform: it returned a collection"+returns)
	f("return new Error('e')", "error: transform: it returned an Error"+returns)
	f("return [[$]]", "error: transform: element 0 of the list that it returned is a list"+returns)
	f("return [$, true]", "error: transform: element 1 of the list that it returned is true"+returns)
	f("return [$, 'x']", `error: transform: element 1 of the list that it returned is the text "x"`+returns)
	f("return [(async () => $)()]", "error: transform: element 0 of the list that it returned is a Promise"+returns)
	f("\n$.user.name.first.length", "error: transform line 2, column 13: TypeError: Cannot read property 'first' of undefined; write ?. for what may be missing")
}

// TestTransformValues: what is no JSON comes out as JSON.stringify has it.
func TestTransformValues(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		if got := results(t, "return {v: "+value+"}", "{}", World{}); got != want {
			t.Errorf("%s\n got %s\nwant %s", value, got, want)
		}
	}
	f("new Date(0)", `{"v":"1970-01-01T00:00:00.000Z"}`)
	f("new Date(NaN)", `{"v":null}`)
	f("NaN", `{"v":null}`)
	f("1/0", `{"v":null}`)
	f("-0", `{"v":0}`)
	f("undefined", `{}`)
	f("() => 1", `{}`)
	f("Symbol('a')", `{}`)
	f("[undefined, () => 1, Symbol('a'), NaN, new Date(0), , 1]", `{"v":[null,null,null,null,"1970-01-01T00:00:00.000Z",null,1]}`)
	f("{toJSON() { return {a: 1} }}", `{"v":{"a":1}}`)
	f("/x/", `{"v":{}}`)
	f("[[1, [2, [3]]].flat(), [[1], , 2].flat(0), [1, [2, [3]]].flat(Infinity), [].flat.call({length: 1, 0: [5]})]", `{"v":[[1,2,[3]],[[1],2],[1,2,3],[5]]}`)
	f("JSON.stringify({b: [{a: undefined, b: 1}], a: new String('s'), c: 1}, ['a', 'b'])", `{"v":"{\"a\":\"s\",\"b\":[{\"b\":1}]}"}`)
	f("JSON.stringify({a: 1, b: () => 1, c: [undefined]}, (k, v) => k == 'a' ? 2 : v, 1)", `{"v":"{\n \"a\": 2,\n \"c\": [\n  null\n ]\n}"}`)
	f("new Error('e')", `{"v":{}}`)
	f("new String('s')", `{"v":"s"}`)
	f("Object(5n)", "error: transform: the result is or holds a thing of the engine, which is no value")
	f("12345678901234567890n", `{"v":12345678901234567890}`)
	f("'\\ud800'", `{"v":"\ud800"}`)
	f("'<\\u2028é😀'", `{"v":"\u003c\u2028é😀"}`)
	f("1e21", `{"v":1e+21}`)
	f("Promise.resolve(1)", "error: transform: the result is or holds a Promise; write await before it")
	f("new Set([1])", "error: transform: the result is or holds a collection, which is no value; write [...it] for a list")
	f("(() => { const o = {}; o.o = o; return o })()", "error: transform: the result is nested more than 128 deep, or contains itself")
	f("{get x() { throw new Error('late') }}", "error: transform line 1, column 29: Error: late")
}

// TestTransformIsExact: what a script only passes on comes out as the client wrote it.
func TestTransformIsExact(t *testing.T) {
	f := func(src string) {
		t.Helper()
		if got := results(t, src, transformJSON, World{}); got != transformJSON {
			t.Errorf("%s\n got %s\nwant %s", src, got, transformJSON)
		}
	}
	f("$")
	f("$.x = 1; delete $.x; return $")
	f("({...$})")
	f("({...$, ...$})")
	f("Object.assign({}, $)")
	f("Object.assign({}, {}, $)")
	f("({...$, user: {...$.user}})")
	f("({...$, user: $.user, tags: $.tags})")
	f("({...$, tags: [...$.tags]})")
	f("({...$, half: $.half, price: $.price})")
	f("$.user.id; $.tags[1]; $.half.length; return $")
	f("const c = {...$}; c.tags[0]; c.user.email; return {...c}")
	f("const view = {...$}; for (const k of Object.keys(view)) view[k] = view[k]; return view")
	// With these the engine makes objects of its own.
	g := func(src, want string) {
		t.Helper()
		if got := results(t, src, transformJSON, World{}); got != want {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
	}
	g("const {event_type, ...rest} = $; return {event_type, ...rest}", transformJSON)
	g("Object.fromEntries(Object.entries($))", transformJSON)
	g("[$].map(e => Object.assign(e, {}))", transformJSON)
	g("JSON.parse(JSON.stringify($))", strings.NewReplacer(`\ud800`, "\uFFFD").Replace(transformJSON))
}

func TestTransformRunsAway(t *testing.T) {
	run := func(limit time.Duration, body, want string) {
		t.Helper()
		transform, err := CompileTransform("if ($.event_type != 'run') return $;\n"+body, Options{File: "crm.js", Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		outputs, _, err := transform.Eval(transformEvent(`{"event_type":"run"}`), World{})
		if !errors.Is(err, ErrLimit) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s\n got %d outputs, %v\nwant %s", body, len(outputs), err, want)
		}
		if _, _, err := transform.Eval(transformEvent(`{}`), World{}); err != nil {
			t.Errorf("%s\nnext event: %v", body, err)
		}
	}
	const late = ": over the limit: still running when its time was up"
	for _, endless := range []string{"for (;;) {}", "while (true);", "do {} while (true)", "let i = 0; for (;;) i++", "for (;;) await null", "for (;;) $.a = 1"} {
		run(50*time.Millisecond, "\n"+endless, "transform crm.js line 3, column ")
	}
	run(50*time.Millisecond, "for (;;) {}", "transform crm.js line 2, column 1"+late)
	for _, shared := range []string{"JSON.stringify(o)", "JSON.stringify(o, ['a', 'b'])", "json(o)"} {
		run(50*time.Millisecond, "let o = {}; for (let i = 0; i < 40; i++) o = {a: o, b: o}; "+shared, "transform crm.js line 2, column ")
	}
	run(50*time.Millisecond, "let o = []; for (let i = 0; i < 40; i++) o = [o, o]; o.flat(Infinity)", "transform crm.js line 2, column ")
	run(50*time.Millisecond, "return {get x() { for (;;) {} }}", "transform crm.js line 2, column ")
	run(50*time.Millisecond, "return [{a: {toJSON() { for (;;) {} }}}]", "transform crm.js line 2, column ")
	f := func(body, want string) {
		t.Helper()
		run(patient.Limit, body, want)
	}
	f("(function f() { f() })()", "transform crm.js line 2, column ")
	f("let s = 'x';\nfor (;;)\n  s += s", "transform crm.js line 4, column ")
	f("return {s: 'x'.repeat(1e9)}", "transform crm.js line 2, column ")
	f("return {s: Array(60).fill('x'.repeat(1e6))}", "transform crm.js: over the limit: a text of more than 1048576 bytes")
	f("return Array.from({length: 101}, () => $)", "over the limit: transform crm.js: it returned more than 100 events")
	f("const a = []; a.length = 1e9; return a", "over the limit: transform crm.js: it returned a list of 1000000000 elements")
	f("for (let i = 0; i < 101; i++) await $kv.get('a')", "transform crm.js line 2, column ")
}

// TestTransformLimitAtStart: a script whose time is up before it has begun is told to be at its beginning.
func TestTransformLimitAtStart(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		transform, err := CompileTransform(src, Options{Limit: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		s := transform.script
		if s.runtime == nil {
			if err := s.start(); err != nil {
				t.Fatal(err)
			}
		}
		s.runtime.Interrupt(errTime)
		ev := s.runtime.NewObject()
		_, err = s.main(goja.Undefined(), ev, ev, ev, s.grown, s.copied, s.merged, s.kvs)
		if got := s.runError(err); !errors.Is(got, ErrLimit) || !strings.HasPrefix(got.Error(), want) {
			t.Errorf("%s: got %v, want %s", src, got, want)
		}
	}
	f("for (;;) {}", "transform line 1, column 1: over the limit")
	f("\n\nfor (;;) {}", "transform line 1, column 1: over the limit")
	f("return {...$}", "transform line 1, column 1: over the limit")
	f("await $kv.get('a')", "transform line 1, column 1: over the limit")
}

func TestCompileTransform(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		transform, err := CompileTransform(src, patient)
		got := "nothing to do"
		switch {
		case err != nil:
			got = err.Error()
		case transform != nil:
			got = strings.Join(transform.Warnings(), ", ")
		}
		if got != want {
			t.Errorf("%.80q\n got %s\nwant %s", src, got, want)
		}
	}
	f("return $", "nothing to do")
	f(" return $;\n", "nothing to do")
	f("$", "")
	f("({...$, plan: 'pro'})", "")
	f("return {...$}", "")
	f("toSegment($)", "")
	f("throw new Error('x')", "")
	f("import a from 'b'; return $", "line 1, column 1: unexpected reserved word; scripts have no modules")
	f("return await import('b')", "line 1, column 14: unexpected reserved word; scripts have no modules")
	f("export default ($) => $", "line 1, column 1: unexpected reserved word; scripts have no modules")
	f("module.exports = $ => $", "line 1, column 1: module is not defined; scripts have no modules")
	f("const r = await fetch('https://a')\nreturn $", "line 1, column 17: fetch is not defined; scripts have no network")
	f("const _l = require('lodash'); return $", "line 1, column 12: require is not defined; scripts have no modules")
	f("return {...$, a: process.env.A}", "line 1, column 18: process is not defined; scripts do not see the environment")
	f("setTimeout(() => {}, 1); return $", "line 1, column 1: setTimeout is not defined; scripts have no timers")
	f("new XMLHttpRequest(); return $", "line 1, column 5: XMLHttpRequest is not defined; scripts have no network")
	f("return $__copied($)", "line 1, column 8: $__copied is not defined; write $.$__copied for the event's field, or declare the name with let")
	f("$ => ({...$})", "line 1, column 1: the script is a function, which nobody calls; write only what stands inside it; the event is $")
	f("async function f($) { return $ }", "line 1, column 1: the script is a function, which nobody calls; write only what stands inside it; the event is $")
	f("sign ups", "line 1, column 6: unexpected identifier")
	f("return {...$", "line 1, column 13: unexpected end of the script")
	f(strings.Repeat("x", maxSourceBytes+1), "line 1, column 1: the script is 65537 bytes long; a transform has at most 65536 bytes")
	const changes = "the script has no return: its result is what it assigns or deletes, not the event; write return $ behind it"
	f("$.plan = 'pro'", changes)
	f("delete $.user", changes)
	f("$.n++", changes)
	f("$.a = 1; $.b = 2", "the script has no return: its first expression is the result, and what follows never runs")
	f("if ($.a) { $.b = 1 }", "the script has no return: every event is skipped")
}

// TestTransformNames: what only transforms have, filters and properties do not, and say where it is.
func TestTransformNames(t *testing.T) {
	for _, name := range []string{"$kv", "toSegment"} {
		src := "return " + name + " && $"
		if _, err := CompileTransform(src, patient); err != nil {
			t.Errorf("transform: %v", err)
		}
		_, err := Compile(src, patient)
		_, valueErr := CompileValue(src, patient)
		for _, err := range []error{err, valueErr} {
			if err == nil || !strings.Contains(err.Error(), "data_layout.transform") {
				t.Errorf("%s: %v", src, err)
			}
		}
	}
}

// TestTransformEnvelope: what a transform sees of the envelope, and what becomes of it.
func TestTransformEnvelope(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		transform, err := CompileTransform(src, patient)
		if err != nil {
			t.Fatal(err)
		}
		ev := transformEvent(`{"event_id":"e1","user":{"id":1}}`)
		ev.Email = "remembered@b.co"
		outputs, _, err := transform.Eval(ev, World{})
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		for _, o := range outputs {
			e := o.Event
			if got := fmt.Sprintf("%s %s|%s|%s|%s|%s|%s", e.ID, e.JSON, e.SourceIP, e.UserAgent, e.Email, e.AnonymousHash, e.Added); got != want {
				t.Errorf("%s\n got %s\nwant %s", src, got, want)
			}
			if e.APIKey != "web" || e.Source != "jitsu" || !e.Received.Equal(ev.Received) {
				t.Errorf("%s: %+v", src, e)
			}
		}
	}
	const user, rest = `"user":{"id":1}`, `|10.0.0.1|UA|remembered@b.co|hash|{"location":{"country":"DE"}}`
	f("$", `e1 {"event_id":"e1",`+user+`}`+rest)
	f("return {...$, plan: 1}", `e1 {"event_id":"e1",`+user+`,"plan":1}`+rest)
	f("delete $.source_ip; return $", `e1 {`+user+`,"event_id":"e1"}||UA|remembered@b.co|hash|{"location":{"country":"DE"}}`)
	f("delete $.user.email; return $", `e1 {`+user+`,"event_id":"e1"}|10.0.0.1|UA||hash|{"location":{"country":"DE"}}`)
	f("$.api_key = 'other'; return $", `e1 {`+user+`,"event_id":"e1"}`+rest)
	f("$.eventn_ctx_event_id = 'mine'; return $", `mine {`+user+`}`+rest)
	f("$.location.country = 'AT'; return $", `e1 {`+user+`,"location":{"country":"AT"},"event_id":"e1"}|10.0.0.1|UA|remembered@b.co|hash|`)
	f("return {user: {email: $.user.email}}", `e1 {"user":{}}|||remembered@b.co||`)
	f("return {event_type: 'x', email: $.user.email}", `e1 {"event_type":"x","email":"remembered@b.co"}|||||`)
}

// TestTableOfClient: a client cannot name the table, wherever in the event it says so and whatever a script copies.
func TestTableOfClient(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		json := `{"a":1,"JITSU_TABLE_NAME":"","user":{"JITSU_TABLE_NAME":"x","id":1},"items":[{"JITSU\u005fTABLE_NAME":""}]}`
		if got := results(t, src, json, World{}); !strings.HasPrefix(got, want) || strings.Contains(strings.TrimPrefix(got, want), "table") {
			t.Errorf("%s\n got %s\nwant %s", src, got, want)
		}
	}
	const event = `{"a":1,"user":{`
	f("$", event)
	f("return {...$, b: 2}", event)
	f("return {...$, [TABLE_NAME]: $.JITSU_TABLE_NAME}", event)
	f("return {...$, [TABLE_NAME]: 't'}", `{"a":1,"user":{"JITSU_TABLE_NAME":"x","id":1},"items":[{"JITSU\u005fTABLE_NAME":""}]} table "t" true`)
	f("$[TABLE_NAME] = ''; return $", `{"a":1,"user":{"JITSU_TABLE_NAME":"x","id":1},"items":[{"JITSU\u005fTABLE_NAME":""}]} table "" false`)
	f("const {b, ...rest} = $; return rest", event)
	f("return JSON.parse(JSON.stringify($))", event)
	f("return Object.fromEntries(Object.entries($))", event)
	f("for (const [k, v] of Object.entries($)) if (k != 'eventn_ctx_event_id' && typeof v == 'string') $[k] = v + 'y'; return $", event)
	f("const o = {}; for (const k in $) o[k] = $[k]; return o", event)
	f("const {b, ...rest} = $.user; return rest", `{"id":1,"hashed_anonymous_id":"hash"}`)
	f("return $.user", `{"id":1,"hashed_anonymous_id":"hash"}`)
	f("return $.items", `{}`)
	f("return $.items.map(i => ({a: 1, ...i}))", `{"a":1}`)
}

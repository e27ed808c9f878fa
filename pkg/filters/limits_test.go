package filters

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/event"
)

// TestRunaway checks that what never ends, or grows without end, is stopped, and that the next event is evaluated as if nothing had been.
func TestRunaway(t *testing.T) {
	f := func(body string) {
		t.Helper()
		filter := mustCompile(t, body)
		began := time.Now()
		r, err := filter.Eval(eventOf(`{"event_type":"run","text":"` + strings.Repeat("a", 60) + `!"}`))
		if !errors.Is(err, ErrLimit) {
			t.Errorf("%s\n got %v, %v, want ErrLimit", body, r, err)
		}
		// The limit is 20 ms, twice; the rest is for a machine that is busy with other tests.
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s\ntook %v", body, took)
		}
		if r, err := filter.Eval(eventOf(`{"event_type":"stop"}`)); err != nil || r.Name != "fine" {
			t.Errorf("%s\nnext event: %v, %v", body, r, err)
		}
	}
	script := func(body string) {
		t.Helper()
		f("if ($.event_type != 'run') return 'fine';\n" + body)
	}
	script("for (;;) {}")
	script("while (true) { try { for (;;) {} } catch {} finally { continue } }")
	script("(function f() { f() })()")
	script("const f = () => f(); return f()")
	script("(function f() { Promise.resolve().then(f) })(); return 'x'")
	script("return (async () => { for (;;) await null })()")
	script("for (;;) await null")
	script("throw { toString() { for (;;) {} } }")
	script("throw class extends Error { get message() { for (;;) {} } }, new (class extends Error { get name() { for (;;) {} } })()")
	script("return Object.assign(new String('x'), { toString() { for (;;) {} } })")
	script("let s = 'x'; for (;;) s += s")
	script("let s = 'x'; for (;;) s = `${s}${s}`")
	script("let s = 'x'; const f = () => { s = s + s }; for (;;) f()")
	script("return 'x'.repeat(1e9)")
	script("return 'x'.padStart(1e9) + 'x'.padEnd(1e9)")
	script("let s = 'x'.repeat(1e6); return s.concat(s)")
	script("let s = 'x'.repeat(1e6); return s.replace(/x/g, s)")
	script("let s = 'x'.repeat(1e6); return s.replaceAll('x', '$`')")
	script("return Array(1e9).join('x')")
	script("return new Array(1e9).fill(0)")
	script("const a = []; a.length = 4e9; return a.indexOf(1)")
	script("return Array.from({length: 1e9})")
	script("return Array(1e5).fill('x'.repeat(1e6)).join('')")
	script("return Math.max.apply(null, {length: 1e9})")
	script("return '' + 2n ** 10000000000n")
	script("let x = 1n; x <<= 100000000000n; return String(x)")
	script("return JSON.parse('['.repeat(1e6))")
	script("return /^(a|aa)+(?<!b)$/.test($.text)")
	script("const re = /(a|aa)+$/g; re.lastIndex = 1; return re.test($.text)")
	script("return ('é' + $.text).replace(/(a|aa)+$/g, '')")

	f("{{if ne .event_type `run`}}fine{{else}}{{range 1000000000}}{{end}}{{end}}")
	f("{{if ne .event_type `run`}}fine{{else}}{{range 1000000}}x{{range 1000000}}y{{end}}{{end}}{{end}}")
	f("{{define `t`}}{{template `t`}}{{end}}{{if ne .event_type `run`}}fine{{else}}{{template `t`}}{{end}}")
	f("{{if ne .event_type `run`}}fine{{else}}{{$s := `x`}}{{range 100}}{{$s = print $s $s}}{{end}}{{$s}}{{end}}")
	f("{{if ne .event_type `run`}}fine{{else}}{{$s := `x`}}{{range 100}}{{$s = printf `%s%s` $s $s}}{{end}}{{$s}}{{end}}")
	f("{{if ne .event_type `run`}}fine{{else}}{{range 100000}}{{$.text}}{{end}}{{end}}")
}

// TestStall checks that one stall, as a busy machine has them, costs no event.
func TestStall(t *testing.T) {
	stalls := 1
	f := &Filter{engine: engineFunc(func() (string, bool, error) {
		stalls--
		if stalls >= 0 {
			return "", false, fmt.Errorf("wrapped: %w", errTime)
		}
		return "kept", true, nil
	})}
	if r, err := f.Eval(eventOf("{}")); err != nil || r.Name != "kept" {
		t.Errorf("after one stall: %v, %v", r, err)
	}
	stalls = 2
	if _, err := f.Eval(eventOf("{}")); !errors.Is(err, ErrLimit) {
		t.Errorf("after two stalls: %v, want ErrLimit", err)
	}
}

func eventOf(json string) *event.Event { return &event.Event{JSON: []byte(json)} }

type engineFunc func() (string, bool, error)

func (f engineFunc) evalEvent(*event.Event) (string, bool, error) { return f() }

// TestScriptsDoNotShare checks that a script finds nothing of what it did for an earlier event, and that built-ins stay what they are.
func TestScriptsDoNotShare(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		filter, err := Compile(src, patient)
		if err != nil {
			t.Errorf("Compile(%q): %v", src, err)
			return
		}
		for i := range 2 {
			ev := &event.Event{ID: "e", APIKey: "k", JSON: []byte(`{"event_type":"signup","user":{"name":"Ann"}}`)}
			before := string(ev.JSON)
			r, err := filter.Eval(ev)
			if err != nil || r.Name != want {
				t.Errorf("%s\nevent %d: got %v, %v, want %q", src, i+1, r, err, want)
			}
			if string(ev.JSON) != before {
				t.Errorf("%s\nchanged the event to %s", src, ev.JSON)
			}
		}
	}
	f("globalThis.count = (globalThis.count || 0) + 1; return '' + globalThis.count", "undefined")
	f("this.x = 1; return typeof this.x", "undefined")
	f("(function () { this.x = 1 })(); return typeof globalThis.x", "undefined")
	f("Array.prototype.x = 1; return typeof [].x", "undefined")
	f("Object.prototype.x = 1; return typeof $.x", "undefined")
	f("({}).__proto__.x = 1; return typeof ({}).x", "undefined")
	f("[].values().__proto__.__proto__.x = 1; return typeof [].values().x", "undefined")
	f("(function* () {}).__proto__.x = 1; return typeof (function* () {}).x", "undefined")
	f("(async () => {}).__proto__.x = 1; return typeof (async () => {}).x", "undefined")
	f("JSON.parse = 1; return typeof JSON.parse", "function")
	f("String.prototype.trim = () => 'x'; return ' y '.trim()", "y")
	f("String.prototype.Format = () => 'x'; return typeof ''.Format", "function")
	f("console.log.x = 1; $context.x = 1; return typeof console.log.x + typeof $context.x", "undefinedundefined")
	f("get.x = 1; return typeof get.x", "undefined")
	f("Map.prototype.set = null; return new Map().set(1, 2).size", "1")
	f("const r = $.event_type; $.event_type = 'other'; delete $.user; return r", "signup")
	f("const r = $.user.name; $.user.name = 'Bob'; return r", "ann")
	f("'use strict'; try { globalThis.x = 1 } catch (e) { return e.name }", "typeerror")
	f("function f() {} f.count = (f.count || 0) + 1; return f.count", "1")
	// Frozen prototypes do not keep objects from having members of the same names.
	f("const o = {}; o.toString = () => 'mine'; o.constructor = 1; return `${o}` + o.constructor", "mine1")
	f("const e = new Error('a'); e.message = 'b'; e.name = 'c'; return String(e)", "c__b")
	f("$.toString = () => 'mine'; return String($)", "mine")
	f("Object.prototype.toString = () => 'x'; return String({})", "_object_object_")
	f("[].constructor.constructor", "null")
	f("typeof (() => {}).constructor('return 1')", "object")
}

// TestMany checks that thousands of members or elements, as a client may send them, are no reason to run out of time.
func TestMany(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"list":[0`)
	for i := range 5000 {
		fmt.Fprintf(&b, ",%d", i)
	}
	b.WriteString("]")
	for i := range 5000 {
		fmt.Fprintf(&b, `,"k%d":%d`, i, i)
	}
	b.WriteString("}")
	f := func(src, want string) {
		t.Helper()
		filter, err := Compile(src, patient)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := filter.evalView(b.String()); err != nil || r.Name != want {
			t.Errorf("%s: got %v, %v, want %q", src, r, err, want)
		}
	}
	f("Object.keys({...$}).length", "5001")
	f("$.k4999 + $.list.at(-1)", "9998")
	f("delete $.k0; $.k5000 = 1; return $.k4999 + $.k5000 + Object.keys($).length", "10001")
	f("$.list.filter(n => n % 2).length", "2500")
}

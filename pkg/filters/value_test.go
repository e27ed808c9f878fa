package filters

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/trial"
)

const valueEvent = `{"event_type":"signup","n":7,"price":12.50,"big":12345678901234567890,"bigger":12345678901234567891,"off":false,"none":null,"blank":"",
 "user":{"id":9007199254740993,"email":"a@b.co","first":"Ann","last":null,"pi":3.14159265358979323846},"tags":["a",{"b":1},["c"]],"ids":[9007199254740993,1],
 "subscriptions":[{"title":"Pro","active":true,"id":9007199254740993},{"title":"Basic","active":false}],"with space":"x","at":"2020-08-02T18:23:58Z"}`

// TestValueOfAdded: what the router found out is seen by paths, by scripts and by templates, in either order.
func TestValueOfAdded(t *testing.T) {
	ev := &event.Event{
		JSON: []byte(`{"location":"own","user":{"id":"u1"}}`), AnonymousHash: "h1", Email: "ada@example.com", Added: []byte(`{"location":{"country":"DE"},"parsed_ua":{"bot":true}}`),
	}
	f := func(src, want string) {
		t.Helper()
		v, err := CompileValue(src, patient)
		if err != nil {
			t.Fatal(err)
		}
		r, err := v.Eval(NewView(ev))
		if err != nil || r.Raw != want {
			t.Errorf("%s: %s, %v, want %s", src, r.Raw, err, want)
		}
	}
	f("$.parsed_ua?.bot", "true")
	f("$.parsed_ua.bot && 5", "5")
	f("{{.parsed_ua.bot}}", `"true"`)
	f("$.location", `"own"`)
	f("$.user.hashed_anonymous_id", `"h1"`)
	f("$.user.id", `"u1"`)
	f("$.user.email", `"ada@example.com"`) // remembered
	f("{{.user.email}}", `"ada@example.com"`)
	f("$.user.email.toUpperCase()", `"ADA@EXAMPLE.COM"`)
	f("[$.user.email][0]", `"ada@example.com"`)
}

func TestValue(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		v, err := CompileValue(src, patient)
		if err != nil {
			t.Errorf("CompileValue(%q): %v", src, err)
			return
		}
		view := NewView(&event.Event{ID: "e1", APIKey: "k1", Received: time.Unix(1600000000, 0), JSON: []byte(valueEvent)})
		for range 2 { // the second time finds what the first left behind
			r, err := v.Eval(view)
			got := r.Raw
			switch {
			case err != nil:
				got = "error: " + err.Error()
			case !r.Exists():
				got = "absent"
			}
			if got != want {
				t.Errorf("%s\n got %s\nwant %s", src, got, want)
			}
		}
	}
	// Constants keep the type that they look like.
	f("customer", `"customer"`)
	f("pro_2024", `"pro_2024"`)
	f("5", `5`)
	f("-1.50", `-1.50`)
	f("1e3", `1e3`)
	f("true", `true`)
	f("false", `false`)
	f("0123", `"0123"`)
	f("2026-11-21", `"2026-11-21"`)
	f("2026-11-21T10:00:00Z", `"2026-11-21T10:00:00Z"`)
	f("0x10", `"0x10"`)
	f("1.2.3", `"1.2.3"`)
	f("https://example.com/a?b=c", `"https://example.com/a?b=c"`)
	f(`"Gold plan"`, `"Gold plan"`)
	f(`'it is "so"'`, `"it is \"so\""`)
	f(`""`, `""`)
	f("null", "null")
	f("undefined", "absent")

	// Paths, and scripts that are more than one, see the same.
	for _, wrap := range []string{"%", "(% )", "(x => x)(%)"} {
		f(strings.ReplaceAll(wrap, "%", "$.n"), `7`)
		f(strings.ReplaceAll(wrap, "%", "$.price"), `12.50`)
		f(strings.ReplaceAll(wrap, "%", "$.big"), `12345678901234567890`)
		f(strings.ReplaceAll(wrap, "%", "$.user.id"), `9007199254740993`)
		f(strings.ReplaceAll(wrap, "%", "_.user.pi"), `3.14159265358979323846`)
		f(strings.ReplaceAll(wrap, "%", "$.user"), `{"id":9007199254740993,"email":"a@b.co","first":"Ann","last":null,"pi":3.14159265358979323846}`)
		f(strings.ReplaceAll(wrap, "%", "$.off"), `false`)
		f(strings.ReplaceAll(wrap, "%", "$.none"), `null`)
		f(strings.ReplaceAll(wrap, "%", "$.none.x"), `absent`)
		f(strings.ReplaceAll(wrap, "%", "$.nobody"), `absent`)
		f(strings.ReplaceAll(wrap, "%", "$.nobody.x.y"), `absent`)
		f(strings.ReplaceAll(wrap, "%", "$.nobody?.x.y"), `absent`)
		f(strings.ReplaceAll(wrap, "%", "$.user?.['first']"), `"Ann"`)
		f(strings.ReplaceAll(wrap, "%", "$['with space']"), `"x"`)
		f(strings.ReplaceAll(wrap, "%", "$.tags[1].b"), `1`)
		f(strings.ReplaceAll(wrap, "%", "$.tags[9]"), `absent`)
		f(strings.ReplaceAll(wrap, "%", "$.tags"), `["a",{"b":1},["c"]]`)
		f(strings.ReplaceAll(wrap, "%", "$.ids"), `[9007199254740993,1]`)
		f(strings.ReplaceAll(wrap, "%", "$.tags.length"), `3`)
		f(strings.ReplaceAll(wrap, "%", "$.user.first.length"), `3`)
		f(strings.ReplaceAll(wrap, "%", "$.user.first[0]"), `"A"`)
		f(strings.ReplaceAll(wrap, "%", "$.user.toString"), `error: the result is or holds a Function, which is no value`)
		f(strings.ReplaceAll(wrap, "%", "$.api_key"), `"k1"`)
	}

	// What scripts make keeps its JSON type.
	f("$.n + 1", `8`)
	f("$.n / 2", `3.5`)
	f("$.big + 1e6", `12345678901235567000`) // the engine has 53 bits
	f("1e21 + $.n", `1e+21`)
	f("-0 * $.n", `0`)
	f("$.n > 5", `true`)
	f("`${$.n}`", `"7"`)
	f("String($.user.first)", `"Ann"`)
	f("new String('x')", `"x"`)
	f("new Number($.n)", `7`)
	f("new Boolean(false)", `false`)
	f("new Date(0)", `"1970-01-01T00:00:00.000Z"`)
	f("10n ** 20n", `100000000000000000000`)
	f("$.subscriptions.filter(s => s.active).length", `1`)
	f("$.subscriptions.map(s => s.title)", `["Pro","Basic"]`)
	f("$.subscriptions.map(s => s.id)", `[9007199254740993,null]`)
	f("$.subscriptions.filter(s => s.active)", `[{"title":"Pro","active":true,"id":9007199254740993}]`)
	f("$.nobody.filter(s => s.active).length", `absent`)
	f("$.big === $.bigger ? [$.big, $.bigger] : 0", `[12345678901234567000,12345678901234567000]`) // it cannot be known which is which
	f("({a: $.n, b: undefined, c: [undefined, null], d: $.user.first})", `{"a":7,"c":[null,null],"d":"Ann"}`)
	f("({...$.user, id: 1}).id", `1`)
	f("$.user.extra = {x: 1}, delete $.user.pi, $.user", `{"id":9007199254740993,"email":"a@b.co","first":"Ann","last":null,"extra":{"x":1}}`)
	f("if ($.n > 5) { return 'big' } return null", `"big"`)
	f("await Promise.resolve([1, 2])", `[1,2]`)
	f("$.n ? undefined : 1", `absent`)
	f("'\\ud800'", `"�"`)
	f("'a\\n\"<\\u2028'", `"a\n\"\u003c\u2028"`)
	f("get($, '/nobody||/n')", `7`)

	f("NaN", "error: the result is or holds NaN, which is no number")
	f("[1/0]", "error: the result is or holds Infinity, which is no number")
	f("Symbol()", "error: the result is or holds a symbol, which is no value")
	f("() => 1", "error: the result is or holds a Function, which is no value")
	f("new Set([1])", "error: the result is or holds a collection, which is no value; write [...it] for a list")
	f("new Map([[1, 2]])", "error: the result is or holds a collection, which is no value; write [...it] for a list")
	f("[...new Set($.subscriptions.map(s => s.active))]", "[true,false]")
	f("new Proxy({}, {})", "error: the result is or holds a Proxy, which is no value")
	f("class A { x = 1 } return new A()", `{"x":1}`)
	f("new Error('x')", "error: the result is or holds an Error, which is no value")
	f("/x/", "error: the result is or holds a RegExp, which is no value")
	f("new Date('x')", "error: the result is or holds an invalid date")
	f("const a = []; a.push(a); return a", "error: the result is nested more than 100 deep, or contains itself")
	f("throw new Error('no')", "error: line 1, column 7: Error: no")
	f("$.n.x.y()", "absent")
	f("$.n()", "error: line 1, column 4: TypeError: Value is not an object: 7")

	// Go templates print text.
	f("{{.user.first}} {{.user.last}}", `"Ann"`)
	f("{{.user.last}} {{.nobody.at.all}}", `absent`)
	f(" {{.n}} ", `"7"`)
	f("{{.big}}", `"12345678901234567890"`)
	f("{{if .off}}x{{end}}", `absent`)
	f("{{json .user.first}}", `"\"Ann\""`)
	f("{{index .tags 9}}", `error: line 1, column 3: <index .tags 9>: error calling index: index out of range: 9`)
}

func TestValueProblems(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		_, err := CompileValue(src, patient)
		var e *SyntaxError
		if !errors.As(err, &e) || err.Error() != want {
			t.Errorf("%s\n got %v\nwant %s", src, err, want)
		}
	}
	f("", `line 1, column 1: the expression is empty; write '""' for the empty text`)
	f(" \n", `line 1, column 1: the expression is empty; write '""' for the empty text`)
	f("Gold plan", `line 1, column 6: unexpected identifier; a constant text of several words stands in double quotes inside single ones: '"Gold plan"'`)
	f("user.email", `line 1, column 1: "user.email" would be a constant text, not a field; write $.user.email for the field, or '"user.email"' for the text`)
	f("event.user.email", `line 1, column 1: "event.user.email" would be a constant text, not a field; write $.user.email for the field, or '"event.user.email"' for the text`)
	f("Math.PI", `line 1, column 1: "Math.PI" would be a constant text, not an expression; write (Math.PI) for the expression, or '"Math.PI"' for the text`)
	f("$.a +\n* 2", `line 2, column 1: unexpected token *`)
	f("user.email + 1", `line 1, column 1: user is not defined; write $.user for the event's field, or declare the name with let`)
	f("{{.user", `line 1, column 1: unclosed action; end the action with }}`)
	f("{{upper .user}}", `line 1, column 3: function "upper" not defined; a field begins with a dot, as in {{.upper}}; the functions are `+functionNames)
	f(strings.Repeat("x", maxSourceBytes+1), "line 1, column 1: the template is 65537 bytes long; a template has at most 65536 bytes")
}

func TestValueWarnings(t *testing.T) {
	f := func(src string, want ...string) {
		t.Helper()
		v, err := CompileValue(src, patient)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.Warnings(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: %q, want %q", src, got, want)
		}
	}
	f("customer")
	f("$.user.email")
	f("let x = $.n", "the script has no return: it never has a value")
}

func TestValueThatRunsAway(t *testing.T) {
	for _, src := range []string{"for (;;) {}", "{{range 1000000000}}{{end}}", "let a = [1]; for (let i = 0; i < 40; i++) a = [a, a]; return a"} {
		v, err := CompileValue(src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Eval(NewView(&event.Event{JSON: []byte(`{}`)})); !errors.Is(err, ErrLimit) {
			t.Errorf("%s: %v", src, err)
		}
	}
}

func FuzzValue(f *testing.F) {
	for _, template := range fuzzTemplates(f) {
		f.Add(template, testView)
	}
	for _, src := range []string{"$.a.b", "$['x']?.[0].y", "$.a[1]", "$.subscriptions.map(s => s.title)", "{{.a}} {{.b}}", "5", "$", "({...$})", "[$, $.a]"} {
		f.Add(src, valueEvent)
		f.Add(src, `{"a":{"b":[1,{"c":null}]},"":"","é":"\ud83d\ude00","x":[{"y":1e999},-0]}`)
	}
	f.Fuzz(func(t *testing.T, src, object string) {
		if len(object) > 50<<10 || strings.Count(object, "[")+strings.Count(object, "{") > 1000 ||
			!json.Valid([]byte(object)) || !strings.HasPrefix(object, "{") {
			t.Skip("ingest lets no such event in")
		}
		v, err := CompileValue(src, Options{Destination: "crm", Type: "hubspot"})
		if err != nil {
			var e *SyntaxError
			if !errors.As(err, &e) || e.What == "" || e.Line < 1 || e.Column < 1 || e.Column > len(src)+1 {
				t.Errorf("%q: %v", src, err)
			}
			t.Skip("no expression")
		}
		ev := &event.Event{ID: "e1", APIKey: "k1", Received: time.Unix(1600000000, 0), JSON: event.Normalize([]byte(object))}
		r, err := v.Eval(NewView(ev))
		if errors.Is(err, errEngine) {
			t.Errorf("the engine panicked: %v", err)
		}
		if r.Exists() && !json.Valid([]byte(r.Raw)) {
			t.Errorf("%q gives %q, which is no JSON", src, r.Raw)
		}
		if err == nil {
			checkValue(t, src, v, ev)
		}
	})
}

// checkValue compares what an expression comes to with and without the engine of its language. It returns whether the engine was not needed.
func checkValue(t *testing.T, src string, v *Value, ev *event.Event) (decided bool) {
	t.Helper()
	r, decided := v.direct(ev)
	if !decided {
		return false
	}
	r.Raw, r.Str = strings.Clone(r.Raw), strings.Clone(r.Str)
	engine, err := v.engine(NewView(ev))
	if errors.Is(err, ErrLimit) {
		return true
	}
	same := r.Raw == engine.Raw || v.path != nil && sameJSON(r.Raw, engine.Raw)
	if err != nil || r.Type != engine.Type || r.Str != engine.Str || r.Num != engine.Num && r.Num == r.Num || !same {
		t.Errorf("%q of %s, with %s:\nwithout the engine %+v\n   with the engine %+v, %v", src, ev.JSON, ev.Added, r, engine, err)
	}
	return true
}

// TestValuesWithoutEngine: expressions give the same with and without the engine of their language.
func TestValuesWithoutEngine(t *testing.T) {
	js := jsGenerator{matchGenerator{rand.New(rand.NewPCG(13, 14))}}
	templates := goGenerator{js}
	compiled, decided, all := 0, 0, 0
	try := func(src string, events int) {
		v, err := CompileValue(src, patient)
		if err != nil {
			return
		}
		compiled++
		for range events {
			all++
			if checkValue(t, src, v, js.event()) {
				decided++
			}
		}
	}
	rounds := trial.Rounds(t, 50) // to compile is what takes the time
	for range rounds {
		try(js.script(), 20)
		try(js.member(), 5)
		try(templates.template(1, false), 10)
		if t.Failed() {
			return
		}
	}
	if compiled < rounds*6/5 || decided < all/5 {
		t.Errorf("%d expressions, %d of %d times without the engine", compiled, decided, all)
	}
	// Numbers are written as the event has them, however the script came by them.
	for _, src := range []string{"$.a", "$.a + 0", "$.a || 5", "$.a ?? $.b", "$.a === $.b ? $.b : 0", "-$.a", "`${$.a}`", "const x = $.a, y = $.b; return x"} {
		v, err := CompileValue(src, patient)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range oddScalars {
			for _, b := range oddScalars[:12] {
				checkValue(t, src, v, &event.Event{ID: "e1", JSON: []byte(pairOf(a, b))})
			}
		}
		if t.Failed() {
			return
		}
	}
}

// sameJSON compares values without regard to how they are written. "" is none.
func sameJSON(a, b string) bool {
	if a == "" || b == "" {
		return a == b
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return true // numbers that encoding/json cannot hold
	}
	return reflect.DeepEqual(x, y) // 0 and -0 are the same
}

// valueBenchEvent is an event of 1 KiB.
func valueBenchEvent(tb testing.TB) *event.Event {
	tb.Helper()
	body := `{"event_type":"user_identify","user":{"id":"u1","email":"john.doe@example.com","first":"John","last":"Doe","company":"Acme Ltd","phone":"+44 20 7946 0000"},
"traits":{"Plan":"enterprise","seats":25},"subscriptions":[{"title":"Pro","active":true,"since":"2025-01-01"},{"title":"Support","active":true,"since":"2025-02-01"},{"title":"Basic","active":false,"since":"2024-01-01"}],
"utm":{"source":"google","medium":"cpc","campaign":"autumn"},"pad":"`
	body += strings.Repeat("x", 1024-len(body)-2) + `"}`
	if !json.Valid([]byte(body)) {
		tb.Fatal("the event is not valid JSON")
	}
	return &event.Event{ID: "5c8f2c6e", APIKey: "key1", Received: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), JSON: []byte(body)}
}

// benchMapping is a mapping as people write it: a field, a text of two, a count and a list.
var benchMapping = []string{
	"$.traits.Plan", "{{.user.first}} {{.user.last}}", "$.subscriptions.filter(s => s.active).length", "$.subscriptions.map(s => s.title)",
}

func BenchmarkValues(b *testing.B) {
	f := func(name string, sources ...string) {
		b.Run(name, func(b *testing.B) {
			ev := valueBenchEvent(b)
			var values []*Value
			for _, src := range sources {
				v, err := CompileValue(src, Options{})
				if err != nil {
					b.Fatal(err)
				}
				values = append(values, v)
			}
			b.SetBytes(int64(len(ev.JSON)))
			b.ReportAllocs()
			for b.Loop() {
				view := NewView(ev)
				for _, v := range values {
					if r, err := v.Eval(view); err != nil || !r.Exists() {
						b.Fatal(r, err)
					}
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
	f("four", benchMapping...)
	f("constant", "customer")
	f("path", benchMapping[0])
	f("go", benchMapping[1])
	f("count", benchMapping[2])
	f("list", benchMapping[3])
}

func BenchmarkCompileValues(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		for _, src := range benchMapping {
			if _, err := CompileValue(src, Options{}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

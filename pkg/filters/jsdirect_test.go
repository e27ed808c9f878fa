package filters

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"eventrouter/pkg/event"
	"eventrouter/pkg/trial"
)

// checkDirect compares what a template comes to by the engine of its language, on the whole view, with what it comes to on the members that it names, and without the
// engine. It returns whether the engine was not needed.
func checkDirect(t *testing.T, src string, f *Filter, ev *event.Event) (decided bool) {
	t.Helper()
	want, wantOK, wantErr := evalWhole(f.engine, string(ev.AppendView(nil)))
	text, ok, err := f.engine.evalEvent(ev)
	if errors.Is(wantErr, ErrLimit) || errors.Is(err, ErrLimit) {
		return true
	}
	if text != want || ok != wantOK || fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Errorf("%s\n%s\n%s\non what it names %q, %t, %v\n   on the whole %q, %t, %v", src, ev.JSON, ev.AppendView(nil), text, ok, err, want, wantOK, wantErr)
	}
	if f.direct == nil {
		return false
	}
	if text, ok, err, decided = f.direct.evalText(ev); !decided {
		return false
	}
	if !ok {
		text = ""
	}
	if text != want || ok != wantOK || errors.Is(err, errSkip) != errors.Is(wantErr, errSkip) || (err == nil) != (wantErr == nil) {
		t.Errorf("%s\n%s\n%s\nwithout the engine %q, %t, %v\n   with the engine %q, %t, %v", src, ev.JSON, ev.AppendView(nil), text, ok, err, want, wantOK, wantErr)
	}
	return true
}

// jsGenerator makes scripts of what runs without the engine, and a little more.
type jsGenerator struct{ matchGenerator }

func (g jsGenerator) member() string {
	return g.pick("$", "$", "$", "_", "event") + g.pick(".", ".", "?.") + g.pick("event_type", "user", "a", "b", "tags", "api_key", "_timestamp", "src", "parsed_ua", "n", "constructor", "length") +
		strings.Join([]string{"", g.pick(".b", "?.b", ".email", "?.email", "?.id", "[0]", "?.[0]", "['b']", "?.['c']", ".length", "?.length")}[:1+g.IntN(2)], "") +
		[]string{"", "", "", g.pick("?.b", ".c", "?.[1]", "?.length", ".valueOf")}[g.IntN(4)]
}

func (g jsGenerator) literal() string {
	return g.pick(`"a"`, `"A"`, `"5"`, `""`, `"free"`, `"é"`, "`x`", `"ada@corp.com"`, `'\u{1f600}'`, "5", "0", "-1", "2.5", "1e21", "0.1", "1e-7", "9007199254740993", "true", "false", "null", "undefined", "NaN",
		"destinationId", "TABLE_NAME", `"2026"`, `'\ud800'`)
}

func (g jsGenerator) expression(depth int) string {
	if depth == 0 || g.IntN(5) == 0 {
		if g.IntN(3) == 0 {
			return g.literal()
		}
		return g.member()
	}
	e := func() string { return g.expression(depth - 1) }
	switch g.IntN(13) {
	case 0:
		return "(" + e() + " && " + e() + ")"
	case 1:
		return "(" + e() + " || " + e() + ")"
	case 2:
		return "(" + e() + " ?? " + e() + ")"
	case 3, 4:
		return "(" + e() + g.pick(" == ", " != ", " === ", " !== ") + e() + ")"
	case 5:
		return "(" + e() + g.pick(" < ", " > ", " <= ", " >= ") + e() + ")"
	case 6:
		return "(" + e() + g.pick(" + ", " - ", " * ", " / ", " % ") + e() + ")"
	case 7:
		return "(" + e() + " ? " + e() + " : " + e() + ")"
	case 8:
		return g.pick("!", "-", "+", "typeof ", "!!", "void ", "String") + "(" + e() + ")"
	case 9:
		return "`" + g.pick("", "x", "é ") + "${" + e() + "}" + g.pick("", "-") + "${" + e() + "}`"
	case 10:
		return g.list(g.IntN(4), g.pick2(g.literal, e)) + ".includes(" + e() + ")"
	case 11:
		return g.member() + g.pick("?.", ".", "?.") + g.pick("startsWith", "endsWith", "includes") + "(" + e() + ")"
	default:
		return "(" + e() + ")" + g.pick("?.", ".") + g.pick("toLowerCase()", "toUpperCase()", "trim()", "includes('a')", "startsWith('f')", "trim().length")
	}
}

func (g jsGenerator) pick2(a, b func() string) func() string {
	if g.IntN(2) == 0 {
		return a
	}
	return b
}

func (g jsGenerator) script() string {
	if g.IntN(3) > 0 {
		return g.expression(3)
	}
	e := func() string { return g.expression(2) }
	switch g.IntN(9) {
	case 5:
		return "Object.keys($).length + " + e()
	case 6:
		return "const {a, ...rest} = $; return " + e() + " + Object.keys(rest)"
	case 7:
		return "$.a = " + e() + "; delete event.b; return [$.a, $.b, _.hasOwnProperty('b'), " + e() + "].join()"
	case 8:
		return "let s = ''; for (const x of $.tags ?? []) s += typeof x + (_['event_type'] ?? $['\\u006e'] ?? $[5]); return s + [1].map((_, event) => event + _.length)"
	case 0:
		return "if (" + e() + ") return " + e() + "; return " + e()
	case 1:
		return "if (" + e() + ") { return " + e() + " } else if (" + e() + ") { return " + e() + " }"
	case 2:
		return "const t = " + e() + "; let u; if (t) { const t = " + e() + "; return t } return t ?? u"
	case 3:
		return "const $x = " + e() + ", y = $x?.b; return `${$x}` + y"
	default:
		return "let event = " + e() + "; return event ? event.b : $.a"
	}
}

// event has members that scripts of the generator ask for, of all types.
func (g jsGenerator) event() *event.Event {
	ev := g.matchGenerator.event()
	ev.JSON = []byte(g.object(g.IntN(12), func() (string, string) {
		return g.pick("event_type", "user", "a", "b", "tags", "api_key", "_timestamp", "src", "parsed_ua", "n", "length", "eventn_ctx"), g.value(3)
	}))
	if g.IntN(2) == 0 {
		oddTexts := strings.NewReplacer(`"country"`, `"c"`, `"bot"`, `"length"`, `"ba"`, `" a\t"`, `"ab"`, `"05"`, `"FREE"`, `"Infinity"`, `"K"`, `" 5"`, `"A"`, `"5e0"`, `"true"`, `"0x5"`,
			`"free"`, `"inf"`, `"5.0"`, `"nan"`, `"5"`, `"0"`, `"web"`, `"\u00a0x\u2028"`, `"-1e2"`, `"-0"`)
		ev.JSON = event.Normalize([]byte(oddTexts.Replace(string(ev.JSON))))
	}
	return ev
}

// TestScriptsWithoutEngine: generated scripts come to the same with and without the engine.
func TestScriptsWithoutEngine(t *testing.T) {
	scripts := trial.Rounds(t, 150) // each is compiled, which is what takes the time
	g := jsGenerator{matchGenerator{rand.New(rand.NewPCG(5, 6))}}
	compiled, decided, all := 0, 0, 0
	for range scripts {
		src := g.script()
		f, err := Compile(src, patient)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		events := 3
		if f.direct != nil {
			compiled++
			events = 20
		}
		for range events {
			if checkDirect(t, src, f, g.event()) {
				decided++
			}
			if f.direct != nil {
				all++
			}
			if t.Failed() {
				return
			}
		}
	}
	if compiled < scripts*3/10 || decided < all/2 {
		t.Errorf("%d of %d scripts ran without the engine, and %d of %d times it decided", compiled, scripts, decided, all)
	}
}

// oddScalars are values on which languages differ.
var oddScalars = append([]string{
	"", "null", `" a\t"`, `"05"`, `"00"`, `"Infinity"`, `"-Infinity"`, `"inf"`, `"nan"`, `"NaN"`, `" 5"`, `"5 "`, `"5e0"`, `"0x5"`, `"0b1"`, `"0"`, `"-0"`, `"+5"`, `"1_0"`, `"\u00a0x\u2028"`,
	`"\u000bx\f"`, `"\ufeffx"`, `"İ"`, `"ΑΣ"`, `"ß"`, `"null"`, `"undefined"`, `"123456789012345"`, `"1234567890123456"`, `1e21`, `1e-7`, `-1.5`, `1e400`, `123456789012345`, `-0.0`,
	`"\ud800"`, `"\udc00x"`, `"\ufffd"`, `["\ud800"]`,
	`[]`, `{}`, `["a"]`, `[5]`, `[null,5,"a"]`, `[[1]]`, `{"b":5}`, `{"b":null}`, `{"length":2}`,
}, matchScalars...)

// pairOf is an event with the members a and b, "" for none.
func pairOf(a, b string) string {
	object := strings.Replace(`{"a":`+a+`,"b":`+b+`}`, `"a":,`, "", 1)
	return strings.Replace(strings.Replace(object, `,"b":}`, "}", 1), `"b":}`, "}", 1)
}

// checkPairs compares a template with and without the engine on each value of a, and on one in eight pairs of both. It wants it decided without for
// some of them.
func checkPairs(t *testing.T, rng *rand.Rand, src string, both bool, filter *Filter) {
	t.Helper()
	const pairs = 8
	decided, all := 0, 0
	for _, a := range oddScalars {
		others := oddScalars
		if !both {
			others = others[:1]
		}
		for _, b := range others {
			if len(others) > 1 && rng.IntN(pairs) > 0 {
				continue
			}
			if checkDirect(t, src, filter, &event.Event{ID: "e1", JSON: []byte(pairOf(a, b))}) {
				decided++
			}
			all++
		}
	}
	if decided < all/20 {
		t.Errorf("%s: decided for %d of %d events", src, decided, all)
	}
}

// TestOperatorsWithoutEngine tries each operator on each pair of values.
func TestOperatorsWithoutEngine(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 16))
	f := func(src string) {
		t.Helper()
		filter, err := Compile(src, patient)
		if err != nil || filter.direct == nil {
			t.Fatalf("%s: %v, not without the engine", src, err)
		}
		checkPairs(t, rng, src, strings.Contains(src, "$.b"), filter)
	}
	for _, operator := range []string{"==", "!=", "===", "!==", "<", "<=", ">", ">=", "+", "-", "*", "/", "&&", "||", "??"} {
		f("$.a " + operator + " $.b")
	}
	f("$.a ? $.b : 'no'")
	f("`${$.a}|${$.b}`")
	f("[$.a, 'x'].includes($.b)")
	f("[1, 5, 0, NaN, 'x'].includes(-$.a)")
	f("$.a?.includes($.b)")
	for _, src := range []string{
		"+$.a", "-$.a", "!$.a", "typeof $.a", "$.a == 5", "5 == $.a", "$.a == 0", "$.a == true", "$.a == null", "$.a === undefined", "$.a > 4", "$.a <= 'a'", "$.a * 1", "$.a + 1", "1 + $.a", "$.a + ''",
		"$.a?.trim()", "$.a?.toLowerCase()", "$.a?.toUpperCase()", "$.a?.startsWith('a')", "$.a?.endsWith('m')", "$.a?.includes('a')", "$.a?.length", "$.a?.[0]", "$.a?.b", "$.a.b", "$.a.trim()", "$.a.length",
		"['a', '5'].includes($.a)", "[$.a, 'x'].includes(0)", "const x = $.a; return x", "if ($.a) return 'yes'", "+$.a ? 'yes' : 'no'", "$.a", "String($.a)", "String($.a).startsWith('u')",
	} {
		f(src)
	}
}

// fuzzDirect compares a template and an event with and without the engine.
func fuzzDirect(t *testing.T, src, object string) {
	if len(object) > 10_000 || len(src) > 2000 || strings.Count(object, "[")+strings.Count(object, "{") > 1000 ||
		!json.Valid([]byte(object)) || !utf8.ValidString(object) || !strings.HasPrefix(object, "{") {
		t.Skip("ingest lets no such event in")
	}
	f, err := Compile(src, Options{Destination: "crm", Type: "hubspot", Limit: 100 * time.Millisecond})
	if err != nil {
		t.Skip("no template")
	}
	ev := &event.Event{ID: "e1", APIKey: "k1", Source: "api", JSON: event.Normalize([]byte(object))}
	checkDirect(t, src, f, ev)
}

func FuzzScriptsWithoutEngine(f *testing.F) {
	g := jsGenerator{matchGenerator{rand.New(rand.NewPCG(7, 8))}}
	for range 20 { // TestScriptsWithoutEngine tries more
		f.Add(g.script(), string(g.event().JSON))
	}
	for _, src := range fuzzTemplatesIn(f, JavaScript) {
		f.Add(src, testView)
	}
	f.Fuzz(fuzzDirect)
}

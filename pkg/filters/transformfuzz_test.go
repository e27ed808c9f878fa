package filters

import (
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// fuzzTransforms are those of Jitsu's cases, and some that do more.
func fuzzTransforms(tb testing.TB) []string {
	tb.Helper()
	raw, err := os.ReadFile("../../testdata/jitsu/transforms.json")
	if err != nil {
		tb.Fatal(err)
	}
	sources := []string{
		"({...$, ...$.user, a: [...$.tags], b: {...$.user}})", "Object.assign({}, $, null, {a: $})", "const {a, ...rest} = $; return [rest, {...rest, a}]",
		"JSON.parse(JSON.stringify($))", "for (const k in $) $[k] = [$[k]]; return $", "for (const k of Object.keys($)) delete $[k]; return $",
		"$.user = $; return $", "$.self = {...$}; $.self.self = $.self; return $", "return [$, $, $]", "return Array.from({length: 200}, (_, i) => ({...$, i}))",
		"return {s: 'x'.repeat(1e7)}", "return {a: Array(1e5).fill('x'.repeat(1e6))}", "let s = 'x'; for (;;) s += s", "for (;;) {}", "(function f() { f() })()",
		"await $kv.set($.event_type, $); await $kv.del('a'); return await $kv.get($.event_type)", "for (let i = 0; ; i++) $kv.set(String(i), i)",
		"for (;;) console.log($)", "console.log($, $, 'x'.repeat(1e6)); return $", "toSegment($)", "return {...$, get x() { for (;;) {} }}",
		"return {toJSON() { return {...$} }}", "return new Proxy($, {})", "return {...new Proxy($, {get() { throw 1 }})}", "class A { constructor() { Object.assign(this, $) } } return new A()",
		"return {...$, eventn_ctx_event_id: $.user, api_key: 1, eventn_ctx: {...$}, user: $.user?.email}", "delete $.user; delete $.eventn_ctx; return $",
		"return {...$, [TABLE_NAME]: $.event_type}", "return Promise.all([Promise.resolve($), Promise.reject(1)])", "Promise.reject(new Error('x')); return $",
		"return [...Object.values($)]", "return {...$, d: new Date($.n), n: NaN, m: new Map(), f() {}, [Symbol('a')]: 1}", "return '\\ud800' + $.text",
	}
	parsed := gjson.GetBytes(raw, "groups.0.cases.#.transform")
	for _, src := range parsed.Array() {
		sources = append(sources, src.Str)
	}
	return sources
}

// FuzzTransform: whatever the script and the event, nothing panics, what comes out is events, and neither time nor memory go far over the limits.
func FuzzTransform(f *testing.F) {
	for _, src := range fuzzTransforms(f) {
		f.Add(src, testView)
		f.Add(src, `{"user":{"email":"a@b.co"},"half":"\ud800","a":{"b":[1.0,{"c":null}]},"":"","é":"\ud83d\ude00","eventn_ctx":{"user":{},"event_id":5}}`)
	}
	f.Fuzz(func(t *testing.T, src, object string) {
		if len(object) > 50<<10 || strings.Count(object, "[")+strings.Count(object, "{") > 100 || !json.Valid([]byte(object)) || !strings.HasPrefix(object, "{") {
			t.Skip("ingest lets no such event in")
		}
		transform, err := CompileTransform(src, Options{Destination: "crm", Type: "hubspot"})
		if err != nil {
			var e *SyntaxError
			if !errors.As(err, &e) || e.Line < 1 || e.Line > strings.Count(src, "\n")+1 {
				t.Errorf("%v", err)
			}
			t.Skip("no transform")
		}
		if transform == nil {
			return
		}
		ev := transformEvent(object)
		ev.JSON = event.Normalize(ev.JSON)
		ev.Email = "remembered@b.co"
		before := string(ev.JSON)
		var lines int
		allocated, began := heap(), time.Now()
		outputs, why, err := transform.Eval(ev, World{KV: NewMemoryKV(nil), Log: func(_, line string) {
			lines++
			if len(line) > 4*maxLogLineChars+10 || strings.ContainsAny(line, "\r\n") {
				t.Errorf("a line of %d bytes", len(line))
			}
		}})
		// 20 ms, twice, and 100, with room for a machine on which other fuzzing workers run.
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if grown := heap() - allocated; grown > 1<<30 {
			t.Errorf("allocated %d MiB", grown>>20)
		}
		if lines > maxLogLines+1 || len(outputs) > maxOutputs || string(ev.JSON) != before || (err != nil || why != "") != (len(outputs) == 0) {
			t.Errorf("%d lines, %d outputs, %q, %v; the event is %s", lines, len(outputs), why, err, ev.JSON)
		}
		if errors.Is(err, errEngine) {
			t.Errorf("the engine panicked: %v", err)
		}
		for i, o := range outputs {
			e := o.Event
			if !json.Valid(e.JSON) || !gjson.ParseBytes(e.JSON).IsObject() || len(e.JSON) > maxOutputBytes+len(before)+1000 || e.APIKey != "web" || e.ID == "" || len(e.ID) > 210 {
				t.Errorf("output %d: id %q, API key %q, JSON %.300s", i, e.ID, e.APIKey, e.JSON)
			}
			if again := (&event.Event{}); again.Decode(e.AppendTo(nil)) != nil || string(again.AppendView(nil)) != string(e.AppendView(nil)) {
				t.Errorf("output %d is another once it was kept", i)
			}
		}
	})
}

// heap is how many bytes have been allocated so far.
func heap() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

package filters

import (
	"encoding/json"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/dop251/goja"

	"eventrouter/pkg/event"
)

// benchEvent is an event of about 2 KiB as the browser SDK sends it.
func benchEvent(tb testing.TB) *event.Event {
	tb.Helper()
	var b strings.Builder
	b.WriteString(`{"event_type":"signup","user":{"id":"u1","email":"John.Doe@Example.com","plan":null},"n":7,"price":12.5,"tags":["a","b"]`)
	for i := range 30 {
		b.WriteString(`,"field_` + string(rune('a'+i%26)) + string(rune('a'+i/26)) + `":"some text as long as page titles and addresses are"`)
	}
	b.WriteString(`,"utm":{"source":"google","medium":"cpc"}}`)
	ev := &event.Event{
		ID: "5c8f2c6e", APIKey: "key1", Received: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Source: "api", SourceIP: "10.1.2.3",
		UserAgent: "Mozilla/5.0", JSON: []byte(b.String()),
	}
	if !json.Valid(ev.JSON) {
		tb.Fatal("the event is not valid JSON")
	}
	return ev
}

const (
	benchGo = `{{if eq .event_type "pageview"}}{{else if .user.email}}{{.event_type}}{{end}}`
	benchJS = `$.event_type == "pageview" ? "" : $.user?.email && $.event_type`
)

func BenchmarkEval(b *testing.B) {
	f := func(name, src string) {
		b.Run(name, func(b *testing.B) {
			ev, filter := benchEvent(b), mustCompile(b, src)
			if strings.Contains(name, "by") {
				filter.direct = nil
			}
			b.SetBytes(int64(len(ev.JSON)))
			b.ReportAllocs()
			for b.Loop() {
				if r, err := filter.Eval(ev); err != nil || !r.Keep {
					b.Fatal(r, err)
				}
			}
		})
	}
	f("constant", "events")
	f("go", benchGo)
	f("javascript", benchJS)
	f("go by text/template", benchGo)
	f("javascript by the engine", benchJS)
	b.Run("go naive", func(b *testing.B) { benchNaive(b, naiveGo(b)) })
	b.Run("javascript naive", func(b *testing.B) { benchNaive(b, naiveScript(b)) })
}

// benchNaive parses the whole event into a map for each evaluation.
func benchNaive(b *testing.B, eval func(map[string]any) string) {
	ev := benchEvent(b)
	b.SetBytes(int64(len(ev.JSON)))
	b.ReportAllocs()
	for b.Loop() {
		var m map[string]any
		if err := json.Unmarshal(ev.AppendView(nil), &m); err != nil {
			b.Fatal(err)
		}
		if !result(eval(m), true).Keep {
			b.Fatal("skipped")
		}
	}
}

func naiveGo(b *testing.B) func(map[string]any) string {
	tmpl := template.Must(template.New("").Parse(benchGo))
	return func(m map[string]any) string {
		var out strings.Builder
		if err := tmpl.Execute(&out, m); err != nil {
			b.Fatal(err)
		}
		return out.String()
	}
}

func naiveScript(b *testing.B) func(map[string]any) string {
	rt := goja.New()
	v, err := rt.RunString("$ => " + benchJS)
	if err != nil {
		b.Fatal(err)
	}
	call, _ := goja.AssertFunction(v)
	return func(m map[string]any) string {
		v, err := call(goja.Undefined(), rt.ToValue(m))
		if err != nil {
			b.Fatal(err)
		}
		return v.String()
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		mustCompile(b, benchJS)
	}
}

func mustCompile(tb testing.TB, src string) *Filter {
	tb.Helper()
	f, err := Compile(src, Options{Destination: "dst1", Type: "hubspot"})
	if err != nil {
		tb.Fatalf("Compile(%q): %v", src, err)
	}
	return f
}

const benchMatch = "event_type: [signup, purchase]\nuser.email: {ends_with: '@example.com', ignore_case: true}\nnot: {user.plan: free}"

// BenchmarkMatch compares filters without code with what encoding/json would make of them.
func BenchmarkMatch(b *testing.B) {
	f := func(name, yaml string) {
		b.Run(name, func(b *testing.B) {
			ev, m := benchEvent(b), mustMatch(b, yaml)
			b.SetBytes(int64(len(ev.JSON)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Eval(ev); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("two fields", "event_type: [signup, purchase]\nuser.plan: {not: free}")
	f("three conditions", benchMatch)
	f("other type", "event_type: pageview\nuser.email: {ends_with: '@corp.com'}")
	f("last member", "utm.source: google")
	f("no such member", "missing: {exists: true}")
	b.Run("naive", func(b *testing.B) {
		benchNaive(b, func(m map[string]any) string {
			user, _ := m["user"].(map[string]any)
			email, _ := user["email"].(string)
			if kind := m["event_type"]; (kind == "signup" || kind == "purchase") && strings.HasSuffix(strings.ToLower(email), "@example.com") && user["plan"] != "free" {
				return "yes"
			}
			return ""
		})
	})
}

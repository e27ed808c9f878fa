package filters

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/event"
)

// fuzzTemplates are those of Jitsu's cases, and some that do more.
func fuzzTemplates(tb testing.TB) []string {
	tb.Helper()
	raw, err := os.ReadFile("../../testdata/jitsu/templates.json")
	if err != nil {
		tb.Fatal(err)
	}
	var cases jitsuCases
	if err := json.Unmarshal(raw, &cases); err != nil {
		tb.Fatal(err)
	}
	templates := []string{
		"for (;;) {}", "let s = 'x'; for (;;) s += s", "(function f() { f() })()", "await new Promise(() => {})",
		"const {a: {b = 1}, ...c} = $; return b + Object.keys(c)", "class A { #p = $.n; static { } get x() { return this.#p } } return new A().x",
		"return [...$.tags].map((t, i) => `${i}${t}`).join('')", "label: for (const k in $) { if (k) continue label; else break }",
		"try { throw $ } catch ({user: {email}}) { return email } finally { }", "$.a ??= 1, delete $.b, Object.assign($, {c: 2}).c",
		"JSON.stringify({...$, x: [1n.toString()]})", "/(a|aa)+$/g.test($.text)", "`${$._timestamp.Format('2006')}`",
		"{{range $i, $t := .tags}}{{$i}}{{$t}}{{end}}", "{{range 1000000000}}{{end}}", "{{define `t`}}{{template `t` .}}{{end}}{{template `t` .}}",
		"{{with $x := .user}}{{$x.email | printf `%q`}}{{end}}", "{{get . `user/email||n` 5 | eq 5}}",
	}
	for _, group := range cases.Groups {
		for _, c := range group.Cases {
			templates = append(templates, c.Expression+c.JS+c.Template)
		}
	}
	return templates
}

// fuzzTemplatesIn are those of fuzzTemplates that are in one language, Go or JavaScript.
func fuzzTemplatesIn(tb testing.TB, format string) (some []string) {
	tb.Helper()
	for _, template := range fuzzTemplates(tb) {
		if strings.Contains(template, "{{") == (format == Go) {
			some = append(some, template)
		}
	}
	return some
}

func FuzzCompile(f *testing.F) {
	for _, template := range fuzzTemplates(f) {
		f.Add(template)
	}
	f.Fuzz(func(t *testing.T, template string) {
		filter, err := Compile(template, Options{Destination: "crm", Type: "hubspot"})
		var e *SyntaxError
		switch {
		case err == nil:
			if (filter.Format() == Go) != (template == "" || strings.Contains(template, "{{")) {
				t.Errorf("format %s", filter.Format())
			}
		case !errors.As(err, &e):
			t.Errorf("not a SyntaxError: %v", err)
		case e.What == "" || e.Line < 1 || e.Line > strings.Count(template, "\n")+1 || e.Column < 1 || e.Column > len(template)+1:
			t.Errorf("position outside the template: %v", err)
		}
	})
}

func FuzzEval(f *testing.F) {
	for _, template := range fuzzTemplates(f) {
		f.Add(template, testView)
	}
	f.Add("$.a.b", `{"a":{"b":[1,{"c":null}]},"":"","é":"\ud83d\ude00"}`)
	f.Fuzz(func(t *testing.T, template, object string) {
		if len(object) > 50<<10 || strings.Count(object, "[")+strings.Count(object, "{") > 1000 ||
			!json.Valid([]byte(object)) || !strings.HasPrefix(object, "{") {
			t.Skip("ingest lets no such event in")
		}
		filter, err := Compile(template, Options{Destination: "crm", Type: "hubspot"})
		if err != nil {
			t.Skip("no template")
		}
		ev := &event.Event{ID: "e1", APIKey: "k1", Received: time.Unix(1600000000, 0), JSON: []byte(object)}
		began := time.Now()
		r, err := filter.Eval(ev)
		// 20 ms, twice, with room for a machine on which other fuzzing workers run.
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("took %v", took)
		}
		if err == nil && r.Keep != (r.Name != "" && r.Name != "null" && r.Name != "false") {
			t.Errorf("%+v", r)
		}
		if errors.Is(err, errEngine) {
			t.Errorf("the engine panicked: %v", err)
		}
		if string(ev.JSON) != object {
			t.Errorf("the event was changed to %s", ev.JSON)
		}
	})
}

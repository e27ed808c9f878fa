package filters

import (
	"math/rand/v2"
	"strings"
	"testing"

	"eventrouter/pkg/trial"
)

// goGenerator makes templates of what runs without text/template, and a little more.
type goGenerator struct{ jsGenerator }

func (g goGenerator) field(inside bool) string {
	name := func() string {
		return g.pick("event_type", "user", "a", "b", "tags", "api_key", "src", "parsed_ua", "n", "email", "id", "c", "String", "length")
	}
	path := "." + name()
	for range g.IntN(3) {
		path += "." + name()
	}
	if g.IntN(5) == 0 {
		return "$" + path
	}
	if inside && g.IntN(3) == 0 {
		return "."
	}
	return path
}

func (g goGenerator) operand(depth int, inside bool) string {
	switch n := g.IntN(8); {
	case n < 2:
		return g.pick(`"a"`, `"5"`, `""`, `"free"`, `"é"`, "`x`", "5", "0", "-1", "2.5", "1e3", "0x5", "'a'", "9007199254740993", "true", "false", "nil", "$", ".")
	case n < 5 && depth > 0:
		return "(" + g.command(depth-1, inside) + ")"
	}
	return g.field(inside)
}

func (g goGenerator) command(depth int, inside bool) string {
	o := func() string { return g.operand(depth, inside) }
	switch g.IntN(12) {
	case 0, 1:
		return "eq " + o() + " " + o() + strings.Repeat(" "+o(), g.IntN(2))
	case 2:
		return g.pick("ne", "lt", "le", "gt", "ge") + " " + o() + " " + o()
	case 3:
		return g.pick("and", "or") + " " + o() + strings.Repeat(" "+o(), g.IntN(3))
	case 4:
		return "not " + o()
	case 5:
		return "get " + g.pick(". ", "$ ", o()+" ") + g.pick("`/user/email||a/b`", "`n`", "`a`", "`user`", "`a//b`", "``") + g.pick("", " "+o())
	case 6:
		return "index " + g.pick(". ", "$ ", o()+" ") + g.pick("`a`", "`user` `email`", "`b` `c` `id`", "0")
	case 7:
		return g.pick("len ", "print ", "json ") + o()
	case 8:
		return "slice " + o() + g.pick(" 0 1", " 1", " 2 9", " 0 0", " 3 1", "")
	default:
		return o()
	}
}

func (g goGenerator) template(depth int, inside bool) string {
	var b strings.Builder
	for range 1 + g.IntN(2) {
		c := g.command(2, inside)
		switch n := g.IntN(6); {
		case n == 0:
			b.WriteString(g.pick("x", " ", "é\n"))
		case n < 3 || depth == 0:
			b.WriteString("{{" + g.pick("", "- ") + c + g.pick("", " -") + "}}")
		case n < 5:
			b.WriteString("{{if " + c + "}}" + g.template(depth-1, inside) + g.pick("", "{{else}}"+g.template(depth-1, inside), "{{else if "+c+"}}y") + "{{end}}")
		default:
			b.WriteString("{{with " + c + "}}" + g.template(depth-1, true) + g.pick("", "{{else}}"+g.template(depth-1, inside)) + "{{end}}")
		}
	}
	return b.String()
}

// TestTemplatesWithoutEngine: generated Go templates print the same with and without text/template.
func TestTemplatesWithoutEngine(t *testing.T) {
	g := goGenerator{jsGenerator{matchGenerator{rand.New(rand.NewPCG(9, 10))}}}
	compiled, decided, all := 0, 0, 0
	templates := trial.Rounds(t, 800)
	for range templates {
		src := g.template(2, false)
		f, err := Compile(src, patient)
		if err != nil {
			continue
		}
		events := 3
		if f.direct != nil {
			compiled++
			events = 20
			all += events
		}
		for range events {
			if checkDirect(t, src, f, g.event()) {
				decided++
			}
			if t.Failed() {
				return
			}
		}
	}
	if compiled < templates/7 || decided < all/3 {
		t.Errorf("%d of %d templates ran without text/template, and %d of %d times they printed", compiled, templates, decided, all)
	}
}

// TestFunctionsWithoutEngine tries each function on each pair of values.
func TestFunctionsWithoutEngine(t *testing.T) {
	rng := rand.New(rand.NewPCG(17, 18))
	f := func(src string, both bool) {
		t.Helper()
		filter, err := Compile(src, patient)
		if err != nil || filter.direct == nil {
			t.Fatalf("%s: %v, not without text/template", src, err)
		}
		checkPairs(t, rng, src, both, filter)
	}
	for _, function := range []string{"eq", "ne", "lt", "le", "gt", "ge", "and", "or"} {
		f("{{"+function+" .a .b}}", true)
		f("{{if "+function+" .b .a}}yes{{else}}no{{end}}", true)
	}
	f("{{get . `a` .b.c}}", true)
	for _, src := range []string{
		"{{.a}}", "{{if .a}}yes{{end}}", "{{not .a}}", "{{.a.b}}", "{{.a.b.c}}", "{{len .a}}", "{{slice .a 1}}", "{{slice .a 0 2}}", "{{eq .a 5}}", "{{eq .a 5.0 `a`}}", "{{gt .a 4}}", "{{lt .a `b`}}", "{{eq .a nil}}",
		"{{eq .a true}}", "{{with .a}}{{.}}{{else}}none{{end}}", "{{with .a}}{{.b}}{{end}}", "{{with .a}}{{.b.c}}x{{end}}", "{{get . `a/b||a` `none`}}", "{{get .a `b`}}", "{{index . `a`}}", "{{index .a `b`}}", "{{index . `a` `b`}}",
		"{{or .a `none`}}", "{{and .a .a.b}}", "{{if and .a (ne .a 5)}}x{{else if .a}}y{{end}}", "{{or (get . `a`) nil}}", "{{with .a}}{{if .b}}{{.b}}{{end}}{{end}}",
		"{{lt .a 5.5}}", "{{with .a}}{{with .b}}{{.}}{{end}}{{get . `b`}}{{end}}", "{{with .a}}{{$.a.b}}{{end}}",
	} {
		f(src, false)
	}
}

func FuzzTemplatesWithoutEngine(f *testing.F) {
	g := goGenerator{jsGenerator{matchGenerator{rand.New(rand.NewPCG(11, 12))}}}
	for range 20 { // TestTemplatesWithoutEngine tries more
		f.Add(g.template(2, false), string(g.event().JSON))
	}
	for _, src := range fuzzTemplatesIn(f, Go) {
		f.Add(src, testView)
	}
	f.Fuzz(fuzzDirect)
}

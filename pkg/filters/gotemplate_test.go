package filters

import (
	"strings"
	"testing"
)

func TestGoTemplate(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		filter, err := Compile(src, patient)
		if err != nil {
			t.Errorf("Compile(%q): %v", src, err)
			return
		}
		text, _, err := evalWhole(filter.engine, testView)
		if err != nil {
			text = "error: " + err.Error()
		}
		if text != want && (!strings.HasPrefix(want, "error: ") || !strings.HasPrefix(text, want)) {
			t.Errorf("%s\n got %q\nwant %q", src, text, want)
		}
	}

	// Fields.
	f("{{.event_type}} {{.n}} {{.price}} {{.big}} {{.off}}", "signup 7 12.5 12345678901234567890 false")
	f("{{.missing}} {{.missing.deeper.still}} {{.none}} {{.none.x}} {{.user.missing}}", "<no value> <no value> <no value> <no value> <no value>")
	f("{{.user.name.first}} {{$.user.email}}", "Ann a@b.co")
	f("{{with .user}}{{.email}} {{$.n}} {{.name.first}}{{end}}", "a@b.co 7 Ann")
	f("{{with .missing}}x{{else}}{{.event_type}}{{end}}", "signup")
	f("{{range .tags}}{{.}}|{{end}}", "a|map[b:1]|[c]|")
	f("{{range $i, $t := .tags}}{{$i}}{{$.event_type}}{{end}}", "0signup1signup2signup")
	f("{{range .missing}}x{{else}}{{.n}}{{end}}", "7")
	f("{{range $k, $v := .user}}{{$k}} {{end}}", "email id name ")
	f(`{{index . "with space"}} {{index .tags 0}} {{len .tags}} {{len .event_type}}`, "x a 3 6")
	f(`{{(index .tags 1).b}}{{slice .event_type 0 4}}`, "1sign")
	f(`{{$u := .user}}{{$u.id}}{{$e := .}}{{$e.n}}`, "u17")
	f(`{{define "t"}}{{.email}}{{end}}{{template "t" .user}}`, "a@b.co")
	f(`{{define "t"}}{{.n}}{{$.n}}{{end}}{{template "t" .}}`, "77")
	f(`{{block "t" .user}}{{.id}}{{end}}`, "u1")
	f("{{.event_type.first}}", "error: template: table_name_template:1:13: executing")
	f("a{{/* nothing */}}b{{- \" c\" -}} d", "ab cd")
	f("{{range .tags}}{{break}}{{end}}{{range .tags}}{{continue}}{{end}}.", ".")
	f("{{if .none.x}}a{{else}}b{{end}}{{with .user}}{{.none.x.y}}{{end}}", "b<no value>")

	// _timestamp is a time.
	f(`{{.event_type}}_{{._timestamp.Format "2006_01"}}`, "signup_2020_08")
	f("{{._timestamp.Year}}", "2020")
	f("{{with .user}}{{$._timestamp.Year}}{{end}}", "2020")

	// Comparisons.
	for _, truth := range []string{
		"eq .n 7", "eq .n 7.0", "eq 7 .n", "ne .n 8", "gt .n 5", "ge .n 7", "lt .n 7.5", "le .n 7", "lt .n .price", "eq .n .n",
		"eq .n `7`", "gt .price `5`", "eq .event_type `a` `signup`", "lt .event_type `z`", "gt `b` `a`", "ge `a` `a`",
		"eq .missing nil", "eq .none .missing", "ne .missing `x`", "ne .n `x`", "ne .off true", "eq .off false", "ne .tags `a`",
		"gt .big 1", "eq .big `12345678901234567890`", "ne .big `12345678901234567891`", "lt .big `12345678901234567891`",
		"eq (len .tags) 3", "gt (len .tags) 2.5", "eq ._timestamp ._timestamp", "not (lt .missing 5)", "not (gt .missing 5)",
		"not (le .none .none)", "not (gt .event_type 5)", "not (eq .user .user)", "and (eq .n 7) (or (eq .n 8) true)",
		"gt 9223372036854775807 9223372036854775806", "lt -1 .n", "ne .off nil",
	} {
		f("{{"+truth+"}}", "true")
	}
	f("{{eq .n}}", "error: template: table_name_template:1:2: executing")

	// Functions.
	f(`{{get . "/user/mail||user/email" "none"}} {{get . "x" "none"}} {{get . "x"}} {{get .user "name/first"}} {{get .n "x" "none"}}`,
		"a@b.co none <no value> Ann none")
	f("{{json .user}} {{json .big}} {{json .missing}}", `{"email":"a@b.co","id":"u1","name":{"first":"Ann"}} 12345678901234567890 null`)
	f("{{json `<&>`}}", `"<&>"`)
	f("{{json_indent .user.name}}", "{\n  \"first\": \"Ann\"\n}")
	f("{{json_indent_quote .user.name}}", `{\n  \"first\": \"Ann\"\n}`)
	f("{{eq (len (json .)) (len (json $))}}", "true")
	f("{{print .n `a` 1}} {{println 1}}{{printf `%s-%05.1f` .event_type 2.5}}", "7a1 1\nsignup-002.5")
	f("{{html `<`}} {{js `'`}} {{urlquery `a b`}}", `&lt; \' a+b`)
}

func TestTimestamp(t *testing.T) {
	f := func(src, view, want string) {
		t.Helper()
		got, _ := evalNamed(src, view)
		if got != want {
			t.Errorf("%s on %s = %q, want %q", src, view, got, want)
		}
	}
	f("{{._timestamp.Year}}", `{"_timestamp":"2021-01-02T03:04:05Z"}`, "2021")
	f("{{._timestamp.Year}}", `{"_timestamp":"2021-01-02T03:04:05.5+02:00"}`, "2021")
	f("{{._timestamp.Year}}", `{"_timestamp":"yesterday"}`, "error")
	f("{{._timestamp.Year}}", `{"_timestamp":5}`, "error")
	f("{{._timestamp.Year}}", `{}`, "error")
	f("{{json .}}", `{"_timestamp":"yesterday"}`, "___timestamp___yesterday__")
	f("$._timestamp", `{"_timestamp":"yesterday"}`, "yesterday")
	f("$._timestamp.Format('2006')", `{"_timestamp":"2021-01-02T03:04:05.5+02:00"}`, "2021")
	f("$._timestamp.Format('2006')", `{"_timestamp":"yesterday"}`, "error")
	f("$._timestamp || 'x'", `{}`, "error")
}

func TestTableName(t *testing.T) {
	f := func(text, want string, keep bool) {
		t.Helper()
		if got := result(text, true); got.Name != want || got.Keep != keep {
			t.Errorf("result(%q) = %v, want %q, %t", text, got, want, keep)
		}
	}
	f("Signed Up", "signed_up", true)
	f(" John.Doe@Example.com\n", "john_doe_example_com", true)
	f("naïve", "na_ve", true)
	f("12.5", "12_5", true)
	f("0", "0", true)
	f("True", "true", true)
	f("тест", "____", true)
	f("", "", false)
	f(" \t", "", false)
	f("null", "null", false)
	f("NULL", "null", false)
	f("False", "false", false)
	f("<no value>", "null", false)
	f("<no value> <no value>", "null_null", true)
	f("\xff", "_", true)
}

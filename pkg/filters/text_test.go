package filters

import (
	"errors"
	"net/url"
	"testing"

	"eventrouter/pkg/event"
)

func TestText(t *testing.T) {
	ev := &event.Event{APIKey: "web", ID: "1", JSON: []byte(`{"event_type":"a b/c","user":{"email":"x&y=1@b.co","n":12345678901234567890},"items":["p","q"],"none":null,"empty":""}`)}
	f := func(src, want string) {
		t.Helper()
		text, err := CompileText(src, Options{}, url.QueryEscape)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		for range 2 { // the second time as the first
			if got, err := text.Eval(NewView(ev)); err != nil || got != want {
				t.Errorf("%s: got %q, %v; want %q", src, got, err, want)
			}
		}
	}
	f(`https://example.com/a?b=c`, `https://example.com/a?b=c`)
	f(`Bearer abc.def`, `Bearer abc.def`)
	f(`/{{.event_type}}/`, `/a+b%2Fc/`)
	f(`/{{.user.n}}`, `/12345678901234567890`)
	f(`{{if eq .event_type "x"}}no{{else}}y/{{.user.email}}{{end}}`, `y/x%26y%3D1%40b.co`)
	f(`{{range .items}}/{{.}}{{end}}`, `/p/q`)
	f(`{{with .user}}{{.email}}{{end}}`, `x%26y%3D1%40b.co`)
	f(`{{$x := .event_type}}{{$x}}{{$x | printf "%s&"}}`, `a+b%2Fca+b%2Fc%26`)
	f(`{{.event_type | urlquery}}`, `a+b%2Fc`)
	f(`{{define "p"}}<{{.}}>{{end}}{{template "p" .event_type}}`, `<a+b%2Fc>`)
	f(`{{or .plan "none"}}`, `none`)
	f(`[{{.empty}}]`, `[]`)
	f(`{{"/"}}`, `%2F`) // whoever puts a constant into braces gets it escaped as well
}

func TestTextFails(t *testing.T) {
	ev := &event.Event{APIKey: "web", ID: "1", JSON: []byte(`{"event_type":"a","user":{"email":"a@b.co"},"none":null}`)}
	f := func(src, want string, noValue bool) {
		t.Helper()
		text, err := CompileText(src, Options{}, nil)
		if err == nil {
			_, err = text.Eval(NewView(ev))
		}
		if err == nil || err.Error() != want || errors.Is(err, ErrNoValue) != noValue {
			t.Errorf("%s: got %v (no value: %v), want %s", src, err, errors.Is(err, ErrNoValue), want)
		}
	}
	f(`/{{.plan}}`, `{{.plan}}: the event has no value for it`, true)
	f(`/{{.none}}`, `{{.none}}: the event has no value for it`, true)
	f(`/{{.user.id}}`, `{{.user.id}}: the event has no value for it`, true)
	f(`/{{.shop.id}}`, `{{.shop.id}}: the event has no value for it`, true)
	f(`/{{.user}}`, `{{.user}}: it is an object or a list; name what of it is meant`, false)
	f(`/{{.user`, `line 1, column 2: unclosed action; end the action with }}`, false)
	f(`/{{_escape "a" .}}`, `line 1, column 4: function "_escape" not defined; a field begins with a dot, as in {{._escape}}; the functions are `+functionNames, false)
	f(`/{{slice .event_type 0 9}}`, `line 1, column 4: <slice .event_type 0 9>: error calling slice: index out of range: 9`, false)
}

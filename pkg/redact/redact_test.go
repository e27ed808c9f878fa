package redact

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestJSON(t *testing.T) {
	f := func(rules, data, want string) {
		t.Helper()
		if got := New(strings.Fields(rules)).JSON([]byte(data)); string(got) != want {
			t.Errorf("%s of %s:\n got %s\nwant %s", rules, data, got, want)
		}
	}
	f("", `{"password": "x"}`, `{"password": "x"}`)
	f("password", `{"event_type": "a"}`, `{"event_type": "a"}`) // byte for byte where nothing is hidden

	f("password", `{"password":"x","a":{"PassWord":1,"b":[{"password":[1,2]},3]}}`, `{"password":"***","a":{"PassWord":"***","b":[{"password":"***"},3]}}`)
	f("password", `{"passwords":"x","my_password":"y"}`, `{"passwords":"x","my_password":"y"}`)
	f("pass.word", `{"pass":{"word":1},"word":2}`, `{"pass":{"word":"***"},"word":2}`)
	f("user.ssn", `{"ssn":1,"user":{"ssn":2,"x":{"ssn":3}},"eventn_ctx":{"user":{"SSN":4}}}`, `{"ssn":1,"user":{"ssn":"***","x":{"ssn":3}},"eventn_ctx":{"user":{"SSN":"***"}}}`)
	f("user.ssn", `{"segment":{"traits":{"ssn":1},"context":{"traits":{"ssn":2}}}}`, `{"segment":{"traits":{"ssn":"***"},"context":{"traits":{"ssn":"***"}}}}`)
	f("*.card", `{"card":1,"a":{"card":2,"b":{"card":3}}}`, `{"card":1,"a":{"card":"***","b":{"card":"***"}}}`)
	f("order.*.card", `{"order":{"card":1,"pay":{"card":2}},"x":{"order":{"y":{"card":3}}}}`, `{"order":{"card":1,"pay":{"card":"***"}},"x":{"order":{"y":{"card":"***"}}}}`)
	f("items.price", `{"items":[{"price":1},[{"price":2}]]}`, `{"items":[{"price":"***"},[{"price":"***"}]]}`)
	f("password ssn", `{"a":1e400,"b":12345678901234567890,"p\u0061ssword":"x","ssn":null}`, `{"a":1e400,"b":12345678901234567890,"p\u0061ssword":"***","ssn":"***"}`)
	f("größe", `{"größe":1}`, `{"größe":"***"}`)
	f("password", `[{"password":1}]`, `[{"password":"***"}]`)
	f("password", `{"password":`, `"***"`) // no JSON: nobody knows what it holds

	var none *Fields
	if got := none.JSON([]byte(`{"password":1}`)); string(got) != `{"password":1}` || none.Active() {
		t.Errorf("nil hides %s", got)
	}
}

func TestValuesInTexts(t *testing.T) {
	f := func(data, text, want string) {
		t.Helper()
		fields := New([]string{"password", "user.ssn"})
		if got := fields.Values([]byte(data)).Text(text); got != want {
			t.Errorf("%s: %q\n got %q\nwant %q", data, text, got, want)
		}
	}
	f(`{"password":"hunter2"}`, `"hunter2" is no password, nor is HUNTER2x`, `"***" is no password, nor is ***x`)
	f(`{"password":"hunter2"}`, `nothing of it`, `nothing of it`)
	f(`{"other":"hunter2"}`, `hunter2`, `hunter2`)
	f(`{"password":{"a":["one-secret",{"b":"two-secret"}]}}`, `one-secret, two-secret`, `***, ***`)
	f(`{"password":"  spaced  "}`, `got spaced!`, `got ***!`)
	f(`{"user":{"ssn":123456789}}`, `ssn 123456789 is a number`, `ssn *** is a number`)
	f(`{"user":{"ssn":1.23456789e8}}`, `1.23456789e8 or 123456789`, `*** or ***`)
	f(`{"password":true,"user":{"ssn":null}}`, `true, null`, `true, null`)
	// Short ones are everywhere.
	f(`{"password":"12"}`, `12 at 2026-12-12, 1200`, `*** at 2026-***-***, 1200`)
	f(`{"password":"a"}`, `a bad name`, `*** bad name`)
	// As they stand in JSON, in JSON in JSON, in addresses.
	f(`{"password":"a\"b\\c"}`, `a"b\c`, `***`)
	f(`{"password":"a\"b\\c"}`, `{"value":"a\"b\\c"}`, `{"value":"***"}`)
	f(`{"password":"a\"b\\c"}`, `"{\"value\":\"a\\\"b\\\\c\"}"`, `"{\"value\":\"***\"}"`)
	f(`{"password":"zwölf"}`, `zw\u00f6lf zwölf`, `zw\u00f6lf ***`)
	f(`{"password":"zw\u00f6lf"}`, `zw\u00f6lf zwölf`, `*** ***`)
	f(`{"password":"ada@example.com"}`, `GET /contacts/ada%40example.com?x=ada%40example.com`, `GET /contacts/***?x=***`)
	f(`{"password":"two words"}`, `two+words two%20words`, `*** ***`)
	// The longest goes first, so that none is left in parts.
	f(`{"password":["secret","secret-and-more"]}`, `secret-and-more secret`, `*** ***`)
	// What is cut short shows no beginning.
	f(`{"password":"correct horse battery"}`, `the value correct horse ba... (correlation 1)`, `the value ***... (correlation 1)`)
	long := strings.Repeat("long ", 50)
	f(`{"password":"correct horse battery"}`, long+`correct ho`, long+`***`)
	f(`{"password":"good@example.com"}`, `good`, `good`) // a short text is whole
	f(`{"password":"correct horse battery"}`, `correct... horse`, `***... horse`)
	f(`{"password":"correct horse battery"}`, `cor... is too little to tell`, `cor... is too little to tell`)
}

func TestDetail(t *testing.T) {
	vs := New([]string{"password"}).Values([]byte(`{"password":"hunter2"}`), nil, []byte(`{"password":"z\u0026w"}`))
	got := vs.Detail(json.RawMessage(`{"hunter2":["is hunter2","z&w","z\u0026w"],"n":1,"plain":"\u00e9"}`))
	if want := `{"***":["is ***","***","***"],"n":1,"plain":"\u00e9"}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMalformed(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := New([]string{"password", "user.ssn"}).Malformed(text); got != want {
			t.Errorf("%s:\n got %s\nwant %s", text, got, want)
		}
	}
	f(`{"a":1,"password":"hunter2","b":2`, `{"a":1,"password":***,"b":2`)
	f(`{"password": "a\"b", "ssn" :1234, x`, `{"password": ***, "ssn" :***, x`)
	f(`{"password": {"a":"}","b":[1]}, "c":1`, `{"password": ***, "c":1`)
	f(`{"password": "never ends`, `{"password": ***`)
	f(`password=hunter2&ssn=1&x=2`, `password=***&ssn=***&x=2`)
	f(`{\"password\":\"hunter2\"}`, `{\"password\":***}`)
	f(`{'PASSWORD':'x','y':1}`, `{'PASSWORD':***,'y':1}`)
	f(`the password is not shown, my_password: x`, `the password is not shown, my_password: x`)
	f(`{"password"`, `{"password"`)
	f(`{"p\u0061ssword":"hunter2", x`, `{"password":***, x`) // as JSON may write a name
	f(`{"\u0070\u0041ssword" : {"a":"hunter2"}, x`, `{"pAssword" : ***, x`)
	f(`{"a":"b\u0022\u005c%22","password":"x%22y",`, `{"a":"b\u0022\u005c%22","password":***,`)
	f(`100%&password=%zz%2`, `100%&password=***`)
	f(`password%3Dhunter2%26x=1`, `password=***&x=1`)
	f(`%22password%22%3A%22hunter2%22%2C%22b%22`, `"password":***,"b"`)
	f(`{"password":`, `{"password":***`)
}

func TestPerson(t *testing.T) {
	f := func(rules, want string) {
		t.Helper()
		if got := New(strings.Fields(rules)).Person("ada@example.com"); got != want {
			t.Errorf("%s: got %s, want %s", rules, got, want)
		}
	}
	f("", "ada@example.com")
	f("password order.email", "ada@example.com")
	f("email", "***")
	f("user.email", "***")
	f("*.EMAIL", "***")
}

// The log shows no value of what is in hand, or was a moment ago.
func TestHandler(t *testing.T) {
	var out bytes.Buffer
	fields := New([]string{"password"})
	log := slog.New(fields.Handler(slog.NewTextHandler(&out, nil))).With("server", "hunter2-server").WithGroup("g")
	line := func() string {
		out.Reset()
		log.Info("bad hunter2", "error", errors.New("is hunter2"), "text", "hunter2", "n", 7, slog.Group("more", "x", []string{"hunter2"}))
		return out.String()
	}
	if !strings.Contains(line(), "text=hunter2") {
		t.Errorf("hidden though nothing is in hand: %s", out.String())
	}
	vs := fields.Values([]byte(`{"password":"hunter2"}`))
	fields.Hold(vs)
	fields.Hold(vs)
	fields.Release(vs, false)
	if strings.Count(line(), "***") != 4 || !strings.Contains(out.String(), "n=7") || !strings.Contains(out.String(), `g.error="is ***"`) {
		t.Errorf("got %s", out.String())
	}
	fields.Release(vs, true)
	if strings.Count(line(), "***") != 4 {
		t.Errorf("shown a moment later: %s", out.String())
	}
	for i := range 3 * maxRecent {
		other := Values{fmt.Sprint("value-", i)}
		fields.Hold(other)
		fields.Release(other, true)
	}
	if strings.Contains(line(), "***") || len(fields.recent) != maxRecent || len(fields.known) != maxRecent || len(fields.held) != 0 {
		t.Errorf("kept for ever: %d, %d, %d: %s", len(fields.recent), len(fields.known), len(fields.held), out.String())
	}
	fields.Set(nil)
	fields.Hold(vs)
	if strings.Contains(line(), "***") {
		t.Errorf("hidden without rules: %s", out.String())
	}
}

func FuzzRedact(f *testing.F) {
	f.Add(`{"password":"hunter2","user":{"ssn":[1,{"x":"\u00e9\""}]}}`, `is hunter2 hun...`)
	f.Add(`{"PASSWORD":{"a":{}},"x":[[],{}],"password":1e999}`, `{"password":"x`)
	f.Add(`password=[{"`, `...`)
	f.Fuzz(func(t *testing.T, data, text string) {
		fields := New([]string{"password", "user.ssn", "*.card"})
		hidden := fields.JSON([]byte(data))
		if len(data) > 0 && !json.Valid(hidden) {
			t.Fatalf("%q became %q, which is no JSON", data, hidden)
		}
		fields.Malformed(data)
		fields.Malformed(text)
		if !json.Valid([]byte(data)) {
			return
		}
		vs := fields.Values([]byte(data))
		clean := vs.Text(text)
		for _, v := range vs {
			if len(v) >= wordBelow && indexFold(strings.ReplaceAll(clean, mask, "\x00"), v) >= 0 && !strings.Contains(v, "*") {
				t.Fatalf("%q is in %q, of %q", v, clean, text)
			}
		}
		if got := vs.Detail(json.RawMessage(data)); !json.Valid(got) {
			t.Fatalf("detail %q became %q", data, got)
		}
		if len(fields.Values(hidden)) > 0 && len(fields.Values(hidden).Text(mask)) > len(mask) {
			t.Fatalf("%q still has values", hidden)
		}
	})
}

func BenchmarkValues(b *testing.B) {
	event := []byte(`{"event_type":"signup","user":{"email":"ada@example.com","password":"hunter2","ssn":"123-45-6789"},"url":"https://example.com/","page":{"title":"x","path":"/y"}}`)
	fields := New([]string{"password", "user.ssn"})
	b.SetBytes(int64(len(event)))
	b.ReportAllocs()
	for b.Loop() {
		fields.Values(event)
	}
}

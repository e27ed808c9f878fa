package filters

import (
	"strings"
	"testing"
)

// TestEnvelopesOfClients: who posts an event does not choose what the router calls, wherever in the event it says so and whatever a script copies.
func TestEnvelopesOfClients(t *testing.T) {
	const evil = `"JITSU_ENVELOP":{ "url" : "https:\/\/evil.example.net", "n":1.0}`
	f := func(src, json string, want bool) {
		t.Helper()
		transform, err := CompileTransform(src, patient)
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		outputs, _, err := transform.Eval(transformEvent(json), World{})
		if err != nil || len(outputs) != 1 {
			t.Errorf("%s of %s: %d outputs, %v", src, json, len(outputs), err)
			return
		}
		if got := outputs[0].Event.Enveloped; got != want {
			t.Errorf("%s of %s: enveloped %v, want %v: %s", src, json, got, want, outputs[0].Event.JSON)
		}
	}
	for _, src := range []string{
		"return {...$, ...$.user}",
		"return Object.assign({}, $, $.user)",
		"return [$.user]",
		"return $.items",
		"return JSON.parse(JSON.stringify($))",
		"return {...$, ...JSON.parse($.text)}",
		"const out = {}; for (const k in $) out[k] = $[k]; return out",
		`const trim = (o) => Object.fromEntries(Object.entries(o).map(([k, v]) => [k, v && typeof v == "object" ? trim(v) : String(v) + "x"])); return trim($)`,
	} {
		json := `{"event_type":"a",` + evil + `,"user":{` + evil + `},"items":[{` + evil + `}],"text":"{\"JITSU_ENVELOP\":{\"url\":\"https://evil.example.net\"}}"}`
		f(src, json, false)
		f(src, strings.Replace(json, evil+",", "", 1), false)
		if src != "return {...$, ...JSON.parse($.text)}" { // JSON in a text is taken by a script that looks for it there
			f("if ($.event_type == 'other') return {...$, JITSU_ENVELOP: {url: 'https://b'}}; "+src, json, false)
		}
	}
	f("return $.user || {JITSU_ENVELOP: 1}", `{"user":{"JITSU\u005fENVELOP":{"url":"https://evil.example.net"}}}`, false)
	f("return {...$, JITSU_ENVELOP: {url: 'https://b'}}", `{`+evil+`}`, true)
	f("$.JITSU_ENVELOP = {url: $.to}; return $", `{"to":"https://b"}`, true)
	f("return {...$, JITSU_ENVELOP: $.JITSU_ENVELOP}", `{`+evil+`}`, false)
}

// TestTablesOfClients: nor does it choose a table, or that the event is dropped.
func TestTablesOfClients(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		if got := results(t, src, `{"a":1,"JITSU_TABLE_NAME":"false"}`, World{}); got != want {
			t.Errorf("%s: got %s, want %s", src, got, want)
		}
	}
	f("return JSON.parse(JSON.stringify({...$, b: 2}))", `{"a":1,"b":2}`)
	f("const out = {}; for (const k in $) out[k] = $[k]; return out", `{"a":1}`)
	f("return {a: $.a, JITSU_TABLE_NAME: 't'}", `{"a":1} table "t" true`)
}

package event

import "testing"

func TestWithoutEnvelopes(t *testing.T) {
	f := func(json, want string) {
		t.Helper()
		if got := string(WithoutEnvelopes([]byte(json))); got != want {
			t.Errorf("%s: got %s, want %s", json, got, want)
		}
	}
	f(`{ "a": 1.0, "b": "JITSU" }`, `{ "a": 1.0, "b": "JITSU" }`)
	f(`{"JITSU_ENVELOP":{"url":"x"}}`, `{}`)
	f(`{"a":12345678901234567890,"JITSU_ENVELOP":1,"b":[{"JITSU\u005fENVELOP":[2],"c":"\ud800"},3,[]]}`, `{"a":12345678901234567890,"b":[{"c":"\ud800"},3,[]]}`)
	f(`{"text":"JITSU_ENVELOP","\u0061":{}}`, `{"text":"JITSU_ENVELOP","\u0061":{}}`)
}

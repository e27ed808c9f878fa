package config

import "testing"

// TestSettingsAsJSON: values have the types that YAML gives them.
func TestSettingsAsJSON(t *testing.T) {
	f := func(yaml, want string) {
		t.Helper()
		s, err := NewSettings("test.yaml", "x", []byte(yaml))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.JSON()
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != want {
			t.Errorf("%s: got %s, want %s", yaml, got, want)
		}
	}
	f("{b: 1, a: [x, 'y', \"1\", 1.50, -0x10, true, ~, null, 2026-01-02, 12345678901234567890]}", `{"b":1,"a":["x","y","1",1.50,-16,true,null,null,"2026-01-02",12345678901234567890]}`)
	f("a: |\n  1\n", `{"a":"1\n"}`)
	f("a: &x {k: 1}\nb: *x", `{"a":{"k":1},"b":{"k":1}}`)
	f("a: .inf", "test.yaml:1: x: .inf is a number that JSON does not have")
	f("a: !!str 5", `{"a":"5"}`)
	f("", "null")
}

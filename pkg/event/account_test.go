package event

import (
	"strings"
	"testing"
)

func TestCheckAccount(t *testing.T) {
	f := func(name string, ok bool) {
		t.Helper()
		if err := CheckAccount(name); (err == nil) != ok {
			t.Errorf("%q: got %v, want taken %v", name, err, ok)
		}
	}
	f("a1", true)
	f("", true) // none
	f("Größe 7 / 日本", true)
	f(strings.Repeat("x", MaxAccount), true)
	f(strings.Repeat("x", MaxAccount+1), false)
	f(" a1", false)
	f("a1 ", false)
	f("a\u00a01", false) // a space that can not be told from another
	f("a\x00", false)
	f("a\n", false)
	f("a\u202e1", false)
	f("a\u200b1", false)
	f("a\xff", false)
	f("a\ufffd", false) // what a lone surrogate becomes
}

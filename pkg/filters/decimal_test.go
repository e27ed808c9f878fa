package filters

import "testing"

func TestDecimal(t *testing.T) {
	numbers := []string{"0", "-0", "0.0", "0e5", "1", "1.0", "10e-1", "0.1e1", "1.5", "15e-1", "-1", "-1.5", "0.05", "5e-2", "100", "1e2", "0.00100", "1e-3", "9007199254740992", "9007199254740993", "123.456", "123456e-3", "1e300", "-1e300", "12e299"}
	for _, a := range numbers {
		for _, b := range numbers {
			x, okX := parseDecimal(a)
			y, okY := parseDecimal(b)
			if want := naiveRat(a).Cmp(naiveRat(b)); !okX || !okY || x.compare(y) != want {
				t.Errorf("%s and %s: %d, want %d", a, b, x.compare(y), want)
			}
		}
	}
	for _, s := range []string{"", "-", "01", "1.", ".5", "1e", "1e+", "+1", "0x10", "1_000", "inf", " 1", "1 ", "1e5x", "--1"} {
		if _, ok := parseDecimal(s); ok {
			t.Errorf("%q is a number", s)
		}
	}
	huge, _ := parseDecimal("1e999999999999999999999")
	one, _ := parseDecimal("1")
	if huge.compare(one) != 1 {
		t.Error("a huge number is not larger than 1")
	}
}

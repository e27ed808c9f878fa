package filters

import (
	"cmp"
	"strings"
)

// decimal is a number as JSON writes it, exact whatever its length: 0.DIGITS · 10^point, where DIGITS are those of whole and then of fraction. Zero has none.
type decimal struct {
	negative        bool
	whole, fraction string
	point           int64
}

// maxExponent bounds exponents: what lies beyond is one and the same.
const maxExponent = 1 << 40

// parseDecimal reads a number in the grammar of JSON; false: text is none.
func parseDecimal(text string) (d decimal, ok bool) {
	rest, negative := strings.CutPrefix(text, "-")
	whole := leadingDigits(rest)
	if whole == "" || len(whole) > 1 && whole[0] == '0' {
		return d, false
	}
	rest = rest[len(whole):]
	fraction := ""
	if after, ok := strings.CutPrefix(rest, "."); ok {
		if fraction = leadingDigits(after); fraction == "" {
			return d, false
		}
		rest = after[len(fraction):]
	}
	exponent := int64(0)
	if rest != "" {
		if exponent, ok = parseExponent(rest); !ok {
			return d, false
		}
	}
	d = decimal{negative: negative, whole: whole, fraction: strings.TrimRight(fraction, "0"), point: exponent + int64(len(whole))}
	if whole == "0" {
		d.whole = ""
		d.fraction = strings.TrimLeft(d.fraction, "0")
		d.point = exponent - int64(len(fraction)-len(strings.TrimLeft(fraction, "0")))
	}
	if d.fraction == "" {
		d.whole = strings.TrimRight(d.whole, "0")
	}
	if d.whole == "" && d.fraction == "" {
		d = decimal{}
	}
	return d, true
}

func leadingDigits(s string) string {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		n++
	}
	return s[:n]
}

// parseExponent reads e+10.
func parseExponent(s string) (exponent int64, ok bool) {
	if s[0] != 'e' && s[0] != 'E' || len(s) == 1 {
		return 0, false
	}
	digits, sign := s[1:], int64(1)
	switch digits[0] {
	case '-':
		digits, sign = digits[1:], -1
	case '+':
		digits = digits[1:]
	}
	if digits == "" || leadingDigits(digits) != digits {
		return 0, false
	}
	for _, c := range []byte(digits) {
		exponent = min(exponent*10+int64(c-'0'), maxExponent)
	}
	return sign * exponent, true
}

func (d decimal) isZero() bool { return d.whole == "" && d.fraction == "" }

// digit returns the i-th digit, 0 behind the last one.
func (d decimal) digit(i int) byte {
	if i < len(d.whole) {
		return d.whole[i]
	}
	if i -= len(d.whole); i < len(d.fraction) {
		return d.fraction[i]
	}
	return '0'
}

// compare returns -1, 0 or 1.
func (d decimal) compare(e decimal) int {
	if d.isZero() || e.isZero() || d.negative != e.negative {
		return cmp.Compare(d.sign(), e.sign())
	}
	larger := 1
	if d.negative {
		larger = -1
	}
	if d.point != e.point {
		if d.point > e.point {
			return larger
		}
		return -larger
	}
	for i := range max(len(d.whole)+len(d.fraction), len(e.whole)+len(e.fraction)) {
		if x, y := d.digit(i), e.digit(i); x != y {
			if x > y {
				return larger
			}
			return -larger
		}
	}
	return 0
}

func (d decimal) sign() int {
	switch {
	case d.isZero():
		return 0
	case d.negative:
		return -1
	}
	return 1
}

package filters

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// scriptText makes a JSON string a value of the engine. Texts of JavaScript and of JSON may hold half a character, a surrogate without its other half, which no text of
// Go can; it is kept, since a script that only passes a text on must not change it.
func scriptText(rt *goja.Runtime, v gjson.Result) goja.Value {
	if strings.Contains(v.Raw, `\u`) && strings.ContainsRune(v.Str, utf8.RuneError) {
		return goja.StringFromUTF16(unitsOf(v.Raw))
	}
	return rt.ToValue(v.Str)
}

// unitsOf returns the UTF-16 of a JSON string.
func unitsOf(raw string) []uint16 {
	var units []uint16
	raw = raw[1 : len(raw)-1]
	for len(raw) > 0 {
		if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
			var unit uint16
			for _, c := range []byte(raw[2:6]) {
				unit = unit<<4 | uint16(hexDigit(c))
			}
			units = append(units, unit)
			raw = raw[6:]
			continue
		}
		end := 0 // of what has no escapes of that kind, and so no halves
		for end < len(raw) && (raw[end] != '\\' || raw[end+1] != 'u') {
			if raw[end] == '\\' {
				end++
			}
			end++
		}
		units = append(units, utf16.Encode([]rune(gjson.Parse(`"`+raw[:end]+`"`).Str))...)
		raw = raw[end:]
	}
	return units
}

func hexDigit(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

// appendText appends a text of the engine as a JSON string. In events, halves of characters stay, as \ud800; in other values they are U+FFFD.
func (s *script) appendText(dst []byte, text goja.String) []byte {
	whole := text.String()
	if !s.lenient || !strings.ContainsRune(whole, utf8.RuneError) {
		return event.AppendString(dst, whole)
	}
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	flush := func(end int) {
		if start < end {
			part := event.AppendString(nil, text.Substring(start, end).String())
			dst = append(dst, part[1:len(part)-1]...)
		}
	}
	for i := 0; i < text.Length(); i++ {
		unit := rune(text.CharAt(i))
		if !utf16.IsSurrogate(unit) {
			continue
		}
		if i+1 < text.Length() && utf16.DecodeRune(unit, rune(text.CharAt(i+1))) != utf8.RuneError {
			i++
			continue
		}
		flush(i)
		dst = append(dst, '\\', 'u', 'd', hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
		start = i + 1
	}
	flush(text.Length())
	return append(dst, '"')
}

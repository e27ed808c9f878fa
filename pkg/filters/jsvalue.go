package filters

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja/ftoa"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// jsValue is a value of a script that runs without the engine.
type jsValue struct {
	kind   jsKind
	number float64 // of jsNumber; 1 for true
	text   string  // of jsString; the JSON of jsCompound
}

type jsKind uint8

const (
	jsUndefined jsKind = iota
	jsNull
	jsBool
	jsNumber
	jsString
	jsCompound // an object or an array of the event
	jsShort    // an optional chain that ended early; undefined outside of it
)

// jsRun is one evaluation. Where the engine would throw, or where only the engine knows, evaluation goes on with undefined: nothing has effects, and what comes out is
// not used.
type jsRun struct {
	lookup event.Lookup
	slots  []jsValue // what const and let declare
	space  *space    // takes note of numbers; nil: nobody wants to know
	skips  bool      // the script reads a member of something that the event does not have
	gaveUp bool      // only the engine can tell
}

func (r *jsRun) giveUp() jsValue {
	r.gaveUp = true
	return jsValue{}
}

func jsText(s string) jsValue   { return jsValue{kind: jsString, text: s} }
func jsFloat(f float64) jsValue { return jsValue{kind: jsNumber, number: f} }

func jsTruth(b bool) jsValue {
	if b {
		return jsValue{kind: jsBool, number: 1}
	}
	return jsValue{kind: jsBool}
}

// jsOf makes a value of JSON; "" is undefined.
func (r *jsRun) jsOf(raw string) jsValue {
	if raw == "" {
		return jsValue{}
	}
	switch raw[0] {
	case '"':
		text := textOf(raw)
		if strings.Contains(raw, `\u`) && strings.ContainsRune(text, utf8.RuneError) {
			return r.giveUp() // half a character, which no text of Go holds
		}
		return jsText(text)
	case '{', '[':
		return jsValue{kind: jsCompound, text: raw}
	case 't', 'f':
		return jsTruth(raw == "true")
	case 'n':
		return jsValue{kind: jsNull}
	}
	number, _ := strconv.ParseFloat(raw, 64)
	if r.space != nil {
		r.space.keep(gjson.Result{Type: gjson.Number, Raw: raw, Num: number})
	}
	return jsFloat(number)
}

// truthy says what the value is as a condition.
func (v jsValue) truthy() bool {
	switch v.kind {
	case jsBool, jsNumber:
		return v.number != 0 && v.number == v.number
	case jsString:
		return v.text != ""
	}
	return v.kind == jsCompound
}

func (v jsValue) nullish() bool {
	return v.kind == jsUndefined || v.kind == jsNull || v.kind == jsShort
}

// member reads a property: of objects what they have, of strings and arrays little.
func (r *jsRun) member(v jsValue, s step) jsValue {
	switch {
	case v.kind == jsShort:
		return v
	case v.nullish():
		r.skips = true
		return jsValue{}
	case v.kind == jsCompound && v.text[0] == '{':
		return r.jsOf(event.Member(v.text, s.name))
	case v.kind == jsCompound && s.index >= 0 && r.space == nil: // the engine makes values of all elements, and takes note of their numbers
		return r.jsOf(elementOf(v.text, s.index))
	case v.kind == jsString && s.name == "length" && isASCII(v.text):
		return jsFloat(float64(len(v.text)))
	}
	return r.giveUp()
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// numeric is the value as a number.
func (r *jsRun) numeric(v jsValue) float64 {
	switch v.kind {
	case jsNumber, jsBool:
		return v.number
	case jsNull:
		return 0
	case jsUndefined:
		return math.NaN()
	case jsString:
		if f, ok := plainNumber(v.text); ok {
			return f
		}
	}
	r.giveUp()
	return math.NaN()
}

// plainNumber reads a text as a number where that is beyond doubt; the engine has its own ways with spaces, signs, fractions and other bases.
func plainNumber(s string) (f float64, ok bool) {
	switch {
	case s == "" || !isASCII(s):
		return 0, false
	case s[0] >= 'a' && s[0] <= 'z' && s[0] != 'i' || s[0] >= 'A' && s[0] <= 'Z' && s[0] != 'I':
		return math.NaN(), true
	case len(s) > maxExactDigits || leadingDigits(s) != s || s[0] == '0' && len(s) > 1:
		return 0, false
	}
	i, err := strconv.ParseInt(s, 10, 64)
	return float64(i), err == nil
}

// print is the value as text.
func (r *jsRun) print(v jsValue) string {
	switch v.kind {
	case jsString:
		return v.text
	case jsNumber:
		return printNumber(v.number)
	case jsBool:
		return strconv.FormatBool(v.number != 0)
	case jsNull:
		return "null"
	case jsUndefined:
		return "undefined"
	}
	r.giveUp()
	return ""
}

// printNumber is a number as JavaScript prints it.
func printNumber(f float64) string {
	if i := int64(f); float64(i) == f && i > -1e15 && i < 1e15 {
		return strconv.FormatInt(i, 10)
	}
	var space [32]byte
	return string(ftoa.FToStr(f, ftoa.ModeStandard, 0, space[:0]))
}

// identical is ===.
func (r *jsRun) identical(a, b jsValue) bool {
	switch {
	case a.kind != b.kind:
		return false
	case a.kind == jsCompound:
		r.giveUp() // the same one, or one that looks alike
		return false
	case a.kind == jsString:
		return a.text == b.text
	case a.kind == jsNumber, a.kind == jsBool:
		return a.number == b.number
	}
	return true
}

// equal is ==.
func (r *jsRun) equal(a, b jsValue) bool {
	switch {
	case a.kind == b.kind:
		return r.identical(a, b)
	case a.nullish() || b.nullish():
		return a.nullish() && b.nullish()
	case a.kind == jsCompound || b.kind == jsCompound || a.kind == jsBool && b.kind == jsString || a.kind == jsString && b.kind == jsBool:
		r.giveUp()
		return false
	}
	return r.numeric(a) == r.numeric(b)
}

// less is a < b, or a <= b.
func (r *jsRun) less(a, b jsValue, orEqual bool) bool {
	if a.kind == jsString && b.kind == jsString {
		if !isASCII(a.text) || !isASCII(b.text) { // they are ordered by their units in UTF-16
			r.giveUp()
		}
		return a.text < b.text || orEqual && a.text == b.text
	}
	x, y := r.numeric(a), r.numeric(b)
	return x < y || orEqual && x == y
}

// add is a + b.
func (r *jsRun) add(a, b jsValue) jsValue {
	if a.kind == jsCompound || b.kind == jsCompound {
		return r.giveUp()
	}
	if a.kind == jsString || b.kind == jsString {
		return jsText(r.print(a) + r.print(b))
	}
	return jsFloat(r.numeric(a) + r.numeric(b))
}

// typeName is what typeof says.
func (v jsValue) typeName() string {
	return [...]string{"undefined", "object", "boolean", "number", "string", "object", "undefined"}[v.kind]
}

// call calls a method of v.
func (r *jsRun) call(v jsValue, method string, arg jsValue) jsValue {
	switch {
	case v.kind == jsShort:
		return v
	case v.nullish():
		r.skips = true
		return jsValue{}
	case v.kind == jsCompound && method == "includes" && v.text[0] == '[' && r.space == nil:
		return r.has(v.text, arg)
	case v.kind != jsString || jsMethods[method] == 1 && arg.kind != jsString:
		return r.giveUp()
	}
	switch method {
	case "startsWith":
		return jsTruth(strings.HasPrefix(v.text, arg.text))
	case "endsWith":
		return jsTruth(strings.HasSuffix(v.text, arg.text))
	case "includes":
		return jsTruth(strings.Contains(v.text, arg.text))
	}
	if !isASCII(v.text) {
		return r.giveUp()
	}
	switch method {
	case "toLowerCase":
		return jsText(strings.ToLower(v.text))
	case "toUpperCase":
		return jsText(strings.ToUpper(v.text))
	case "trim":
		return jsText(strings.Trim(v.text, "\t\n\v\f\r "))
	}
	panic("BUG: method " + method)
}

// jsMethods are the methods that run without the engine, with the number of their arguments.
var jsMethods = map[string]int{"startsWith": 1, "endsWith": 1, "includes": 1, "toLowerCase": 0, "toUpperCase": 0, "trim": 0}

// has says whether an array of the event has an element that is v.
func (r *jsRun) has(array string, v jsValue) jsValue {
	found := false
	event.Elements(array, func(element string) bool {
		found = r.includes(r.jsOf(element), v)
		return !found
	})
	return jsTruth(found)
}

// includes says whether an element of an array is the one that includes looks for.
func (r *jsRun) includes(element, v jsValue) bool {
	if element.kind == jsNumber && v.kind == jsNumber {
		if element.number == 0 && v.number == 0 && math.Signbit(element.number) != math.Signbit(v.number) || element.number == 0 && math.Signbit(element.number) {
			r.giveUp() // the engine does not find -0
		}
		if element.number != element.number && v.number != v.number {
			return true // unlike ===
		}
	}
	return r.identical(element, v)
}

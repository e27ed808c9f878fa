package filters

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"text/template"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// functionNames is what an error about an unknown function offers.
const functionNames = "and, call, eq, ge, get, gt, header, html, index, js, json, json_indent, json_indent_quote, le, len, lt, ne, not, or, " +
	"print, printf, println, slice, urlquery"

// funcs are the functions of Go templates, besides text/template's own: Jitsu's, and those of the language that do not work with an
// event's values (its comparisons fail on a json.Number) or have no bound.
func (t *goTemplate) funcs() template.FuncMap {
	return template.FuncMap{
		tickName:            t.checkTime,
		"json":              toJSON,
		"json_indent":       toIndentedJSON,
		"json_indent_quote": toQuotedJSON,
		"get":               get,
		"header":            headerOf,
		"eq":                equalAny,
		"ne":                func(a, b any) bool { return !equal(a, b) },
		"lt":                func(a, b any) bool { c, ok := compare(a, b); return ok && c < 0 },
		"le":                func(a, b any) bool { c, ok := compare(a, b); return ok && c <= 0 },
		"gt":                func(a, b any) bool { c, ok := compare(a, b); return ok && c > 0 },
		"ge":                func(a, b any) bool { c, ok := compare(a, b); return ok && c >= 0 },
		"print":             bounded(fmt.Sprint),
		"println":           bounded(fmt.Sprintln),
		"printf":            func(format string, args ...any) (string, error) { return bound(fmt.Sprintf(format, args...)) },
		"html":              bounded(template.HTMLEscaper),
		"js":                bounded(template.JSEscaper),
		"urlquery":          bounded(template.URLQueryEscaper),
	}
}

func bounded(f func(...any) string) func(...any) (string, error) {
	return func(args ...any) (string, error) { return bound(f(args...)) }
}

func bound(s string) (string, error) {
	if len(s) > maxOutputBytes {
		return "", errTooLong
	}
	return s, nil
}

// toJSON is `json`: the value as JSON, members in alphabetical order.
func toJSON(v any) (string, error) { return encodeJSON(v, "") }

func toIndentedJSON(v any) (string, error) { return encodeJSON(v, "  ") }

// toQuotedJSON is `json_indent_quote`: the indented JSON as it stands inside a JSON string.
func toQuotedJSON(v any) (string, error) {
	s, err := toIndentedJSON(v)
	if err != nil {
		return "", err
	}
	s, err = encodeJSON(s, "")
	if err != nil {
		return "", err
	}
	return s[1 : len(s)-1], nil
}

func encodeJSON(v any, indent string) (string, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return bound(strings.TrimSuffix(b.String(), "\n"))
}

// get is `get . "/user/email||src" "default"`: the first of the paths that has a value other than null, else the default, else nil.
func get(object any, paths string, fallback ...any) any {
	for path := range strings.SplitSeq(paths, "||") {
		v := object
		for part := range strings.SplitSeq(strings.Trim(strings.TrimSpace(path), "/"), "/") {
			m, _ := v.(map[string]any)
			v = m[part]
		}
		if v != nil {
			return v
		}
	}
	if len(fallback) > 0 {
		return fallback[0]
	}
	return nil
}

// header returns the request header of that name, its first value, from an event's view; false: it has none.
func header(view, name string) (text string, ok bool) {
	gjson.Get(view, event.FieldHTTPContext+".headers").ForEach(func(k, v gjson.Result) bool {
		if !strings.EqualFold(k.Str, name) {
			return true
		}
		if v.IsArray() {
			v = v.Get("0")
		}
		text, ok = v.Str, v.Type == gjson.String
		return false
	})
	return text, ok
}

// headerOf is `header . "User-Agent"`: the request header's first value, nil where there is none.
func headerOf(ev any, name string) any {
	m, _ := ev.(map[string]any)
	m, _ = m[event.FieldHTTPContext].(map[string]any)
	m, _ = m["headers"].(map[string]any)
	for k, v := range m {
		if !strings.EqualFold(k, name) {
			continue
		}
		if list, ok := v.([]any); ok {
			if len(list) == 0 {
				return nil
			}
			return list[0]
		}
		return v
	}
	return nil
}

// equalAny is `eq a b c`: a equals b or c.
func equalAny(a any, others ...any) (bool, error) {
	if len(others) == 0 {
		return false, fmt.Errorf("missing argument for comparison")
	}
	for _, b := range others {
		if equal(a, b) {
			return true, nil
		}
	}
	return false, nil
}

// equal compares what events and templates hold. Values without an order between them are equal only if both are nil, or the same boolean;
// other mixtures of types are simply different.
func equal(a, b any) bool {
	if c, ok := compare(a, b); ok {
		return c == 0
	}
	switch a := a.(type) {
	case nil:
		return b == nil
	case bool:
		b, ok := b.(bool)
		return ok && a == b
	}
	return false
}

// compare orders numbers of any type, strings, and times; false when the two have no order, as a missing field has none.
// A string takes part in a comparison of numbers when it holds one.
func compare(a, b any) (int, bool) {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y), true
		}
	case time.Time:
		y, ok := b.(time.Time)
		return x.Compare(y), ok
	}
	if i, ok := integer(a); ok {
		if j, ok := integer(b); ok {
			return order(i, j), true
		}
	}
	x, okX := float(a)
	y, okY := float(b)
	if !okX || !okY || x != x || y != y {
		return 0, false
	}
	if x == y { // as floats, integers beyond 2⁵³ run together
		i, okI := bigInteger(a)
		j, okJ := bigInteger(b)
		if okI && okJ {
			return i.Cmp(j), true
		}
	}
	return order(x, y), true
}

func order[T int64 | float64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case string:
		return integer(json.Number(v))
	case json.Number:
		i, err := v.Int64()
		return i, err == nil
	}
	return 0, false
}

// bigInteger reads integers that do not fit 64 bits, up to the digits that a number has in practice.
func bigInteger(v any) (*big.Int, bool) {
	switch v := v.(type) {
	case json.Number:
		return bigInteger(v.String())
	case string:
		if len(v) <= 64 {
			return new(big.Int).SetString(v, 10)
		}
	}
	return nil, false
}

func float(v any) (float64, bool) {
	switch v := v.(type) {
	case string:
		return float(json.Number(v))
	case json.Number:
		f, err := v.Float64()
		return f, err == nil
	case nil:
		return 0, false
	}
	r := reflect.ValueOf(v)
	switch {
	case r.CanInt():
		return float64(r.Int()), true
	case r.CanUint():
		return float64(r.Uint()), true
	case r.CanFloat():
		return r.Float(), true
	}
	return 0, false
}

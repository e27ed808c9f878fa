package filters

import (
	"encoding/json"
	"strconv"
	"strings"
	"unsafe"

	"eventrouter/pkg/event"
)

// goDirect is a Go template that is evaluated without text/template: one of if, with, fields, constants and the functions that goCompiler.call knows. As for scripts, it comes to what
// text/template comes to, or gives up. It makes no errors: whatever is one is left to text/template, which words it.
type goDirect struct {
	names *event.Names
	body  goNode

	lookup event.Lookup // of the event in hand, as what follows
	out    []byte
	dot    any // of the with around
	gaveUp bool
}

type (
	goNode func(*goDirect)
	// goExpr has what a template would have: a string, a json.Number, a bool, an int, a float64 or nil; in place of maps and slices a goCompound.
	goExpr func(*goDirect) any
	// goCompound is the JSON of an object or an array.
	goCompound string
)

// evalText evaluates the template. text is valid until the next call.
func (d *goDirect) evalText(ev *event.Event) (text string, ok bool, err error, decided bool) {
	d.lookup.Reset(ev, d.names)
	d.out, d.dot, d.gaveUp = d.out[:0], nil, false
	d.body(d)
	d.dot = nil
	if d.gaveUp || len(d.out) > maxOutputBytes {
		return "", false, nil, false
	}
	return unsafe.String(unsafe.SliceData(d.out), len(d.out)), true, nil, true
}

func (d *goDirect) giveUp() any {
	d.gaveUp = true
	return nil
}

// goOf makes a value of JSON; "" is nil, as null is.
func goOf(raw string) any {
	if raw == "" {
		return nil
	}
	switch raw[0] {
	case '"':
		return textOf(raw)
	case '{', '[':
		return goCompound(raw)
	case 't', 'f':
		return raw == "true"
	case 'n':
		return nil
	}
	return json.Number(raw)
}

// field follows names below a value. What is missing or null has members that are missing.
func (d *goDirect) field(v any, names []string) any {
	for _, name := range names {
		c, ok := v.(goCompound)
		switch {
		case v == nil:
			return nil
		case !ok || c[0] != '{':
			return d.giveUp()
		}
		v = goOf(event.Member(string(c), name))
	}
	return v
}

// truth is what if makes of a value.
func (d *goDirect) truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		return v != ""
	case int:
		return v != 0
	case float64:
		return v != 0
	case goCompound:
		if v[0] == '{' && strings.Contains(string(v), "null") {
			d.giveUp() // it may be left out, see goTemplate.deep
		}
		return strings.TrimLeft(string(v[1:]), " \t\r\n") != string(v[len(v)-1:])
	}
	panic("BUG: type of a value")
}

func (d *goDirect) print(v any) {
	switch v := v.(type) {
	case nil:
		d.out = append(d.out, noValue...)
	case bool:
		d.out = strconv.AppendBool(d.out, v)
	case string:
		d.out = append(d.out, v...)
	case json.Number:
		d.out = append(d.out, v...)
	case int:
		d.out = strconv.AppendInt(d.out, int64(v), 10)
	default:
		d.giveUp()
	}
}

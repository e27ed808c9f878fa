package filters

import (
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"time"

	"github.com/dop251/goja"

	"eventrouter/pkg/event"
)

// Bounds of how deep a script's result nests. One that contains itself has no end; an event may be as deep as ingest lets one in.
const (
	maxResultDepth = 100
	maxEventDepth  = 128
)

var ownType = reflect.TypeFor[*object]()

// json runs the script on ev and returns what it came to as JSON; "" when it is undefined.
func (s *script) json(ev *event.Event) (text string, err error) {
	err = s.onEvent(ev, func(v goja.Value) error {
		if v == nil || goja.IsUndefined(v) {
			return nil
		}
		dst, err := s.appendJSON(s.out[:0], v, 0)
		s.out = dst
		text = string(dst)
		return err
	})
	if err != nil {
		return "", err
	}
	return text, nil
}

// errNoValue stands for what JSON leaves out: undefined, a function, a symbol.
var errNoValue = errors.New("no value")

// appendJSON appends v. It may run code of the script, so the limit must still hold.
func (s *script) appendJSON(dst []byte, v goja.Value, depth int) ([]byte, error) {
	deepest := maxResultDepth
	if s.lenient {
		deepest = maxEventDepth
	}
	switch {
	case len(dst) > s.room:
		return dst, errTooLong
	case depth > deepest:
		return dst, fmt.Errorf("the result is nested more than %d deep, or contains itself", deepest)
	case v == nil || goja.IsUndefined(v):
		if s.lenient {
			return dst, errNoValue
		}
		return append(dst, "null"...), nil
	case goja.IsNull(v):
		return append(dst, "null"...), nil
	}
	if o, ok := v.(*goja.Object); ok {
		return s.appendObject(dst, o, depth)
	}
	if text, ok := v.(goja.String); ok {
		return s.appendText(dst, text), nil
	}
	switch x := v.Export().(type) {
	case bool:
		return strconv.AppendBool(dst, x), nil
	case int64:
		return s.appendNumber(dst, float64(x), v)
	case float64:
		return s.appendNumber(dst, x, v)
	case *big.Int:
		return x.Append(dst, 10), nil
	}
	if s.lenient {
		return dst, errNoValue
	}
	return dst, errors.New("the result is or holds a symbol, which is no value")
}

func (s *script) appendNumber(dst []byte, f float64, v goja.Value) ([]byte, error) {
	if raw := s.space.numbers[f]; raw != "" {
		return append(dst, raw...), nil
	}
	if goja.IsNaN(v) || goja.IsInfinity(v) {
		if s.lenient {
			return append(dst, "null"...), nil
		}
		return dst, fmt.Errorf("the result is or holds %s, which is no number", v)
	}
	return append(dst, v.String()...), nil
}

func (s *script) appendObject(dst []byte, o *goja.Object, depth int) ([]byte, error) {
	switch class := o.ClassName(); class {
	case "Array":
		return s.appendArray(dst, o, depth)
	case "String":
		text, _ := o.ToString().(goja.String)
		return s.appendText(dst, text), nil
	case "Number":
		return s.appendNumber(dst, o.ToFloat(), o.ToNumber())
	case "Boolean":
		return strconv.AppendBool(dst, o.String() == "true"), nil
	case "Date":
		at, ok := o.Export().(time.Time)
		switch {
		case ok:
			return at.UTC().AppendFormat(dst, `"2006-01-02T15:04:05.000Z"`), nil
		case s.lenient:
			return append(dst, "null"...), nil
		}
		return dst, errors.New("the result is or holds an invalid date")
	case "Object":
	case "Function":
		if s.lenient {
			return dst, errNoValue
		}
		return dst, errors.New("the result is or holds a Function, which is no value")
	case "Promise":
		return dst, errors.New("the result is or holds a Promise; write await before it")
	default:
		if s.lenient && (class == "Error" || class == "RegExp") { // as JSON has them
			return append(dst, "{}"...), nil
		}
		return dst, fmt.Errorf("the result is or holds %s, which is no value", kindOf(o))
	}
	t := o.ExportType()
	if t == ownType {
		return s.appendOwn(dst, o.Export().(*object), depth)
	}
	if err := isPlain(o); err != nil {
		return dst, err
	}
	if s.lenient {
		if f, ok := goja.AssertFunction(o.Get("toJSON")); ok {
			v, err := f(o)
			if err != nil {
				return dst, err
			}
			return s.appendJSON(dst, v, depth+1)
		}
	}
	return s.appendPlain(dst, o, depth, "")
}

// isPlain gives an error for an object that is a collection or of a kind that is no value.
func isPlain(o *goja.Object) error {
	switch t := o.ExportType(); {
	case t == nil || t.Kind() == reflect.Slice:
		return errors.New("the result is or holds a collection, which is no value; write [...it] for a list")
	case t.Kind() != reflect.Map:
		if t == promiseType {
			return errors.New("the result is or holds a Promise; write await before it")
		}
		return fmt.Errorf("the result is or holds a %s, which is no value", kindName(o))
	}
	return nil
}

// appendPlain appends an object of the script, but for the member called without.
func (s *script) appendPlain(dst []byte, o *goja.Object, depth int, without string) ([]byte, error) {
	dst = append(dst, '{')
	comma := false
	for _, key := range o.Keys() {
		if key == without && without != "" {
			continue
		}
		var err error
		if dst, comma, err = s.appendMember(dst, &member{key: key, cell: cell{value: o.Get(key)}}, comma, depth); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendOwn appends an object of the event, as it stands there as far as the script did not look.
func (s *script) appendOwn(dst []byte, o *object, depth int) ([]byte, error) {
	if !o.read {
		return append(dst, o.json...), nil
	}
	return s.appendMembers(dst, o, depth, "")
}

// appendMembers appends an object of the event, but for the member called without.
func (s *script) appendMembers(dst []byte, o *object, depth int, without string) ([]byte, error) {
	dst = append(dst, '{')
	comma := false
	for i := range o.members {
		m := &o.members[i]
		if m.key == without && without != "" {
			continue
		}
		var err error
		if dst, comma, err = s.appendMember(dst, m, comma, depth); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendMember appends a member of an object, unless it is undefined.
func (s *script) appendMember(dst []byte, m *member, comma bool, depth int) ([]byte, bool, error) {
	in := m.in()
	if in.json == "" && (in.value == nil || goja.IsUndefined(in.value)) {
		return dst, comma, nil
	}
	from := len(dst)
	if comma {
		dst = append(dst, ',')
	}
	if m.rawKey != "" {
		dst = append(dst, m.rawKey...)
	} else {
		dst = event.AppendString(dst, m.key)
	}
	dst = append(dst, ':')
	if _, ok := in.value.(*goja.Object); !ok && in.json != "" { // what can be changed only by being replaced
		if len(dst)+len(in.json) > s.room {
			return dst, true, errTooLong
		}
		return append(dst, in.json...), true, nil
	}
	dst, err := s.appendJSON(dst, in.value, depth+1)
	if errors.Is(err, errNoValue) {
		return dst[:from], comma, nil
	}
	return dst, true, err
}

func (s *script) appendArray(dst []byte, o *goja.Object, depth int) ([]byte, error) {
	n := o.Get("length").ToInteger()
	if n > maxElements {
		return dst, fmt.Errorf("%w: an array is too long", ErrLimit)
	}
	of := s.space.lists[o]
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		v := o.Get(strconv.FormatInt(i, 10))
		if i < int64(len(of.json)) && unchanged(v, of.values[i]) {
			dst = append(dst, of.json[i]...)
			continue
		}
		var err error
		if dst, err = s.appendJSON(dst, v, depth+1); errors.Is(err, errNoValue) {
			dst, err = append(dst, "null"...), nil
		}
		if err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

// unchanged says whether v is the text, number or other thing without parts that was.
func unchanged(v goja.Value, was any) bool {
	if _, ok := v.(*goja.Object); ok || v == nil {
		return false
	}
	before, ok := was.(goja.Value)
	return ok && v.SameAs(before)
}

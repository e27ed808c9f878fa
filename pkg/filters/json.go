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

// maxResultDepth bounds how deep a script's result nests. One that contains itself has no end.
const maxResultDepth = 100

var ownType = reflect.TypeFor[*object]()

// json runs the script and returns what it came to as JSON; "" when it is undefined.
func (s *script) json(view string) (text string, err error) {
	err = s.on(view, func(v goja.Value) error {
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

// appendJSON appends v. It may run code of the script, so the limit must still hold.
func (s *script) appendJSON(dst []byte, v goja.Value, depth int) ([]byte, error) {
	switch {
	case len(dst) > maxOutputBytes:
		return dst, errTooLong
	case depth > maxResultDepth:
		return dst, fmt.Errorf("the result is nested more than %d deep, or contains itself", maxResultDepth)
	case v == nil || goja.IsNull(v) || goja.IsUndefined(v):
		return append(dst, "null"...), nil
	}
	if o, ok := v.(*goja.Object); ok {
		return s.appendObject(dst, o, depth)
	}
	if text, ok := v.(goja.String); ok {
		return event.AppendString(dst, text.String()), nil
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
	return dst, errors.New("the result is or holds a symbol, which is no value")
}

func (s *script) appendNumber(dst []byte, f float64, v goja.Value) ([]byte, error) {
	if raw := s.space.numbers[f]; raw != "" {
		return append(dst, raw...), nil
	}
	if goja.IsNaN(v) || goja.IsInfinity(v) {
		return dst, fmt.Errorf("the result is or holds %s, which is no number", v)
	}
	return append(dst, v.String()...), nil
}

func (s *script) appendObject(dst []byte, o *goja.Object, depth int) ([]byte, error) {
	switch class := o.ClassName(); class {
	case "Array":
		return s.appendArray(dst, o, depth)
	case "String":
		return event.AppendString(dst, o.String()), nil
	case "Number":
		return s.appendNumber(dst, o.ToFloat(), o.ToNumber())
	case "Boolean":
		return strconv.AppendBool(dst, o.String() == "true"), nil
	case "Date":
		at, ok := o.Export().(time.Time)
		if !ok {
			return dst, errors.New("the result is or holds an invalid date")
		}
		return at.UTC().AppendFormat(dst, `"2006-01-02T15:04:05.000Z"`), nil
	case "Object":
	default:
		return dst, fmt.Errorf("the result is or holds a %s, which is no value", class)
	}
	switch t := o.ExportType(); {
	case t == ownType:
		return s.appendOwn(dst, o.Export().(*object), depth)
	case t == nil || t.Kind() == reflect.Slice:
		return dst, errors.New("the result is or holds a collection, which is no value; write [...it] for a list")
	case t.Kind() != reflect.Map:
		return dst, fmt.Errorf("the result is or holds a %s, which is no value", t.Name())
	}
	dst = append(dst, '{')
	comma := false
	for _, key := range o.Keys() {
		var err error
		if dst, comma, err = s.appendMember(dst, key, o.Get(key), comma, depth); err != nil {
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
	dst = append(dst, '{')
	comma := false
	for _, m := range o.members {
		if m.value == nil {
			if comma {
				dst = append(dst, ',')
			}
			comma = true
			dst = append(append(event.AppendString(dst, m.key), ':'), m.json...)
			continue
		}
		var err error
		if dst, comma, err = s.appendMember(dst, m.key, m.value, comma, depth); err != nil {
			return dst, err
		}
	}
	return append(dst, '}'), nil
}

// appendMember appends a member of an object, unless it is undefined.
func (s *script) appendMember(dst []byte, key string, v goja.Value, comma bool, depth int) ([]byte, bool, error) {
	if v == nil || goja.IsUndefined(v) {
		return dst, comma, nil
	}
	if comma {
		dst = append(dst, ',')
	}
	dst, err := s.appendJSON(append(event.AppendString(dst, key), ':'), v, depth+1)
	return dst, true, err
}

func (s *script) appendArray(dst []byte, o *goja.Object, depth int) ([]byte, error) {
	n := o.Get("length").ToInteger()
	if n > maxElements {
		return dst, fmt.Errorf("%w: an array is too long", ErrLimit)
	}
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = s.appendJSON(dst, o.Get(strconv.FormatInt(i, 10)), depth+1); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

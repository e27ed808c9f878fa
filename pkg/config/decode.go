package config

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"time"
)

var (
	settingsType        = reflect.TypeFor[Settings]()
	deferredType        = reflect.TypeFor[deferred]()
	wordsType           = reflect.TypeFor[Words]()
	secretType          = reflect.TypeFor[Secret]()
	sizeType            = reflect.TypeFor[Size]()
	durationType        = reflect.TypeFor[time.Duration]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// decoder decodes nodes into Go values, strictly, and collects what is wrong. (yaml.v3 can be strict only when it decodes a whole
// file: its Node.Decode ignores unknown keys, and it stops at the first of them.)
type decoder struct {
	file     string
	problems Problems
	warnings Problems
}

// deferred is a part whose decoding this package's own code continues: unlike for Settings, what is wrong inside is not reported yet.
type deferred Settings

func (d deferred) value() *node { return Settings(d).node }

// place is where a node stands.
type place struct {
	path   string
	secret bool // the value is not to be shown
}

// secretName matches keys whose values are not to be shown, and none of which is shown below them.
var secretName = regexp.MustCompile(`(?i)token|secret|key|passw|auth`)

// openNames are keys that only sound like it.
var openNames = map[string]bool{"api_keys_reload_sec": true, "bot_keywords": true, "key_file": true}

func (at place) key(name string) place {
	return place{joinPath(at.path, name), at.secret || secretName.MatchString(name) && !openNames[name]}
}

func (at place) item(i int) place {
	return place{fmt.Sprintf("%s[%d]", at.path, i), at.secret}
}

// placeOf is the place of a part of the file, for which the names on the way to it count.
func placeOf(s Settings) place {
	return place{s.path, secretName.MatchString(s.path)}
}

// decodeInto decodes s into the value that into points to.
func (d *decoder) decodeInto(s Settings, into any) {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("BUG: decode into %T", into))
	}
	if s.node != nil {
		d.decode(s.node, placeOf(s), s.line, v.Elem())
	}
}

// decode decodes n, whose key stands on line, into v. A null leaves v as it is.
func (d *decoder) decode(n *node, at place, line int, v reflect.Value) {
	part := Settings{path: at.path, file: d.file, line: line, node: n}
	switch v.Type() {
	case deferredType:
		v.Set(reflect.ValueOf(deferred(part)))
		return
	case settingsType:
		d.problems = part.faults(n, d.problems)
		v.Set(reflect.ValueOf(part))
		return
	}
	if !d.sound(n, at) || n.null {
		return
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	d.decodeValue(n, at, v)
}

// sound reports what is wrong with n itself, and whether n can be used nevertheless.
func (d *decoder) sound(n *node, at place) bool {
	for _, f := range n.faults {
		d.report(f.line, at, "%s", f.text)
	}
	return len(n.faults) == 0 || n.kind != scalar
}

func (d *decoder) decodeValue(n *node, at place, v reflect.Value) {
	switch {
	case v.Addr().Type().Implements(textUnmarshalerType):
		d.decodeText(n, at, v)
	case v.Kind() == reflect.Struct:
		d.decodeStruct(n, at, v)
	case v.Kind() == reflect.Map:
		d.decodeMap(n, at, v)
	case v.Kind() == reflect.Slice:
		d.decodeSlice(n, at, v)
	case n.kind != scalar:
		d.report(n.line, at, "must be a single value, not %s", n.kind)
	default:
		if err := setScalar(n.text, v); err != nil {
			d.report(n.line, at, "%s %w", shown(n, at), err)
		}
	}
}

func (d *decoder) decodeText(n *node, at place, v reflect.Value) {
	if n.kind != scalar {
		d.report(n.line, at, "must be a single value, not %s", n.kind)
		return
	}
	err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(n.text))
	switch {
	case err == nil:
	case at.secret || n.source != n.text: // the error may quote it
		d.report(n.line, at, "%s is not understood", shown(n, at))
	default:
		d.report(n.line, at, "%s is not understood: %v", shown(n, at), err)
	}
}

func (d *decoder) decodeStruct(n *node, at place, v reflect.Value) {
	if n.kind != mapping {
		d.report(n.line, at, "must hold keys with values%s, not %s", fieldsOf(v.Type()).examples(), shown(n, at))
		return
	}
	fields := fieldsOf(v.Type())
	var ignored map[string]leftOut
	if l, ok := v.Interface().(interface{ leftOut() map[string]leftOut }); ok {
		ignored = l.leftOut()
	}
	for _, p := range n.pairs {
		if f, ok := fields.find(p.key); ok {
			d.decode(p.value, at.key(p.key), p.line, v.Field(f.index))
		} else if l, ok := ignored[p.key]; ok {
			d.reportLeftOut(l, n, p, at.key(p.key))
		} else {
			d.report(p.line, at, "%s", fields.unknown(p.key, at.secret))
		}
	}
}

func (d *decoder) reportLeftOut(l leftOut, section *node, p pair, at place) {
	if l.matters != nil && l.matters(section) {
		d.report(p.line, at, "%s", l.harm)
		return
	}
	d.warnings = append(d.warnings, Problem{Pos: Pos{File: d.file, Line: p.line}, Path: at.path, Text: "is not used: " + l.advice})
}

func (d *decoder) decodeMap(n *node, at place, v reflect.Value) {
	if n.kind != mapping {
		d.report(n.line, at, "must be a map, not %s", shown(n, at))
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for _, p := range n.pairs {
		key := reflect.ValueOf(p.key).Convert(v.Type().Key())
		value := reflect.New(v.Type().Elem()).Elem()
		if old := v.MapIndex(key); old.IsValid() {
			value.Set(old)
		}
		d.decode(p.value, at.key(p.key), p.line, value)
		v.SetMapIndex(key, value)
	}
}

func (d *decoder) decodeSlice(n *node, at place, v reflect.Value) {
	if n.kind == scalar && (v.Type() == wordsType || v.Type().Elem() == secretType) {
		n = &node{kind: sequence, line: n.line, items: []*node{n}}
	}
	if n.kind != sequence {
		d.report(n.line, at, "must be a list, not %s", shown(n, at))
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.items), len(n.items))
	for i, item := range n.items {
		if item.null && len(item.faults) == 0 {
			d.report(item.line, at.item(i), "is empty")
			continue
		}
		d.decode(item, at.item(i), item.line, list.Index(i))
	}
	v.Set(list)
}

func (d *decoder) report(line int, at place, format string, args ...any) {
	d.problems = append(d.problems, Problem{Pos: Pos{File: d.file, Line: line}, Path: at.path, Text: fmt.Errorf(format, args...).Error()})
}

// shown is n as a message may quote it: as it stands in the file, with no variable replaced, and not at all when its key
// sounds like a secret's.
func shown(n *node, at place) string {
	if n.kind != scalar {
		return n.kind.String()
	}
	if at.secret {
		return "the value"
	}
	return fmt.Sprintf("%q", cut(n.source))
}

// fields are the keys of a struct.
type fields []field

type field struct {
	name  string
	index int
}

// fieldsOf lists the fields of t that have a yaml tag; others are not for the file.
func fieldsOf(t reflect.Type) fields {
	var fs fields
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			fs = append(fs, field{name, i})
		}
	}
	return fs
}

func (fs fields) find(name string) (field, bool) {
	for _, f := range fs {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// unknown words that there is no such key. Where secrets stand, a key may be one that lost its own key: it is not shown.
// examples names the first keys, in brackets.
func (fs fields) examples() string {
	if len(fs) == 0 {
		return ""
	}
	var names []string
	for _, f := range fs[:min(len(fs), 3)] {
		names = append(names, f.name)
	}
	if len(fs) > len(names) {
		names = append(names, "…")
	}
	return " (" + strings.Join(names, ", ") + ")"
}

func (fs fields) unknown(key string, secret bool) string {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.name
	}
	if near := Nearest(key, names); near != "" {
		return fmt.Sprintf("unknown key %q (did you mean %q?)", cut(key), near)
	}
	known := strings.Join(names, ", ")
	if secret {
		return fmt.Sprintf("unknown key (known are %s)", known)
	}
	return fmt.Sprintf("unknown key %q (known are %s)", cut(key), known)
}

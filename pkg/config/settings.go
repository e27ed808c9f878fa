package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
)

// Settings is a part of the file that a component decodes itself. The zero Settings is a part that the file does not have.
// It is read-only and may be used from many goroutines.
type Settings struct {
	path string
	file string
	line int
	node *node // nil: not in the file
}

// NewSettings parses a YAML fragment as the settings at path, with the variables of the process. It is for tests of components.
func NewSettings(name, path string, data []byte) (Settings, error) {
	root, err := parseYAML(name, data, &variables{lookup: os.LookupEnv})
	if err != nil {
		return Settings{}, err
	}
	s := Settings{path: path, file: name, line: 1, node: root}
	return s, s.faults(s.node, nil).Sorted().Err()
}

// Decode decodes strictly into what into points to, mostly a struct with `yaml` tags. What the file does not say stays as into has it,
// so defaults go in first. All problems are returned at once, as a [Problems]; what was good has been decoded nevertheless, so that a
// component can check on.
//
// Besides Go's own types it knows [Secret], [Text], [Words], [Size], [time.Duration], Settings (a part to decode later) and
// [encoding.TextUnmarshaler].
func (s Settings) Decode(into any) error {
	d := decoder{file: s.file}
	d.decodeInto(s, into)
	return d.problems.Sorted().Err()
}

// Exists reports whether the file has this part, be it empty.
func (s Settings) Exists() bool { return s.node != nil }

// Path is where the part stands, such as destinations.crm.hubspot.
func (s Settings) Path() string { return s.path }

// Pos is the line of the part's own key; for a part that is missing, of the part around it.
func (s Settings) Pos() Pos { return Pos{File: s.file, Line: s.line} }

// Has reports whether the file has key, be it empty. A key below is reached by dots: "events.hold"; * stands for any one
// member of a map or list.
func (s Settings) Has(key string) bool {
	_, ok := find(s.node, strings.Split(key, "."))
	return ok
}

// KeyPos is the line of key, written as for Has; that of the nearest part around it if key is missing.
func (s Settings) KeyPos(key string) Pos {
	pos := s.Pos()
	n := s.node
	for _, name := range strings.Split(key, ".") {
		p, ok := n.child(name)
		if !ok {
			break
		}
		pos.Line, n = p.line, p.value
	}
	return pos
}

// Problem is a problem with key, written as for Has; an empty key means the part itself.
func (s Settings) Problem(key, format string, args ...any) Problem {
	p := Problem{Pos: s.Pos(), Path: s.path, Text: fmt.Sprintf(format, args...)}
	if key != "" {
		p.Pos, p.Path = s.KeyPos(key), joinPath(s.path, key)
	}
	return p
}

// Shape is how a part is written.
type Shape uint8

// Shapes of parts. What the file does not have is Nothing, as is null.
const (
	Nothing Shape = iota
	Single        // one value
	Map
	List
)

// Shape says how the part is written, for components whose keys are not known beforehand.
func (s Settings) Shape() Shape {
	switch {
	case s.node == nil || s.node.null:
		return Nothing
	case s.node.kind == mapping:
		return Map
	case s.node.kind == sequence:
		return List
	}
	return Single
}

// Member is one key of a map with its value.
type Member struct {
	Key   string
	Value Settings
}

// Members lists what a map holds, in the order of the file; nothing for other shapes.
func (s Settings) Members() []Member {
	if s.Shape() != Map {
		return nil
	}
	members := make([]Member, len(s.node.pairs))
	for i, p := range s.node.pairs {
		members[i] = Member{p.key, Settings{path: joinPath(s.path, cut(p.key)), file: s.file, line: p.line, node: p.value}}
	}
	return members
}

// Items lists the elements of a list; nothing for other shapes.
func (s Settings) Items() []Settings {
	if s.Shape() != List {
		return nil
	}
	items := make([]Settings, len(s.node.items))
	for i, item := range s.node.items {
		items[i] = Settings{path: fmt.Sprintf("%s[%d]", s.path, i), file: s.file, line: item.line, node: item}
	}
	return items
}

// Text is a single value as it is written, with variables replaced, as for a string field; "" for other shapes.
func (s Settings) Text() string {
	if s.Shape() != Single {
		return ""
	}
	return s.node.text
}

// FromVariable says whether a variable has filled in a single value: messages should not show it.
func (s Settings) FromVariable() bool { return s.Shape() == Single && s.node.source != s.node.text }

// find follows names down from n.
func find(n *node, names []string) (*node, bool) {
	if n == nil || len(names) == 0 {
		return n, n != nil
	}
	if names[0] != "*" {
		p, _ := n.child(names[0])
		return find(p.value, names[1:])
	}
	for _, p := range n.pairs {
		if found, ok := find(p.value, names[1:]); ok {
			return found, true
		}
	}
	for _, item := range n.items {
		if found, ok := find(item, names[1:]); ok {
			return found, true
		}
	}
	return nil, false
}

// faults appends the faults of n and of everything below it.
func (s Settings) faults(n *node, ps Problems) Problems {
	if n == nil {
		return ps
	}
	for _, f := range n.faults {
		ps = append(ps, Problem{Pos: Pos{File: s.file, Line: f.line}, Path: s.path, Text: f.text})
	}
	for _, p := range n.pairs {
		below := s
		below.path = joinPath(s.path, p.key)
		ps = below.faults(p.value, ps)
	}
	for i, item := range n.items {
		below := s
		below.path = fmt.Sprintf("%s[%d]", s.path, i)
		ps = below.faults(item, ps)
	}
	return ps
}

func joinPath(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Keys lists, by dots and in the order of the struct, every key that Decode understands for what v is or points to. A member of a map
// or list is *. It is for tests that documentation is whole.
func Keys(v any) []string {
	return appendKeys(nil, "", reflect.TypeOf(v))
}

func appendKeys(keys []string, path string, t reflect.Type) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == settingsType || t == deferredType || reflect.PointerTo(t).Implements(textUnmarshalerType):
	case t.Kind() == reflect.Struct:
		for _, f := range fieldsOf(t) {
			name := joinPath(path, f.name)
			keys = appendKeys(append(keys, name), name, t.Field(f.index).Type)
		}
	case t.Kind() == reflect.Map || t.Kind() == reflect.Slice:
		return appendKeys(keys, joinPath(path, "*"), t.Elem())
	}
	return keys
}

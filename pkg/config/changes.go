package config

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Changes lists what differs from old to c in API keys, destinations and apps, a short line each, for logs: names and never values.
func (c *Config) Changes(old *Config) []string {
	var lines []string
	add := func(format ...string) { lines = append(lines, strings.Join(format, "")) }
	pairUp(old.APIKeys, c.APIKeys, func(k APIKey) string { return k.ID }, func(id string, was, is *APIKey) {
		switch name := "API key " + id + ": "; {
		case was == nil:
			add(name, "added")
		case is == nil:
			add(name, "removed")
		default:
			for _, field := range changedFields(*was, *is) {
				add(name, field, " changed")
			}
		}
	})
	pairUp(old.Destinations, c.Destinations, func(d Destination) string { return d.Name }, func(id string, was, is *Destination) {
		switch name := "destination " + id + ": "; {
		case was == nil && is.Staged:
			add(name, "added, staged")
		case was == nil:
			add(name, "added")
		case is == nil:
			add(name, "removed")
		default:
			for _, key := range is.changedKeys(was) {
				add(name, key, " changed")
			}
		}
	})
	pairUp(old.Apps, c.Apps, func(a App) string { return a.Name }, func(name string, was, is *App) {
		switch {
		case was == nil:
			add("app ", name, ": added")
		case is == nil:
			add("app ", name, ": removed")
		default:
			for _, field := range changedFields(*was, *is) {
				add("app ", name, ": ", field, " changed")
			}
		}
	})
	return lines
}

// pairUp calls f for each name in old or new, in the order of new and then of what is no more.
func pairUp[T any](old, now []T, name func(T) string, f func(name string, was, is *T)) {
	byName := make(map[string]*T, len(old)) // there may be thousands of keys
	for i := range old {
		byName[name(old[i])] = &old[i]
	}
	seen := make(map[string]bool, len(now))
	for i := range now {
		id := name(now[i])
		seen[id] = true
		f(id, byName[id], &now[i])
	}
	for i := range old {
		if id := name(old[i]); !seen[id] {
			f(id, &old[i], nil)
		}
	}
}

// notCompared are fields of Destination that say where it stands, or are compared in another way.
var notCompared = map[string]bool{"Name": true, "FilterPos": true, "AccountPos": true, "Settings": true}

// keyOfField names the key of a field where it is not the field's own name in small letters.
var keyOfField = map[string]string{
	"Filter": "data_layout.table_name_template", "Transform": "data_layout.transform", "TransformFile": "data_layout.transform_file", "Match": "filter",
	"OldClientSecrets": "client_secret (older)", "OldServerSecrets": "server_secret (older)",
}

// changedKeys are the keys of d that differ from old.
func (d *Destination) changedKeys(old *Destination) []string {
	keys := changedFields(*old, *d)
	was, is := old.Settings.node, d.Settings.node
	for _, key := range differing(was, is, 2) {
		keys = append(keys, joinPath(d.Type, key))
	}
	return keys
}

// changedFields lists the exported fields of two values of one struct type that differ, as keys; those of a struct inside singly.
func changedFields(was, is any) (keys []string) {
	a, b := reflect.ValueOf(was), reflect.ValueOf(is)
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if notCompared[name] || same(a.Field(i), b.Field(i)) {
			continue
		}
		key, ok := keyOfField[name]
		if !ok {
			key = snake(name)
		}
		if !isPlain(a.Field(i).Type()) {
			keys = append(keys, key)
			continue
		}
		for _, below := range changedFields(a.Field(i).Interface(), b.Field(i).Interface()) {
			keys = append(keys, joinPath(key, below))
		}
	}
	return keys
}

// same reports whether two values say the same, wherever they stand.
func same(a, b reflect.Value) bool {
	switch {
	case a.Type() == settingsType:
		return a.Interface().(Settings).Same(b.Interface().(Settings))
	case a.Type() == reflect.TypeFor[Pos]():
		return true
	case a.Kind() == reflect.Slice && (a.IsNil() == b.IsNil()):
		return a.Len() == b.Len() && !slices.ContainsFunc(indices(a.Len()), func(i int) bool { return !same(a.Index(i), b.Index(i)) })
	case a.Kind() == reflect.Pointer && !a.IsNil() && !b.IsNil():
		return same(a.Elem(), b.Elem())
	case isPlain(a.Type()):
		return !slices.ContainsFunc(indices(a.NumField()), func(i int) bool { return !same(a.Field(i), b.Field(i)) })
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// isPlain says whether t is a struct of which all fields can be looked at.
func isPlain(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return !f.IsExported() })
}

// snake is a field's name as keys are written: OnlyTokens is only_tokens, ID is id.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// Same reports whether two parts say the same, wherever they stand and in whatever order their keys are.
func (s Settings) Same(other Settings) bool { return len(differing(s.node, other.node, 0)) == 0 }

// differing lists where a and b differ, by keys down to a depth; "" is the node itself.
func differing(a, b *node, depth int) []string {
	switch {
	case a == nil && b == nil:
		return nil
	case a == nil || b == nil || a.kind != b.kind:
		if depth > 0 && (a == nil || a.kind == mapping) && (b == nil || b.kind == mapping) {
			break // each member is one that came or went
		}
		return []string{""}
	case a.kind == scalar:
		if a.text != b.text || a.null != b.null {
			return []string{""}
		}
		return nil
	case a.kind == sequence:
		if !slices.EqualFunc(a.items, b.items, func(x, y *node) bool { return len(differing(x, y, 0)) == 0 }) {
			return []string{""}
		}
		return nil
	}
	var keys []string
	member := func(key string, x, y *node) {
		for _, below := range differing(x, y, depth-1) {
			if below == "" {
				keys = append(keys, key)
			} else {
				keys = append(keys, key+"."+below)
			}
		}
	}
	for _, p := range b.members() {
		other, _ := a.child(p.key)
		member(p.key, other.value, p.value)
	}
	for _, p := range a.members() {
		if _, ok := b.child(p.key); !ok {
			member(p.key, p.value, nil)
		}
	}
	if depth <= 0 && len(keys) > 0 {
		return []string{""}
	}
	return keys
}

func (n *node) members() []pair {
	if n == nil {
		return nil
	}
	return n.pairs
}

// Merge is c with what next says differently, as far as that may change while a router runs: API keys, destinations, and of the server section the keys, such
// as log.level, for which applies reports true. It also returns those keys that were taken over, and those that differ and wait for a restart.
func (c *Config) Merge(next *Config, applies func(key string) bool) (merged *Config, taken, waiting []string) {
	out := *c
	out.APIKeys, out.Destinations, out.Apps, out.Elsewhere, out.Scripts, out.Warnings = next.APIKeys, next.Destinations, next.Apps, next.Elsewhere, next.Scripts, next.Warnings
	running, wanted := serverOf(c.Server), serverOf(next.Server)
	mergeFields(reflect.ValueOf(&running).Elem(), reflect.ValueOf(&wanted).Elem(), "", func(key string) bool {
		if applies(key) {
			taken = append(taken, "server."+key)
			return true
		}
		waiting = append(waiting, "server."+key)
		return false
	})
	out.Server = running.config()
	out.Server.TLS.Pos, out.Server.Encryption = c.Server.TLS.Pos, c.Server.Encryption
	if running.Encryption.KeyFile == wanted.Encryption.KeyFile && !slices.Equal(c.Server.Encryption.FileKeys, next.Server.Encryption.FileKeys) {
		waiting = append(waiting, "server.encryption.key_file")
	}
	mine, other := reflect.ValueOf(*c), reflect.ValueOf(*next)
	for i := range mine.NumField() {
		if name := mine.Type().Field(i).Name; !merges[name] && !same(mine.Field(i), other.Field(i)) {
			waiting = append(waiting, snake(name))
		}
	}
	return &out, taken, waiting
}

// merges are the fields of Config that Merge looks at one by one; any other waits for a restart.
var merges = map[string]bool{"File": true, "Server": true, "APIKeys": true, "Destinations": true, "Apps": true, "Elsewhere": true, "Scripts": true, "Warnings": true}

// mergeFields asks take for each key that differs, and copies those for which it says true.
func mergeFields(to, from reflect.Value, path string, take func(key string) bool) {
	for _, f := range fieldsOf(to.Type()) {
		a, b, key := to.Field(f.index), from.Field(f.index), joinPath(path, f.name)
		if reflect.DeepEqual(a.Interface(), b.Interface()) {
			continue
		}
		if a.Kind() == reflect.Struct && len(fieldsOf(a.Type())) > 0 {
			mergeFields(a, b, key, take)
		} else if take(key) {
			a.Set(b)
		}
	}
}

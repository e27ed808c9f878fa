package enrich

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// path is where a value stands in an event, in Jitsu's words: /a/b, or several joined by ||. Reading takes the first that exists; writing the first
// whose parents exist, else the first. An empty alternative is the event itself.
type path [][]string

const (
	maxPathBytes = 1024
	maxPathNames = 16 // in one alternative: what is written is not nested deeper
)

// parsePath reads a path; the leading / may be left out.
func parsePath(text string) (path, error) {
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("is required: a path such as /location or /user/location")
	}
	if len(text) > maxPathBytes {
		return nil, fmt.Errorf("is longer than %d bytes", maxPathBytes)
	}
	var p path
	for one := range strings.SplitSeq(text, "||") {
		one = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(one), "/"), "/")
		var names []string
		if one != "" {
			names = strings.Split(one, "/")
		}
		switch {
		case slices.Contains(names, ""):
			return nil, fmt.Errorf("%q has an empty name; write /a/b", text)
		case len(names) > maxPathNames:
			return nil, fmt.Errorf("%q has more than %d names in a row", text, maxPathNames)
		}
		p = append(p, names)
	}
	return p, nil
}

// find returns the value at names below v. It does not exist if one of them is missing or is no object's.
func find(v gjson.Result, names []string) gjson.Result {
	for _, name := range names {
		v = member(v, name)
	}
	return v
}

// member finds a member by its name, without the syntax that gjson gives names.
func member(object gjson.Result, name string) (found gjson.Result) {
	if !object.IsObject() {
		return found
	}
	object.ForEach(func(k, v gjson.Result) bool {
		if k.Str == name {
			found = v
			return false
		}
		return true
	})
	return found
}

// target chooses where to write: the first alternative whose parents are there.
func (p path) target(root gjson.Result) []string {
	for _, names := range p {
		if len(names) == 0 || find(root, names[:len(names)-1]).IsObject() {
			return names
		}
	}
	return p[0]
}

// appendWith appends the object v with the members of add at names below it. What is there and is no object gives way; of an object the other
// members stay.
func appendWith(dst []byte, v gjson.Result, names []string, add gjson.Result) []byte {
	dst = append(dst, '{')
	first := true
	put := func(rawKey string) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, rawKey...)
		dst = append(dst, ':')
	}
	done := false
	if v.IsObject() {
		v.ForEach(func(k, old gjson.Result) bool {
			switch {
			case len(names) == 0 && member(add, k.Str).Exists():
				return true
			case len(names) > 0 && k.Str == names[0]:
				done = true
				put(k.Raw)
				dst = appendWith(dst, old, names[1:], add)
			default:
				put(k.Raw)
				dst = append(dst, old.Raw...)
			}
			return true
		})
	}
	switch {
	case len(names) == 0:
		add.ForEach(func(k, v gjson.Result) bool {
			put(k.Raw)
			dst = append(dst, v.Raw...)
			return true
		})
	case !done:
		put(string(event.AppendString(nil, names[0])))
		dst = appendWith(dst, gjson.Result{}, names[1:], add)
	}
	return append(dst, '}')
}

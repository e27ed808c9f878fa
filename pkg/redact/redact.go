// Package redact hides the values of members of events from people: what the configuration calls `redact`.
//
//	event ─ JSON ─▶ the event with *** in their places        what is shown of events
//	event ─ Values ─▶ texts ─ Text, Detail ─▶ *** in errors     what is said of events
//	                     └─ Hold ─▶ Handler ─▶ the log          what others say of events in hand
//
// What is stored and delivered is not changed. A value that somebody made anew of another one, such as a hash, is not known here.
package redact

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidwall/gjson"
)

// mask stands in the place of a value.
const mask = "***"

// Fields are the members to hide. Make one with New. A nil *Fields hides nothing. Its methods may be called from many goroutines.
type Fields struct {
	rules atomic.Pointer[rules]

	mu     sync.Mutex     // guards the fields below
	held   map[string]int // values in hand: how often
	recent []string       // values that were in hand, the oldest at next
	next   int
	known  map[string]bool // those of recent
}

// rules are what one configuration says.
type rules struct {
	paths  [][]string // names, from the outermost to the member's own
	person bool       // an e-mail is hidden
}

// New makes Fields of rules as the configuration spells them, which has checked them: names, and names with dots between them.
func New(names []string) *Fields {
	f := &Fields{held: map[string]int{}, known: map[string]bool{}}
	f.Set(names)
	return f
}

// Set replaces the rules.
func (f *Fields) Set(names []string) {
	r := &rules{}
	for _, name := range names {
		r.paths = append(r.paths, strings.Split(name, "."))
	}
	r.person = r.hides([]string{"user"}, "email")
	f.rules.Store(r)
}

// Active says whether there is anything to hide.
func (f *Fields) Active() bool { return f != nil && len(f.rules.Load().paths) > 0 }

// Person is what may be shown of an e-mail that a person is known by.
func (f *Fields) Person(email string) string {
	if email == "" || !f.Active() || !f.rules.Load().person {
		return email
	}
	return mask
}

// hides says whether the member name is hidden that stands at the end of path. A rule means a member wherever its names are the last ones of the way to
// it; case does not count. `user` also means the traits of Segment's protocol.
func (r *rules) hides(path []string, name string) bool {
	for _, rule := range r.paths {
		outer := rule[:len(rule)-1]
		if len(outer) > len(path) || !strings.EqualFold(rule[len(rule)-1], name) {
			continue
		}
		found := true
		for i, want := range outer {
			have := path[len(path)-len(outer)+i]
			found = found && (want == "*" || strings.EqualFold(want, have) || strings.EqualFold(want, "user") && strings.EqualFold(have, "traits"))
		}
		if found {
			return true
		}
	}
	return false
}

// maxDepth is deeper than what ingest lets in; below it all is hidden.
const maxDepth = 200

// JSON returns a JSON value with *** in the place of what is hidden; data itself where nothing is. What is no JSON is hidden whole.
func (f *Fields) JSON(data []byte) []byte {
	if !f.Active() || len(data) == 0 {
		return data
	}
	if !gjson.ValidBytes(data) {
		return []byte(`"` + mask + `"`)
	}
	r := f.rules.Load()
	found := false
	r.walk(gjson.ParseBytes(data), nil, func(gjson.Result) { found = true })
	if !found {
		return data
	}
	return r.append(make([]byte, 0, len(data)), gjson.ParseBytes(data), nil)
}

// walk calls hidden for each hidden member in v.
func (r *rules) walk(v gjson.Result, path []string, hidden func(gjson.Result)) {
	if len(path) > maxDepth {
		hidden(v)
		return
	}
	v.ForEach(func(k, member gjson.Result) bool {
		switch {
		case v.IsObject() && r.hides(path, k.Str):
			hidden(member)
		case !member.IsObject() && !member.IsArray():
		case v.IsArray():
			r.walk(member, path, hidden) // elements stand where their list stands
		default:
			r.walk(member, append(path, k.Str), hidden)
		}
		return true
	})
}

// append appends v without what is hidden.
func (r *rules) append(dst []byte, v gjson.Result, path []string) []byte {
	open, shut := byte('{'), byte('}')
	switch {
	case !v.IsObject() && !v.IsArray():
		return append(dst, v.Raw...)
	case len(path) > maxDepth:
		return append(dst, `"`+mask+`"`...)
	case v.IsArray():
		open, shut = '[', ']'
	}
	dst = append(dst, open)
	first := true
	v.ForEach(func(k, member gjson.Result) bool {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if v.IsArray() {
			dst = r.append(dst, member, path)
			return true
		}
		dst = append(append(dst, k.Raw...), ':')
		if r.hides(path, k.Str) {
			dst = append(dst, `"`+mask+`"`...)
		} else {
			dst = r.append(dst, member, append(path, k.Str))
		}
		return true
	})
	return append(dst, shut)
}

// Malformed hides what follows the name of a hidden member in a text that was meant to be JSON, as far as one can tell: up to the next comma, bracket or
// line, or to the end of what is in quotes. The outer names of a rule do not count, for the text need not show them.
func (f *Fields) Malformed(text string) string {
	if !f.Active() {
		return text
	}
	text = readable(text)
	for _, rule := range f.rules.Load().paths {
		text = hideBehind(text, rule[len(rule)-1])
	}
	return text
}

// escapedWord are escapes that JSON may write the characters of names with, escapedByte those of a form.
var (
	escapedWord = regexp.MustCompile(`\\u00(3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|2[dD])`)
	escapedByte = regexp.MustCompile(`%(0[aAdD]|[2-6][0-9a-fA-F]|7[0-9a-eA-E])`)
)

// readable is a malformed text without the escapes in which a name would not be found. In a text with quotes, which is no form, a % is one.
func readable(text string) string {
	plain := func(escape string) string {
		c, _ := strconv.ParseUint(escape[len(escape)-2:], 16, 8) // the expressions let nothing else in
		return string(rune(c))
	}
	if strings.Contains(text, `\u00`) {
		text = escapedWord.ReplaceAllStringFunc(text, plain)
	}
	if strings.Contains(text, "%") && !strings.Contains(text, `"`) {
		text = escapedByte.ReplaceAllStringFunc(text, plain)
	}
	return text
}

func hideBehind(text, name string) string {
	var b strings.Builder
	for {
		at := indexFold(text, name)
		if at < 0 {
			b.WriteString(text)
			return b.String()
		}
		end := at + len(name)
		whole := (at == 0 || !isWord(text[at-1])) && (end == len(text) || !isWord(text[end]))
		value := end + len(text[end:]) - len(strings.TrimLeft(text[end:], "\"'\\ \t"))
		if !whole || value == len(text) || text[value] != ':' && text[value] != '=' {
			b.WriteString(text[:end])
			text = text[end:]
			continue
		}
		value++
		value += len(text[value:]) - len(strings.TrimLeft(text[value:], " \t\r\n"))
		b.WriteString(text[:value] + mask)
		text = text[value+valueLength(text[value:]):]
	}
}

// valueLength is the length of the value that text begins with.
func valueLength(text string) int {
	if text == "" {
		return 0
	}
	switch quote := text[0]; quote {
	case '"', '\'':
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case quote:
				return i + 1
			}
		}
		return len(text)
	case '{', '[':
		return nestedLength(text)
	}
	if end := strings.IndexAny(text, ",}]&\r\n"); end >= 0 {
		return end
	}
	return len(text)
}

// nestedLength is the length of the object or list that text begins with; all of it where that does not end.
func nestedLength(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += valueLength(text[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrLeftOut makes Options.Read leave a part out, as if nothing were known of it and nothing wrong: for commands that do without.
var ErrLeftOut = errors.New("left out")

// errNoVariables is said of ${env.…} in what comes from elsewhere: who may write that may not read this process's variables.
var errNoVariables = errors.New("${env.…} is not replaced in what comes from elsewhere; write the value")

// elsewhere reads the part that stands at an address: the value of key in what is found there. False: there is none to go on with.
func (l *loader) elsewhere(section Settings, a Address, key string) (Settings, bool) {
	l.cfg.Elsewhere = append(l.cfg.Elsewhere, a)
	if exposed(string(a.raw)) {
		l.warn(section, "", "comes over plain http: whoever is on the way can read and change it; use https")
	}
	if l.read == nil {
		l.fail(section, "", "stands elsewhere, and nothing is read from elsewhere here")
		return Settings{}, false
	}
	data, err := l.read(a, l.cfg.Server)
	switch {
	case errors.Is(err, ErrLeftOut):
		return Settings{}, false
	case err != nil:
		l.fail(section, "", "cannot be read from %s: %v", a, err)
		return Settings{}, false
	}
	return l.body(a.String(), data, key)
}

// body reads {key: …}, which is all that may stand elsewhere.
func (l *loader) body(name string, data []byte, key string) (Settings, bool) {
	form := fmt.Sprintf(`must be JSON of the form {%q: …}`, key)
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("<")) {
		l.problems = append(l.problems, Problem{Pos: Pos{File: name, Line: 1}, Text: "is HTML or XML, such as a page to log in; it " + form})
		return Settings{}, false
	}
	root, err := parseBody(name, data)
	var problems Problems
	if errors.As(err, &problems) {
		for _, p := range problems {
			p.Text += "; it " + form
			l.problems = append(l.problems, p)
		}
		return Settings{}, false
	}
	whole := Settings{file: name, line: 1, node: root}
	if root == nil || root.kind != mapping {
		l.fail(whole, "", "%s", form)
		return Settings{}, false
	}
	for _, f := range root.faults {
		l.problems = append(l.problems, Problem{Pos: Pos{File: name, Line: f.line}, Text: f.text})
	}
	for _, p := range root.pairs {
		if p.key != key {
			l.problems = append(l.problems, Problem{Pos: Pos{File: name, Line: p.line}, Text: fmt.Sprintf("unknown key (known is %s)", key)})
		}
	}
	part, ok := root.child(key)
	if !ok {
		l.fail(whole, "", "lacks %s: it %s", key, form)
		return Settings{}, false
	}
	return Settings{path: key, file: name, line: part.line, node: part.value}, true
}

// parseBody parses what came from elsewhere: JSON, or YAML.
func parseBody(name string, data []byte) (*node, error) {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	if json.Valid(data) {
		data = plainEscapes(data)
	}
	return parseText(name, data, maxElsewhereBytes, builder{noVariables: true, spare: maxAliased})
}

// plainEscapes writes the characters for escapes that are JSON and not YAML: pairs such as \ud83d\ude00, and \/, which PHP makes of each slash. No
// line moves.
func plainEscapes(data []byte) []byte {
	if !bytes.Contains(data, []byte(`\u`)) && !bytes.Contains(data, []byte(`\/`)) {
		return data
	}
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); {
		if data[i] != '\\' {
			out = append(out, data[i])
			i++
			continue
		}
		if data[i+1] == '/' {
			out = append(out, '/')
			i += 2
			continue
		}
		high, isHigh := escaped(data[i:])
		if !isHigh || !utf16.IsSurrogate(high) {
			out = append(out, data[i], data[i+1]) // valid JSON: something follows
			i += 2
			continue
		}
		i += 6
		r := rune(utf8.RuneError)
		if low, ok := escaped(data[i:]); ok && utf16.IsSurrogate(low) {
			if r = utf16.DecodeRune(high, low); r != utf8.RuneError {
				i += 6
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return out
}

// escaped reads a \uXXXX.
func escaped(data []byte) (r rune, ok bool) {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' {
		return 0, false
	}
	for _, c := range data[2:6] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

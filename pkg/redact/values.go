package redact

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

const (
	// wordBelow is the length below which a value is hidden only where it stands as a word of its own: it stands inside of many harmless ones.
	wordBelow = 4

	// cutFrom is the length from which a text may have been cut without a sign of it.
	cutFrom = 200

	// maxValues bounds those of one set: a list of a hidden member may be long.
	maxValues = 10_000

	// maxRecent bounds the values that are looked for in the log: those of the last calls.
	maxRecent = 4096
)

// Values are texts to hide in others, the longest first. Nil hides nothing.
type Values []string

// Values are those that the hidden members of some events have, in each spelling in which an error may repeat them.
func (f *Fields) Values(events ...[]byte) Values {
	if !f.Active() {
		return nil
	}
	r := f.rules.Load()
	known := map[string]bool{}
	for _, data := range events {
		if len(data) > 0 {
			r.walk(gjson.ParseBytes(data), nil, func(v gjson.Result) { addValues(known, v, 0) })
		}
	}
	return newValues(known)
}

func newValues(known map[string]bool) Values {
	all := make(Values, 0, len(known))
	for v := range known {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}

// addValues adds the texts and numbers in v. true, false and null tell nothing that could be found again.
func addValues(known map[string]bool, v gjson.Result, depth int) {
	switch {
	case len(known) >= maxValues || depth > maxDepth:
	case v.IsObject() || v.IsArray():
		v.ForEach(func(_, member gjson.Result) bool {
			addValues(known, member, depth+1)
			return true
		})
	case v.Type == gjson.Number:
		known[v.Raw] = true
		known[strconv.FormatFloat(v.Num, 'f', -1, 64)] = true
	case v.Type == gjson.String:
		text := strings.TrimSpace(v.Str)
		if text == "" {
			return
		}
		escaped := escape(text)
		for _, spelling := range [...]string{text, escaped, escape(escaped), url.QueryEscape(text), url.PathEscape(text), bare(v.Raw)} {
			known[spelling] = true
		}
	}
}

// escape is text as it stands between the quotes of JSON.
func escape(text string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(text); err != nil {
		return text
	}
	return bare(strings.TrimSpace(b.String()))
}

// bare is a JSON string without its quotes.
func bare(raw string) string { return strings.Trim(raw, `"`) }

// Text returns text with *** in the place of each value, in upper or lower case, and of one that was cut short.
func (vs Values) Text(text string) string {
	for _, v := range vs {
		text = hide(text, v)
	}
	for _, v := range vs {
		text = hideCut(text, v)
	}
	return text
}

// hide replaces v.
func hide(text, v string) string {
	at := indexFold(text, v)
	if at < 0 {
		return text
	}
	var b strings.Builder
	for ; at >= 0; at = indexFold(text, v) {
		end := at + len(v)
		if len(v) < wordBelow && (at > 0 && isWord(text[at-1]) || end < len(text) && isWord(text[end])) {
			b.WriteString(text[:end])
		} else {
			b.WriteString(text[:at] + mask)
		}
		text = text[end:]
	}
	b.WriteString(text)
	return b.String()
}

// hideCut replaces the beginning of v where dots follow, or where a long text ends with it: long words of remotes are cut short.
func hideCut(text, v string) string {
	for from := 0; ; {
		end := len(text)
		dots := strings.Index(text[from:], "...")
		if dots >= 0 {
			end = from + dots
		}
		for n := min(len(v)-1, end); n >= wordBelow && (dots >= 0 || len(text) >= cutFrom); n-- {
			if equalFold(text[end-n:end], v[:n]) {
				text = text[:end-n] + mask + text[end:]
				end += len(mask) - n
				break
			}
		}
		if dots < 0 {
			return text
		}
		from = end + len("...")
	}
}

// Detail is Text for the texts in a JSON value, names of members too.
func (vs Values) Detail(data json.RawMessage) json.RawMessage {
	if len(vs) == 0 || len(data) == 0 || !json.Valid(data) {
		return data
	}
	var out []byte
	for {
		start := bytes.IndexByte(data, '"')
		if start < 0 {
			return append(out, data...)
		}
		end := start + 1
		for data[end] != '"' {
			if data[end] == '\\' {
				end++
			}
			end++
		}
		end++
		out = append(out, data[:start]...)
		text := gjson.ParseBytes(data[start:end]).Str
		if clean := vs.Text(text); clean != text {
			out = gjson.AppendJSONString(out, clean)
		} else {
			out = append(out, data[start:end]...)
		}
		data = data[end:]
	}
}

// indexFold is strings.Index without regard to the case of ASCII letters: other letters change their length with their case.
func indexFold(text, v string) int {
	if v == "" {
		return -1
	}
	for i := 0; i+len(v) <= len(text); i++ {
		if lower(text[i]) == lower(v[0]) && equalFold(text[i:i+len(v)], v) {
			return i
		}
	}
	return -1
}

func equalFold(a, b string) bool {
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// isWord says whether c is part of a word: a letter, a digit, or of a letter that is not ASCII.
func isWord(c byte) bool {
	return c == '_' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= lower(c) && lower(c) <= 'z'
}

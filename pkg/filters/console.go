package filters

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/dop251/goja"
)

// Bounds of what a script prints for one event.
const (
	maxLogLines     = 20
	maxLogLineChars = 1000
)

// logLine is a line that a script printed.
type logLine struct{ level, text string }

// print takes what the script gives to console.log and the like: the level and then values, which stand in one line.
func (s *script) print(c goja.FunctionCall) goja.Value {
	if !s.listened {
		return goja.Undefined()
	}
	switch len(s.printed) {
	case maxLogLines + 1:
		return goja.Undefined()
	case maxLogLines:
		s.printed = append(s.printed, logLine{"warn", fmt.Sprintf("the script prints more than %d lines for this event; the rest is left out", maxLogLines)})
		return goja.Undefined()
	}
	var b strings.Builder
	for i, v := range c.Arguments[1:] {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s.printable(v))
		if b.Len() > 4*maxLogLineChars {
			break
		}
	}
	s.printed = append(s.printed, logLine{c.Argument(0).String(), oneLine(b.String())})
	return goja.Undefined()
}

// printable is a value as people read it: objects as JSON, what is none as JavaScript writes it.
func (s *script) printable(v goja.Value) string {
	o, ok := v.(*goja.Object)
	if !ok {
		return v.String()
	}
	if o.ClassName() == "Error" {
		return o.String()
	}
	json, err := s.appendJSON(nil, v, 0)
	switch {
	case errors.Is(err, ErrLimit) && !errors.Is(err, errTooLong):
		s.must(err)
	case err == nil || errors.Is(err, errTooLong):
		return string(json)
	}
	return "[" + kindOf(v) + "]"
}

// oneLine cuts a text to what one line may have, and makes blanks of line ends and of what does not print.
func oneLine(text string) string {
	n := 0
	cut := strings.IndexFunc(text, func(rune) bool { n++; return n > maxLogLineChars })
	if cut >= 0 {
		text = text[:cut] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, text)
}

package testcase

import (
	"fmt"
	"strings"

	"github.com/aymanbagabas/go-udiff"
)

// headingPrefix begins the lines that say which event is spoken of below them.
const headingPrefix = "event "

// Diff shows what differs between what a destination was to make of the events and what it made, as a unified diff; "" when nothing does. Each part of it is
// headed by the event with which the difference begins: the last line up to there that begins with "event ".
func Diff(want, got string) string {
	text := udiff.Unified("want", "got", want, got)
	before := strings.Split(want, "\n")
	var out, part strings.Builder
	at := -1 // lines of want before the first one of part that differs; -1: found
	for line := range strings.Lines(text) {
		var first int
		if _, err := fmt.Sscanf(line, "@@ -%d", &first); err == nil {
			out.WriteString(part.String())
			part.Reset()
			part.WriteString(strings.TrimSuffix(line, "\n"))
			at = max(first-1, 0)
			part.WriteByte('\n')
			continue
		}
		switch {
		case at < 0:
		case line[0] == ' ':
			at++
		default:
			if h := headingOf(before[:min(at, len(before))]); h != "" {
				header, rest, _ := strings.Cut(part.String(), "\n")
				part.Reset()
				part.WriteString(header + " " + h + "\n" + rest)
			}
			at = -1
		}
		part.WriteString(line)
	}
	out.WriteString(part.String())
	return out.String()
}

// headingOf is the last heading in lines.
func headingOf(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if strings.HasPrefix(lines[i], headingPrefix) {
			return lines[i]
		}
	}
	return ""
}

package filters

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// SyntaxError says what is wrong with a template, where, and how to mend it.
type SyntaxError struct {
	Line, Column int    // in the template as written, from 1; columns count characters
	What         string // lower case, no full stop
	Fix          string // "" when there is nothing to add
}

// Error returns all of it in one line.
func (e *SyntaxError) Error() string {
	s := fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.What)
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// errorAt returns a SyntaxError for the byte offset in src. An offset outside src is moved to its nearest end.
func errorAt(src string, offset int, what, fix string) *SyntaxError {
	offset = min(max(offset, 0), len(src))
	before := src[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return &SyntaxError{
		Line:   strings.Count(before, "\n") + 1,
		Column: utf8.RuneCountInString(before[start:]) + 1,
		What:   what, Fix: fix,
	}
}

// offsetOf is the reverse of errorAt for a line and a column that counts bytes, both from 1.
func offsetOf(src string, line, column int) int {
	offset := 0
	for ; line > 1; line-- {
		next := strings.IndexByte(src[offset:], '\n')
		if next < 0 {
			return len(src)
		}
		offset += next + 1
	}
	return min(offset+column-1, len(src))
}

// lowerFirst makes a message of a parser fit our own: it begins in lower case.
func lowerFirst(s string) string {
	if s == "" || len(s) > 1 && s[1] >= 'A' && s[1] <= 'Z' {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

package testcase

import (
	"bytes"
	"strings"
)

// Section is one part of a case, below a line `-- name --`.
type Section struct {
	Name string
	// Line is that of the first line of Text in the file, from 1.
	Line int
	// Text is what stands there, byte for byte. It shares the file's memory.
	Text []byte

	marker, from, to int // offsets in the file: of the marker's line, and of Text
}

// sections finds the sections of a file as golang.org/x/tools/txtar does, which tells no places: those are for messages, and for a rewriting that
// leaves everything else as it is.
func sections(data []byte) []Section {
	var all []Section
	line := 1
	for at := 0; at < len(data); line++ {
		end := at + lineBytes(data[at:])
		if name, ok := markerName(data[at:end]); ok {
			if n := len(all); n > 0 {
				all[n-1].to = at
			}
			all = append(all, Section{Name: name, Line: line + 1, marker: at, from: end, to: len(data)})
		}
		at = end
	}
	for i := range all {
		all[i].Text = data[all[i].from:all[i].to:all[i].to]
	}
	return all
}

// lineBytes is how long the first line is, with its end.
func lineBytes(data []byte) int {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1
	}
	return len(data)
}

// markerName is the name in a line that begins a section.
func markerName(line []byte) (string, bool) {
	const before, after = "-- ", " --"
	text := string(line)
	if trimmed, ended := strings.CutSuffix(text, "\n"); ended {
		text = strings.TrimSuffix(trimmed, "\r")
	}
	if !strings.HasPrefix(text, before) || !strings.HasSuffix(text, after) || len(text) < len(before)+len(after) {
		return "", false
	}
	name := strings.TrimSpace(text[len(before) : len(text)-len(after)])
	return name, name != ""
}

// plainLines is text with lines that end as they do on Unix.
func plainLines(text []byte) string { return strings.ReplaceAll(string(text), "\r\n", "\n") }

package testcase

import (
	"bytes"
	"strings"
)

// Expected is what a destination is to make of the events of a case.
type Expected struct {
	Destination string
	Text        string // whole lines
}

// Updated returns the file with these expectations and no others. All else is as it was, byte for byte, and so is an expectation that was met. New ones
// stand at the end, in the order given.
func (c *Case) Updated(all []Expected) []byte {
	given := map[string]string{}
	for _, e := range all {
		given[e.Destination] = wholeLines(e.Text)
	}
	newline := "\n"
	if first := c.all[0]; bytes.HasSuffix(c.data[first.marker:first.from], []byte("\r\n")) {
		newline = "\r\n"
	}
	put := func(out []byte, text string) []byte { return append(out, strings.ReplaceAll(text, "\n", newline)...) }
	out := append([]byte(nil), c.data[:c.all[0].marker]...)
	for i := range c.all {
		s := &c.all[i]
		name, isWant := between(s.Name, wantPrefix, wantSuffix)
		text, known := given[name]
		switch {
		case isWant && !known: // of a destination that is no more
		case isWant && wholeLines(plainLines(s.Text)) != text:
			out = put(append(out, wholeMarker(c.data[s.marker:s.from], newline)...), text)
		default:
			out = append(out, c.data[s.marker:s.to]...)
		}
	}
	for _, e := range all {
		if _, _, ok := c.Want(e.Destination); ok {
			continue
		}
		if len(out) > 0 && out[len(out)-1] != '\n' {
			out = put(out, "\n")
		}
		out = put(out, "-- "+wantPrefix+e.Destination+wantSuffix+" --\n"+given[e.Destination])
	}
	return out
}

// wholeLines is text with an end to its last line.
func wholeLines(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

// wholeMarker is the line of a marker, which at the end of a file may lack its own end.
func wholeMarker(line []byte, newline string) []byte {
	if bytes.HasSuffix(line, []byte("\n")) {
		return line
	}
	return append(bytes.Clone(line), newline...)
}

package jitsuconfig

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Kind says what a note is about.
type Kind int

// The kinds of notes, in the order in which they are told.
const (
	LeftOut Kind = iota // a key that the result does not have
	Changed             // a key, or the lack of one, that means something else here than in Jitsu, or is written otherwise
	ToDo                // what has to be done before the result can be used as Jitsu's file was
)

// String is the heading under which notes of this kind stand.
func (k Kind) String() string {
	return [...]string{"could not be carried over", "means something else here, or is written otherwise", "for you to do"}[k]
}

// Note is one thing that the reader of a result should know. It never shows a secret.
type Note struct {
	Kind Kind
	Line int    // of Jitsu's file, from 1; 0: of no line
	Path string // such as destinations.crm.mode
	Text string // why, and what to do
}

func (c *converter) note(kind Kind, line int, path, format string, args ...any) {
	c.notes = append(c.notes, Note{kind, line, path, fmt.Sprintf(format, args...)})
}

// sorted orders notes by kind and line and takes secrets of the file out of them, wherever they may have come from.
func sorted(notes []Note, secrets []string) []Note {
	var pairs []string
	for _, s := range secrets {
		pairs = append(pairs, s, "***")
	}
	hide := strings.NewReplacer(pairs...)
	for i := range notes {
		notes[i].Path, notes[i].Text = hide.Replace(notes[i].Path), hide.Replace(notes[i].Text)
	}
	slices.SortStableFunc(notes, func(a, b Note) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Line, b.Line))
	})
	return notes
}

// WriteNotes writes notes for people, those of a kind together, each with its place in the file called name.
func WriteNotes(w io.Writer, name string, notes []Note) error {
	var b strings.Builder
	for kind := LeftOut; kind <= ToDo; kind++ {
		first := true
		for _, n := range notes {
			if n.Kind != kind {
				continue
			}
			if first {
				fmt.Fprintf(&b, "%s:\n", kind)
				first = false
			}
			b.WriteString("  " + name)
			if n.Line > 0 {
				fmt.Fprintf(&b, ":%d", n.Line)
			}
			if n.Path != "" {
				b.WriteString(": " + n.Path)
			}
			fmt.Fprintf(&b, ": %s\n", n.Text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

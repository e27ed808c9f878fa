package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// lineError is an error of the file as YAML.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return e.text }

// readDocument returns the only document of data, nil when there is none.
func readDocument(data []byte) (doc *yaml.Node, err error) {
	// The YAML library reports errors by panics of its own; one that it does not recover must not end the process.
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("cannot be read as YAML")
		}
	}()
	if err := checkText(data); err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, err
		}
		return nil, &lineError{second.Line, "a second document begins here; the configuration is one document"}
	}
	return &first, nil
}

// checkText finds what is no text, for which the library names no line.
func checkText(data []byte) error {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		bad := r == utf8.RuneError && size == 1 || r == '\uFFFE' || r == '\uFFFF'
		if bad || unicode.IsControl(r) && r != '\t' && r != '\n' && r != '\r' && r != '\u0085' {
			return &lineError{1 + bytes.Count(data[:i], []byte("\n")), "must be text in UTF-8"}
		}
		i += size
	}
	return nil
}

var (
	syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	// Errors of yaml.v3's parser, unlike those of its scanner, count lines from 0, and mostly name the beginning of the block.
	parserError = regexp.MustCompile(`^did not find expected (<document|node content|key|')`)
)

// syntaxProblem words an error of readDocument or of a builder. It drops what the library quotes from the file, which may be a secret.
func syntaxProblem(name string, err error) Problem {
	p := Problem{Pos: Pos{File: name}, Text: "cannot be read as YAML"}
	var le *lineError
	if errors.As(err, &le) {
		p.Pos.Line, p.Text = le.line, le.text
		return p
	}
	m := syntaxError.FindStringSubmatch(err.Error())
	if m == nil {
		return p
	}
	text := m[2]
	if p.Pos.Line, _ = strconv.Atoi(m[1]); p.Pos.Line == 0 {
		p.Pos.Line = 1 // the only line that the library does not name
	}
	p.Text = "is not valid YAML: " + cut(text)
	switch {
	case strings.HasPrefix(text, "unknown anchor"), strings.HasSuffix(text, "alphabetic or numeric character"):
		p.Text = "is not valid YAML: a value that begins with * or & needs quotes"
	case parserError.MatchString(text):
		if m[1] != "" {
			p.Pos.Line++
		}
		p.Text = "is not valid YAML here or in the lines below: " + cut(text)
		if strings.Contains(text, "','") {
			p.Text += "; inside { } and [ ], what holds braces, such as ${env.NAME}, needs quotes"
		}
	}
	return p
}

package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// lineError is an error of the file as YAML.
type lineError struct {
	line int
	text string
}

func (e *lineError) Error() string { return e.text }

// readDocument returns the only document of r, nil when there is none.
func readDocument(r io.Reader) (doc *yaml.Node, err error) {
	// The YAML library reports errors by panics of its own; one that it does not recover must not end the process.
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("cannot be read as YAML")
		}
	}()
	dec := yaml.NewDecoder(r)
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

var syntaxError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

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
	p.Pos.Line, _ = strconv.Atoi(m[1])
	text := m[2]
	switch {
	case strings.HasPrefix(text, "unknown anchor"):
		text = "unknown anchor; a value that begins with * needs quotes"
	case strings.HasPrefix(text, "did not find") && p.Pos.Line > 0:
		p.Pos.Line++ // for errors of its parser, unlike those of its scanner, yaml.v3 counts lines from 0
	}
	p.Text = fmt.Sprintf("is not valid YAML: %.200s", text)
	return p
}

package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"gopkg.in/yaml.v3"
)

// JSON returns the part as JSON: maps with their keys in the order of the file, and single values with the type that YAML gives them, a number, true, false, null or text. Its
// error is a problem with its place.
func (s Settings) JSON() ([]byte, error) {
	return s.appendJSON(nil, s.node)
}

func (s Settings) appendJSON(dst []byte, n *node) ([]byte, error) {
	if n == nil {
		return append(dst, "null"...), nil
	}
	if len(n.faults) > 0 {
		return nil, Problem{Pos: Pos{File: s.file, Line: n.faults[0].line}, Path: s.path, Text: n.faults[0].text}.err()
	}
	var err error
	switch n.kind {
	case mapping:
		dst = append(dst, '{')
		for i, p := range n.pairs {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendText(dst, p.key), ':')
			if dst, err = s.appendJSON(dst, p.value); err != nil {
				return nil, err
			}
		}
		return append(dst, '}'), nil
	case sequence:
		dst = append(dst, '[')
		for i, item := range n.items {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = s.appendJSON(dst, item); err != nil {
				return nil, err
			}
		}
		return append(dst, ']'), nil
	}
	dst, err = n.appendScalar(dst)
	if err != nil {
		return nil, Problem{Pos: Pos{File: s.file, Line: n.line}, Path: s.path, Text: err.Error()}.err()
	}
	return dst, nil
}

func (p Problem) err() error { return Problems{p} }

func appendText(dst []byte, text string) []byte {
	data, _ := json.Marshal(text) // never fails
	return append(dst, data...)
}

// appendScalar appends a single value. Numbers that JSON writes the same way stay as they are, however long.
func (n *node) appendScalar(dst []byte) ([]byte, error) {
	plain := &yaml.Node{Kind: yaml.ScalarNode, Value: n.text}
	switch {
	case n.null:
		return append(dst, "null"...), nil
	case n.quoted:
		return appendText(dst, n.text), nil
	}
	switch plain.ShortTag() {
	case "!!bool", "!!int", "!!float":
		if n.text[0] != '+' && json.Valid([]byte(n.text)) {
			return append(dst, n.text...), nil
		}
		var v any
		if err := plain.Decode(&v); err != nil {
			return nil, errors.New("is not understood")
		}
		if f, ok := v.(float64); ok && (math.IsInf(f, 0) || math.IsNaN(f)) {
			return nil, fmt.Errorf("%s is a number that JSON does not have", n.text)
		}
		data, err := json.Marshal(v)
		return append(dst, data...), err
	}
	return appendText(dst, n.text), nil
}

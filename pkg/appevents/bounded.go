package appevents

import (
	"errors"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// maxSchemaSteps are the steps that are taken for one payload. Where a schema refers to itself in two places of a choice, each level of a payload doubles them.
const maxSchemaSteps = 50_000

// maxIdle is how many compiled copies of a schema are kept.
const maxIdle = 16

var errCostly = errors.New("takes too many steps to be held against its schema: nest it less")

// schema is a JSON Schema whose work for one payload is bounded. Many goroutines may use it.
type schema struct {
	text []byte

	mu   sync.Mutex // guards the field below
	idle []*counted
}

// counted is a compiled copy of a schema that counts what it does. One goroutine uses it at a time.
type counted struct {
	compiled *jsonschema.Schema
	left     int // steps
}

// newSchema compiles a schema. Its error is the end of a sentence.
func newSchema(text []byte) (*schema, error) {
	c, err := newCounted(text)
	if err != nil {
		return nil, err
	}
	return &schema{text: text, idle: []*counted{c}}, nil
}

func newCounted(text []byte) (*counted, error) {
	c := &counted{}
	var err error
	c.compiled, err = compileSchema(text, &jsonschema.Vocabulary{
		URL:     "app:///steps",
		Compile: func(*jsonschema.CompilerContext, map[string]any) (jsonschema.SchemaExt, error) { return c, nil },
	})
	return c, err
}

// Validate implements jsonschema.SchemaExt: it is called where a part of the schema has been held against a value.
func (c *counted) Validate(*jsonschema.ValidatorContext, any) {
	if c.left--; c.left < 0 {
		panic(errCostly) // the validator can not be stopped in another way
	}
}

// validate holds a value against the schema.
func (s *schema) validate(v any) (err error) {
	c, err := s.take()
	if err != nil {
		return err
	}
	defer func() {
		if p := recover(); p != nil {
			if p != any(errCostly) {
				panic(p)
			}
			err = errCostly
		}
	}()
	defer s.give(c)
	c.left = maxSchemaSteps
	return c.compiled.Validate(v)
}

func (s *schema) take() (*counted, error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return c, nil
	}
	s.mu.Unlock()
	return newCounted(s.text)
}

func (s *schema) give(c *counted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) < maxIdle {
		s.idle = append(s.idle, c)
	}
}

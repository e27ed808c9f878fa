package appevents

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// schemaURL is where a schema stands, as its references see it.
const schemaURL = "app:///schema"

var errRemote = errors.New("is somewhere else: only references within the schema, such as #/$defs/address, are followed")

// noLoader follows no reference out of a schema: an event must not depend on what somebody else serves.
type noLoader struct{}

// Load refuses all that is not in the schema itself.
func (noLoader) Load(string) (any, error) { return nil, errRemote }

// compileSchema compiles a JSON Schema, of 2020-12 unless its $schema says otherwise. `format` is enforced, not only noted: who writes email means it. extra, where there is one, is told of
// each of its parts.
func compileSchema(text []byte, extra *jsonschema.Vocabulary) (schema *jsonschema.Schema, err error) {
	defer func() {
		if p := recover(); p != nil {
			schema, err = nil, errors.New("BUG: the schema can not be compiled: the program panics")
		}
	}()
	if err := checkCost(text, math.MaxInt); err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("is no JSON: %w", err)
	}
	if _, ok := doc.(map[string]any); !ok {
		return nil, errors.New("must be a JSON Schema: an object")
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(compileRegexp)
	if extra != nil {
		c.RegisterVocabulary(extra)
		c.AssertVocabs()
	}
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("is no schema: %w", err)
	}
	schema, err = c.Compile(schemaURL)
	if err != nil {
		return nil, schemaProblem(err)
	}
	return schema, nil
}

// maxRegexp is the longest pattern: the format regex is for texts of senders, and to compile a long one takes seconds.
const maxRegexp = 4 << 10

func compileRegexp(text string) (jsonschema.Regexp, error) {
	if len(text) > maxRegexp {
		return nil, fmt.Errorf("it has more than %d bytes", maxRegexp)
	}
	return regexp.Compile(text)
}

// schemaProblem says in short what is wrong with a schema.
func schemaProblem(err error) error {
	if load, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return fmt.Errorf("$ref %s %w", load.URL, errRemote)
	}
	if regex, ok := errors.AsType[*jsonschema.InvalidRegexError](err); ok {
		return fmt.Errorf("pattern %q is no regular expression that is known here (RE2 has no look-around and no references back): %w", regex.Regex, regex.Err)
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		if wrong, is := errors.AsType[*jsonschema.SchemaValidationError](err); is {
			invalid, ok = errors.AsType[*jsonschema.ValidationError](wrong.Err)
		}
	}
	if !ok {
		return fmt.Errorf("is no JSON Schema that can be used: %s", strings.ReplaceAll(err.Error(), schemaURL, ""))
	}
	first := Violation{Problem: "does not fit what a schema must be"}
	if all := violations(nil, invalid, ""); len(all) > 0 {
		first = all[0]
	}
	if first.Problem == "is no regex" {
		first.Problem = "is no regular expression that is known here (RE2 has no look-around and no references back)"
	}
	return fmt.Errorf("is no JSON Schema: %s %s", at(first.Path), first.Problem)
}

func at(path string) string {
	if path == "" {
		return "it"
	}
	return "at " + path + " it"
}

// inferred makes a schema of an example: its types, all of its members required, lists by their first element, null for anything. Members that the example does not have are
// allowed: payloads grow.
func inferred(example []byte) ([]byte, error) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(example))
	if err != nil {
		return nil, err
	}
	return json.Marshal(infer(v))
}

func infer(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		properties := map[string]any{}
		for name, member := range v {
			properties[name] = infer(member)
		}
		return map[string]any{"type": "object", "properties": properties, "required": slices.Sorted(maps.Keys(v))}
	case []any:
		if len(v) == 0 {
			return map[string]any{"type": "array"}
		}
		return map[string]any{"type": "array", "items": infer(v[0])}
	case string:
		return map[string]any{"type": "string"}
	case bool:
		return map[string]any{"type": "boolean"}
	case json.Number:
		return map[string]any{"type": "number"} // 5 stands for 5.5, too
	}
	return map[string]any{}
}

// Violation is one thing that is wrong with an event.
type Violation struct {
	Path    string // a JSON pointer, such as /payload/email
	Problem string // the end of a sentence; it never quotes a value
}

// Check says what is wrong with an event: with its name, or with its payload, which is a JSON object without duplicate names. None: it is taken.
func (s *Set) Check(name string, payload []byte) (found []Violation) {
	d := s.events[name]
	switch {
	case d == nil:
		return []Violation{{"/name", s.unknown(name)}}
	case d.schema == nil:
		return nil
	}
	defer func() { // one crafted payload must not end the process for all
		if p := recover(); p != nil {
			found = []Violation{{"/payload", "can not be held against its schema"}}
		}
	}()
	if err := checkCost(payload, maxValues); err != nil {
		return []Violation{{"/payload", err.Error()}}
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return []Violation{{"/payload", "is no JSON"}}
	}
	err = d.schema.validate(v)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errCostly):
		return []Violation{{"/payload", err.Error()}}
	}
	if invalid, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
		found = violations(nil, invalid, "/payload")
	}
	slices.SortStableFunc(found, func(a, b Violation) int { return strings.Compare(a.Path, b.Path) })
	if len(found) == 0 {
		found = []Violation{{"/payload", "does not fit its schema"}}
	}
	return found
}

// violations appends the leaves of an error, at most so many, each once.
func violations(all []Violation, e *jsonschema.ValidationError, under string) []Violation {
	path := under + pointer(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		// What is wrong with each of the choices would tell of all but the one that is meant.
		return add(all, Violation{path, problem(k)})
	case *kind.Required:
		for _, name := range k.Missing {
			all = add(all, Violation{path + pointer([]string{name}), "is missing"})
		}
		return all
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			all = add(all, Violation{path + pointer([]string{name}), "is not known"})
		}
		return all
	}
	if len(e.Causes) == 0 {
		return add(all, Violation{path, problem(e.ErrorKind)})
	}
	for _, cause := range e.Causes {
		if len(all) == maxViolations { // there may be as many as the payload has values
			break
		}
		all = violations(all, cause, under)
	}
	return all
}

func add(all []Violation, v Violation) []Violation {
	const longest = 300 // names of members are the sender's
	if len(v.Path) > longest {
		v.Path = strings.ToValidUTF8(v.Path[:longest], "") + "…"
	}
	if len(all) == maxViolations || slices.Contains(all, v) {
		return all
	}
	return append(all, v)
}

// problem says what a violation is, in words of our own: those of the library quote values.
func problem(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("is %s, and must be %s", k.Got, strings.Join(k.Want, " or "))
	case *kind.Format:
		return "is no " + k.Want
	case *kind.Pattern:
		return fmt.Sprintf("does not match %s", k.Want)
	case *kind.Enum:
		return "is none of the values that are allowed"
	case *kind.Const:
		return "is not the value that is allowed"
	case *kind.MinLength:
		return fmt.Sprintf("has %d characters, and must have at least %d", k.Got, k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("has %d characters, and may have at most %d", k.Got, k.Want)
	case *kind.MinItems:
		return fmt.Sprintf("has %d elements, and must have at least %d", k.Got, k.Want)
	case *kind.MaxItems:
		return fmt.Sprintf("has %d elements, and may have at most %d", k.Got, k.Want)
	case *kind.MinProperties:
		return fmt.Sprintf("has %d members, and must have at least %d", k.Got, k.Want)
	case *kind.MaxProperties:
		return fmt.Sprintf("has %d members, and may have at most %d", k.Got, k.Want)
	case *kind.UniqueItems:
		return fmt.Sprintf("has the same element at %d and %d", k.Duplicates[0], k.Duplicates[1])
	case *kind.Minimum:
		return "is less than " + k.Want.RatString()
	case *kind.Maximum:
		return "is more than " + k.Want.RatString()
	case *kind.ExclusiveMinimum:
		return "must be more than " + k.Want.RatString()
	case *kind.ExclusiveMaximum:
		return "must be less than " + k.Want.RatString()
	case *kind.MultipleOf:
		return "is no multiple of " + k.Want.RatString()
	case *kind.AnyOf:
		return "fits none of the choices that are allowed"
	case *kind.OneOf:
		if len(k.Subschemas) > 0 {
			return "fits several of the choices of which one is allowed"
		}
		return "fits none of the choices that are allowed"
	case *kind.FalseSchema:
		return "is not allowed"
	case *kind.Not:
		return "is what is not allowed"
	case *kind.DependentRequired:
		return "lacks members that must stand beside others"
	}
	if words := k.KeywordPath(); len(words) > 0 {
		return "does not fit its schema: " + strings.Join(words, "/")
	}
	return "does not fit its schema"
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// pointer is a JSON pointer (RFC 6901).
func pointer(tokens []string) string {
	var b strings.Builder
	for _, t := range tokens {
		b.WriteByte('/')
		b.WriteString(pointerEscapes.Replace(t))
	}
	return b.String()
}

const (
	// maxDigits and maxExponent bound numbers that are compared: schemas compare them exactly, and 1e999999999 written out fills the memory.
	maxDigits   = 100
	maxExponent = 100
	// maxValues bounds the values in a payload: each may be a violation, and is then held against all that might allow it.
	maxValues = 10_000
)

var errValues = fmt.Errorf("holds more than %d values", maxValues)

var errNumber = fmt.Errorf("holds a number with more than %d digits, or with an exponent of more than %d", maxDigits, maxExponent)

// checkCost refuses JSON with numbers that are too costly, or with more values than most. data need not be valid.
func checkCost(data []byte, most int) error {
	values := 0
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == ',' || c == '{' || c == '[':
			if values++; values > most {
				return errValues
			}
		case c == '"':
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case c == '-' || '0' <= c && c <= '9':
			from, exponent, inExponent := i, 0, false
			for ; i < len(data); i++ {
				switch c := data[i]; {
				case c == 'e' || c == 'E':
					inExponent = true
					continue
				case '0' <= c && c <= '9':
					if inExponent {
						exponent = min(exponent*10+int(c-'0'), maxExponent+1)
					}
					continue
				case c == '-' || c == '+' || c == '.':
					continue
				}
				break
			}
			if i-from > maxDigits || exponent > maxExponent {
				return errNumber
			}
			i--
		}
	}
	return nil
}

package filters

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// Value is a compiled expression for one value, such as a property that is made of an event. It is not for concurrent use.
type Value struct {
	format   string
	warnings []string

	constant gjson.Result
	template *goTemplate
	script   *script

	path   []step // of a script that only reads one field; nil for others
	names  *event.Names
	lookup event.Lookup // of the first step of path
}

// View is an event as expressions see it. All expressions of one event share it.
type View struct{ event *event.Event }

// NewView returns the view of ev, which must stay unchanged while the view is used.
func NewView(ev *event.Event) *View { return &View{event: ev} }

// What is a constant for values although [Compile] would take it for JavaScript: numbers as JSON has them, and what begins with a digit, such as dates,
// versions and identifiers.
var (
	number     = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$`)
	digitsEtc  = regexp.MustCompile(`^[0-9][0-9A-Za-z:._-]*$`)
	noConstant = set("null", "undefined", "NaN", "Infinity")
)

// CompileValue parses src and finds everything that can be known to be wrong with it: an error is a [*SyntaxError].
//
// The language follows from the text as for [Compile], except that quotes belong to JavaScript and that numbers, true, false and words that begin with
// a digit are constants.
func CompileValue(src string, o Options) (*Value, error) {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	switch {
	case len(src) > maxSourceBytes:
		return nil, tooLong(src)
	case strings.TrimSpace(src) == "":
		return nil, &SyntaxError{Line: 1, Column: 1, What: "the expression is empty", Fix: `write '""' for the empty text`}
	case strings.Contains(src, "{{"):
		t, err := compileGo(src, o)
		if err != nil {
			return nil, err
		}
		return &Value{format: Go, template: t}, nil
	case src == "true" || src == "false" || number.MatchString(src):
		return &Value{format: Constant, constant: gjson.Parse(src)}, nil
	case digitsEtc.MatchString(src) || plainName.MatchString(src) && !noConstant[src] || isURL(src):
		if err := notMeant(src); err != nil {
			return nil, err
		}
		return &Value{format: Constant, constant: textResult(src)}, nil
	}
	s, warnings, err := compileScript(src, o, dialect{})
	if err != nil {
		return nil, forValues(err)
	}
	s.space.numbers = map[float64]string{}
	for i, w := range warnings {
		warnings[i] = strings.ReplaceAll(w, "every event is skipped", "it never has a value")
	}
	if s.direct != nil {
		s.direct.run.space = &s.space
	}
	v := &Value{format: JavaScript, script: s, path: s.path, warnings: warnings}
	if len(v.path) > 0 {
		v.names = event.NewNames(v.path[0].member())
	}
	return v, nil
}

// notMeant refuses what would be a constant and is written like a field.
func notMeant(src string) error {
	root, _, dotted := strings.Cut(src, ".")
	switch {
	case absent[root] != "" || builtins[root] && dotted || src == "destinationId" || src == "destinationType":
		return &SyntaxError{
			Line: 1, Column: 1, What: fmt.Sprintf("%q would be a constant text, not an expression", src),
			Fix: fmt.Sprintf(`write (%s) for the expression, or '"%s"' for the text`, src, src),
		}
	case fieldRoots[root] && dotted:
		return &SyntaxError{
			Line: 1, Column: 1, What: fmt.Sprintf("%q would be a constant text, not a field", src),
			Fix: fmt.Sprintf(`write $.%s for the field, or '"%s"' for the text`, strings.TrimPrefix(src, "event."), src),
		}
	}
	return nil
}

// forValues says in an error how constants are written here.
func forValues(err error) error {
	var syntax *SyntaxError
	if errors.As(err, &syntax) && syntax.Fix == constantFix {
		syntax.Fix = `a constant text of several words stands in double quotes inside single ones: '"Gold plan"'`
	}
	return err
}

// Format returns the language of the expression: [Go], [JavaScript] or [Constant].
func (v *Value) Format() string { return v.format }

// Warnings returns what works but is hardly meant.
func (v *Value) Warnings() []string { return v.warnings }

// Eval evaluates the expression. The result does not exist when there is no value: undefined, a field of something that the event does not have,
// a Go template that prints nothing. A script's null is null. One that fails has an error; it wraps [ErrLimit] when the expression ran away.
//
// What a script gives keeps its JSON type. Numbers that it only passes on stay as the event has them, however long.
// A Go template gives text, trimmed and without what it prints for missing fields.
func (v *Value) Eval(view *View) (gjson.Result, error) {
	if v.format == Constant {
		return v.constant, nil
	}
	if r, decided := v.direct(view.event); decided {
		return r, nil
	}
	return v.engine(view)
}

// engine evaluates the expression by the engine of its language.
func (v *Value) engine(view *View) (gjson.Result, error) {
	if v.template != nil {
		text, err := v.retry(func() (string, error) {
			text, _, err := v.template.evalEvent(view.event)
			return text, templateError(err)
		})
		if err != nil {
			return gjson.Result{}, err
		}
		return printed(text), nil
	}
	json, err := v.retry(func() (string, error) { return v.script.json(view.event) })
	if errors.Is(err, errSkip) {
		return gjson.Result{}, nil
	}
	if json == "" || err != nil {
		return gjson.Result{}, err
	}
	return gjson.Parse(json), nil
}

// printed is the value that a Go template has printed.
func printed(text string) gjson.Result {
	if text = strings.TrimSpace(strings.ReplaceAll(text, noValue, "")); text == "" {
		return gjson.Result{}
	}
	return textResult(text)
}

// direct evaluates the expression without the engine of its language, if that is to be had. Nothing of the result is the event's memory.
func (v *Value) direct(ev *event.Event) (r gjson.Result, decided bool) {
	switch {
	case v.template != nil && v.template.direct != nil:
		text, _, _, decided := v.template.direct.evalText(ev)
		if !decided {
			return r, false
		}
		return printed(text), true
	case len(v.path) > 0:
		v.lookup.Reset(ev, v.names)
		first := v.lookup.Get(0)
		found, ok := walk(first, v.path[1:])
		if found == "" || !ok {
			return r, ok && (first != "" || !inherited[v.path[0].member()])
		}
		return gjson.Parse(strings.Clone(found)), true
	case v.script != nil && v.script.direct != nil:
		return v.script.directJSON(ev)
	}
	return r, false
}

// directJSON is json for a script that runs without the engine.
func (s *script) directJSON(ev *event.Event) (r gjson.Result, decided bool) {
	clear(s.space.numbers)
	v, err, decided := s.direct.eval(ev)
	switch {
	case !decided:
		return r, false
	case err != nil || v.kind == jsUndefined: // a member of nothing
		return r, true
	case v.kind == jsString:
		return textResult(v.text), true
	case v.kind == jsNumber && s.space.numbers[v.number] != "":
		return gjson.Parse(strings.Clone(s.space.numbers[v.number])), true
	case v.kind == jsNumber && v.number-v.number != 0, v.kind == jsCompound: // no number, or infinite
		return r, false
	}
	return gjson.Parse(s.direct.run.print(v)), true
}

// executing is how text/template begins what it says of a template that failed.
var executing = regexp.MustCompile(`^template: ` + goName + `:(\d+):(\d+): executing "[^"]*" at (.*)$`)

// templateError gives the place in the words of all other errors.
func templateError(err error) error {
	var failed template.ExecError
	if !errors.As(err, &failed) || errors.Is(err, ErrLimit) {
		return err
	}
	m := executing.FindStringSubmatch(err.Error())
	if m == nil {
		return err
	}
	column, _ := strconv.Atoi(m[2])
	return fmt.Errorf("line %s, column %d: %.200s", m[1], column+1, m[3])
}

// noValue is what Go templates print for a missing field.
const noValue = "<no value>"

// patience is how many times its limit an expression gets that was late twice.
const patience = 5

// retry runs an evaluation, and again when its time was up; see [Filter.evalView]. Nobody can send a property later that a busy machine cost,
// so there is a third time, which is longer.
func (v *Value) retry(eval func() (string, error)) (string, error) {
	text, err := eval()
	if errors.Is(err, errTime) {
		text, err = eval()
	}
	if errors.Is(err, errTime) {
		limit := v.limit()
		*limit *= patience
		text, err = eval()
		*limit /= patience
	}
	return text, err
}

func (v *Value) limit() *time.Duration {
	if v.template != nil {
		return &v.template.limit
	}
	return &v.script.options.Limit
}

// textResult is a text, in memory of its own.
func textResult(s string) gjson.Result {
	raw := string(event.AppendString(make([]byte, 0, len(s)+len(`""`)), s))
	if len(raw) == len(s)+len(`""`) && raw[1:len(raw)-1] == s {
		return gjson.Result{Type: gjson.String, Str: raw[1 : len(raw)-1], Raw: raw}
	}
	return gjson.Result{Type: gjson.String, Str: strings.Clone(s), Raw: raw}
}

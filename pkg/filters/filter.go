package filters

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"eventrouter/pkg/event"
)

// DefaultLimit is the wall-clock time that one evaluation may take when [Options] says nothing else.
const DefaultLimit = 20 * time.Millisecond

// PatientLimit is for where nobody waits behind a script, as in a dry run: there a busy machine must not change what comes out.
const PatientLimit = 2 * time.Second

// maxSourceBytes bounds the text of a template: parsers of both languages recurse as deep as it nests.
const maxSourceBytes = 64 << 10

// Formats that a template can have.
const (
	Go         = "go"
	JavaScript = "javascript"
	Constant   = "constant"
)

// ErrLimit is wrapped by the error of an evaluation that took too long or grew too large.
var ErrLimit = errors.New("over the limit")

// errTime is the ErrLimit of a script that ran out of time, the only one that a second try can mend.
var errTime = fmt.Errorf("%w: still running when its time was up", ErrLimit)

// Options are what a template sees of its destination, and its limit.
type Options struct {
	Destination string // name of the destination: destinationId in JavaScript
	Type        string // type of the destination: destinationType in JavaScript
	File        string // of a transform, for its errors; "": it stands in the configuration
	// Limit is the wall-clock time of one evaluation; 0: DefaultLimit. A single match of a backtracking regular expression ends after
	// 50 ms as if there were none, so a longer limit is of use only for scripts without them.
	Limit time.Duration
}

// Result is what a template says of one event.
type Result struct {
	// Name is the table name as Jitsu would write it: lower case, every character other than a-z and 0-9 replaced by _.
	Name string
	// Keep is false when the event is not for this destination: Name is empty, null or false.
	Keep bool
	// Why is LacksMember, or "": the template has decided.
	Why string
}

// LacksMember is why a script skips an event although it returns nothing of the kind.
const LacksMember = "reads a member of something that the event does not have"

// Filter is a compiled template. It is not for concurrent use, since it holds one script engine.
type Filter struct {
	format   string
	warnings []string
	direct   direct // nil: only the engine can do it
	engine   engine
}

// direct evaluates a template without the engine of its language: see jsdirect.go and godirect.go. Beside what [engine] returns, it says whether it could decide; if not, the
// engine is to be asked.
type direct interface {
	evalText(ev *event.Event) (text string, ok bool, err error, decided bool)
}

// engine evaluates one format. text is what the template prints, ok is false when it prints no text at all (an object, undefined).
type engine interface {
	// evalEvent looks up only what the template names, if it can tell; else it makes the event's view. text may share the event's bytes.
	evalEvent(ev *event.Event) (text string, ok bool, err error)
}

// Compile parses src and finds everything that can be known to be wrong with it: an error is a [*SyntaxError].
//
// The language follows from the text. One that contains {{ is a Go template, as is the empty one; otherwise a plain or quoted table
// name or a URL is a constant; everything else is JavaScript.
func Compile(src string, o Options) (*Filter, error) {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if len(src) > maxSourceBytes {
		return nil, tooLong(src)
	}
	switch {
	case src == "" || strings.Contains(src, "{{"):
		t, err := compileGo(src, o)
		if err != nil {
			return nil, err
		}
		f := &Filter{format: Go, engine: t}
		if t.direct != nil { // else the interface would not be nil
			f.direct = t.direct
		}
		if src == "" {
			f.warnings = []string{"the template is empty: every event is skipped"}
		}
		return f, nil
	case isConstant(src):
		return &Filter{format: Constant, engine: constant(src), warnings: constantWarnings(src)}, nil
	default:
		s, warnings, err := compileScript(src, o, dialect{})
		if err != nil {
			return nil, err
		}
		f := &Filter{format: JavaScript, engine: s, warnings: warnings}
		if s.direct != nil { // else the interface would not be nil
			f.direct = s.direct
		}
		return f, nil
	}
}

func tooLong(src string) error {
	return &SyntaxError{
		Line: 1, Column: 1, What: fmt.Sprintf("the template is %d bytes long", len(src)),
		Fix: fmt.Sprintf("a template has at most %d bytes", maxSourceBytes),
	}
}

// Format returns the language of the template: [Go], [JavaScript] or [Constant].
func (f *Filter) Format() string { return f.format }

// Warnings returns what works but is hardly meant: a constant that looks like an expression, a template that skips everything.
func (f *Filter) Warnings() []string { return f.warnings }

// Eval evaluates the template for ev. An error sends the event to the dead letters; one that wraps [ErrLimit] says that the template ran away.
func (f *Filter) Eval(ev *event.Event) (Result, error) {
	if c, ok := f.engine.(constant); ok {
		return result(string(c), true), nil
	}
	text, ok, err := f.text(ev)
	if errors.Is(err, errSkip) {
		return Result{Why: LacksMember}, nil
	}
	if err != nil {
		return Result{}, err
	}
	return result(text, ok), nil
}

// text evaluates the template as engine.evalEvent does.
func (f *Filter) text(ev *event.Event) (text string, ok bool, err error) {
	if f.direct != nil {
		if text, ok, err, decided := f.direct.evalText(ev); decided {
			return text, ok, err
		}
	}
	text, ok, err = f.engine.evalEvent(ev)
	if errors.Is(err, errTime) {
		// A busy machine or the garbage collector can hold up an innocent template for longer than its limit; that must
		// not cost an event. A template has no effects, so it is simply run again.
		text, ok, err = f.engine.evalEvent(ev)
	}
	return text, ok, err
}

// Text evaluates the template for ev and returns what it prints, as it is: "null" where that is no text, and "" where it reads a member of something that the event
// does not have.
func (f *Filter) Text(ev *event.Event) (string, error) {
	if c, ok := f.engine.(constant); ok {
		return string(c), nil
	}
	text, ok, err := f.text(ev)
	switch {
	case errors.Is(err, errSkip):
		return "", nil
	case err != nil:
		return "", err
	case !ok:
		return "null", nil
	}
	return strings.Clone(text), nil // it may share the event's bytes
}

// result makes the decision of what a template printed. An output that is no text counts as null.
func result(text string, ok bool) Result {
	if !ok {
		text = "null"
	}
	name := tableName(text)
	return Result{Name: name, Keep: name != "" && name != "null" && name != "false"}
}

// tableName rewrites what a template printed as Jitsu does. "<no value>" is what Go templates print for a missing field.
func tableName(text string) string {
	text = strings.ToLower(strings.TrimSpace(strings.ReplaceAll(text, noValue, "null")))
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range text {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			b.WriteByte(byte(r))
		} else {
			b.WriteByte('_')
		}
	}
	return b.String()
}

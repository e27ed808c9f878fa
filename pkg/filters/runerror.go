package filters

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"
)

// errSkip stands for a script that ended because it read a field of something that the event does not have.
var errSkip = errors.New(LacksMember)

// errEngine is wrapped by the error of an evaluation on which the script engine itself failed.
var errEngine = errors.New("the script engine failed")

// lacksMember is an error because of which filters skip, with the words of the engine.
type lacksMember string

func (l lacksMember) Error() string   { return string(l) }
func (lacksMember) Is(err error) bool { return err == errSkip }

// engineError is the error for what the engine panicked with.
func (s *script) engineError(x any) error {
	err, ok := x.(error)
	if !ok {
		return fmt.Errorf("%w: %v", errEngine, x)
	}
	if limit := s.limitError(err); limit != nil {
		return limit
	}
	if exception, ok := errors.AsType[*goja.Exception](err); ok { // of a getter of the result, say
		return s.runError(exception)
	}
	return fmt.Errorf("%w: %w", errEngine, err)
}

// limitError returns what stopped a script that ran away, with the line that it was on and without the engine's own words, and nil for all other errors.
func (s *script) limitError(err error) error {
	var interrupted *goja.InterruptedError
	var overflow *goja.StackOverflowError
	switch {
	case errors.As(err, &interrupted):
		if err := interrupted.Unwrap(); err != nil {
			return fmt.Errorf("%s%w", s.place(framePosition(interrupted.Stack())), err)
		}
	case errors.As(err, &overflow):
		return fmt.Errorf("%s%w: functions call each other more than %d deep", s.place(framePosition(overflow.Stack())), ErrLimit, maxCallDepth)
	}
	return nil
}

// place is how an error begins that has a position: "transform line 3, column 7: ". Without one, it is "" or the name.
func (s *script) place(position string) string {
	parts := strings.Fields(s.dialect.name + " " + position)
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(parts, " ") + ": "
}

// runError makes of what the engine reports an error for a person, with the line and column of the script. It may run code
// of the script, so the limit must still hold.
func (s *script) runError(err error) error {
	if limit := s.limitError(err); limit != nil {
		return limit
	}
	var exception *goja.Exception
	var rejected *rejection
	switch {
	case errors.As(err, &exception):
		return s.thrown(exception.Value(), framePosition(exception.Stack()))
	case errors.As(err, &rejected):
		return s.thrown(rejected.value, "")
	}
	return fmt.Errorf("%s%w", s.place(""), err)
}

// thrown is the error for a value that the script throws. position is "line 1, column 2", or "" to take it from an Error's stack.
func (s *script) thrown(v goja.Value, position string) error {
	text, name, stack := "", "", ""
	if ex := s.runtime.Try(func() {
		text = v.String()
		if o, ok := v.(*goja.Object); ok {
			name, stack = property(o, "name"), property(o, "stack")
		}
	}); ex != nil {
		text = "an object that can not be printed"
	}
	if position == "" {
		position = stackPosition(stack)
	}
	if name == "TypeError" && readsUndefined(text) {
		return lacksMember(fmt.Sprintf("%s%.200s; write ?. for what may be missing", s.place(position), text))
	}
	return fmt.Errorf("%s%.200s", s.place(position), text)
}

func property(o *goja.Object, name string) string {
	v := o.Get(name)
	if v == nil {
		return ""
	}
	return v.String()
}

// readsUndefined recognises the engine's message for $.a.b, and that for const {b} = $.a, where the event has no a.
func readsUndefined(text string) bool {
	text = strings.TrimPrefix(text, "TypeError: ")
	return strings.HasPrefix(text, "Cannot read property '") && strings.Contains(text, "' of undefined") ||
		text == "Value is not object coercible"
}

// framePosition is the innermost place on the stack that is in the user's script. What happens before its first line, in the function around it, is told as its beginning:
// a busy machine may use up the time of a script that has not begun.
func framePosition(stack []goja.StackFrame) string {
	around := false
	for i := range stack {
		if stack[i].SrcName() != scriptName {
			continue
		}
		at := stack[i].Position()
		if at.Line > 1 {
			return fmt.Sprintf("line %d, column %d", at.Line-1, at.Column)
		}
		around = true
	}
	if around {
		return "line 1, column 1"
	}
	return ""
}

var frame = regexp.MustCompile(`\b` + scriptName + `:(\d+):(\d+)`)

// stackPosition is framePosition for the stack that an Error carries as text.
func stackPosition(stack string) string {
	m := frame.FindStringSubmatch(stack)
	if m == nil {
		return ""
	}
	line, err := strconv.Atoi(m[1])
	if err != nil {
		return ""
	}
	return fmt.Sprintf("line %d, column %s", line-1, m[2])
}

// checkDepth stops a script that parses JSON so deep that the engine would run out of stack, which ends the process.
func checkDepth(rt *goja.Runtime, json string) {
	depth := 0
	for i := range len(json) {
		switch json[i] {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
		if depth > maxJSONDepth {
			rt.Interrupt(fmt.Errorf("%w: JSON nested more than %d deep", ErrLimit, maxJSONDepth))
			return
		}
	}
}

// formatTime is the Format method that strings have in scripts: layout as Go writes it, 2006_01 for year and month.
func formatTime(rt *goja.Runtime, text, layout string) string {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(rt.NewTypeError(fmt.Sprintf("Format: %.40q is not a time", text)))
	}
	return at.Format(layout)
}

package filters

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// KV is what the scripts of one destination keep between events. Values are JSON.
type KV interface {
	// Load returns the value of key, and false when there is none or its time is over.
	Load(key string) (json string, ok bool, err error)
	// Store sets key for ttl.
	Store(key, json string, ttl time.Duration) error
	// Delete removes key, if it is there.
	Delete(key string) error
}

// World is what a transform may reach beside its event. The zero World is empty: $kv keeps nothing, and nobody reads what console prints.
type World struct {
	KV KV
	// Log takes one line that the script printed; level is debug, info, warn or error. Nil: nobody reads it.
	Log func(level, line string)
}

// Transform is a compiled data_layout.transform: it makes of an event none, one or several others. It is not for concurrent use.
type Transform struct {
	script   *script
	warnings []string
}

// Output is one event that a transform made.
type Output struct {
	// Event is the event as filters and the destination get it. It shares what it can with the one that the transform got.
	Event *event.Event
	// Table is what the script returned as JITSU_TABLE_NAME: it goes before what table_name_template says. Nil: nothing, or no text.
	Table *Result
}

// CompileTransform parses src and finds everything that can be known to be wrong with it: an error is a [*SyntaxError]. A script that is exactly
// `return $` changes nothing: then the Transform is nil.
func CompileTransform(src string, o Options) (*Transform, error) {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if len(src) > maxSourceBytes {
		return nil, tooLong(src)
	}
	if s := strings.TrimSpace(src); s == "return $" || s == "return $;" {
		return nil, nil
	}
	s, warnings, err := compileScript(src, o)
	if err != nil {
		return nil, err
	}
	s.space.numbers = map[float64]string{}
	return &Transform{script: s, warnings: warnings}, nil
}

// Warnings returns what works but is hardly meant.
func (t *Transform) Warnings() []string { return t.warnings }

// UsesKV says whether the script may reach World.KV.
func (t *Transform) UsesKV() bool { return false }

// Eval runs the script on ev and returns its outputs; none: the event is not for this destination, and why says how the script said so. ev is not changed. An
// error sends the event to the dead letters; one that wraps [ErrLimit] says that the script ran away.
func (t *Transform) Eval(ev *event.Event, w World) (outputs []Output, why string, err error) {
	text, err := t.script.json(string(ev.AppendView(nil)))
	if errors.Is(err, errSkip) {
		return nil, LacksMember, nil
	}
	if err != nil {
		return nil, "", err
	}
	result := gjson.Parse(text)
	switch {
	case text == "" || result.Type == gjson.Null:
		return nil, "the transform returned " + map[bool]string{true: "undefined", false: "null"}[text == ""], nil
	case result.IsObject():
		return []Output{t.output(ev, result, 0)}, "", nil
	case !result.IsArray():
		return nil, "", fmt.Errorf("the transform returned a %s; it returns an object, a list of objects, or null", result.Type)
	}
	for i, e := range result.Array() {
		if e.IsObject() {
			outputs = append(outputs, t.output(ev, e, len(outputs)))
		} else if e.Type != gjson.Null {
			return nil, "", fmt.Errorf("element %d of what the transform returned is no object", i)
		}
	}
	return outputs, "the transform returned no events", nil
}

func (t *Transform) output(ev *event.Event, result gjson.Result, i int) Output {
	out := *ev
	out.JSON = []byte(result.Raw)
	if i > 0 {
		out.ID += "_" + strconv.Itoa(i)
	}
	return Output{Event: &out}
}

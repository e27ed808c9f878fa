package filters

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unsafe"

	"github.com/dop251/goja"

	"eventrouter/pkg/event"
)

// World is what a transform may reach beside its event. The zero World is empty: $kv keeps nothing, and nobody reads what console prints.
type World struct {
	KV KV
	// Log takes one line that the script printed; level is debug, info, warn or error. Nil: nobody reads it.
	Log func(level, line string)
}

// Transform is a compiled data_layout.transform: it makes of an event none, one or several others. It is not for concurrent use.
type Transform struct {
	script    *script
	warnings  []string
	envelopes bool   // it may say where webhooks send an event
	tables    bool   // it may name a table
	out       []byte // one output as JSON; reused
}

// Output is one event that a transform made.
type Output struct {
	// Event is the event as filters and the destination get it. It shares what it can with the one that the transform got.
	Event *event.Event
	// Table is what the script returned as JITSU_TABLE_NAME: it goes before what table_name_template says. Nil: nothing, or no text.
	Table *Result
}

// TableName is the member with which a transform names a table, or keeps its output from being delivered.
const TableName = "JITSU_TABLE_NAME"

// maxOutputs is how many events a transform may make of one.
const maxOutputs = 100

// transforms are what scripts that make events may do beside all others.
var transforms = dialect{events: true, names: set("$kv", "toSegment")}

// CompileTransform parses src and finds everything that can be known to be wrong with it: an error is a [*SyntaxError]. A script that is exactly
// `return $` changes nothing: then the Transform is nil.
func CompileTransform(src string, o Options) (*Transform, error) {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit
	}
	if len(src) > maxSourceBytes {
		return nil, &SyntaxError{
			Line: 1, Column: 1, What: fmt.Sprintf("the script is %d bytes long", len(src)), Fix: fmt.Sprintf("a transform has at most %d bytes", maxSourceBytes),
		}
	}
	if s := strings.TrimSpace(src); s == "return $" || s == "return $;" {
		return nil, nil
	}
	d := transforms
	if d.name = "transform"; o.File != "" {
		d.name += " " + o.File
	}
	s, warnings, err := compileScript(src, o, d)
	if err != nil {
		var syntax *SyntaxError
		if errors.As(err, &syntax) && syntax.Fix == constantFix {
			syntax.Fix = ""
		}
		return nil, err
	}
	s.space.numbers = map[float64]string{}
	s.space.lists = map[*goja.Object]list{}
	s.space.hidden = TableName
	return &Transform{
		script: s, warnings: warnings, envelopes: strings.Contains(src, event.FieldEnvelope),
		tables: strings.Contains(src, "TABLE_NAME") || s.uses["toSegment"], // which names one itself
	}, nil
}

// Warnings returns what works but is hardly meant.
func (t *Transform) Warnings() []string { return t.warnings }

// UsesKV says whether the script may reach World.KV.
func (t *Transform) UsesKV() bool { return t.script.uses["$kv"] }

// Eval runs the script on ev and returns its outputs; none: the event is not for this destination, and why says how the script said so. ev is not changed. An
// error sends the event to the dead letters; one that wraps [ErrLimit] says that the script ran away.
//
// What the script writes with $kv is in w.KV when Eval returns without an error, and else it is not. What it printed is in w.Log either way.
func (t *Transform) Eval(ev *event.Event, w World) (outputs []Output, why string, err error) {
	s := t.script
	view := ev.AppendView(make([]byte, 0, len(ev.JSON)+envelopeBytes)) // nobody writes to it, so that texts of the event can share it
	if t.envelopes {
		view = event.WithoutEnvelopes(view)
	}
	for try := range 3 {
		outputs, why = nil, ""
		s.kv.begin(w.KV) // what an earlier try wrote and printed does not count
		s.listened, s.printed = w.Log != nil, s.printed[:0]
		if try == 2 { // as for values: an event should not be lost because the machine was busy
			s.options.Limit *= patience
		}
		err = s.on(unsafe.String(unsafe.SliceData(view), len(view)), func(v goja.Value) (err error) {
			outputs, why, err = t.outputs(ev, view, v)
			return err
		})
		if try == 2 {
			s.options.Limit /= patience
		}
		if !errors.Is(err, errTime) {
			break
		}
	}
	if w.Log != nil {
		for _, l := range s.printed {
			w.Log(l.level, l.text)
		}
	}
	if s.kv.err != nil {
		err = s.kv.err // whatever the script made of it
	}
	if err == nil {
		err = s.kv.apply()
	}
	if err != nil {
		return nil, "", err
	}
	return outputs, why, nil
}

// envelopeBytes are what the envelope adds to a view, mostly.
const envelopeBytes = 512

// outputs makes events of what the script returned.
func (t *Transform) outputs(ev *event.Event, view []byte, v goja.Value) (outputs []Output, why string, err error) {
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return nil, "the transform returned " + kindOf(v), nil
	}
	o, ok := v.(*goja.Object)
	if !ok || o.ClassName() != "Array" {
		out, err := t.output(ev, view, v, 0)
		if err != nil {
			return nil, "", t.misfit("it returned ", err)
		}
		return []Output{out}, "", nil
	}
	n := o.Get("length").ToInteger()
	if n > maxElements {
		return nil, "", fmt.Errorf("%w: %s: it returned a list of %d elements", ErrLimit, t.script.dialect.name, n)
	}
	for i := range n {
		e := o.Get(strconv.FormatInt(i, 10))
		if e == nil || !e.ToBoolean() {
			continue // as in Jitsu: [$, $.revenue && {…}]
		}
		if len(outputs) == maxOutputs {
			return nil, "", fmt.Errorf("%w: %s: it returned more than %d events", ErrLimit, t.script.dialect.name, maxOutputs)
		}
		out, err := t.output(ev, view, e, len(outputs))
		if err != nil {
			return nil, "", t.misfit(fmt.Sprintf("element %d of the list that it returned is ", i), err)
		}
		outputs = append(outputs, out)
	}
	switch {
	case len(outputs) > 0:
		return outputs, "", nil
	case n == 0:
		return nil, "the transform returned an empty list", nil
	}
	return nil, "the transform returned a list of nothing but null, undefined, false, 0 and empty texts", nil
}

// misfit is the error for a result that is no event, or holds what is no value.
func (t *Transform) misfit(what string, err error) error {
	if _, ok := errors.AsType[unfit](err); !ok {
		what = ""
	}
	return fmt.Errorf("%s: %s%w", t.script.dialect.name, what, err)
}

// unfit is the error for something that is no event. It is the end of a sentence.
type unfit string

func (u unfit) Error() string {
	return string(u) + "; a transform returns an object, a list of objects, or null to skip the event"
}

// output makes the event of one object.
func (t *Transform) output(ev *event.Event, view []byte, v goja.Value, index int) (out Output, err error) {
	s := t.script
	o, ok := v.(*goja.Object)
	if !ok || o.ClassName() != "Object" {
		return out, unfit(kindOf(v))
	}
	var table goja.Value
	if of := own(o); of != nil {
		t.out, table, err = s.appendEvent(t.out[:0], of)
	} else if isPlain(o) != nil {
		return out, unfit(kindOf(v))
	} else {
		table = o.Get(TableName)
		t.out, err = s.appendPlain(t.out[:0], o, 0, TableName)
	}
	if err == nil && len(t.out) > s.room {
		err = errTooLong
	}
	if err != nil {
		return out, err
	}
	out.Event = ev.Changed(view, t.out, index)
	out.Event.Enveloped = out.Event.Enveloped && t.envelopes // else the script has copied it from somewhere in what the client sent
	if text, ok := table.(goja.String); ok && t.tables {     // else it is a client's
		name := text.String()
		out.Table = &Result{Name: name, Keep: name != "" && name != "null" && name != "false"}
		if !out.Table.Keep {
			out.Table.Why = fmt.Sprintf("the transform set %s to %q", TableName, name)
		}
	}
	return out, nil
}

// appendEvent appends an object of the event without the table, and returns that.
func (s *script) appendEvent(dst []byte, o *object) (_ []byte, table goja.Value, err error) {
	if !o.read && !strings.Contains(o.json, TableName) && !strings.Contains(o.json, `\u`) { // which may write that name, too
		return append(dst, o.json...), nil, nil
	}
	table = o.Get(TableName)
	dst, err = s.appendMembers(dst, o, 0, TableName)
	return dst, table, err
}

// kindOf names a value in plain words.
func kindOf(v goja.Value) string {
	o, ok := v.(*goja.Object)
	switch {
	case v == nil || goja.IsUndefined(v):
		return "undefined"
	case goja.IsNull(v):
		return "null"
	case goja.IsString(v):
		return fmt.Sprintf("the text %.40q", v.String())
	case goja.IsBigInt(v):
		return "a BigInt"
	case goja.IsNumber(v):
		return "the number " + v.String()
	case !ok:
		if _, ok := v.(*goja.Symbol); ok {
			return "a symbol"
		}
		return v.String() // true or false
	}
	switch class := o.ClassName(); class {
	case "Array":
		return "a list"
	case "Function":
		return "a function"
	case "Object":
		if isPlain(o) == nil || own(v) != nil {
			return "an object"
		}
		return "a " + kindName(o)
	case "Error":
		return "an Error"
	default:
		return "a " + class
	}
}

// kindName is the name of what made an object.
func kindName(o *goja.Object) string {
	switch t := o.ExportType(); {
	case t == promiseType:
		return "Promise"
	case t != nil && t.Kind() == reflect.Slice:
		return "collection"
	case t != nil && t.Name() != "":
		return t.Name()
	}
	return "thing of the engine"
}

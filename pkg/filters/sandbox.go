package filters

import (
	_ "embed"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// Bounds of a script, far above what a filter needs. They stop accidents; the author of a script is the operator.
const (
	maxCallDepth    = 1000
	maxString       = 1 << 20 // UTF-16 units
	maxElements     = 1 << 20 // of an array that a built-in function walks through
	maxJSONDepth    = 1000
	maxExponentBits = 16 // of a BigInt that is a power or a shift
)

//go:embed prelude.js
var preludeSource string

// prelude returns the compiled prelude.js, which any number of engines may run.
var prelude = sync.OnceValue(func() *goja.Program {
	return goja.MustCompile("prelude.js", preludeSource, true)
})

// limitRegexps bounds the engine's backtracking regular expressions: they would else try `(a|aa)+$` on a client's text for hours, and
// nothing interrupts a match. The library takes the bound from package variables at the time an expression is compiled. Its clock is coarse
// and may lag on a busy machine, and a match that it gives up counts as none; so the bound is wide, and run looks at the clock itself.
var limitRegexps = sync.OnceFunc(func() {
	regexp2.DefaultMatchTimeout = 50 * time.Millisecond
	regexp2.SetTimeoutCheckPeriod(10 * time.Millisecond)
})

// script is a template in JavaScript with the engine that runs it.
type script struct {
	program   *goja.Program
	options   Options
	dialect   dialect
	uses      map[string]bool // names of the dialect
	path      []step          // of the field that is all it reads; nil for others
	direct    *jsDirect       // the script without the engine; nil: it does more than that can
	reads     []string        // members of the event that it names, without _timestamp
	names     *event.Names    // reads, and _timestamp; nil: it may reach others
	readsTime bool            // it names _timestamp among them
	timestamp bool            // it mentions _timestamp, which makes the field mandatory
	lenient   bool            // what it returns is written as JSON.stringify does: what is no value is left out, or null

	runtime *goja.Runtime // nil: to be made before the next run
	main    goja.Callable
	drain   goja.Callable // does nothing itself
	grown   goja.Value
	copied  goja.Value // of events; nil for others
	merged  goja.Value
	kvs     goja.Value // $kv
	timer   *time.Timer
	lookup  event.Lookup
	members []member      // of the event in hand; reused
	space   space         // of the event in hand
	view    string        // the event in hand
	out     []byte        // the last result as JSON; reused
	room    int           // bytes that it may have
	fired   chan struct{} // receives one value each time that timer fires

	kv       session         // of the event in hand, as what follows
	listened bool            // somebody reads what it prints
	printed  []logLine       // at most maxLogLines and one that says so
	rejected []*goja.Promise // that nobody awaits
}

// start makes a fresh engine with nothing in it but the prelude and the script.
func (s *script) start() error {
	rt := goja.New()
	rt.SetParserOptions(parser.WithDisableSourceMaps)
	rt.SetMaxCallStackSize(maxCallDepth)
	setUp, err := rt.RunProgram(prelude())
	if err != nil {
		panic("BUG: prelude.js: " + err.Error())
	}
	host := map[string]any{
		"destination": s.options.Destination,
		"type":        s.options.Type,
		"maxString":   maxString,
		"maxElements": maxElements,
		"limit":       func(what string) { rt.Interrupt(fmt.Errorf("%w: %s", ErrLimit, what)) },
		"checkDepth":  func(json string) { checkDepth(rt, json) },
		"header": func(name string) goja.Value {
			if text, ok := header(s.view, name); ok {
				return rt.ToValue(text)
			}
			return goja.Undefined()
		},
		"formatTime": func(text, layout string) string { return formatTime(rt, text, layout) },
	}
	if s.dialect.events {
		s.makesEvents(rt, host)
	}
	call, _ := goja.AssertFunction(setUp)
	if s.kvs, err = call(goja.Undefined(), rt.ToValue(host)); err != nil {
		panic("BUG: prelude.js: " + err.Error())
	}
	if !s.dialect.events {
		s.kvs = goja.Undefined()
	}
	function, err := rt.RunProgram(s.program)
	if err != nil {
		return err
	}
	s.main, _ = goja.AssertFunction(function)
	s.drain, _ = goja.AssertFunction(rt.ToValue(func(goja.FunctionCall) goja.Value { return goja.Undefined() }))
	s.grown = rt.ToValue(func(c goja.FunctionCall) goja.Value { return checkGrown(rt, c.Argument(0)) })
	fired := make(chan struct{}, 1)
	s.fired = fired
	s.timer = time.AfterFunc(time.Hour, func() {
		rt.Interrupt(errTime)
		fired <- struct{}{}
	})
	s.timer.Stop()
	s.runtime = rt
	return nil
}

// makesEvents gives an engine what only scripts that make events have.
func (s *script) makesEvents(rt *goja.Runtime, host map[string]any) {
	host["print"], host["kvGet"], host["kvSet"], host["kvDel"] = s.print, s.kvGet, s.kvSet, s.kvDel
	s.copied = rt.ToValue(func(c goja.FunctionCall) goja.Value { return s.copyOf(c.Argument(0)) })
	s.merged = rt.ToValue(func(c goja.FunctionCall) goja.Value { return s.mergeOf(c.Arguments) })
	rt.SetPromiseRejectionTracker(func(p *goja.Promise, is goja.PromiseRejectionOperation) {
		if is == goja.PromiseRejectionReject {
			s.rejected = append(s.rejected, p)
		} else {
			s.rejected = slices.DeleteFunc(s.rejected, func(other *goja.Promise) bool { return other == p })
		}
	})
}

// checkGrown stops the script when v has become too large; see boundStrings.
func checkGrown(rt *goja.Runtime, v goja.Value) goja.Value {
	if text, ok := v.(goja.String); ok && text.Length() > maxString {
		rt.Interrupt(fmt.Errorf("%w: a string is too long", ErrLimit))
	}
	if goja.IsBigInt(v) && v.Export().(*big.Int).BitLen() > maxExponentBits {
		rt.Interrupt(fmt.Errorf("%w: a number is too large", ErrLimit))
	}
	return v
}

func (s *script) evalEvent(ev *event.Event) (text string, ok bool, err error) {
	err = s.onEvent(ev, func(v goja.Value) (err error) {
		text, ok, err = nameText(v)
		return err
	})
	if err != nil {
		text, ok = "", false
	}
	return text, ok, err
}

// on runs the script on a view and gives what it came to to take, within the limit.
func (s *script) on(view string, take func(goja.Value) error) error {
	if s.timestamp && !gjson.Get(view, event.FieldTimestamp).Exists() {
		return errNoTimestamp
	}
	s.view = view
	return s.onRoot(&object{json: view, members: s.members[:0]}, len(view), take)
}

var errNoTimestamp = errors.New("the script uses _timestamp, and the event has none")

// onEvent runs the script on ev, without making the view if the script names what it reads. Texts of the value share the event's bytes.
func (s *script) onEvent(ev *event.Event, take func(goja.Value) error) error {
	if s.names == nil {
		return s.on(string(ev.AppendView(nil)), take)
	}
	s.lookup.Reset(ev, s.names)
	if s.timestamp && s.lookup.Get(len(s.reads)) == "" {
		return errNoTimestamp
	}
	members := s.members[:0]
	add := func(i int, name string) {
		if raw := s.lookup.Get(i); raw != "" {
			members = append(members, member{key: name, cell: cell{json: raw}})
		}
	}
	for i, name := range s.reads {
		add(i, name)
	}
	if s.readsTime {
		add(len(s.reads), event.FieldTimestamp)
	}
	return s.onRoot(&object{members: members, read: true}, len(ev.JSON), take)
}

// onRoot runs the script on the event that root is, of so many bytes.
func (s *script) onRoot(root *object, size int, take func(goja.Value) error) error {
	if s.runtime == nil {
		if err := s.start(); err != nil {
			return err
		}
	}
	s.space.runtime = s.runtime
	s.room = max(maxOutputBytes, 2*size) // where larger events are let in, they can be passed on
	clear(s.space.numbers)
	clear(s.space.lists)
	root.space = &s.space
	err := s.run(s.runtime.NewDynamicObject(root), take)
	s.view = "" // which may be large
	clear(root.members)
	s.members = root.members
	return err
}

// run calls the script and everything that it left to be done later, within the limit. After a script that ran away, the engine may
// be in any state, so the next event gets a new one.
func (s *script) run(ev *goja.Object, take func(goja.Value) error) (err error) {
	rt := s.runtime
	began := time.Now()
	rt.ClearInterrupt() // of a script that ended before it came to notice
	s.timer.Reset(s.options.Limit)
	defer func() {
		if !s.timer.Stop() {
			// It has fired, and may be about to interrupt: wait, so that it does not interrupt the next event.
			<-s.fired
		}
		if x := recover(); x != nil {
			err = s.engineError(x)
		}
		if !errors.Is(err, ErrLimit) && time.Since(began) >= s.options.Limit {
			err = errTime // whatever it came to: a regular expression may have given up
		}
		if errors.Is(err, ErrLimit) || errors.Is(err, errEngine) {
			s.runtime = nil
		}
	}()
	s.rejected = s.rejected[:0]
	main, err := s.main(goja.Undefined(), ev, ev, ev, s.grown, s.copied, s.merged, s.kvs)
	v := main
	if err == nil {
		v, err = settled(main)
	}
	if err != nil {
		return s.runError(err)
	}
	err = take(v)
	// What getters have left to be done later is done now, not in the next event's run, whose members it would see.
	if _, later := s.drain(goja.Undefined()); err == nil {
		err = later
	}
	if err != nil {
		return s.taken(err)
	}
	if len(s.rejected) > 0 { // else what was not written with $kv would go unnoticed
		return s.runError(&rejection{s.rejected[0].Result()})
	}
	return nil
}

// taken is the error of what was made of the script's result, which may have run code of the script.
func (s *script) taken(err error) error {
	if limit := s.limitError(err); limit != nil {
		return limit
	}
	if exception, ok := errors.AsType[*goja.Exception](err); ok {
		return s.runError(exception)
	}
	return err
}

// settled returns what the promise v came to, and v itself when it is none. All jobs have run by now, and nothing outside
// the script could settle it later.
func settled(v goja.Value) (goja.Value, error) {
	object, ok := v.(*goja.Object)
	if !ok || object.ExportType() != promiseType {
		return v, nil
	}
	promise := object.Export().(*goja.Promise)
	switch promise.State() {
	case goja.PromiseStateFulfilled:
		return promise.Result(), nil
	case goja.PromiseStateRejected:
		return nil, &rejection{promise.Result()}
	default:
		return nil, errors.New("the script awaits something that never happens")
	}
}

var promiseType = reflect.TypeFor[*goja.Promise]()

// rejection is an exception that left the script through a promise.
type rejection struct{ value goja.Value }

func (r *rejection) Error() string { return "promise rejected" }

// nameText is what a script's result prints, as Jitsu sees it after a passage through JSON: objects, arrays, functions, undefined, null
// and NaN are no text.
func nameText(v goja.Value) (text string, ok bool, err error) {
	switch {
	case v == nil || goja.IsUndefined(v) || goja.IsNull(v) || goja.IsNaN(v) || goja.IsInfinity(v):
		return "", false, nil
	case goja.IsBigInt(v):
		return "", false, errors.New("the script returns a BigInt, which is no table name; return a string")
	}
	if _, ok := v.(*goja.Symbol); ok {
		return "", false, nil
	}
	object, ok := v.(*goja.Object)
	if !ok {
		return v.String(), true, nil
	}
	switch object.ClassName() {
	case "String", "Number", "Boolean":
		return object.String(), true, nil
	case "Date":
		at, ok := object.Export().(time.Time)
		return at.UTC().Format("2006-01-02T15:04:05.000Z"), ok, nil
	}
	return "", false, nil
}

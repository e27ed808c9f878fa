package hubspot

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// expressions make the values of mapped properties. Their engines are not for concurrent use, so each user takes a set of its own: there are
// as many as there ever were at a time, one for each call in flight and one for the sorter.
type expressions struct {
	path    string   // where they stand in the settings
	names   []string // of the properties, sorted
	sources []string
	options filters.Options
	log     *slog.Logger

	mu     sync.Mutex // guards the fields below
	free   [][]*filters.Value
	failed map[string]bool // properties whose failure was logged
}

// valueOf is what an expression gives for a property.
type valueOf struct {
	name  string
	value gjson.Result // does not exist: the event says nothing
	err   error
}

// compileExpressions compiles those that stand under path.
func compileExpressions(path string, sources map[string]string, o filters.Options, log *slog.Logger, fail func(key, format string, args ...any)) *expressions {
	x := &expressions{path: path, names: slices.Sorted(maps.Keys(sources)), options: o, log: log}
	var first []*filters.Value
	for _, name := range x.names {
		src := sources[name]
		v, err := filters.CompileValue(src, o)
		if err != nil {
			fail(path+"."+name, "%v", err)
			continue
		}
		for _, w := range v.Warnings() {
			log.Warn(path + "." + name + ": " + w)
		}
		x.sources = append(x.sources, src)
		first = append(first, v)
	}
	x.free = [][]*filters.Value{first}
	return x
}

// compile makes one set. Its sources compiled before.
func (x *expressions) compile() []*filters.Value {
	set := make([]*filters.Value, len(x.sources))
	for i, src := range x.sources {
		v, err := filters.CompileValue(src, x.options)
		if err != nil {
			panic("BUG: an expression that was checked does not compile: " + err.Error())
		}
		set[i] = v
	}
	return set
}

func (x *expressions) take() []*filters.Value {
	x.mu.Lock()
	n := len(x.free)
	if n == 0 {
		x.mu.Unlock()
		return x.compile()
	}
	set := x.free[n-1]
	x.free = x.free[:n-1]
	x.mu.Unlock()
	return set
}

func (x *expressions) give(set []*filters.Value) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.free = append(x.free, set)
}

// has says whether an expression makes the property.
func (x *expressions) has(name string) bool {
	_, ok := slices.BinarySearch(x.names, name)
	return ok
}

// one evaluates the expression of one property.
func (x *expressions) one(name string, ev *event.Event) (gjson.Result, error) {
	i, ok := slices.BinarySearch(x.names, name)
	if !ok {
		return gjson.Result{}, nil
	}
	set := x.take()
	defer x.give(set)
	return set[i].Eval(filters.NewView(ev))
}

// all appends what the expressions give for an event, except that of the property without.
func (x *expressions) all(dst []valueOf, ev *event.Event, without string) []valueOf {
	if len(x.names) == 0 {
		return dst
	}
	set := x.take()
	defer x.give(set)
	view := filters.NewView(ev)
	for i, name := range x.names {
		if name == without {
			continue
		}
		v, err := set[i].Eval(view)
		if err != nil {
			x.report(name, err)
		}
		dst = append(dst, valueOf{name, v, err})
	}
	return dst
}

// report logs the first failure of each expression: one that fails always would else fail unseen.
func (x *expressions) report(name string, err error) {
	x.mu.Lock()
	known := x.failed[name]
	if x.failed == nil {
		x.failed = map[string]bool{}
	}
	x.failed[name] = true
	x.mu.Unlock()
	if !known {
		x.log.Warn("an expression fails; its property is left out where it does, and that is not logged again",
			"expression", x.path+"."+name, "error", err.Error(), "ran_away", errors.Is(err, filters.ErrLimit))
	}
}

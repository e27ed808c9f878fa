package router

import (
	"errors"
	"fmt"
	"slices"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// Decision is what a route makes of one output of an event, before anything is sent. A transform makes several, or none; without one there is one output, the
// event itself.
type Decision struct {
	Index int
	// Event is the output as the destination gets it, and what went into the part of the route that has refused it.
	Event *event.Event
	// Plans say where the output goes, one for each lane entry; nil: nowhere.
	Plans []destinations.Plan
	// Status is store.Filtered, store.Skipped or store.Dead where the output goes nowhere, "" where it has plans.
	Status store.Status
	// Reason says why: of a dead letter its class, such as transform, filter or plan.
	Reason string
	// Err is what went wrong, of a dead letter.
	Err error

	unidentified bool // it would be otherwise if one knew whose event it is
	failed       bool // the transform has failed: what it kept counts for nothing
	changed      bool // the transform has made another event of what it got
	outputs      int  // that the event has; 0: none, or it did not get as far
}

// Unidentified says that the decision would be another if one knew whose event it is.
func (d *Decision) Unidentified() bool { return d.unidentified }

// Decide appends to dst what the route makes of ev. It changes nothing but what scripts keep in the world. One goroutine calls it at a time.
func (r *Route) Decide(dst []Decision, ev *event.Event, w filters.World) []Decision {
	if r.filtering != nil && (r.Transform != nil || r.Filter != nil) {
		// What the sorter waits for an aside counts as the scripts' own time: that is what sets a destination aside.
		r.filtering <- struct{}{}
		defer func() { <-r.filtering }()
	}
	enriched, err := r.enrich(ev)
	if err != nil {
		return append(dst, dead(0, ev, "panic", err))
	}
	if r.Transform == nil {
		d := r.decide(0, &filters.Output{Event: enriched})
		d.outputs = 1
		return append(dst, d)
	}
	outputs, why, err := r.transform(enriched, w)
	if reason, skip := destinations.IsSkip(err); skip {
		return append(dst, Decision{Event: enriched, Status: store.Skipped, Reason: reason})
	}
	switch {
	case err != nil:
		d := dead(0, enriched, reasonOf(err, "transform"), err)
		d.failed = true
		return append(dst, d)
	case len(outputs) == 0:
		return append(dst, Decision{Event: enriched, Status: store.Filtered, Reason: why})
	}
	for i := range outputs {
		d := r.decide(i, &outputs[i])
		d.changed, d.outputs = !outputs[i].Event.Same(enriched), len(outputs)
		dst = append(dst, d)
	}
	return dst
}

func dead(index int, ev *event.Event, reason string, err error) Decision {
	return Decision{Index: index, Event: ev, Status: store.Dead, Reason: reason, Err: err}
}

// panicError is a panic as an error.
type panicError struct{ error }

// caught makes an error of what a panic was about; nil: there was none.
func caught(p any) error {
	if p == nil {
		return nil
	}
	return panicError{fmt.Errorf("panic: %v\n%s", p, stack())}
}

// reasonOf is the class of a dead letter: panic for a panic, else class.
func reasonOf(err error, class string) string {
	if _, ok := errors.AsType[panicError](err); ok {
		return "panic"
	}
	return class
}

func (r *Route) enrich(ev *event.Event) (out *event.Event, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = caught(p)
		}
	}()
	return r.Enrichment.Apply(ev), nil
}

func (r *Route) transform(ev *event.Event, w filters.World) (outputs []filters.Output, why string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = caught(p)
		}
	}()
	return r.Transform.Eval(ev, w)
}

// decide takes one output through the filters and the destination's plan. What fails, a panic also, concerns this output alone.
func (r *Route) decide(index int, out *filters.Output) (d Decision) {
	ev := out.Event
	defer func() {
		if p := recover(); p != nil {
			d = dead(index, ev, "panic", caught(p))
		}
	}()
	res, err := r.keeps(out)
	switch {
	case err != nil:
		return dead(index, ev, "filter", err)
	case !res.Keep:
		return Decision{Index: index, Event: ev, Status: store.Filtered, Reason: res.Why}
	}
	d = Decision{Index: index, Event: ev}
	r.plan(&d)
	return d
}

// plan asks the destination where an output goes.
func (r *Route) plan(d *Decision) {
	var err error
	d.Plans, err = r.Destination.Plan(d.Event)
	_, d.unidentified = errors.AsType[*destinations.UnidentifiedError](err)
	if reason, ok := destinations.IsSkip(err); ok {
		d.Status, d.Reason = store.Skipped, reason
	} else if err != nil {
		d.Status, d.Reason, d.Err = store.Dead, "plan", err
	}
}

// Takes says whether the route gets an event. What the router itself tells of goes only to those who ask for it, and events of an app to who delivers to its accounts, or asks.
func (r *Route) Takes(ev *event.Event) bool {
	if event.IsNoticeKey(ev.APIKey) {
		return slices.Contains(r.Notices, ev.APIKey)
	}
	if app := ev.App(); app != "" && r.APIKeys == nil {
		return r.Connection == app
	}
	return r.APIKeys == nil || r.APIKeys[ev.APIKey]
}

// keeps asks the filters: that without code, and then the template, unless the transform named a table itself.
func (r *Route) keeps(out *filters.Output) (filters.Result, error) {
	if r.Match != nil {
		if res, err := r.Match.Eval(out.Event); err != nil || !res.Keep {
			return res, err
		}
	}
	switch {
	case out.Table != nil:
		return *out.Table, nil
	case r.Filter != nil:
		return r.Filter.Eval(out.Event)
	}
	return filters.Result{Keep: true}, nil
}

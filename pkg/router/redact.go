package router

import (
	"errors"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/redact"
)

// hiddenError is an error whose text repeats no value that is to be hidden.
type hiddenError struct {
	text string
	err  error // of the same class
}

func (e *hiddenError) Error() string { return e.text }
func (e *hiddenError) Unwrap() error { return e.err }

// hide returns err without values, in the same class.
func hide(err error, vs redact.Values) error {
	if err == nil || len(vs) == 0 {
		return err
	}
	text := vs.Text(err.Error())
	if text == err.Error() {
		return err
	}
	hidden := &hiddenError{text, err}
	var block *destinations.BlockError
	if errors.As(err, &block) { // lanes keep what is inside
		inner := *block
		inner.Err = &hiddenError{vs.Text(block.Err.Error()), block.Err}
		hidden.err = &inner
	}
	return hidden
}

// valuesOf are the values to hide of an event: the client's own, and what filters see beside them, such as an e-mail that the identity memory supplied.
func (r *Router) valuesOf(ev *event.Event) redact.Values {
	if ev == nil || !r.redact.Active() {
		return nil
	}
	return r.redact.Values(ev.JSON, ev.AppendView(nil))
}

// valuesOfCall are those of a call. One entry's error may repeat the value of another. A transform may have moved a value to a member of another name, so
// that the events as they came in count too.
func (r *Router) valuesOfCall(entries []*entry) redact.Values {
	if !r.redact.Active() {
		return nil
	}
	events := make([][]byte, 0, 2*len(entries))
	for _, e := range entries {
		events = append(events, e.Event.JSON, e.Event.AppendView(nil))
		var original event.Event
		if e.original != nil && original.Decode(e.original) == nil {
			events = append(events, original.JSON, original.AppendView(nil))
		}
	}
	return r.redact.Values(events...)
}

// hideOutcomes takes values out of what a call brought back, for it is stored, logged and shown.
func hideOutcomes(outcomes []destinations.Outcome, vs redact.Values) {
	if len(vs) == 0 {
		return
	}
	for i := range outcomes {
		o := &outcomes[i]
		o.Err, o.Detail = hide(o.Err, vs), vs.Detail(o.Detail)
	}
}

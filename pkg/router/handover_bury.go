package router

import (
	"bytes"
	"fmt"
	"runtime/debug"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
)

// bury makes a record, or an output of it for one destination, a dead letter. ev is the event as it came in; nil: it can not be read. The letter holds the
// record as it was accepted; beside an output that a transform has made of it.
func (h *handover) bury(route *Route, rec log.Record, ev *event.Event, d Decision) {
	err := hide(d.Err, h.r.valuesOf(d.Event))
	if d.Event != ev { // its values may stand there under other names
		err = hide(err, h.r.valuesOf(ev))
	}
	accepted := bytes.Clone(rec.Data)
	letter := deadLetter(route, uint64(rec.Offset), d.Event, accepted, d.Reason, err, h.now)
	letter.Index, letter.Outputs = d.Index, d.outputs
	if h.replay != nil {
		h.replay.bury(&letter)
	}
	if ev != nil {
		letter.EventID = ev.ID
	}
	if d.changed {
		letter.Event, letter.Original = d.Event.AppendTo(nil), accepted
	}
	h.batch.DeadLetters = append(h.batch.DeadLetters, letter)
	if h.recording {
		h.batch.Outcomes = recordDead(h.batch.Outcomes, &letter)
	}
	h.count.bury(route, d.Reason)
}

// poison buries a record that was alone in hand each time the process died.
func (h *handover) poison(rec log.Record, deaths int) {
	ev := &event.Event{}
	if ev.Decode(rec.Data) != nil {
		ev = nil
	} else {
		h.accounts = h.accounts[:0] // what reads them may be what kills the process
		if h.forgets(rec, ev) {
			h.skipForgotten(rec, ev)
			return
		}
		id := h.eventHash(ev) // a copy that its client sends again is no other event
		h.seen[id] = true
		h.batch.Seen = append(h.batch.Seen, id)
	}
	h.bury(nil, rec, ev, dead(0, ev, "poison", poisonError(deaths)))
}

func poisonError(deaths int) error {
	return fmt.Errorf("the process died %d times with this record alone in hand", deaths)
}

func stack() string { return cut(string(debug.Stack()), 1500) }

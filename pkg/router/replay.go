package router

import (
	"context"
	"fmt"
	"slices"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// replaying is a dead letter that is being handed over again.
type replaying struct {
	replayed // what is kept with its entries

	source  *store.DeadLetter
	lane    string // the only one that gets an entry; "": all of the outputs that are sent again
	partial bool   // one output is sent again, and its siblings are not
	back    bool   // it has come back, so that its id is taken
}

// ofEvent says whether a letter stands for all outputs of its event: they never came to be.
func ofEvent(d *store.DeadLetter) bool {
	return d.Lane == "" && d.Outputs == 0 && d.Reason != "filter" && d.Reason != "plan"
}

// bury has a letter that was made of the replayed one take its place.
func (r *replaying) bury(letter *store.DeadLetter) {
	letter.Replays = r.replays
	if !r.back {
		letter.ID, r.back = r.source.ID, true
	}
	// What was one output's, or one lane's, stays that, whatever failed now: its siblings were delivered.
	if s := r.source; r.partial || letter.Outputs == 0 && !ofEvent(s) {
		letter.Index, letter.Outputs, letter.Hub, letter.Account, letter.Lane = s.Index, s.Outputs, s.Hub, s.Account, s.Lane
	}
}

// again hands a dead letter over, or notes why it stays. What is asked for overwrites counts at a moment, in microseconds.
func (h *handover) again(d *store.DeadLetter, moment int64) {
	h.replay = &replaying{source: d, replayed: replayed{replays: d.Replays + 1}}
	defer func() { h.replay = nil }()
	if d.Replay.Overwrite {
		h.replay.effective = moment
	}
	h.done(d, h.sendAgain(d))
}

// done notes what became of a letter that was to be sent again.
func (h *handover) done(d *store.DeadLetter, problem string) {
	h.batch.Replayed = append(h.batch.Replayed, store.Replayed{ID: d.ID, Problem: problem})
	h.count.replay(d.Destination, problem != "")
}

// sendAgain returns why the letter stays as it was; "" when it does not.
func (h *handover) sendAgain(d *store.DeadLetter) (problem string) {
	if h.r.forgetsLetter(d.Offset, d.Received).letter(d) {
		return "its person is being forgotten"
	}
	rec := log.Record{Offset: log.Offset(d.Offset), Data: d.Original}
	if rec.Data == nil {
		rec.Data = d.Event
	}
	from := rec.Data
	if d.Replay.AsIs {
		from = d.Event
	}
	ev := &event.Event{}
	if err := ev.Decode(from); err != nil {
		return fmt.Sprintf("its record is no event (%v): edit it, or drop it", err)
	}
	if ev.Class == event.Live {
		ev.Class = event.Replay // what is imported goes on counting at its own time
	}
	if ev.Account == "" && d.Destination != "" {
		ev.Account = d.Account // it stays that one's, whatever the destination's expression reads now
	}
	if d.Destination == "" {
		return h.asNew(rec, ev)
	}
	i := h.table.index(d.Destination)
	if i < 0 {
		return fmt.Sprintf("destination %s is not in the configuration", d.Destination)
	}
	if d.Replay.AsIs {
		return h.asItWas(i, rec, ev)
	}
	return h.fromOriginal(i, rec, ev)
}

// asNew sorts an event that the sorter has never got to the end of: all routes get it.
func (h *handover) asNew(rec log.Record, ev *event.Event) (problem string) {
	if !slices.ContainsFunc(h.table.routes, func(r *Route) bool { return r.Takes(ev) }) {
		return fmt.Sprintf("API key %s feeds no destination", ev.APIKey)
	}
	ev.JSON = event.Normalize(ev.JSON)
	h.sortNew(rec, ev)
	return ""
}

// recall gives an event what is known of its person now, and what is found out of every event. It teaches nothing: that it did when it was first sorted, and
// what came since may know better.
func (h *handover) recall(ev *event.Event) {
	h.recallPerson(ev)
	h.r.enricher.Enrich(ev)
}

func (h *handover) recallPerson(ev *event.Event) {
	memory := personMemory{stored: h.identities.identity, learned: map[identityKey]store.Identity{}}
	memory.resolve(ev)
}

// fromOriginal decides on an event anew, and hands over what the letter is about.
func (h *handover) fromOriginal(i int, rec log.Record, ev *event.Event) (problem string) {
	route, d := h.table.routes[i], h.replay.source
	defer h.buryPanic(route, rec, ev)
	ev.JSON = event.Normalize(ev.JSON)
	ev, undone := h.whoseAgain(route, ev)
	if undone.Status != "" {
		h.settleAgain(i, rec, ev, []Decision{undone})
		return ""
	}
	h.recall(ev)
	defer h.hold(ev)()
	kv := h.kvs[i]
	if kv != nil && !kv.hold(h.stop, ev.Account) {
		h.failed = context.Canceled
		return ""
	}
	h.decisions = route.Decide(h.decisions[:0], ev, h.worlds[i])
	chosen := h.decisions
	if n := chosen[0].outputs; n > 0 && !d.Replay.All && !ofEvent(d) {
		if d.Outputs > 0 && n != d.Outputs || d.Index >= n {
			return otherOutputs(d, n)
		}
		chosen = chosen[d.Index : d.Index+1]
		h.replay.partial = true
		if problem := h.onlyLane(route, &chosen[0]); problem != "" {
			return problem
		}
	}
	if kv != nil && !slices.ContainsFunc(chosen, func(d Decision) bool { return d.failed }) {
		kv.keep()
	}
	h.settleAgain(i, rec, ev, chosen)
	return ""
}

// whoseAgain is what a route gets of an event that it got before, by what it reads now.
func (h *handover) whoseAgain(route *Route, ev *event.Event) (*event.Event, Decision) {
	var o owner
	o.event, o.skip, o.err = route.Whose(ev)
	return o.event, o.decision()
}

// adopt makes an output, which came to be while its destination had one account, one of the account of which its event is now.
func (h *handover) adopt(route *Route, rec log.Record, output *event.Event) (own *event.Event, problem string) {
	in := &event.Event{}
	if err := in.Decode(rec.Data); err != nil {
		return nil, fmt.Sprintf("its record is no event (%v): edit it, or drop it", err)
	}
	in.JSON = event.Normalize(in.JSON)
	in, undone := h.whoseAgain(route, in)
	switch {
	case undone.Err != nil:
		return nil, undone.Err.Error()
	case undone.Status != "":
		return nil, fmt.Sprintf("destination %s delivers to customers' accounts, and the event is of no account that it knows: edit it so that it names one, or drop it", route.Name)
	}
	adopted := *output
	adopted.Account, adopted.Email = in.Account, "" // the memory knew the person whom the id names in whatever account
	h.recallPerson(&adopted)
	return &adopted, ""
}

func otherOutputs(d *store.DeadLetter, now int) string {
	was := fmt.Sprint(d.Outputs)
	if d.Outputs == 0 {
		was = fmt.Sprintf("at least %d", d.Index+1)
	}
	return fmt.Sprintf("the transform makes %d outputs of the event now, and made %s: which of them is output %d can not be told. Replay it with --all to send all "+
		"that it makes now, also those that were delivered before", now, was, d.Index)
}

// asItWas hands the stored output over, without transform and filters.
func (h *handover) asItWas(i int, rec log.Record, ev *event.Event) (problem string) {
	route, d := h.table.routes[i], h.replay.source
	defer h.buryPanic(route, rec, ev)
	if ofEvent(d) {
		return "no output of it came to be that could be sent as it was: replay it from the original"
	}
	switch {
	case d.Lane == "" && d.Original == nil: // that is the event as it was accepted
		ev.JSON = event.Normalize(ev.JSON)
		var undone Decision
		if ev, undone = h.whoseAgain(route, ev); undone.Status != "" {
			h.settleAgain(i, rec, ev, []Decision{undone})
			return ""
		}
		h.recall(ev)
	case route.Connection != "" && ev.Account == "":
		if ev, problem = h.adopt(route, rec, ev); problem != "" {
			return problem
		}
	}
	defer h.hold(ev)()
	out := Decision{Index: d.Index, Event: ev, changed: d.Original != nil, outputs: d.Outputs}
	route.plan(&out)
	h.replay.partial = true
	if problem := h.onlyLane(route, &out); problem != "" {
		return problem
	}
	h.settleAgain(i, rec, ev, []Decision{out})
	return ""
}

// onlyLane leaves of an output's plans those for the lane in which the letter failed; of another account only where there is none for its own. A hub to which nothing of it went before
// may have to be told of the contact first.
func (h *handover) onlyLane(route *Route, out *Decision) (problem string) {
	d := h.replay.source
	if d.Lane == "" || out.Status != "" {
		return ""
	}
	h.replay.lane = d.Lane
	if !slices.ContainsFunc(out.Plans, func(p destinations.Plan) bool { return p.Lane == d.Lane }) {
		return fmt.Sprintf("the destination makes nothing of the event for lane %s now. Replay it with --all to send what it makes", d.Lane)
	}
	out.Plans = slices.DeleteFunc(out.Plans, func(p destinations.Plan) bool {
		return p.Lane != d.Lane && !(p.IfNew && h.hubOf(route, p.Account) != d.Hub)
	})
	own := func(p destinations.Plan) bool { return p.Account == d.Account }
	if slices.ContainsFunc(out.Plans, own) {
		out.Plans = slices.DeleteFunc(out.Plans, func(p destinations.Plan) bool { return !own(p) })
	}
	return ""
}

// settleAgain hands over what was chosen. A letter that becomes one entry comes back under its id, if it does.
func (h *handover) settleAgain(i int, rec log.Record, ev *event.Event, chosen []Decision) {
	parts := 0
	for d := range chosen {
		if parts += len(chosen[d].Plans); chosen[d].Status == store.Dead {
			parts++
		}
	}
	if parts == 1 {
		h.replay.letter = h.replay.source.ID
	}
	for d := range chosen {
		h.settle(i, h.table.routes[i], rec, ev, &chosen[d])
	}
}

// buryPanic is deferred: a panic makes a dead letter of the event.
func (h *handover) buryPanic(route *Route, rec log.Record, ev *event.Event) {
	if p := recover(); p != nil {
		h.bury(route, rec, ev, dead(0, ev, "panic", caught(p)))
	}
}

// hold has the values of an event that are to be hidden known while its scripts run, for they may log. The caller calls what it returns at the end.
func (h *handover) hold(ev *event.Event) (release func()) {
	if !h.r.redact.Active() {
		return func() {}
	}
	secret := h.r.valuesOf(ev)
	h.r.redact.Hold(secret)
	return func() { h.r.redact.Release(secret, false) }
}

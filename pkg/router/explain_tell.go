package router

import (
	"cmp"
	"slices"
	"strings"

	"eventrouter/pkg/store"
)

// assemble puts together what was found, by the times of receipt.
func (x *explainer) assemble(finished []store.Outcome, letters []store.DeadLetter) []Receipt {
	t := telling{receipts: map[receiptKey]*Receipt{}}
	for i := range finished {
		t.addOutcome(&finished[i])
	}
	for i := range letters {
		if d := &letters[i]; x.query.APIKey == "" || x.query.APIKey == d.APIKey {
			t.addLetter(d, x.tellsAlone(d, finished))
		}
	}
	for i := range x.waiting {
		t.addWaiting(&x.waiting[i])
	}
	for i := range x.unsorted {
		if u := &x.unsorted[i]; t.receipts[keyOf(u)] == nil { // else it was sorted meanwhile
			t.receipt(*u)
		}
	}
	return t.sorted()
}

// telling gathers receipts.
type telling struct{ receipts map[receiptKey]*Receipt }

// receiptKey tells receipts apart. Offsets do, but for those of a log that was begun anew.
type receiptKey struct {
	offset  uint64
	apiKey  string
	eventID string
}

func keyOf(r *Receipt) receiptKey { return receiptKey{r.Offset, r.APIKey, r.EventID} }

func (t *telling) receipt(r Receipt) *Receipt {
	key := keyOf(&r)
	if t.receipts[key] == nil {
		r.Outputs = []Output{}
		t.receipts[key] = &r
	}
	return t.receipts[key]
}

func (t *telling) addOutcome(o *store.Outcome) {
	r := t.receipt(Receipt{
		Received: o.Received, APIKey: o.APIKey, EventID: o.EventID, EventType: o.EventType, Person: o.Person, Offset: o.Offset, State: ReceiptSorted,
	})
	if r.Person == "" {
		r.Person = o.Person
	}
	switch o.Status {
	case store.Duplicate:
		r.State = ReceiptDuplicate
		return
	case store.Unrouted:
		r.State = ReceiptUnrouted
		return
	}
	settled := o.Settled
	out := Output{
		Destination: o.Destination, Hub: o.Hub, Account: o.Account, Lane: o.Lane, Index: o.Index, EventType: o.EventType, Person: o.Person,
		State: string(o.Status), Minimal: o.Minimal,
		Reason: o.Reason, Error: o.Error, Settled: &settled, Attempts: o.Attempts, Detail: o.Detail, Replays: o.Replays,
		LatencySeconds: max(0, o.Settled.Sub(o.Received).Seconds()),
	}
	if o.Lane == "" {
		out.Attempts = 0
	}
	if i := r.find(&out); i < 0 { // a record that was sorted again after a crash has one outcome all the same; newest first
		r.Outputs = append(r.Outputs, out)
	} else {
		r.Outputs[i].follow(&out)
	}
}

// follow notes what an output was before: a dead letter.
func (o *Output) follow(was *Output) {
	if was.State == string(store.Dead) && was.Settled != nil && o.Before == nil && (o.Replays > was.Replays || o.State == string(store.Dropped)) {
		o.Before = &Failure{Settled: *was.Settled, Reason: was.Reason, Error: was.Error}
	}
}

// fold takes out dead letters that were sent again before they had come to a lane: what became of them stands beside them.
func (r *Receipt) fold() {
	r.Outputs = slices.DeleteFunc(slices.Clone(r.Outputs), func(was Output) bool {
		if was.State != string(store.Dead) || was.Lane != "" || was.DeadLetter != 0 {
			return false
		}
		folded := false
		for i := range r.Outputs {
			o := &r.Outputs[i]
			if o.Replays > was.Replays && (was.Destination == "" || o.Destination == was.Destination) &&
				(o.Index == was.Index || was.Reason != "filter" && was.Reason != "plan") {
				o.follow(&was)
				folded = true
			}
		}
		return folded
	})
}

// find returns the output of the same destination and lane.
func (r *Receipt) find(out *Output) int {
	return slices.IndexFunc(r.Outputs, func(o Output) bool {
		return o.Destination == out.Destination && o.Hub == out.Hub && o.Account == out.Account && o.Lane == out.Lane && o.Index == out.Index
	})
}

// addLetter gives an outcome the number of its dead letter. A dead letter outlives its outcome: alone says whether it then stands for it.
func (t *telling) addLetter(d *store.DeadLetter, alone bool) {
	key := receiptKey{d.Offset, d.APIKey, d.EventID}
	out := Output{
		Destination: d.Destination, Hub: d.Hub, Account: d.Account, Lane: d.Lane, Index: d.Index, EventType: d.EventType,
		Person: strings.ToLower(d.Person), State: string(store.Dead), Reason: d.Reason, Error: d.Error, Settled: &d.At, Attempts: d.Attempts, DeadLetter: d.ID, LatencySeconds: max(0, d.At.Sub(d.Received).Seconds()),
		ToReplay: d.Replay != nil, Problem: d.Problem, Replays: d.Replays,
	}
	if r := t.receipts[key]; r != nil {
		if i := r.find(&out); i >= 0 {
			if o := &r.Outputs[i]; o.State == string(store.Dead) {
				o.DeadLetter, o.ToReplay, o.Problem = d.ID, d.Replay != nil, d.Problem
			}
			return
		}
	}
	if !alone {
		return
	}
	r := t.receipt(Receipt{
		Received: d.Received, APIKey: d.APIKey, EventID: d.EventID, EventType: d.EventType, Person: strings.ToLower(d.Person), Offset: d.Offset, State: ReceiptSorted,
	})
	r.Outputs = append(r.Outputs, out)
}

func (t *telling) addWaiting(w *found) {
	r := t.receipt(w.receipt)
	switch i := r.find(&w.output); {
	case i < 0:
		r.Outputs = append(r.Outputs, w.output)
	case w.output.Replays > r.Outputs[i].Replays:
		w.output.follow(&r.Outputs[i])
		r.Outputs[i] = w.output
	} // else it was finished meanwhile
}

// settleOutputs has the receipt show type and person of the first output that has one, and the outputs what is other with them.
func (r *Receipt) settleOutputs() {
	if len(r.Outputs) == 0 {
		return
	}
	first := slices.MinFunc(r.Outputs, func(a, b Output) int { return cmp.Compare(a.Index, b.Index) })
	r.EventType, r.Person = cmp.Or(first.EventType, r.EventType), cmp.Or(first.Person, r.Person)
	for i := range r.Outputs {
		o := &r.Outputs[i]
		if o.EventType == r.EventType {
			o.EventType = ""
		}
		if o.Person == r.Person {
			o.Person = ""
		}
	}
}

// sorted returns the receipts in order, and their outputs by destination and lane.
func (t *telling) sorted() []Receipt {
	all := make([]Receipt, 0, len(t.receipts))
	for _, r := range t.receipts {
		slices.SortFunc(r.Outputs, func(a, b Output) int {
			return cmp.Or(cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Account, b.Account), cmp.Compare(a.Lane, b.Lane), cmp.Compare(a.Index, b.Index))
		})
		r.fold()
		r.settleOutputs()
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b Receipt) int {
		return cmp.Or(a.Received.Compare(b.Received), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.EventID, b.EventID))
	})
	return all
}

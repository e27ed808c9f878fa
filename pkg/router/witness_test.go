package router

import (
	"fmt"
	"slices"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// witness looks on at a remote and says where order was broken. A nil one sees nothing. Its remote's mutex guards it.
//
// The model: what is posted has rising numbers. For each identity the newest write that was applied never gets older, whatever comes late or again;
// a write that was answered is not sent again; calls under way share no identity, nor do entries of one call with different IDs; an event
// arrives when its contact's first write, and with strict all earlier writes, were applied, rejected or given up.
type witness struct {
	strict bool

	number   map[string]int       // of what was posted, by event id
	writes   map[string][]string  // event ids of posted contact writes, by identity
	newest   map[string]int       // number of the newest write that was applied, by identity
	settled  map[string]time.Time // writes that were applied or rejected, by event id, when first
	final    map[string]bool      // "lane id" of entries that were answered
	rejected map[string]bool      // "lane id"
	running  map[string]bool      // "lane identity"
	early    []earlyEvent
	faults   []string
}

// earlyEvent is an event that arrived before a write, which is right only if that write had become a dead letter.
type earlyEvent struct {
	event, write string
	at           time.Time
}

func newWitness(strict bool) *witness {
	return &witness{
		strict: strict, number: map[string]int{}, writes: map[string][]string{}, newest: map[string]int{}, settled: map[string]time.Time{},
		final: map[string]bool{}, rejected: map[string]bool{}, running: map[string]bool{},
	}
}

func identities(p destinations.Plan) []string { return append([]string{p.Key}, p.Also...) }

func (w *witness) faultf(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// posted says what is posted next.
func (w *witness) posted(id string, identities []string, write bool) {
	w.number[id] = len(w.number)
	for _, identity := range identities {
		if write {
			w.writes[identity] = append(w.writes[identity], id)
		}
	}
}

// sent is called when a call begins.
func (w *witness) sent(lane string, batch []destinations.Entry) {
	if w == nil {
		return
	}
	owner := map[string]string{}
	for _, e := range batch {
		if w.final[lane+" "+e.Event.ID] {
			w.faultf("%s %s is sent again after its answer", lane, e.Event.ID)
		}
		for _, identity := range identities(e.Plan) {
			if id, ok := owner[identity]; ok && id != e.Plan.ID {
				w.faultf("%s and %s share %s and a call in lane %s", id, e.Plan.ID, identity, lane)
			} else if !ok {
				owner[identity] = e.Plan.ID
				if w.running[lane+" "+identity] {
					w.faultf("two calls in lane %s share %s", lane, identity)
				}
				w.running[lane+" "+identity] = true
			}
		}
	}
}

// applied is called when a call, or the part of it that succeeds, takes effect.
func (w *witness) applied(lane string, entries []destinations.Entry) {
	if w == nil {
		return
	}
	if lane != "contacts" {
		for _, e := range entries {
			w.arrived(e)
		}
		return
	}
	last := map[string]int{}
	for _, e := range entries {
		number := w.number[e.Event.ID]
		for _, identity := range identities(e.Plan) {
			last[identity] = max(last[identity], number)
		}
		if w.settled[e.Event.ID].IsZero() {
			w.settled[e.Event.ID] = time.Now()
		}
	}
	for identity, number := range last {
		if newest, ok := w.newest[identity]; ok && number < newest {
			w.faultf("write %d of %s is applied after %d", number, identity, newest)
		}
		w.newest[identity] = max(w.newest[identity], number)
	}
}

// arrived checks what must have gone before an event.
func (w *witness) arrived(e destinations.Entry) {
	if _, ok := w.newest[e.Plan.Key]; !ok {
		w.early = append(w.early, earlyEvent{e.Event.ID, "", time.Now()})
	}
	if !w.strict {
		return
	}
	for _, identity := range identities(e.Plan) {
		for _, id := range w.writes[identity] {
			if w.number[id] < w.number[e.Event.ID] && w.settled[id].IsZero() {
				w.early = append(w.early, earlyEvent{e.Event.ID, id, time.Now()})
			}
		}
	}
}

// answered is called when a call returns outcomes.
func (w *witness) answered(lane string, batch []destinations.Entry, outcomes []destinations.Outcome) {
	if w == nil {
		return
	}
	for i, e := range batch {
		_, rejected := outcomes[i].Err.(*destinations.RejectError)
		name := lane + " " + e.Event.ID
		if rejected {
			w.rejected[name] = true
		}
		if rejected || outcomes[i].Err == nil {
			w.final[name] = true
		}
		if rejected && lane == "contacts" && w.settled[e.Event.ID].IsZero() {
			w.settled[e.Event.ID] = time.Now()
		}
	}
}

// ended is called when a call returns, or panics.
func (w *witness) ended(lane string, batch []destinations.Entry) {
	if w == nil {
		return
	}
	for _, e := range batch {
		for _, identity := range identities(e.Plan) {
			delete(w.running, lane+" "+identity)
		}
	}
}

// verdict returns what was wrong, knowing the dead letters of the remote's destination.
func (w *witness) verdict(dead []store.DeadLetter) []string {
	for _, early := range w.early {
		if !slices.ContainsFunc(dead, func(d store.DeadLetter) bool {
			ofWrite := early.write == "" && w.number[d.EventID] <= w.number[early.event] || d.EventID == early.write
			return d.Lane == "contacts" && ofWrite && !d.At.After(early.at)
		}) {
			w.faultf("event %s arrived before write %q", early.event, early.write)
		}
	}
	for _, d := range dead {
		name := d.Lane + " " + d.EventID
		if d.Reason == "rejected" != w.rejected[name] {
			w.faultf("dead letter %s for reason %s, was rejected: %v", name, d.Reason, w.rejected[name])
		}
		delete(w.rejected, name)
	}
	for name := range w.rejected {
		w.faultf("%s was rejected and is no dead letter", name)
	}
	return w.faults
}

package router

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// witness looks on at a remote and says where order was broken. A nil one sees nothing. Its remote's mutex guards it.
//
// The model: what is posted has rising numbers, and a time at which it counts. For each contact a property never goes back to a value that counts
// as earlier, whatever comes late or again; nor does, for each identity, what is live. A write that was answered is not sent again; calls under way
// share no identity, nor do entries of one call with different IDs; an event arrives when its contact's first write, and with strict all writes that were
// posted before, were applied, rejected or given up; a live event need not wait for bulk writes.
type witness struct {
	strict bool

	posts    map[string]post      // by event id
	writes   map[string][]string  // event ids of posted contact writes, by identity
	newest   map[string]int       // number of the newest live write that was applied, by identity
	state    map[string]contact   // by ID
	settled  map[string]time.Time // writes that were applied or rejected, by event id, when first
	final    map[string]bool      // "lane id" of entries that were answered
	rejected map[string]bool      // "lane id"
	refused  map[string]bool      // likewise, before a replay
	replayed []store.DeadLetter   // as they were
	running  map[string]bool      // "lane identity"
	early    []earlyEvent
	back     []goneBack
	faults   []string
	stories  map[string][]string // what happened when, by event id
}

// post is what the model knows of an event.
type post struct {
	number int
	at     time.Time // when it counts
	bulk   bool
}

// before says whether p counts as earlier than o.
func (p post) before(o post) bool {
	switch {
	case p.bulk == o.bulk && !p.bulk:
		return p.number < o.number
	case !p.at.Equal(o.at):
		return p.at.Before(o.at)
	case p.bulk != o.bulk:
		return p.bulk
	}
	return p.number < o.number
}

// earlyEvent is an event that arrived before a write, which is right only if that write had become a dead letter.
type earlyEvent struct {
	event, write string
	at           time.Time
}

// goneBack is a property that went back from one write's value to that of another, which is right only for a bulk one, and only if the first became a
// dead letter though it was applied: nothing is remembered of it.
type goneBack struct{ from, to, what string }

func newWitness(strict bool) *witness {
	return &witness{
		strict: strict, posts: map[string]post{}, writes: map[string][]string{}, newest: map[string]int{}, state: map[string]contact{},
		settled: map[string]time.Time{},
		final:   map[string]bool{}, rejected: map[string]bool{}, refused: map[string]bool{}, running: map[string]bool{}, stories: map[string][]string{},
	}
}

func identities(p destinations.Plan) []string { return append([]string{p.Key}, p.Also...) }

func (w *witness) faultf(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// tell adds to the stories of events.
func (w *witness) tell(id, format string, args ...any) {
	w.stories[id] = append(w.stories[id], time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// story is what happened to some events.
func (w *witness) story(ids ...string) (text string) {
	for _, id := range ids {
		text += fmt.Sprintf("\n  %s:\n    %s", id, strings.Join(w.stories[id], "\n    "))
	}
	return text
}

// posted says what is posted next.
func (w *witness) posted(id string, identities []string, write, bulk bool, at time.Time) {
	w.posts[id] = post{len(w.posts), at, bulk}
	w.tell(id, "posted, of %v, write %t, bulk %t, counts at %s", identities, write, bulk, at.Format("15:04:05.000"))
	for _, identity := range identities {
		if write {
			w.writes[identity] = append(w.writes[identity], id)
		}
	}
}

// replays is called before a dead letter is sent again. It counts as when it came, and what it writes is left out where later values are remembered.
func (w *witness) replays(d store.DeadLetter) {
	w.tell(d.EventID, "replayed, in lane %q a dead letter since %s: %s", d.Lane, d.At.Format("15:04:05.000"), d.Reason)
	name := d.Lane + " " + d.EventID
	delete(w.final, name)
	w.refused[name] = w.refused[name] || w.rejected[name]
	delete(w.rejected, name)
	w.replayed = append(w.replayed, d)
}

// wasReplayed says whether a write or an event was a dead letter that was sent again.
func (w *witness) wasReplayed(id string) bool {
	return slices.ContainsFunc(w.replayed, func(d store.DeadLetter) bool { return d.EventID == id })
}

// mayComeAgain says whether a contact is made, with nothing written: for an event that is sent again to a hub to which nothing of it went before.
func (w *witness) mayComeAgain(lane, id, eventType string) bool {
	return lane == "contacts" && eventType != "user_identify" && w.wasReplayed(id)
}

// ofOneEvent says whether two are outputs of the same event.
func ofOneEvent(a, b string) bool {
	a, _, _ = strings.Cut(a, "_")
	b, _, _ = strings.Cut(b, "_")
	return a == b
}

// sent is called when a call begins.
func (w *witness) sent(lane string, batch []destinations.Entry) {
	if w == nil {
		return
	}
	owner := map[string]string{}
	for _, e := range batch {
		w.tell(e.Event.ID, "%s: sent", lane)
		if w.final[lane+" "+e.Event.ID] && !w.mayComeAgain(lane, e.Event.ID, e.Event.Type()) {
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
	for _, e := range entries {
		w.tell(e.Event.ID, "%s: applied, writes %v", lane, written(e))
	}
	if lane != "contacts" {
		for _, e := range entries {
			w.arrived(e)
		}
		return
	}
	last, merged := map[string]int{}, map[string]contact{}
	for _, e := range entries {
		id := e.Event.ID
		p := w.posts[id]
		if e.Event.Class == event.Live {
			for _, identity := range identities(e.Plan) {
				last[identity] = max(last[identity], p.number)
			}
		}
		if w.settled[id].IsZero() {
			w.settled[id] = time.Now()
		}
		if merged[e.Plan.ID] == nil {
			merged[e.Plan.ID] = contact{}
		}
		for _, name := range written(e) {
			merged[e.Plan.ID][name] = id
		}
	}
	for contactID, write := range merged {
		if w.state[contactID] == nil {
			w.state[contactID] = contact{}
		}
		for name, id := range write {
			if had := w.state[contactID][name]; had != "" && w.posts[id].before(w.posts[had]) {
				w.back = append(w.back, goneBack{had, id, name + " of " + contactID})
			}
			w.state[contactID][name] = id
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
	if _, ok := w.state[e.Plan.Key]; !ok {
		w.early = append(w.early, earlyEvent{e.Event.ID, "", time.Now()})
	}
	if !w.strict {
		return
	}
	live := e.Event.Class == event.Live
	for _, identity := range identities(e.Plan) {
		for _, id := range w.writes[identity] {
			write, ev := w.posts[id], w.posts[e.Event.ID]
			if write.number < ev.number && w.settled[id].IsZero() && (!live || !write.bulk) {
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
		w.tell(e.Event.ID, "%s: answered %v", lane, outcomes[i].Err)
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
	ever := append(slices.Clone(dead), w.replayed...)
	for _, early := range w.early {
		if !slices.ContainsFunc(ever, func(d store.DeadLetter) bool {
			write, ev := w.posts[d.EventID], w.posts[early.event]
			first := write.number <= ev.number || ev.bulk && !write.bulk // what is live is sorted first, though posted later
			ofWrite := early.write == "" && first || d.EventID == early.write
			return d.Lane == "contacts" && ofWrite && !d.At.After(early.at)
		}) {
			w.faultf("event %s arrived before write %q%s", early.event, early.write, w.story(early.event, early.write))
		}
	}
	for _, back := range w.back {
		again := w.wasReplayed(back.to)
		if again && ofOneEvent(back.from, back.to) {
			continue // which count at the same time
		}
		if !w.posts[back.to].bulk && !again || !slices.ContainsFunc(ever, func(d store.DeadLetter) bool { return d.Lane == "contacts" && d.EventID == back.from }) {
			w.faultf("%s goes from the value of %s back to that of %s%s", back.what, back.from, back.to, w.story(back.from, back.to))
		}
	}
	for _, d := range dead {
		name := d.Lane + " " + d.EventID
		if w.mayComeAgain(d.Lane, d.EventID, d.EventType) {
			delete(w.rejected, name)
			continue
		}
		if d.Reason == "rejected" && !w.rejected[name] && !w.refused[name] || d.Reason != "rejected" && w.rejected[name] {
			w.faultf("dead letter %s for reason %s, was rejected: %v", name, d.Reason, w.rejected[name])
		}
		delete(w.rejected, name)
	}
	for name := range w.rejected {
		w.faultf("%s was rejected and is no dead letter", name)
	}
	return w.faults
}

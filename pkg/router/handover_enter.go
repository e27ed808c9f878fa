package router

import (
	"errors"
	"fmt"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// handed is a block in the making.
type handed struct {
	store.Block
	original uint64     // 1 more than the offset of the event whose original the last entry has; 0: it has none
	replay   *replaying // with which that came; the same event may have another original in another one
}

// newBlock begins a block with ev's, in a buffer of an earlier one if there is one left.
func (h *handover) newBlock(lane store.LaneID, ev *event.Event) *handed {
	block := &handed{Block: store.Block{Lane: lane, Oldest: ev.Received}}
	if h.replay != nil {
		block.Oldest = h.now // lanes.max_age has given some of these up: they are not to come back at once
	}
	if n := len(h.buffers); n > 0 {
		block.Data, h.buffers = h.buffers[n-1][:0], h.buffers[:n-1]
	}
	return block
}

// append adds an entry to a block. Those of one event come one after the other, so that they share its original.
func (h *handover) append(b *handed, rec log.Record, d *Decision, p *destinations.Plan) {
	o := origin{offset: uint64(rec.Offset), index: d.Index, late: h.final, outputs: d.outputs}
	if h.replay != nil {
		o.replayed = &h.replay.replayed
	}
	original := uint64(0)
	if d.changed {
		original = o.offset + 1
		o.original, o.shared = rec.Data, b.original == original && b.replay == h.replay
	}
	b.original, b.replay = original, h.replay
	b.Data, h.scratch = appendEntry(b.Data, o, p, d.Event, h.scratch)
	b.Entries++
	if h.replay == nil && d.Event.Received.Before(b.Oldest) {
		b.Oldest = d.Event.Received
	}
}

// settle notes what becomes of one output of ev.
func (h *handover) settle(i int, route *Route, rec log.Record, ev *event.Event, d *Decision) {
	switch d.Status {
	case store.Filtered:
		h.count.filtered[i]++
	case store.Skipped:
		h.count.skip(i, d.Reason)
	case store.Dead:
		h.bury(route, rec, ev, *d)
		return
	}
	if d.Status != "" {
		h.record(route, rec, ev.ID, *d)
		return
	}
	for p := range d.Plans {
		if err := h.enter(route, rec, d, &d.Plans[p]); err != nil {
			failed := *d
			failed.Reason, failed.Err = "plan", err
			if _, unknown := errors.AsType[*tooManyUnknownError](err); unknown {
				failed.Reason = reasonUnknownAccount
			}
			h.bury(route, rec, ev, failed)
			return
		}
	}
}

// enter makes one lane entry.
func (h *handover) enter(route *Route, rec log.Record, d *Decision, p *destinations.Plan) error {
	ev := d.Event
	var a *account
	var unknown *tooManyUnknownError
	if !h.untilRoom(func() (err error) {
		a, err = h.account(route, h.hubOf(route, p.Account), p.Account)
		if too, ok := errors.AsType[*tooManyUnknownError](err); ok {
			unknown, err = too, nil
		}
		return err
	}) {
		return nil
	}
	if unknown != nil {
		return unknown
	}
	l := a.lane(p.Lane)
	if l == nil {
		return fmt.Errorf("BUG: destination %s plans for lane %q, which it does not have", route.Name, p.Lane)
	}
	if len(p.Also) > maxAlso {
		return fmt.Errorf("%d further identities, at most %d are kept", len(p.Also), maxAlso)
	}
	st := l.stream(ev.Class)
	if p.Key != "" && l.spec.MarksKeys && !h.makeKnown(a, p, st.bulk) && (h.replay == nil || h.replay.lane != p.Lane) {
		return nil // of a replay that entry was made before, and is the one that failed
	}
	block := h.lanes[st]
	if block == nil {
		var id store.LaneID
		if !h.untilRoom(func() (err error) { id, err = st.open(); return err }) {
			return nil
		}
		block = h.newBlock(id, ev)
		h.lanes[st] = block
		h.order = append(h.order, st)
	}
	h.append(block, rec, d, p)
	return nil
}

// makeKnown notes that an entry is made for a key, and says whether that is needed. A bulk entry may wait for long: a live event whose contact only
// bulk entries will make needs an entry of its own, so that their keys are marked apart until one is delivered.
func (h *handover) makeKnown(a *account, p *destinations.Plan, bulk bool) (needed bool) {
	hash := a.keyHash(p.Key)
	if waitsForHub(a.lanes[0].live.name, a.route) { // nobody knows yet to which hub it will go, and who is known there
		known := h.known[hash]
		h.known[hash] = true
		return !p.IfNew || !known
	}
	known := h.isKnown(hash)
	if bulk && !known {
		hash = a.bulkKeyHash(p.Key)
		known = h.isKnown(hash)
	}
	if !known {
		h.known[hash] = true
		h.batch.Known = append(h.batch.Known, hash)
	}
	return !p.IfNew || !known
}

func (h *handover) isKnown(hash uint64) bool {
	if h.known[hash] {
		return true
	}
	known, _ := h.r.store.Known(hash)
	return known
}

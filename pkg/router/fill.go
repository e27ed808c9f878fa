package router

import (
	"slices"
	"time"
)

// bulkTurn is how many calls in a row may leave bulk entries waiting. The next one takes them first, so that they get a tenth of the calls also where
// live entries would take all.
const bulkTurn = 9

// readyLocked says whether e may be sent now, and else when to look again (zero: when something else happens).
func (l *lane) readyLocked(e *entry, now time.Time) (ok bool, at time.Time) {
	if e.busy {
		return false, time.Time{}
	}
	for _, p := range e.persons {
		if p.queues[l.index].entries[0] != e {
			return false, time.Time{}
		}
	}
	if at := l.notBefore(e); at.After(now) {
		return false, at
	}
	return l.releasedLocked(e), time.Time{}
}

// notBefore is when e's retry is due and its holds have ended.
func (l *lane) notBefore(e *entry) time.Time {
	at := e.due
	for _, p := range e.persons {
		if hold := p.queues[l.index].hold; hold.After(at) {
			at = hold
		}
	}
	return at
}

// releasedLocked says whether nothing that is not in e's queues holds it back.
func (l *lane) releasedLocked(e *entry) bool {
	if len(e.persons) == 0 {
		return true
	}
	if e.bulk() && l.index == 0 && (l.live.more || l.live.coming > 0) && e.effective > l.live.clock {
		return false // a live entry that counts as earlier may not be loaded
	}
	if e.bulk() && l.index == 0 && l.live.behindLocked(e) {
		return false
	}
	a := l.account
	for _, earlier := range a.lanes[:l.index] {
		if earlier.stop != nil && earlier.stop.blocked {
			// A contact that the remote has can take events while its lane is blocked; one that it never got can not.
			if _, delivered := a.router.store.Known(a.keyHash(e.Plan.Key)); !delivered {
				return false
			}
			continue
		}
		if !earlier.showsLocked(e) || earlier.live.behindLocked(e) || e.bulk() && earlier.bulk.behindLocked(e) {
			return false
		}
		for _, p := range e.persons {
			o := p.queues[earlier.index].firstBefore(e)
			if o == nil {
				continue
			}
			if o.bulk() && !e.bulk() {
				earlier.hurryLocked(o)
			}
			return false
		}
	}
	return true
}

// showsLocked says whether all that e, of a later lane, may have to wait for is loaded. A live e waits only for those bulk entries that are, and
// does not rely on others: see handover.enter.
func (l *lane) showsLocked(e *entry) bool {
	return l.live.showsLocked(e) && (!e.bulk() || l.bulk.showsLocked(e))
}

// showsLocked says whether all of the stream that was handed over before e, of a later lane, or with it, is loaded. Blocks order all streams.
func (s *stream) showsLocked(e *entry) bool {
	return s.loaded > e.ref.Block || !s.more && s.coming == 0
}

// hurryLocked has a bulk entry leave as if it were live, because a live one of a later lane waits for it.
func (l *lane) hurryLocked(e *entry) {
	if e.urgent || e.busy {
		return
	}
	e.urgent = true
	l.urgent = append(l.urgent, e)
	l.poke()
}

// openLocked says whether the lane may make a call now, and else when to look again (zero: when something else happens).
func (l *lane) openLocked(now time.Time) (open bool, at time.Time) {
	limit := l.spec.InFlight
	if s := l.stop; s != nil {
		if now.Before(s.until) {
			return false, s.until
		}
		if s.blocked || s.failures > 1 {
			limit = 1 // a probe
		}
	}
	return l.calls < limit, time.Time{}
}

// nextLocked says whether a call can be filled now, and else when to look again.
func (l *lane) nextLocked(now time.Time) (ready bool, at time.Time) {
	if open, at := l.openLocked(now); !open {
		return false, at
	}
	earliest := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, u := range l.resend {
		if !u.due.After(now) {
			return true, time.Time{}
		}
		earliest(u.due)
	}
	for _, s := range l.streams() {
		earliest(s.lookBackLocked())
	}
	windows := [][]*entry{l.urgent, l.live.window, l.bulk.window}
	if l.bulkCalls >= l.bulkLimit() {
		windows = windows[:2]
	}
	for _, waiting := range windows {
		for _, e := range waiting {
			if e = l.headLocked(e); e == nil {
				continue
			}
			ok, t := l.readyLocked(e, now)
			if ok {
				return true, time.Time{}
			}
			earliest(t)
		}
	}
	return false, at
}

// bulkLimit is how many calls may hold bulk entries only: a few are left for what is live, in case that those take long.
func (l *lane) bulkLimit() int { return max(1, l.spec.InFlight-l.spec.InFlight/4) }

// fillLocked takes the entries of the next call: a unit that must be sent again, or those that are ready, live ones first and the oldest of them first,
// each with what else waits for the same ID. It returns nil when nothing is ready or the lane may not make a call.
func (l *lane) fillLocked(now time.Time) *unit {
	if open, _ := l.openLocked(now); !open {
		return nil // stopped while we waited for the permit
	}
	for i, u := range l.resend {
		if !u.due.After(now) {
			l.resend = slices.Delete(l.resend, i, i+1)
			return u
		}
	}
	f := filling{lane: l, now: now, unit: &unit{}}
	bulkFirst := l.passed >= bulkTurn && l.bulkCalls < l.bulkLimit()
	if bulkFirst {
		f.takeAll(l.bulk.window)
	}
	f.takeUrgent()
	f.takeAll(l.live.window)
	taken := len(f.unit.entries)
	if taken > 0 || l.bulkCalls < l.bulkLimit() {
		f.takeAll(l.bulk.window)
	}
	l.passed++
	if bulkFirst || len(f.unit.entries) > taken || len(l.bulk.window) == 0 {
		l.passed = 0
	}
	if len(f.unit.entries) == 0 {
		return nil
	}
	return f.unit
}

// filling is a call that is being filled.
type filling struct {
	lane  *lane
	now   time.Time
	unit  *unit
	keys  int
	bytes int
}

// full says whether there is no room for any entry.
func (f *filling) full() bool {
	spec := &f.lane.spec
	return spec.MaxEntries > 0 && len(f.unit.entries) >= spec.MaxEntries || spec.MaxBytes > 0 && f.bytes >= spec.MaxBytes
}

// fits says whether there is room for e's record.
func (f *filling) fits(e *entry) bool {
	most := f.lane.spec.MaxBytes
	return most <= 0 || len(f.unit.entries) == 0 || f.bytes+len(e.record) <= most
}

// takeUrgent takes the bulk entries that live ones of other lanes wait for.
func (f *filling) takeUrgent() {
	l := f.lane
	l.urgent = slices.DeleteFunc(l.urgent, func(e *entry) bool {
		f.takeNext(e)
		e.urgent = !e.busy
		return e.busy
	})
}

// takeAll takes what is ready of a window, until the call is full.
func (f *filling) takeAll(window []*entry) {
	for _, e := range window {
		if !f.takeNext(e) {
			return
		}
	}
}

// takeNext takes e, or the bulk entry that must leave before a live e can, if that is ready. It returns false when the call is full.
func (f *filling) takeNext(e *entry) bool {
	l := f.lane
	if l.spec.MaxKeys > 0 && f.keys >= l.spec.MaxKeys || f.full() {
		return false
	}
	if e = l.headLocked(e); e == nil {
		return true
	}
	if ok, _ := l.readyLocked(e, f.now); !ok {
		return true
	}
	if !f.fits(e) {
		return false
	}
	f.keys++
	f.take(e)
	if len(e.persons) != 1 {
		return true
	}
	for _, next := range e.persons[0].queues[l.index].entries[1:] {
		if f.full() || next.busy || len(next.persons) != 1 || next.Plan.ID != e.Plan.ID || next.Plan.Key != e.Plan.Key ||
			next.due.After(f.now) || !f.fits(next) || !l.releasedLocked(next) {
			break
		}
		f.take(next)
	}
	return true
}

func (f *filling) take(e *entry) {
	e.busy, e.withheld = true, time.Time{}
	f.unit.entries = append(f.unit.entries, e)
	f.bytes += len(e.record)
}

// headLocked is what must leave for e to leave: e itself, or the bulk entry before it; nil when that is something else, which is looked at in its
// own window. Each is counted as earlier than the last, so there is an end.
func (l *lane) headLocked(e *entry) *entry {
	for {
		first := e
		for _, p := range e.persons {
			if first = p.queues[l.index].entries[0]; first != e {
				break
			}
		}
		if first == e {
			return e
		}
		if first.busy || !first.bulk() {
			return nil
		}
		e = first
	}
}

// finishLocked takes finished entries out of the window.
func (l *lane) finishLocked(entries []*entry, now time.Time) {
	touched := map[*person]bool{}
	for _, e := range entries {
		e.finished = true
		e.stream.countLocked(e, -1)
		e.block.left--
		if e.block.left == 0 {
			delete(e.stream.blocks, e.block.id)
			if e.stream.passed.gone != nil {
				e.stream.passed.gone[e.block.id] = true
			}
		}
		for _, p := range e.persons {
			touched[p] = true
		}
	}
	gone := func(e *entry) bool { return e.finished }
	for _, waits := range l.account.lanes[l.index:] {
		for _, s := range waits.streams() {
			s.freedLocked(touched)
		}
	}
	for p := range touched {
		q := &p.queues[l.index]
		q.entries = slices.DeleteFunc(q.entries, gone)
		l.account.forgetLocked(p, now)
	}
	for _, s := range l.streams() {
		s.window = slices.DeleteFunc(s.window, gone)
		if len(s.window) < l.account.router.windowEntries && s.bytes < windowBytes {
			s.larger = 0
		}
	}
	l.urgent = slices.DeleteFunc(l.urgent, gone)
}

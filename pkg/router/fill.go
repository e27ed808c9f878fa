package router

import (
	"slices"
	"time"
)

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

// releasedLocked says whether no earlier lane of the account holds something that e must follow.
func (l *lane) releasedLocked(e *entry) bool {
	if l.index == 0 || len(e.persons) == 0 {
		return true
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
		if earlier.more {
			if earlier.loadedBelow <= e.Name.Offset {
				return false
			}
		} else if a.sorted.Load() <= e.Name.Offset {
			return false
		}
		for _, p := range e.persons {
			if q := p.queues[earlier.index].entries; len(q) > 0 && q[0].before(e) {
				return false
			}
		}
	}
	return true
}

// openLocked says whether the lane may make a call now, and else when to look again (zero: when something else happens).
func (l *lane) openLocked(now time.Time) (open bool, at time.Time) {
	limit := l.spec.InFlight
	if s := l.stop; s != nil {
		if now.Before(s.until) {
			return false, s.until
		}
		limit = 1 // a probe
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
	for _, e := range l.window {
		ok, t := l.readyLocked(e, now)
		if ok {
			return true, time.Time{}
		}
		earliest(t)
	}
	return false, at
}

// fillLocked takes the entries of the next call: a unit that must be sent again, or the oldest that are ready, each with what
// else waits for the same ID. It returns nil when nothing is ready or the lane may not make a call.
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
	u := &unit{}
	keys, bytes := 0, 0
	full := func() bool {
		return l.spec.MaxEntries > 0 && len(u.entries) >= l.spec.MaxEntries ||
			l.spec.MaxBytes > 0 && bytes >= l.spec.MaxBytes
	}
	for _, e := range l.window {
		if l.spec.MaxKeys > 0 && keys >= l.spec.MaxKeys || full() {
			break
		}
		if ok, _ := l.readyLocked(e, now); !ok {
			continue
		}
		if l.spec.MaxBytes > 0 && len(u.entries) > 0 && bytes+len(e.record) > l.spec.MaxBytes {
			break
		}
		keys++
		e.busy = true
		u.entries = append(u.entries, e)
		bytes += len(e.record)
		if len(e.persons) != 1 {
			continue
		}
		for _, next := range e.persons[0].queues[l.index].entries[1:] {
			if full() || next.busy || len(next.persons) != 1 || next.Plan.ID != e.Plan.ID || next.Plan.Key != e.Plan.Key ||
				next.due.After(now) || l.spec.MaxBytes > 0 && bytes+len(next.record) > l.spec.MaxBytes || !l.releasedLocked(next) {
				break
			}
			next.busy = true
			u.entries = append(u.entries, next)
			bytes += len(next.record)
		}
	}
	if len(u.entries) == 0 {
		return nil
	}
	return u
}

// finishLocked takes finished entries out of the window.
func (l *lane) finishLocked(entries []*entry, now time.Time) {
	touched := map[*person]bool{}
	for _, e := range entries {
		e.finished = true
		l.bytes -= len(e.record)
		e.block.left--
		e.block.bytes -= len(e.record)
		for _, p := range e.persons {
			touched[p] = true
		}
	}
	gone := func(e *entry) bool { return e.finished }
	for p := range touched {
		q := &p.queues[l.index]
		q.entries = slices.DeleteFunc(q.entries, gone)
		l.account.forgetLocked(p, now)
	}
	l.window = slices.DeleteFunc(l.window, gone)
}

package router

import (
	"cmp"
	"slices"
	"time"

	"eventrouter/pkg/store"
)

// What is held back, for a retry or for a lane that is blocked, must not keep all behind it waiting, however much it is. A window that holds nothing else, and
// is as large as it may be, passes it over: it keeps the older half, leaves the rest in the store, and so it does with all that it loads from then on and
// that can not leave either. Whose entries were passed over has none loaded behind those, so that the order of a person holds. Now and then the
// window goes back to the first entry that it has passed over:
//
//	store   h h h h h h h h h a h h b h …    h waits for a retry
//	window  h h h           a     b          once a and b have left, those behind them
const (
	// passTime is how long until the window goes back, when nothing says earlier that something of it may leave.
	passTime = time.Minute
	// passPause is the least time between two times that it does: what was passed over is read and looked at anew.
	passPause = time.Second
)

// passed is what a stream has passed over. Its fields are guarded by account.mu.
type passed struct {
	active bool          // what is held is passed over as it is loaded
	from   store.BlockID // the first block with an entry that was passed over; 0: there is none
	clock  int64         // the stream's, there
	// behind are the identities of which entries were passed over, with the first of these.
	behind  map[string]passedOver
	reached store.BlockID // the last block that was loaded, before the window went back
	freed   bool          // of somebody with passed entries none is left in the window, or a lane that they wait for flows again
	until   time.Time     // when the window goes back in any case
	back    time.Time     // when it last did
	// gone are the blocks that were finished while others were read, of which what was read is out of date; nil: none are read that may be known already.
	gone map[store.BlockID]bool
}

type passedOver struct {
	block     store.BlockID
	effective int64
}

// passLocked takes e, which waits, out of its queues: it stays in the store only.
func (s *stream) passLocked(e *entry, now time.Time) {
	p, l := &s.passed, s.lane
	at := passedOver{e.ref.Block, e.effective}
	if p.from == 0 {
		p.from, p.clock, p.until, p.behind = at.block, at.effective, now.Add(passTime), map[string]passedOver{}
	}
	p.from, p.clock = min(p.from, at.block), min(p.clock, at.effective)
	if due := l.notBefore(e); due.After(now) && due.Before(p.until) {
		p.until = later(due, now.Add(passPause))
	}
	for _, person := range e.persons {
		q := &person.queues[l.index]
		if i := slices.Index(q.entries, e); i >= 0 {
			q.entries = slices.Delete(q.entries, i, i+1)
		}
		if first, ok := p.behind[person.identity]; !ok || at.block < first.block {
			p.behind[person.identity] = at
		}
		l.account.forgetLocked(person, now)
	}
	e.persons = nil
	b := e.block
	if b.passed == nil {
		b.passed = make(bitmap, len(b.done))
	}
	b.passed.set(e.ref.Index)
	b.away++
}

// makeRoomLocked passes over the newer half of what the window holds. It returns false when there is nothing of it that could be.
func (s *stream) makeRoomLocked(now time.Time) bool {
	keep, most, bytes := min(s.lane.account.router.windowEntries, max(len(s.window), 2))/2, min(windowBytes, s.bytes)/2, 0
	touched := map[*block]bool{}
	over := map[*entry]bool{}
	for i, e := range s.window {
		if bytes += e.size(); i < keep && bytes <= most || e.busy || e.urgent || e.finished {
			continue
		}
		s.passLocked(e, now)
		s.countLocked(e, -1)
		over[e], touched[e.block] = true, true
	}
	isOver := func(e *entry) bool { return over[e] }
	s.window = slices.DeleteFunc(s.window, isOver)
	for b := range touched {
		b.entries = slices.DeleteFunc(b.entries, isOver)
		b.thinLocked()
		s.keepLocked(b)
	}
	s.passed.active, s.larger = len(over) > 0 || s.passed.active, 0
	return len(over) > 0
}

// keepLocked notes a block of which entries are in the window, and forgets one of which none are: what the store says of it is all that there is to know.
func (s *stream) keepLocked(b *block) {
	if b.left > b.away {
		s.blocks[b.id] = b
	} else {
		delete(s.blocks, b.id)
	}
}

// heldLocked says of an entry that was just loaded whether it is to be passed over: nothing that is under way lets it leave.
func (s *stream) heldLocked(e *entry, now time.Time) bool {
	if !s.passed.active || e.busy {
		return false
	}
	l := s.lane
	for _, p := range e.persons {
		if _, ok := s.passed.behind[p.identity]; ok {
			return true
		}
	}
	for _, p := range e.persons {
		head := p.queues[l.index].entries[0]
		switch {
		case head == e:
		case head.busy:
			if l.waitsAgainLocked(head, now) {
				return true
			}
		case !l.movesLocked(head, now):
			return true
		}
	}
	if len(e.persons) > 0 && slices.ContainsFunc(e.persons, func(p *person) bool { return p.queues[l.index].entries[0] != e }) {
		return false // what is before it moves
	}
	return !l.movesLocked(e, now)
}

// waitsAgainLocked says whether an entry that is busy waits to be sent again; else it is in a call, or about to be settled.
func (l *lane) waitsAgainLocked(e *entry, now time.Time) bool {
	return slices.ContainsFunc(l.resend, func(u *unit) bool { return u.due.After(now) && slices.Contains(u.entries, e) })
}

// behindLocked says whether entries that count before e, which is in the same lane or a later one, were passed over.
func (s *stream) behindLocked(e *entry) bool {
	if len(s.passed.behind) == 0 {
		return false
	}
	for _, p := range e.persons {
		first, ok := s.passed.behind[p.identity]
		if ok && (e.stream.lane != s.lane && first.block <= e.ref.Block || e.stream.lane == s.lane && first.effective < e.effective) {
			return true
		}
	}
	return false
}

// freedLocked notes of persons with finished entries that those which were passed over may leave now.
func (s *stream) freedLocked(touched map[*person]bool) {
	if len(s.passed.behind) == 0 || s.passed.freed {
		return
	}
	for p := range touched {
		if _, ok := s.passed.behind[p.identity]; ok && !slices.ContainsFunc(p.queues[s.lane.index].entries, func(e *entry) bool { return e.stream == s && !e.finished }) {
			s.passed.freed = true
			return
		}
	}
}

// freePassedLocked has the windows of later lanes look again, for what waited for this one.
func (l *lane) freePassedLocked() {
	for _, waits := range l.account.lanes[l.index:] {
		for _, s := range waits.streams() {
			s.passed.freed = s.passed.from != 0
		}
		waits.poke()
	}
}

// lookBackLocked is when the window goes back to what it has passed over; zero: when something else happens.
func (s *stream) lookBackLocked() time.Time {
	switch p := &s.passed; {
	case p.from == 0:
		return time.Time{}
	case p.freed:
		return earlier(p.back.Add(passPause), p.until)
	default:
		return p.until
	}
}

// goBackLocked has the window go back, if it is time.
func (s *stream) goBackLocked(now time.Time) {
	p := &s.passed
	if at := s.lookBackLocked(); at.IsZero() || now.Before(at) {
		return
	}
	p.reached = max(p.reached, s.loaded)
	if s.loaded >= s.recoverTo {
		s.recoverTo = 0
	}
	s.loaded, s.more = min(s.loaded, p.from-1), true // it may be on its way from the last time that it went back
	if !s.bulk {
		s.clock = min(s.clock, p.clock)
	}
	p.from, p.clock, p.freed, p.until, p.back = 0, 0, false, time.Time{}, now
	p.behind = nil
}

// caughtUpLocked says that all is loaded again that there was when the window went back.
func (s *stream) caughtUpLocked() {
	if p := &s.passed; p.active && p.from == 0 && (s.loaded >= p.reached || !s.more) {
		p.active = false
	}
}

// orderLocked puts the window in the order of the store again.
func (s *stream) orderLocked() {
	slices.SortFunc(s.window, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.ref.Block, b.ref.Block), cmp.Compare(a.ref.Index, b.ref.Index))
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

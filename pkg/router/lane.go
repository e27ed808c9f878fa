package router

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// Bounds of a stream's window. Entries that are held (a retry, an ambiguous call) stay in it, so it is some calls deep.
const (
	windowEntries = 8192
	windowBytes   = 8 << 20
	mostLarger    = 7        // times, while all of a window is held back,
	heldBytes     = 24 << 20 // but not beyond this, with what each entry takes besides its record
	entryBytes    = 1 << 10
	readBytes     = 2 << 20
)

// lane delivers the entries of one lane in order of their keys.
type lane struct {
	account *account
	index   int // among account.lanes
	spec    destinations.LaneSpec
	wake    chan struct{} // capacity 1: something may have become ready
	results chan *result  // calls that came back, to the settler
	settled chan struct{} // closed when the settler has ended
	letGo   chan struct{} // capacity 1: the settler is to look at giveUp

	// Guarded by account.mu.
	live, bulk stream   // their fields
	urgent     []*entry // bulk entries that a live one of a later lane waits for
	calls      int      // in flight
	bulkCalls  int      // of those, the ones with bulk entries only
	passed     int      // calls in a row that left bulk entries waiting
	resend     []*unit  // to be sent again unchanged
	stop       *stoppage
	before     *keptBlock         // what blocked it when an earlier run ended, until a call tells how it is now
	probed     time.Time          // when somebody last wanted a probe
	blockedFor time.Duration      // total time blocked, or without anything going through in an outage, which the age of retries does not count
	cutAcquire context.CancelFunc // ends the wait for a permit; nil: there is none

	// Owned by the dispatcher.
	recovered []store.Call         // found at start, whose entries are not all loaded
	recover   map[store.Ref]*entry // entries of those calls

	recorded []store.Outcome // empty; the settler's, to be used again
}

// block is a block with unfinished entries in the window. Once its entries are in the window it is the settler's.
type block struct {
	id   store.BlockID
	done bitmap // of finished entries; the settler's

	// Guarded by account.mu.
	left    int
	passed  bitmap   // of entries that were passed over: they are in the store only; nil: none
	away    int      // how many these are, of those that are left
	bytes   int      // of the entries that are left in the window
	size    int      // of the data that they came in
	entries []*entry // whose records point into it
}

// unit is a set of entries that is sent in one call, and again unchanged until an answer is known.
type unit struct {
	entries   []*entry
	call      store.CallID  // the mark in the store; 0: not marked
	ambiguous time.Time     // last attempt that got no complete answer; zero: none
	since     time.Time     // first of those
	base      time.Duration // the lane's blocked time then
	age       time.Duration // from since to the last attempt, without the time that the lane was blocked
	attempts  int           // made so far, blocked ones not counted
	due       time.Time
}

// bulk says whether no live entry is in it.
func (u *unit) bulk() bool {
	return !slices.ContainsFunc(u.entries, func(e *entry) bool { return !e.bulk() })
}

// result is what a call brought back.
type result struct {
	unit     *unit
	outcomes []destinations.Outcome
	reason   string // of dead letters, where the outcome is not the destination's own
	sent     bool   // a call was made, so a slot is to be freed
	began    time.Time
}

// stoppage is why a lane does not send.
type stoppage struct {
	err      error
	since    time.Time     // in this run
	shown    time.Time     // since when people are told that it is; zero: since
	judged   time.Time     // the last call that failed, while it is not blocked
	outage   time.Duration // in it, the part of lane.blockedFor that was counted because nothing went through
	failing  failing
	cleared  int64         // before this call of the hub, as account.worked has it, nothing counts as an outage
	until    time.Time     // the next probe
	delay    time.Duration // between probes
	blocked  bool          // said by the destination, for a cause outside the entries
	timed    bool          // until is the destination's own word
	account  bool          // the block is about all lanes of the account
	failures int           // calls in a row that delivered nothing

	skipAfter  time.Duration // entries older than this are skipped; 0: none
	skipReason string
}

// failing says whether calls that fail are all about one ID.
type failing struct {
	id      string
	begun   bool
	several bool
}

func (f *failing) add(u *unit) {
	if u == nil || len(u.entries) == 0 {
		f.several = true
		return
	}
	for _, e := range u.entries {
		id := e.Plan.ID
		if id == "" {
			id = fmt.Sprint(e.ref)
		}
		f.several = f.several || f.begun && id != f.id
		f.id, f.begun = id, true
	}
}

func (f *failing) one() bool { return f.begun && !f.several }

func newLane(a *account, index int, name store.LaneName, spec destinations.LaneSpec) *lane {
	l := &lane{
		account: a, index: index, spec: spec,
		wake: make(chan struct{}, 1), results: make(chan *result, spec.InFlight+1),
		settled: make(chan struct{}), letGo: make(chan struct{}, 1),
	}
	l.live.loading, l.bulk.loading = make(chan struct{}, 1), make(chan struct{}, 1)
	l.live.lane, l.live.name = l, name
	name.Lane += bulkSuffix
	l.bulk.lane, l.bulk.name, l.bulk.bulk = l, name, true
	l.live.blocks, l.bulk.blocks = map[store.BlockID]*block{}, map[store.BlockID]*block{}
	return l
}

// poke makes the dispatcher look again. It never blocks.
func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// report hands a result to the settler. One that has ended, because the store failed, needs none.
func (l *lane) report(res *result) {
	select {
	case l.results <- res:
	case <-l.settled:
	}
}

// resume takes up the calls and holds that an earlier run left; of says in which lane of the store a block is. It is called before the
// lane's goroutines start.
func (l *lane) resume(calls []store.Call, holds []store.Hold, of map[store.BlockID]store.LaneID) {
	for _, c := range calls {
		if c.Lane != l.live.laneID() {
			continue
		}
		if l.recover == nil {
			l.recover = map[store.Ref]*entry{}
		}
		l.recovered = append(l.recovered, c)
		for _, ref := range c.Entries {
			l.recover[ref] = nil
			for _, s := range l.streams() {
				if id := s.laneID(); id != 0 && of[ref.Block] == id {
					s.recoverTo = max(s.recoverTo, ref.Block)
				}
			}
		}
	}
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	for _, h := range holds {
		if h.Lane == l.live.laneID() {
			// No longer than that where the clock was set back.
			now := time.Now()
			l.account.personLocked(h.Key).queues[l.index].hold = earlier(onClock(h.Until, now), now.Add(l.spec.LateAfter))
		}
	}
}

// load fills the windows. It returns true when there is more to load for which there is room.
func (l *lane) load(ctx context.Context) (more bool, err error) {
	now := time.Now()
	l.account.mu.Lock()
	closed := l.closedLocked(now)
	if closed {
		l.unloadLocked(now)
	}
	l.account.mu.Unlock()
	for _, s := range l.streams() {
		if closed && !s.needed() {
			continue
		}
		m, err := s.load(ctx)
		if err != nil {
			return false, err
		}
		more = more || m
	}
	l.recoverCalls()
	return more, nil
}

// thinLocked, when little of a block is left, gives that bytes of its own: what waits for long must not keep all the rest in memory.
func (b *block) thinLocked() {
	if 4*b.bytes > b.size {
		return
	}
	var in, own []byte // an original in the block, and the copy of it that its siblings share
	b.entries = slices.DeleteFunc(b.entries, func(e *entry) bool {
		if e.busy && !e.finished {
			return false // a call reads it; its turn comes when that is over
		}
		if e.finished {
			return true
		}
		if e.detach() != nil {
			return false
		}
		if len(e.original) > 0 {
			if len(in) == 0 || &in[0] != &e.original[0] {
				in, own = e.original, bytes.Clone(e.original)
			}
			e.original = own
		}
		return true
	})
}

// takeBack says whether entry i was passed over, which it is no longer.
func (b *block) takeBack(i int) bool {
	if !b.passed.has(i) {
		return false
	}
	b.passed.clear(i)
	b.away--
	return true
}

// recoverCalls makes units of the calls that were in flight when an earlier run ended, once their entries are loaded.
func (l *lane) recoverCalls() {
	if len(l.recovered) == 0 {
		return
	}
	a := l.account
	now := time.Now()
	var done []*result
	a.mu.Lock()
	l.recovered = slices.DeleteFunc(l.recovered, func(c store.Call) bool {
		u := &unit{call: c.ID, ambiguous: now, since: now.Add(-c.Age), age: c.Age, base: l.blockedLocked(now), due: now}
		for _, ref := range c.Entries {
			if e := l.recover[ref]; e != nil {
				u.entries = append(u.entries, e)
			} else if l.live.recoveringLocked(ref) || l.bulk.recoveringLocked(ref) {
				return false
			}
		}
		if len(u.entries) == 0 {
			done = append(done, &result{unit: u})
		} else {
			l.resend = append(l.resend, u)
		}
		return true
	})
	if len(l.recovered) == 0 {
		l.recover = nil
	}
	a.mu.Unlock()
	for _, res := range done {
		l.report(res)
	}
}

// recoveringLocked says whether a block of the stream, up to that of ref, may have to be loaded for calls found at start.
func (s *stream) recoveringLocked(ref store.Ref) bool {
	return s.more && s.loaded < s.recoverTo && s.loaded < ref.Block
}

package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// Bounds of a lane's window. Entries that are held (a retry, an ambiguous call) stay in it, so it is some calls deep.
const (
	windowEntries = 8192
	windowBytes   = 8 << 20
	readBytes     = 2 << 20
)

// lane delivers the entries of one lane in order of their keys.
type lane struct {
	account *account
	index   int // among account.lanes
	id      store.LaneID
	name    store.LaneName
	spec    destinations.LaneSpec
	wake    chan struct{} // capacity 1: something may have become ready
	results chan *result  // calls that came back, to the settler
	settled chan struct{} // closed when the settler has ended
	letGo   chan struct{} // capacity 1: the settler is to look at giveUp

	// Guarded by account.mu.
	window      []*entry // unfinished, oldest first
	bytes       int      // of the records in the window
	loadedBelow uint64   // entries of offsets below are loaded
	more        bool     // the store may hold blocks that are not loaded
	announced   int      // counts hand-overs, so that a load sees one that it raced with
	calls       int      // in flight
	resend      []*unit  // to be sent again unchanged
	stop        *stoppage
	blockedFor  time.Duration      // total time blocked, which the age of retries does not count
	giveUp      *surrender         // entries to let go; nil: none
	cutAcquire  context.CancelFunc // ends the wait for a permit; nil: there is none

	// Owned by the dispatcher.
	loaded    store.BlockID
	recovered []store.Call         // found at start, whose entries are not all loaded
	recover   map[store.Ref]*entry // entries of those calls
}

// block is a block with unfinished entries in the window. Once its entries are in the window it is the settler's.
type block struct {
	id   store.BlockID
	done []byte // bitmap of finished entries; the settler's

	// Guarded by account.mu.
	left    int
	bytes   int      // of the records that are left
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
	attempts  int           // made so far, blocked ones not counted
	due       time.Time
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
	since    time.Time
	until    time.Time     // the next probe
	delay    time.Duration // between probes
	blocked  bool          // said by the destination, for a cause outside the entries
	account  bool          // the block is about all lanes of the account
	failures int           // calls in a row that delivered nothing

	skipAfter  time.Duration // entries older than this are skipped; 0: none
	skipReason string
}

func newLane(a *account, index int, id store.LaneID, name store.LaneName, spec destinations.LaneSpec) *lane {
	return &lane{
		account: a, index: index, id: id, name: name, spec: spec,
		wake: make(chan struct{}, 1), results: make(chan *result, spec.InFlight+1),
		settled: make(chan struct{}), letGo: make(chan struct{}, 1),
	}
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

// resume takes up what an earlier run left. It is called before the lane's goroutines start.
func (l *lane) resume(more bool, calls []store.Call, holds []store.Hold) {
	l.more = more
	for _, c := range calls {
		if c.Lane == l.id {
			l.recovered = append(l.recovered, c)
		}
	}
	if len(l.recovered) > 0 {
		l.recover = map[store.Ref]*entry{}
		for _, c := range l.recovered {
			for _, ref := range c.Entries {
				l.recover[ref] = nil
			}
		}
	}
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	for _, h := range holds {
		if h.Lane == l.id {
			l.account.personLocked(h.Key).queues[l.index].hold = h.Until
		}
	}
}

// announce says that a hand-over added blocks. The sorter calls it before it moves Router.sorted past them.
func (l *lane) announce() {
	l.account.mu.Lock()
	l.more = true
	l.announced++
	l.account.mu.Unlock()
}

// load fills the window from the store while there is room. Entries of calls found at start are loaded in any case.
func (l *lane) load(ctx context.Context) error {
	a := l.account
	for {
		a.mu.Lock()
		room := len(l.window) < windowEntries && l.bytes < windowBytes || len(l.recovered) > 0
		more, announced := l.more, l.announced
		a.mu.Unlock()
		if !more || !room {
			return nil
		}
		blocks, err := a.router.readBlocks(ctx, l.id, &l.loaded)
		if err != nil {
			return fmt.Errorf("read lane %s of %s: %w", l.spec.Name, a.route.Name, err)
		}
		if len(blocks) == 0 {
			a.mu.Lock()
			if l.announced == announced {
				l.more = false
			}
			a.mu.Unlock()
			a.wakeFrom(l.index + 1)
			l.recoverCalls(true)
			continue
		}
		for i := range blocks {
			if err := l.addBlock(&blocks[i]); err != nil {
				return err
			}
		}
		l.recoverCalls(false)
		l.askToLetGo()
		a.wakeFrom(l.index + 1)
	}
}

// readBlocks reads the blocks of a lane behind *after. One that is damaged is passed over with a line in the log, and stays in the store: its
// lane goes on without it, and never counts as empty.
func (r *Router) readBlocks(ctx context.Context, lane store.LaneID, after *store.BlockID) ([]store.StoredBlock, error) {
	for {
		blocks, err := r.store.ReadBlocks(ctx, lane, *after, readBytes)
		var damaged *store.DamagedError
		if !errors.As(err, &damaged) {
			return blocks, err
		}
		r.logger.Error("entries can not be read and are left out", "entries", damaged.Block.Entries, "error", err.Error())
		*after = damaged.Block.ID
	}
}

// addBlock puts the unfinished entries of a block into the window.
func (l *lane) addBlock(b *store.StoredBlock) error {
	a := l.account
	entries, err := decodeBlock(b.Data, a.route.Name, a.name, l.spec.Name)
	if err != nil {
		return fmt.Errorf("lane %s of %s, block %d: %w", l.spec.Name, a.route.Name, b.ID, err)
	}
	retries := map[int]store.Retry{}
	for _, r := range b.Retries {
		retries[r.Index] = r
	}
	now := time.Now()
	l.loaded = b.ID
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := &block{id: b.ID, size: len(b.Data), done: make([]byte, (len(entries)+7)/8)}
	copy(kept.done, b.Done)
	for i, e := range entries {
		l.loadedBelow = e.Name.Offset + 1
		if kept.isDone(i) {
			continue
		}
		e.block, e.ref = kept, store.Ref{Block: b.ID, Index: i}
		e.base = l.blockedLocked(now)
		if r, ok := retries[i]; ok {
			e.attempts, e.due, e.since, e.blocked = r.Attempt, r.Due, r.Since, r.Blocked
			if late := now.Sub(r.Due); late > 0 {
				e.blocked += late // nobody tried while the router was down
			}
		}
		if _, ok := l.recover[e.ref]; ok {
			l.recover[e.ref] = e
			e.busy = true
		}
		kept.left++
		kept.bytes += len(e.record)
		kept.entries = append(kept.entries, e)
		l.window = append(l.window, e)
		l.bytes += len(e.record)
		l.enqueueLocked(e)
	}
	kept.thinLocked()
	return nil
}

// thinLocked, when little of a block is left, gives that bytes of its own: what waits for long must not keep all the rest in memory.
func (b *block) thinLocked() {
	if 4*b.bytes > b.size {
		return
	}
	b.entries = slices.DeleteFunc(b.entries, func(e *entry) bool {
		if e.busy && !e.finished {
			return false // a call reads it; its turn comes when that is over
		}
		return e.finished || e.detach() == nil
	})
}

func (b *block) isDone(i int) bool { return b.done[i/8]&(1<<(i%8)) != 0 }

// enqueueLocked puts e at the end of the queue of each of its identities.
func (l *lane) enqueueLocked(e *entry) {
	if e.Plan.Key != "" {
		e.persons = append(e.persons, l.account.personLocked(e.Plan.Key))
	}
	for _, also := range e.Plan.Also {
		if p := l.account.personLocked(also); !slices.Contains(e.persons, p) {
			e.persons = append(e.persons, p)
		}
	}
	for _, p := range e.persons {
		q := &p.queues[l.index]
		q.entries = append(q.entries, e)
	}
}

// recoverCalls makes units of the calls that were in flight when an earlier run ended, once their entries are loaded; all says
// that everything is.
func (l *lane) recoverCalls(all bool) {
	if len(l.recovered) == 0 {
		return
	}
	a := l.account
	now := time.Now()
	var done []*result
	a.mu.Lock()
	l.recovered = slices.DeleteFunc(l.recovered, func(c store.Call) bool {
		u := &unit{call: c.ID, ambiguous: now, since: now, base: l.blockedLocked(now), due: now}
		for _, ref := range c.Entries {
			if e := l.recover[ref]; e != nil {
				u.entries = append(u.entries, e)
			} else if !all && ref.Block > l.loaded {
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

package router

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// bulkSuffix is added to a lane's name for its bulk stream: contacts/bulk.
const bulkSuffix = "/bulk"

// stream is the live or the bulk part of a lane: of events as they happen, or of imports and replays. In the store each is a lane of its own, and each
// has a window, so that a million imported entries do not stand between a live one and its call.
type stream struct {
	lane *lane
	bulk bool
	name store.LaneName
	id   atomic.Int64 // store.LaneID; 0 until the first entry, for most accounts never see a bulk one

	// Guarded by account.mu.
	window    []*entry // unfinished, oldest first
	bytes     int      // of the entries in the window
	loaded    store.BlockID
	more      bool  // the store may hold blocks that are not loaded
	coming    int   // hand-overs that are being committed, with blocks that others may see before they are announced
	announced int   // counts hand-overs, so that a load sees one that it raced with
	clock     int64 // of a live stream: effective time of the last entry that was loaded; those that are not loaded count as later
	giveUp    *surrender
	larger    int // the window may be so many times larger, because all that it holds is held back
	passed    passed
	blocks    map[store.BlockID]*block // with entries in the window

	loading chan struct{} // capacity 1: the dispatcher puts something in while it has blocks that are not in the window yet

	// Owned by the dispatcher.
	recoverTo store.BlockID // entries of calls found at start are in blocks up to this
}

func (s *stream) laneID() store.LaneID { return store.LaneID(s.id.Load()) }

// open returns the stream's lane in the store, which it makes when it is new.
func (s *stream) open() (store.LaneID, error) {
	if id := s.laneID(); id != 0 {
		return id, nil
	}
	id, err := s.lane.account.router.store.LaneID(s.name)
	if err != nil {
		return 0, fmt.Errorf("lane %s of %s: %w", s.name.Lane, s.name.Destination, err)
	}
	s.id.Store(int64(id))
	return id, nil
}

// streams are both, live first.
func (l *lane) streams() [2]*stream { return [...]*stream{&l.live, &l.bulk} }

// stream is the one for events of a class. A replay is bulk: there may be many at once, and its time has passed.
func (l *lane) stream(class event.Class) *stream {
	if class == event.Live {
		return &l.live
	}
	return &l.bulk
}

// expect says that a hand-over is about to add blocks.
func (s *stream) expect() {
	a := s.lane.account
	a.mu.Lock()
	s.coming++
	a.mu.Unlock()
}

// announce says that a hand-over that was expected has added its blocks.
func (s *stream) announce() {
	a := s.lane.account
	a.mu.Lock()
	s.coming--
	s.more = true
	s.announced++
	a.mu.Unlock()
}

// despair says that a hand-over that was expected adds nothing.
func (s *stream) despair() {
	a := s.lane.account
	a.mu.Lock()
	s.coming--
	a.mu.Unlock()
	a.wakeFrom(s.lane.index)
}

// load fills the window from the store while there is room. Entries of calls found at start are loaded in any case. While held entries are passed over it
// reads once, and returns true when there may be more to read.
func (s *stream) load(ctx context.Context) (more bool, err error) {
	l, a := s.lane, s.lane.account
	for {
		a.mu.Lock()
		s.goBackLocked(time.Now())
		room := s.roomLocked() || s.loaded < s.recoverTo
		more, announced, after := s.more, s.announced, s.loaded
		s.passed.gone = nil
		if after < s.passed.reached {
			s.passed.gone = map[store.BlockID]bool{}
		}
		passing := s.passed.active
		a.mu.Unlock()
		if !more || !room {
			return false, nil
		}
		forgotten, err := s.loadBlocks(ctx, after, announced)
		if err != nil {
			return false, err
		}
		l.letGoOf(forgotten, nil)
		a.mu.Lock()
		s.caughtUpLocked()
		a.mu.Unlock()
		l.recoverCalls()
		l.askToLetGo()
		a.wakeFrom(l.index + 1)
		if passing {
			return true, nil
		}
	}
}

// loadBlocks puts the next blocks behind one into the window. It returns those of their entries, busy, that are of persons who are forgotten.
func (s *stream) loadBlocks(ctx context.Context, after store.BlockID, announced int) (forgotten []*entry, err error) {
	a := s.lane.account
	select {
	case s.loading <- struct{}{}:
		defer func() { <-s.loading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	a.mu.Lock()
	most := min(a.router.readBytes, max(1, s.mostLocked()-s.sizeLocked()))
	a.mu.Unlock()
	blocks, err := a.router.readSome(ctx, s.laneID(), &after, most)
	if err != nil {
		return nil, fmt.Errorf("read lane %s of %s: %w", s.name.Lane, s.name.Destination, err)
	}
	if len(blocks) == 0 {
		a.mu.Lock()
		s.loaded = after
		if s.announced == announced {
			s.more = false
		}
		a.mu.Unlock()
	}
	for i := range blocks {
		gone, err := s.addBlock(&blocks[i])
		if err != nil {
			return nil, err
		}
		forgotten = append(forgotten, gone...)
	}
	return forgotten, nil
}

// roomLocked says whether there is room in the window.
func (s *stream) roomLocked() bool {
	n := len(s.window)
	if size := s.sizeLocked(); s.larger > 0 && size >= heldBytes || size >= s.mostLocked() {
		return false
	}
	return n < (1+s.larger)*s.lane.account.router.windowEntries && s.bytes < (1+s.larger)*windowBytes
}

// growLocked makes a window larger when calls could be made but nothing in it may leave: a few persons with much to write, for whom a retry waits, would
// else keep everyone behind them waiting. Where it is as large as it may be, what is held is passed over. Of calls under way, those of an import alone do not
// count for the live window. It says whether there is more to load.
func (l *lane) growLocked(now time.Time) (grown bool) {
	if open, _ := l.openLocked(now); !open {
		return false
	}
	for _, s := range l.streams() {
		calls := l.calls
		if !s.bulk {
			calls -= l.bulkCalls
		}
		if calls > 0 || !s.more || s.roomLocked() || slices.ContainsFunc(s.window, func(e *entry) bool { return l.movesLocked(e, now) }) {
			continue
		}
		if s.larger < mostLarger && !s.passed.active && s.bytes+len(s.window)*entryBytes < heldBytes {
			s.larger++
			grown = true
		} else if s.makeRoomLocked(now) {
			grown = true
		}
	}
	return grown
}

// movesLocked says whether e, or what must leave before it, may leave now, or waits for an earlier lane that is at work on that.
func (l *lane) movesLocked(e *entry, now time.Time) bool {
	if e = l.headLocked(e); e == nil {
		return false
	}
	if ready, _ := l.readyLocked(e, now); ready {
		return true
	}
	if l.notBefore(e).After(now) {
		return false
	}
	for _, earlier := range l.account.lanes[:l.index] {
		if open, _ := earlier.openLocked(now); !open && earlier.calls == 0 && earlier.stop.blocked {
			continue // for long; a pause, because calls fail, is over soon
		}
		if !earlier.showsLocked(e) {
			return true
		}
		if earlier.live.behindLocked(e) || e.bulk() && earlier.bulk.behindLocked(e) {
			continue
		}
		for _, p := range e.persons {
			o := p.queues[earlier.index].firstBefore(e)
			if o != nil && (o.busy && !earlier.waitsAgainLocked(o, now) || earlier.movesLocked(o, now)) {
				return true
			}
		}
	}
	return false
}

// addBlock puts the unfinished entries of a block into the window. It returns those, busy, that are of persons who are forgotten.
func (s *stream) addBlock(b *store.StoredBlock) (forgotten []*entry, err error) {
	l, a := s.lane, s.lane.account
	entries, err := decodeBlock(b.Data, a.route.Name, a.name, l.spec.Name)
	if err != nil {
		return nil, fmt.Errorf("lane %s of %s, block %d: %w", s.name.Lane, s.name.Destination, b.ID, err)
	}
	kept := &block{id: b.ID, size: len(b.Data), done: newBitmap(len(entries), b.Done)}
	retries := map[int]store.Retry{}
	for _, r := range b.Retries {
		retries[r.Index] = r
	}
	now := time.Now()
	for i, e := range entries {
		e.stream, e.ref = s, store.Ref{Block: b.ID, Index: i}
		if !kept.done.has(i) {
			e.effective = e.CountsAt().UnixMicro()
			e.letGo = a.router.forgetsEntry(e)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.loaded = b.ID
	if s.passed.gone[b.ID] {
		return nil, nil // it was finished while it was read
	}
	known := s.blocks[b.ID]
	if known != nil {
		kept = known // the settler knows better what is done
	}
	for i, e := range entries {
		if known == nil && kept.done.has(i) || known != nil && !kept.takeBack(i) {
			continue
		}
		if !s.bulk {
			// What is live comes in the order of the log, also where the clock was set back, or requests overtook each other.
			e.effective = max(e.effective, s.clock)
			s.clock = e.effective
		}
		e.block, e.base = kept, l.blockedLocked(now)
		if r, ok := retries[i]; ok {
			s.waitAgainLocked(e, &r, now)
		}
		if e.letGo {
			e.busy = true
			forgotten = append(forgotten, e)
		} else if _, ok := l.recover[e.ref]; ok {
			l.recover[e.ref] = e
			e.busy = true
		}
		if known == nil {
			kept.left++
		}
		l.enqueueLocked(e)
		if s.heldLocked(e, now) {
			s.passLocked(e, now)
			continue
		}
		kept.entries = append(kept.entries, e)
		s.window = append(s.window, e)
		s.countLocked(e, 1)
	}
	if b.ID < s.passed.reached {
		s.orderLocked()
	}
	s.keepLocked(kept)
	kept.thinLocked()
	return forgotten, nil
}

// waitAgainLocked has e, which was just loaded, wait as the store says.
func (s *stream) waitAgainLocked(e *entry, r *store.Retry, now time.Time) {
	a := s.lane.account
	// Where the clock was set back since, neither time may lie as far in the future as it was set back. If it is set later both stay where they are.
	e.attempts, e.blocked = r.Attempt, r.Blocked
	e.due = earlier(onClock(r.Due, now), now.Add(longest(a.route.Retry.MaxDelay)))
	e.since = earlier(onClock(r.Since, now), now)
	if late := now.Sub(r.Due); late > 0 {
		e.blocked += late // nobody tried while the router was down
	} else if a.mended && e.ref.Block > s.passed.reached {
		e.due = now
	}
}

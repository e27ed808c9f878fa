package router

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// unsortedLane holds the live events of a destination that is set aside, as they came, not yet filtered or planned; the others have one beside it.
const unsortedLane = "unsorted"

const (
	shareWindow = 10 * time.Second
	shareLimit  = shareWindow / 4 // more of it in one destination's scripts: the destination is set aside
)

// share measures how much of the sorter's time one destination's filter takes.
type share struct {
	began time.Time
	spent time.Duration
}

// add counts spent, which has just passed, and says whether it is too much for the time since the window began.
func (s *share) add(spent time.Duration, now time.Time) (over bool) {
	if now.Sub(s.began) > shareWindow {
		s.began, s.spent = now.Add(-spent), 0
	}
	s.spent += spent
	return s.spent > shareLimit
}

// aside sorts one destination's events apart from the others, so that its slow scripts hold up only itself. While it is in use the sorter
// puts the destination's events, in order, into the unsorted lanes: what is live is sorted first. Events of which one does not know yet whose they are
// wait in a lane beside these, whether the destination is set aside or not.
//
//	sorter ─▶ unsorted      ─▶ aside: filter, plan ─▶ the destination's lanes
//	       ─▶ unsorted/bulk ─▶
//	       ─▶ unidentified  ─▶
type aside struct {
	r     *Router
	route *Route
	wake  chan struct{}

	live, bulk, late unsorted

	turn chan struct{} // capacity 1: whoever has put something in may read, sort and hand over

	active atomic.Bool // set and cleared by the sorter
	calm   atomic.Bool // drained, and the last window was within the limit: the sorter may take it back

	// Guarded by Router.mu.
	begun bool
	leave context.CancelFunc // ends run
}

// unsorted is one of the unsorted lanes of a destination.
type unsorted struct {
	name store.LaneName
	bulk bool
	wait time.Duration // from an event's receipt until it is sorted
	mark deathMark     // the aside opens and closes it
	id   atomic.Int64  // store.LaneID; 0 until the first entry

	// Owned by the aside, with its turn.
	suspects span          // places of entries that were in hand when the process died
	read     store.BlockID // last one that was read
	blocks   []store.StoredBlock
	block    *unsortedBlock // begun; nil: none
	setBack  time.Time      // when an event was first found whose receipt is yet to come; zero: the last one's is not
}

// unsortedBlock is a block that is being sorted.
type unsortedBlock struct {
	id      store.BlockID
	entries []*entry
	done    bitmap
	next    int
}

// sliceTime is how long imported events are sorted before it is looked whether live ones wait.
const sliceTime = 100 * time.Millisecond

// isUnsorted says whether a lane of the store is one of these.
func isUnsorted(name store.LaneName) bool {
	return name.Lane == unsortedLane || name.Lane == unsortedLane+bulkSuffix || name.Lane == unidentifiedLane
}

func newAside(r *Router, route *Route) *aside {
	a := &aside{r: r, route: route, wake: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
	a.live.name = store.LaneName{Destination: route.Name, Lane: unsortedLane}
	a.bulk.name = store.LaneName{Destination: route.Name, Lane: unsortedLane + bulkSuffix}
	a.bulk.bulk = true
	a.late.name, a.late.wait = store.LaneName{Destination: route.Name, Lane: unidentifiedLane}, identityWait
	for i, u := range a.lanes() {
		u.id.Store(int64(u.state(r.store).ID)) // of an earlier run, or 0
		if path := r.live.mark.path; path != "" {
			name := fnv.New64a()
			io.WriteString(name, route.Name)
			u.mark = deathMark{path: fmt.Sprintf("%s.%016x", path, name.Sum64()), at: int64(i) * markBytes}
		}
	}
	return a
}

// setAside is called by the sorter when a destination's scripts take too much of its time.
func (r *Router) setAside(t *table, index int) {
	a := r.aside(t, index)
	a.calm.Store(false)
	a.active.Store(true)
	r.logger.Warn("the destination's scripts are slow: its events are sorted apart from the others until it has caught up",
		"destination", a.route.Name, "limit", shareLimit.String()+" of "+shareWindow.String())
}

// aside returns a destination's, which may be made for it.
func (r *Router) aside(t *table, index int) *aside {
	if t.asides[index] == nil {
		r.putAside(t, index, newAside(r, t.routes[index]))
	}
	return t.asides[index]
}

// putAside puts an aside into the table and has it begin.
func (r *Router) putAside(t *table, index int, a *aside) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t.asides[index] = a
	r.beginAsideLocked(a)
}

// beginAsideLocked has an aside begin, unless a former one of its destination has to end first: then that calls it again.
func (r *Router) beginAsideLocked(a *aside) {
	if !a.begun && r.leaving[a.route.Name] == nil {
		a.begun = true
		r.startAside(a)
	}
}

// start starts the goroutine.
func (a *aside) start(ctx context.Context, g *errgroup.Group) {
	leave, cancel := context.WithCancel(ctx)
	a.leave = cancel
	g.Go(func() error {
		defer cancel()
		if err := a.run(ctx, leave); err != nil || ctx.Err() != nil {
			return err
		}
		return a.r.left(a)
	})
}

// lanes are in the order in which they are looked at. What has waited to be identified came before what is unsorted now, and can not hold that up: each
// of its events was in that lane before, or came while it was empty.
func (a *aside) lanes() [3]*unsorted { return [...]*unsorted{&a.late, &a.live, &a.bulk} }

// lane is the one for events of a class.
func (a *aside) lane(class event.Class) *unsorted {
	if class == event.Live {
		return &a.live
	}
	return &a.bulk
}

// open returns the lane's id in the store, which it makes when it is new.
func (u *unsorted) open(st *store.Store) (store.LaneID, error) {
	if id := u.id.Load(); id != 0 {
		return store.LaneID(id), nil
	}
	id, err := st.LaneID(u.name)
	if err != nil {
		return 0, fmt.Errorf("lane %s of %s: %w", u.name.Lane, u.name.Destination, err)
	}
	u.id.Store(int64(id))
	return id, nil
}

// state is the lane as the store has it.
func (u *unsorted) state(st *store.Store) store.Lane {
	for _, l := range st.Lanes() {
		if l.Name == u.name {
			return l
		}
	}
	return store.Lane{}
}

// drained says whether nothing is left to sort.
func (a *aside) drained() bool {
	return a.live.state(a.r.store).Entries == 0 && a.bulk.state(a.r.store).Entries == 0
}

// poke makes the goroutine look again. It never blocks.
func (a *aside) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run sorts what is in the unsorted lanes until ctx ends, or the route is no longer in force, which ends leave. Then what is in hand is handed over.
func (a *aside) run(ctx, leave context.Context) error {
	for _, u := range a.lanes() {
		var err error
		if u.suspects, err = u.mark.open(); err != nil {
			return err
		}
		defer u.mark.close()
	}
	h := newHandover(a.r, &table{routes: []*Route{a.route}, asides: []*aside{a}}) // who owns an event is known before it is put off
	var measure share
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		worked := false
		due := time.Hour
		for _, u := range a.lanes() {
			before := h.spent[0]
			rest, err := a.sortSome(ctx, leave, h, u)
			if err != nil || leave.Err() != nil {
				return err
			}
			worked = rest == 0
			due = min(due, rest)
			if worked {
				a.calm.Store(false)
				measure.add(h.spent[0]-before, time.Now())
				break // live ones may have come
			}
		}
		if worked {
			continue
		}
		a.calm.Store(!measure.add(0, time.Now()))
		timer.Reset(due)
		select {
		case <-timer.C:
		case <-a.wake:
		case <-leave.Done():
			return nil
		}
	}
}

// sortSome sorts the next events of a lane: of what is live a block, else as many as fit in sliceTime. Where there are none to sort now it returns how long
// that will be so.
func (a *aside) sortSome(ctx, leave context.Context, h *handover, u *unsorted) (rest time.Duration, err error) {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-leave.Done():
		return 0, nil
	}
	if u.block == nil {
		if u.block, err = a.nextBlock(leave, u); err != nil || u.block == nil {
			return time.Hour, err
		}
		if u.bulk {
			return 0, nil // live ones that came before it may have come since they were looked for: they are looked for once more
		}
	}
	if rest = u.rest(time.Now()); rest > 0 {
		return rest, nil
	}
	return 0, a.sort(ctx, leave, h, u)
}

// rest is how long the next event of the block that is begun has to wait.
func (u *unsorted) rest(now time.Time) time.Duration {
	if u.wait == 0 {
		return 0
	}
	left := u.block.entries[u.block.next].Event.Received.Add(u.wait).Sub(now)
	if left <= u.wait {
		u.setBack = time.Time{}
		return left
	}
	// The clock was set back: what was received before that waits once, all of it together.
	if u.setBack.IsZero() {
		u.setBack = now
	}
	return u.setBack.Add(u.wait).Sub(now)
}

// nextBlock takes the next block of a lane; nil when there is none.
func (a *aside) nextBlock(ctx context.Context, u *unsorted) (*unsortedBlock, error) {
	id := store.LaneID(u.id.Load())
	if id == 0 {
		return nil, nil
	}
	if len(u.blocks) == 0 {
		var err error
		if u.blocks, err = a.r.readBlocks(ctx, id, &u.read); err != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("read lane %s of %s: %w", u.name.Lane, u.name.Destination, err)
		}
		if len(u.blocks) == 0 || ctx.Err() != nil {
			u.blocks = nil
			return nil, nil
		}
		u.read = u.blocks[len(u.blocks)-1].ID
	}
	stored := &u.blocks[0]
	entries, err := decodeBlock(stored.Data, u.name.Destination, "", unsortedLane)
	if err != nil {
		return nil, fmt.Errorf("lane %s of %s, block %d: %w", u.name.Lane, u.name.Destination, stored.ID, err)
	}
	b := &unsortedBlock{id: stored.ID, entries: entries, done: newBitmap(len(entries), stored.Done)}
	u.blocks = u.blocks[1:]
	return b, nil
}

// sort hands some events of the lane's block over to the destination's lanes.
func (a *aside) sort(ctx, leave context.Context, h *handover, u *unsorted) error {
	b := u.block
	h.begin(ctx)
	defer h.letGoOfAccounts()
	defer h.releaseKV()
	h.final = u == &a.late
	finished, err := a.sortEntries(ctx, leave, h, u)
	if err := errors.Join(err, u.mark.end()); err != nil {
		return err
	}
	if ctx.Err() != nil || finished == 0 && leave.Err() != nil {
		return nil // they are sorted again at the next start, or by the route that comes
	}
	progress := store.Progress{Lane: store.LaneID(u.id.Load()), Block: b.id, Finished: finished}
	if b.next == len(b.entries) {
		u.block = nil
	} else {
		progress.Done = b.done
	}
	h.batch.Progress = append(h.batch.Progress, progress)
	return h.commit(ctx)
}

// sortEntries sorts entries of the lane's block for which there is time, and returns how many. The lane's mark names them meanwhile.
func (a *aside) sortEntries(ctx, leave context.Context, h *handover, u *unsorted) (finished int, err error) {
	b := u.block
	for b.next < len(b.entries)-1 && b.done.has(b.next) {
		b.next++
	}
	end := len(b.entries)
	if b.place(b.next) < u.suspects.to {
		end = b.next + 1 // one of these killed the process: find out which
	}
	deaths, err := u.mark.begin(b.place(b.next), b.place(end), u.suspects)
	if err != nil {
		return 0, err
	}
	tooOld := a.tooOld(a.route, u)
	short := u.bulk || h.kvs[0] != nil // the sorter may wait for $kv
	for began := time.Now(); b.next < end && (!short || time.Since(began) < sliceTime) && u.rest(began) <= 0; b.next++ {
		if ctx.Err() != nil || leave.Err() != nil {
			break
		}
		if b.done.has(b.next) {
			continue
		}
		b.done.set(b.next)
		finished++
		e := b.entries[b.next]
		switch {
		case a.r.forgetsEntry(e):
			h.skipOutput(0, a.route, log.Record{Offset: log.Offset(e.Name.Offset)}, blank(e.Event, e.eventID()))
		case deaths >= maxDeaths:
			h.sortPutOff(a.route, e, dead(0, e.Event, "poison", poisonError(deaths)))
		case tooOld(e, time.Now()):
			h.sortPutOff(a.route, e, dead(0, e.Event, reasonLaneFull, errLaneFull))
		default:
			h.sortPutOff(a.route, e, Decision{})
		}
	}
	return finished, nil
}

// place numbers the entries of all blocks of a lane for its mark, in order. No hand-over makes a block of so many entries.
func (b *unsortedBlock) place(i int) uint64 { return uint64(b.id)<<20 + uint64(i) }

// sortPutOff sorts an entry of an unsorted lane for its route, or gives it up, where that is decided.
func (h *handover) sortPutOff(route *Route, e *entry, decided Decision) {
	if e.replayed != nil { // it goes on with the entries that are made now
		h.replay = &replaying{source: &store.DeadLetter{ID: e.replayed.letter}, replayed: *e.replayed}
		defer func() { h.replay = nil }()
	}
	rec := log.Record{Offset: log.Offset(e.Name.Offset), Data: e.record}
	if decided.Status == store.Dead {
		h.bury(route, rec, e.Event, decided)
		return
	}
	ev := e.Event
	if route.Connection != "" && ev.Account == "" { // it was put off before the destination got its connection
		own, undone := h.whoseAgain(route, ev)
		if undone.Status != "" {
			h.settle(0, route, rec, own, &undone)
			return
		}
		ev, own.Email = own, "" // which was what is known of the person whom the id names in whatever account
		h.identities.resolve(ev)
	} else if h.final {
		h.identities.resolve(ev)
	}
	h.route(0, route, rec, ev)
}

// tooOld says which entries are given up unsorted, where the lane is at a limit and the configuration wants that: the first block at
// max_bytes, and what is older than max_age.
func (a *aside) tooOld(route *Route, u *unsorted) func(*entry, time.Time) bool {
	limits := route.Lanes
	if limits.OnFull != config.DeadLetterOldest || a.r.withholds(route, 0) {
		return func(*entry, time.Time) bool { return false }
	}
	full := limits.MaxBytes > 0 && u.state(a.r.store).Bytes >= limits.MaxBytes
	return func(e *entry, now time.Time) bool {
		return full || limits.MaxAge > 0 && e.replayed == nil && now.Sub(e.Event.Received) >= limits.MaxAge
	}
}

package router

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// unsortedLane holds the events of a destination that is set aside: as they came, not yet filtered or planned.
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
// puts the destination's events, in order, into the unsorted lane.
//
//	sorter ─▶ unsorted lane ─ aside: filter, plan ─▶ the destination's lanes
type aside struct {
	r     *Router
	index int // of the route
	lane  store.LaneID
	wake  chan struct{}

	active atomic.Bool // set and cleared by the sorter
	calm   atomic.Bool // drained, and the last window was within the limit: the sorter may take it back
}

// unsorted returns the destination's aside, making its lane when there is none.
func (r *Router) unsorted(index int) (*aside, error) {
	id, err := r.store.LaneID(store.LaneName{Destination: r.routes[index].Name, Lane: unsortedLane})
	if err != nil {
		return nil, fmt.Errorf("lane %s of %s: %w", unsortedLane, r.routes[index].Name, err)
	}
	return &aside{r: r, index: index, lane: id, wake: make(chan struct{}, 1)}, nil
}

// setAside is called by the sorter when a destination's scripts take too much of its time.
func (r *Router) setAside(index int) error {
	a := r.asides[index]
	if a == nil {
		var err error
		if a, err = r.unsorted(index); err != nil {
			return err
		}
		r.asides[index] = a
		r.startAside(a)
	}
	a.calm.Store(false)
	a.active.Store(true)
	r.logger.Warn("the destination's scripts are slow: its events are sorted apart from the others until it has caught up",
		"destination", r.routes[index].Name, "limit", shareLimit.String()+" of "+shareWindow.String())
	return nil
}

// state is the unsorted lane as the store has it.
func (a *aside) state() store.Lane {
	lanes := a.r.store.Lanes()
	return lanes[slices.IndexFunc(lanes, func(l store.Lane) bool { return l.ID == a.lane })]
}

// drained says whether nothing is left to sort.
func (a *aside) drained() bool { return a.state().Entries == 0 }

// poke makes the goroutine look again. It never blocks.
func (a *aside) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// run sorts what is in the unsorted lane until ctx ends.
func (a *aside) run(ctx context.Context) error {
	h := newHandover(a.r)
	route := &a.r.routes[a.index]
	var measure share
	var last store.BlockID
	for {
		blocks, err := a.r.readBlocks(ctx, a.lane, &last)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read lane %s of %s: %w", unsortedLane, route.Name, err)
		}
		if len(blocks) == 0 {
			a.calm.Store(!measure.add(0, time.Now()))
			select {
			case <-a.wake:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		a.calm.Store(false)
		for i := range blocks {
			last = blocks[i].ID
			before := h.spent[a.index]
			if err := a.sort(ctx, h, route, &blocks[i]); err != nil || ctx.Err() != nil {
				return err
			}
			measure.add(h.spent[a.index]-before, time.Now())
		}
	}
}

// sort hands one block over to the destination's lanes.
func (a *aside) sort(ctx context.Context, h *handover, route *Route, b *store.StoredBlock) error {
	entries, err := decodeBlock(b.Data, route.Name, "", unsortedLane)
	if err != nil {
		return fmt.Errorf("lane %s of %s, block %d: %w", unsortedLane, route.Name, b.ID, err)
	}
	tooOld := a.tooOld(route)
	h.begin()
	for _, e := range entries {
		if ctx.Err() != nil {
			return nil // the block is sorted again at the next start
		}
		rec := log.Record{Offset: log.Offset(e.Name.Offset), Data: e.record}
		if tooOld(e, time.Now()) {
			h.bury(route, rec, e.Event, reasonLaneFull, errLaneFull)
			continue
		}
		h.route(a.index, route, rec, e.Event)
	}
	h.batch.Progress = append(h.batch.Progress, store.Progress{Lane: a.lane, Block: b.ID, Finished: b.Entries})
	return h.commit(ctx, 0, func() {
		a.r.raiseSorted(a.index, entries[len(entries)-1].Name.Offset+1)
		// Entries of any account may have waited for this, also when nothing came out of the block.
		for _, account := range a.r.allAccounts() {
			if account.route == route {
				account.wakeFrom(0)
			}
		}
	})
}

// tooOld says which entries are given up unsorted, where the lane is at a limit and the configuration wants that: the first block at
// max_bytes, and what is older than max_age.
func (a *aside) tooOld(route *Route) func(*entry, time.Time) bool {
	limits := route.Lanes
	if limits.OnFull != config.DeadLetterOldest {
		return func(*entry, time.Time) bool { return false }
	}
	full := limits.MaxBytes > 0 && a.state().Bytes >= limits.MaxBytes
	return func(e *entry, now time.Time) bool {
		return full || limits.MaxAge > 0 && now.Sub(e.Event.Received) >= limits.MaxAge
	}
}

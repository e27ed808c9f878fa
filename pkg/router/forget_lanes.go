package router

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// letGoOf finishes entries as those of a person who is forgotten. They are busy.
func (l *lane) letGoOf(entries []*entry, like *unit) {
	if len(entries) == 0 {
		return
	}
	u := &unit{entries: entries}
	if like != nil {
		u.ambiguous = like.ambiguous // the remote may still carry the call out: what comes next of the person waits for that
	}
	res := &result{unit: u, outcomes: make([]destinations.Outcome, len(entries))}
	for i := range res.outcomes {
		res.outcomes[i].Err = destinations.Skip(reasonForgotten)
	}
	l.report(res)
}

// letGo is what a lane finishes.
type letGo struct {
	lane    *lane
	entries []*entry
	like    *unit
}

// letGoWindows finishes the entries in an account's windows that forgets wants, but for those in calls, which it counts: those are to be waited for.
func (a *account) letGoWindows(forgets func(*entry) bool) (finished []store.Ref, inCalls int) {
	var all []letGo
	var ended []letGo // calls of which nothing is left
	a.mu.Lock()
	for _, l := range a.lanes {
		// What waits to be sent again unchanged is busy, but in no call.
		l.resend = slices.DeleteFunc(l.resend, func(u *unit) bool {
			gone := letGo{lane: l, like: u}
			u.entries = slices.DeleteFunc(slices.Clone(u.entries), func(e *entry) bool {
				if e.letGo || !forgets(e) {
					return e.letGo
				}
				e.letGo = true
				gone.entries = append(gone.entries, e)
				return true
			})
			if len(gone.entries) > 0 {
				all = append(all, gone)
			}
			if len(u.entries) == 0 && u.call != 0 {
				ended = append(ended, letGo{lane: l, like: u})
			}
			return len(u.entries) == 0
		})
		for _, s := range l.streams() {
			gone := letGo{lane: l}
			for _, e := range s.window {
				switch {
				case e.finished || !forgets(e):
				case e.letGo || e.busy:
					inCalls++
				default:
					e.busy, e.letGo = true, true
					gone.entries = append(gone.entries, e)
				}
			}
			if len(gone.entries) > 0 {
				all = append(all, gone)
			}
		}
	}
	a.mu.Unlock()
	for _, g := range all {
		finished = append(finished, refs(g.entries)...)
		g.lane.letGoOf(g.entries, g.like)
	}
	for _, g := range ended {
		g.lane.report(&result{unit: &unit{call: g.like.call}})
	}
	return finished, inCalls + len(finished)
}

// windows finishes what the windows hold of the person, and waits for calls in flight with it.
func (f *forgetting) windows(ctx context.Context) error {
	return f.await(ctx, func() string {
		for _, a := range f.router.atWork() {
			finished, left := a.letGoWindows(f.mine)
			f.result.Waiting += int64(len(finished))
			if len(finished) > 0 {
				f.result.in(a.name)
			}
			for _, ref := range finished {
				f.finished[ref] = true
			}
			if left > 0 {
				return fmt.Sprintf("calls in flight with events of the person, to %s", a.route.Name)
			}
		}
		return ""
	})
}

// loads waits until nobody has blocks in hand that were read before they were rewritten.
func (f *forgetting) loads(ctx context.Context) error {
	r := f.router
	err := f.await(ctx, func() string {
		if len(r.routing) > 0 {
			return "a reload, or entries of a parked lane that are made dead letters"
		}
		return ""
	})
	if err != nil {
		return err
	}
	for _, a := range r.atWork() {
		for _, l := range a.lanes {
			for _, s := range l.streams() {
				if err := turn(ctx, s.loading, "the lanes of "+a.route.Name); err != nil {
					return err
				}
				<-s.loading
			}
		}
	}
	for _, a := range r.asidesAtWork() {
		if err := turn(ctx, a.turn, "scripts of "+a.route.Name); err != nil {
			return err
		}
		a.forget(f.mine)
		<-a.turn
	}
	return nil
}

// turn waits for one's turn. Who has it gives it back by receiving.
func turn(ctx context.Context, of chan struct{}, what string) error {
	select {
	case of <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &ForgetWait{what, ctx.Err()}
	}
}

// asidesAtWork are the asides in force, and those that are leaving.
func (r *Router) asidesAtWork() (all []*aside) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.table.Load().asides {
		if a != nil {
			all = append(all, a)
		}
	}
	for _, a := range r.leaving {
		all = append(all, a)
	}
	return all
}

// forget has the aside leave out what it has in hand of a person, and read again what it has read ahead. The caller has the aside's turn.
func (a *aside) forget(mine func(*entry) bool) {
	for _, u := range a.lanes() {
		if len(u.blocks) > 0 {
			u.read, u.blocks = u.blocks[0].ID-1, nil
		}
		if u.block == nil {
			continue
		}
		for _, e := range u.block.entries {
			if !e.erased && mine(e) {
				e.Event, e.erased, e.record, e.original = blank(e.Event, e.eventID()), true, nil, nil
			}
		}
	}
}

// mine says whether an entry is of the person, and came before the person was forgotten.
func (f *forgetting) mine(e *entry) bool {
	before := f.before(e.Name.Offset) || e.replayed != nil && f.cameBefore(e.Name.Offset, e.Event.Received)
	return !e.erased && before && hasID(f.person.has).belongsEntry(e)
}

// blocks erases the person from all blocks, of lanes that somebody works on and of others.
func (f *forgetting) blocks(ctx context.Context) error {
	givenUp, err := f.store.GivenUpBlocks()
	if err != nil {
		return err
	}
	f.result.Unreadable += givenUp
	for {
		joins := f.joins()
		if err := f.allBlocks(ctx); err != nil {
			return err
		}
		if f.dry || f.joins() == joins {
			return nil // else some went from a lane that was to come to one that was done
		}
	}
}

// joins is how often blocks have gone from one lane to another.
func (f *forgetting) joins() int64 {
	if f.router == nil {
		return 0
	}
	return f.router.joins.Load()
}

// allBlocks goes through the blocks of all lanes once.
func (f *forgetting) allBlocks(ctx context.Context) error {
	for _, lane := range f.store.Lanes() {
		for after, more := store.BlockID(0), true; more; {
			release := f.keepBlocks()
			blocks, err := f.store.ReadBlocks(ctx, lane.ID, after, readBytes)
			if err == nil && len(blocks) > 0 {
				after = blocks[len(blocks)-1].ID
				err = f.rewrite(ctx, lane, blocks)
			}
			release()
			var damaged *store.DamagedError
			if errors.As(err, &damaged) {
				after = damaged.Block.ID
				f.result.Unreadable++
				continue
			}
			if err != nil {
				return fmt.Errorf("erase from lane %s of %s: %w", lane.Name.Lane, lane.Name.Destination, err)
			}
			more = len(blocks) > 0
		}
	}
	return nil
}

// keepBlocks keeps blocks in their lanes until the caller calls what it returns: they are read and written again.
func (f *forgetting) keepBlocks() (release func()) {
	if f.router == nil {
		return func() {}
	}
	f.router.joinTurn <- struct{}{}
	return func() { <-f.router.joinTurn }
}

// rewrite erases the person from blocks of a lane.
func (f *forgetting) rewrite(ctx context.Context, lane store.Lane, blocks []store.StoredBlock) error {
	var changed []store.RewrittenBlock
	for i := range blocks {
		b := &blocks[i]
		if !f.person.may(b.Data, &f.scratch) {
			continue
		}
		var erased []int
		n, data, err := eraseEntries(b.Data, func(i int, e *entry) *event.Event {
			if !f.mine(e) {
				return nil
			}
			erased = append(erased, i)
			f.result.in(e.Event.Account)
			switch {
			case f.finished[store.Ref{Block: b.ID, Index: i}]: // counted
			case bitmap(b.Done).has(i):
				f.result.Delivered++
			case isUnsorted(lane.Name):
				f.result.Unsorted++
			default:
				f.result.Waiting++
			}
			return blank(e.Event, e.eventID())
		})
		if err != nil {
			f.result.Unreadable++
			continue
		}
		if n > 0 {
			changed = append(changed, store.RewrittenBlock{ID: b.ID, Data: data, Erased: erased})
		}
	}
	if len(changed) == 0 || f.dry {
		return nil
	}
	return f.store.RewriteBlocks(ctx, lane.ID, changed)
}

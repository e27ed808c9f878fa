package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/store"
)

// reasonParked is of dead letters that a person made of the entries of a parked lane.
const reasonParked = "parked"

// ParkedQuery names parked lanes, all of a destination or some.
type ParkedQuery struct {
	Destination string `json:"destination"` // its name, as the lanes have it
	Hub         string `json:"hub"`         // "": of any; likewise below
	Account     string `json:"account"`
	Lane        string `json:"lane"`
	// To is the destination that gets the entries; "": none, they become dead letters. It may have the same name, where that delivers to another hub now.
	To string `json:"to,omitempty"`
}

// Unparked says what became of the entries of parked lanes.
type Unparked struct {
	Lanes   int   `json:"lanes"`
	Entries int64 `json:"entries"` // that are dead letters now, in the case of a move on their way to the other destination
	Left    int64 `json:"left"`    // that there was no time for: ask again
}

// Errors of Unpark.
var (
	ErrNotParked   = errors.New("no such lane is parked")
	ErrWrongTarget = errors.New("the entries can not go there")
)

// LettersFullError is for a move or drop that stops because there is no room for dead letters.
type LettersFullError struct{ Reason string }

// Error implements error.
func (e *LettersFullError) Error() string { return e.Reason }

// Unpark makes dead letters of what parked lanes hold, whole, with reason parked, in steps of some hundred entries of which each is durable as a whole: what is
// interrupted goes on when it is asked for again, and nothing is sent twice. With q.To they are letters of that destination and marked to be replayed as they
// are, so that the sorter hands them over in the background. It works until ctx ends.
func (r *Router) Unpark(ctx context.Context, q ParkedQuery) (done Unparked, err error) {
	if done.Lanes = len(r.parkedLanes(q)); done.Lanes == 0 {
		return done, ErrNotParked
	}
	for {
		n, more, err := r.unparkSome(ctx, q)
		done.Entries += n
		if ctx.Err() != nil {
			err, more = nil, false
		}
		if err != nil || !more {
			for _, l := range r.parkedLanes(q) {
				done.Left += l.Entries
			}
			return done, err
		}
	}
}

// parkedLanes are the lanes with entries that a query names.
func (r *Router) parkedLanes(q ParkedQuery) (found []store.Lane) {
	t := r.table.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.store.Lanes() {
		n := l.Name
		if l.Entries == 0 || n.Destination != q.Destination || q.Hub != "" && n.Hub != q.Hub || q.Account != "" && n.Account != q.Account ||
			q.Lane != "" && strings.TrimSuffix(n.Lane, bulkSuffix) != strings.TrimSuffix(q.Lane, bulkSuffix) {
			continue
		}
		i := t.index(n.Destination)
		// Calls of a former route that are under way end first.
		if (i < 0 || r.parked(n, t.routes[i])) && r.retiring[accountName{n.Destination, n.Hub, n.Account}] == nil && r.leaving[n.Destination] == nil {
			found = append(found, l)
		}
	}
	return found
}

// unparkSome does a step. No reload puts a lane in force meanwhile.
func (r *Router) unparkSome(ctx context.Context, q ParkedQuery) (n int64, more bool, err error) {
	r.routing <- struct{}{}
	defer func() { <-r.routing }()
	for _, l := range r.parkedLanes(q) {
		target, err := r.target(q, l.Name)
		if err != nil {
			return 0, false, err
		}
		after := store.BlockID(0)
		blocks, err := r.readBlocks(ctx, l.ID, &after)
		if err != nil {
			return 0, false, fmt.Errorf("read lane %s of %s: %w", l.Name.Lane, l.Name.Destination, err)
		}
		if len(blocks) == 0 {
			continue
		}
		now := time.Now()
		n, err := r.buryBlocks(ctx, l, blocks, true, func(e *entry) *store.DeadLetter { return r.parkedLetter(l.Name, target, e, now) })
		return n, err == nil, err
	}
	return 0, false, nil
}

// target is the route that gets the entries of a lane; nil: none.
func (r *Router) target(q ParkedQuery, lane store.LaneName) (*Route, error) {
	if q.To == "" {
		return nil, nil
	}
	t := r.table.Load()
	i := t.index(q.To)
	if i < 0 {
		return nil, fmt.Errorf("%w: destination %s is not in the configuration", ErrWrongTarget, q.To)
	}
	if isUnsorted(lane) {
		return t.routes[i], nil
	}
	for _, spec := range t.routes[i].Destination.Lanes() {
		if spec.Name == strings.TrimSuffix(lane.Lane, bulkSuffix) {
			return t.routes[i], nil
		}
	}
	return nil, fmt.Errorf("%w: destination %s has no lane %s", ErrWrongTarget, q.To, lane.Lane)
}

// buryBlocks makes dead letters of entries of a lane that no account has loaded, where letter gives one; nil: the entry stays. It returns how many. With bounded, where there is no room for
// them the error is a *LettersFullError, and nothing is changed.
func (r *Router) buryBlocks(ctx context.Context, l store.Lane, blocks []store.StoredBlock, bounded bool, letter func(*entry) *store.DeadLetter) (n int64, err error) {
	name := l.Name
	batch := store.Batch{}
	bytes := int64(0)
	for i := range blocks {
		b := &blocks[i]
		entries, err := decodeBlock(b.Data, name.Destination, name.Account, strings.TrimSuffix(name.Lane, bulkSuffix))
		if err != nil {
			return 0, fmt.Errorf("lane %s of %s, block %d: %w", name.Lane, name.Destination, b.ID, err)
		}
		progress := store.Progress{Lane: l.ID, Block: b.ID, Done: newBitmap(len(entries), b.Done)}
		for j, e := range entries {
			if bitmap(progress.Done).has(j) {
				continue
			}
			e.ref = store.Ref{Block: b.ID, Index: j}
			d := letter(e)
			if d == nil {
				continue
			}
			bitmap(progress.Done).set(j)
			progress.Finished++
			if r.forgetsEntry(e) {
				continue
			}
			bytes += int64(len(d.Event) + len(d.Original))
			batch.DeadLetters = append(batch.DeadLetters, *d)
			if d.Replay == nil && r.records() {
				batch.Outcomes = recordDead(batch.Outcomes, d)
			}
		}
		if progress.Finished > 0 {
			batch.Progress = append(batch.Progress, progress)
		}
	}
	if len(batch.Progress) == 0 {
		return 0, nil
	}
	if bounded && len(batch.DeadLetters) > 0 {
		if owner := batch.DeadLetters[0].Destination; r.lettersFull(owner, bytes) {
			return 0, &LettersFullError{r.lettersFullReason(owner)}
		}
	}
	if err := r.commit(ctx, &batch); err != nil {
		return 0, fmt.Errorf("make dead letters of lane %s of account %q of %s: %w", name.Lane, name.Account, name.Destination, err)
	}
	for i := range batch.DeadLetters {
		d := &batch.DeadLetters[i]
		r.metrics.dead(&Route{Name: d.Destination}, d.Reason)
	}
	r.watcher.Settled(batch.Outcomes)
	return int64(len(batch.DeadLetters)), nil
}

// parkedLetter is one of an entry that a person has moved to a route, or dropped: to is nil.
func (r *Router) parkedLetter(lane store.LaneName, to *Route, e *entry, now time.Time) *store.DeadLetter {
	if to == nil {
		return unloadedLetter(lane, e, reasonParked, errors.New("the lane was parked, and a person dropped it"), now)
	}
	d := unloadedLetter(lane, e, reasonParked, fmt.Errorf("the lane was parked, and a person moved it from %s, %s, to %s", lane.Destination, lane.Hub, to.Name), now)
	d.Destination, d.Hub = to.Name, to.Destination.Hub(lane.Account)
	d.Replay = &store.Replay{AsIs: !isUnsorted(lane)}
	return d
}

// unloadedLetter is one of an entry of a lane that no account has loaded.
func unloadedLetter(lane store.LaneName, e *entry, reason string, why error, now time.Time) *store.DeadLetter {
	d := deadLetter(nil, e.Name.Offset, e.Event, slices.Clone(e.record), reason, why, now)
	d.Destination, d.Hub, d.Account, d.Index, d.Person = lane.Destination, lane.Hub, lane.Account, e.Name.Index, e.Plan.Key
	d.EventID, d.Original = e.eventID(), slices.Clone(e.original)
	if !isUnsorted(lane) { // else it stands for all that its destination makes of it
		d.Lane, d.Outputs = e.Plan.Lane, e.outputs
	}
	return &d
}

package router

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// readBlocks reads the blocks of a lane behind *after. One that is damaged is given up, so that its lane goes on.
func (r *Router) readBlocks(ctx context.Context, lane store.LaneID, after *store.BlockID) ([]store.StoredBlock, error) {
	return r.readSome(ctx, lane, after, r.readBytes)
}

// readSome is readBlocks for so many bytes, and a block at least.
func (r *Router) readSome(ctx context.Context, lane store.LaneID, after *store.BlockID, bytes int64) ([]store.StoredBlock, error) {
	for {
		blocks, err := r.store.ReadBlocks(ctx, lane, *after, bytes)
		var damaged *store.DamagedError
		if !errors.As(err, &damaged) {
			return blocks, err
		}
		if err := r.giveUp(ctx, damaged); err != nil {
			return nil, err
		}
		*after = damaged.Block.ID
	}
}

// giveUp finishes the entries of a damaged block. Those that can be read in spite of it become dead letters: a wrong byte may stand in any of them, so that a person has to
// look at them before they are sent. The others are lost and counted, and the log tells of them. What is left of the block is kept aside.
func (r *Router) giveUp(ctx context.Context, damaged *store.DamagedError) error {
	kept, err := r.store.KeepAside(damaged)
	if err != nil {
		r.logger.Error("a damaged block can not be kept aside", "block", int64(damaged.Block.ID), "error", err.Error())
	}
	name := r.laneName(damaged.Lane)
	b := &store.Batch{GivenUp: []store.GivenUp{{Lane: damaged.Lane, Block: damaged.Block.ID, KeptAside: kept, Error: damaged.Cause.Error()}}}
	unfinished := damaged.Block.Entries
	for i := range damaged.Block.Entries {
		if bitmap(damaged.Block.Done).has(i) {
			unfinished--
		}
	}
	b.DeadLetters = damagedLetters(damaged, name, time.Now())
	for i := range b.DeadLetters {
		if r.records() {
			b.Outcomes = recordDead(b.Outcomes, &b.DeadLetters[i])
		}
	}
	if err := r.commit(ctx, b); err != nil {
		return fmt.Errorf("give up block %d: %w", damaged.Block.ID, err)
	}
	lost := max(unfinished-len(b.DeadLetters), 0)
	route := r.routeNamed(name.Destination)
	for range b.DeadLetters {
		r.metrics.dead(route, reasonDamaged)
	}
	r.metrics.lostVec.WithLabelValues(name.Destination, name.Lane).Add(float64(lost))
	r.watcher.Settled(b.Outcomes)
	r.logger.Error("a block of entries in the store is damaged and given up: what can be read of it are dead letters now, the rest is lost",
		"destination", name.Destination, "hub", name.Hub, "account", name.Account, "lane", name.Lane, "entries", unfinished, "lost", lost,
		"dead_letters", len(b.DeadLetters), "kept_aside", kept, "error", damaged.Error())
	return nil
}

// reasonDamaged is that of dead letters whose block was damaged.
const reasonDamaged = "damaged"

// damagedLetters are the entries of a damaged block that can be read and are not finished.
func damagedLetters(damaged *store.DamagedError, name store.LaneName, now time.Time) (letters []store.DeadLetter) {
	data := damaged.Data()
	d, err := newDecoder(data)
	if err != nil {
		return nil
	}
	cause := fmt.Errorf("its block in the store was damaged (%w): look whether the event is as it should be before you replay it", damaged.Cause)
	var last *entry
	for i := 0; i < damaged.Block.Entries && len(d.rest) > 0; i++ {
		e, err := d.entry(last)
		if d.failed {
			break // where the next one begins is not known
		}
		last = e
		if bitmap(damaged.Block.Done).has(i) || err != nil || e.erased || e.Event.ID == "" || e.Name.Index < 0 || !json.Valid(e.Event.JSON) {
			continue
		}
		letter := deadLetter(nil, e.Name.Offset, e.Event, bytes.Clone(e.record), reasonDamaged, cause, now)
		letter.Destination, letter.Hub, letter.Account, letter.Index, letter.Person = name.Destination, name.Hub, name.Account, e.Name.Index, e.Plan.Key
		if !isUnsorted(name) {
			letter.Lane = strings.TrimSuffix(name.Lane, bulkSuffix)
		}
		letter.EventID, letter.Outputs, letter.Replays = e.eventID(), e.outputs, e.replays()
		if e.original != nil && (&event.Event{}).Decode(e.original) == nil {
			letter.Original = bytes.Clone(e.original)
		}
		j := slices.IndexFunc(damaged.Block.Retries, func(r store.Retry) bool { return r.Index == i })
		if j >= 0 {
			letter.Attempts = damaged.Block.Retries[j].Attempt
		}
		letters = append(letters, letter)
	}
	return letters
}

func (r *Router) laneName(id store.LaneID) store.LaneName {
	for _, l := range r.store.Lanes() {
		if l.ID == id {
			return l.Name
		}
	}
	return store.LaneName{}
}

// routeNamed is the route in force of that name, nil when there is none.
func (r *Router) routeNamed(name string) *Route {
	t := r.table.Load()
	if i := t.index(name); i >= 0 {
		return t.routes[i]
	}
	return nil
}

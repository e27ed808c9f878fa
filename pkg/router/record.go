package router

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// Watcher is told what becomes of events as it happens, for people who look on. Its methods are called for every event and by many goroutines: they
// must be quick, keep nothing that they are given, and never wait.
type Watcher interface {
	// Routed says that an event goes through a destination's filter and mapping.
	Routed(destination string, offset uint64, ev *event.Event)
	// Settled says what became of outputs, once that is kept.
	Settled(outcomes []store.Outcome)
	// Failed says that an attempt was in vain and will be made again.
	Failed(destination string, offset uint64, problem string)
}

// nobody watches.
type nobody struct{}

func (nobody) Routed(string, uint64, *event.Event) {}
func (nobody) Settled([]store.Outcome)             {}
func (nobody) Failed(string, uint64, string)       {}

// records says whether anybody wants to know outcomes.
func (r *Router) records() bool {
	_, none := r.watcher.(nobody)
	return r.store.KeepsOutcomes() || !none
}

// record notes what the sorter itself has decided on an output of the event called id. route is nil where that got to no destination.
func (h *handover) record(route *Route, rec log.Record, id string, d Decision) {
	if !h.recording {
		return
	}
	ev := d.Event
	o := store.Outcome{
		Received: ev.Received, Settled: h.now, APIKey: ev.APIKey, EventID: id, EventType: ev.Type(), Person: strings.ToLower(ev.UserEmail()),
		Offset: uint64(rec.Offset), Index: d.Index, Status: d.Status, Reason: d.Reason, Account: ev.Account,
	}
	if route != nil {
		o.Destination = route.Name
	}
	if h.replay != nil {
		o.Replays = h.replay.replays
		if s := h.replay.source; !ofEvent(s) { // it is that output which it is about, also where none is made now
			o.Index, o.Hub, o.Account, o.Lane = s.Index, s.Hub, s.Account, s.Lane
		}
	}
	h.batch.Outcomes = append(h.batch.Outcomes, o)
}

// recordDead notes a dead letter.
func recordDead(all []store.Outcome, d *store.DeadLetter) []store.Outcome {
	return append(all, store.Outcome{
		Received: d.Received, Settled: d.At, APIKey: d.APIKey, EventID: d.EventID, EventType: d.EventType, Person: strings.ToLower(d.Person),
		Destination: d.Destination, Hub: d.Hub, Account: d.Account, Lane: d.Lane, Offset: d.Offset, Index: d.Index,
		Status: store.Dead, Reason: d.Reason, Error: d.Error, Attempts: d.Attempts, Replays: d.Replays,
	})
}

// record notes an entry that is finished and no dead letter.
func (s *settlement) record(e *entry, attempts int, status store.Status, reason string, detail json.RawMessage) {
	if !s.recording {
		return
	}
	a := s.lane.account
	if status == store.Skipped && reason == reasonForgotten {
		left := blank(e.Event, e.eventID())
		s.batch.Outcomes = append(s.batch.Outcomes, store.Outcome{
			Received: left.Received, Settled: s.now, APIKey: left.APIKey, EventID: left.ID, EventType: left.Type(),
			Destination: a.route.Name, Hub: a.hub, Account: a.name, Lane: s.lane.spec.Name, Offset: e.Name.Offset, Index: e.Name.Index,
			Status: status, Reason: reason, Attempts: attempts,
		})
		return
	}
	s.batch.Outcomes = append(s.batch.Outcomes, store.Outcome{
		Received: e.Event.Received, Settled: s.now, APIKey: e.Event.APIKey, EventID: e.eventID(), EventType: e.Event.Type(), Person: e.Plan.Key,
		Destination: a.route.Name, Hub: a.hub, Account: a.name, Lane: s.lane.spec.Name, Offset: e.Name.Offset, Index: e.Name.Index,
		Status: status, Minimal: e.Plan.IfNew, Reason: reason, Attempts: attempts, Replays: e.replays(), Detail: detail,
	})
}

// failed has the watcher told of an attempt in vain, after the commit.
func (s *settlement) failed(entries []*entry, err error) {
	r := s.lane.account.router
	if _, none := r.watcher.(nobody); none || err == nil {
		return
	}
	problem := cut(err.Error(), maxProblem)
	s.counts = append(s.counts, func() {
		for _, e := range entries {
			r.watcher.Failed(e.Name.Destination, e.Name.Offset, problem)
		}
	})
}

const maxProblem = 500

// keptOutcomes is how large a slice of outcomes may be to be used again.
const keptOutcomes = 4096

// reuse empties a slice of outcomes for the next batch.
func reuse(all []store.Outcome) []store.Outcome {
	if cap(all) > keptOutcomes {
		return nil
	}
	clear(all)
	return all[:0]
}

// expire has the store take away what it keeps for too long, also when nothing is written.
func (r *Router) expire(ctx context.Context) error {
	err := r.dropMarks(ctx)
	if err == nil {
		err = r.store.ExpireOutcomes(ctx)
	}
	if err == nil {
		err = r.store.ExpireKV(ctx)
	}
	if err == nil {
		err = r.expireLetters(ctx, time.Now())
	}
	if err == nil {
		err = r.dropUnknown(ctx)
	}
	if ctx.Err() != nil || errors.Is(err, store.ErrFull) {
		return nil // in a minute again
	}
	return err
}

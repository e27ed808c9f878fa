package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// settleAll records outcomes, all that are waiting in one commit, until the dispatcher has ended. It is the only writer of the lane's
// progress, so bitmaps reach the store in order.
func (l *lane) settleAll(ctx context.Context) error {
	defer close(l.settled)
	for {
		var results []*result
		select {
		case res, ok := <-l.results:
			if !ok {
				return nil
			}
			results = append(results, res)
		case <-l.letGo:
			if results = l.letGoOldest(); len(results) == 0 {
				continue
			}
		}
	drain:
		for {
			select {
			case more, ok := <-l.results:
				if !ok {
					break drain
				}
				results = append(results, more)
			default:
				break drain
			}
		}
		if err := l.settle(ctx, results); err != nil {
			return err
		}
	}
}

// settlement is what one commit of outcomes does.
type settlement struct {
	lane     *lane
	now      time.Time
	batch    store.Batch
	finished []*entry
	freed    []freed
	holds    map[*person]time.Time
	units    []*unit // to be sent again
	counts   []func()
	dones    map[store.BlockID]*store.Progress

	recording bool  // outcomes are wanted
	buried    int64 // bytes of the dead letters in batch
}

// settle turns results into one batch, commits it, and then changes the window.
func (l *lane) settle(ctx context.Context, results []*result) error {
	a := l.account
	s := &settlement{lane: l, now: time.Now(), holds: map[*person]time.Time{}, dones: map[store.BlockID]*store.Progress{}, recording: a.router.records()}
	s.batch.Outcomes = l.recorded
	defer func() { l.recorded = reuse(s.batch.Outcomes) }()
	// The next calls may leave while this is committed; the keys stay busy until it is.
	a.mu.Lock()
	for _, res := range results {
		if res.sent {
			l.calls--
			if res.unit.bulk() {
				l.bulkCalls--
			}
			l.judgeLocked(res, s.now)
		}
	}
	a.mu.Unlock()
	l.poke()
	for _, res := range results {
		s.add(ctx, res)
	}
	for _, p := range s.dones {
		s.batch.Progress = append(s.batch.Progress, *p)
	}
	if err := l.account.router.commit(ctx, &s.batch); err != nil {
		return fmt.Errorf("record outcomes of lane %s of %s: %w", l.spec.Name, l.account.route.Name, err)
	}
	a.mu.Lock()
	l.finishLocked(s.finished, s.now)
	for p, until := range s.holds {
		held := a.personLocked(p.identity)
		if q := &held.queues[l.index]; until.After(q.hold) {
			q.hold = until
		}
	}
	s.freeLocked()
	l.resend = append(l.resend, s.units...)
	a.mu.Unlock()
	for _, count := range s.counts {
		count()
	}
	a.router.watcher.Settled(s.batch.Outcomes)
	l.relax(results)
	a.wakeFrom(l.index)
	return nil
}

// relax frees memory that the settled calls no longer need, and has the dispatcher load again when more is to be given up than it has.
func (l *lane) relax(results []*result) {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	var last *block
	for _, res := range results {
		for _, e := range res.unit.entries {
			if e.block != last { // those of one block are next to each other, as a rule
				last = e.block
				last.thinLocked()
			}
		}
	}
	if (l.live.giveUp != nil || l.bulk.giveUp != nil) && l.cutAcquire != nil {
		l.cutAcquire()
	}
}

// judgeLocked stops or frees the lane by what a call brought back: a block that any entry met counts first, then that any went through.
func (l *lane) judgeLocked(res *result, now time.Time) {
	var failed error
	works := false
	outdated := l.stop != nil && res.began.Before(l.probed) // the probe that is wanted will say how it is now
	for _, o := range res.outcomes {
		var block *destinations.BlockError
		var reject *destinations.RejectError
		_, skipped := destinations.IsSkip(o.Err)
		switch {
		case errors.As(o.Err, &block):
			if !outdated {
				l.stopLocked(o.Err, now)
			}
			return
		case o.Err == nil || skipped || errors.As(o.Err, &reject):
			works = true
		case failed == nil || destinations.IsUnavailable(failed):
			failed = o.Err
		}
	}
	if works {
		l.worksLocked(res.began, now)
	} else if failed != nil && !outdated {
		l.pauseLocked(failed, res.unit, now)
	}
}

// add takes in what one call brought back.
func (s *settlement) add(ctx context.Context, res *result) {
	l, u := s.lane, res.unit
	if len(u.entries) == 0 { // found at start, all finished since
		s.batch.CallsDone = append(s.batch.CallsDone, u.call)
		return
	}
	if res.outcomes == nil || res.sent && ctx.Err() != nil && allCut(res.outcomes) {
		return // stopping: no outcome; a marked call is found at the next start
	}
	var again []*entry
	ambiguous, blocked := false, ctx.Err() != nil // an attempt that we cut counts no more than one that was blocked
	var lastErr error
	for i, e := range u.entries {
		o := res.outcomes[i]
		attempts := e.attempts + u.attempts
		if res.sent {
			attempts++
		}
		var reject *destinations.RejectError
		var block *destinations.BlockError
		var unanswered *destinations.AmbiguousError
		reason, skipped := destinations.IsSkip(o.Err)
		switch {
		case o.Err == nil:
			s.deliver(u, e, o)
			s.record(e, attempts, store.Delivered, "", o.Detail)
		case skipped:
			s.finish(u, e)
			s.record(e, attempts, store.Skipped, reason, o.Detail)
			s.counts = append(s.counts, func() { l.metrics().skipped(l.account.route, reason) })
		case errors.As(o.Err, &reject):
			why := res.reason
			var poison *deadlyEntryError
			switch {
			case errors.As(o.Err, &poison):
				why = "poison"
			case why == "":
				why = "rejected"
			}
			s.bury(u, e, attempts, why, o.Err)
		case errors.As(o.Err, &unanswered), ctx.Err() != nil && errors.Is(o.Err, context.Canceled): // stopping: it may have been sent or not
			ambiguous = true
			lastErr = o.Err
			again = append(again, e)
		case errors.As(o.Err, &block):
			blocked = true
			if u.ambiguous.IsZero() {
				s.release(e)
				s.failed([]*entry{e}, o.Err)
			} else {
				again = append(again, e)
			}
		case u.ambiguous.IsZero():
			s.retry(u, e, o.Err)
		default:
			lastErr = o.Err
			again = append(again, e)
		}
	}
	if len(again) > 0 {
		s.failed(again, lastErr)
		s.sendAgain(u, again, ambiguous, blocked, lastErr)
	} else if u.call != 0 {
		s.batch.CallsDone = append(s.batch.CallsDone, u.call)
	}
}

// allCut says whether no entry got an answer because the router is stopping.
func allCut(outcomes []destinations.Outcome) bool {
	for _, o := range outcomes {
		var unanswered *destinations.AmbiguousError
		if !errors.Is(o.Err, context.Canceled) && !errors.As(o.Err, &unanswered) {
			return false
		}
	}
	return true
}

func (l *lane) metrics() *metrics { return l.account.router.metrics }

// finish marks e as done and lifts or keeps the hold of its identities.
func (s *settlement) finish(u *unit, e *entry) {
	s.finished = append(s.finished, e)
	b := e.block
	p := s.dones[b.id]
	if p == nil {
		p = &store.Progress{Lane: e.stream.laneID(), Block: b.id, Done: b.done}
		s.dones[b.id] = p
	}
	b.done.set(e.ref.Index)
	p.Finished++
	if p.Finished == b.left {
		p.Done = nil
	}
	s.holdPersons(u, e)
}

// holdPersons holds later writes of e's identities back while the remote may still apply a call that got no answer.
func (s *settlement) holdPersons(u *unit, e *entry) {
	l := s.lane
	until := u.ambiguous.Add(l.spec.LateAfter)
	if u.ambiguous.IsZero() || !until.After(s.now) {
		return
	}
	for _, person := range e.persons {
		if s.holds[person].IsZero() {
			s.batch.Holds = append(s.batch.Holds, store.Hold{Lane: l.live.laneID(), Key: person.identity, Until: until})
		}
		s.holds[person] = until
	}
}

func (s *settlement) deliver(u *unit, e *entry, o destinations.Outcome) {
	s.finish(u, e)
	l := s.lane
	a := l.account
	if l.spec.MarksKeys && e.Plan.Key != "" {
		hash := a.keyHash(e.Plan.Key)
		if _, delivered := a.router.store.Known(hash); !delivered {
			s.batch.Delivered = append(s.batch.Delivered, hash)
		}
	}
	s.remember(e, o.Memory)
	received, ifNew := e.Event.Received, e.Plan.IfNew
	s.counts = append(s.counts, func() { l.metrics().delivered(a.route, e.stream.name.Lane, ifNew, s.now.Sub(received)) })
	if len(o.Detail) > 0 {
		a.router.logger.Debug("delivered", "destination", a.route.Name, "lane", l.spec.Name, "event_id", e.Event.ID, "detail", string(o.Detail))
	}
}

// bury makes e a dead letter, if there is room for it.
func (s *settlement) bury(u *unit, e *entry, attempts int, reason string, err error) {
	l := s.lane
	if l.account.router.withholds(l.account.route, s.buried) {
		s.withhold(u, e, attempts, reason, err)
		return
	}
	s.buried += int64(len(e.record) + len(e.original))
	s.finish(u, e)
	d := deadLetter(l.account.route, e.Name.Offset, e.Event, e.record, reason, err, s.now)
	d.EventID, d.Original, d.Outputs = e.eventID(), e.original, e.outputs
	if e.replayed != nil {
		d.ID, d.Replays = e.replayed.letter, e.replayed.replays
	}
	d.Hub, d.Account, d.Lane, d.Index, d.Person, d.Attempts = l.account.hub, l.account.name, l.spec.Name, e.Name.Index, e.Plan.Key, attempts
	s.batch.DeadLetters = append(s.batch.DeadLetters, d)
	if s.recording {
		s.batch.Outcomes = recordDead(s.batch.Outcomes, &d)
	}
	s.counts = append(s.counts, func() { l.metrics().dead(l.account.route, reason) })
}

// release puts e back as it was: the lane was blocked through no fault of it.
func (s *settlement) release(e *entry) { s.freed = append(s.freed, freed{e, func() {}}) }

// freed is an entry that waits again once the commit has succeeded.
type freed struct {
	*entry
	change func() // how; with account.mu held
}

// freeLocked puts back what waits again.
func (s *settlement) freeLocked() {
	entries := make([]*entry, len(s.freed))
	for i, f := range s.freed {
		entries[i] = f.entry
		f.change()
	}
	s.lane.freeLocked(entries)
}

// retry charges an attempt to e and puts it back, until it is too old.
func (s *settlement) retry(u *unit, e *entry, err error) {
	l := s.lane
	a := l.account
	a.mu.Lock()
	blockedNow := l.blockedLocked(s.now)
	if e.since.IsZero() {
		e.since, e.blocked = s.now, 0
	} else {
		e.blocked += blockedNow - e.base
	}
	e.base = blockedNow
	a.mu.Unlock()
	attempts := e.attempts + 1
	if most := a.route.Retry.MaxAge; most > 0 && s.now.Sub(e.since)-e.blocked >= most {
		s.bury(u, e, attempts, "retries", fmt.Errorf("gave up after %d attempts in %s: %w", attempts, most, err))
		return
	}
	wait := backoff(attempts, a.route.Retry.MaxDelay)
	var after *destinations.RetryError
	if errors.As(err, &after) {
		wait = max(after.After, wait)
	}
	due := s.now.Add(wait)
	s.failed([]*entry{e}, err)
	s.batch.Retries = append(s.batch.Retries, store.Retry{
		Ref: e.ref, Attempt: attempts, Due: due, Since: e.since, Blocked: e.blocked, Error: cut(err.Error(), 500),
	})
	s.freed = append(s.freed, freed{e, func() { e.attempts, e.due = attempts, due }})
	s.counts = append(s.counts, func() { l.metrics().retried(a.route, []*entry{e}) })
}

// deadLetter is one of an event that did not get as far as a lane: route is nil where it got to no destination, ev where it could not be read.
func deadLetter(route *Route, offset uint64, ev *event.Event, record []byte, reason string, err error, now time.Time) store.DeadLetter {
	d := store.DeadLetter{
		Offset: offset, At: now, Reason: reason, Error: cut(err.Error(), 2000), Event: record, Received: now,
	}
	if route != nil {
		d.Destination = route.Name
	}
	if ev != nil {
		d.Account, d.APIKey, d.EventID, d.EventType, d.Person, d.Received = ev.Account, ev.APIKey, ev.ID, ev.Type(), strings.ToLower(ev.UserEmail()), ev.Received
	}
	return d
}

// cut shortens s to at most n bytes, at a rune's border.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

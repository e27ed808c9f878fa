package router

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

const (
	firstDelay = time.Second      // before the second attempt of an entry; then doubled
	maxPause   = 30 * time.Second // of a lane whose calls all fail, until the next one is tried
	firstProbe = 5 * time.Second  // of a blocked lane without a time; then doubled
	maxProbe   = 5 * time.Minute

	hubFlows = time.Hour // so long after a call that went through a hub counts as one that flows

	loudFailures = 3 // calls in a row that delivered nothing, before the log says so
)

// dispatch fills and sends the lane's calls until ctx ends. sendCtx cuts what is then in flight.
func (l *lane) dispatch(ctx, sendCtx context.Context) error {
	a := l.account
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	calls := make(chan struct{}, l.spec.InFlight+1) // closes the loop: all calls end before dispatch does
	defer func() {
		for range cap(calls) {
			calls <- struct{}{}
		}
		close(l.results)
	}()
	for ctx.Err() == nil {
		more, err := l.load(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		now := time.Now()
		a.mu.Lock()
		ready, at := l.nextLocked(now)
		grown := l.growLocked(now)
		a.mu.Unlock()
		if grown || more && !ready {
			continue
		}
		if !ready {
			if at.IsZero() {
				at = now.Add(time.Hour)
			}
			timer.Reset(at.Sub(now))
			select {
			case <-l.wake:
			case <-timer.C:
			case <-ctx.Done():
			}
			continue
		}
		permit := l.acquire(ctx)
		if permit == nil {
			continue
		}
		if _, err := l.load(ctx); err != nil { // what came while we waited
			a.giveBack(permit)
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		a.mu.Lock()
		u := l.fillLocked(time.Now())
		if u != nil {
			l.calls++
			if u.bulk() {
				l.bulkCalls++
			}
		}
		a.mu.Unlock()
		if u == nil {
			a.giveBack(permit)
			continue
		}
		calls <- struct{}{}
		go func() {
			defer func() { <-calls }()
			if a.gate != nil {
				defer a.gate.release(a)
			}
			l.call(sendCtx, permit, u)
		}()
	}
	return nil
}

// giveBack gives a permit back that is not used, and its place among the destination's calls.
func (a *account) giveBack(p destinations.Permit) {
	p.Release()
	if a.gate != nil {
		a.gate.release(a)
	}
}

// acquire waits for a permit. It returns nil when ctx ends, when the destination has an error for the lane, and when the window must
// be loaded again before there can be a call.
func (l *lane) acquire(ctx context.Context) destinations.Permit {
	a := l.account
	waitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.mu.Lock()
	l.cutAcquire = cancel
	failing := l.stop != nil
	a.mu.Unlock()
	permit, err := a.acquireAt(waitCtx, l.spec.Name)
	// The permit comes first: an account that waits for its quota holds no place. Where many hang, one that waits for a place holds one of its own quota.
	if err == nil && a.gate != nil && !a.gate.acquire(waitCtx, a, failing) {
		permit.Release()
		permit, err = nil, waitCtx.Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	l.cutAcquire = nil
	if err != nil {
		if waitCtx.Err() == nil {
			l.stopLocked(err, time.Now())
		}
		return nil
	}
	return permit
}

// call marks and sends one unit and hands the outcomes to the settler.
func (l *lane) call(ctx context.Context, permit destinations.Permit, u *unit) {
	began := time.Now()
	res := &result{unit: u, sent: true, began: began}
	batch := make([]destinations.Entry, len(u.entries))
	for i, e := range u.entries {
		batch[i] = e.Entry
		batch[i].Attempt = e.attempts + u.attempts + 1
	}
	if err := l.recall(ctx, u.entries, batch); err != nil {
		permit.Release()
		if ctx.Err() == nil {
			res.outcomes = slices.Repeat([]destinations.Outcome{{Err: err}}, len(batch))
		}
		l.report(res)
		return
	}
	if l.spec.LateAfter > 0 && u.call == 0 {
		u.call = l.account.router.store.NextCall()
		mark := store.Call{ID: u.call, Lane: l.live.laneID(), Entries: refs(u.entries)}
		if err := l.account.router.commit(ctx, &store.Batch{Calls: []store.Call{mark}}); err != nil {
			permit.Release()
			l.report(res) // nothing was sent; a store that fails ends the process
			return
		}
	}
	router := l.account.router
	secret := router.valuesOfCall(u.entries)
	router.redact.Hold(secret)
	res.outcomes = l.sendMarked(ctx, permit, u.entries, batch)
	hideOutcomes(res.outcomes, secret)
	router.redact.Release(secret, true)
	l.report(res)
}

// brokenError says that a destination panicked, or made no outcomes: nobody knows of which entry.
type brokenError struct{ problem string }

func (e *brokenError) Error() string { return e.problem }

// send calls the destination; a panic in it becomes an error of each entry.
func (l *lane) send(ctx context.Context, permit destinations.Permit, batch []destinations.Entry) (outcomes []destinations.Outcome) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		l.account.router.logger.Error("a destination panicked", "destination", l.account.route.Name, "lane", l.spec.Name,
			"panic", fmt.Sprint(p), "stack", stack())
		outcomes = make([]destinations.Outcome, len(batch))
		for i := range outcomes {
			outcomes[i].Err = destinations.Ambiguous(&brokenError{fmt.Sprintf("panic: %v", p)})
		}
	}()
	outcomes = l.account.route.Destination.Send(ctx, permit, batch)
	if len(outcomes) != len(batch) {
		panic(fmt.Sprintf("BUG: %d outcomes of %d entries", len(outcomes), len(batch)))
	}
	return outcomes
}

func refs(entries []*entry) []store.Ref {
	out := make([]store.Ref, len(entries))
	for i, e := range entries {
		out[i] = e.ref
	}
	return out
}

// stopLocked keeps the lane, or the whole account, from sending for a while. An error that the destination did not classify pauses
// the lane only.
func (l *lane) stopLocked(err error, now time.Time) {
	var block *destinations.BlockError
	if !errors.As(err, &block) {
		l.pauseLocked(err, nil, now)
		return
	}
	if block.Scope == destinations.LaneScope {
		l.blockLocked(block, now)
		return
	}
	for _, lane := range l.account.lanes {
		lane.blockLocked(block, now)
	}
}

func (l *lane) blockLocked(block *destinations.BlockError, now time.Time) {
	s := l.stop
	first := s == nil || !s.blocked
	switch {
	case first:
		s = &stoppage{since: now, delay: firstProbe, blocked: true}
		l.stop = s
		before := l.before // an earlier run
		l.before, s.shown = nil, now
		if before != nil && before.Since.Before(now) {
			s.shown = before.Since
		}
	case block.Until.IsZero() && now.Before(s.until):
		return // a call that was in flight says it again
	case block.Until.IsZero():
		s.delay = min(2*s.delay, maxProbe)
	}
	s.err, s.account, s.until, s.timed = block.Err, block.Scope == destinations.AccountScope, block.Until, !block.Until.IsZero()
	s.skipAfter, s.skipReason = block.SkipAfter, block.SkipReason
	switch {
	case s.until.IsZero():
		s.until = now.Add(jitter(s.delay))
	case !s.until.After(now):
		s.until = now.Add(jitter(firstDelay)) // it is over, says the destination; a remote that goes on refusing must not be called without pause
	}
	l.account.wakeFrom(l.index) // what need not wait for a blocked lane is in later ones
	if first {
		l.keepBlock(s)
		l.account.router.logger.Warn("lane is blocked", "destination", l.account.route.Name, "hub", l.account.hub, "account", l.account.name,
			"lane", l.spec.Name, "reason", block.Err.Error(), "since", s.shown.UTC().Format(time.RFC3339), "next_try", s.until.UTC().Format(time.RFC3339))
	}
}

// pauseLocked counts a call that delivered nothing. From the second in a row on the lane waits before it tries another.
// u is the call's, nil where there was none.
func (l *lane) pauseLocked(err error, u *unit, now time.Time) {
	s := l.stop
	if s == nil {
		s = &stoppage{since: now, judged: now}
		l.stop = s
	}
	if s.blocked {
		return
	}
	s.failing.add(u)
	worked := l.account.worked.Load()
	switch {
	case s.failing.one() && worked >= max(l.account.router.ticks(s.since), s.cleared):
		// Other lanes of the hub go through: so far it was that one's own matter.
		l.blockedFor -= s.outage
		s.outage, s.cleared = 0, worked+1
	case destinations.IsUnavailable(err): // an outage, as far as one can tell: nothing has gone through since the last failure
		spared := now.Sub(s.judged)
		if worked > max(l.account.router.ticks(s.since), l.account.router.ticks(now)-int64(hubFlows)) {
			spared /= 2 // other lanes of the hub flow: it may be the lane's outage, or several entries that never get an answer, which must come to an end
		}
		s.outage += spared
		l.blockedFor += spared
	}
	s.judged = now
	s.err = err
	s.failures++
	if s.failures > 1 {
		s.delay = min(max(2*s.delay, firstDelay), maxPause)
		s.until = now.Add(jitter(s.delay))
	}
	if s.failures == loudFailures {
		l.account.router.logger.Warn("calls fail, trying again with pauses", "destination", l.account.route.Name,
			"hub", l.account.hub, "account", l.account.name, "lane", l.spec.Name, "reason", err.Error(), "next_try", s.until.UTC().Format(time.RFC3339))
	}
}

// probe has the lanes that do not send, for whatever is not said to take its time, try again at once.
func (a *account) probe(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lanes {
		s := l.stop
		if s == nil || s.timed {
			continue
		}
		l.probed, s.until, s.delay = now, now, 0
		if s.blocked {
			s.delay = firstProbe / 2 // in vain, the pauses begin anew
		}
		for _, stream := range l.streams() {
			stream.passed.freed = stream.passed.from != 0
			for _, e := range stream.window {
				e.due = earlier(e.due, now)
			}
		}
		for _, u := range l.resend {
			u.due = earlier(u.due, now)
		}
		l.poke()
	}
}

// onClock is stored, a time of the clock on the wall, by the clock that nobody can set and that now has beside it: as far from now as it is.
func onClock(stored, now time.Time) time.Time {
	if stored.IsZero() {
		return stored
	}
	return now.Add(stored.Sub(now))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// worksLocked ends a stoppage after a call that began at began went through; with it an account-wide block of the other lanes.
func (l *lane) worksLocked(began, now time.Time) {
	l.account.worked.Store(max(l.account.worked.Load(), l.account.router.ticks(began)))
	for _, lane := range l.account.lanes {
		s := lane.stop
		if lane == l && lane.before != nil { // what blocked it in an earlier run is over
			lane.before = nil
			lane.keepBlock(nil)
		}
		if s == nil || lane != l && !s.account || began.Before(s.since) {
			continue
		}
		if s.blocked {
			lane.blockedFor += now.Sub(s.since)
			lane.keepBlock(nil)
			lane.freePassedLocked()
		} else if s.failing.one() {
			lane.blockedFor -= s.outage // others go through: it was that one's own matter
		}
		if s.blocked || s.failures >= loudFailures {
			lane.account.router.logger.Info("lane flows again", "destination", lane.account.route.Name, "hub", lane.account.hub, "account", lane.account.name,
				"lane", lane.spec.Name, "after", now.Sub(s.began()).Round(time.Second).String())
		}
		lane.stop = nil
		lane.poke()
	}
}

// blockedLocked is how long the lane has been blocked in all.
func (l *lane) blockedLocked(now time.Time) time.Duration {
	if l.stop == nil || !l.stop.blocked {
		return l.blockedFor
	}
	return l.blockedFor + now.Sub(l.stop.since)
}

// jitter is d, give or take a fifth, so that many lanes do not try in step.
func jitter(d time.Duration) time.Duration {
	return d - d/5 + rand.N(2*d/5+1)
}

// longest is the most that jitter makes of d.
func longest(d time.Duration) time.Duration { return d + d/5 + 1 }

// backoff is the wait after the nth attempt of an entry.
func backoff(attempts int, most time.Duration) time.Duration {
	d := firstDelay << min(attempts-1, 20)
	if d > most || d <= 0 {
		d = most
	}
	return jitter(d)
}

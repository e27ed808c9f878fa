package router

import (
	"errors"
	"fmt"

	"eventrouter/pkg/store"
)

// sendAgain keeps the entries of a call without an answer together: they go out again unchanged, the first time at once.
func (s *settlement) sendAgain(u *unit, entries []*entry, ambiguous, blocked bool, err error) {
	l := s.lane
	a := l.account
	next := &unit{entries: entries, call: u.call, ambiguous: u.ambiguous, since: u.since, base: u.base, attempts: u.attempts, due: s.now}
	a.mu.Lock()
	blockedNow := l.blockedLocked(s.now)
	a.mu.Unlock()
	if ambiguous {
		next.ambiguous = s.now
	}
	if next.since.IsZero() {
		next.since, next.base = s.now, blockedNow
	}
	if !blocked {
		next.attempts++
		if next.attempts > 1 {
			next.due = s.now.Add(backoff(next.attempts-1, a.route.Retry.MaxDelay))
		}
	}
	next.age = s.now.Sub(next.since) - (blockedNow - next.base)
	if most := a.route.Retry.MaxAge; most > 0 && !blocked && next.age >= most {
		for _, e := range entries {
			s.bury(next, e, e.attempts+next.attempts, "retries", fmt.Errorf("gave up after %s without an answer: %w", most, err))
		}
		if u.call != 0 {
			s.batch.CallsDone = append(s.batch.CallsDone, u.call)
		}
		return
	}
	var broken *brokenError
	if errors.As(err, &broken) {
		s.bisect(next)
	} else {
		s.keep(next)
	}
	if !blocked {
		s.counts = append(s.counts, func() { l.metrics().retried(a.route, entries) })
	}
}

// keep has a unit sent again.
func (s *settlement) keep(u *unit) {
	if u.call != 0 {
		s.batch.Calls = append(s.batch.Calls, store.Call{ID: u.call, Lane: s.lane.live.laneID(), Entries: refs(u.entries), Ambiguous: u.ambiguous, Age: u.age})
	}
	s.units = append(s.units, u)
}

// bisect has a unit sent again in two halves, at once, because one entry of it breaks the destination. Entries that are one write stay together.
func (s *settlement) bisect(u *unit) {
	at := len(u.entries) / 2
	for at > 0 && u.entries[at].Plan.Key != "" && u.entries[at].Plan.Key == u.entries[at-1].Plan.Key {
		at--
	}
	if at == 0 {
		for at++; at < len(u.entries) && u.entries[at].Plan.Key != "" && u.entries[at].Plan.Key == u.entries[at-1].Plan.Key; at++ {
		}
	}
	if at == len(u.entries) {
		s.keep(u)
		return
	}
	first, second := *u, *u
	first.entries, second.entries = u.entries[:at:at], u.entries[at:]
	first.due, second.due = s.now, s.now
	if u.call != 0 {
		second.call = s.lane.account.router.store.NextCall()
	}
	s.keep(&first)
	s.keep(&second)
}

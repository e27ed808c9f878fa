package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/store"
)

// DeadLetterBounds are those of each destination's dead letters.
//
// At MaxBytes a destination that delivers to accounts gives up the oldest letters of the account that has most of them: see pushOutLetters. Nobody is refused, and nobody else loses any.
//
// Of others nothing is given up at MaxBytes that could be kept: what a lane would make a dead letter of stays in the lane and holds its key back, lanes give up no oldest
// entries, and ingest refuses the API keys that feed the destination. All goes on by itself when there is room. The sorter never stops for it, so that what the logs
// hold may go beyond.
type DeadLetterBounds struct {
	MaxBytes int64         // of records and errors; 0: no bound
	MaxAge   time.Duration // older ones are deleted, but for those that are to be replayed; 0: none are
}

// LimitDeadLetters changes the bounds at once.
func (r *Router) LimitDeadLetters(b DeadLetterBounds) {
	r.letterBounds.Store(&b)
	select {
	case r.rerouted <- struct{}{}:
	default:
	}
}

// lettersFull says whether a destination's dead letters, with some bytes more, are at their bound. It is cheap.
func (r *Router) lettersFull(destination string, more int64) bool {
	most := r.letterBounds.Load().MaxBytes
	return most > 0 && r.store.DeadLetterBytes(destination)+more >= most
}

// withholds says whether what would be a dead letter of a route, with some bytes more, has to stay in its lane. What an account's lane keeps would be in the way of nobody but the
// account, but so would what others can not bury because of it: those that deliver to accounts bury all, and make room for it afterwards.
func (r *Router) withholds(route *Route, more int64) bool {
	return route.Connection == "" && r.lettersFull(route.Name, more)
}

// lettersFullReason says what to do.
func (r *Router) lettersFullReason(destination string) string {
	return fmt.Sprintf("the dead letters of destination %s take %d bytes or more (server.dead_letters.max_bytes): replay, export or drop some, or raise it",
		destination, r.letterBounds.Load().MaxBytes)
}

// withheldWait is how long an entry that can not become a dead letter waits until it is sent once more, if there is no room before.
const withheldWait = 10 * time.Minute

// withhold keeps an entry in its lane because there is no room for a dead letter of it. After a restart it is sent at once.
func (s *settlement) withhold(u *unit, e *entry, attempts int, reason string, err error) {
	if reason == reasonLaneFull {
		s.release(e) // it was not sent
		return
	}
	l := s.lane
	since := e.since
	if since.IsZero() {
		since = s.now
	}
	s.holdPersons(u, e)
	s.failed([]*entry{e}, err)
	s.batch.Retries = append(s.batch.Retries, store.Retry{
		Ref: e.ref, Attempt: attempts, Due: s.now, Since: since, Blocked: e.blocked, Error: cut(err.Error(), 500),
	})
	s.counts = append(s.counts, func() { l.metrics().retried(l.account.route, []*entry{e}) })
	s.freed = append(s.freed, freed{e, func() { e.attempts, e.since, e.due, e.withheld = attempts, since, s.now.Add(withheldWait), s.now }})
}

// withheldLocked says how many entries wait because there is no room for dead letters of them, since when, and when one is sent again.
func (l *lane) withheldLocked() (n int, since, next time.Time) {
	for _, s := range l.streams() {
		for _, e := range s.window {
			if e.withheld.IsZero() {
				continue
			}
			n++
			if since.IsZero() || e.withheld.Before(since) {
				since = e.withheld
			}
			if next.IsZero() || e.due.Before(next) {
				next = e.due
			}
		}
	}
	return n, since, next
}

// letGoOfLetters has what a destination's lanes withheld be sent again, for there is room.
func (r *Router) letGoOfLetters(destination string, now time.Time) {
	for _, a := range r.allAccounts() {
		if a.route.Name != destination {
			continue
		}
		a.mu.Lock()
		for _, l := range a.lanes {
			for _, s := range l.streams() {
				for _, e := range s.window {
					if !e.withheld.IsZero() {
						e.due = earlier(e.due, now)
					}
				}
			}
			l.poke()
		}
		a.mu.Unlock()
	}
}

// pushSteps bounds how many steps of making room one second takes, as expireSteps does.
const pushSteps = 20

// pushOutLetters makes room where the accounts of a destination have too many dead letters: the oldest go of whoever has most. So an account whose events all become dead letters keeps its newest, and
// one that has fewer than its share keeps all.
func (r *Router) pushOutLetters(ctx context.Context, now time.Time) error {
	most := r.letterBounds.Load().MaxBytes
	if most <= 0 {
		return nil
	}
	for _, route := range r.table.Load().routes {
		for step := 0; step < pushSteps && route.Connection != "" && r.lettersFull(route.Name, 0); step++ {
			account, n, err := r.store.PushOutDeadLetters(ctx, route.Name, most)
			if ctx.Err() != nil || errors.Is(err, store.ErrFull) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("make room for dead letters of %s: %w", route.Name, err)
			}
			if n == 0 {
				break
			}
			r.metrics.pushedVec.WithLabelValues(route.Name).Add(float64(n))
			if now.Sub(r.pushedTold[route.Name]) >= time.Minute {
				r.pushedTold[route.Name] = now
				r.logger.Warn("dead letters are at their bound: the oldest go of the account that has most", "destination", route.Name, "account", account, "gone", n,
					"limit", "server.dead_letters.max_bytes")
			}
		}
	}
	return nil
}

// expireSteps bounds how many steps of deleting one round takes: others want the writer too.
const expireSteps = 20

// expireLetters deletes dead letters that are too old, some at a time.
func (r *Router) expireLetters(ctx context.Context, now time.Time) error {
	most := r.letterBounds.Load().MaxAge
	if most <= 0 {
		return nil
	}
	for range expireSteps {
		dropped, more, err := r.store.ExpireDeadLetters(ctx, now.Add(-most))
		for destination, n := range dropped {
			r.metrics.expiredVec.WithLabelValues(destination).Add(float64(n))
		}
		if err != nil || !more {
			return err
		}
	}
	return nil
}

var (
	deadLetters       = prometheus.NewDesc("router_dead_letters", "Dead letters that are kept.", []string{"destination", "reason"}, nil)
	deadLetterBytes   = prometheus.NewDesc("router_dead_letters_bytes", "Bytes of their records and errors.", []string{"destination"}, nil)
	deadLetterOldest  = prometheus.NewDesc("router_dead_letters_oldest_seconds", "Age of the oldest dead letter.", []string{"destination"}, nil)
	deadLetterReplays = prometheus.NewDesc("router_dead_letters_to_replay", "Dead letters that wait to be sent again.", []string{"destination"}, nil)
	deadLetterMost    = prometheus.NewDesc("router_dead_letters_max_bytes", "Bytes that the dead letters of a destination may take, 0 without a bound.", nil, nil)
)

// collectLetters reports what dead letters take.
func (g *gauges) collectLetters(gauge func(*prometheus.Desc, float64, ...string)) {
	r := g.router
	gauge(deadLetterMost, float64(r.letterBounds.Load().MaxBytes))
	counts, err := r.store.DeadLetterCounts()
	for of, n := range counts {
		gauge(deadLetters, float64(n), of[0], of[1])
	}
	use, uerr := r.store.DeadLetterUse()
	for destination, u := range use {
		gauge(deadLetterBytes, float64(u.Bytes), destination)
		gauge(deadLetterOldest, max(time.Since(u.Oldest).Seconds(), 0), destination)
		gauge(deadLetterReplays, float64(u.Marked), destination)
	}
	if err := errors.Join(err, uerr); err != nil && !errors.Is(err, store.ErrClosed) {
		r.logger.Error("read what dead letters take", "error", err.Error())
	}
}

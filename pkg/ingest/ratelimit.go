package ingest

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"

	"github.com/valyala/fasthttp"
)

// rateLimit is what an API key may send: a bucket of tokens that fills at a rate, and of which each event takes one. A request passes while
// there is a token, and takes all it needs, so the bucket may owe some: a batch larger than the bucket passes too, and the rate holds on average.
//
// golang.org/x/time/rate refuses such a batch for ever, and takes a lock. One number does it all: the time at which the bucket is full again.
type rateLimit struct {
	settings config.RateLimit
	interval float64       // nanoseconds in which a token comes
	slack    time.Duration // that fullAt lies ahead at most while there is a token
	begin    time.Time

	fullAt atomic.Int64 // since begin
}

// newRateLimit returns a full bucket; nil where there is no limit.
func newRateLimit(settings config.RateLimit, now time.Time) *rateLimit {
	if settings.EventsPerSecond <= 0 {
		return nil
	}
	interval := float64(time.Second) / settings.EventsPerSecond
	slack := min(interval*float64(settings.Burst-1), math.MaxInt64/4) // sums stay in range
	return &rateLimit{settings: settings, interval: interval, slack: time.Duration(max(0, slack)), begin: now}
}

// take takes n tokens, or none where there is none: then it returns the time until there is one. To take 0 is to ask.
func (l *rateLimit) take(now time.Time, n int) (wait time.Duration) {
	if l == nil {
		return 0
	}
	at := int64(now.Sub(l.begin)) // by the monotonic clock: setting the machine's changes nothing
	cost := int64(min(float64(n)*l.interval, math.MaxInt64/4))
	for {
		fullAt := l.fullAt.Load()
		if wait := time.Duration(fullAt-at) - l.slack; wait > 0 {
			return wait
		}
		if n == 0 || l.fullAt.CompareAndSwap(fullAt, max(fullAt, at)+cost) {
			return 0
		}
	}
}

// rateLimited takes tokens for n events of a class. Imports are let through, unless it is with a secret that anybody can read: they have the
// back-pressure of their own lanes.
func (s *Server) rateLimited(src access, class event.Class, now time.Time, n int) *refusal {
	if src.key.limit == nil || class == event.Bulk && src.server {
		return nil
	}
	wait := src.key.limit.take(now, n)
	if wait <= 0 {
		return nil
	}
	src.key.limited.Inc()
	set := src.key.limit.settings
	return &refusal{
		status: fasthttp.StatusTooManyRequests, reason: reasonRate, retryAfter: int(math.Ceil(wait.Seconds())),
		message: "Too many events of this API key, send them again later",
		detail:  fmt.Sprintf("rate_limit is %g events per second, and a burst of %d", set.EventsPerSecond, set.Burst),
	}
}

// full says whether nothing is owed: a new bucket would be the same.
func (l *rateLimit) full(now time.Time) bool { return l.fullAt.Load() <= int64(now.Sub(l.begin)) }

package hubspot

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Policies name the quotas in metrics, by HubSpot's own names where there are any.
const (
	burstPolicy  = "ten_secondly_rolling"
	dailyPolicy  = "daily"
	eventsPolicy = "events"
)

const (
	// windowMargin is added to an interval: our clock and HubSpot's round differently.
	windowMargin = time.Millisecond
	// foreignNoise is how many calls of others an answer may seem to show when there are none, because calls in flight overtake each
	// other.
	foreignNoise = callsInFlight - 1
)

// window is one rolling quota: at most max calls in any interval, as the remote counts them on arrival. A call's place is free again
// one interval after its answer, which is never too early and late by no more than the way of that answer.
//
// Others may use the same token. What an answer says remains, set against the calls that were ours when it was made, tells how
// many were theirs; they count for one interval or until the next answer.
type window struct {
	policy string

	mu           sync.Mutex // guards the fields below
	max          int        // calls per interval; 0: the remote names no limit
	interval     time.Duration
	inFlight     int         // permits given out and not answered
	last         time.Time   // when the last permit was given out
	ended        []time.Time // when each answered call leaves the window, rising
	foreign      int         // calls of others in the window
	foreignUntil time.Time   // when the last of them has left
	probing      bool        // what remains is unknown: one call in flight
	closed       time.Time   // no call before this
	daily        int         // calls left today; -1: unknown or unlimited
	spent        time.Time   // the day's calls are used up until this
	changed      chan struct{}
}

func newWindow(policy string, most int, interval time.Duration) *window {
	return &window{policy: policy, max: most, interval: interval, daily: -1, changed: make(chan struct{})}
}

// spentError says that the day's calls are used up.
type spentError struct{ until time.Time }

func (e *spentError) Error() string {
	return fmt.Sprintf("the account's daily calls are used up until %s", e.until.UTC().Format(time.RFC3339))
}

// permit is the right to make one call in a window.
type permit struct {
	window        *window
	given, before time.Time // this permit and the one before it

	mu   sync.Mutex // guards the fields below
	used bool
	gone bool
	live int // our calls in the window when this one was sent, itself included
}

// Release gives an unused permit back.
func (p *permit) Release() {
	p.mu.Lock()
	idle := !p.used && !p.gone
	p.gone = true
	p.mu.Unlock()
	if !idle {
		return
	}
	p.window.mu.Lock()
	defer p.window.mu.Unlock()
	p.window.inFlight--
	if p.window.last.Equal(p.given) {
		p.window.last = p.before
	}
	p.window.wakeLocked()
}

// begin marks the permit as used, just before the call is sent.
func (p *permit) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used || p.gone {
		panic("BUG: permit used twice")
	}
	p.used = true
	w := p.window
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expireLocked(time.Now())
	p.live = w.inFlight + len(w.ended)
}

// rates is what an answer says of the quotas; -1 where it says nothing.
type rates struct {
	max, remaining, daily, dailyRemaining int
	interval                              time.Duration
}

// end takes the call out of flight; r is nil when there was no answer.
func (p *permit) end(r *rates) {
	w := p.window
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.wakeLocked()
	now := time.Now()
	w.expireLocked(now)
	w.inFlight--
	if w.max > 0 || r != nil && r.max > 0 {
		w.ended = append(w.ended, now.Add(w.interval+windowMargin))
	}
	if r == nil {
		return
	}
	if r.dailyRemaining >= 0 {
		w.daily = r.dailyRemaining
	}
	if r.max <= 0 {
		return
	}
	w.max = r.max
	if r.interval > 0 {
		w.interval = r.interval
	}
	if r.remaining >= 0 {
		w.foreign = max(0, r.max-r.remaining-p.live)
		w.foreignUntil = now.Add(w.interval + windowMargin)
	}
}

// works says that the remote takes calls, as far as is known.
func (w *window) works() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.probing {
		w.probing = false
		w.wakeLocked()
	}
}

// refused closes the window for d after a 429, then lets one call try.
func (w *window) refused(d time.Duration) (until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d <= 0 {
		d = w.interval
	}
	if until := time.Now().Add(d + windowMargin); until.After(w.closed) {
		w.closed = until
	}
	w.probing = true
	w.wakeLocked()
	return w.closed
}

// exhaust says that the day's calls are used up until then.
func (w *window) exhaust(until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.daily, w.spent, w.probing = -1, until, true
	w.wakeLocked()
}

// exhausted reports whether the last answer said that nothing remains of the day.
func (w *window) exhausted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.daily == 0
}

// acquire waits for a permit. It returns a *spentError when the day's calls are used up.
func (w *window) acquire(ctx context.Context) (*permit, error) {
	var timer *time.Timer
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.mu.Lock()
		now := time.Now()
		if now.Before(w.spent) {
			err := &spentError{w.spent}
			w.mu.Unlock()
			return nil, err
		}
		ok, at := w.nextLocked(now)
		if ok {
			w.inFlight++
			p := &permit{window: w, given: now, before: w.last}
			w.last = now
			w.mu.Unlock()
			return p, nil
		}
		changed := w.changed
		w.mu.Unlock()
		var due <-chan time.Time
		if !at.IsZero() {
			if timer == nil {
				timer = time.NewTimer(at.Sub(now))
				defer timer.Stop()
			} else {
				timer.Reset(at.Sub(now))
			}
			due = timer.C
		}
		select {
		case <-due:
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// nextLocked says whether a call may be made now, and else when to look again; zero: when something changes.
func (w *window) nextLocked(now time.Time) (ok bool, at time.Time) {
	w.expireLocked(now)
	if now.Before(w.closed) {
		return false, w.closed
	}
	if w.probing && w.inFlight > 0 || w.daily >= 0 && w.daily <= w.inFlight {
		return false, time.Time{}
	}
	if w.max <= 0 {
		return true, time.Time{}
	}
	if free := w.freeLocked(); free > 0 {
		at := w.last.Add(w.gapLocked(now, free))
		return !at.After(now), at
	}
	if w.foreign > 0 {
		at = w.foreignUntil
	}
	if len(w.ended) > 0 && (at.IsZero() || w.ended[0].Before(at)) {
		at = w.ended[0]
	}
	return false, at
}

// gapLocked keeps calls apart so that the quota lasts: spent in one go it would leave everyone waiting for the rest of the window. Before the
// k-th of our places is free again there is room for free+k calls. The calls come a tenth faster than that, so that with a backlog
// the last of them is used.
func (w *window) gapLocked(now time.Time, free int) (gap time.Duration) {
	for k, at := range w.ended {
		gap = max(gap, at.Sub(now)/time.Duration(free+k))
	}
	if w.inFlight > 0 {
		gap = max(gap, w.interval/time.Duration(free+len(w.ended)))
	}
	return gap * 9 / 10
}

// freeLocked is how many calls may be made now by what is known. Where others use the token some are left to them, for they
// make calls between an answer and our next call.
func (w *window) freeLocked() int {
	free := w.max - w.foreign - w.inFlight - len(w.ended)
	if w.foreign > foreignNoise {
		free -= max(1, w.max/20)
	}
	return free
}

// remaining is what quota metrics show; ok is false when nothing is known.
func (w *window) remaining() (burst, daily int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expireLocked(time.Now())
	return max(0, w.max-w.foreign-w.inFlight-len(w.ended)), w.daily, w.max > 0
}

func (w *window) expireLocked(now time.Time) {
	n := 0
	for n < len(w.ended) && !w.ended[n].After(now) {
		n++
	}
	w.ended = w.ended[n:]
	if w.foreign > 0 && !w.foreignUntil.After(now) {
		w.foreign = 0
	}
}

// wakeLocked makes everyone who waits look again.
func (w *window) wakeLocked() {
	close(w.changed)
	w.changed = make(chan struct{})
}

package hubspot

import (
	"context"
	"slices"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

// Policies name the quotas in metrics, by HubSpot's own names where there are any.
const (
	burstPolicy  = "ten_secondly_rolling"
	dailyPolicy  = "daily"
	eventsPolicy = "events"
	searchPolicy = "secondly"     // HubSpot's name; its searches are all that has such a limit
	budgetPolicy = "daily_budget" // what the settings leave to the router
)

const (
	// windowMargin is added to an interval: our clock and HubSpot's round differently.
	windowMargin = time.Millisecond
	// together is how many calls may leave at once while more than half of a window is free: what comes at one moment need not wait, and a
	// backlog is spread all the same.
	together = 4
	// straysFor is how long calls of an earlier process, killed while they were under way, may still arrive after the first answer to this one.
	straysFor = 3 * time.Second
)

// terms say how much of the quotas one destination may use.
type terms struct {
	share float64 // of what the remote allows
	daily int     // calls a day; 0: no limit of our own
	// patient callers wait for a window that is closed; for others that is an error, so that their lane can say why it waits and what need not
	// wait for it goes on.
	patient bool
}

// window is one rolling quota: at most max calls in any interval, as the remote counts them on arrival. A call's place is free again
// one interval after its answer, which is never too early and late by no more than the way of that answer.
//
// Late by that way is a call or two of twenty a second, and more when answers are slow. As far as answers show that the remote counts fewer of
// our calls than we do, more are made.
//
// Others may use the same token. What an answer says remains, set against the calls that were ours when it was made, tells how
// many were theirs; they count for one interval or until the next answer.
//
// Who waits for a permit gets it in the order of asking: a call that loads or creates something waits for one call of each lane at most.
type window struct {
	policy string
	day    *day // nil: the calls count in no day's budget

	mu           sync.Mutex // guards the fields below; taken before day's
	max          int        // calls per interval; 0: the remote names no limit
	interval     time.Duration
	inFlight     int         // permits given out and not answered
	begun        int         // calls so far
	last         time.Time   // when the last permit was given out
	ended        []time.Time // when each answered call leaves the window, rising
	foreign      int         // calls of others in the window
	certain      bool        // they are more than our own calls in flight could look like
	foreignUntil time.Time   // when the last of them has left
	excess       excess      // places that we hold although the remote has them free
	strays       time.Time   // until then calls of an earlier process may arrive: one call in flight while these could take all that is left
	probing      bool        // what remains is unknown: one call in flight
	closed       time.Time   // no call before this
	why          error       // of that
	queue        []chan struct{}
}

func newWindow(policy string, most int, interval time.Duration, d *day) *window {
	return &window{policy: policy, max: most, interval: interval, day: d}
}

// permit is the right to make one call in a window.
type permit struct {
	window        *window
	given, before time.Time // this permit and the one before it
	date          string    // the day whose budget it counts in

	mu   sync.Mutex // guards the fields below
	used bool
	gone bool
	live int // our calls in the window when this one was sent, itself included
	nth  int // of the window's calls
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
	w := p.window
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inFlight--
	if w.last.Equal(p.given) {
		w.last = p.before
	}
	if w.day != nil {
		w.day.giveBack(p.date)
	}
	w.wakeLocked()
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
	w.begun++
	p.nth = w.begun
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
	if w.day != nil {
		w.day.end(now, r)
	}
	if w.max > 0 || r != nil && r.max > 0 {
		w.ended = append(w.ended, now.Add(w.interval+windowMargin))
	}
	if r == nil || r.max <= 0 {
		return
	}
	if w.max == 0 {
		w.strays = now.Add(straysFor)
	}
	w.max = r.max
	if r.interval > 0 {
		w.interval = r.interval
	}
	if r.remaining >= 0 {
		w.foreign = max(0, r.max-r.remaining-p.live)
		w.excess.saw(p.live-(r.max-r.remaining), now, w.interval)
		w.certain = w.foreign > w.begun-p.nth // those sent after it may have overtaken it
		w.foreignUntil = now.Add(w.interval + windowMargin)
	}
}

// excess is how many more calls than the remote we count, at least, in the last one to two intervals.
type excess struct {
	since     time.Time // when the present interval began
	now, last int       // the least of the present interval and of the one before
}

func (h *excess) saw(n int, now time.Time, interval time.Duration) {
	switch age := now.Sub(h.since); {
	case age >= 2*interval:
		*h = excess{since: now, now: n} // last: 0, which nobody has seen
	case age >= interval:
		*h = excess{since: now, now: n, last: h.now}
	default:
		h.now = min(h.now, n)
	}
}

// extra is how many more calls than counted may be made. It is half of what was seen, for the way to the remote may become shorter from one
// call to the next; the way back does no harm.
func (h *excess) extra() int { return max(0, min(h.now, h.last)) / 2 }

// works says that the remote takes calls, as far as is known.
func (w *window) works() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.probing {
		w.probing = false
		w.wakeLocked()
	}
}

// closedError says that the remote wants no calls for a while.
type closedError struct {
	err   error
	until time.Time
}

func (e *closedError) Error() string { return e.err.Error() }

// Cause is for destinations.CauseOf.
func (e *closedError) Cause() destinations.Cause { return destinations.CauseLimit }

// refused closes the window for d, or one interval, then lets one call try. err is why.
func (w *window) refused(d time.Duration, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d <= 0 {
		d = w.interval
	}
	if until := time.Now().Add(d + windowMargin); until.After(w.closed) {
		w.closed, w.why = until, err
	}
	w.probing = true
	w.wakeLocked()
}

// acquire waits for a permit. It returns a *spentError when the day's calls are used up, and a *closedError to those who are not patient.
func (w *window) acquire(ctx context.Context, t terms) (*permit, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p, _, _, err := w.try(t, nil); p != nil || err != nil {
		return p, err
	}
	turn := make(chan struct{}, 1) // a token in it: something has changed
	w.join(turn)
	defer w.leave(turn)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p, at, changed, err := w.try(t, turn)
		if p != nil || err != nil {
			return p, err
		}
		var due <-chan time.Time
		if !at.IsZero() {
			timer.Reset(time.Until(at))
			due = timer.C
		}
		select {
		case <-due:
		case <-turn:
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// try gives out a permit if there is one, and if it is the caller's turn. Otherwise it says when to look again: at that time, when changed
// is closed, or when the caller's turn is told.
func (w *window) try(t terms, turn chan struct{}) (p *permit, at time.Time, changed <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.day != nil {
		if err := w.day.spentBy(now, t); err != nil {
			return nil, time.Time{}, nil, err
		}
	}
	if now.Before(w.closed) && !t.patient {
		return nil, time.Time{}, nil, &closedError{w.why, w.closed}
	}
	if len(w.queue) > 0 && w.queue[0] != turn {
		return nil, time.Time{}, nil, nil
	}
	ok, at := w.nextLocked(now, t)
	if !ok {
		return nil, at, nil, nil
	}
	p = &permit{window: w, given: now, before: w.last}
	if w.day != nil {
		if p.date, changed, err = w.day.take(now, t); changed != nil || err != nil {
			return nil, time.Time{}, changed, err
		}
	}
	w.inFlight++
	w.last = now
	return p, time.Time{}, nil, nil
}

func (w *window) join(turn chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, turn)
}

func (w *window) leave(turn chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, turn)
	w.queue = slices.Delete(w.queue, i, i+1)
	w.wakeLocked()
}

// wakeLocked makes everyone who waits look again.
func (w *window) wakeLocked() {
	for _, turn := range w.queue {
		select {
		case turn <- struct{}{}:
		default:
		}
	}
}

// nextLocked says whether a call may be made now, and else when to look again; zero: when something changes.
func (w *window) nextLocked(now time.Time, t terms) (ok bool, at time.Time) {
	w.expireLocked(now)
	if now.Before(w.closed) {
		return false, w.closed
	}
	if w.probing && w.inFlight > 0 {
		return false, time.Time{}
	}
	if w.max <= 0 {
		return true, time.Time{}
	}
	free := w.freeLocked(t)
	if w.inFlight > 0 && free <= callsInFlight && now.Before(w.strays) { // which may take all that is left
		return false, w.strays
	}
	if free > 0 {
		at := w.last.Add(w.gapLocked(now, free, t))
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
func (w *window) gapLocked(now time.Time, free int, t terms) (gap time.Duration) {
	if w.inFlight < together && 2*free > w.mostLocked(t) {
		return 0
	}
	for k, at := range w.ended {
		gap = max(gap, at.Sub(now)/time.Duration(free+k))
	}
	if w.inFlight > 0 {
		gap = max(gap, w.interval/time.Duration(free+len(w.ended)))
	}
	return gap * 9 / 10
}

// mostLocked is how many calls the terms allow in the window.
func (w *window) mostLocked(t terms) int {
	return max(1, int(t.share*float64(w.max)+1e-9)) // 0.29 × 100 is a little less than 29
}

// freeLocked is how many calls may be made now by what is known. Where others use the token some are left to them, for they
// make calls between an answer and our next call.
func (w *window) freeLocked(t terms) int {
	ours := w.inFlight + len(w.ended) - w.excess.extra()
	free := w.max - w.foreign - ours
	if w.foreign > 0 && w.certain {
		free -= max(1, w.max/20)
	}
	return min(free, w.mostLocked(t)-ours)
}

// remaining is what quota metrics show; ok is false when nothing is known.
func (w *window) remaining(t terms) (n int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expireLocked(time.Now())
	ours := w.inFlight + len(w.ended) - w.excess.extra()
	return max(0, min(w.max-w.foreign, w.mostLocked(t))-ours), w.max > 0
}

// opens is when the window may be tried again.
func (w *window) opens() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.day != nil {
		if spent := w.day.closed(); spent.After(w.closed) {
			return spent
		}
	}
	return w.closed
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

package webhook

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// ratePolicy and refusedPolicy name in metrics what calls waited for.
const (
	ratePolicy    = "max_per_second"
	refusedPolicy = "retry_after"
)

// gate lets calls through: so many in a second, and none while the remote has asked to wait. It outlives a reload.
type gate struct {
	mu     sync.Mutex // guards the fields below
	every  time.Duration
	next   time.Time // when the next call may be made
	closed time.Time // until when the remote wants none
	why    error
}

// closedError says that the remote wants no calls for a while.
type closedError struct {
	until time.Time
	why   error
}

func (e *closedError) Error() string { return e.why.Error() }
func (e *closedError) Unwrap() error { return e.why }

// setRate takes over the limit of the settings; 0: none.
func (g *gate) setRate(perSecond float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.every = 0
	if perSecond > 0 {
		g.every = time.Duration(float64(time.Second) / perSecond)
	}
}

// close has no call made until then.
func (g *gate) close(until time.Time, why error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.closed) {
		g.closed, g.why = until, why
	}
}

// permit is the right to make one call.
type permit struct {
	gate *gate
	at   time.Time // the place in the rate that it took
	used bool
}

// Release implements [destinations.Permit]. A place that nobody took after it is free again.
func (p *permit) Release() {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if !p.used && g.next.Equal(p.at.Add(g.every)) {
		g.next = p.at
	}
	p.used = true
}

// use uses the permit up. It says whether it was a permit still.
func (p *permit) use() bool {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	was := !p.used
	p.used = true
	return was
}

// acquire waits for the place of a call. Its error is a *closedError or that of ctx.
func (g *gate) acquire(ctx context.Context) (*permit, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := g.refuses(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	now := time.Now()
	p := &permit{gate: g, at: now}
	if g.next.After(now) {
		p.at = g.next
	}
	g.next = p.at.Add(g.every)
	g.mu.Unlock()
	if wait := p.at.Sub(now); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			p.Release()
			return nil, ctx.Err()
		}
		if err := g.refuses(); err != nil { // an answer that came meanwhile
			p.Release()
			return nil, err
		}
	}
	return p, nil
}

// refuses returns a *closedError while the remote wants no calls.
func (g *gate) refuses() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed.After(time.Now()) {
		return &closedError{g.closed, fmt.Errorf("the remote asked to wait: %w", g.why)}
	}
	return nil
}

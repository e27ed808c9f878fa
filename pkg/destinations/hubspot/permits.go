package hubspot

import (
	"context"
	"errors"
	"time"

	"eventrouter/pkg/destinations"
)

// Acquire implements [destinations.Destination].
func (d *Destination) Acquire(ctx context.Context, _, lane string) (destinations.Permit, error) {
	w := d.window(lane)
	t := d.termsOf(w)
	t.patient = false
	p, err := d.acquire(ctx, w, t)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (d *Destination) window(lane string) *window {
	if lane == laneEvents {
		return d.account.events
	}
	return d.account.crm
}

// termsOf are the destination's terms in a window: sending events takes nothing from anybody.
func (d *Destination) termsOf(w *window) terms {
	if w.day == nil {
		return terms{share: 1, patient: true}
	}
	return d.terms
}

// acquire waits for a permit. Its error is an outcome.
func (d *Destination) acquire(ctx context.Context, w *window, t terms) (*permit, error) {
	began := time.Now()
	p, err := w.acquire(ctx, t)
	if waited := time.Since(began); waited > 0 {
		d.metrics.QuotaWait(d.client.destination, w.policy, waited)
	}
	var spent *spentError
	var closed *closedError
	switch {
	case errors.As(err, &spent):
		return nil, destinations.Block(err, destinations.LaneScope, spent.until)
	case errors.As(err, &closed):
		return nil, destinations.Block(err, destinations.LaneScope, closed.until)
	}
	return p, err
}

// quotaLeft tells metrics what remains of each quota.
func (d *Destination) quotaLeft(set func(policy string, left int)) {
	for _, w := range []*window{d.account.crm, d.account.events} {
		if n, ok := w.remaining(d.termsOf(w)); ok {
			set(w.policy, n)
		}
	}
	account, own := d.account.day.left(d.terms)
	if account >= 0 {
		set(dailyPolicy, account)
	}
	if own >= 0 {
		set(budgetPolicy, own)
	}
}

// permits hands out the permits of one Send: the one that it was given first.
type permits struct {
	d     *Destination
	first *permit
}

func (ps *permits) next(ctx context.Context, w *window) (*permit, error) {
	if p := ps.first; p != nil && p.window == w {
		ps.first = nil
		return p, nil
	}
	return ps.d.acquire(ctx, w, ps.d.termsOf(w))
}

// release gives the first one back, if it is unused.
func (ps *permits) release() {
	if ps.first != nil {
		ps.first.Release()
		ps.first = nil
	}
}

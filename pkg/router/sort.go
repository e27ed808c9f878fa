package router

import (
	"context"
	"time"
)

const (
	handoverRecords = 1000
	// handoverRest is the pause after a hand-over that was not full: under load the next one then holds more, and costs one sync all the same. An
	// event that comes when nothing else does waits for nothing.
	handoverRest = 5 * time.Millisecond

	// bulkEvery: of so many batches of the sorter one is of the bulk log, also where the live log is never empty.
	bulkEvery = 10
	// bulkTime is how long bulk records are sorted before it is looked for live ones; their commit comes on top.
	bulkTime = 10 * time.Millisecond
)

// sorter reads the logs and hands their records over to the lanes: live ones first, and bulk ones and dead letters that are replayed while there are none, or
// in their turn.
type sorter struct {
	r          *Router
	h          *handover
	live, bulk *intake // bulk: nil where there is none
	replays    *replayer
	replayed   bool // the last batch that was not live was of letters
	passed     int  // live batches in a row
	timer      *time.Timer
}

// sort sorts until ctx ends.
func (r *Router) sort(ctx context.Context) error {
	s := &sorter{r: r, live: r.live, bulk: r.bulk, timer: time.NewTimer(0)}
	s.replays = newReplayer(r, deathMark{path: r.live.mark.path, at: 2 * markBytes})
	defer s.timer.Stop()
	defer s.replays.mark.close()
	if err := s.replays.open(); err != nil {
		return err
	}
	for _, in := range r.intakes() {
		defer in.close()
		if err := in.open(); err != nil {
			return err
		}
		if in.position.Load() < in.suspects.to {
			// The first record with a user agent would wait for this, in hand: so long that it is there when the process is killed for other reasons, again
			// and again, and takes the blame.
			r.enricher.Warm()
		}
	}
	reading, err := r.nextRead(ctx, nil)
	if err != nil {
		return err
	}
	s.h = newHandover(r, r.table.Load())
	for ctx.Err() == nil {
		moving, err := r.moveSome(ctx.Done())
		if err != nil {
			return err
		}
		in, replay, until, err := s.next(ctx, time.Now())
		if err != nil {
			return err
		}
		if reading.Err() != nil { // there are other routes: what was read just now is sorted by them
			if reading, err = r.nextRead(ctx, s.h); err != nil {
				return err
			}
		}
		if in == nil && !replay {
			if !moving {
				s.wait(reading)
			}
			continue
		}
		r.balance(s.h, time.Now())
		if replay {
			err = s.replay(ctx, until)
		} else {
			err = s.handOver(ctx, in, until)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// next chooses the log to sort from, or that dead letters are replayed; neither: there is nothing, or too little to disturb the disk for. until, if not zero,
// is for what counts by then only: of what is live something may be unsorted that counts as earlier than the rest.
func (s *sorter) next(ctx context.Context, now time.Time) (in *intake, replay bool, until time.Time, err error) {
	live, bulk := false, false
	if !s.live.resting.After(now) {
		if live, err = s.live.look(); err != nil {
			return nil, false, until, err
		}
	}
	if !live || s.passed >= bulkEvery-1 {
		if s.bulk != nil && !s.bulk.resting.After(now) {
			if bulk, err = s.bulk.look(); err != nil {
				return nil, false, until, err
			}
		}
		if replay, err = s.replays.look(ctx, now); err != nil {
			return nil, false, until, err
		}
	}
	switch {
	case live:
		until = s.live.receivedFirst()
	case s.live.resting.After(now):
		until = s.live.drained
	}
	bulk = bulk && (until.IsZero() || s.bulk.startsBy(until))
	switch {
	case replay && (!bulk || !s.replayed):
		return nil, true, until, nil
	case bulk:
		return s.bulk, false, until, nil
	case live:
		return s.live, false, time.Time{}, nil
	}
	return nil, false, time.Time{}, nil
}

// wait waits until there may be something to sort.
func (s *sorter) wait(ctx context.Context) {
	now := time.Now()
	var wake [2]<-chan struct{}
	rest := time.Hour
	for i, in := range s.r.intakes() {
		wake[i] = in.wake(now)
		if d := in.resting.Sub(now); d > 0 {
			rest = min(rest, d)
		}
	}
	rest = min(rest, s.replays.rest(now))
	s.timer.Reset(rest)
	select {
	case <-wake[0]:
	case <-wake[1]:
	case <-s.replays.wake():
	case <-s.timer.C:
	case <-ctx.Done():
	}
}

// handOver hands records of a log over that wait: of the bulk log as many as there is time for, and none that counts later than until.
func (s *sorter) handOver(ctx context.Context, in *intake, until time.Time) error {
	h, records := s.h, in.waiting
	s.passed++
	if in == s.bulk {
		s.passed, s.replayed = 0, false
	}
	deaths, err := in.mark.begin(uint64(records[0].Offset), uint64(records[len(records)-1].Offset)+1, in.suspects)
	if err != nil {
		return err
	}
	h.begin(ctx)
	n := 0
	if deaths >= maxDeaths {
		h.poison(records[0], deaths)
		n = 1
	}
	for began := time.Now(); n < len(records) && (n == 0 || in != s.bulk || time.Since(began) < bulkTime) && h.add(records[n], until); {
		n++
	}
	if err := in.mark.end(); err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	last := records[n-1].Offset
	if in == s.bulk {
		h.batch.BulkPosition = uint64(last) + 1
	} else {
		h.batch.Position = uint64(last) + 1
	}
	if err := h.commit(ctx); err != nil {
		return err
	}
	in.waiting = records[n:]
	if len(in.waiting) == 0 && !in.drained.IsZero() {
		in.resting = time.Now().Add(handoverRest)
	}
	return in.sorted(last, s.r.store)
}

// balance, between two batches, sets destinations aside whose scripts took too much time, and takes back those that have caught up.
func (r *Router) balance(h *handover, now time.Time) {
	for i, route := range h.table.routes {
		a := h.table.asides[i]
		if a != nil && a.active.Load() {
			// calm again, for it may have been so before the last block: then that one is not announced yet.
			if a.calm.Load() && a.drained() && a.calm.Load() {
				a.active.Store(false)
				r.logger.Info("the destination has caught up", "destination", route.Name)
			}
			continue
		}
		over := h.shares[i].add(h.spent[i], now)
		h.spent[i] = 0
		if over {
			h.tooSlow(i)
		}
	}
}

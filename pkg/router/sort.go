package router

import (
	"context"
	"fmt"
	"time"

	"eventrouter/pkg/log"
)

const (
	handoverRecords = 1000
	// handoverRest is the pause after a hand-over: under load the next one then holds more, and costs one sync all the same. An event that
	// comes when nothing else does waits for nothing.
	handoverRest = 5 * time.Millisecond
)

// sort reads the log and hands its records over to the lanes until ctx ends.
func (r *Router) sort(ctx context.Context) error {
	position := log.Offset(r.store.Position())
	reader, err := r.log.NewReader(position)
	if err != nil {
		return fmt.Errorf("read the log from %d: %w", position, err)
	}
	defer reader.Close()
	suspects, err := r.mark.open()
	if err != nil {
		return err
	}
	defer r.mark.close()
	reading, err := r.nextRead(ctx, nil)
	if err != nil {
		return err
	}
	h := newHandover(r, r.table.Load())
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		most := handoverRecords
		if position < log.Offset(suspects.to) {
			most = 1 // one of these killed the process: find out which
		}
		records, err := reader.ReadBatch(reading, most, 0)
		if ctx.Err() != nil {
			return nil
		}
		if reading.Err() != nil { // there are other routes: what was read just now is sorted by them
			if reading, err = r.nextRead(ctx, h); err != nil {
				return err
			}
			if len(records) == 0 {
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("read the log at %d: %w", position, err)
		}
		if len(records) == 0 {
			continue
		}
		r.balance(h, time.Now())
		last := records[len(records)-1].Offset
		deaths, err := r.mark.begin(uint64(records[0].Offset), uint64(last)+1, suspects)
		if err != nil {
			return err
		}
		h.begin()
		if deaths >= maxDeaths {
			h.poison(records[0], deaths)
		} else {
			for _, rec := range records {
				h.add(rec)
			}
		}
		if err := r.mark.end(); err != nil {
			return err
		}
		position = last + 1
		h.batch.Position = uint64(position)
		if err := h.commit(ctx); err != nil {
			return err
		}
		r.position.Store(uint64(position))
		if err := r.log.Reclaim(position); err != nil {
			return fmt.Errorf("reclaim the log below %d: %w", position, err)
		}
		if len(records) < most {
			rest.Reset(handoverRest)
			select {
			case <-rest.C:
			case <-ctx.Done():
			}
		}
	}
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

package router

import (
	"context"
	"errors"
	"fmt"
	"time"

	"eventrouter/pkg/store"
)

const (
	reasonUnknownAccount = "unknown_account" // of dead letters
	// mostGivenUp is how many entries are given up at a time.
	mostGivenUp = 5000
)

// giveUpUnknown gives up what has waited too long for accounts to connect.
func (r *Router) giveUpUnknown(ctx context.Context, now time.Time) error {
	r.mu.Lock()
	waiting := len(r.waiting) > 0
	r.mu.Unlock()
	t := r.table.Load()
	if !waiting || !t.connected {
		return nil
	}
	for _, stored := range r.store.Lanes() {
		i := t.index(stored.Name.Destination)
		if stored.Entries == 0 || i < 0 || !waitsForHub(stored.Name, t.routes[i]) || t.routes[i].Destination.Hub(stored.Name.Account) != "" { // that moves to its hub
			continue
		}
		if err := r.giveUpWaiting(ctx, stored, t.routes[i], now); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
	return nil
}

// giveUpWaiting makes dead letters of what has waited too long for an account to connect, or of the oldest of what is too much.
func (r *Router) giveUpWaiting(ctx context.Context, stored store.Lane, route *Route, now time.Time) error {
	give := tooMuchWaits(stored, route, now)
	if give.before.IsZero() || !stored.Oldest.Before(give.before) || r.lettersFull(route.Name, 0) {
		return nil
	}
	r.routing.Lock()
	defer r.routing.Unlock()
	r.joinTurn <- struct{}{} // nothing moves meanwhile
	defer func() { <-r.joinTurn }()
	after := store.BlockID(0)
	blocks, err := r.readBlocks(ctx, stored.ID, &after)
	if err != nil {
		return fmt.Errorf("read lane %s of %s: %w", stored.Name.Lane, stored.Name.Destination, err)
	}
	_, err = r.buryBlocks(ctx, stored, blocks, func(e *entry) *store.DeadLetter {
		if give.most--; give.most < 0 || !e.Event.Received.Before(give.before) {
			return nil
		}
		return unloadedLetter(stored.Name, e, give.reason, give.err, now)
	})
	if _, full := errors.AsType[*LettersFullError](err); full {
		return nil // when there is room
	}
	return err
}

// tooMuchWaits says what is to be given up of a lane that waits for its account: what was received before a time, which is zero for nothing.
func tooMuchWaits(stored store.Lane, route *Route, now time.Time) surrender {
	if over(stored, route.Lanes, now) {
		if limit := route.Lanes.MaxBytes; limit > 0 && stored.Bytes >= limit {
			return surrender{most: max(100, int(stored.Entries/10)), before: now.Add(time.Hour), err: errLaneFull, reason: reasonLaneFull}
		}
		return surrender{most: mostGivenUp, before: now.Add(-route.Lanes.MaxAge), err: errLaneFull, reason: reasonLaneFull}
	}
	give := surrender{most: mostGivenUp, reason: reasonUnknownAccount}
	if ttl := route.UnknownTTL; ttl > 0 && !stored.Oldest.IsZero() {
		give.before, give.err = now.Add(-ttl), fmt.Errorf("the account %s has not connected within %s (unknown_account_ttl): replay it when it has", stored.Name.Account, ttl)
	}
	return give
}

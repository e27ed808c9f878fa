package router

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

// giveUpWaiting makes dead letters of what has waited too long for an account to connect, or of the oldest of what is too much, also where they are at their bound: see withholds.
func (r *Router) giveUpWaiting(ctx context.Context, stored store.Lane, route *Route, now time.Time) error {
	give := tooMuchWaits(stored, route, now)
	if give.before.IsZero() || !stored.Oldest.Before(give.before) {
		return nil
	}
	r.routing <- struct{}{}
	defer func() { <-r.routing }()
	r.joinTurn <- struct{}{} // nothing moves meanwhile
	defer func() { <-r.joinTurn }()
	after := store.BlockID(0)
	blocks, err := r.readBlocks(ctx, stored.ID, &after)
	if err != nil {
		return fmt.Errorf("read lane %s of %s: %w", stored.Name.Lane, stored.Name.Destination, err)
	}
	_, err = r.buryBlocks(ctx, stored, blocks, false, func(e *entry) *store.DeadLetter {
		if give.most--; give.most < 0 || !e.cameBefore(give.before, blocks[0].ID) {
			return nil
		}
		return unloadedLetter(stored.Name, e, give.reason, give.err, now)
	})
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

// collectWaiting reports what waits for accounts that are not connected.
func (r *Router) collectWaiting(all []LaneStatus, gauge func(*prometheus.Desc, float64, ...string)) {
	t := r.table.Load()
	for _, route := range t.routes {
		if route.Connection == "" {
			continue
		}
		lanes, oldest := 0, 0.0
		for i := range all {
			if s := &all[i]; s.Name.Destination == route.Name && s.State == Blocked && waitsForHub(s.Name, route) {
				lanes++
				oldest = max(oldest, s.OldestSeconds)
			}
		}
		gauge(waitingLanes, float64(lanes), route.Name)
		gauge(waitingOldest, oldest, route.Name)
		gauge(waitingMost, route.UnknownTTL.Seconds(), route.Name)
	}
}

// tooManyUnknownError says that events of so many accounts that are not connected wait that those of another one do not.
type tooManyUnknownError struct {
	account string
	most    int
}

func (e *tooManyUnknownError) Error() string {
	return fmt.Sprintf("the account %s is not connected, and events of %d others wait already for that (unknown_accounts): replay it when the account has connected; does `account` name what it should?", e.account, e.most)
}

// waitFor notes that events wait for an account that is not connected; false: they are too many.
func (r *Router) waitFor(route *Route, key accountName) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[key] {
		return true
	}
	if route.UnknownAccounts > 0 && r.waitingFor[key.destination] >= route.UnknownAccounts {
		return false
	}
	r.noteWaitingLocked(key)
	return true
}

// noteWaitingLocked notes that the store may hold something for an account that is not connected.
func (r *Router) noteWaitingLocked(key accountName) {
	if !r.waiting[key] {
		r.waiting[key] = true
		r.waitingFor[key.destination]++
	}
}

func (r *Router) endWaitingLocked(key accountName) {
	if r.waiting[key] {
		delete(r.waiting, key)
		r.waitingFor[key.destination]--
	}
}

// dropUnknown deletes what is left of accounts that were waited for, where nothing waits any more: a server may name any number of them. It does nothing while somebody hands over to such.
func (r *Router) dropUnknown(ctx context.Context) error {
	t := r.table.Load()
	if !t.connected || !r.waitingUse.TryLock() {
		return nil
	}
	defer r.waitingUse.Unlock()
	r.joinTurn <- struct{}{}
	defer func() { <-r.joinTurn }()
	var empty []store.LaneID
	held := map[accountName]bool{} // something waits
	var keys []accountName
	for _, stored := range r.store.Lanes() {
		i := t.index(stored.Name.Destination)
		if i < 0 || !waitsForHub(stored.Name, t.routes[i]) {
			continue
		}
		key := accountName{stored.Name.Destination, "", stored.Name.Account}
		if stored.Entries > 0 {
			held[key] = true
		} else {
			empty, keys = append(empty, stored.ID), append(keys, key)
		}
	}
	for chunk := range slices.Chunk(empty, 1000) {
		if _, err := r.store.DropLanes(ctx, chunk); err != nil {
			return fmt.Errorf("delete lanes of accounts that are waited for no more: %w", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range keys {
		if !held[key] {
			r.endWaitingLocked(key)
		}
	}
	return nil
}

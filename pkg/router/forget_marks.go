package router

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"eventrouter/pkg/store"
)

// mark notes durably who is forgotten, between two batches of the sorter: what it sorts from then on it looks at, and what came before is in the lanes.
func (f *forgetting) mark(ctx context.Context) (err error) {
	// To read the memory of identities takes seconds, in which the sorter goes on. So it is read twice: what is taught during the second time, the sorter tells.
	if err := f.expand(ctx); err != nil {
		return err
	}
	known := len(f.person.all())
	if f.router != nil {
		f.router.mu.Lock()
		f.router.forgetting = f
		f.router.mu.Unlock()
		f.telling.Store(true)
		ids, err := f.store.ExpandPerson(ctx, f.named, mostForgotten)
		if err != nil {
			return err
		}
		f.person.learn(ids)
		f.readAgain.Store(f.readAgain.Load() || len(f.person.all()) > known)
	}
	mark := func() error {
		f.telling.Store(false)
		if f.readAgain.Load() { // this is rare
			ids, err := f.store.ExpandPerson(ctx, f.named, mostForgotten)
			if err != nil {
				return err
			}
			f.person.learn(ids)
		}
		f.marked = f.ends()
		return f.store.MarkForgotten(ctx, slices.Collect(maps.Keys(f.person.all())), f.marked)
	}
	if f.router == nil {
		return mark()
	}
	select {
	case err := <-f.router.betweenBatches(mark):
		return err
	case <-ctx.Done():
		return &ForgetWait{"the sorter", ctx.Err()}
	}
}

// letGo has the sorter teach nothing more to a call that has ended, and hold no ids for it.
func (f *forgetting) letGo() {
	f.router.mu.Lock()
	defer f.router.mu.Unlock()
	f.router.forgetting = nil
}

// expand finds all ids of the person.
func (f *forgetting) expand(ctx context.Context) error {
	ids, err := f.store.ExpandPerson(ctx, f.named, mostForgotten)
	if err == nil {
		f.person = newForgottenPerson(ids)
	}
	return err
}

// taught takes in an identity that the sorter is about to commit.
func (f *forgetting) taught(key identityKey, email string) {
	own, mail := store.PersonID{Kind: key.kind, APIKey: key.apiKey, Value: key.value}, store.PersonID{Kind: store.KindEmail, Value: strings.ToLower(email)}
	switch {
	case f.person.has(mail):
		if !f.person.has(own) {
			f.person.learn([]store.PersonID{own})
		}
	case slices.Contains(f.named, own), slices.Contains(f.named, store.PersonID{Kind: key.kind, Value: key.value}):
		f.readAgain.Store(true)
	}
}

// tellTaught tells whoever is being forgotten what is taught, until the marks are set.
func (r *Router) tellTaught(learned map[identityKey]store.Identity) {
	r.mu.Lock()
	f := r.forgetting
	r.mu.Unlock()
	if f == nil || !f.telling.Load() {
		return
	}
	for key, id := range learned {
		f.taught(key, id.Email)
	}
}

// learn takes in ids that the sorter found in events of the person.
func (f *forgetting) learn(ids []store.PersonID) {
	f.person.learn(ids)
}

// unmark ends it: nothing below the marks is left.
func (f *forgetting) unmark(ctx context.Context) error {
	n, err := f.store.EndForgotten(ctx, slices.Collect(maps.Keys(f.person.all())), f.marked)
	f.result.Identities += int64(n)
	return err
}

// markForgotten keeps ids that were learned of persons who are forgotten, before what else the batch does.
func (h *handover) markForgotten(ctx context.Context) error {
	if len(h.forgotten) == 0 {
		return nil
	}
	live, bulk := h.r.store.Forgets()
	ids := slices.Collect(maps.Keys(h.forgotten))
	if err := h.r.store.MarkForgotten(ctx, ids, store.Forgotten{At: h.now, Position: live, BulkPosition: bulk}); err != nil {
		return fmt.Errorf("mark who is forgotten: %w", err)
	}
	h.r.mu.Lock()
	f := h.r.forgetting
	h.r.mu.Unlock()
	if f != nil {
		f.learn(ids)
	}
	return nil
}

// dropMarks takes marks away that a call has left that did not finish, once nothing is left that was there when they were set.
func (r *Router) dropMarks(ctx context.Context) error {
	live, bulk := r.store.Forgets()
	if live == 0 && bulk == 0 || r.live.position.Load() < live || r.bulk != nil && r.bulk.position.Load() < bulk {
		return nil
	}
	for _, l := range r.store.Lanes() {
		if l.Entries > 0 {
			return nil
		}
	}
	select {
	case r.forgetTurn <- struct{}{}:
		defer func() { <-r.forgetTurn }()
	default:
		return nil
	}
	return r.store.DropForgotten(ctx)
}

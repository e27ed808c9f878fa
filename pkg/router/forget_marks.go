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
	if f.router == nil {
		if err := f.learnFromLogs(ctx); err != nil {
			return err
		}
	}
	known := len(f.person.all())
	if f.router != nil {
		f.router.mu.Lock()
		f.router.forgetting = f
		f.router.mu.Unlock()
		f.telling.Store(true)
		select { // a batch that was told of nobody may still be on its way to the disk
		case <-f.router.betweenBatches(func() error { return nil }):
		case <-ctx.Done():
			return &ForgetWait{"the sorter", ctx.Err()}
		}
		ids, err := f.store.ExpandPerson(ctx, f.named, mostForgotten)
		if err != nil {
			return err
		}
		f.person.learn(ids)
		if len(f.person.all()) > known { // else it stays what the sorter has told
			f.readAgain.Store(true)
		}
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
		if err := f.recollect(ctx); err != nil { // the sorter has gone by the marks until now
			return err
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
	if err != nil {
		return err
	}
	f.person = newForgottenPerson(ids)
	return f.recollect(ctx)
}

// recollect takes in the ids that the marks of an earlier call tell, which may have been found in events that are gone.
func (f *forgetting) recollect(ctx context.Context) error {
	memory := f.memory()
	for {
		known := f.person.all()
		with, err := f.store.ForgottenWith(ctx, slices.Collect(maps.Keys(known)))
		if err != nil {
			return err
		}
		with = slices.DeleteFunc(with, func(id store.PersonID) bool {
			now, ok := memory.identity(identityKey{id.APIKey, id.Kind, id.Value})
			return known[id] || ok && !f.person.has(store.PersonID{Kind: store.KindEmail, Value: strings.ToLower(now.Email)}) // it has become somebody else's
		})
		if len(with) == 0 {
			return nil
		}
		f.person.learn(with)
		for _, id := range with {
			if id.Kind == store.KindEmail {
				f.named = append(f.named, id)
			}
		}
		ids, err := f.store.ExpandPerson(ctx, f.named, mostForgotten)
		if err != nil {
			return err
		}
		f.person.learn(ids)
	}
}

// memory is that of identities as it is stored.
func (f *forgetting) memory() personMemory {
	return personMemory{stored: NewReader(f.store).storedIdentity, learned: map[identityKey]store.Identity{}}
}

// taught takes in an identity that the sorter is about to commit.
func (f *forgetting) taught(key identityKey, email string) {
	own, mail := store.PersonID{Kind: key.kind, APIKey: key.apiKey, Value: key.value}, store.PersonID{Kind: store.KindEmail, Value: strings.ToLower(email)}
	switch {
	case f.person.has(mail):
		if !f.person.has(own) {
			f.person.learn([]store.PersonID{own})
		}
	case slices.ContainsFunc(own.Names(), func(id store.PersonID) bool { return slices.Contains(f.named, id) }):
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

// has says whether a mark is of the person, and not of one whose forgetting has not finished. For the sorter, which has set the mark.
func (f *forgetting) has(mark store.Forgotten) bool {
	return f.marked.At.UnixMilli() == mark.At.UnixMilli()
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
	h.r.mu.Lock()
	f := h.r.forgetting
	h.r.mu.Unlock()
	for id, mark := range h.forgotten {
		if err := h.r.store.MarkForgotten(ctx, []store.PersonID{id}, mark); err != nil {
			return fmt.Errorf("mark who is forgotten: %w", err)
		}
		if f != nil && f.has(mark) {
			f.person.learn([]store.PersonID{id})
		}
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

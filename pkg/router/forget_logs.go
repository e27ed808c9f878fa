package router

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// files has the disk hold nothing of what was erased: neither the logs nor the database, between its rows and in the log beside it.
func (f *forgetting) files(ctx context.Context) error {
	for i, l := range f.logs {
		if err := f.eraseLog(ctx, i, l); err != nil {
			return err
		}
		erased, err := l.EraseKeptAside(func(piece []byte) bool { return f.person.may(piece, &f.scratch) })
		if err != nil {
			return fmt.Errorf("erase what was kept aside of damaged logs: %w", err)
		}
		f.result.KeptAside += int64(len(erased))
	}
	kept, err := f.store.EraseKeptAside()
	if err != nil {
		return err
	}
	f.result.KeptAside += int64(kept)
	// Scrub reads the file by pages, where what was deleted stands; what it cleans stands in the log beside it once more.
	for _, truncate := range []bool{true, false, true} {
		if !truncate {
			pages, err := f.store.Scrub(ctx)
			if err != nil {
				return err
			}
			f.result.Pages += pages
			continue
		}
		if err := f.store.Truncate(ctx); err != nil {
			if errors.Is(err, store.ErrReaders) {
				return &ForgetWait{"a program that has router.db open", err}
			}
			return err
		}
	}
	return nil
}

// eraseLog deletes the segments that may hold the person.
func (f *forgetting) eraseLog(ctx context.Context, i int, l *log.Log) error {
	end, err := l.Roll()
	if err != nil {
		return fmt.Errorf("begin a new segment of the log: %w", err)
	}
	if f.router == nil {
		return nil // rewritten
	}
	in := f.router.intakes()[i]
	err = f.await(ctx, func() string {
		if position := in.position.Load(); position < uint64(end) {
			return fmt.Sprintf("the sorter: %d records of the %s log", uint64(end)-position, in.name)
		}
		return ""
	})
	if err != nil {
		return err
	}
	if err := l.Erase(log.Offset(in.position.Load())); err != nil {
		return fmt.Errorf("erase the %s log: %w", in.name, err)
	}
	// The reader lets go of the file that it had open.
	f.router.betweenBatches(func() error { return nil })
	return nil
}

// rewriteLogs takes the person's events out of the logs, which nobody sorts.
func (f *forgetting) rewriteLogs(ctx context.Context) error {
	memory := personMemory{stored: NewReader(f.store).storedIdentity, learned: map[identityKey]store.Identity{}}
	has := hasID(func(id store.PersonID) bool { return f.person.has(id) })
	for i, l := range f.logs {
		position := f.store.Position()
		if i == 1 {
			position = uint64(BulkPosition(f.store))
		}
		if _, err := l.Roll(); err != nil {
			return fmt.Errorf("begin a new segment of the log: %w", err)
		}
		if err := l.Erase(log.Offset(position)); err != nil {
			return fmt.Errorf("erase what is sorted of the log: %w", err)
		}
		dropped, err := l.Rewrite(func(rec log.Record) (bool, error) {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			var ev event.Event
			if ev.Decode(rec.Data) != nil {
				return !f.person.names(string(rec.Data)), nil
			}
			ev.JSON = event.Normalize(ev.JSON)
			if !has.belongs(memory.lookUp(&ev)) {
				return true, nil
			}
			var ids []store.PersonID
			eventIDs(&ev, func(id store.PersonID, _ bool) bool {
				ids = append(ids, store.PersonID{Kind: id.Kind, APIKey: id.APIKey, Value: strings.Clone(id.Value)})
				return true
			})
			f.person.learn(ids)
			return false, nil
		})
		f.result.Logged += int64(dropped)
		if err != nil {
			return fmt.Errorf("rewrite the log: %w", err)
		}
	}
	return nil
}

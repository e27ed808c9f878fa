package router

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// eraseLogs has the logs hold nothing of the person.
func (f *forgetting) eraseLogs(ctx context.Context) error {
	for i, l := range f.logs {
		if err := f.eraseLog(ctx, i, l); err != nil {
			return err
		}
	}
	return nil
}

// eraseKeptAside deletes what was kept aside because of damage.
func (f *forgetting) eraseKeptAside(context.Context) error {
	for _, l := range f.logs {
		erased, err := l.EraseKeptAside(func(piece []byte) bool { return f.person.may(piece, &f.scratch) })
		if err != nil {
			return fmt.Errorf("erase what was kept aside of damaged logs: %w", err)
		}
		f.result.KeptAside += int64(len(erased))
	}
	kept, err := f.store.EraseKeptAside()
	f.result.KeptAside += int64(kept)
	return err
}

// truncate empties the log beside the database. It is done before scrub, which reads the file by pages, where what was deleted stands, and after it: what scrub cleans stands there
// once more.
func (f *forgetting) truncate(ctx context.Context) error {
	err := f.store.Truncate(ctx)
	if errors.Is(err, store.ErrReaders) {
		return &ForgetWait{"a program that has router.db open", err}
	}
	return err
}

// scrub cleans the database between its rows.
func (f *forgetting) scrub(ctx context.Context) error {
	pages, err := f.store.Scrub(ctx)
	f.result.Pages += pages
	return err
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

// unsortedFrom is where the sorter would go on in a log.
func (f *forgetting) unsortedFrom(i int) log.Offset {
	if i == 1 {
		return BulkPosition(f.store)
	}
	return log.Offset(f.store.Position())
}

// learnFromLogs finds the ids that only events in the logs tell, which nobody sorts. They are known before anything is taken out: a second call would not find them any more.
func (f *forgetting) learnFromLogs(ctx context.Context) error {
	memory := f.memory()
	for i, l := range f.logs {
		reader, err := l.NewReader(f.unsortedFrom(i))
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		for {
			records, err := reader.ReadBatch(handoverRecords)
			if err = errors.Join(err, ctx.Err()); err != nil || len(records) == 0 {
				if err = errors.Join(err, reader.Close()); err != nil {
					return fmt.Errorf("read the log: %w", err)
				}
				break
			}
			for _, rec := range records {
				f.learnFrom(rec, &memory)
			}
		}
	}
	return nil
}

func (f *forgetting) learnFrom(rec log.Record, memory *personMemory) {
	var ev event.Event
	if ev.Decode(rec.Data) != nil {
		return
	}
	ev.JSON = event.Normalize(ev.JSON)
	has := hasID(f.person.has)
	for _, version := range f.versions(&ev) {
		if !has.belongs(memory.lookUp(version)) {
			continue
		}
		emailKnown := false
		for id := range f.person.all() {
			emailKnown = emailKnown || id.Kind == store.KindEmail
		}
		if more := has.others(version, emailKnown, memory); len(more) > 0 {
			f.person.learn(more)
		}
	}
}

// versions are an event of a log, which nobody has sorted, as the routes would get it. Where a route can not say of which account it is, the event goes as it came: no route would get it.
func (f *forgetting) versions(ev *event.Event) []*event.Event {
	owners := make([]owner, len(f.routes))
	for i := range f.routes {
		owners[i] = f.routes[i].owner(ev, owners[:i])
	}
	return versions(nil, ev, owners)
}

// rewriteLogs takes the person's events out of the logs, which nobody sorts.
func (f *forgetting) rewriteLogs(ctx context.Context) error {
	memory := f.memory()
	for i, l := range f.logs {
		if _, err := l.Roll(); err != nil {
			return fmt.Errorf("begin a new segment of the log: %w", err)
		}
		if err := l.Erase(f.unsortedFrom(i)); err != nil {
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
			return !slices.ContainsFunc(f.versions(&ev), func(version *event.Event) bool { return hasID(f.person.has).belongs(memory.lookUp(version)) }), nil
		})
		f.result.Logged += int64(dropped)
		if err != nil {
			return fmt.Errorf("rewrite the log: %w", err)
		}
	}
	return nil
}

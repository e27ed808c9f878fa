package router

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"eventrouter/pkg/store"
)

// rows erases the person from all that the store keeps as rows.
func (f *forgetting) rows(ctx context.Context) error {
	for _, step := range []func(context.Context) error{f.kv, f.letters, f.outcomes, f.hashes, f.texts} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// kv erases what scripts keep. Nobody writes meanwhile what was made of it.
func (f *forgetting) kv(ctx context.Context) error {
	for destination := range f.store.KVUse() {
		if err := f.kvOf(ctx, destination); err != nil {
			return err
		}
	}
	return nil
}

func (f *forgetting) kvOf(ctx context.Context, destination string) error {
	if f.router != nil && !f.dry {
		turn := f.router.scripting(destination).kv
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
		case <-ctx.Done():
			return &ForgetWait{"scripts of " + destination, ctx.Err()}
		}
	}
	n, err := f.store.EraseKV(ctx, destination, f.person.names, f.dry)
	f.result.KV += n
	return err
}

// would is what becomes of a row: nothing in a dry run.
func (f *forgetting) would(what store.Erasing) store.Erasing {
	if f.dry {
		return store.Keep
	}
	return what
}

func (f *forgetting) letters(ctx context.Context) error {
	_, _, err := f.store.EraseDeadLetters(ctx, func(d *store.DeadLetter) store.Erasing {
		switch {
		case !f.cameBefore(d.Offset, d.Received):
			return store.Keep
		case f.letter(d):
			f.result.DeadLetters++
			f.result.in(d.Account)
			return f.would(store.Erase)
		}
		if f.person.names(string(d.Event)) || f.person.names(string(d.Original)) {
			f.result.Mentioned++
		}
		var changed bool
		if d.Error, changed = f.person.mask(d.Error); !changed {
			return store.Keep
		}
		f.result.Masked++
		return f.would(store.Masked)
	})
	return err
}

// letter says whether a dead letter is the person's. One that can not be read is if it names the person.
func (f *forgetting) letter(d *store.DeadLetter) bool {
	return f.person.isKey(scope(d.APIKey, d.Account), d.Person) || hasID(f.person.has).letter(d) || d.EventID == "" && d.APIKey == "" && f.person.names(string(d.Event))
}

func (f *forgetting) outcomes(ctx context.Context) error {
	_, _, unreadable, err := f.store.EraseOutcomes(ctx, func(o *store.Outcome) store.Erasing {
		if !f.cameBefore(o.Offset, o.Received) {
			return store.Keep
		}
		if f.person.isKey(scope(o.APIKey, o.Account), o.Person) {
			f.result.Outcomes++
			f.result.in(o.Account)
			return f.would(store.Erase)
		}
		changed := false
		for _, text := range []*string{&o.EventID, &o.EventType, &o.Reason, &o.Error} {
			masked, is := f.person.mask(*text)
			*text, changed = masked, changed || is
		}
		if detail, is := f.person.mask(string(o.Detail)); is {
			o.Detail, changed = json.RawMessage(detail), true
		}
		if !changed {
			return store.Keep
		}
		f.result.Masked++
		return f.would(store.Masked)
	})
	f.result.Unreadable += unreadable
	return err
}

// hashes erases what is known by hashes of the person's keys, of all lanes that there ever were.
func (f *forgetting) hashes(ctx context.Context) error {
	if f.dry {
		return nil
	}
	var known, memories []uint64
	values := map[string]bool{}
	for id := range f.person.all() {
		values[id.Value], values[strings.ToLower(id.Value)] = true, true
	}
	for _, l := range f.store.Lanes() {
		n := l.Name
		n.Lane = strings.TrimSuffix(n.Lane, bulkSuffix)
		for value := range values {
			known = append(known, f.store.Hash("key", n.Destination, n.Hub, n.Account, value), f.store.Hash("bulk key", n.Destination, n.Hub, n.Account, value))
			memories = append(memories, f.store.Hash("memory", n.Destination, n.Hub, n.Account, n.Lane, value))
		}
	}
	slices.Sort(known)
	slices.Sort(memories)
	k, m, err := f.store.EraseHashes(ctx, slices.Compact(known), slices.Compact(memories))
	f.result.KnownKeys, f.result.Memories = int64(k), int64(m)
	return err
}

func (f *forgetting) texts(ctx context.Context) error {
	if f.dry {
		return nil
	}
	holds, err := f.store.EraseHolds(ctx, func(key string) bool { return f.person.isKey("", key) || f.person.names(key) })
	f.result.Holds += holds
	if err != nil {
		return err
	}
	masked, err := f.store.MaskTexts(ctx, f.person.mask)
	f.result.Masked += masked
	return err
}

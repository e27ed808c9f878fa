package router

import (
	"context"
	"fmt"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// memoryHash names an ID of a lane among the store's memories.
func (l *lane) memoryHash(id string) uint64 {
	a := l.account
	return a.router.store.Hash("memory", a.route.Name, a.hub, a.name, l.spec.Name, id)
}

// recall gives the entries of a call what is remembered of their IDs. Their keys are busy, so nobody changes it until the call's outcomes are
// committed.
func (l *lane) recall(ctx context.Context, entries []*entry, batch []destinations.Entry) error {
	if !l.spec.Remembers {
		return nil
	}
	hashes := make([]uint64, 0, len(entries))
	index := make([]int, len(entries)) // by entry, into hashes; -1: none
	for i, e := range entries {
		switch {
		case e.Plan.ID == "":
			index[i] = -1
			continue
		case i == 0 || index[i-1] < 0 || entries[i-1].Plan.ID != e.Plan.ID:
			hashes = append(hashes, l.memoryHash(e.Plan.ID))
		}
		index[i] = len(hashes) - 1
		e.memory = hashes[index[i]]
	}
	found, err := l.account.router.store.Recall(ctx, hashes)
	if err != nil {
		return fmt.Errorf("read what is remembered: %w", err)
	}
	for i := range batch {
		if index[i] >= 0 {
			batch[i].Memory = found[index[i]]
		}
	}
	return nil
}

// remember keeps what a delivered entry leaves for the next one with its ID.
func (s *settlement) remember(e *entry, data []byte) {
	l := s.lane
	if data == nil || !l.spec.Remembers || e.Plan.ID == "" {
		return
	}
	if len(data) > destinations.MaxMemory {
		l.account.router.logger.Error("BUG: a destination wants too much remembered, which is left out",
			"destination", l.account.route.Name, "lane", l.spec.Name, "bytes", len(data), "at_most", destinations.MaxMemory)
		return
	}
	m := store.Memory{Hash: e.memory, Data: data}
	if n := len(s.batch.Memories); n > 0 && s.batch.Memories[n-1].Hash == m.Hash {
		s.batch.Memories[n-1] = m // of merged entries the last counts
		return
	}
	s.batch.Memories = append(s.batch.Memories, m)
}

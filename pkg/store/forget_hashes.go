package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"slices"
)

// erasedHashes are hashes of which a transaction erases what is kept of them.
type erasedHashes struct {
	known, memories map[uint64]bool
	knownRows       []hashRow
	memoryRows      []memoryRow
}

// EraseHashes erases hashes from those of known keys, and what is remembered under others, also what was replaced since. It returns how many were known, and how
// many memories there were.
func (s *Store) EraseHashes(ctx context.Context, known, memories []uint64) (knownErased, memoriesErased int, err error) {
	for _, h := range known {
		if ok, _ := s.Known(h); ok {
			knownErased++
		}
	}
	s.memories.index.mu.RLock()
	for _, h := range memories {
		if _, ok := s.memories.index.getLocked(h); ok {
			memoriesErased++
		}
	}
	s.memories.index.mu.RUnlock()
	err = s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
		e := &t.erased
		e.known, e.memories = withHashes(e.known, known), withHashes(e.memories, memories)
		return nil
	}})
	return knownErased, memoriesErased, err
}

func withHashes(set map[uint64]bool, hashes []uint64) map[uint64]bool {
	if set == nil {
		set = make(map[uint64]bool, len(hashes))
	}
	for _, h := range hashes {
		set[h] = true
	}
	return set
}

// eraseHashes is the database's part. It looks through all rows: 8 bytes for each known key, 14 for each memory. It comes behind what the transaction adds.
func (t *tx) eraseHashes() (err error) {
	c, e := t.s.w, &t.erased
	if len(e.known) > 0 {
		if e.knownRows, err = eraseKnown(c, e.known); err != nil {
			return err
		}
	}
	if len(e.memories) > 0 {
		e.memoryRows, err = eraseMemories(c, e.memories)
	}
	return err
}

func eraseKnown(c *conn, gone map[uint64]bool) (rows []hashRow, err error) {
	var sums []int64
	err = c.query(`SELECT id, hashes, bucket, began, mark FROM known`, func(row []driver.Value) error {
		old := toBytes(row[1])
		left := make([]byte, 0, len(old))
		for ; len(old) >= 8; old = old[8:] {
			if !gone[binary.LittleEndian.Uint64(old)] {
				left = append(left, old[:8]...)
			}
		}
		if len(left) < len(toBytes(row[1]))&^7 {
			rows = append(rows, hashRow{toInt(row[0]), left})
			sums = append(sums, hashesSum(toInt(row[0]), toInt(row[2]), toInt(row[3]), int(toInt(row[4])), left))
		}
		return nil
	})
	for i, r := range rows {
		if err == nil {
			err = c.exec(`UPDATE known SET hashes = ?, crc = ? WHERE id = ?`, r.hashes, sums[i], r.id)
		}
	}
	return rows, err
}

// eraseMemories writes those rows anew that have memories of these hashes. They keep their places, with other hashes and without what they said.
func eraseMemories(c *conn, gone map[uint64]bool) (rows []memoryRow, err error) {
	var ids []int64
	err = c.query(`SELECT id, heads FROM memories`, func(row []driver.Value) error {
		r := memoryRow{heads: toBytes(row[1])}
		for i := range r.count() {
			if hash, _, _ := r.head(i); gone[hash] {
				ids = append(ids, toInt(row[0]))
				return nil
			}
		}
		return nil
	})
	for _, id := range ids {
		if err != nil {
			break
		}
		r := memoryRow{id: id}
		if err = c.memoryRow(&r); err != nil || r.count() == 0 {
			continue
		}
		r = r.without(gone)
		rows = append(rows, r)
		err = c.putMemoryRow(&r)
	}
	return rows, err
}

// without is a row in which nothing stands of some hashes; what is there of others keeps its place.
func (r *memoryRow) without(gone map[uint64]bool) memoryRow {
	clean := memoryRow{id: r.id, heads: bytes.Clone(r.heads), data: bytes.Clone(r.data)}
	at := 0
	for i := range clean.count() {
		hash, _, size := clean.head(i)
		end := min(at+size, len(clean.data))
		if gone[hash] {
			clear(clean.heads[i*memoryHead : i*memoryHead+8])
			clear(clean.data[at:end])
		}
		at = end
	}
	return clean
}

// adoptErased is the memory's part.
func (t *tx) adoptErased() {
	e := &t.erased
	if len(e.known) > 0 {
		t.s.known.erase(e)
	}
	if len(e.memories) > 0 {
		t.s.memories.erase(e)
	}
}

func (w *window) erase(e *erasedHashes) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for h := range e.known {
		w.removeLocked(h)
	}
	for i := range w.tails {
		for _, r := range e.knownRows {
			if r.id == w.tails[i].id {
				w.tails[i].hashes = r.hashes
			}
		}
	}
}

func (m *memories) erase(e *erasedHashes) {
	m.index.mu.Lock()
	defer m.index.mu.Unlock()
	for h := range e.memories {
		if p, ok := m.index.getLocked(h); ok {
			m.index.removeLocked(h)
			m.live -= placeBytes(p)
		}
	}
	m.recent = slices.Clone(m.recent) // readers have what they found in it
	for i := range m.recent {
		for _, r := range e.memoryRows {
			if r.id == m.recent[i].id {
				m.recent[i] = r
			}
		}
	}
}

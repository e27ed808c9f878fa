package store

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	sqlite3 "modernc.org/sqlite/lib"
)

// placedMemory says where the memory of the ith hash is.
type placedMemory struct {
	i     int
	place uint64
}

// find looks the memories of some of hashes up. Those of recent rows go into found; the places of others are returned, by row.
func (m *memories) find(hashes []uint64, which []int, found [][]byte) (elsewhere []placedMemory) {
	m.index.mu.RLock()
	defer m.index.mu.RUnlock()
	for _, i := range which {
		p, ok := m.index.getLocked(hashes[i])
		if !ok {
			continue
		}
		if row := placeRow(p); len(m.recent) > 0 && row >= m.recent[0].id {
			found[i], _ = m.recent[row-m.recent[0].id].get(placeNumber(p), hashes[i])
			continue
		}
		elsewhere = append(elsewhere, placedMemory{i, p})
	}
	slices.SortFunc(elsewhere, func(a, b placedMemory) int { return cmp.Compare(a.place, b.place) })
	return elsewhere
}

// Recall returns what is remembered under each of hashes, nil where that is nothing. It is what Commits that returned have written, and must
// not be changed. What is damaged is left out, with a line in the log. A store that is open read-only remembers nothing.
func (s *Store) Recall(ctx context.Context, hashes []uint64) (found [][]byte, err error) {
	found = make([][]byte, len(hashes))
	which := make([]int, len(hashes))
	for i := range which {
		which[i] = i
	}
	// One may be moved between the look at the index and that at its row. When the row is gone the index is up to date.
	for range 4 {
		places := s.memories.find(hashes, which, found)
		if len(places) == 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		which = which[:0]
		err := s.read(func(c *conn) error {
			return c.snapshot(func() (err error) {
				which, err = s.readMemories(c, hashes, places, found)
				return err
			})
		})
		if err != nil {
			return nil, fmt.Errorf("recall: %w", err)
		}
	}
	for i := range found {
		if len(found[i]) == 0 {
			found[i] = nil
		}
	}
	return found, nil
}

// readMemories reads memories from their rows. It returns those whose row is not there.
func (s *Store) readMemories(c *conn, hashes []uint64, places []placedMemory, found [][]byte) (missing []int, err error) {
	row := memoryRow{}
	for _, p := range places {
		if id := placeRow(p.place); row.id != id {
			row = memoryRow{id: id}
			switch err := c.memoryRow(&row); {
			case errors.Is(err, ErrDamaged):
				s.tellDamaged(damagedMemories, err)
			case err != nil:
				return nil, err
			}
		}
		data, ok := row.get(placeNumber(p.place), hashes[p.i])
		if !ok {
			missing = append(missing, p.i)
		}
		found[p.i] = data
	}
	return missing, nil
}

// memoryRow reads a row whose id is set. One that is not there stays empty, and so does one that is damaged.
func (c *conn) memoryRow(row *memoryRow) error {
	damaged := false
	err := c.query(`SELECT crc, heads, data FROM memories WHERE id = ?`, func(r []driver.Value) error {
		read := memoryRow{id: row.id, heads: toBytes(r[1]), data: toBytes(r[2])}
		if crc := toInt(r[0]); crc == memorySealed {
			data, err := c.box.Open(nil, read.data, memoriesName(&read))
			if errors.Is(err, ErrKey) {
				return err
			}
			read.data, damaged = data, err != nil
		} else {
			damaged = int64(read.sum()) != crc
		}
		if !damaged {
			*row = read
		}
		return nil
	}, row.id)
	switch {
	case err == nil && damaged:
		return fmt.Errorf("%w: row %d of memories: checksum does not match", ErrDamaged, row.id)
	case code(err) == sqlite3.SQLITE_CORRUPT:
		return fmt.Errorf("%w: row %d of memories: %w", ErrDamaged, row.id, err)
	}
	return err
}

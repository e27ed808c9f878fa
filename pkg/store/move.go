package store

import (
	"context"
	"database/sql/driver"
	"fmt"
)

// MoveBlocks puts blocks of one lane into another, in one transaction, under the ids that they have: ids order what waits, so they leave before what came later to the lane. Nothing of
// them may have been sent. Blocks that are finished meanwhile are left out. Who moves them is the only one who does anything to them.
func (s *Store) MoveBlocks(ctx context.Context, from, to LaneID, blocks []StoredBlock) error {
	blobs := make([][]byte, len(blocks))
	bytes := 0
	for i := range blocks {
		blobs[i] = appendBlock(nil, blocks[i].Data, s.opts.uncompressed)
		bytes += len(blobs[i])
	}
	return s.submit(ctx, &request{bytes: bytes, done: make(chan struct{}), do: func(t *tx) error {
		for i := range blocks {
			if err := t.moveBlock(from, to, blocks[i].ID, len(blocks[i].Data), blobs[i]); err != nil {
				return fmt.Errorf("move block %d: %w", blocks[i].ID, err)
			}
		}
		return nil
	}})
}

// moveBlock writes a block anew: its checksum and its seal hold the lane.
func (t *tx) moveBlock(from, to LaneID, id BlockID, size int, blob []byte) error {
	c := t.s.w
	entries, bytes, finished := 0, int64(0), int64(0)
	err := c.query(`SELECT b.entries, b.bytes, p.finished FROM blocks b LEFT JOIN progress p ON p.block = b.id WHERE b.id = ? AND b.lane = ?`, func(row []driver.Value) error {
		entries, bytes, finished = int(toInt(row[0])), toInt(row[1]), toInt(row[2])
		return nil
	}, id, from)
	if err != nil || entries == 0 {
		return err // or finished meanwhile
	}
	out, err := t.lane(from)
	if err != nil {
		return err
	}
	in, err := t.lane(to)
	if err != nil {
		return err
	}
	blob = c.sealBlob(blob, blockName(id, to, entries))
	err = c.exec(`UPDATE blocks SET lane = ?, size = ?, bytes = ?, crc = ?, data = ? WHERE id = ?`, to, size, len(blob), int64(blockSum(id, to, entries, blob)), blob, id)
	if err != nil {
		return err
	}
	out.entries -= int64(entries) - finished
	in.entries += int64(entries) - finished
	out.bytes -= bytes
	in.bytes += int64(len(blob))
	out.removed, in.removed = true, true // the first block of either may be another one now
	return nil
}

// LastBlock is the greatest id of a lane's blocks; 0 where it has none.
func (s *Store) LastBlock(lane LaneID) (id BlockID, err error) {
	err = s.read(func(c *conn) error {
		n, err := c.queryInt(`SELECT max(id) FROM blocks WHERE lane = ?`, lane)
		id = BlockID(n)
		return err
	})
	return id, err
}

// Lane returns the lane called name, if there is one. It makes none.
func (s *Store) Lane(name LaneName) (Lane, bool) {
	s.lanesMu.RLock()
	defer s.lanesMu.RUnlock()
	id := s.byName[name]
	if id == 0 {
		return Lane{}, false
	}
	return s.lanes[id].Lane, true
}

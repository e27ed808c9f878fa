package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"
)

// Calls returns the calls that are marked and not done, in the order of their ids. At start these are the calls that were
// out when the last process ended.
func (s *Store) Calls() (calls []Call, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT id, lane, ambiguous, age, entries FROM calls ORDER BY id`, func(row []driver.Value) error {
			refs, err := parseRefs(toString(row[4]))
			if err != nil {
				return fmt.Errorf("%w: call %d: %w", ErrDamaged, toInt(row[0]), err)
			}
			calls = append(calls, Call{
				ID: CallID(toInt(row[0])), Lane: LaneID(toInt(row[1])), Ambiguous: toTime(row[2]), Entries: refs,
				Age: time.Duration(toInt(row[3])) * time.Millisecond,
			})
			return nil
		})
	})
	return calls, err
}

// BlockLanes says in which lanes the blocks of calls are; 0 for one that is not there any more.
func (s *Store) BlockLanes(calls []Call) (map[BlockID]LaneID, error) {
	lanes := map[BlockID]LaneID{}
	err := s.read(func(c *conn) error {
		for _, call := range calls {
			for _, ref := range call.Entries {
				if _, ok := lanes[ref.Block]; ok {
					continue
				}
				lane, err := c.queryInt(`SELECT lane FROM blocks WHERE id = ?`, ref.Block)
				if err != nil {
					return err
				}
				lanes[ref.Block] = LaneID(lane)
			}
		}
		return nil
	})
	return lanes, err
}

// Holds returns the holds, by lane and key.
func (s *Store) Holds() (holds []Hold, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT lane, key, until, sealed FROM holds ORDER BY lane, key`, func(row []driver.Value) error {
			h, err := c.rowHold(row)
			if err == nil {
				holds = append(holds, h)
			}
			return err
		})
	})
	return holds, err
}

// Retry returns the retry that is noted for an entry.
func (s *Store) Retry(ctx context.Context, ref Ref) (r Retry, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return Retry{}, false, err
	}
	err = s.read(func(c *conn) error {
		return c.query(`SELECT attempt, due, since, blocked, error, entry FROM retries WHERE block = ? AND entry = ?`, func(row []driver.Value) error {
			r, ok = c.rowRetry(ref.Block, row), true
			return nil
		}, ref.Block, ref.Index)
	})
	return r, ok, err
}

func (c *conn) rowHold(row []driver.Value) (h Hold, err error) {
	h = Hold{Lane: LaneID(toInt(row[0])), Key: toString(row[1]), Until: toTime(row[2])}
	if sealed := toBytes(row[3]); sealed != nil {
		texts, err := c.openTexts(sealed, holdName(h.Lane, toBytes(row[1])), 1)
		if err != nil {
			return h, fmt.Errorf("hold of lane %d: %w", h.Lane, unopened(err))
		}
		h.Key = texts[0]
	}
	return h, nil
}

// holdColumns are the columns key and sealed of a hold.
func (c *conn) holdColumns(h *Hold) (key, sealed any) {
	key = c.hashed("hold", h.Key)
	if hash, ok := key.([]byte); ok {
		sealed = c.sealTexts(holdName(h.Lane, hash), h.Key)
	}
	return key, sealed
}

func (c *conn) rowRetry(block BlockID, row []driver.Value) Retry {
	return Retry{
		Ref:     Ref{Block: block, Index: int(toInt(row[5]))},
		Attempt: int(toInt(row[0])),
		Due:     toTime(row[1]),
		Since:   toTime(row[2]),
		Blocked: time.Duration(toInt(row[3])) * time.Millisecond,
		Error:   c.openNote(row[4], retryName(block, toInt(row[5]))),
	}
}

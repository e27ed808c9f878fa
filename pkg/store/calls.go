package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"
)

// Calls returns the calls that are marked and not done, in the order of their ids. At start these are the calls that were
// out when the last process ended. One that is damaged is left out: its entries are as those that wait.
func (s *Store) Calls() (calls []Call, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT id, lane, ambiguous, age, entries FROM calls ORDER BY id`, func(row []driver.Value) error {
			refs, err := parseRefs(toString(row[4]))
			if err != nil {
				s.tellDamaged(damagedCalls, fmt.Errorf("call %d: %w", toInt(row[0]), err))
				return nil
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

// Holds returns the holds, by lane and key. One that is damaged is left out.
func (s *Store) Holds() (holds []Hold, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT lane, key, until, sealed, sum FROM holds ORDER BY lane, key`, func(row []driver.Value) error {
			h, err := c.rowHold(row)
			switch {
			case err == nil:
				holds = append(holds, h)
			case s.isDamage(err):
				s.tellDamaged(damagedHolds, err)
				err = nil
			}
			return err
		})
	})
	return holds, err
}

// Held says whether a lane has holds that are not over by now.
func (s *Store) Held(lane LaneID, now time.Time) (held bool, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT 1 FROM holds WHERE lane = ? AND until > ? LIMIT 1`, func([]driver.Value) error {
			held = true
			return nil
		}, lane, now)
	})
	return held, err
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
	} else if sumDiffers(row[4], holdSum(&h)) {
		return h, fmt.Errorf("hold of lane %d: %w", h.Lane, errSum)
	}
	return h, nil
}

// holdColumns are the columns key, sealed and sum of a hold.
func (c *conn) holdColumns(h *Hold) (key, sealed, sum any) {
	key = c.hashed("hold", h.Key)
	if hash, ok := key.([]byte); ok {
		return key, c.sealTexts(holdName(h.Lane, hash), h.Key), nil
	}
	return key, nil, holdSum(h)
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

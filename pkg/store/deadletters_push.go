package store

import (
	"context"
	"database/sql/driver"
)

// mostPushed is how many accounts with nothing but letters that are to be replayed are passed over.
const mostPushed = 100

// PushOutDeadLetters deletes some of the letters of the account that has most of a destination's, the oldest first, while they take most bytes or more: no more than until another
// account has as many, and none that are to be replayed. Each leaves an outcome. It returns whose they were, and how many; 0: nothing is to be done, or can be.
func (s *Store) PushOutDeadLetters(ctx context.Context, destination string, most int64) (account string, pushed int64, err error) {
	excess := s.DeadLetterBytes(destination) - most + 1
	if excess <= 0 {
		return "", 0, nil
	}
	ids, account, err := s.lettersOfMost(destination, excess)
	if err != nil || len(ids) == 0 {
		return "", 0, err
	}
	pushed, _, err = s.dropEach(ctx, ids, droppedPushed, ` AND id NOT IN (SELECT letter FROM replays WHERE how <> '')`)
	return account, pushed, err
}

// lettersOfMost finds the oldest letters, of so many bytes, of the account that has most; fewer where it would no longer have most.
func (s *Store) lettersOfMost(destination string, excess int64) (ids []int64, account string, err error) {
	type use struct {
		account string
		bytes   int64
	}
	err = s.read(func(c *conn) error {
		var all []use
		err := c.query(`SELECT account, bytes FROM dead_letter_accounts WHERE destination = ? ORDER BY bytes DESC LIMIT ?+0`, func(row []driver.Value) error {
			all = append(all, use{toString(row[0]), toInt(row[1])})
			return nil
		}, destination, mostPushed)
		for i := 0; i < len(all) && err == nil && len(ids) == 0; i++ {
			account = all[i].account
			if next := i + 1; next < len(all) {
				excess = min(excess, max(1, all[i].bytes-all[next].bytes))
			}
			bytes := int64(0)
			err = c.query(`SELECT d.id, coalesce(length(event), 0) + coalesce(length(original), 0) + length(CAST(error AS BLOB)) FROM dead_letters d LEFT JOIN replays ON letter = d.id
				WHERE d.destination = ? AND account = ? AND coalesce(how, '') = '' ORDER BY d.id LIMIT ?+0`, func(row []driver.Value) error {
				if bytes < min(excess, letterBytesPerStep) {
					ids = append(ids, toInt(row[0]))
				}
				bytes += toInt(row[1])
				return nil
			}, destination, account, lettersPerStep)
		}
		return err
	})
	return ids, account, err
}

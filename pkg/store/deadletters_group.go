package store

import (
	"context"
	"database/sql/driver"
	"time"
)

// DeadLetterGroup is how many dead letters one destination has of one day for one reason.
type DeadLetterGroup struct {
	Destination string
	Reason      string
	Day         time.Time // its beginning, UTC
	Letters     int64
	Marked      int64 // that are to be replayed
}

// GroupDeadLetters counts what q finds, whatever its Limit, by destination, reason and day, in that order.
func (s *Store) GroupDeadLetters(ctx context.Context, q DeadLetterQuery) (groups []DeadLetterGroup, err error) {
	where, args := q.conditions(s.lookup)
	const day = 24 * time.Hour / time.Millisecond
	sql := `SELECT d.destination, d.reason, d.at / ? AS day, count(*), count(nullif(r.how, ''))` + q.from() + `WHERE ` + where +
		` GROUP BY d.destination, d.reason, day ORDER BY d.destination, d.reason, day`
	err = s.read(func(c *conn) error {
		return c.queryOnce(sql, func(row []driver.Value) error {
			groups = append(groups, DeadLetterGroup{
				toString(row[0]), toString(row[1]), time.UnixMilli(toInt(row[2]) * int64(day)).UTC(), toInt(row[3]), toInt(row[4]),
			})
			return ctx.Err()
		}, append([]any{int64(day)}, args...)...)
	})
	return groups, err
}

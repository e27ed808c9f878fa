package store

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"slices"
	"time"
)

// lettersPerRead is how many ids of letters are looked at in one go: meanwhile others wait for the connection, and the write-ahead log can not begin anew.
const lettersPerRead = 50_000

// scans says whether no index leads to what q finds, so that all letters, or those of a destination, have to be looked at.
func (q *DeadLetterQuery) scans() bool {
	if q.IDs != nil || q.EventID != "" || q.Person != "" || q.Marked {
		return false
	}
	return q.Hub+q.Account+q.Lane+q.APIKey+q.EventType != "" || q.Destination == "" && q.Reason != "" || !q.Since.IsZero() || !q.Until.IsZero()
}

// queryLetters calls each with columns of what q finds from its Past on, most of them. Where it has to scan it does so some ids at a time.
func (s *Store) queryLetters(ctx context.Context, q *DeadLetterQuery, columns string, most int, each func(*conn, []driver.Value) error) error {
	where, args := q.conditions(s.lookup)
	sql := columns + q.from() + `WHERE ` + where
	if !q.scans() {
		return s.read(func(c *conn) error {
			return c.queryOnce(sql+q.page(most), func(row []driver.Value) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				return each(c, row)
			}, args...)
		})
	}
	part := *q
	part.Past = 0 // the bounds say it
	return s.eachPart(ctx, q.Past, q.OldestFirst, func(c *conn, from, to int64) (more bool, err error) {
		err = c.queryOnce(sql+` AND d.id >= ? AND d.id <= ?`+part.page(most), func(row []driver.Value) error {
			most--
			return each(c, row)
		}, append(args[:len(args):len(args)], from, to)...)
		return most > 0, err
	})
}

// eachPart calls do with ranges of ids in which there are letters, from past on in one order or the other, while it wants more. Each has a connection for itself.
func (s *Store) eachPart(ctx context.Context, past int64, oldestFirst bool, do func(c *conn, from, to int64) (more bool, err error)) error {
	next := `SELECT id FROM dead_letters WHERE id > ? ORDER BY id LIMIT 1` // ids may have large gaps
	if !oldestFirst {
		next = `SELECT id FROM dead_letters WHERE id < ? ORDER BY id DESC LIMIT 1`
		if past == 0 {
			past = math.MaxInt64
		}
	}
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.read(func(c *conn) error {
			id, err := c.queryInt(next, past)
			if more = err == nil && id != 0; !more {
				return err
			}
			from, to := id, id+lettersPerRead-1
			past = to
			if !oldestFirst {
				from, to = max(id-lettersPerRead+1, 1), id
				past = from
			}
			more, err = do(c, from, to)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// DeadLetterGroup is how many dead letters one destination has of one day for one reason.
type DeadLetterGroup struct {
	Destination string
	Reason      string
	Day         time.Time // its beginning, UTC
	Letters     int64
	Marked      int64 // that are to be replayed
}

// GroupDeadLetters counts what q finds, whatever its Limit, by destination, reason and day, in that order. It takes seconds for some million letters.
func (s *Store) GroupDeadLetters(ctx context.Context, q DeadLetterQuery) (groups []DeadLetterGroup, err error) {
	type group struct {
		destination, reason string
		day                 int64
	}
	where, args := q.conditions(s.lookup)
	const day = 24 * time.Hour / time.Millisecond
	sql := fmt.Sprintf(`SELECT d.destination, d.reason, d.at / %d AS day, count(*), count(nullif(r.how, ''))`, int64(day)) + q.from() + `WHERE ` + where +
		` AND d.id >= ? AND d.id <= ? GROUP BY d.destination, d.reason, day`
	counts := map[group]*DeadLetterGroup{}
	err = s.eachPart(ctx, 0, true, func(c *conn, from, to int64) (more bool, err error) {
		return true, c.queryOnce(sql, func(row []driver.Value) error {
			of := group{toString(row[0]), toString(row[1]), toInt(row[2])}
			if counts[of] == nil {
				counts[of] = &DeadLetterGroup{Destination: of.destination, Reason: of.reason, Day: time.UnixMilli(of.day * int64(day)).UTC()}
			}
			counts[of].Letters += toInt(row[3])
			counts[of].Marked += toInt(row[4])
			return nil
		}, append(args[:len(args):len(args)], from, to)...)
	})
	for _, g := range counts {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b DeadLetterGroup) int {
		return cmp.Or(cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Reason, b.Reason), a.Day.Compare(b.Day))
	})
	return groups, err
}

// DeadLetterSummary is what a query finds, counted.
type DeadLetterSummary struct {
	Letters int64
	Bytes   int64     // of their records and errors
	Oldest  time.Time // At of the oldest; zero when there are none
	Marked  int64     // that are to be replayed
}

// SummarizeDeadLetters counts what q finds, whatever its Limit. It takes about a second for some million letters.
func (s *Store) SummarizeDeadLetters(ctx context.Context, q DeadLetterQuery) (sum DeadLetterSummary, err error) {
	q.OldestFirst = true
	where, args := q.conditions(s.lookup)
	sql := `SELECT count(*), sum(coalesce(length(event), 0) + coalesce(length(original), 0) + length(CAST(error AS BLOB))), min(at), count(nullif(r.how, ''))` +
		q.from() + `WHERE ` + where + ` AND d.id >= ? AND d.id <= ?`
	err = s.eachPart(ctx, q.Past, true, func(c *conn, from, to int64) (more bool, err error) {
		return true, c.queryOnce(sql, func(row []driver.Value) error {
			sum.Letters += toInt(row[0])
			sum.Bytes += toInt(row[1])
			sum.Marked += toInt(row[3])
			if at := toTime(row[2]); sum.Oldest.IsZero() || !at.IsZero() && at.Before(sum.Oldest) {
				sum.Oldest = at
			}
			return nil
		}, append(args[:len(args):len(args)], from, to)...)
	})
	return sum, err
}

package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// DeadLetterQuery selects dead letters. The zero value asks for the newest 100, without bodies.
type DeadLetterQuery struct {
	IDs         []int64 // nil for all
	Destination string  // "" for all; likewise below
	Hub         string
	Account     string
	Lane        string
	APIKey      string
	Reason      string
	EventID     string
	EventType   string
	Person      string    // the lane key or e-mail, in any case of letters
	Since       time.Time // At, from then on; zero for all
	Until       time.Time // At, before then; zero for all
	Marked      bool      // only those that are to be replayed
	Past        int64     // only those behind the one with this id, in the order asked for; 0: from the start
	OldestFirst bool
	Bodies      bool // with Event and Original
	Limit       int  // 0: 100
}

// DeadLetters returns dead letters. With bodies, one whose body does not match its checksum gives an ErrDamaged that names it,
// together with those before it.
func (s *Store) DeadLetters(ctx context.Context, q DeadLetterQuery) (letters []DeadLetter, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	const columns = `SELECT id, destination, hub, account, lane, log_offset, output, api_key, event_id, event_type, person,
		received, at, attempts, reason, error`
	sql := columns
	if q.Bodies {
		sql += `, crc, event, original`
	}
	sql += ` FROM dead_letters WHERE (?1 = '' OR destination = ?1) AND (?2 = '' OR reason = ?2)`
	if q.EventID != "" {
		sql += ` AND event_id = ?3`
	} else {
		sql += ` AND ?3 = ''`
	}
	if q.OldestFirst {
		sql += ` AND id > ?4 ORDER BY id LIMIT ?5`
	} else {
		sql += ` AND (?4 = 0 OR id < ?4) ORDER BY id DESC LIMIT ?5`
	}
	err = s.read(func(c *conn) error {
		return c.query(sql, func(row []driver.Value) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			letter, err := rowDeadLetter(row)
			if err == nil {
				letters = append(letters, letter)
			}
			return err
		}, q.Destination, q.Reason, q.EventID, q.Past, q.Limit)
	})
	return letters, err
}

func rowDeadLetter(row []driver.Value) (DeadLetter, error) {
	d := DeadLetter{
		ID:          toInt(row[0]),
		Destination: toString(row[1]), Hub: toString(row[2]), Account: toString(row[3]), Lane: toString(row[4]),
		Offset: uint64(toInt(row[5])), Index: int(toInt(row[6])),
		APIKey: toString(row[7]), EventID: toString(row[8]), EventType: toString(row[9]), Person: toString(row[10]),
		Received: toTime(row[11]), At: toTime(row[12]), Attempts: int(toInt(row[13])),
		Reason: toString(row[14]), Error: toString(row[15]),
	}
	if len(row) > 16 {
		d.Event, d.Original = toBytes(row[17]), toBytes(row[18])
		if letterSum(d.Event, d.Original) != uint32(toInt(row[16])) {
			return d, fmt.Errorf("%w: dead letter %d: checksum does not match", ErrDamaged, d.ID)
		}
	}
	return d, nil
}

// DeadLetterCounts returns how many dead letters there are, by destination and reason.
func (s *Store) DeadLetterCounts() (map[[2]string]int64, error) {
	counts := make(map[[2]string]int64)
	err := s.read(func(c *conn) error {
		return c.query(`SELECT destination, reason, count(*) FROM dead_letters GROUP BY destination, reason`, func(row []driver.Value) error {
			counts[[2]string{toString(row[0]), toString(row[1])}] = toInt(row[2])
			return nil
		})
	})
	return counts, err
}

func (t *tx) putDeadLetters(letters []DeadLetter) error {
	for i := range letters {
		d := &letters[i]
		err := t.s.w.exec(`INSERT INTO dead_letters (destination, hub, account, lane, log_offset, output, api_key, event_id, event_type, person,
			received, at, attempts, reason, error, crc, event, original) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			d.Destination, d.Hub, d.Account, d.Lane, d.Offset, d.Index, d.APIKey, d.EventID, d.EventType, d.Person,
			d.Received, d.At, d.Attempts, d.Reason, cut(d.Error, 2000), int64(letterSum(d.Event, d.Original)), d.Event, d.Original)
		if err != nil {
			return err
		}
	}
	return nil
}

// DeadLetterSummary is what a query finds, counted.
type DeadLetterSummary struct {
	Letters int64
	Bytes   int64     // of their records
	Oldest  time.Time // At of the oldest; zero when there are none
	Marked  int64     // that are to be replayed
}

// SummarizeDeadLetters counts what q finds, whatever its Limit.
func (s *Store) SummarizeDeadLetters(ctx context.Context, q DeadLetterQuery) (DeadLetterSummary, error) {
	return DeadLetterSummary{}, errors.ErrUnsupported
}

// MarkReplay marks what q finds, all of it with a Limit of 0, to be sent again; the router does so in the background, also after a restart. It returns how many
// there are now that were not marked before. On return that is on disk.
func (s *Store) MarkReplay(ctx context.Context, q DeadLetterQuery, how Replay) (marked int64, err error) {
	return 0, errors.ErrUnsupported
}

// UnmarkReplay takes the marks of what q finds away, and returns how many there were.
func (s *Store) UnmarkReplay(ctx context.Context, q DeadLetterQuery) (unmarked int64, err error) {
	return 0, errors.ErrUnsupported
}

// DropDeadLetters deletes what q finds, all of it with a Limit of 0, and returns how many that were.
func (s *Store) DropDeadLetters(ctx context.Context, q DeadLetterQuery) (dropped int64, err error) {
	return 0, errors.ErrUnsupported
}

// EditDeadLetter replaces the records of a dead letter that is not marked.
func (s *Store) EditDeadLetter(ctx context.Context, id int64, event, original []byte) error {
	return errors.ErrUnsupported
}

// ImportDeadLetters puts letters back that an export took out, under new ids. Those of which the store has the same output with the same time and reason
// are left out.
func (s *Store) ImportDeadLetters(ctx context.Context, letters []DeadLetter) (added int64, err error) {
	return 0, errors.ErrUnsupported
}

// RecordExport notes an export. On return that is on disk.
func (s *Store) RecordExport(ctx context.Context, e Export) error {
	return errors.ErrUnsupported
}

// Exports returns the exports that were noted, oldest first.
func (s *Store) Exports(ctx context.Context) ([]Export, error) {
	return nil, errors.ErrUnsupported
}

package store

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"
)

// OutcomeQuery asks for outcomes of an event or of a person.
type OutcomeQuery struct {
	EventID string
	Person  string // if there is no EventID; in any case of letters
	APIKey  string // only those of this API key; "": of all
	Account string // only those of this customer's account; "": of all
	Except  Status // but for those of this status; "": all
	Limit   int    // 0: 100
}

func (q *OutcomeQuery) matches(o *Outcome) bool {
	if q.APIKey != "" && q.APIKey != o.APIKey || q.Account != "" && q.Account != o.Account || q.Except != "" && q.Except == o.Status {
		return false
	}
	if q.EventID != "" {
		return q.EventID == o.EventID
	}
	return strings.EqualFold(q.Person, o.Person)
}

func (s *Store) outcomeHash(q OutcomeQuery) uint64 {
	if q.EventID != "" {
		return s.Hash("outcome", "event", cut(q.EventID, MaxOutcomeText))
	}
	return s.Hash("outcome", "person", strings.ToLower(cut(q.Person, MaxOutcomeText)))
}

// spansPerRead is how many rows of the index are looked through in one go: meanwhile others wait for the connection.
const spansPerRead = 256

// Outcomes returns what became of an event's outputs, or of a person's, newest first. What is damaged is left out: with what it has found it returns an ErrDamaged
// that says how much that is.
func (s *Store) Outcomes(ctx context.Context, q OutcomeQuery) (found []Outcome, err error) {
	if q.EventID == "" && q.Person == "" {
		return nil, errors.New("outcomes: neither an event id nor a person is asked for")
	}
	if q.Limit <= 0 {
		q.Limit = 100
	}
	want := s.outcomeHash(q)
	var damage outcomeDamage
	for before := int64(math.MaxInt64); before > 0 && len(found) < q.Limit; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := s.read(func(c *conn) error {
			return c.snapshot(func() (err error) {
				var rows []int64
				if rows, before, err = s.findOutcomes(c, want, before, &damage); err != nil {
					return err
				}
				for _, id := range rows {
					if len(found) >= q.Limit {
						return nil
					}
					if err := ctx.Err(); err != nil {
						return err
					}
					if found, err = s.readOutcomes(c, id, &q, found, &damage); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return nil, fmt.Errorf("read outcomes: %w", err)
		}
	}
	return found, damage.err()
}

// outcomeDamage is what one search met that can not be read.
type outcomeDamage struct {
	spans    int   // rows of the index
	rows     int   // of outcomes that have some of the event or person
	outcomes int64 // in those
}

func (d *outcomeDamage) err() error {
	switch {
	case d.rows > 0:
		return fmt.Errorf("%w: %d outcomes can not be read, among them some of this", ErrDamaged, d.outcomes)
	case d.spans > 0:
		return fmt.Errorf("%w: %d parts of the index of outcomes can not be read: what they lead to is not found", ErrDamaged, d.spans)
	}
	return nil
}

// findOutcomes looks through rows of the index before one, newest first, for a hash. It returns the rows of outcomes that have it, and the last row
// that it looked at, 0 if there are no more.
func (s *Store) findOutcomes(c *conn, want uint64, before int64, damage *outcomeDamage) (rows []int64, last int64, err error) {
	err = c.query(`SELECT id, crc, sizes, hashes FROM outcome_index WHERE id < ? ORDER BY id DESC LIMIT ?`, func(row []driver.Value) error {
		sp := outcomeSpan{id: toInt(row[0]), sizes: toBytes(row[2]), hashes: toBytes(row[3])}
		last = sp.id
		if int64(sp.sum()) != toInt(row[1]) {
			damage.spans++
			s.tellDamaged(damagedOutcomes, fmt.Errorf("index, row %d: %w", sp.id, errSum))
			return nil
		}
		rows = sp.find(want, rows)
		return nil
	}, before, spansPerRead)
	return rows, last, err
}

// find appends the rows of outcomes that have a hash, newest first.
func (sp *outcomeSpan) find(want uint64, rows []int64) []int64 {
	from := len(rows)
	end := 0 // of the hashes of the rows up to the one in hand
	row := sp.id - 1
	sizes := sp.sizes
	for i := 0; i+8 <= len(sp.hashes); i += 8 {
		if binary.LittleEndian.Uint64(sp.hashes[i:]) != want {
			continue
		}
		for end <= i {
			size, n := binary.Uvarint(sizes)
			if n <= 0 {
				return rows
			}
			sizes = sizes[n:]
			end += int(min(size, uint64(len(sp.hashes)))) * 8
			row++
		}
		if len(rows) == from || rows[len(rows)-1] != row {
			rows = append(rows, row)
		}
	}
	slices.Reverse(rows[from:])
	return rows
}

// readOutcomes appends those of a row that match, newest first.
func (s *Store) readOutcomes(c *conn, id int64, q *OutcomeQuery, found []Outcome, damage *outcomeDamage) ([]Outcome, error) {
	var all []Outcome
	count := int64(1)
	err := c.query(`SELECT count, size, crc, data FROM outcomes WHERE id = ?`, func(row []driver.Value) (err error) {
		blob := toBytes(row[3])
		count = toInt(row[0])
		if outcomesSum(id, int(toInt(row[0])), blob) != uint32(toInt(row[2])) {
			err = errors.New("checksum does not match")
		} else if blob, err = c.openBlob(blob, outcomesName(id, int(toInt(row[0])))); err != nil && !s.isDamage(err) && errors.Is(err, ErrKey) {
			return err
		} else if err != nil {
		} else if blob, err = openBlock(blob, int(toInt(row[1]))); err == nil {
			all, err = decodeOutcomes(blob)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return nil
	}, id)
	if code(err) == sqlite3.SQLITE_CORRUPT || errors.Is(err, ErrDamaged) {
		damage.rows++
		damage.outcomes += max(count, 1)
		s.tellDamaged(damagedOutcomes, fmt.Errorf("row %d of %d outcomes: %w", id, count, err))
		return found, nil
	}
	for i := len(all) - 1; i >= 0 && len(found) < q.Limit; i-- {
		if q.matches(&all[i]) {
			found = append(found, all[i])
		}
	}
	return found, err
}

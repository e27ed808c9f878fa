package store

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
)

// Erasing says what is to become of an outcome, or of another row, that may hold something of a person.
type Erasing uint8

// What becomes of a row.
const (
	Keep   Erasing = iota // it has nothing of the person
	Masked                // it has been changed, so that it has nothing any more
	Erase                 // it goes
)

// outcomeEdit is a row of outcomes that is written anew with fewer of them.
type outcomeEdit struct {
	id     int64
	was    int // how many it had
	count  int
	raw    int
	blob   []byte
	hashes []byte
}

// outcomeRowsPerRead is how many rows of outcomes are looked at in one go, and rewritten in one transaction at most.
const outcomeRowsPerRead = 32

// EraseOutcomes looks at all outcomes, oldest first, and writes those rows anew of which edit, which may change an outcome, does not keep all as they are. Commits
// go on meanwhile; what they add may be looked at or not. It returns how many outcomes were erased and masked. Rows that can not be read stay, and are counted.
func (s *Store) EraseOutcomes(ctx context.Context, edit func(*Outcome) Erasing) (erased, masked, unreadable int64, err error) {
	for after, more := int64(0), true; more; {
		if err := ctx.Err(); err != nil {
			return erased, masked, unreadable, err
		}
		var edits []outcomeEdit
		more = false
		err := s.read(func(c *conn) error {
			return c.query(`SELECT id, count, size, crc, data FROM outcomes WHERE id > ? ORDER BY id LIMIT ?`, func(row []driver.Value) error {
				more, after = true, toInt(row[0])
				all, err := c.openOutcomes(row)
				if errors.Is(err, ErrKey) {
					return err
				}
				if err != nil {
					unreadable++
					return nil
				}
				e, m := 0, 0
				kept := all[:0]
				for i := range all {
					switch edit(&all[i]) {
					case Erase:
						e++
						continue
					case Masked:
						m++
					case Keep:
					}
					kept = append(kept, all[i])
				}
				if e+m > 0 {
					edits = append(edits, s.outcomeEdit(after, int(toInt(row[1])), kept))
					erased, masked = erased+int64(e), masked+int64(m)
				}
				return nil
			}, after, outcomeRowsPerRead)
		})
		if err == nil && len(edits) > 0 {
			err = s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
				t.outcomeEdits = append(t.outcomeEdits, edits...)
				return nil
			}})
		}
		if err != nil {
			return erased, masked, unreadable, fmt.Errorf("erase outcomes: %w", err)
		}
	}
	return erased, masked, unreadable, nil
}

// openOutcomes are the outcomes of a row: id, count, size, crc, data.
func (c *conn) openOutcomes(row []driver.Value) ([]Outcome, error) {
	blob := toBytes(row[4])
	if outcomesSum(toInt(row[0]), int(toInt(row[1])), blob) != uint32(toInt(row[3])) {
		return nil, errors.New("checksum does not match")
	}
	blob, err := c.openBlob(blob, outcomesName(toInt(row[0]), int(toInt(row[1]))))
	if err != nil {
		return nil, err
	}
	data, err := openBlock(blob, int(toInt(row[2])))
	if err != nil {
		return nil, err
	}
	return decodeOutcomes(data)
}

func (s *Store) outcomeEdit(id int64, was int, kept []Outcome) outcomeEdit {
	data := appendOutcomes(nil, kept)
	return outcomeEdit{
		id: id, was: was, count: len(kept), raw: len(data), blob: appendBlock(nil, data, s.opts.uncompressed), hashes: s.outcomeHashes(nil, kept),
	}
}

// edit is the database's part of an edit. A row that is not there any more is left alone: it has expired. Nobody else changes what a row says, but it may be
// sealed with another key meanwhile: its checksum may be another one.
func (o *outcomes) edit(c *conn, st *outcomeStep, e *outcomeEdit) error {
	found, before := false, int64(0)
	var oldBytes int64
	err := c.query(`SELECT count, length(data) FROM outcomes WHERE id = ?`, func(row []driver.Value) error {
		found, before, oldBytes = int(toInt(row[0])) == e.was, toInt(row[0]), toInt(row[1])
		return nil
	}, e.id)
	if err != nil || !found {
		return err
	}
	blob := c.sealBlob(e.blob, outcomesName(e.id, e.count))
	err = c.exec(`UPDATE outcomes SET count = ?, size = ?, crc = ?, data = ? WHERE id = ?`,
		e.count, e.raw, int64(outcomesSum(e.id, e.count, blob)), blob, e.id)
	if err != nil {
		return err
	}
	var sp outcomeSpan
	if isTail := st.tail.id != 0 && e.id >= st.tail.id; isTail {
		sp = st.tail
	} else if sp, err = c.outcomeSpan(`WHERE id <= ? ORDER BY id DESC LIMIT 1`, e.id); err != nil || sp.id == 0 {
		return err
	}
	if sp.damaged || !sp.replace(int(e.id-sp.id), e.hashes) {
		return nil // it finds nothing in any case
	}
	sp.count -= before - int64(e.count)
	sp.bytes -= oldBytes - int64(len(blob))
	if sp.id == st.tail.id {
		st.tail, st.changed = sp, true
	}
	if sp.id == st.first.id {
		st.first = sp
	}
	if sp.id == st.tail.id {
		return nil // written with the step
	}
	return c.exec(`UPDATE outcome_index SET bytes = ?, count = ?, crc = ?, sizes = ?, hashes = ? WHERE id = ?`,
		sp.bytes, sp.count, int64(sp.sum()), sp.sizes, sp.hashes, sp.id)
}

// replace puts other hashes in the place of those of the span's ith row of outcomes; false: it has no such row.
func (sp *outcomeSpan) replace(i int, hashes []byte) bool {
	var sizes, all []byte
	rest, left := sp.sizes, sp.hashes
	for row := 0; len(rest) > 0; row++ {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(left)/8) {
			return false
		}
		own := left[:8*size]
		rest, left = rest[n:], left[8*size:]
		if row == i {
			own = hashes
			i = -1
		}
		sizes = binary.AppendUvarint(sizes, uint64(len(own)/8))
		all = append(all, own...)
	}
	if i >= 0 {
		return false
	}
	if all == nil {
		all = []byte{}
	}
	sp.sizes, sp.hashes = sizes, all
	return true
}

package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"eventrouter/pkg/seal"
)

// RewrittenBlock replaces the data of a block. Its entries keep their numbers.
type RewrittenBlock struct {
	ID     BlockID
	Data   []byte
	Erased []int // entries of which the retries go
}

// RewriteBlocks replaces data of blocks of a lane, those that are there still. Who rewrites a block is the only one who does.
func (s *Store) RewriteBlocks(ctx context.Context, lane LaneID, blocks []RewrittenBlock) error {
	blobs := make([][]byte, len(blocks))
	bytes := 0
	for i := range blocks {
		blobs[i] = appendBlock(nil, blocks[i].Data, s.opts.uncompressed)
		bytes += len(blobs[i])
	}
	return s.submit(ctx, &request{bytes: bytes, done: make(chan struct{}), do: func(t *tx) error {
		for i := range blocks {
			if err := t.rewriteBlock(lane, &blocks[i], blobs[i]); err != nil {
				return fmt.Errorf("rewrite block %d: %w", blocks[i].ID, err)
			}
		}
		return nil
	}})
}

func (t *tx) rewriteBlock(lane LaneID, b *RewrittenBlock, blob []byte) error {
	c := t.s.w
	entries, size := 0, int64(0)
	err := c.query(`SELECT entries, bytes FROM blocks WHERE id = ? AND lane = ?`, func(row []driver.Value) error {
		entries, size = int(toInt(row[0])), toInt(row[1])
		return nil
	}, b.ID, lane)
	if err != nil || entries == 0 {
		return err // or finished meanwhile
	}
	change, err := t.lane(lane)
	if err != nil {
		return err
	}
	blob = c.sealBlob(blob, blockName(b.ID, lane, entries))
	err = c.exec(`UPDATE blocks SET size = ?, bytes = ?, crc = ?, data = ? WHERE id = ?`,
		len(b.Data), len(blob), int64(blockSum(b.ID, lane, entries, blob)), blob, b.ID)
	if err != nil {
		return err
	}
	change.bytes += int64(len(blob)) - size
	for _, i := range b.Erased {
		if err := c.exec(`DELETE FROM retries WHERE block = ? AND entry = ?`, b.ID, i); err != nil {
			return err
		}
	}
	return nil
}

// rowsPerErasure is how many rows are looked at in one go, and changed in one transaction at most.
const rowsPerErasure = 500

// EraseDeadLetters looks at all dead letters, with their records, oldest first, and erases those for which edit says so; of one that it masks, its Error may
// be another. It returns how many were erased. One whose records do not match their checksum has them all the same.
func (s *Store) EraseDeadLetters(ctx context.Context, edit func(*DeadLetter) Erasing) (erased, masked int64, err error) {
	for after, more := int64(0), true; more; {
		if err := ctx.Err(); err != nil {
			return erased, masked, err
		}
		var gone []int64
		var changed []DeadLetter
		more = false
		bytes := 0
		err := s.read(func(c *conn) error {
			err := c.query(letterColumns+letterBodies+` FROM dead_letters d LEFT JOIN replays r ON r.letter = d.id WHERE d.id > ? ORDER BY d.id LIMIT ?`, func(row []driver.Value) error {
				d, err := c.rowDeadLetter(row)
				if err != nil && !errors.Is(err, ErrDamaged) {
					return err
				}
				more, after = true, d.ID
				switch edit(&d) {
				case Erase:
					gone = append(gone, d.ID)
				case Masked:
					changed = append(changed, DeadLetter{ID: d.ID, Error: d.Error})
				case Keep:
				}
				if bytes += len(d.Event) + len(d.Original); bytes > groupBytes {
					return errEnough
				}
				return nil
			}, after, rowsPerErasure)
			if errors.Is(err, errEnough) {
				err = nil
			}
			return err
		})
		if err == nil && len(gone)+len(changed) > 0 {
			err = s.eraseLetters(ctx, gone, changed)
		}
		if err != nil {
			return erased, masked, fmt.Errorf("erase dead letters: %w", err)
		}
		erased, masked = erased+int64(len(gone)), masked+int64(len(changed))
	}
	return erased, masked, nil
}

// errEnough ends a query whose rows are as many as are wanted at once.
var errEnough = errors.New("enough")

func (s *Store) eraseLetters(ctx context.Context, gone []int64, changed []DeadLetter) error {
	return s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
		t.letters = true
		for _, id := range gone {
			if err := t.s.w.exec(`DELETE FROM dead_letters WHERE id = ?`, id); err != nil {
				return err
			}
		}
		for i := range changed {
			if err := t.maskLetter(&changed[i]); err != nil {
				return err
			}
		}
		return nil
	}})
}

// maskLetter replaces the error of a letter.
func (t *tx) maskLetter(masked *DeadLetter) error {
	c := t.s.w
	var stored any
	err := c.query(`SELECT destination, log_offset, output, at, error FROM dead_letters WHERE id = ?`, func(row []driver.Value) error {
		d := DeadLetter{Destination: toString(row[0]), Offset: uint64(toInt(row[1])), Index: int(toInt(row[2])), At: toTime(row[3])}
		if err := c.openLetter(&d, row[4]); err != nil {
			return err
		}
		d.Error = masked.Error
		stored = c.storedLetter(&d).error
		return nil
	}, masked.ID)
	if err != nil {
		return err
	}
	return c.exec(`UPDATE dead_letters SET error = ? WHERE id = ?`, stored, masked.ID)
}

// EraseKV takes the entries of a destination's $kv away of which names finds something in the key or the value. Nobody may write to it meanwhile. In a dry run
// it counts them.
func (s *Store) EraseKV(ctx context.Context, destination string, names func(text string) bool, dry bool) (erased int64, err error) {
	for after, more := int64(0), true; more; {
		if err := ctx.Err(); err != nil {
			return erased, err
		}
		var gone []KV
		more = false
		err := s.read(func(c *conn) error {
			return c.query(`SELECT id, key, value, expires, sum FROM kv WHERE destination = ? AND id > ? ORDER BY id LIMIT ?`, func(row []driver.Value) error {
				more, after = true, toInt(row[0])
				key, value, err := c.rowKV(destination, row[1], row[2], row[3], row[4])
				if err != nil && !s.isDamage(err) {
					return err
				} // what is damaged goes by what stands there all the same
				if names(key) || names(value) {
					gone = append(gone, KV{Destination: destination, Key: key})
				}
				return nil
			}, destination, after, rowsPerErasure)
		})
		if err == nil && len(gone) > 0 && !dry {
			err = s.Commit(ctx, &Batch{KV: gone})
		}
		if err != nil {
			return erased, fmt.Errorf("erase $kv: %w", err)
		}
		erased += int64(len(gone))
	}
	return erased, nil
}

// textCell is a text in a row that may name a person.
type textCell struct {
	table, column string
	where         string // of a row
}

// textCells are what is masked: errors of entries that wait, what exports were asked for, and why replays stopped.
var textCells = []textCell{
	{"retries", "error", "block = ? AND entry = ?"},
	{"replays", "problem", "letter = ?"},
	{"exports", "query", "id = ?"},
	{"exports", "target", "id = ?"},
}

// keys are the columns of where.
func (x textCell) keys() string {
	switch x.table {
	case "retries":
		return "block, entry"
	case "replays":
		return "letter, 0"
	}
	return "id, 0"
}

// name binds a text to its row, of which keys are a and b.
func (x textCell) name(a, b int64) seal.Name {
	switch x.table {
	case "retries":
		return retryName(BlockID(a), b)
	case "replays":
		return problemName(a)
	}
	return exportName(a, x.column)
}

// MaskTexts changes texts of the router's own that may name a person: errors of entries that wait, and what exports were asked for. It returns how many.
func (s *Store) MaskTexts(ctx context.Context, mask func(text string) (masked string, changed bool)) (n int64, err error) {
	for _, x := range textCells {
		type row struct {
			a, b int64
			text string
		}
		var rows []row
		err := s.read(func(c *conn) error {
			return c.query(`SELECT `+x.keys()+`, `+x.column+` FROM `+x.table, func(r []driver.Value) error {
				text, err := c.openTexts(r[2], x.name(toInt(r[0]), toInt(r[1])), 1)
				if errors.Is(err, ErrKey) {
					return err
				} else if err != nil {
					text = []string{""} // nobody can read it: it goes
				}
				if text, changed := mask(text[0]); changed || err != nil {
					rows = append(rows, row{toInt(r[0]), toInt(r[1]), text})
				}
				return nil
			})
		})
		if err == nil && len(rows) > 0 {
			err = s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
				for _, r := range rows {
					text := t.s.w.sealTexts(x.name(r.a, r.b), r.text)
					args := []any{text, r.a, r.b}
					if err := t.s.w.exec(`UPDATE `+x.table+` SET `+x.column+` = ? WHERE `+x.where, args[:1+strings.Count(x.where, "?")]...); err != nil {
						return err
					}
				}
				return nil
			}})
		}
		if err != nil {
			return n, fmt.Errorf("mask %s: %w", x.table, err)
		}
		n += int64(len(rows))
	}
	return n, nil
}

// EraseHolds erases the holds whose keys are a person's.
func (s *Store) EraseHolds(ctx context.Context, isKey func(key string) bool) (erased int64, err error) {
	holds, err := s.Holds()
	if err != nil {
		return 0, err
	}
	var gone []Hold
	for _, h := range holds {
		if isKey(h.Key) {
			gone = append(gone, h)
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	return int64(len(gone)), s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error {
		for _, h := range gone {
			if err := t.s.w.exec(`DELETE FROM holds WHERE lane = ? AND key = ?`, h.Lane, t.s.w.hashed("hold", h.Key)); err != nil {
				return err
			}
		}
		return nil
	}})
}

// EraseKeptAside deletes what was kept aside of damaged blocks: nobody can say whose it is. It returns how many files those were.
func (s *Store) EraseKeptAside() (files int, err error) {
	dir := filepath.Join(filepath.Dir(s.path), damagedDir)
	kept, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	for _, f := range kept {
		if err == nil {
			err = os.Remove(filepath.Join(dir, f.Name()))
		}
	}
	if err == nil && len(kept) > 0 {
		err = syncDir(dir)
	}
	if err != nil {
		return 0, fmt.Errorf("erase what was kept aside of damaged blocks: %w", err)
	}
	return len(kept), nil
}

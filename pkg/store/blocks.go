package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"
)

// DamagedError says that a block can not be read. It is an ErrDamaged.
type DamagedError struct {
	Lane  LaneID
	Block StoredBlock // without Data; what is needed to give it up: see GivenUp
	Cause error
	Raw   []byte // as it is stored, with the damage; nil when not even that can be read

	size int
	blob []byte // as far as it could be opened
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("store is damaged: lane %d: block %d of %d entries: %v", e.Lane, e.Block.ID, e.Block.Entries, e.Cause)
}

// Data is what the block's data may be, where it can be read in spite of its checksum; else nil. It can be wrong anywhere. Of a sealed one
// it is all or nothing.
func (e *DamagedError) Data() []byte {
	data, err := openBlock(e.blob, e.size)
	if err != nil {
		return nil
	}
	return data
}

// Unwrap makes it an ErrDamaged.
func (e *DamagedError) Unwrap() []error { return []error{ErrDamaged, e.Cause} }

// headsPerRead is how many blocks are looked at in one go; as a rule fewer are wanted.
const headsPerRead = 16

// ReadBlocks returns blocks of lane behind the block after (0: from the first), in order, until their uncompressed data
// reaches maxBytes; one at least, if there is any. What a Commit that returned has written is in it.
//
// It stops before a damaged block. If that is the first one, it returns a *DamagedError; reading goes on behind it with
// its id as after, or when it is given up.
func (s *Store) ReadBlocks(ctx context.Context, lane LaneID, after BlockID, maxBytes int64) (blocks []StoredBlock, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = s.read(func(c *conn) error {
		return c.snapshot(func() error {
			blocks, err = c.readBlocks(ctx, lane, after, maxBytes)
			return err
		})
	})
	return blocks, err
}

// snapshot runs fn, which only reads, on one state of the database. It ends with ROLLBACK, since COMMIT reports the damage
// that a statement met once more, and leaves the transaction open.
func (c *conn) snapshot(fn func() error) error {
	if err := c.exec(`BEGIN`); err != nil {
		return err
	}
	err := fn()
	if rerr := c.exec(`ROLLBACK`); err == nil {
		err = rerr
	}
	return err
}

// blockHead is a block's row without its data.
type blockHead struct {
	StoredBlock
	size     int
	crc      uint32
	finished int // that Done says, if there is one
}

func (c *conn) readBlocks(ctx context.Context, lane LaneID, after BlockID, maxBytes int64) (blocks []StoredBlock, err error) {
	for bytes := int64(0); ; {
		heads, err := c.readHeads(lane, after)
		if err != nil || len(heads) == 0 {
			return blocks, err
		}
		for i := range heads {
			h := &heads[i]
			if bytes += int64(h.size); len(blocks) > 0 && bytes > maxBytes {
				return blocks, nil
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := c.readData(lane, h); err != nil {
				if len(blocks) > 0 && errors.Is(err, ErrDamaged) {
					return blocks, nil // the next call is about it
				}
				return nil, err
			}
			blocks = append(blocks, h.StoredBlock)
			after = h.ID
		}
	}
}

func (c *conn) readHeads(lane LaneID, after BlockID) (heads []blockHead, err error) {
	err = c.query(`SELECT b.id, b.entries, b.size, b.bytes, b.crc, p.done, p.finished FROM blocks b LEFT JOIN progress p ON p.block = b.id
		WHERE b.lane = ? AND b.id > ? AND b.id NOT IN (SELECT block FROM damaged) ORDER BY b.id LIMIT ?+0`, func(row []driver.Value) error { // with a bare ? as limit SQLite prepares the statement anew each time
		heads = append(heads, blockHead{
			StoredBlock: StoredBlock{ID: BlockID(toInt(row[0])), Entries: int(toInt(row[1])), Bytes: toInt(row[3]), Done: toBytes(row[5])},
			size:        int(toInt(row[2])),
			crc:         uint32(toInt(row[4])),
			finished:    int(toInt(row[6])),
		})
		return nil
	}, lane, after, headsPerRead)
	return heads, err
}

// readData fills in the rest of a block. A fault of its own data is a DamagedError.
func (c *conn) readData(lane LaneID, h *blockHead) error {
	err := c.query(`SELECT attempt, due, since, blocked, error, entry FROM retries WHERE block = ?`, func(row []driver.Value) error {
		h.Retries = append(h.Retries, c.rowRetry(h.ID, row))
		return nil
	}, h.ID)
	if err != nil {
		return err
	}
	var blob []byte
	err = c.query(`SELECT data FROM blocks WHERE id = ?`, func(row []driver.Value) error {
		blob = toBytes(row[0])
		return nil
	}, h.ID)
	if err != nil && code(err) != sqlite3.SQLITE_CORRUPT {
		return err
	}
	if h.Done != nil && popCount(h.Done, h.Entries) != h.finished {
		// Which of them are finished nobody knows: one that was delivered must not be sent once more behind what came later, nor one that was not be left out.
		h.Done = nil
		err = errors.New("the note of which entries are finished is damaged, so that some of them may have been delivered")
	}
	if err == nil && blockSum(h.ID, lane, h.Entries, blob) != h.crc {
		err = errors.New("checksum does not match")
	}
	opened, openErr := c.openBlob(blob, blockName(h.ID, lane, h.Entries))
	if errors.Is(openErr, ErrKey) {
		return openErr // the block is sound
	}
	if err == nil {
		err = openErr
	}
	if err == nil {
		h.Data, err = openBlock(opened, h.size)
	}
	if err != nil {
		return &DamagedError{Lane: lane, Block: h.StoredBlock, Cause: err, Raw: blob, size: h.size, blob: opened}
	}
	return nil
}

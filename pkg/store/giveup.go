package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	damagedDir = "damaged"
	// mostDamagedBytes bounds what is kept aside: a disk that fails all over must not be filled by us as well.
	mostDamagedBytes = 64 << 20
)

// KeepAside writes what could be read of a damaged block, as it is stored, to a file of its own below the store's directory, durably and for us alone. It
// returns "" and no error when nothing could be read, or those that are there take up 64 MiB.
func (s *Store) KeepAside(d *DamagedError) (path string, err error) {
	if len(d.Raw) == 0 {
		return "", nil
	}
	return s.keepAside(fmt.Sprintf("block-%d", d.Block.ID), d.Raw)
}

func (s *Store) keepAside(name string, data []byte) (path string, err error) {
	dir := s.damagedDir()
	if err := makeDir(dir); err != nil {
		return "", err
	}
	kept, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	bytes := int64(len(data))
	for _, e := range kept {
		if info, err := e.Info(); err == nil {
			bytes += info.Size()
		}
	}
	if bytes > mostDamagedBytes {
		return "", nil
	}
	path = filepath.Join(dir, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close(), syncDir(dir)); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return path, nil
}

// giveUp finishes blocks that can not be read.
func (t *tx) giveUp(all []GivenUp) error {
	for i := range all {
		if err := t.giveUpOne(&all[i]); err != nil {
			return fmt.Errorf("give block %d up: %w", all[i].Block, err)
		}
	}
	return nil
}

func (t *tx) giveUpOne(g *GivenUp) error {
	found := false
	var entries, bytes, finished int64
	err := t.s.w.query(`SELECT b.entries, b.bytes, p.finished FROM blocks b LEFT JOIN progress p ON p.block = b.id
		WHERE b.id = ? AND b.lane = ? AND b.id NOT IN (SELECT block FROM damaged)`, func(row []driver.Value) error {
		found, entries, bytes, finished = true, toInt(row[0]), toInt(row[1]), min(max(toInt(row[2]), 0), toInt(row[0]))
		return nil
	}, g.Block, g.Lane)
	if err != nil {
		return err
	}
	if !found {
		return errNoBlock
	}
	change, err := t.lane(g.Lane)
	if err != nil {
		return err
	}
	change.entries -= entries - finished
	change.bytes -= bytes
	change.removed = true
	return first(
		func() error { return t.s.w.exec(`DELETE FROM retries WHERE block = ?`, g.Block) },
		func() error {
			return t.s.w.exec(`INSERT INTO damaged (block, lane, entries, at, kept, error) VALUES (?, ?, ?, ?, ?, ?)`,
				g.Block, g.Lane, entries-finished, t.now, g.KeptAside, cut(g.Error, 500))
		},
	)
}

// GivenUpBlocks is how many damaged blocks were given up. What could be read of them stands in the database still.
func (s *Store) GivenUpBlocks() (n int64, err error) {
	err = s.read(func(c *conn) (err error) {
		n, err = c.queryInt(`SELECT count(*) FROM damaged`)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("count damaged blocks: %w", err)
	}
	return n, nil
}

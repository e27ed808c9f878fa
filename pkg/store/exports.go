package store

import (
	"context"
	"database/sql/driver"
)

// RecordExport notes an export. On return that is on disk.
func (s *Store) RecordExport(ctx context.Context, e Export) error {
	return s.change(ctx, nil, func(t *tx) error {
		return t.s.w.exec(`INSERT INTO exports (at, target, query, letters) VALUES (?, ?, ?, ?)`, e.At, e.Target, e.Query, e.Letters)
	})
}

// Exports returns the exports that were noted, oldest first.
func (s *Store) Exports(ctx context.Context) (all []Export, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT id, at, target, query, letters FROM exports ORDER BY id`, func(row []driver.Value) error {
			all = append(all, Export{ID: toInt(row[0]), At: toTime(row[1]), Target: toString(row[2]), Query: toString(row[3]), Letters: toInt(row[4])})
			return ctx.Err()
		})
	})
	return all, err
}

package store

import (
	"context"
	"database/sql/driver"
)

// RecordExport notes an export. On return that is on disk.
func (s *Store) RecordExport(ctx context.Context, e Export) error {
	return s.change(ctx, nil, func(t *tx) error {
		c := t.s.w
		if err := c.exec(`INSERT INTO exports (at, target, query, letters) VALUES (?, '', '', ?)`, e.At, e.Letters); err != nil {
			return err
		}
		id, err := c.queryInt(`SELECT last_insert_rowid()`) // which the sealed texts are bound to
		if err != nil {
			return err
		}
		return c.putExportTexts(id, e.Target, e.Query)
	})
}

// Exports returns the exports that were noted, oldest first.
func (s *Store) Exports(ctx context.Context) (all []Export, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT id, at, target, query, letters FROM exports ORDER BY id`, func(row []driver.Value) error {
			all = append(all, Export{ID: toInt(row[0]), At: toTime(row[1]), Target: c.openNote(row[2], exportName(toInt(row[0]), "target")), Query: c.openNote(row[3], exportName(toInt(row[0]), "query")), Letters: toInt(row[4])})
			return ctx.Err()
		})
	})
	return all, err
}

func (c *conn) putExportTexts(id int64, target, query string) error {
	return c.exec(`UPDATE exports SET target = ?, query = ? WHERE id = ?`,
		c.sealTexts(exportName(id, "target"), target), c.sealTexts(exportName(id, "query"), query), id)
}

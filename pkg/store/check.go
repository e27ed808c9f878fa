package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

const (
	checkAfter    = 5 * time.Minute // from the start to the first check: what a start has to do comes first
	checkEvery    = 24 * time.Hour
	checkProblems = 10          // most that are kept
	checkPause    = time.Minute // most between two tables
)

// Check is what the last check of the database has found.
type Check struct {
	At       time.Time     // when it ended; zero: none has yet
	Took     time.Duration // with the pauses
	Problems []string      // the first of them, in SQLite's words: tables, pages and rows, never what stands in them
}

// LastCheck returns the last check that came to its end.
func (s *Store) LastCheck() Check {
	if c := s.check.Load(); c != nil {
		return *c
	}
	return Check{}
}

// CheckNowAndThen checks the database some minutes after the start, and then daily, until ctx ends. What it finds is logged and in LastCheck. It always returns nil: what is
// damaged may be read by nobody, and what is whole goes on.
func (s *Store) CheckNowAndThen(ctx context.Context) error {
	timer := time.NewTimer(checkAfter)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		timer.Reset(checkEvery)
		found, err := s.CheckPages(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.opts.Logger.Warn("the store could not be checked", "store", s.path, "error", err.Error())
		case len(found.Problems) > 0:
			s.opts.Logger.Error("the store is damaged", "store", s.path, "problems", strings.Join(found.Problems, "; "), "took", found.Took.Round(time.Millisecond).String())
		default:
			s.opts.Logger.Info("the store was checked and is whole", "store", s.path, "took", found.Took.Round(time.Millisecond).String())
		}
	}
}

// CheckPages looks through the whole database for pages that do not fit together, by SQLite's quick_check. It runs beside everything else, on a connection of its own, one table after the
// other with pauses as long as they took: meanwhile the write-ahead file can not begin anew. It ends when ctx does.
func (s *Store) CheckPages(ctx context.Context) (found Check, err error) {
	began := time.Now()
	c, err := openReader(s.path, "rw")
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	tables, err := c.tables()
	if err != nil {
		return found, err
	}
	for _, table := range tables {
		at := time.Now()
		problems, err := c.quickCheck(ctx, table)
		if err != nil {
			return found, fmt.Errorf("check table %s: %w", table, err)
		}
		found.Problems = append(found.Problems, problems...)
		select {
		case <-time.After(min(time.Since(at), checkPause)):
		case <-ctx.Done():
			return found, ctx.Err()
		}
	}
	found.Problems = found.Problems[:min(len(found.Problems), checkProblems)]
	found.At, found.Took = time.Now(), time.Since(began)
	s.check.Store(&found)
	return found, nil
}

func (c *conn) tables() (names []string, err error) {
	err = c.query(`SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`, func(row []driver.Value) error {
		names = append(names, toString(row[0]))
		return nil
	})
	return names, err
}

// quickCheck checks a table and its indexes. The names are those of our schema.
func (c *conn) quickCheck(ctx context.Context, table string) (problems []string, err error) {
	rows, err := c.c.(driver.QueryerContext).QueryContext(ctx, fmt.Sprintf(`PRAGMA quick_check('%s')`, table), nil)
	if err == nil {
		defer rows.Close()
		row := make([]driver.Value, 1)
		for err = rows.Next(row); err == nil; err = rows.Next(row) {
			if text := toString(row[0]); text != "ok" {
				text = strings.TrimPrefix(text, "*** in database main ***\n")
				problems = append(problems, fmt.Sprintf("table %s: %s", table, cut(strings.ReplaceAll(text, "\n", ", "), 200)))
			}
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return problems, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case code(err) == sqlite3.SQLITE_CORRUPT || code(err) == sqlite3.SQLITE_NOTADB:
		return append(problems, fmt.Sprintf("table %s: %v", table, err)), nil
	}
	return nil, err
}

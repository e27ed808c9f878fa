package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"time"

	"eventrouter/pkg/seal"
)

// Bounds of one transaction that writes rows anew: it holds the writer for some milliseconds. Between two of them others have the disk.
const (
	resealRows  = 500
	resealBytes = 2 << 20
	resealPause = 20 * time.Millisecond
)

// sealedTable is a table with something sealed in it. rows lists some rows behind a cursor, those that are as wanted too, and reseal writes one anew.
type sealedTable struct {
	name   string
	rows   string // SQL, with the cursor's columns first, then a value by which isAsWanted is told; its arguments are the cursor and a number of rows
	start  []any
	wanted func(c *conn, v driver.Value) bool
	reseal func(t *tx, key []driver.Value) (bytes int, err error)
}

func byHead(c *conn, v driver.Value) bool { // of a blob with a codec
	b := toBytes(v)
	sealed := len(b) > 0 && b[0] == codecSealed
	if sealed {
		b = b[1:]
	}
	return c.isAsWanted(sealed, b)
}

func byType(c *conn, v driver.Value) bool { // BLOB or TEXT; '' and NULL say nothing
	if s, text := v.(string); text && s == "" {
		return true
	}
	b, sealed := v.([]byte)
	return c.isAsWanted(sealed, b)
}

// lookedUpTables have rows that are found by what is hashed where data is sealed. All of them are changed before a store is used.
var lookedUpTables = []*sealedTable{
	{
		name: "identities", start: []any{"", "", ""}, wanted: byType, reseal: resealIdentity,
		rows: `SELECT api_key, kind, value, coalesce(substr(sealed, 1, 5), 'text') FROM identities WHERE (api_key, kind, value) > (?, ?, ?) ORDER BY api_key, kind, value LIMIT ?`,
	},
	{
		name: "kv", start: []any{int64(0)}, wanted: byType, reseal: resealKV,
		rows: `SELECT id, substr(value, 1, 5) FROM kv WHERE id > ? ORDER BY id LIMIT ?`,
	},
	{
		name: "dead_letters", start: []any{int64(0)}, wanted: byType, reseal: resealLetter,
		rows: `SELECT id, CASE WHEN typeof(error) = 'blob' THEN substr(error, 1, 5) ELSE 'text' END FROM dead_letters WHERE id > ? ORDER BY id LIMIT ?`,
	},
	{
		name: "holds", start: []any{int64(0), ""}, wanted: byType, reseal: resealHold,
		rows: `SELECT lane, key, coalesce(substr(sealed, 1, 5), 'text') FROM holds WHERE (lane, key) > (?, ?) ORDER BY lane, key LIMIT ?`,
	},
}

var otherTables = []*sealedTable{
	{
		name: "blocks", start: []any{int64(0)}, wanted: byHead, reseal: resealBlock,
		rows: `SELECT id, substr(data, 1, 6) FROM blocks WHERE id > ? AND id NOT IN (SELECT block FROM damaged) ORDER BY id LIMIT ?`,
	},
	{
		name: "outcomes", start: []any{int64(0)}, wanted: byHead, reseal: resealOutcomes,
		rows: `SELECT id, substr(data, 1, 6) FROM outcomes WHERE id > ? ORDER BY id LIMIT ?`,
	},
	{
		name: "memories", start: []any{int64(0)}, wanted: byType, reseal: resealMemories,
		rows: `SELECT id, CASE crc WHEN -1 THEN substr(data, 1, 5) ELSE 'plain' END FROM memories WHERE id > ? ORDER BY id LIMIT ?`,
	},
	{
		name: "retries", start: []any{int64(0), int64(-1)}, wanted: byType, reseal: resealRetry,
		rows: `SELECT block, entry, substr(error, 1, 5) FROM retries WHERE (block, entry) > (?, ?) ORDER BY block, entry LIMIT ?`,
	},
	{
		name: "replays", start: []any{int64(0)}, wanted: byType, reseal: resealProblem,
		rows: `SELECT letter, substr(problem, 1, 5) FROM replays WHERE letter > ? ORDER BY letter LIMIT ?`,
	},
	{
		name: "cache", start: []any{""}, wanted: byType, reseal: resealCache,
		rows: `SELECT key, CASE sealed WHEN 1 THEN substr(value, 1, 5) ELSE 'plain' END FROM cache WHERE key > ? ORDER BY key LIMIT ?`,
	},
	{
		name: "forgotten", start: []any{[]byte{}}, wanted: byType, reseal: resealForgotten,
		rows: `SELECT hash, substr(id, 1, 5) FROM forgotten WHERE hash > ? ORDER BY hash LIMIT ?`,
	},
	{
		name: "exports", start: []any{int64(0)}, wanted: byType, reseal: resealExport,
		rows: `SELECT id, substr(query, 1, 5) FROM exports WHERE id > ? ORDER BY id LIMIT ?`,
	},
	{
		name: "connections", start: []any{int64(0)}, wanted: byType, reseal: resealConnection,
		rows: `SELECT id, substr(sealed, 1, 5) FROM connections WHERE id > ? ORDER BY id LIMIT ?`,
	},
	{
		name: "connecting", start: []any{[]byte{0}}, wanted: byType, reseal: resealConnecting,
		rows: `SELECT id, substr(sealed, 1, 5) FROM connecting WHERE id > ? ORDER BY id LIMIT ?`,
	},
}

// Reseal has everything in the store sealed, or plain, as Options.Keys say, some rows at a time while the store is used. When it returns nil, KeysLeft is one. It does nothing where
// that is so already. What is damaged, and so can not be opened, is left out, with a line in the log.
func (s *Store) Reseal(ctx context.Context) error {
	if s.readOnly {
		return ErrReadOnly
	}
	want, seals := s.box.Sealing()
	if left := s.KeysLeft(); len(left) == 1 && left[0] == want {
		return nil
	}
	began := time.Now()
	for _, table := range slices.Concat(lookedUpTables, otherTables) {
		first := true
		err := s.resealTable(table, func(do func(*tx) error) error {
			if !first {
				select {
				case <-ctx.Done():
				case <-time.After(resealPause):
				}
			}
			first = false
			return s.change(ctx, nil, do)
		})
		if err != nil {
			return err
		}
	}
	keys := []seal.KeyID{want}
	err := s.change(ctx, nil, func(t *tx) error {
		st, err := t.s.w.sealState()
		if err != nil {
			return err
		}
		st.keys = keys
		return st.write(t.s.w)
	})
	if err != nil {
		return err
	}
	s.keysLeft.Store(&keys)
	s.clearRest(ctx)
	logger := s.opts.Logger.With("store", s.path, "took", time.Since(began))
	if seals {
		logger.Info("everything in the store is encrypted with one key now, and needs no other", "key", want.String())
	} else {
		logger.Info("everything in the store is decrypted now, and needs no key")
	}
	return nil
}

// clearRest takes what was plain out of the write-ahead file, and from between rows, where SQLite may leave it. Later writes would do so as well.
func (s *Store) clearRest(ctx context.Context) {
	_, err := s.Scrub(ctx)
	if err == nil {
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err = s.Truncate(limited)
	}
	if err != nil && ctx.Err() == nil {
		s.opts.Logger.Warn("what was not encrypted may stand in the database's files until they are written over", "store", s.path, "error", err.Error())
	}
}

// resealTable goes through a table, a transaction by run for some rows at a time.
func (s *Store) resealTable(table *sealedTable, run func(func(*tx) error) error) error {
	after := table.start
	for more := true; more; {
		err := run(func(t *tx) (err error) {
			var next []any
			next, more, err = t.resealSome(table, after)
			if err == nil && len(next) > 0 {
				after = next
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// resealSome writes rows behind after anew, as far as they need it.
func (t *tx) resealSome(table *sealedTable, after []any) (next []any, more bool, err error) {
	c := t.s.w
	type row struct {
		key    []driver.Value
		wanted bool
	}
	var rows []row
	err = c.query(table.rows, func(values []driver.Value) error {
		n := len(values) - 1
		rows = append(rows, row{slices.Clone(values[:n]), table.wanted(c, values[n])})
		return nil
	}, append(slices.Clone(after), resealRows)...)
	if err != nil {
		return nil, false, err
	}
	bytes := 0
	for i := range rows {
		if !rows[i].wanted {
			n, err := table.reseal(t, rows[i].key)
			switch {
			case errors.Is(err, seal.ErrSealed) || errors.Is(err, ErrDamaged):
				t.s.opts.Logger.Error("a row is damaged and stays as it is", "store", t.s.path, "table", table.name, "error", err.Error())
			case err != nil:
				return nil, false, err
			}
			bytes += n
		}
		next = next[:0]
		for _, v := range rows[i].key {
			next = append(next, v)
		}
		if bytes >= resealBytes {
			return next, true, nil
		}
	}
	return next, len(rows) == resealRows, nil
}

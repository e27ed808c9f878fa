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
		name: "exports", start: []any{int64(0)}, wanted: byType, reseal: resealExport,
		rows: `SELECT id, substr(query, 1, 5) FROM exports WHERE id > ? ORDER BY id LIMIT ?`,
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

func resealBlock(t *tx, key []driver.Value) (bytes int, err error) {
	c := t.s.w
	id := BlockID(toInt(key[0]))
	var lane LaneID
	var entries int
	var data []byte
	err = c.query(`SELECT lane, entries, data, crc FROM blocks WHERE id = ?`, func(row []driver.Value) error {
		lane, entries, data = LaneID(toInt(row[0])), int(toInt(row[1])), toBytes(row[2])
		if blockSum(id, lane, entries, data) != uint32(toInt(row[3])) {
			return ErrDamaged
		}
		return nil
	}, id)
	if err != nil {
		return 0, err
	}
	name := blockName(id, lane, entries)
	plain, err := c.openBlob(data, name)
	if err != nil {
		return 0, err
	}
	blob := c.sealBlob(plain, name)
	change, err := t.lane(lane)
	if err != nil {
		return 0, err
	}
	change.bytes += int64(len(blob) - len(data))
	return len(blob), c.exec(`UPDATE blocks SET data = ?, bytes = ?, crc = ? WHERE id = ?`, blob, len(blob), int64(blockSum(id, lane, entries, blob)), id)
}

func resealOutcomes(t *tx, key []driver.Value) (bytes int, err error) {
	c := t.s.w
	id := toInt(key[0])
	var count int
	var data []byte
	err = c.query(`SELECT count, data, crc FROM outcomes WHERE id = ?`, func(row []driver.Value) error {
		count, data = int(toInt(row[0])), toBytes(row[1])
		if outcomesSum(id, count, data) != uint32(toInt(row[2])) {
			return ErrDamaged
		}
		return nil
	}, id)
	if err != nil {
		return 0, err
	}
	plain, err := c.openBlob(data, outcomesName(id, count))
	if err != nil {
		return 0, err
	}
	blob := c.sealBlob(plain, outcomesName(id, count))
	return len(blob), c.exec(`UPDATE outcomes SET data = ?, crc = ? WHERE id = ?`, blob, int64(outcomesSum(id, count, blob)), id)
}

func resealMemories(t *tx, key []driver.Value) (bytes int, err error) {
	row := memoryRow{id: toInt(key[0])}
	if err := t.s.w.memoryRow(&row); err != nil {
		return 0, err
	}
	return row.bytes(), t.s.w.putMemoryRow(&row)
}

func resealCache(t *tx, key []driver.Value) (bytes int, err error) {
	c := t.s.w
	var at int64
	var value []byte
	err = c.query(`SELECT at, value, sealed FROM cache WHERE key = ?`, func(row []driver.Value) (err error) {
		at, value = toInt(row[0]), toBytes(row[1])
		if toInt(row[2]) == 1 {
			value, err = c.box.Open(nil, value, cacheName(toString(key[0])))
		}
		return err
	}, key[0])
	if err != nil {
		return 0, err
	}
	return len(value), c.putCache(toString(key[0]), at, value)
}

func resealRetry(t *tx, key []driver.Value) (bytes int, err error) {
	c := t.s.w
	name := retryName(BlockID(toInt(key[0])), toInt(key[1]))
	var text any
	err = c.query(`SELECT error FROM retries WHERE block = ? AND entry = ?`, func(row []driver.Value) error {
		text, err = c.resealed(row[0], name)
		return err
	}, toInt(key[0]), toInt(key[1]))
	if err != nil {
		return 0, err
	}
	return 0, c.exec(`UPDATE retries SET error = ? WHERE block = ? AND entry = ?`, text, toInt(key[0]), toInt(key[1]))
}

// resealed is a text that was stored, as it is stored now.
func (c *conn) resealed(v driver.Value, name seal.Name) (any, error) {
	texts, err := c.openTexts(v, name, 1)
	if err != nil {
		return nil, err
	}
	return c.sealTexts(name, texts[0]), nil
}

func resealProblem(t *tx, key []driver.Value) (bytes int, err error) {
	c, letter := t.s.w, toInt(key[0])
	var text any
	err = c.query(`SELECT problem FROM replays WHERE letter = ?`, func(row []driver.Value) error {
		text, err = c.resealed(row[0], problemName(letter))
		return err
	}, letter)
	if err != nil {
		return 0, err
	}
	return 0, c.exec(`UPDATE replays SET problem = ? WHERE letter = ?`, text, letter)
}

func resealExport(t *tx, key []driver.Value) (bytes int, err error) {
	c, id := t.s.w, toInt(key[0])
	var texts [2]string
	err = c.query(`SELECT target, query FROM exports WHERE id = ?`, func(row []driver.Value) error {
		for i, column := range [...]string{"target", "query"} {
			opened, err := c.openTexts(row[i], exportName(id, column), 1)
			if err != nil {
				return err
			}
			texts[i] = opened[0]
		}
		return nil
	}, id)
	if err != nil {
		return 0, err
	}
	return 0, c.putExportTexts(id, texts[0], texts[1])
}

func resealIdentity(t *tx, key []driver.Value) (bytes int, err error) {
	c := t.s.w
	var id Identity
	err = c.query(`SELECT api_key, kind, value, email, server, seen, sealed FROM identities WHERE api_key = ? AND kind = ? AND value = ?`, func(row []driver.Value) error {
		id, err = c.rowIdentity(row)
		return err
	}, key[0], key[1], key[2])
	if err != nil {
		return 0, err
	}
	value, email, sealed := c.identityColumns(&id)
	return 0, c.exec(`UPDATE identities SET value = ?, email = ?, sealed = ? WHERE api_key = ? AND kind = ? AND value = ?`, value, email, sealed, key[0], key[1], key[2])
}

func resealKV(t *tx, key []driver.Value) (bytes int, err error) {
	c, id := t.s.w, toInt(key[0])
	var storedKey, storedValue any
	err = c.query(`SELECT destination, key, value FROM kv WHERE id = ?`, func(row []driver.Value) error {
		key, value, err := c.rowKV(toString(row[0]), row[1], row[2])
		if err == nil {
			bytes = len(value)
			storedKey, storedValue = c.kvColumns(toString(row[0]), key, value)
		}
		return err
	}, id)
	if err != nil {
		return 0, err
	}
	return bytes, c.exec(`UPDATE kv SET key = ?, value = ? WHERE id = ?`, storedKey, storedValue, id)
}

func resealHold(t *tx, key []driver.Value) (bytes int, err error) {
	c := t.s.w
	var h Hold
	err = c.query(`SELECT lane, key, until, sealed FROM holds WHERE lane = ? AND key = ?`, func(row []driver.Value) error {
		h, err = c.rowHold(row)
		return err
	}, key[0], key[1])
	if err != nil {
		return 0, err
	}
	stored, sealed := c.holdColumns(&h)
	return 0, c.exec(`UPDATE holds SET key = ?, sealed = ? WHERE lane = ? AND key = ?`, stored, sealed, key[0], key[1])
}

func resealLetter(t *tx, key []driver.Value) (bytes int, err error) {
	c, id := t.s.w, toInt(key[0])
	var d DeadLetter
	var crc int64
	err = c.query(`SELECT destination, log_offset, output, at, event_id, event_type, person, error, event, original, crc FROM dead_letters WHERE id = ?`, func(row []driver.Value) error {
		d = DeadLetter{
			Destination: toString(row[0]), Offset: uint64(toInt(row[1])), Index: int(toInt(row[2])), At: toTime(row[3]),
			EventID: toString(row[4]), EventType: toString(row[5]), Person: toString(row[6]), Event: toBytes(row[8]), Original: toBytes(row[9]),
		}
		if crc = toInt(row[10]); int64(letterSum(d.Event, d.Original)) != crc {
			return ErrDamaged
		}
		return c.openLetter(&d, row[7])
	}, id)
	if err != nil {
		return 0, err
	}
	t.letters = true
	l := c.storedLetter(&d)
	return len(l.event) + len(l.original), c.exec(`UPDATE dead_letters SET event_id = ?, event_type = ?, person = ?, error = ?, event = ?, original = ?, crc = ? WHERE id = ?`,
		l.eventID, l.eventType, l.person, l.error, l.event, l.original, l.crc, id)
}

package store

import (
	"database/sql/driver"

	"eventrouter/pkg/seal"
)

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
	err = c.query(`SELECT at, value, sealed, sum FROM cache WHERE key = ?`, func(row []driver.Value) (err error) {
		at = toInt(row[0])
		value, err = c.rowCache(toString(key[0]), row)
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

func resealForgotten(t *tx, key []driver.Value) (bytes int, err error) {
	c, hash := t.s.w, toBytes(key[0])
	var text any
	err = c.query(`SELECT id FROM forgotten WHERE hash = ?`, func(row []driver.Value) error {
		text, err = c.resealed(row[0], forgottenName(hash))
		return err
	}, hash)
	if err != nil {
		return 0, err
	}
	return 0, c.exec(`UPDATE forgotten SET id = ? WHERE hash = ?`, text, hash)
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
	err = c.query(`SELECT api_key, kind, value, email, server, seen, sealed, sum FROM identities WHERE api_key = ? AND kind = ? AND value = ?`, func(row []driver.Value) error {
		id, err = c.rowIdentity(row)
		return err
	}, key[0], key[1], key[2])
	if err != nil {
		return 0, err
	}
	value, email, sealed, sum := c.identityColumns(&id)
	return 0, c.exec(`UPDATE identities SET value = ?, email = ?, sealed = ?, sum = ? WHERE api_key = ? AND kind = ? AND value = ?`, value, email, sealed, sum, key[0], key[1], key[2])
}

func resealKV(t *tx, key []driver.Value) (bytes int, err error) {
	c, id := t.s.w, toInt(key[0])
	var storedKey, storedValue, sum any
	err = c.query(`SELECT destination, key, value, expires, sum FROM kv WHERE id = ?`, func(row []driver.Value) error {
		key, value, err := c.rowKV(toString(row[0]), row[1], row[2], row[3], row[4])
		if err == nil {
			bytes = len(value)
			storedKey, storedValue, sum = c.kvColumns(toString(row[0]), key, value, toInt(row[3]))
		}
		return err
	}, id)
	if err != nil {
		return 0, err
	}
	return bytes, c.exec(`UPDATE kv SET key = ?, value = ?, sum = ? WHERE id = ?`, storedKey, storedValue, sum, id)
}

func resealHold(t *tx, key []driver.Value) (bytes int, err error) {
	c := t.s.w
	var h Hold
	err = c.query(`SELECT lane, key, until, sealed, sum FROM holds WHERE lane = ? AND key = ?`, func(row []driver.Value) error {
		h, err = c.rowHold(row)
		return err
	}, key[0], key[1])
	if err != nil {
		return 0, err
	}
	stored, sealed, sum := c.holdColumns(&h)
	return 0, c.exec(`UPDATE holds SET key = ?, sealed = ?, sum = ? WHERE lane = ? AND key = ?`, stored, sealed, sum, key[0], key[1])
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

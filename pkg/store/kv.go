package store

import (
	"context"
	"database/sql/driver"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// KV is a value that the scripts of a destination keep under a key.
type KV struct {
	Destination string
	Account     string    // whose it is; "": nobody's. The key alone tells apart: see Key
	Key         string    // no two accounts of a destination have the same
	Value       string    // JSON; in a Batch "" takes the key away
	Expires     time.Time // zero: never
}

func (v *KV) size() int64 { return int64(len(v.Key) + len(v.Value)) }

// KVUse is what one destination keeps.
type KVUse struct {
	Entries int64
	Bytes   int64 // of keys and values
	Dropped int64 // since Open: entries that went because of a bound
}

// kvRows is how many entries one transaction prunes at most: others have to wait for it.
const kvRows = 1000

// kvTable is what the store knows of the table kv without asking it.
type kvTable struct {
	maxEntries, maxBytes atomic.Int64 // of each destination

	next int64 // the writer's: id of the next entry

	mu  sync.Mutex // guards the fields below; only the writer changes them
	use map[string]KVUse
	of  map[kvOwner]KVUse // the same of each account, without Dropped; the writer's
}

// kvOwner is an account of a destination.
type kvOwner struct{ destination, account string }

// LimitKV bounds what each destination keeps, from the next write on: entries, and bytes of keys and values. Those that were written longest ago go
// first, of the accounts that keep most: see trimKV. What is too much when the bounds get lower goes with ExpireKV.
func (s *Store) LimitKV(entries int, bytes int64) {
	s.kv.maxEntries.Store(int64(entries))
	s.kv.maxBytes.Store(bytes)
}

// KV returns the value of a destination's key; false when there is none, its time is over, or its row is damaged.
func (s *Store) KV(destination, key string) (v KV, ok bool, err error) {
	err = s.read(func(c *conn) error {
		return c.query(`SELECT value, expires, key, sum FROM kv WHERE destination = ? AND key = ?`, func(row []driver.Value) (err error) {
			v = KV{Destination: destination, Expires: toTime(row[1])}
			v.Key, v.Value, err = c.rowKV(destination, row[2], row[0], row[1], row[3])
			if err != nil && s.isDamage(err) {
				s.tellDamaged(damagedKV, err)
				v.Value, err = "", nil
			}
			return err
		}, destination, c.hashed("kv", destination, key))
	})
	if err != nil || v.Value == "" || !v.Expires.IsZero() && !v.Expires.After(time.Now()) {
		return KV{}, false, err
	}
	return v, true, nil
}

// rowKV returns key and value of an entry by what is stored of them. With the ErrDamaged of a plain one it returns what stands there.
func (c *conn) rowKV(destination string, storedKey, storedValue, expires, sum driver.Value) (key, value string, err error) {
	hash, sealed := storedKey.([]byte)
	if !sealed {
		key, value = toString(storedKey), toString(storedValue)
		if sumDiffers(sum, kvSum(destination, key, value, toInt(expires))) {
			err = fmt.Errorf("$kv of %s: %w", destination, errSum)
		}
		return key, value, err
	}
	texts, err := c.openTexts(storedValue, kvName(destination, hash), 2)
	if err != nil {
		return "", "", fmt.Errorf("$kv of %s: %w", destination, unopened(err))
	}
	return texts[0], texts[1], nil
}

// kvColumns are what is stored of key and value, and the column sum; expires in Unix milliseconds.
func (c *conn) kvColumns(destination, key, value string, expires int64) (storedKey, storedValue, sum any) {
	storedKey = c.hashed("kv", destination, key)
	if hash, ok := storedKey.([]byte); ok {
		return storedKey, c.sealTexts(kvName(destination, hash), key, value), nil
	}
	return key, value, kvSum(destination, key, value, expires)
}

// KVUse says what each destination keeps, by its name. Entries whose time is over count until they are pruned.
func (s *Store) KVUse() map[string]KVUse {
	s.kv.mu.Lock()
	defer s.kv.mu.Unlock()
	return maps.Clone(s.kv.use)
}

// ExpireKV takes away entries whose time is over, and what is beyond the bounds.
func (s *Store) ExpireKV(ctx context.Context) error {
	for {
		due, err := s.kvDue(time.Now())
		if err != nil || !due {
			return err
		}
		if err := s.Commit(ctx, &Batch{pruneKV: true}); err != nil {
			return err
		}
	}
}

// kvDue says whether there is something to prune.
func (s *Store) kvDue(now time.Time) (due bool, err error) {
	for _, u := range s.KVUse() {
		if s.kv.over(u) {
			return true, nil
		}
	}
	err = s.read(func(c *conn) error {
		return c.query(`SELECT 1 FROM kv WHERE expires > 0 AND expires <= ? LIMIT 1`, func([]driver.Value) error {
			due = true
			return nil
		}, now)
	})
	return due, err
}

func (k *kvTable) over(u KVUse) bool {
	return u.Entries > 0 && (u.Entries > k.maxEntries.Load() || u.Bytes > k.maxBytes.Load())
}

// load counts what is kept.
func (k *kvTable) load(c *conn) error {
	k.use, k.of = map[string]KVUse{}, map[kvOwner]KVUse{}
	return c.query(`SELECT destination, account, count(*), sum(size), max(id) FROM kv GROUP BY destination, account`, func(row []driver.Value) error {
		owner, entries, bytes := kvOwner{toString(row[0]), toString(row[1])}, toInt(row[2]), toInt(row[3])
		all := k.use[owner.destination]
		k.of[owner] = KVUse{Entries: entries, Bytes: bytes}
		k.use[owner.destination] = KVUse{Entries: all.Entries + entries, Bytes: all.Bytes + bytes}
		k.next = max(k.next, toInt(row[4]))
		return nil
	})
}

// kvStep is what one transaction does to the table. It takes effect with adopt.
type kvStep struct {
	next int64
	use  map[string]KVUse  // of the destinations that it changes, as it is afterwards
	of   map[kvOwner]KVUse // and of their accounts
}

// add counts entries of an account, and their bytes.
func (st *kvStep) add(k *kvTable, owner kvOwner, entries, bytes int64) {
	u, own := st.useOf(k, owner.destination), st.ownerOf(k, owner)
	u.Entries, u.Bytes = u.Entries+entries, u.Bytes+bytes
	own.Entries, own.Bytes = own.Entries+entries, own.Bytes+bytes
	st.use[owner.destination], st.of[owner] = u, own
}

func (st *kvStep) ownerOf(k *kvTable, owner kvOwner) KVUse {
	if u, ok := st.of[owner]; ok {
		return u
	}
	return k.of[owner]
}

func (st *kvStep) useOf(k *kvTable, destination string) KVUse {
	if u, ok := st.use[destination]; ok {
		return u
	}
	return k.use[destination]
}

// putKV writes entries of one batch.
func (t *tx) putKV(entries []KV, prune bool) error {
	if len(entries) == 0 && !prune {
		return nil
	}
	st := &t.kvStep
	if st.use == nil {
		st.use, st.of, st.next = map[string]KVUse{}, map[kvOwner]KVUse{}, t.s.kv.next
	}
	for i := range entries {
		if err := t.putEntry(&entries[i]); err != nil {
			return err
		}
	}
	if !prune {
		return nil
	}
	for destination := range t.s.kv.use {
		st.use[destination] = st.useOf(&t.s.kv, destination) // trimKV is to look at it
	}
	return t.expireKV()
}

func (t *tx) putEntry(v *KV) error {
	st, c := &t.kvStep, t.s.w
	var id, size int64
	was := kvOwner{destination: v.Destination}
	err := c.query(`SELECT id, size, account FROM kv WHERE destination = ? AND key = ?`, func(row []driver.Value) error {
		id, size, was.account = toInt(row[0]), toInt(row[1]), toString(row[2])
		return nil
	}, v.Destination, c.hashed("kv", v.Destination, v.Key))
	if err != nil {
		return err
	}
	key, value, sum := c.kvColumns(v.Destination, v.Key, v.Value, toMillis(v.Expires))
	if id != 0 {
		st.add(&t.s.kv, was, -1, -size)
	}
	st.next++
	switch {
	case v.Value == "":
		return c.exec(`DELETE FROM kv WHERE id = ?`, id)
	case id != 0:
		err = c.exec(`UPDATE kv SET id = ?, account = ?, written = ?, expires = ?, size = ?, value = ?, sum = ? WHERE id = ?`,
			st.next, v.Account, t.now, v.Expires, v.size(), value, sum, id)
	default:
		err = c.exec(`INSERT INTO kv (id, destination, account, key, written, expires, size, value, sum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			st.next, v.Destination, v.Account, key, t.now, v.Expires, v.size(), value, sum)
	}
	st.add(&t.s.kv, kvOwner{v.Destination, v.Account}, 1, v.size())
	return err
}

// kvRow is what pruning needs to know of an entry.
type kvRow struct {
	id, size int64
	owner    kvOwner
}

// rowsOf reads kvRows.
func rowsOf(rows *[]kvRow) func([]driver.Value) error {
	return func(row []driver.Value) error {
		*rows = append(*rows, kvRow{toInt(row[0]), toInt(row[1]), kvOwner{toString(row[2]), toString(row[3])}})
		return nil
	}
}

// expireKV takes away entries whose time is over.
func (t *tx) expireKV() error {
	var rows []kvRow
	err := t.s.w.query(`SELECT id, size, destination, account FROM kv WHERE expires > 0 AND expires <= ? ORDER BY expires LIMIT ?`, rowsOf(&rows), t.now, kvRows)
	for i := range rows {
		if err == nil {
			err = t.dropKV(&rows[i], false)
		}
	}
	return err
}

func (t *tx) dropKV(row *kvRow, bound bool) error {
	t.kvStep.add(&t.s.kv, row.owner, -1, -row.size)
	if bound {
		u := t.kvStep.use[row.owner.destination]
		u.Dropped++
		t.kvStep.use[row.owner.destination] = u
	}
	return t.s.w.exec(`DELETE FROM kv WHERE id = ?`, row.id)
}

// adopt is the memory's part of st, once it is committed.
func (k *kvTable) adopt(st *kvStep) {
	if st.use == nil {
		return
	}
	k.next = st.next
	for owner, u := range st.of {
		if k.of[owner] = u; u.Entries <= 0 {
			delete(k.of, owner)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.Copy(k.use, st.use)
}

package store

import (
	"bytes"
	"database/sql/driver"
	"fmt"
	"maps"
	"time"
)

const cacheMax = 16 << 20

type cacheValue struct {
	value []byte
	at    time.Time
}

// CacheLoad returns the value last stored under key, and when that was. The value is the caller's own.
func (s *Store) CacheLoad(key string) (value []byte, at time.Time, ok bool) {
	s.mu.Lock()
	v, ok := s.caches[key]
	s.mu.Unlock()
	if ok {
		return bytes.Clone(v.value), v.at, true
	}
	err := s.read(func(c *conn) error {
		return c.query(`SELECT at, value, sealed, sum FROM cache WHERE key = ?`, func(row []driver.Value) (err error) {
			at = toTime(row[0])
			value, err = c.rowCache(key, row)
			ok = err == nil
			return err
		}, key)
	})
	switch {
	case err != nil && s.isDamage(err):
		s.tellDamaged(damagedCache, err)
		return nil, time.Time{}, false
	case err != nil:
		s.opts.Logger.Warn("read cache", "store", s.path, "key", key, "error", err)
	}
	return value, at, ok
}

// rowCache returns the value of the columns at, value, sealed, sum.
func (c *conn) rowCache(key string, row []driver.Value) (value []byte, err error) {
	value = toBytes(row[1])
	switch {
	case toInt(row[2]) == 1:
		if value, err = c.box.Open(nil, value, cacheName(key)); err != nil {
			err = unopened(err)
		}
	case sumDiffers(row[3], cacheSum(key, toInt(row[0]), value)):
		err = errSum
	}
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", key, err)
	}
	return value, nil
}

// CacheStore keeps a copy of value under key. It does not wait for the disk: the value is written when no batch waits,
// at the latest by Close. A value above 16 MiB is not kept.
func (s *Store) CacheStore(key string, value []byte) {
	if s.readOnly || len(value) > cacheMax {
		return
	}
	v := &cacheValue{value: bytes.Clone(value), at: time.Now().UTC().Truncate(time.Millisecond)}
	s.mu.Lock()
	s.caches[key] = v
	s.mu.Unlock()
	s.signal()
}

// writeCaches writes the values that wait, in a transaction of their own: batches must not fail for want of room for a cache.
// What can not be written is given up.
func (s *Store) writeCaches() {
	s.mu.Lock()
	caches := maps.Clone(s.caches)
	s.mu.Unlock()
	err := s.begin()
	if err == nil {
		err = s.end(s.putCaches(caches))
	}
	if err != nil {
		s.opts.Logger.Warn("cache not kept", "store", s.path, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, v := range caches {
		if s.caches[key] == v { // not stored anew meanwhile
			delete(s.caches, key)
		}
	}
}

func (s *Store) putCaches(caches map[string]*cacheValue) error {
	for key, v := range caches {
		if err := s.w.putCache(key, toMillis(v.at), v.value); err != nil {
			return err
		}
	}
	return nil
}

// putCache writes one value; at is in Unix milliseconds.
func (c *conn) putCache(key string, at int64, value []byte) error {
	sealed := 0
	var sum any = cacheSum(key, at, value)
	if c.box.Seals() {
		sealed, sum = 1, nil
		c.sealed = c.box.Seal(c.sealed[:0], value, cacheName(key))
		value = c.sealed
	}
	return c.exec(`INSERT OR REPLACE INTO cache (key, at, value, sealed, sum) VALUES (?, ?, ?, ?, ?)`, key, at, value, sealed, sum)
}

package store

import (
	"bytes"
	"database/sql/driver"
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
		return c.query(`SELECT value, at FROM cache WHERE key = ?`, func(row []driver.Value) error {
			value, at, ok = toBytes(row[0]), toTime(row[1]), true
			return nil
		}, key)
	})
	if err != nil {
		s.opts.Logger.Warn("read cache", "store", s.path, "key", key, "error", err)
	}
	return value, at, ok
}

// CacheStore keeps a copy of value under key. It does not wait for the disk: the value goes with the next transaction,
// at the latest with Close. A value above 16 MiB is not kept.
func (s *Store) CacheStore(key string, value []byte) {
	if s.readOnly || len(value) > cacheMax {
		return
	}
	v := cacheValue{value: bytes.Clone(value), at: time.Now().UTC().Truncate(time.Millisecond)}
	s.mu.Lock()
	s.caches[key] = v
	s.mu.Unlock()
	s.signal()
}

func (t *tx) writeCaches() error {
	t.s.mu.Lock()
	t.caches = maps.Clone(t.s.caches)
	t.s.mu.Unlock()
	for key, v := range t.caches {
		if err := t.s.w.exec(`INSERT OR REPLACE INTO cache (key, at, value) VALUES (?, ?, ?)`, key, v.at, v.value); err != nil {
			return err
		}
	}
	return nil
}

// adoptCaches forgets the values that are written now, save those that were stored anew meanwhile.
func (t *tx) adoptCaches() {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	for key, v := range t.caches {
		if now := t.s.caches[key]; now.at.Equal(v.at) && bytes.Equal(now.value, v.value) {
			delete(t.s.caches, key)
		}
	}
}

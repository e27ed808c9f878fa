package store

import (
	"database/sql/driver"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

const (
	windowParts = 8    // a window is forgotten in steps of about an eighth
	tailBytes   = 4000 // a row of hashes below this fits a page with its neighbour's headers
)

// window is a set of hashes that forgets its oldest ones, by age and by count, a bucket at a time. A hash may carry a mark.
//
// In the database it is rows of hashes. The newest row of a bucket is rewritten until it fills a page, which costs the same
// page write as a row of its own would; so there are never many small rows to load, and nothing to compact.
type window struct {
	table string
	keep  time.Duration // a hash is kept for at least this long; 0: only max counts
	max   int           // most hashes
	part  int           // a bucket is closed at this many

	hashMap[uint8]          // its lock also guards buckets
	buckets        []bucket // oldest first; only the writer changes them

	nextBucket int64 // these belong to the writer
	nextRow    int64
	firstRow   int64 // rows below are deleted
	tails      [2]hashRow
}

type bucket struct {
	num      int64
	began    time.Time
	firstRow int64
	added    int
}

type hashRow struct {
	id     int64 // 0: none
	hashes []byte
}

// windowStep is what one transaction adds to a window. It takes effect with adopt.
type windowStep struct {
	added   [2][]uint64 // by mark
	bucket  bucket      // where they go
	opened  bool        // it is a new one
	tails   [2]hashRow
	nextRow int64
	delete  int64 // rows below this
}

func newWindow(table string, keep time.Duration, limit int) *window {
	return &window{table: table, keep: keep, max: limit, part: max(1, limit/windowParts), nextBucket: 1, nextRow: 1, firstRow: 1}
}

// has reports whether h was committed and not forgotten, and its mark.
func (w *window) has(h uint64) (known, marked bool) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	tag, ok := w.getLocked(h)
	if !ok || w.keep > 0 && w.expiredTagLocked(tag, time.Now()) {
		return false, false
	}
	return true, tag&1 == 1
}

// A tag is the bucket's number, of which far fewer than 128 are live at a time, and the mark.
func (b *bucket) tag(mark int) uint8 { return uint8(b.num&127)<<1 | uint8(mark) }

func (w *window) expiredTagLocked(tag uint8, now time.Time) bool {
	for i := range w.buckets {
		if b := &w.buckets[i]; b.tag(0) == tag&^1 {
			return w.expired(b, now)
		}
	}
	return true
}

// expired: a bucket is filled for keep/windowParts at most, so that is how old its youngest hash may be.
func (w *window) expired(b *bucket, now time.Time) bool {
	return w.keep > 0 && now.Sub(b.began) >= w.keep+w.keep/windowParts
}

// expire forgets buckets that are too old.
func (w *window) expire(now time.Time) {
	n := 0
	for n < len(w.buckets) && w.expired(&w.buckets[n], now) {
		n++
	}
	w.forget(n)
}

// forget drops the n oldest buckets from memory; their rows go with later transactions.
func (w *window) forget(n int) {
	if n == 0 {
		return
	}
	w.mu.Lock()
	gone := w.buckets[:n]
	w.buckets = append([]bucket(nil), w.buckets[n:]...)
	w.mu.Unlock()
	if len(w.buckets) == 0 {
		w.tails = [2]hashRow{}
	}
	w.drop(func(tag uint8) bool {
		for i := range gone {
			if gone[i].tag(0) == tag&^1 {
				return true
			}
		}
		return false
	})
}

// step plans what a transaction writes for the hashes to add, by mark. Hashes that add nothing are left out.
func (w *window) step(now time.Time, add [2][]uint64) windowStep {
	w.expire(now)
	st := windowStep{tails: w.tails, nextRow: w.nextRow, delete: w.deletable()}
	for mark, hashes := range add {
		st.added[mark] = make([]uint64, 0, len(hashes))
		for _, h := range hashes {
			if tag, ok := w.getLocked(h); !ok || int(tag&1) < mark { // only the writer changes the set
				st.added[mark] = append(st.added[mark], h)
			}
		}
	}
	n := len(st.added[0]) + len(st.added[1])
	if n == 0 {
		return st
	}
	if last := len(w.buckets) - 1; last >= 0 && w.buckets[last].added < w.part &&
		(w.keep == 0 || now.Sub(w.buckets[last].began) < w.keep/windowParts) {
		st.bucket = w.buckets[last]
	} else {
		st.bucket, st.opened = bucket{num: w.nextBucket, began: now, firstRow: st.nextRow}, true
		st.tails = [2]hashRow{}
	}
	st.bucket.added += n
	for mark, hashes := range st.added {
		if len(hashes) == 0 {
			continue
		}
		tail := &st.tails[mark]
		if tail.id == 0 || len(tail.hashes)+8*len(hashes) > tailBytes {
			*tail = hashRow{id: st.nextRow}
			st.nextRow++
		}
		tail.hashes = appendHashes(tail.hashes[:len(tail.hashes):len(tail.hashes)], hashes)
	}
	return st
}

// deletable is the row below which this transaction deletes: a few rows each time, for a bucket may have thousands.
func (w *window) deletable() int64 {
	low := w.nextRow
	if len(w.buckets) > 0 {
		low = w.buckets[0].firstRow
	}
	return min(low, w.firstRow+64)
}

func (w *window) empty(st *windowStep) bool {
	return len(st.added[0])+len(st.added[1]) == 0
}

// write is the database's part of st.
func (w *window) write(c *conn, st *windowStep) error {
	for mark := range st.added {
		if len(st.added[mark]) == 0 {
			continue
		}
		err := c.exec(`INSERT OR REPLACE INTO `+w.table+` (id, bucket, began, mark, hashes, crc) VALUES (?, ?, ?, ?, ?, ?)`,
			st.tails[mark].id, st.bucket.num, st.bucket.began, mark, st.tails[mark].hashes,
			hashesSum(st.tails[mark].id, st.bucket.num, toMillis(st.bucket.began), mark, st.tails[mark].hashes))
		if err != nil {
			return err
		}
	}
	if st.delete > w.firstRow {
		return c.exec(`DELETE FROM `+w.table+` WHERE id < ?`, st.delete)
	}
	return nil
}

// adopt is the memory's part of st, once it is committed.
func (w *window) adopt(st *windowStep) {
	w.firstRow = max(w.firstRow, st.delete)
	if w.empty(st) {
		return
	}
	w.tails, w.nextRow = st.tails, st.nextRow
	w.mu.Lock()
	if st.opened {
		w.nextBucket++
		w.buckets = append(w.buckets, st.bucket)
	} else {
		w.buckets[len(w.buckets)-1] = st.bucket
	}
	for mark, hashes := range st.added {
		for _, h := range hashes {
			w.putLocked(h, st.bucket.tag(mark))
		}
	}
	w.mu.Unlock()
	w.trim()
}

// trim forgets the oldest buckets while there are too many hashes.
func (w *window) trim() {
	for w.n > w.max && len(w.buckets) > 1 {
		w.forget(1)
	}
}

// load reads the window from its table. Of a row that is damaged it takes the hashes, of which most are right, as of the bucket before and without a mark; tell is called for it.
func (w *window) load(c *conn, now time.Time, tell func(error)) error {
	n, err := c.queryInt(`SELECT sum(length(hashes)) / 8 FROM ` + w.table)
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.reserveLocked(min(int(n), w.max+w.part))
	err = c.query(`SELECT id, bucket, began, mark, hashes, crc FROM `+w.table+` ORDER BY id`, func(row []driver.Value) error {
		w.loadRowLocked(row, now, tell)
		return nil
	})
	w.mu.Unlock()
	if err != nil {
		return err
	}
	w.expire(now)
	w.trim()
	return nil
}

func (w *window) loadRowLocked(row []driver.Value, now time.Time, tell func(error)) {
	id, num, mark, hashes := toInt(row[0]), toInt(row[1]), int(toInt(row[3])&1), toBytes(row[4])
	began := toTime(row[2])
	if sumDiffers(row[5], hashesSum(id, num, toInt(row[2]), int(toInt(row[3])), hashes)) {
		tell(fmt.Errorf("row %d: %w", id, errSum))
		num, mark, began = 1, 0, now
		if n := len(w.buckets); n > 0 {
			num, began = w.buckets[n-1].num, w.buckets[n-1].began
		}
	}
	if len(w.buckets) == 0 {
		w.firstRow = id
	}
	if n := len(w.buckets); n == 0 || w.buckets[n-1].num != num {
		w.buckets = append(w.buckets, bucket{num: num, began: began, firstRow: id})
		w.tails = [2]hashRow{}
	}
	w.nextRow, w.nextBucket = id+1, num+1
	b := &w.buckets[len(w.buckets)-1]
	b.added += len(hashes) / 8
	w.tails[mark] = hashRow{id: id, hashes: hashes[:len(hashes)&^7]}
	if w.expired(b, now) {
		return
	}
	for ; len(hashes) >= 8; hashes = hashes[8:] {
		h := binary.LittleEndian.Uint64(hashes)
		old, had := w.putLocked(h, b.tag(mark))
		if had && old == b.tag(1) {
			w.putLocked(h, old) // rows of one bucket are not in the order of their hashes, but a mark always comes later
		}
	}
}

func appendHashes(dst []byte, hashes []uint64) []byte {
	dst = slices.Grow(dst, 8*len(hashes))
	for _, h := range hashes {
		dst = binary.LittleEndian.AppendUint64(dst, h)
	}
	return dst
}

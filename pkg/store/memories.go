package store

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// MaxMemory is the most bytes of a memory.
const MaxMemory = 4096

const (
	memoryHead        = 8 + 4 + 2 // bytes: hash, time in Unix seconds, size; little endian
	memoryRowBytes    = 3950      // of a row, which then fits a page, also sealed; a memory that is larger has a row of its own
	memoryRowCount    = 255       // most memories of a row
	memoryTidyRows    = 4         // that one transaction takes away, and as many for each that it writes
	memoryTidyShare   = 16        // rows are not tidied, but for their age, below this part of what memories may take
	memoryTidyPause   = time.Minute
	memoryRecentShare = 32 // part of what memories may take that is kept at hand
)

// memories keeps some bytes for each hash that was given any: what it was given last, for a while.
//
// They are appended to rows of about a page, so that a commit writes few pages whatever hashes it is about; a table by hash would touch a
// page for each. An index says in which row the memory of a hash is. One that has a newer is dead. The oldest rows are taken away as they get too old
// or when much is dead: then what is alive in them is appended anew.
//
//	rows   | a b c | d a | e f |    index   a → 2nd row, b, c → 1st row, ...
//
// The newest row is written again until it is full, as in a window.
type memories struct {
	keep     time.Duration // they are kept for at least this long,
	most     int           // while there are no more than these
	maxBytes int64         // and they take no more than this

	index  hashMap[uint64] // to places; its lock also guards recent
	recent []memoryRow     // the newest rows without a gap

	total int64 // bytes of rows; guarded by index.mu, only the writer changes it

	recentBytes int   // these belong to the writer
	deleted     int64 // rows below are
	first, next int64 // rows from first on are in use; those before are deleted one transaction later, when the index shows nobody there any more
	live        int64 // of what is the newest of its hash
	ageChecked  time.Time
}

// memoryRow is a row of memories: their heads, and their data one behind the other.
type memoryRow struct {
	id          int64
	heads, data []byte
}

func (r *memoryRow) count() int { return len(r.heads) / memoryHead }
func (r *memoryRow) bytes() int { return len(r.heads) + len(r.data) }

// head returns what a row says of its ith memory.
func (r *memoryRow) head(i int) (hash uint64, at uint32, size int) {
	h := r.heads[i*memoryHead:]
	return binary.LittleEndian.Uint64(h), binary.LittleEndian.Uint32(h[8:]), int(binary.LittleEndian.Uint16(h[12:]))
}

// get returns the data of the ith memory; ok is false when that is not one of hash.
func (r *memoryRow) get(i int, hash uint64) (data []byte, ok bool) {
	if i >= r.count() {
		return nil, false
	}
	start := 0
	for j := range i {
		_, _, size := r.head(j)
		start += size
	}
	found, _, size := r.head(i)
	if found != hash || start+size > len(r.data) {
		return nil, false
	}
	return r.data[start : start+size : start+size], true
}

func (r *memoryRow) append(hash uint64, at uint32, data []byte) {
	r.heads = binary.LittleEndian.AppendUint64(r.heads, hash)
	r.heads = binary.LittleEndian.AppendUint32(r.heads, at)
	r.heads = binary.LittleEndian.AppendUint16(r.heads, uint16(len(data)))
	r.data = append(r.data, data...)
}

// youngest is when the last memory of a row was made.
func (r *memoryRow) youngest() (at uint32) {
	for i := range r.count() {
		_, t, _ := r.head(i)
		at = max(at, t)
	}
	return at
}

func (r *memoryRow) sum() uint32 {
	var id [8]byte
	binary.LittleEndian.PutUint64(id[:], uint64(r.id))
	return crc32.Update(crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, r.heads), castagnoli, r.data)
}

// A place is a row's id, a number in it, and the size of what is there.
func memoryPlace(row int64, i, size int) uint64 {
	return uint64(row)<<21 | uint64(i)<<13 | uint64(size)
}

func placeRow(p uint64) int64   { return int64(p >> 21) }
func placeNumber(p uint64) int  { return int(p >> 13 & 0xff) }
func placeBytes(p uint64) int64 { return memoryHead + int64(p&0x1fff) }

func newMemories(keep time.Duration, most int, maxBytes int64) *memories {
	return &memories{keep: keep, most: most, maxBytes: maxBytes, first: 1, next: 1}
}

// memoryStep is what one transaction does to the memories. It takes effect with adopt.
type memoryStep struct {
	rows    []memoryRow // to write; the first may be there already, with less in it
	had     int         // how many the first had
	next    int64
	gone    []placedHash // to be forgotten
	first   int64        // rows below are no longer in use
	freed   int64        // bytes that they had
	checked time.Time
}

type placedHash struct{ hash, place uint64 }

// step plans what a transaction writes. It reads the rows that it takes away.
func (m *memories) step(s *Store, now time.Time, add []Memory) (st memoryStep, err error) {
	st = memoryStep{next: m.next, first: m.first, checked: m.ageChecked}
	if len(add) == 0 {
		return st, nil
	}
	bytes := 0
	for i := range add {
		if len(add[i].Data) > MaxMemory {
			return st, fmt.Errorf("memory of %d bytes, at most %d", len(add[i].Data), MaxMemory)
		}
		bytes += memoryHead + len(add[i].Data)
	}
	if n := len(m.recent); n > 0 { // only the writer changes it
		st.rows = append(st.rows, m.recent[n-1])
		st.had = m.recent[n-1].count()
	}
	// What is alive in old rows goes first: it may be what is replaced by this transaction.
	if err := m.tidy(s, now, &st, memoryTidyRows*(2+bytes/memoryRowBytes)); err != nil {
		return st, err
	}
	for i := range add {
		st.add(add[i].Hash, uint32(now.Unix()), add[i].Data)
	}
	return st, nil
}

func (st *memoryStep) add(hash uint64, at uint32, data []byte) {
	n := len(st.rows)
	if n == 0 || st.rows[n-1].count() == memoryRowCount || st.rows[n-1].bytes()+memoryHead+len(data) > memoryRowBytes {
		st.rows = append(st.rows, memoryRow{id: st.next})
		st.next++
		n++
	}
	st.rows[n-1].append(hash, at, data)
}

// tidy takes up to rows of the oldest rows away: while there is too much, or too much that is dead, or they are too old.
func (m *memories) tidy(s *Store, now time.Time, st *memoryStep, rows int) error {
	old := uint32(max(0, now.Add(-m.keep).Unix()))
	count, live := m.index.n, m.live // only the writer changes them
	over := func() bool { return count > m.most || live > m.maxBytes }
	forget := func(hash, p uint64) {
		st.gone = append(st.gone, placedHash{hash, p})
		count--
		live -= placeBytes(p)
	}
	for ; rows > 0 && st.first < m.next-1; rows-- {
		total := m.total - st.freed
		needed := over() || total > m.maxBytes/memoryTidyShare && (total > 4*live || total > m.maxBytes+m.maxBytes/2)
		if !needed && now.Sub(st.checked) < memoryTidyPause {
			return nil
		}
		row := memoryRow{id: st.first}
		if err := s.w.memoryRow(&row); err != nil && !errors.Is(err, ErrDamaged) {
			return err
		}
		if !needed && row.count() > 0 && row.youngest() >= old {
			st.checked = now
			return nil
		}
		if row.count() == 0 { // lost
			m.index.eachLocked(func(hash, p uint64) {
				if placeRow(p) == row.id {
					forget(hash, p)
				}
			})
		}
		for i := range row.count() {
			hash, at, _ := row.head(i)
			p, ok := m.index.getLocked(hash)
			data, whole := row.get(i, hash)
			switch {
			case !ok || placeRow(p) != row.id || placeNumber(p) != i: // dead
			case at < old || over() || len(data) == 0 || !whole:
				forget(hash, p)
			default:
				st.add(hash, at, data)
			}
		}
		st.freed += int64(row.bytes())
		st.first++
	}
	return nil
}

// write is the database's part of st.
func (m *memories) write(c *conn, st *memoryStep) error {
	for i := range st.rows {
		r := &st.rows[i]
		if i == 0 && r.count() == st.had {
			continue // it was full
		}
		if err := c.putMemoryRow(r); err != nil {
			return err
		}
	}
	if m.first > m.deleted {
		return c.exec(`DELETE FROM memories WHERE id < ?`, m.first)
	}
	return nil
}

// memorySealed stands for the checksum of a row whose data is sealed, and so authenticated with its heads. It is none of 32 bits.
const memorySealed = -1

func (c *conn) putMemoryRow(r *memoryRow) error {
	crc, data := int64(r.sum()), r.data
	if c.box.Seals() {
		crc = memorySealed
		c.sealed = c.box.Seal(c.sealed[:0], r.data, memoriesName(r))
		data = c.sealed
	}
	return c.exec(`INSERT OR REPLACE INTO memories (id, crc, heads, data) VALUES (?, ?, ?, ?)`, r.id, crc, r.heads, data)
}

// adopt is the memory's part of st, once it is committed.
func (m *memories) adopt(st *memoryStep) {
	m.deleted, m.first, m.next, m.ageChecked = m.first, st.first, st.next, st.checked
	if len(st.rows) == 0 {
		return
	}
	m.index.mu.Lock()
	defer m.index.mu.Unlock()
	m.total -= st.freed
	for _, g := range st.gone {
		m.index.removeLocked(g.hash)
		m.live -= placeBytes(g.place)
	}
	if st.had > 0 {
		tail := len(m.recent) - 1
		m.total -= int64(m.recent[tail].bytes())
		m.recentBytes -= m.recent[tail].bytes()
		m.recent = m.recent[:tail]
	}
	from := st.had
	for i := range st.rows {
		m.indexLocked(&st.rows[i], from)
		from = 0
		m.total += int64(st.rows[i].bytes())
		m.recentBytes += st.rows[i].bytes()
	}
	m.recent = append(m.recent, st.rows...)
	n := 0
	for ; m.recentBytes > int(m.maxBytes/memoryRecentShare) && n < len(m.recent)-1; n++ {
		m.recentBytes -= m.recent[n].bytes()
	}
	clear(m.recent[:n])
	m.recent = m.recent[n:]
}

// indexLocked takes the memories of a row into the index, from the given one on.
func (m *memories) indexLocked(row *memoryRow, from int) {
	for i := from; i < min(row.count(), memoryRowCount); i++ {
		hash, _, size := row.head(i)
		p := memoryPlace(row.id, i, min(size, MaxMemory)) // both bounds hold but for damage
		old, had := m.index.putLocked(hash, p)
		if had {
			m.live -= placeBytes(old)
		}
		m.live += placeBytes(p)
	}
}

// load makes the index. It reads of each row only the heads, and does not check them: that is done when the row is used.
func (m *memories) load(c *conn) error {
	m.index.mu.Lock()
	defer m.index.mu.Unlock()
	return c.query(`SELECT id, heads FROM memories ORDER BY id`, func(r []driver.Value) error {
		row := memoryRow{id: toInt(r[0]), heads: toBytes(r[1])}
		if m.next == 1 {
			m.first = row.id
		}
		m.next = row.id + 1
		m.total += int64(len(row.heads))
		for i := range row.count() {
			_, _, size := row.head(i)
			m.total += int64(size)
		}
		m.indexLocked(&row, 0)
		return nil
	})
}

func (m *memories) totalBytes() int64 {
	m.index.mu.RLock()
	defer m.index.mu.RUnlock()
	return m.total
}

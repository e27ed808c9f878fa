package store

import (
	"context"
	"database/sql/driver"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	outcomeIndexBytes = 4000      // of a row of the index, which then fits a page; that of a large batch is larger
	outcomeIndexSpan  = 512 << 10 // most bytes of outcomes that one row of the index is about
	outcomeParts      = 64        // a row of the index is about a part of the time for which outcomes are kept
	outcomeRowCost    = 40        // bytes of a row beside its data and hashes, about
	outcomeDrops      = 2         // rows of the index that one transaction takes away, and as many for each that it begins
)

// outcomes keeps what became of outputs, bounded by size and age.
//
// The outcomes of a batch are one row. Beside it an index holds a keyed hash of each outcome's event id and person: rows of about a page, each
// about some rows of outcomes, so that to find an event is to look through some thousand pages of hashes, newest first. The newest row of the index
// is written again until it is full, as in a window. What is too old or too much goes by rows of the index, the oldest first.
//
//	index    | hashes of 1 2 3 | of 4 5 |
//	outcomes |      1 2 3      |   4 5  |
type outcomes struct {
	maxBytes int64         // they take no more than this; 0: none are kept
	maxAge   time.Duration // and get no older than this, and a part; 0: any age

	next  int64 // these belong to the writer: id of the next row
	tail  outcomeSpan
	first outcomeSpan // the oldest, without its hashes; the tail when there is one only

	bytes, count    atomic.Int64
	tooMany, tooOld atomic.Int64 // outcomes taken away, since Open
	oldest          atomic.Int64 // when the youngest of the oldest row of the index was settled, Unix milliseconds; 0: there is none
}

// outcomeSpan is a row of the index. bytesBefore and countBefore are those of all rows before it that ever were: what is kept is known from the
// first row and the last.
type outcomeSpan struct {
	id                       int64 // of the first row of outcomes that it is about; 0: none
	began, newest            time.Time
	bytesBefore, countBefore int64
	bytes, count             int64
	sizes                    []byte // hashes of each row of outcomes, uvarints
	hashes                   []byte
	damaged                  bool // nothing is added to it
}

func (sp *outcomeSpan) sum() uint32 {
	var id [8]byte
	binary.LittleEndian.PutUint64(id[:], uint64(sp.id))
	return crc32.Update(crc32.Update(crc32.Checksum(id[:], castagnoli), castagnoli, sp.sizes), castagnoli, sp.hashes)
}

// packedOutcomes are a batch's outcomes as they are stored.
type packedOutcomes struct {
	data   []byte // before compression
	blob   []byte
	hashes []byte
	count  int
	newest time.Time
}

var outcomePacks = sync.Pool{New: func() any { return new(packedOutcomes) }}

// packOutcomes runs in the caller of Commit. nil: there are none to keep.
func (s *Store) packOutcomes(all []Outcome) *packedOutcomes {
	if len(all) == 0 || s.outcomes.maxBytes <= 0 {
		return nil
	}
	p := outcomePacks.Get().(*packedOutcomes)
	p.data = appendOutcomes(p.data[:0], all)
	p.blob = appendBlock(p.blob[:0], p.data, s.opts.uncompressed)
	p.hashes, p.count, p.newest = s.outcomeHashes(p.hashes[:0], all), len(all), all[len(all)-1].Settled
	return p
}

// outcomeHashes appends what a row of outcomes is found by.
func (s *Store) outcomeHashes(dst []byte, all []Outcome) []byte {
	event, person := "", ""
	for i := range all {
		o := &all[i]
		if o.EventID != event && o.EventID != "" {
			event = o.EventID
			dst = binary.LittleEndian.AppendUint64(dst, s.outcomeHash(OutcomeQuery{EventID: event}))
		}
		if o.Person != person && o.Person != "" {
			person = o.Person
			dst = binary.LittleEndian.AppendUint64(dst, s.outcomeHash(OutcomeQuery{Person: person}))
		}
	}
	return dst
}

func (p *packedOutcomes) release() {
	if p != nil && cap(p.data) <= 1<<20 {
		outcomePacks.Put(p)
	}
}

// outcomeStep is what one transaction does to the outcomes. It takes effect with adopt.
type outcomeStep struct {
	now             time.Time
	next            int64
	tail, first     outcomeSpan
	changed         bool // the tail is not written as it is
	begun           int  // rows of the index
	tooMany, tooOld int64
}

func (o *outcomes) limit(maxBytes int64, maxAge time.Duration) {
	o.maxBytes, o.maxAge, o.next = maxBytes, maxAge, 1
}

// write is the database's part of a transaction: it adds packs and takes away what is too much. What edits are about was there before.
func (o *outcomes) write(c *conn, now time.Time, packs []*packedOutcomes, edits []outcomeEdit) (st outcomeStep, err error) {
	st = outcomeStep{now: now, next: o.next, tail: o.tail, first: o.first}
	for i := range edits {
		if err := o.edit(c, &st, &edits[i]); err != nil {
			return st, err
		}
	}
	for _, p := range packs {
		if err := o.add(c, &st, p); err != nil {
			return st, err
		}
	}
	if err := st.writeTail(c); err != nil {
		return st, err
	}
	return st, o.drop(c, &st)
}

func (o *outcomes) add(c *conn, st *outcomeStep, p *packedOutcomes) error {
	id := st.next
	st.next++
	blob := c.sealBlob(p.blob, outcomesName(id, p.count))
	err := c.exec(`INSERT INTO outcomes (id, count, size, crc, data) VALUES (?, ?, ?, ?, ?)`,
		id, p.count, len(p.data), int64(outcomesSum(id, p.count, blob)), blob)
	if err != nil {
		return err
	}
	t := &st.tail
	if t.id == 0 || t.damaged || len(t.hashes)+len(p.hashes) > outcomeIndexBytes || t.bytes > outcomeIndexSpan ||
		o.maxAge > 0 && st.now.Sub(t.began) >= o.maxAge/outcomeParts {
		if err := st.writeTail(c); err != nil {
			return err
		}
		begun := outcomeSpan{id: id, began: st.now, bytesBefore: t.bytesBefore + t.bytes, countBefore: t.countBefore + t.count}
		if t.id == 0 {
			st.first = begun
		}
		*t = begun
		st.begun++
	}
	size := int64(len(p.blob) + len(p.hashes) + outcomeRowCost)
	t.sizes = binary.AppendUvarint(t.sizes[:len(t.sizes):len(t.sizes)], uint64(len(p.hashes)/8))
	t.hashes = slices.Concat(t.hashes, p.hashes)
	if t.hashes == nil {
		t.hashes = []byte{} // of a record that could not be read there is no id; the column is not null
	}
	t.bytes += size
	t.count += int64(p.count)
	if p.newest.After(t.newest) {
		t.newest = p.newest
	}
	st.changed = true
	if st.first.id == t.id {
		st.first = *t
	}
	return nil
}

func (st *outcomeStep) writeTail(c *conn) error {
	if !st.changed {
		return nil
	}
	st.changed = false
	t := &st.tail
	return c.exec(`INSERT OR REPLACE INTO outcome_index (id, began, newest, bytes_before, count_before, bytes, count, crc, sizes, hashes)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		t.id, t.began, t.newest, t.bytesBefore, t.countBefore, t.bytes, t.count, int64(t.sum()), t.sizes, t.hashes)
}

// kept is what is kept after the step.
func (st *outcomeStep) kept() (bytes, count int64) {
	return st.tail.bytesBefore + st.tail.bytes - st.first.bytesBefore, st.tail.countBefore + st.tail.count - st.first.countBefore
}

// drop takes away the oldest rows of the index, with the outcomes that they are about, while there is too much or they are too old.
func (o *outcomes) drop(c *conn, st *outcomeStep) error {
	for drops := outcomeDrops * (1 + st.begun); drops > 0 && st.first.id != 0; drops-- {
		bytes, _ := st.kept()
		switch {
		case bytes > o.maxBytes:
			st.tooMany += st.first.count
		case o.maxAge > 0 && st.now.Sub(st.first.newest) >= o.maxAge:
			st.tooOld += st.first.count
		default:
			return nil
		}
		next, err := c.outcomeSpan(`WHERE id > ? ORDER BY id LIMIT 1`, st.first.id)
		if err != nil {
			return err
		}
		below := next.id
		if below == 0 {
			below = st.next
		}
		err = first(
			func() error { return c.exec(`DELETE FROM outcomes WHERE id < ?`, below) },
			func() error { return c.exec(`DELETE FROM outcome_index WHERE id < ?`, below) },
		)
		if err != nil {
			return err
		}
		st.first = next
		if next.id == 0 {
			st.tail = outcomeSpan{}
		}
	}
	return nil
}

// outcomeSpan reads a row of the index; one without an id when there is none.
func (c *conn) outcomeSpan(where string, args ...any) (sp outcomeSpan, err error) {
	err = c.query(`SELECT id, began, newest, bytes_before, count_before, bytes, count, sizes, hashes, crc FROM outcome_index `+where, func(row []driver.Value) error {
		sp = outcomeSpan{
			id: toInt(row[0]), began: toTime(row[1]), newest: toTime(row[2]), bytesBefore: toInt(row[3]), countBefore: toInt(row[4]),
			bytes: toInt(row[5]), count: toInt(row[6]), sizes: toBytes(row[7]), hashes: toBytes(row[8]),
		}
		sp.damaged = int64(sp.sum()) != toInt(row[9])
		return nil
	}, args...)
	return sp, err
}

// adopt is the memory's part of st, once it is committed.
func (o *outcomes) adopt(st *outcomeStep) {
	o.next, o.tail, o.first = st.next, st.tail, st.first
	bytes, count := st.kept()
	o.bytes.Store(bytes)
	o.count.Store(count)
	o.oldest.Store(toMillis(st.first.newest))
	o.tooMany.Add(st.tooMany)
	o.tooOld.Add(st.tooOld)
}

// load finds the ends of what is kept.
func (o *outcomes) load(c *conn) (err error) {
	st := outcomeStep{next: 1}
	if st.first, err = c.outcomeSpan(`ORDER BY id LIMIT 1`); err != nil {
		return err
	}
	if st.tail, err = c.outcomeSpan(`ORDER BY id DESC LIMIT 1`); err != nil {
		return err
	}
	last, err := c.queryInt(`SELECT max(id) FROM outcomes`)
	st.next = max(last, st.tail.id) + 1
	o.adopt(&st)
	return err
}

func outcomesSum(id int64, count int, blob []byte) uint32 {
	var head [16]byte
	binary.LittleEndian.PutUint64(head[:], uint64(id))
	binary.LittleEndian.PutUint64(head[8:], uint64(count))
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, blob)
}

// expireCommits is how many transactions one ExpireOutcomes makes at most: others have to wait for them.
const expireCommits = 200

// ExpireOutcomes takes away outcomes that are too old or too many. Every Commit does some of it; this is for times without any.
func (s *Store) ExpireOutcomes(ctx context.Context) error {
	for range expireCommits {
		oldest := s.outcomes.oldest.Load()
		if oldest == 0 {
			return nil
		}
		tooOld := s.outcomes.maxAge > 0 && time.Since(time.UnixMilli(oldest)) >= s.outcomes.maxAge
		if !tooOld && s.outcomes.bytes.Load() <= s.outcomes.maxBytes {
			return nil
		}
		if err := s.Commit(ctx, &Batch{}); err != nil {
			return err
		}
	}
	return nil
}

// KeepsOutcomes says whether Batch.Outcomes are kept at all.
func (s *Store) KeepsOutcomes() bool { return s.outcomes.maxBytes > 0 }

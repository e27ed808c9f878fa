package store

import (
	"bytes"
	"context"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// chore is what the writer does between two transactions.
type chore struct {
	do   func(*conn) error
	err  error
	done chan struct{}
}

// runChore has the writer do something that is no part of a transaction.
func (s *Store) runChore(do func(*conn) error) error {
	if s.readOnly {
		return ErrReadOnly
	}
	ch := &chore{do: do, done: make(chan struct{})}
	s.mu.Lock()
	if err := s.refusalLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.chores = append(s.chores, ch)
	s.mu.Unlock()
	s.signal()
	<-ch.done
	return ch.err
}

// doChores is the writer's part.
func (s *Store) doChores() {
	s.mu.Lock()
	chores, err := s.chores, s.err
	s.chores = nil
	s.mu.Unlock()
	for _, ch := range chores {
		if ch.err = err; err == nil {
			ch.err = ch.do(s.w)
		}
		close(ch.done)
	}
}

// ErrReaders says that somebody reads what was erased.
var ErrReaders = errors.New("somebody else reads the database")

// checkpointPatience is how long one try waits for readers. Meanwhile nothing is written.
const checkpointPatience = 100 // milliseconds

// Truncate writes everything into the database file and empties the log beside it, which may hold what was deleted since. While others read what is older it waits;
// when ctx ends first, the error wraps ErrReaders and ctx's.
func (s *Store) Truncate(ctx context.Context) error {
	for {
		busy := int64(1)
		err := s.runChore(func(c *conn) error {
			if err := c.script(fmt.Sprintf(`PRAGMA busy_timeout=%d`, checkpointPatience)); err != nil {
				return err
			}
			err := c.query(`PRAGMA wal_checkpoint(TRUNCATE)`, func(row []driver.Value) error {
				busy = toInt(row[0])
				return nil
			})
			if isBusy(err) {
				busy, err = 1, nil
			}
			return errors.Join(err, c.script(`PRAGMA busy_timeout=5000`))
		})
		if err != nil {
			return fmt.Errorf("empty the write-ahead log: %w", err)
		}
		if busy == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("empty the write-ahead log: %w: %w", ErrReaders, ctx.Err())
		case <-time.After(10 * time.Millisecond): // batches have their turn
		}
	}
}

// pagesPerScrub is how many pages one transaction cleans at most, and how many are looked at in one go.
const pagesPerScrub = 256

// Scrub clears what stands in pages of the database between the rows that are there: secure_delete overwrites a row that is deleted, but when SQLite moves rows
// to another page, what it leaves behind of them can stay. It reads the whole database, and goes beside commits. It returns how many pages it cleaned.
func (s *Store) Scrub(ctx context.Context) (cleaned int64, err error) {
	for from := int64(1); ; from += pagesPerScrub {
		if err := ctx.Err(); err != nil {
			return cleaned, err
		}
		var dirty []int64
		last := int64(0)
		err := s.read(func(c *conn) error {
			return c.snapshot(func() (err error) {
				if last, err = c.queryInt(`PRAGMA page_count`); err != nil {
					return err
				}
				for page := from; page < from+pagesPerScrub && page <= last; page++ {
					data, err := c.btreePage(page)
					if err != nil {
						return err
					}
					if _, found := scrubbed(page, data); found {
						dirty = append(dirty, page)
					}
				}
				return nil
			})
		})
		if err == nil && len(dirty) > 0 {
			err = s.submit(ctx, &request{done: make(chan struct{}), do: func(t *tx) error { return t.scrub(dirty) }})
		}
		if err != nil {
			return cleaned, fmt.Errorf("clean pages of the database: %w", err)
		}
		if cleaned += int64(len(dirty)); from+pagesPerScrub > last {
			return cleaned, nil
		}
	}
}

func (t *tx) scrub(pages []int64) error {
	for _, page := range pages {
		data, err := t.s.w.btreePage(page)
		if err != nil {
			return err
		}
		clean, found := scrubbed(page, data)
		if !found {
			continue // it is another page by now
		}
		if err := t.s.w.exec(`UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?`, clean, page); err != nil {
			return err
		}
	}
	return nil
}

// mapEvery is how many pages one page of the pointer map is about, and itself. The pointer map tells of each page what it is.
const (
	mapEvery    = pageSize/5 + 1
	pendingPage = 0x40000000/pageSize + 1 // never used

	mapRoot  = 1
	mapBtree = 5
)

// btreePage reads a page; nil: it holds no rows.
func (c *conn) btreePage(page int64) (data []byte, err error) {
	if page > 1 {
		at := (page-2)/mapEvery*mapEvery + 2
		if at == pendingPage {
			at++
		}
		if at == page || page == pendingPage {
			return nil, nil
		}
		kinds, err := c.page(at)
		entry := 5 * (page - at - 1)
		if err != nil || entry < 0 || entry >= int64(len(kinds)) || kinds[entry] != mapRoot && kinds[entry] != mapBtree {
			return nil, err
		}
	}
	return c.page(page)
}

func (c *conn) page(page int64) (data []byte, err error) {
	err = c.query(`SELECT data FROM sqlite_dbpage WHERE pgno = ?`, func(row []driver.Value) error {
		data = toBytes(row[0])
		return nil
	}, page)
	return data, err
}

// scrubbed is a page of rows with nothing between them; found says whether there was something. A page that is not as it should be stays.
func scrubbed(page int64, data []byte) (clean []byte, found bool) {
	if len(data) != pageSize {
		return nil, false
	}
	head := 0
	if page == 1 {
		head = 100
		if data[20] != 0 {
			return nil, false // some of each page is reserved: not by us
		}
	}
	cells := head + 8
	switch data[head] {
	case 2, 5: // inner pages
		cells += 4
	case 10, 13: // leaves
	default:
		return nil, false
	}
	u16 := func(at int) int { return int(binary.BigEndian.Uint16(data[at:])) }
	cells += 2 * u16(head+3)
	content := u16(head + 5)
	if cells > content || content > pageSize {
		return nil, false
	}
	clean = bytes.Clone(data)
	clear(clean[cells:content])
	for free := u16(head + 1); free != 0; {
		if free < content || free+4 > pageSize || free+u16(free+2) > pageSize || u16(free+2) < 4 {
			return nil, false
		}
		clear(clean[free+4 : free+u16(free+2)])
		next := u16(free)
		if next != 0 && next <= free {
			return nil, false
		}
		free = next
	}
	return clean, !bytes.Equal(clean, data)
}

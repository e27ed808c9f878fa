package store

import (
	"database/sql/driver"
	"fmt"
	"maps"
	"sync"
	"time"
)

// DeadLetterUse is what the dead letters of a destination take.
type DeadLetterUse struct {
	Letters int64
	Bytes   int64     // of their records and errors
	Oldest  time.Time // At of the oldest
	Marked  int64     // that are to be replayed
}

// letters is what is known of dead letters in memory.
type letters struct {
	marked chan struct{} // holds one: letters were marked to be replayed

	mu  sync.Mutex // guards the fields below
	use lettersInUse
}

// lettersInUse is what the triggers keep count of.
type lettersInUse struct {
	rows   []letterUse
	marked map[string]int64 // by destination
}

// letterUse is a row of the table dead_letter_use, which triggers keep.
type letterUse struct {
	destination, reason string
	letters, bytes      int64
}

func (l *letters) adopt(use lettersInUse) {
	l.mu.Lock()
	l.use = use
	l.mu.Unlock()
}

func (l *letters) load(c *conn, tell func(error)) error {
	use, err := c.letterUse()
	if err == nil && len(use.marked) > 0 {
		use.marked, err = c.recountMarks(use.marked, tell)
	}
	l.adopt(use)
	return err
}

// recountMarks mends the counts of marks where they are not those that there are: what is replayed goes by them.
func (c *conn) recountMarks(counted map[string]int64, tell func(error)) (marked map[string]int64, err error) {
	marked = make(map[string]int64, len(counted))
	err = c.query(`SELECT destination, count(*) FROM replays WHERE how <> '' GROUP BY destination`, func(row []driver.Value) error {
		marked[toString(row[0])] = toInt(row[1])
		return nil
	})
	if err != nil || maps.Equal(marked, counted) {
		return marked, err
	}
	tell(fmt.Errorf("%w: the counts of those that are to be replayed are not right", ErrDamaged))
	if err := c.exec(`DELETE FROM replay_use`); err != nil {
		return marked, err
	}
	return marked, c.exec(`INSERT INTO replay_use SELECT destination, count(*) FROM replays WHERE how <> '' GROUP BY destination`)
}

func (c *conn) letterUse() (use lettersInUse, err error) {
	err = c.query(`SELECT destination, reason, letters, bytes FROM dead_letter_use`, func(row []driver.Value) error {
		use.rows = append(use.rows, letterUse{toString(row[0]), toString(row[1]), toInt(row[2]), toInt(row[3])})
		return nil
	})
	if err != nil {
		return use, err
	}
	use.marked = make(map[string]int64)
	err = c.query(`SELECT destination, marked FROM replay_use WHERE marked > 0`, func(row []driver.Value) error {
		use.marked[toString(row[0])] = toInt(row[1])
		return nil
	})
	return use, err
}

// readLetterUse reads what the transaction has made of it.
func (t *tx) readLetterUse() (err error) {
	if t.letters {
		t.use, err = t.s.w.letterUse()
	}
	return err
}

// letterUse is the use as it was committed.
func (s *Store) letterUse() (use lettersInUse, err error) {
	if s.readOnly {
		err = s.read(func(c *conn) error {
			use, err = c.letterUse()
			return err
		})
		return use, err
	}
	s.letters.mu.Lock()
	defer s.letters.mu.Unlock()
	return s.letters.use, nil // a commit makes another
}

// DeadLetterCounts returns how many dead letters there are, by destination and reason. It costs next to nothing.
func (s *Store) DeadLetterCounts() (map[[2]string]int64, error) {
	all, err := s.letterUse()
	counts := make(map[[2]string]int64, len(all.rows))
	for _, u := range all.rows {
		counts[[2]string{u.destination, u.reason}] = u.letters
	}
	return counts, err
}

// DeadLetterUse returns what dead letters take, by destination. It looks one row up for each.
func (s *Store) DeadLetterUse() (map[string]DeadLetterUse, error) {
	use, err := s.deadLetterBytes()
	if err != nil || len(use) == 0 {
		return use, err
	}
	err = s.read(func(c *conn) error {
		for destination, u := range use {
			at, err := c.queryInt(`SELECT min(at) FROM dead_letters WHERE destination = ?`, destination)
			if err != nil {
				return err
			}
			u.Oldest = toTime(at)
			use[destination] = u
		}
		return nil
	})
	return use, err
}

// deadLetterBytes is the use without the oldest.
func (s *Store) deadLetterBytes() (map[string]DeadLetterUse, error) {
	all, err := s.letterUse()
	use := make(map[string]DeadLetterUse, len(all.rows))
	for _, row := range all.rows {
		u := use[row.destination]
		u.Marked = all.marked[row.destination]
		u.Letters += row.letters
		u.Bytes += row.bytes
		use[row.destination] = u
	}
	return use, err
}

// DeadLetterBytes is how many bytes the dead letters of a destination take. It is cheap.
func (s *Store) DeadLetterBytes(destination string) (bytes int64) {
	s.letters.mu.Lock()
	defer s.letters.mu.Unlock()
	for i := range s.letters.use.rows {
		if u := &s.letters.use.rows[i]; u.destination == destination {
			bytes += u.bytes
		}
	}
	return bytes
}

// ReplaysLeft is how many dead letters are marked to be replayed, by destination; those without are left out. It is cheap, and not to be changed.
func (s *Store) ReplaysLeft() map[string]int64 {
	s.letters.mu.Lock()
	defer s.letters.mu.Unlock()
	return s.letters.use.marked
}

// ReplayWanted receives after letters were marked with MarkReplay. One goroutine may wait for it.
func (s *Store) ReplayWanted() <-chan struct{} { return s.letters.marked }

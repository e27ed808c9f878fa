package store

import (
	"database/sql/driver"
	"fmt"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// What is committed stands in SQLite's write-ahead log until a checkpoint copies it to the database file, and a damaged byte in that log takes all commits behind
// it away, as if they had never been. So the ingest log keeps its records until the database file itself holds what became of them.

// checkpointEvery is how long what is committed may stand in the write-ahead log alone, about. It bounds what is done again after damage there, and how long a database
// file that can not be written goes unnoticed.
const checkpointEvery = time.Minute

// FilePositions are the positions that the database file holds by itself, without its write-ahead log: records below are not needed any more, whatever is
// damaged in that. They are 0 until the first checkpoint of this process.
func (s *Store) FilePositions() (live, bulk uint64) {
	return s.filePosition.Load(), s.fileBulkPosition.Load()
}

// AskCheckpoint has the positions of now be those that [Store.FilePositions] returns, soon: it does not wait for that.
func (s *Store) AskCheckpoint() {
	if s.readOnly || s.checkpointAsked.Swap(true) {
		return
	}
	s.signal()
}

// checkpointDue says whether it is time for a checkpoint. The writer calls it.
func (s *Store) checkpointDue(now time.Time) bool {
	return s.Err() == nil && (s.checkpointAsked.Load() || !s.uncheckpointed.IsZero() && now.Sub(s.uncheckpointed) >= checkpointEvery)
}

// checkpointTimer fires when a checkpoint is due though nothing is written.
func (s *Store) checkpointTimer(now time.Time) (fires <-chan time.Time, stop func()) {
	if s.uncheckpointed.IsZero() || s.Err() != nil {
		return nil, func() {}
	}
	t := time.NewTimer(checkpointEvery - now.Sub(s.uncheckpointed))
	return t.C, func() { t.Stop() }
}

// checkpoint copies what is committed to the database file and syncs that. It does as much as it can without waiting for readers: what is left has to wait for the next one.
func (s *Store) checkpoint(now time.Time) {
	s.checkpointAsked.Store(false)
	live, bulk := s.position.Load(), s.bulkPosition.Load() // the writer is between two transactions
	busy, frames, copied := int64(1), int64(0), int64(0)
	err := s.w.query(`PRAGMA wal_checkpoint(PASSIVE)`, func(row []driver.Value) error {
		busy, frames, copied = toInt(row[0]), toInt(row[1]), toInt(row[2])
		return nil
	})
	switch {
	case err == nil && busy == 0 && frames == copied:
		s.uncheckpointed = time.Time{}
		s.filePosition.Store(live)
		s.fileBulkPosition.Store(bulk)
	case err == nil || isBusy(err):
		s.uncheckpointed = now // a reader is at work
	case code(err) == sqlite3.SQLITE_FULL:
		s.uncheckpointed = now
		s.stats.fullAt.Store(&now)
	default:
		s.fail(fmt.Errorf("checkpoint: %w", err))
	}
}

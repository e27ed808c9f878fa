package store

import (
	"os"
	"time"

	sqlite3 "modernc.org/sqlite/lib"
)

// Stats are numbers for metrics and for `router check`.
type Stats struct {
	FileBytes         int64 // the database
	WALBytes          int64 // its write-ahead log
	FreePages         int64 // of 4 KiB, in the database: they are used again
	Commits           int64 // transactions, since Open
	Batches           int64 // calls that they held; Batches/Commits is how well they shared
	CommitTime        time.Duration
	BlockBytes        int64 // of the blocks handed over since Open
	BlockBytesDisk    int64 // the same after compression
	Seen, Known       int   // hashes in memory
	Memories          int   // hashes of which something is remembered
	MemoryBytes       int64 // of their rows on the disk
	HashBytes         int64 // memory that all hashes take
	Outcomes          int64 // kept
	OutcomeBytes      int64 // that they take on the disk, about
	OutcomesTooMany   int64 // taken away since Open because they took too much,
	OutcomesTooOld    int64 // or got too old
	Identities        int64 // kept, when they were last gone through; 0 before
	IdentitiesTooMany int64 // taken away since Open because there were too many,
	IdentitiesTooOld  int64 // or they were not seen for long
	IdentityHits      int64
	IdentityMisses    int64
	UnwrittenCaches   int
}

// Stats returns the numbers as they are now. It makes two system calls.
func (s *Store) Stats() Stats {
	s.identities.mu.Lock()
	hits, misses := s.identities.hits, s.identities.misses
	s.identities.mu.Unlock()
	s.mu.Lock()
	unwritten := len(s.caches)
	s.mu.Unlock()
	return Stats{
		FileBytes: fileSize(s.path), WALBytes: fileSize(s.path + "-wal"), FreePages: s.stats.freePages.Load(),
		Commits: s.stats.commits.Load(), Batches: s.stats.batches.Load(), CommitTime: time.Duration(s.stats.commitNanos.Load()),
		BlockBytes: s.stats.blockRaw.Load(), BlockBytesDisk: s.stats.blockStored.Load(),
		Seen: s.seen.len(), Known: s.known.len(), HashBytes: s.seen.bytes() + s.known.bytes() + s.memories.index.bytes(),
		Memories: s.memories.index.len(), MemoryBytes: s.memories.totalBytes(),
		Outcomes: s.outcomes.count.Load(), OutcomeBytes: s.outcomes.bytes.Load(),
		OutcomesTooMany: s.outcomes.tooMany.Load(), OutcomesTooOld: s.outcomes.tooOld.Load(),
		Identities: s.stats.identities.Load(), IdentitiesTooMany: s.stats.identitiesTooMany.Load(), IdentitiesTooOld: s.stats.identitiesTooOld.Load(),
		IdentityHits: hits, IdentityMisses: misses, UnwrittenCaches: unwritten,
	}
}

func fileSize(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

// Full reports whether the store should get no new work: the disk has less than MinFreeBytes left, the store's free pages
// counted as free, or a write found it full in the last seconds. Commit works on below the floor: what was acknowledged must
// get in. It makes one system call.
func (s *Store) Full() bool {
	if at := s.stats.fullAt.Load(); at != nil && time.Since(*at) < fullFor {
		return true
	}
	if s.opts.MinFreeBytes <= 0 {
		return false
	}
	free, err := freeBytes(s.path)
	return err == nil && free+s.stats.freePages.Load()*pageSize < s.opts.MinFreeBytes
}

// Free is what is left on the disk below the store, the store's own free pages counted in. It makes one system call.
func (s *Store) Free() (bytes int64, err error) {
	free, err := freeBytes(s.path)
	return free + s.stats.freePages.Load()*pageSize, err
}

// fullFor is how long a full disk keeps new work away. Then a write has to find out anew.
const fullFor = 10 * time.Second

// measure reads the database's size, which only the writer's connection knows at once.
func (s *Store) measure() error {
	free, err := s.w.queryInt(`PRAGMA freelist_count`)
	if err != nil {
		return err
	}
	s.stats.freePages.Store(free)
	s.stats.fullAt.Store(nil)
	return nil
}

// Free pages are given back to the file system when nothing was written for a while and they are many: pages come and go
// with every hand-over, and moving them costs.
const (
	vacuumAfter    = 2 * time.Second
	vacuumAbove    = 16 << 10 // pages: 64 MiB
	vacuumInterval = 50 * time.Millisecond
)

// idleTimer fires when it is time to give pages back. It never does while there are none.
func (s *Store) idleTimer() (fires <-chan time.Time, stop func()) {
	if s.stats.freePages.Load() < s.opts.vacuumAbove || s.Err() != nil {
		return nil, func() {}
	}
	wait := vacuumAfter
	if s.vacuuming {
		wait = vacuumInterval
	}
	t := time.NewTimer(wait)
	return t.C, func() { t.Stop() }
}

// vacuum gives some pages back. It holds the writer for a few milliseconds.
func (s *Store) vacuum() {
	s.vacuuming = true
	err := s.w.exec(`PRAGMA incremental_vacuum(512)`)
	if err == nil {
		err = s.measure()
	}
	switch {
	case err == nil:
	case isBusy(err) || code(err) == sqlite3.SQLITE_FULL:
		s.vacuuming = false // later again
	default:
		s.fail(err)
	}
}

// Package store keeps what is left to do and what became of it: lanes, dead letters, de-duplication, identities, marks of
// calls in flight, caches. It stands between the sorter, which hands batches of entries over, and the lanes' dispatchers,
// which work them off.
//
//	sorter ─ Commit(position, blocks, seen, …) ─▶ ┌────────────────┐
//	                                              │ lane 1  ▤ ▤ ▤  │ ─ ReadBlocks ─▶ dispatcher
//	                                              │ lane 2  ▤      │ ◀─ Commit(progress, retries, …) ─
//	                                              └────────────────┘
//
// It is one SQLite database, router.db, that an operator can open with sqlite3. A lane is a row of blocks, each with all
// entries that one hand-over made for the lane: a row per entry would cost several times as much. For the same reason
// de-duplication and known keys are hashes in memory that are kept as rows of hashes.
package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"eventrouter/pkg/seal"
)

// Errors of the store, to be tested with errors.Is.
var (
	ErrInUse    = errors.New("directory is in use")     // another process has it open; the error names its id
	ErrFormat   = errors.New("unknown store format")    // written by a newer version, or (read-only) by an older one
	ErrDamaged  = errors.New("store is damaged")        // see DamagedError
	ErrFull     = errors.New("store is full")           // the disk is: nothing was written; try again later
	ErrFailed   = errors.New("store failed")            // the disk did: nothing is written any more
	ErrClosed   = errors.New("store is closed")         //
	ErrReadOnly = errors.New("store is open read-only") //
	ErrBatch    = errors.New("bad batch")               // it names what is not there, or counts wrongly; nothing of it was written
)

// Options of a store.
type Options struct {
	MinFreeBytes int64         // floor of free space on the disk, below which Full reports true; 0: no floor
	SeenWindow   time.Duration // how long de-duplication remembers at least; 0: 24 hours
	SeenMax      int           // how many ids it remembers at most, 11 to 16 bytes of memory each; 0: 10,000,000
	KnownMax     int           // known keys remembered, as large each; 0: 4,000,000
	MemoryWindow time.Duration // how long a Memory is kept at least; 0: 7 days
	MemoryMax    int           // how many are kept at most, 20 to 28 bytes of memory each; 0: 1,000,000
	MemoryBytes  int64         // that they may take, and half as much again on the disk; 0: 256 MiB
	OutcomeBytes int64         // that outcomes may take on the disk; 0: none are kept
	OutcomeAge   time.Duration // how long they are kept at most; 0: as long as there is room
	IdentityAge  time.Duration // how long an identity is kept after it was last seen; 0: any time
	IdentityMax  int           // how many are kept; 0: any number
	KVMaxEntries int           // that the scripts of a destination may keep; 0: 100,000
	KVMaxBytes   int64         // that they may take, keys and values, of a destination; 0: 64 MiB
	Logger       *slog.Logger  // nil: slog.Default

	// Keys: what is written is sealed with that of them which seals, and read with any. nil: it is plain.
	Keys *seal.Ring

	// For tests and benchmarks.
	uncompressed bool
	vacuumAbove  int64  // free pages
	pragmas      string // of the writer's connection, added to the others
}

func (o Options) withDefaults() Options {
	if o.SeenWindow == 0 {
		o.SeenWindow = 24 * time.Hour
	}
	if o.SeenMax == 0 {
		o.SeenMax = 10_000_000
	}
	if o.KnownMax == 0 {
		o.KnownMax = 4_000_000
	}
	if o.MemoryWindow == 0 {
		o.MemoryWindow = 7 * 24 * time.Hour
	}
	if o.MemoryMax == 0 {
		o.MemoryMax = 1_000_000
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 256 << 20
	}
	if o.KVMaxEntries == 0 {
		o.KVMaxEntries = 100_000
	}
	if o.KVMaxBytes == 0 {
		o.KVMaxBytes = 64 << 20
	}
	if o.vacuumAbove == 0 {
		o.vacuumAbove = vacuumAbove
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

const (
	fileName = "router.db"
	readers  = 3
)

// Store is an open store. Its methods may be called from many goroutines.
type Store struct {
	path      string
	opts      Options
	readOnly  bool
	lock      *os.File
	k0, k1    uint64 // of Hash
	forgetKey []byte // of forgottenHash
	box       *seal.Box
	lookup    *seal.Lookup // nil: what is looked up stands in plain
	keysLeft  atomic.Pointer[[]seal.KeyID]
	readers   chan *conn
	opened    int           // of them
	closed    chan struct{} // closed by Close
	failed    chan struct{} // closed by fail
	stopped   chan struct{} // closed when the writer has ended
	wake      chan struct{} // something is queued; holds one

	position, bulkPosition atomic.Uint64
	lastCall               atomic.Int64
	filePosition           atomic.Uint64 // see FilePositions
	fileBulkPosition       atomic.Uint64
	checkpointAsked        atomic.Bool
	stats                  counters
	check                  atomic.Pointer[Check] // nil: none yet

	seen       *window
	known      *window
	identities *identityCache
	memories   *memories
	outcomes   outcomes
	kv         kvTable
	letters    letters
	forgotten  atomic.Pointer[forgottenSet]

	mu      sync.Mutex // guards the fields below
	queue   []*request
	caches  map[string]*cacheValue // not yet written
	chores  []*chore
	closing bool
	err     error // why it failed

	lanesMu sync.RWMutex // guards the fields below; only the writer changes them
	lanes   map[LaneID]*lane
	byName  map[LaneName]LaneID

	oldestMu sync.Mutex // one refreshOldest at a time; taken before lanesMu

	w         *conn // these belong to the writer
	nextBlock BlockID
	vacuuming bool // the last thing done was vacuum

	uncheckpointed time.Time // of the first commit since the last checkpoint that was whole, or of the last one that was not; zero: none
}

// Open opens the store in dir, which it makes where it is missing, for this process alone.
// The caller must Close it. Opening takes time for the hashes of de-duplication and memories, not for the lanes.
func Open(dir string, opts Options) (_ *Store, err error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := newStore(filepath.Join(dir, fileName), opts.withDefaults())
	s.lock = lock
	defer func() {
		if err != nil {
			s.closeFiles()
		}
	}()
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", s.path, err)
	}
	go s.write()
	return s, nil
}

// OpenReadOnly opens the store in dir for its reading methods, whether or not a router has it open. keys are as in Options.
// Seen and Known report nothing: they need what only the writing process has in memory.
func OpenReadOnly(dir string, keys *seal.Ring) (_ *Store, err error) {
	s := newStore(filepath.Join(dir, fileName), Options{Keys: keys}.withDefaults())
	s.readOnly = true
	defer func() {
		if err != nil {
			s.closeFiles()
			err = fmt.Errorf("open store %s: %w", s.path, err)
		}
	}()
	if _, err := os.Stat(s.path); err != nil {
		return nil, err
	}
	close(s.stopped)
	if err := s.openReaders("ro"); err != nil {
		return nil, err
	}
	return s, s.prepareReaders()
}

func newStore(path string, opts Options) *Store {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs // SQLite takes it as a URL
	}
	s := &Store{
		path:       path,
		opts:       opts,
		box:        opts.Keys.Box("store"),
		readers:    make(chan *conn, readers),
		closed:     make(chan struct{}),
		failed:     make(chan struct{}),
		stopped:    make(chan struct{}),
		wake:       make(chan struct{}, 1),
		seen:       newWindow("seen", opts.SeenWindow, opts.SeenMax),
		known:      newWindow("known", 0, opts.KnownMax),
		identities: newIdentityCache(identitiesPerMap),
		memories:   newMemories(opts.MemoryWindow, opts.MemoryMax, opts.MemoryBytes),
		caches:     make(map[string]*cacheValue),
		lanes:      make(map[LaneID]*lane),
		byName:     make(map[LaneName]LaneID),
		letters:    letters{marked: make(chan struct{}, 1)},
	}
	s.outcomes.limit(opts.OutcomeBytes, opts.OutcomeAge)
	s.LimitKV(opts.KVMaxEntries, opts.KVMaxBytes)
	return s
}

func (s *Store) open() (err error) {
	// SQLite's own creation would leave the file readable for others.
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), syncDir(filepath.Dir(s.path))); err != nil {
		return err
	}
	s.reportWAL()
	if s.w, err = openWriter(s.path, s.opts.pragmas); err != nil {
		return err
	}
	st, err := s.w.state()
	if err != nil {
		return err
	}
	s.position.Store(st.position)
	s.bulkPosition.Store(st.bulkPosition)
	s.nextBlock = st.nextBlock
	s.w.box = s.box
	if err := s.loadLanes(); err != nil {
		return err
	}
	if err := s.openSealing(); err != nil {
		return err
	}
	now := time.Now()
	if err := errors.Join(s.seen.load(s.w, now, s.teller(damagedSeen)), s.known.load(s.w, now, s.teller(damagedKnown)), s.memories.load(s.w), s.outcomes.load(s.w), s.kv.load(s.w),
		s.letters.load(s.w, s.teller(damagedLetters)), s.loadForgotten()); err != nil {
		return err
	}
	last, err := s.w.queryInt(`SELECT max(id) FROM calls`)
	if err != nil {
		return err
	}
	s.lastCall.Store(last)
	if err := s.measure(); err != nil {
		return err
	}
	if err := s.openReaders("rw"); err != nil {
		return err
	}
	return s.prepareReaders()
}

func (s *Store) openReaders(mode string) error {
	for range readers {
		c, err := openReader(s.path, mode)
		if err != nil {
			return err
		}
		s.readers <- c
		s.opened++
	}
	return nil
}

func (s *Store) setHashKey(key []byte) {
	s.forgetKey = key
	s.k0, s.k1 = binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[8:])
}

// Close writes what waits, stops the writer and closes the files. Later calls report ErrClosed; a second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		<-s.stopped
		return nil
	}
	s.closing = true
	s.mu.Unlock()
	s.signal()
	<-s.stopped
	close(s.closed)
	return errors.Join(s.Err(), s.closeFiles())
}

// closeFiles closes what is open. It waits for reading calls to end.
func (s *Store) closeFiles() error {
	var errs []error
	for range s.opened {
		c := <-s.readers
		errs = append(errs, c.close())
	}
	if s.w != nil {
		errs = append(errs, s.w.close()) // last: this checkpoints
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Position is the next offset of the live log to sort, as committed.
func (s *Store) Position() uint64 {
	if s.readOnly {
		return s.readState().position
	}
	return s.position.Load()
}

// BulkPosition is the next offset of the bulk log to sort, as committed; 0 before anything of it was sorted.
func (s *Store) BulkPosition() uint64 {
	if s.readOnly {
		return s.readState().bulkPosition
	}
	return s.bulkPosition.Load()
}

// readState is the zero state where it can not be read.
func (s *Store) readState() (st state) {
	_ = s.read(func(c *conn) (err error) {
		st, err = c.state()
		return err
	})
	return st
}

// NextCall returns a call id that no call in the store has.
func (s *Store) NextCall() CallID { return CallID(s.lastCall.Add(1)) }

// Seen reports whether h was committed as Batch.Seen and is not forgotten.
func (s *Store) Seen(h uint64) bool {
	seen, _ := s.seen.has(h)
	return seen
}

// Known reports whether h was committed as Batch.Known or Batch.Delivered, and whether as Delivered.
func (s *Store) Known(h uint64) (known, delivered bool) { return s.known.has(h) }

// Failed is closed when the store failed: a write did not reach the disk, or may not have. Err tells why.
// The process must end: what is in memory and what is on disk may differ.
func (s *Store) Failed() <-chan struct{} { return s.failed }

// Err is why the store failed, nil while it did not.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// read lends one of the read connections to fn.
func (s *Store) read(fn func(*conn) error) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	select {
	case <-s.closed:
		return ErrClosed
	case c := <-s.readers:
		defer func() { s.readers <- c }()
		err := fn(c)
		if code(err) == sqlite3.SQLITE_CORRUPT && !errors.Is(err, ErrDamaged) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return err
	}
}

// Package log is the durable log between ingest and the sorter.
//
//	Append ─▶ | 7 | 6 | 5 | 4 | ─▶ Reader (at 5)      below 4: reclaimed
//
// A record is reclaimed once the store holds all that became of it.
//
// The log is a folder of segment files, each named after its first offset. Appends that wait together are one group: one
// write, one fsync, one frame ahead of their records that says how far the log was durable before them. Groups form a
// chain, so a missing or damaged stretch is told from a gap and from the torn group that a crash leaves at the end:
//
//	segment ─▶ header | group | record record record | group | record ...
//	                      └ durable end before it, first offset, count, bytes
package log

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"eventrouter/pkg/seal"
)

// Offset numbers records from 0, in the order in which they became durable. Offsets rise and are never reused; gaps are allowed.
type Offset uint64

// Options of a log.
type Options struct {
	SegmentBytes int64  // a segment is closed at this size; 0: 64 MiB; at most half of MaxBytes
	MaxBytes     int64  // all segments; at it Append returns ErrFull; 0: 1 GiB
	MinFreeBytes int64  // of the file system; below it Append returns ErrFull; 0: no floor
	Position     Offset // the reader's durable position; the log goes on at the later of this and its own end
	Salvage      bool   // pass over damage below the durable end, repair and report it, instead of refusing to open; reads the whole log
	Logger       *slog.Logger

	// Keys: records are sealed with that of them which seals, and opened with any. nil: they are plain.
	Keys *seal.Ring
}

const (
	defaultSegmentBytes = 64 << 20
	defaultMaxBytes     = 1 << 30
)

// Errors of Append and Open.
var (
	ErrFull    = errors.New("log is full")         // nothing was made durable; try again later
	ErrFailed  = errors.New("log failed")          // an fsync failed: nothing is accepted any more
	ErrClosed  = errors.New("log is closed")       // by Close
	ErrDamaged = errors.New("log is damaged")      // Open refused, or a Reader came to it; see Options.Salvage
	ErrFormat  = errors.New("unknown log format")  // written by a newer version
	ErrInUse   = errors.New("directory is in use") // by another process
	ErrKey     = seal.ErrKey                       // Open refused: records are sealed with a key that is not among Options.Keys
	ErrTooBig  = errors.New("record is too big")   // over MaxRecordBytes, or a call that can never fit the log
)

// Damage is a stretch of a segment that could not be read. From equals To where records are missing altogether.
type Damage struct {
	File       string
	From, To   int64  // bytes in the file as it was found
	Reason     string // what was wrong at From
	KeptAside  string // where the bytes were copied; "" if they still stand in the file
	LostBefore Offset // records up to this offset may be affected
}

// Log is an open log. Its methods may be called by many goroutines at once.
type Log struct {
	dir    string
	opts   Options
	disk   disk
	logger *slog.Logger
	lock   *os.File
	damage []Damage
	errMax error // ErrFull, saying which limit; built once since an overloaded log returns them often
	errMin error
	box    *seal.Box
	// overhead is how many bytes more a record takes since it is sealed; 0: it is not.
	overhead int

	failed chan struct{} // closed when an fsync failed
	closed chan struct{} // closed by Close

	// turn is held by whoever writes to the tail: the leader of the group being made durable, or Close. It is the one
	// lock that is held across I/O; nothing but the next group waits for it. Taken before mu.
	turn     sync.Mutex
	tail     file // nil: the next group opens a segment
	frontier      // of the groups written so far
	sealed   bool // the last group on disk is known to be durable by what follows it

	mu        sync.Mutex // guards the fields below
	space     sync.Cond  // the gathering group was taken; signalled to callers who did not fit in it
	blocked   int        // callers waiting for space
	gather    *group
	spare     []*group
	waiting   int // calls in the group that is being made durable
	next      Offset
	end       Offset // what readers may see: everything below is durable
	used      int64  // bytes of all segments and of the groups not written yet
	freeAt    time.Time
	headroom  int64 // bytes that may be appended until the file system is looked at again
	segments  []*segment
	reclaimed Offset // records below may be missing since they were reclaimed
	readers   []*Reader
	err       error // ErrFailed or ErrClosed
	isClosed  bool
	leaders   sync.WaitGroup
	stats     Stats
}

// frontier is where the written log ends.
type frontier struct {
	seg   *segment
	size  int64  // of the durable part of seg
	chain Offset // end of the last durable group
}

// Open opens the log in dir, which it creates if need be, and holds a lock on it until Close. It reads the last segment
// only, so that it is quick at any size; damage in others is met by the Reader that comes to it. A last group that is
// torn is cut off, kept aside and reported by [Log.Damage].
//
// Errors wrap ErrInUse, ErrFormat, ErrKey or ErrDamaged where they apply.
func Open(dir string, opts Options) (*Log, error) {
	return openOn(dir, opts, osDisk{})
}

func openOn(dir string, opts Options, d disk) (*Log, error) {
	opts = opts.withDefaults()
	if err := makeDir(dir, d); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{
		dir: dir, opts: opts, disk: d, logger: opts.Logger, lock: lock,
		errMax: fmt.Errorf("%w: its segments take up the %d bytes allowed", ErrFull, opts.MaxBytes),
		errMin: fmt.Errorf("%w: the file system has less than %d bytes free", ErrFull, opts.MinFreeBytes),
		failed: make(chan struct{}), closed: make(chan struct{}),
		gather: newGroup(),
	}
	l.space.L = &l.mu
	if l.box = opts.Keys.Box("log"); l.box.Seals() {
		l.overhead = seal.Overhead
	}
	if err := l.recover(); err != nil {
		if l.tail != nil {
			l.tail.Close()
		}
		lock.Close()
		return nil, fmt.Errorf("open log: %w", err)
	}
	if opts.MinFreeBytes > 0 {
		l.lookAtFree()
	}
	return l, nil
}

// makeDir makes the folder, and those above it that are not there, and makes their names durable: a file that was synced is gone all the same when
// the name of a folder on the way to it is.
func makeDir(dir string, d disk) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := makeDir(parent, d); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.SyncDir(parent)
}

func (o Options) withDefaults() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	// The last segment is never reclaimed: were it allowed to grow to MaxBytes, the log would stay full for good.
	o.SegmentBytes = min(o.SegmentBytes, o.MaxBytes/2)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Damage returns what Open found and cut off or passed over.
func (l *Log) Damage() []Damage { return l.damage }

// Failed is closed when an fsync failed. The log then accepts nothing until it is opened anew; what is durable can still
// be read.
func (l *Log) Failed() <-chan struct{} { return l.failed }

// Err returns why the log failed, wrapping ErrFailed, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(l.err, ErrFailed) {
		return l.err
	}
	return nil
}

// Reclaimable is how many bytes Reclaim would free.
func (l *Log) Reclaimable(below Offset) (bytes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments[:l.reclaimableLocked(below)] {
		bytes += s.size
	}
	return bytes
}

// MaxBytes is what all segments may take up.
func (l *Log) MaxBytes() int64 { return l.opts.MaxBytes }

func (l *Log) reclaimableLocked(below Offset) (n int) {
	for n+1 < len(l.segments) && l.segments[n+1].prev <= below {
		n++
	}
	return n
}

// Reclaim deletes segments whose records are all below the given offset, never the last segment. Readers that are
// still in one of them go on reading it.
func (l *Log) Reclaim(below Offset) error {
	l.mu.Lock()
	n := l.reclaimableLocked(below)
	gone := l.segments[:n:n]
	for _, s := range gone {
		l.used -= s.size
	}
	if n > 0 {
		l.segments = l.segments[n:]
		l.reclaimed = max(l.reclaimed, l.segments[0].prev)
	}
	l.mu.Unlock()

	// The directory is not synced: a segment that a crash brings back is below the position and reclaimed again.
	var errs []error
	for _, s := range gone {
		if err := os.Remove(s.path); err != nil {
			errs = append(errs, fmt.Errorf("reclaim log: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Stats are figures of a log for metrics.
type Stats struct {
	Bytes        int64         // of all segments
	Segments     int           // files
	First        Offset        // no record below is kept
	End          Offset        // every record below is durable
	Groups       int64         // made durable since Open
	Records      int64         // made durable since Open
	SyncDuration time.Duration // spent in fdatasync since Open
	Waiting      int           // calls of Append that wait now
	PassedOver   int64         // damaged stretches that readers passed over (Options.Salvage)
}

// Stats returns the figures of now.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Segments = len(l.segments)
	for _, seg := range l.segments {
		s.Bytes += seg.size
	}
	s.End = l.end
	s.First = l.end
	if len(l.segments) > 0 {
		s.First = min(l.segments[0].first, l.end)
	}
	s.Waiting = l.gather.calls + l.waiting + l.blocked
	return s
}

// Close waits for the appends under way, closes the files and gives the directory free. Append, ReadBatch and a
// second Close return ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.isClosed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.isClosed = true
	wasFailed := l.err != nil
	if !wasFailed {
		l.err = ErrClosed
	}
	l.mu.Unlock()
	l.leaders.Wait()

	l.turn.Lock()
	defer l.turn.Unlock()
	var errs []error
	if !wasFailed {
		errs = append(errs, l.seal())
	}
	if l.tail != nil {
		errs = append(errs, l.tail.Close())
		l.tail = nil
	}
	close(l.closed)
	l.mu.Lock()
	for _, r := range l.readers {
		r.wakeLocked(r.want)
	}
	l.mu.Unlock()
	errs = append(errs, l.lock.Close())
	return errors.Join(errs...)
}

// Package log is the durable log between ingest and the sorter.
//
//	Append ─▶ | 7 | 6 | 5 | 4 | ─▶ Reader (at 5)      below 4: reclaimed
//
// A record is reclaimed once the store holds all that became of it.
package log

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Offset numbers records from 0, in the order in which they became durable. Offsets rise and are never reused; gaps are allowed.
type Offset uint64

// Options of a log.
type Options struct {
	SegmentBytes int64  // a segment is closed at this size; 0: 64 MiB
	MaxBytes     int64  // all segments; at it Append returns ErrFull; 0: 1 GiB
	MinFreeBytes int64  // of the file system; below it Append returns ErrFull; 0: no floor
	Position     Offset // the reader's durable position; the log goes on at the later of this and its own end
	Salvage      bool   // pass over damage below the durable end and report it, instead of refusing to open
	Logger       *slog.Logger
}

// Errors of Append and Open.
var (
	ErrFull    = errors.New("log is full")           // nothing was written; try again later
	ErrFailed  = errors.New("log failed")            // an fsync failed: nothing is accepted any more
	ErrClosed  = errors.New("log is closed")         //
	ErrDamaged = errors.New("log is damaged")        // Open refused; see Options.Salvage
	ErrFormat  = errors.New("unknown log format")    // written by a newer version
	ErrInUse   = errors.New("directory is in use")   // by another process
	ErrTooBig  = errors.New("record is too big")     //
)

// Record is one record as a Reader returns it.
type Record struct {
	Offset Offset
	Data   []byte
}

// Damage is a stretch of a segment that could not be read.
type Damage struct {
	File       string
	From, To   int64  // bytes in the file
	KeptAside  string // where the bytes were copied; "" if they still stand in the file
	LostBefore Offset // records up to this offset may be affected
}

// Contract, to be implemented:
//
//	func Open(dir string, opts Options) (*Log, error)
//	func (l *Log) Append(recs ...[]byte) error        // durable for all on return, all or none; copies; many goroutines; no allocation
//	func (l *Log) NewReader(from Offset) (*Reader, error)
//	func (l *Log) Reclaim(below Offset) error         // whole segments
//	func (l *Log) Stats() Stats                       // bytes, segments, first, end, ...
//	func (l *Log) Damage() []Damage                   // what Open found
//	func (l *Log) Failed() <-chan struct{}            // closed when the log failed; Err tells why
//	func (l *Log) Err() error
//	func (l *Log) Close() error
//	func (r *Reader) ReadBatch(ctx context.Context, max int, linger time.Duration) ([]Record, error)
//	func (r *Reader) Close() error
var _ = context.Background
var _ = time.Second

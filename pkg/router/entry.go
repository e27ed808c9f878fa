package router

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// entry is one lane entry in a window.
type entry struct {
	destinations.Entry
	ref    store.Ref
	stream *stream
	block  *block
	record []byte // the event as stored; points into its block
	// original is the event's record as it came in, where a transform changed it; nil: it did not. It points into the block, too. Siblings share one.
	original []byte
	shared   bool // with the entry before it
	erased   bool // of a person who is forgotten: nothing is left of it but its place
	persons  []*person
	// effective is when the event counts, among those of its persons, in microseconds. See [event.Event.Effective].
	effective int64
	outputs   int       // that its event had for the destination; 0: not known
	replayed  *replayed // it was a dead letter before; nil: it was not
	memory    uint64    // the hash of its ID among the store's memories; set by a call, in lanes that have Remembers

	// Guarded by account.mu.
	busy     bool // in a call, or waiting to be sent again unchanged
	urgent   bool // in the lane's urgent
	letGo    bool // finished as soon as the settler has it: its person is forgotten
	finished bool
	attempts int       // made so far
	due      time.Time // not before
	withheld time.Time // since when there is no room for a dead letter of it; zero: it is not to be one
	since    time.Time // of the first failure
	blocked  time.Duration
	base     time.Duration // the lane's blocked time when blocked was last brought up to date
}

func (e *entry) bulk() bool { return e.stream.bulk }

// size is what e takes of its block. Of siblings the first has the original.
func (e *entry) size() int {
	if e.shared {
		return len(e.record)
	}
	return len(e.record) + len(e.original)
}

// replays is how often e was sent again after it had been a dead letter.
func (e *entry) replays() int {
	if e.replayed == nil {
		return 0
	}
	return e.replayed.replays
}

// eventID is the id that the event came in with. Outputs of a transform have ids of their own.
func (e *entry) eventID() string {
	if e.original != nil {
		if id := event.RecordID(e.original); id != "" {
			return id
		}
	}
	return e.Event.ID
}

// detach moves e to bytes of its own, but for its original.
func (e *entry) detach() error {
	record, ev := bytes.Clone(e.record), &event.Event{}
	if err := ev.Decode(record); err != nil {
		return err
	}
	e.record, e.Event = record, ev
	return nil
}

// Block format: version byte, then per entry: offset and output index as uvarints, flags byte, key, ID, count and texts of Also, by the flags what is said
// of outputs and a replay, record, and by the flags the original or nothing; texts and records with their length as uvarint before them. An empty ID
// stands for one that equals the key.
const (
	blockVersion = 3
	// blockVersion2 is as 3, without outputs and replays, and blockVersion1 without originals as well. They are still read: lanes of an older router hold them.
	blockVersion2 = 2
	blockVersion1 = 1

	entryIfNew    = 1 << 0
	entryLate     = 1 << 1
	entryOriginal = 1 << 2
	entryShared   = 1 << 3 // the original is that of the entry before
	entryErased   = 1 << 4 // without key, ID and original; of the event the record holds the id at most
	entryOutputs  = 1 << 5 // how many outputs the event had, as uvarint; without it one
	entryReplayed = 1 << 6 // replays and letter as uvarints, effective as varint

	maxAlso = 1 << 10
)

// replayed is what is kept with an entry that was a dead letter.
type replayed struct {
	replays   int   // how often it was sent again, with this time
	letter    int64 // its id, under which it comes back; 0: under another one, for it became several entries
	effective int64 // when it counts, in microseconds, where that is not its event's own time; 0: it is
}

var errBlock = errors.New("not a block of entries")

// origin says where an entry comes from.
type origin struct {
	offset uint64
	index  int // of the output
	late   bool
	erased bool // see entry

	original []byte // the record as it came in, where the event was changed; nil: it was not
	shared   bool   // the entry before in the block has the same one

	outputs  int
	replayed *replayed // nil: it was no dead letter
}

// appendEntry appends one entry to a block's data, which it begins when dst is empty.
func appendEntry(dst []byte, o origin, p *destinations.Plan, ev *event.Event, scratch []byte) (block, newScratch []byte) {
	if len(dst) == 0 {
		dst = append(dst, blockVersion)
	}
	dst = binary.AppendUvarint(dst, o.offset)
	dst = binary.AppendUvarint(dst, uint64(o.index))
	flags := byte(0)
	if p.IfNew {
		flags |= entryIfNew
	}
	if o.late {
		flags |= entryLate
	}
	if o.erased {
		flags |= entryErased
	}
	switch {
	case o.original == nil:
	case o.shared:
		flags |= entryShared
	default:
		flags |= entryOriginal
	}
	if o.outputs != 1 {
		flags |= entryOutputs
	}
	if o.replayed != nil {
		flags |= entryReplayed
	}
	dst = append(dst, flags)
	dst = appendText(dst, p.Key)
	if p.ID == p.Key {
		dst = appendText(dst, "")
	} else {
		dst = appendText(dst, p.ID)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.Also)))
	for _, also := range p.Also {
		dst = appendText(dst, also)
	}
	if o.outputs != 1 {
		dst = binary.AppendUvarint(dst, uint64(o.outputs))
	}
	if r := o.replayed; r != nil {
		dst = binary.AppendUvarint(dst, uint64(r.replays))
		dst = binary.AppendUvarint(dst, uint64(r.letter))
		dst = binary.AppendVarint(dst, r.effective)
	}
	scratch = ev.AppendTo(scratch[:0])
	dst = binary.AppendUvarint(dst, uint64(len(scratch)))
	dst = append(dst, scratch...)
	if flags&entryOriginal != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(o.original)))
		dst = append(dst, o.original...)
	}
	return dst, scratch
}

func appendText(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

// decodeBlock reads the entries of a block. Their records and originals point into data. destination, account and lane go into names and plans.
func decodeBlock(data []byte, destination, account, lane string) ([]*entry, error) {
	d, err := newDecoder(data)
	if err != nil {
		return nil, err
	}
	var entries []*entry
	var last *entry
	for len(d.rest) > 0 {
		e, err := d.entry(last)
		if err != nil {
			return nil, fmt.Errorf("%w: entry %d: %w", errBlock, len(entries), err)
		}
		e.Name.Destination, e.Plan.Account, e.Plan.Lane = destination, account, lane
		entries = append(entries, e)
		last = e
	}
	return entries, nil
}

var errCutShort = errors.New("cut short")

// entry reads one entry; last is the one before it, nil: there is none.
func (d *decoder) entry(last *entry) (*entry, error) {
	e := &entry{}
	e.Name.Offset, e.Name.Index = d.uvarint(), int(d.uvarint())
	flags := d.byte()
	e.Late, e.erased = flags&entryLate != 0, flags&entryErased != 0
	e.Plan = destinations.Plan{Key: string(d.bytes()), ID: string(d.bytes()), IfNew: flags&entryIfNew != 0}
	if e.Plan.ID == "" {
		e.Plan.ID = e.Plan.Key
	}
	also := d.uvarint()
	if also > maxAlso {
		d.failed = true
	}
	for i := uint64(0); i < also && !d.failed; i++ {
		e.Plan.Also = append(e.Plan.Also, string(d.bytes()))
	}
	d.origin(e, flags)
	e.record = d.bytes()
	switch {
	case flags&entryOriginal != 0:
		e.original = d.bytes()
	case flags&entryShared != 0 && last != nil:
		e.original, e.shared = last.original, true
	}
	if d.failed || flags&entryShared != 0 && e.original == nil {
		d.failed = true
		return nil, errCutShort
	}
	e.Event = &event.Event{}
	return e, e.Event.Decode(e.record)
}

// origin reads what is said of outputs and a replay.
func (d *decoder) origin(e *entry, flags byte) {
	if d.version < blockVersion {
		return // nothing is
	}
	e.outputs = 1
	if flags&entryOutputs != 0 {
		e.outputs = int(d.uvarint() & math.MaxInt32)
	}
	if flags&entryReplayed == 0 {
		return
	}
	e.replayed = &replayed{replays: int(d.uvarint() & math.MaxInt32), letter: int64(d.uvarint() & math.MaxInt64), effective: d.varint()}
	if at := e.replayed.effective; at != 0 {
		e.Effective = time.UnixMicro(at).UTC()
	}
}

// decoder reads from rest; after a failure it returns zero values.
type decoder struct {
	rest    []byte
	version byte
	failed  bool
}

// newDecoder begins with a block's data.
func newDecoder(data []byte) (*decoder, error) {
	if len(data) == 0 || data[0] < blockVersion1 || data[0] > blockVersion {
		return nil, fmt.Errorf("%w: version", errBlock)
	}
	return &decoder{rest: data[1:], version: data[0]}, nil
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.failed = true
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.rest)) {
		d.failed, d.rest = true, nil
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

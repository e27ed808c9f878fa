package router

import (
	"fmt"
	"sync/atomic"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// FirstBulk is the first offset of a bulk log. No live log gets as far, so that an offset names a record of either log: outputs, outcomes and dead
// letters are told apart by it. Readers of JSON still take as much again for an exact number.
const FirstBulk log.Offset = 1 << 52

// BulkPosition is where the bulk log that goes with a store has to be opened: the next record to sort.
func BulkPosition(st *store.Store) log.Offset { return max(FirstBulk, log.Offset(st.BulkPosition())) }

// intake is one of the logs as the sorter reads it.
type intake struct {
	name string // live, bulk
	bulk bool
	log  *log.Log

	position atomic.Uint64 // everything below it is handed over

	// Owned by the sorter.
	mark     deathMark
	reader   *log.Reader
	suspects span         // in hand when the process died
	waiting  []log.Record // read, not sorted yet
	drained  time.Time    // when all that there was had been read; zero: there may be more
	resting  time.Time    // the next batch is taken not before
}

func newIntake(name string, l *log.Log, position uint64, mark deathMark) *intake {
	in := &intake{name: name, bulk: name == "bulk", log: l, mark: mark}
	in.position.Store(position)
	return in
}

// unsorted is how many records are not handed over, about: offsets may have gaps.
func (in *intake) unsorted() uint64 {
	if end, position := uint64(in.log.Stats().End), in.position.Load(); end > position {
		return end - position
	}
	return 0
}

// open makes it ready to be read.
func (in *intake) open() (err error) {
	position := log.Offset(in.position.Load())
	if in.reader, err = in.log.NewReader(position); err != nil {
		return fmt.Errorf("read the %s log from %d: %w", in.name, position, err)
	}
	in.suspects, err = in.mark.open()
	return err
}

func (in *intake) close() {
	if in.reader != nil {
		in.reader.Close()
	}
	in.mark.close()
}

// look reads the next records, if none wait, and says whether some do.
func (in *intake) look() (bool, error) {
	if len(in.waiting) > 0 {
		return true, nil
	}
	position := in.position.Load()
	most := handoverRecords
	if position < in.suspects.to {
		most = 1 // one of these killed the process: find out which
	}
	now := time.Now()
	var err error
	if in.waiting, err = in.reader.ReadBatch(most); err != nil {
		return false, fmt.Errorf("read the %s log at %d: %w", in.name, position, err)
	}
	in.drained = time.Time{}
	if len(in.waiting) < most {
		in.drained = now
	}
	return len(in.waiting) > 0, nil
}

// wake receives when there is something to look for; nil while the intake rests, or what waits does so for other reasons.
func (in *intake) wake(now time.Time) <-chan struct{} {
	if in.resting.After(now) || len(in.waiting) > 0 {
		return nil
	}
	return in.reader.Wake()
}

// sorted notes that records up to last are handed over, and frees the log of them.
func (in *intake) sorted(last log.Offset, st *store.Store) error {
	in.position.Store(uint64(last) + 1)
	return in.reclaim(st)
}

// reclaim frees the log of what is handed over, once that stands in the store's database file: see [store.Store.FilePositions]. Where it would free a segment it asks for
// that. When a checkpoint does not come, for someone reads the database for long, and half of what the log may hold waits for it, that half goes all the same.
func (in *intake) reclaim(st *store.Store) error {
	position := log.Offset(in.position.Load())
	live, bulk := st.FilePositions()
	safe := log.Offset(live)
	if in.bulk {
		safe = log.Offset(bulk)
	}
	if safe = min(safe, position); in.log.Reclaimable(position) > in.log.Reclaimable(safe) {
		st.AskCheckpoint()
		if in.log.Reclaimable(position) > in.log.MaxBytes()/2 {
			safe = position
		}
	}
	if err := in.log.Reclaim(safe); err != nil {
		return fmt.Errorf("reclaim the %s log below %d: %w", in.name, safe, err)
	}
	return nil
}

// receivedFirst is when the first of the records that wait was received; zero where none does, or it can not be read.
func (in *intake) receivedFirst() (at time.Time) {
	var ev event.Event
	if len(in.waiting) > 0 && ev.Decode(in.waiting[0].Data) == nil {
		at = ev.Received
	}
	return at
}

// startsBy says whether the first of the records that wait counts at a time or earlier. One that can not be read does.
func (in *intake) startsBy(at time.Time) bool {
	var ev event.Event
	return ev.Decode(in.waiting[0].Data) != nil || !ev.Effective().After(at)
}

package store

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"math/bits"
	"time"
)

// tx is what one transaction changes in memory, once it is committed.
type tx struct {
	s          *Store
	now        time.Time
	position   uint64 // 0: as it was
	bulk       uint64 // position of the bulk log; 0: as it was
	nextBlock  BlockID
	lanes      map[LaneID]*laneChange
	made       map[LaneName]LaneID
	gone       []LaneID // lanes
	seen       [2][]uint64
	known      [2][]uint64
	memories   []Memory
	identities []Identity // as they are now in the table
	hidden     []idKey    // whose state is to be read again
	allHidden  bool       // that of all is
	raw        int64
	stored     int64

	seenStep, knownStep windowStep
	memoryStep          memoryStep
	outcomes            []*packedOutcomes
	outcomeStep         outcomeStep
	kvStep              kvStep

	letters      bool                            // dead letters came, went, or were marked
	use          lettersInUse                    // what they are then
	forgotten    map[forgottenHash]forgottenMark // as they are now; nil: as they were
	outcomeEdits []outcomeEdit
	erased       erasedHashes
}

func (s *Store) newTx() *tx {
	return &tx{s: s, now: time.Now(), nextBlock: s.nextBlock, lanes: make(map[LaneID]*laneChange)}
}

// apply writes group into the open transaction.
func (t *tx) apply(group []*request) error {
	for _, req := range group {
		if err := t.applyRequest(req); err != nil {
			return err
		}
	}
	t.seenStep = t.s.seen.step(t.now, t.seen)
	t.knownStep = t.s.known.step(t.now, t.known)
	var err error
	if t.memoryStep, err = t.s.memories.step(t.s, t.now, t.memories); err != nil {
		return err
	}
	return first(
		func() error { return t.s.seen.write(t.s.w, &t.seenStep) },
		func() error { return t.s.known.write(t.s.w, &t.knownStep) },
		func() error { return t.s.memories.write(t.s.w, &t.memoryStep) },
		t.writeOutcomes,
		t.eraseHashes,
		t.trimKV,
		t.readLetterUse,
		t.writeLanes,
		t.writeState,
	)
}

func (t *tx) writeOutcomes() (err error) {
	t.outcomeStep, err = t.s.outcomes.write(t.s.w, t.now, t.outcomes, t.outcomeEdits)
	return err
}

// first runs the steps until one fails.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) applyRequest(req *request) error {
	if req.name != nil {
		return t.makeLane(req)
	}
	if req.do != nil {
		if req.outcomes != nil {
			t.outcomes = append(t.outcomes, req.outcomes)
		}
		return req.do(t)
	}
	b := req.batch
	if req.outcomes != nil {
		t.outcomes = append(t.outcomes, req.outcomes)
	}
	if b.Position != 0 {
		t.position = b.Position
	}
	if b.BulkPosition != 0 {
		t.bulk = b.BulkPosition
	}
	t.seen[0] = append(t.seen[0], b.Seen...)
	t.known[0] = append(t.known[0], b.Known...)
	t.known[1] = append(t.known[1], b.Delivered...)
	t.memories = append(t.memories, b.Memories...)
	return first(
		func() error { return t.putBlocks(b.Blocks, req.blobs) },
		func() error { return t.putIdentities(b.Identities) },
		func() error { return t.putReplayed(b.Replayed) }, // before DeadLetters, among which may be what comes back under the same id
		func() error { return t.putDeadLetters(b.DeadLetters) },
		func() error { return t.putRetries(b.Retries) }, // before Progress, which removes those of finished entries
		func() error { return t.putProgress(b.Progress) },
		func() error { return t.giveUp(b.GivenUp) },
		func() error { return t.putCalls(b.Calls, b.CallsDone) },
		func() error { return t.putHolds(b.Holds, b.HoldsBefore) },
		func() error { return t.putKV(b.KV, b.pruneKV) },
	)
}

func (t *tx) putBlocks(blocks []Block, blobs [][]byte) error {
	for i := range blocks {
		b, blob := &blocks[i], blobs[i]
		if b.Entries <= 0 {
			return fmt.Errorf("block %d has no entries", i)
		}
		change, err := t.lane(b.Lane)
		if err != nil {
			return err
		}
		id := t.nextBlock
		t.nextBlock++
		blob = t.s.w.sealBlob(blob, blockName(id, b.Lane, b.Entries))
		err = t.s.w.exec(`INSERT INTO blocks (id, lane, entries, oldest, size, bytes, crc, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
			id, b.Lane, b.Entries, b.Oldest, len(b.Data), len(blob), int64(blockSum(id, b.Lane, b.Entries, blob)), blob)
		if err != nil {
			return err
		}
		change.entries += int64(b.Entries)
		change.bytes += int64(len(blob))
		change.added = true
		t.raw += int64(len(b.Data))
		t.stored += int64(len(blob))
	}
	return nil
}

var errNoBlock = errors.New("is not in the store")

// putProgress finishes entries, and blocks with the last of them.
func (t *tx) putProgress(progress []Progress) error {
	for i := range progress {
		p := &progress[i]
		if err := t.finish(p); err != nil {
			return fmt.Errorf("progress of block %d: %w", p.Block, err)
		}
	}
	return nil
}

func (t *tx) finish(p *Progress) error {
	var lane LaneID
	var entries, bytes, before int64
	err := t.s.w.query(`SELECT b.lane, b.entries, b.bytes, p.finished FROM blocks b LEFT JOIN progress p ON p.block = b.id WHERE b.id = ?`,
		func(row []driver.Value) error {
			lane, entries, bytes, before = LaneID(toInt(row[0])), toInt(row[1]), toInt(row[2]), toInt(row[3])
			return nil
		}, p.Block)
	switch {
	case err != nil:
		return err
	case lane == 0:
		return errNoBlock
	case lane != p.Lane:
		return fmt.Errorf("it is of lane %d, not %d", lane, p.Lane)
	}
	after := entries
	if p.Done != nil {
		after = int64(popCount(p.Done, int(entries)))
	}
	if after-before != int64(p.Finished) {
		return fmt.Errorf("%d of %d entries were finished, now %d: that is not %d more", before, entries, after, p.Finished)
	}
	change, err := t.lane(lane)
	if err != nil {
		return err
	}
	change.entries -= after - before
	if after < entries {
		return first(
			func() error {
				return t.s.w.exec(`INSERT OR REPLACE INTO progress (block, finished, done) VALUES (?, ?, ?)`, p.Block, after, p.Done)
			},
			func() error { return t.dropFinishedRetries(p) },
		)
	}
	change.bytes -= bytes
	change.removed = true
	return first(
		func() error { return t.s.w.exec(`DELETE FROM blocks WHERE id = ?`, p.Block) },
		func() error { return t.s.w.exec(`DELETE FROM progress WHERE block = ?`, p.Block) },
		func() error { return t.s.w.exec(`DELETE FROM retries WHERE block = ?`, p.Block) },
	)
}

func (t *tx) dropFinishedRetries(p *Progress) error {
	var finished []int64
	err := t.s.w.query(`SELECT entry FROM retries WHERE block = ?`, func(row []driver.Value) error {
		if i := toInt(row[0]); isSet(p.Done, i) {
			finished = append(finished, i)
		}
		return nil
	}, p.Block)
	for _, i := range finished {
		if err == nil {
			err = t.s.w.exec(`DELETE FROM retries WHERE block = ? AND entry = ?`, p.Block, i)
		}
	}
	return err
}

func (t *tx) putRetries(retries []Retry) error {
	for i := range retries {
		r := &retries[i]
		entries, err := t.s.w.queryInt(`SELECT entries FROM blocks WHERE id = ?`, r.Block)
		if err != nil {
			return err
		}
		if r.Index < 0 || int64(r.Index) >= entries {
			return fmt.Errorf("retry of entry %d of block %d, which %w", r.Index, r.Block, errNoBlock)
		}
		err = t.s.w.exec(`INSERT OR REPLACE INTO retries (block, entry, attempt, due, since, blocked, error) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			r.Block, r.Index, r.Attempt, r.Due, r.Since, r.Blocked, t.s.w.sealTexts(retryName(r.Block, int64(r.Index)), cut(r.Error, 500)))
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) putCalls(calls []Call, done []CallID) error {
	for i := range calls {
		c := &calls[i]
		err := t.s.w.exec(`INSERT OR REPLACE INTO calls (id, lane, ambiguous, age, entries) VALUES (?, ?, ?, ?, ?)`,
			c.ID, c.Lane, c.Ambiguous, c.Age.Milliseconds(), formatRefs(c.Entries))
		if err != nil {
			return err
		}
	}
	for _, id := range done {
		if err := t.s.w.exec(`DELETE FROM calls WHERE id = ?`, id); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) putHolds(holds []Hold, before time.Time) error {
	for i := range holds {
		h := &holds[i]
		key, sealed, sum := t.s.w.holdColumns(h)
		if err := t.s.w.exec(`INSERT OR REPLACE INTO holds (lane, key, until, sealed, sum) VALUES (?, ?, ?, ?, ?)`, h.Lane, key, h.Until, sealed, sum); err != nil {
			return err
		}
	}
	if before.IsZero() {
		return nil
	}
	return t.s.w.exec(`DELETE FROM holds WHERE until < ?`, before)
}

func (t *tx) writeState() error {
	if t.nextBlock != t.s.nextBlock {
		if err := t.s.w.exec(`UPDATE state SET next_block = ? WHERE id = 1`, t.nextBlock); err != nil {
			return err
		}
	}
	if t.position == 0 && t.bulk == 0 {
		return nil
	}
	return t.s.w.exec(`UPDATE state SET position = coalesce(nullif(?, 0), position), bulk_position = coalesce(nullif(?, 0), bulk_position) WHERE id = 1`,
		t.position, t.bulk)
}

// adopt brings memory up to what was committed.
func (t *tx) adopt() {
	s := t.s
	s.nextBlock = t.nextBlock
	if t.position != 0 {
		s.position.Store(t.position)
	}
	if t.bulk != 0 {
		s.bulkPosition.Store(t.bulk)
	}
	s.seen.adopt(&t.seenStep)
	s.known.adopt(&t.knownStep)
	s.memories.adopt(&t.memoryStep)
	t.adoptErased()
	s.outcomes.adopt(&t.outcomeStep)
	s.kv.adopt(&t.kvStep)
	if t.allHidden {
		s.identities.clear()
	}
	s.identities.adopt(t.identities, t.hidden)
	t.adoptLanes()
	if t.letters {
		s.letters.adopt(t.use)
	}
	if t.forgotten != nil {
		s.adoptForgotten(t.forgotten)
	}
	s.stats.blockRaw.Add(t.raw)
	s.stats.blockStored.Add(t.stored)
}

// popCount counts the bits of done below entries.
func popCount(done []byte, entries int) int {
	n := 0
	for i, b := range done {
		if left := entries - 8*i; left < 8 {
			b &= 1<<max(left, 0) - 1
		}
		n += bits.OnesCount8(b)
	}
	return n
}

func isSet(done []byte, i int64) bool {
	return i>>3 < int64(len(done)) && done[i>>3]>>(i&7)&1 == 1
}

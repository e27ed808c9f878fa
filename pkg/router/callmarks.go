package router

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// callMarks names the entries of the calls that are in flight in a file, which is not synced: it outlives the process, not the machine. They count where the process has ended in
// the code that makes calls, by what no recover catches (an overflow of the stack, no memory, a concurrent write to a map): see [Options.Crash]. A process that is killed
// from outside leaves no such report, so that nobody is charged for that, however long calls take.
//
// Then all entries that were in flight are suspects: each is sent alone, and for some time one call at a time. One that was alone in flight at three such deaths is a dead letter.
type callMarks struct {
	path  string // "": nothing is marked
	file  *os.File
	turn  chan struct{} // capacity 1: whose call it is while there are suspects
	until time.Time     // zero where no call ended the process before; then suspects are sent alone, but beside others: their lane may be blocked for long

	mu       sync.Mutex // guards the fields below
	free     []int
	slots    int
	suspects map[store.Ref]int // deaths with just it in flight
}

const (
	markedRefs   = 4000     // of a call at most
	callSlot     = 64 << 10 // bytes in the file for a call; what is not written takes no room
	suspectsTime = 10 * time.Minute
)

func newCallMarks(path string) *callMarks {
	if path != "" {
		path += ".calls"
	}
	return &callMarks{path: path, turn: make(chan struct{}, 1), suspects: map[store.Ref]int{}}
}

// suspect is an entry as the file of suspects has it.
type suspect struct {
	Block  store.BlockID `json:"block"`
	Entry  int           `json:"entry"`
	Deaths int           `json:"deaths"`
}

// open finds out who is a suspect. crash is the report of the process before. After an error nothing is marked; nobody needs that to deliver.
func (m *callMarks) open(crash string) error {
	if m.path == "" {
		return nil
	}
	data, err := os.ReadFile(m.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read marks of calls: %w", err)
	}
	var kept []suspect
	if text, err := os.ReadFile(m.path + ".suspects"); err == nil && json.Unmarshal(text, &kept) == nil {
		for _, s := range kept {
			m.suspects[store.Ref{Block: s.Block, Index: s.Entry}] = s.Deaths
		}
	}
	if diedSending(crash) {
		var all []store.Ref
		for at := 0; at < len(data); at += callSlot {
			all = append(all, parseSlot(data[at:min(at+callSlot, len(data))])...)
		}
		for _, ref := range all {
			deaths := m.suspects[ref]
			if len(all) == 1 {
				deaths++
			}
			m.suspects[ref] = deaths
		}
		m.keep()
		m.until = time.Now().Add(suspectsTime)
	}
	file, err := os.OpenFile(m.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open marks of calls: %w", err)
	}
	m.file = file
	return nil
}

// diedSending says whether it was a call that ended the process. Its goroutine is the first of a report; the runtime writes others too, which were at work beside it.
func diedSending(crash string) bool {
	_, rest, _ := strings.Cut("\n"+crash, "\ngoroutine ")
	first, _, _ := strings.Cut(rest, "\n\n")
	return strings.Contains(first, "router.(*lane).send(")
}

// parseSlot is what begin wrote; nothing where the call came back, or the bytes are not right.
func parseSlot(data []byte) (refs []store.Ref) {
	if len(data) < 8 {
		return nil
	}
	n, sum := binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint32(data[4:])
	if n > markedRefs || len(data) < 8+12*int(n) || crc32.ChecksumIEEE(data[8:8+12*n]) != sum {
		return nil
	}
	for at := 8; at < 8+12*int(n); at += 12 {
		refs = append(refs, store.Ref{Block: store.BlockID(binary.LittleEndian.Uint64(data[at:])), Index: int(binary.LittleEndian.Uint32(data[at+8:]))})
	}
	return refs
}

// begin marks the entries of a call. What can not be written is let be: the mark matters only if the process dies.
func (m *callMarks) begin(entries []*entry) (slot int) {
	if m.file == nil {
		return 0
	}
	m.mu.Lock()
	if n := len(m.free); n > 0 {
		slot, m.free = m.free[n-1], m.free[:n-1]
	} else {
		slot = m.slots
		m.slots++
	}
	m.mu.Unlock()
	entries = entries[:min(len(entries), markedRefs)]
	buf := make([]byte, 8, 8+12*len(entries))
	for _, e := range entries {
		buf = binary.LittleEndian.AppendUint64(buf, uint64(e.ref.Block))
		buf = binary.LittleEndian.AppendUint32(buf, uint32(e.ref.Index))
	}
	binary.LittleEndian.PutUint32(buf, uint32(len(entries)))
	binary.LittleEndian.PutUint32(buf[4:], crc32.ChecksumIEEE(buf[8:]))
	_, _ = m.file.WriteAt(buf, int64(slot)*callSlot)
	return slot
}

func (m *callMarks) end(slot int) {
	if m.file == nil {
		return
	}
	_, _ = m.file.WriteAt(make([]byte, 8), int64(slot)*callSlot)
	m.mu.Lock()
	m.free = append(m.free, slot)
	m.mu.Unlock()
}

// suspected says whether there are suspects at all, and whether some of entries are.
func (m *callMarks) suspected(entries []*entry) (some, these bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.suspects) == 0 {
		return false, false
	}
	for _, e := range entries {
		if _, ok := m.suspects[e.ref]; ok {
			return true, true
		}
	}
	return true, false
}

// deaths is how often the process died with just this entry in flight.
func (m *callMarks) deaths(ref store.Ref) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.suspects[ref]
}

// clear says that the process has outlived an entry.
func (m *callMarks) clear(ref store.Ref) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.suspects[ref]; ok {
		delete(m.suspects, ref)
		m.keep()
	}
}

// keep writes the suspects down. Who can not be written is a suspect again after the next death at worst.
func (m *callMarks) keep() {
	path := m.path + ".suspects"
	if len(m.suspects) == 0 {
		_ = os.Remove(path)
		return
	}
	all := make([]suspect, 0, len(m.suspects))
	for ref, deaths := range m.suspects {
		all = append(all, suspect{ref.Block, ref.Index, deaths})
	}
	text, _ := json.Marshal(all) // of numbers
	if os.WriteFile(path+".new", text, 0o600) == nil {
		_ = os.Rename(path+".new", path)
	}
}

func (m *callMarks) close() {
	if m.file != nil {
		m.file.Close()
	}
}

// wait waits until it is one's turn, which lasts until free is called, or suspects are no longer sent one call at a time.
func (m *callMarks) wait(ctx context.Context) (free func(), err error) {
	over := time.NewTimer(time.Until(m.until))
	defer over.Stop()
	select {
	case m.turn <- struct{}{}:
		return func() { <-m.turn }, nil
	case <-over.C:
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// deadlyEntryError is that of an entry with which the process died.
type deadlyEntryError struct{ deaths int }

func (e *deadlyEntryError) Error() string {
	return fmt.Sprintf("the process died %d times while this entry alone was being sent: report it, with the event", e.deaths)
}

// sendMarked is send with the entries marked. Where some are suspects it sends one after the other, and stops at the first that is to be sent again: the others may be behind it.
func (l *lane) sendMarked(ctx context.Context, permit destinations.Permit, entries []*entry, batch []destinations.Entry) []destinations.Outcome {
	m := l.account.router.calls
	some, these := m.suspected(entries)
	if some && time.Now().Before(m.until) {
		permit.Release() // whose turn it is may wait for just this one
		free, err := m.wait(ctx)
		if err != nil {
			return failAll(err, len(batch))
		}
		defer free()
		if permit, err = l.account.acquireAt(ctx, l.spec.Name); err != nil {
			return failAll(err, len(batch))
		}
	}
	if !these {
		slot := m.begin(entries)
		defer m.end(slot)
		return l.send(ctx, permit, batch)
	}
	outcomes := make([]destinations.Outcome, 0, len(batch))
	for i, e := range entries {
		if deaths := m.deaths(e.ref); deaths >= maxDeaths {
			m.clear(e.ref)
			outcomes = append(outcomes, destinations.Outcome{Err: destinations.Reject(&deadlyEntryError{deaths})})
			continue
		}
		if permit == nil {
			var err error
			if permit, err = l.account.acquireAt(ctx, l.spec.Name); err != nil {
				return append(outcomes, failAll(err, len(batch)-i)...)
			}
		}
		slot := m.begin(entries[i : i+1])
		out := l.send(ctx, permit, batch[i:i+1])
		m.end(slot)
		m.clear(e.ref)
		permit = nil
		outcomes = append(outcomes, out...)
		var reject *destinations.RejectError
		if _, skipped := destinations.IsSkip(out[0].Err); out[0].Err != nil && !skipped && !errors.As(out[0].Err, &reject) {
			return append(outcomes, failAll(out[0].Err, len(batch)-i-1)...)
		}
	}
	if permit != nil {
		permit.Release()
	}
	return outcomes
}

func failAll(err error, n int) []destinations.Outcome {
	all := make([]destinations.Outcome, n)
	for i := range all {
		all[i].Err = err
	}
	return all
}

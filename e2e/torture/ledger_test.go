package torture

import (
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"
)

// kind says what an event is to become.
type kind string

const (
	identify kind = "identify" // writes properties of a contact
	track    kind = "track"    // a custom event
	noise    kind = "noise"    // filtered
	stranger kind = "stranger" // skipped: nobody knows whose it is
	hopeless kind = "hopeless" // a dead letter: its address is none
	// The next three are dead letters until the transform is mended and they are replayed.
	boom     kind = "boom"     // a custom event on which the transform throws
	held     kind = "held"     // a write on which it throws
	rejected kind = "rejected" // a write with an address that only HubSpot refuses
)

// entry is a line of the ledger: one event and what its client knows of it.
type entry struct {
	N      int       `json:"n"` // from 1; its mark and the value of all its properties
	ID     string    `json:"id,omitempty"`
	Client string    `json:"client"`
	Kind   kind      `json:"kind"`
	Person string    `json:"person"`
	Props  []string  `json:"props,omitempty"` // that it writes
	At     time.Time `json:"at,omitzero"`     // when it counts, of imports
	Sent   time.Time `json:"sent"`
	Acked  time.Time `json:"acked,omitzero"` // zero: maybe it came, maybe not
	Tries  int       `json:"tries,omitempty"`
}

func (e *entry) mark() string { return fmt.Sprint(e.N) }

// span is the time in which the event was received, or at which it counts. A maybe can have come at any time since it was sent.
func (e *entry) span() (from, to time.Time) {
	switch {
	case !e.At.IsZero():
		return e.At, e.At
	case e.Acked.IsZero():
		return e.Sent, time.Now().Add(time.Hour)
	}
	return e.Sent, e.Acked
}

// ledger is what clients were told, in memory and as lines of a file.
type ledger struct {
	mu      sync.Mutex // guards the fields below and what entries point to
	entries []*entry
	file    *os.File
}

func openLedger(t *testing.T, path string) *ledger {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &ledger{file: f}
}

// post enters an event that is about to be sent, and gives it its number.
func (l *ledger) post(e entry) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.N, e.Sent = len(l.entries)+1, time.Now()
	l.entries = append(l.entries, &e)
	l.writeLocked(&e)
	return &e
}

// ack notes that the router has answered 200 for an event.
func (l *ledger) ack(e *entry) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Acked.IsZero() {
		e.Acked = now
		l.writeLocked(e)
	}
}

// tried counts an attempt.
func (l *ledger) tried(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Tries++
}

func (l *ledger) writeLocked(e *entry) {
	line, _ := json.Marshal(e)
	l.file.Write(append(line, '\n'))
}

// all returns what was posted so far, in order.
func (l *ledger) all() []*entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*entry(nil), l.entries...)
}

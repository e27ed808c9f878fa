package hubspot

import (
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

const (
	// splitAfter is how often a batch may be answered by 500, while other calls succeed, before it is split, and rejectAfter an entry that
	// is alone before it is rejected: of a HubSpot that fails half of its calls an innocent one would have to meet five in a row.
	splitAfter  = 3
	rejectAfter = 5
	// maxSuspects bounds what is remembered; when it is full the count begins anew.
	maxSuspects = 10000
)

// suspects counts the 500s, and the conflicts, that entries were part of. HubSpot breaks down over some inputs, and a batch with one would be sent for ever;
// an outage makes no suspect, for then nothing else succeeds.
type suspects struct {
	mu      sync.Mutex // guards the fields below
	success time.Time  // of the last call that did
	counts  map[destinations.OutputName]suspect
}

type suspect struct {
	first        time.Time
	times, alone int
	conflicts    int
}

// cleared notes a call that succeeded, with its entries.
func (s *suspects) cleared(now time.Time, entries []destinations.OutputName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.success = now
	if len(s.counts) == 0 {
		return
	}
	for _, name := range entries {
		delete(s.counts, name)
	}
}

// conflicts counts one that an entry met, and returns how many there were since it was last taken.
func (s *suspects) conflicts(name destinations.OutputName) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roomLocked()
	c := s.counts[name]
	c.conflicts++
	s.counts[name] = c
	return c.conflicts
}

// roomLocked makes room for one more.
func (s *suspects) roomLocked() {
	if s.counts == nil || len(s.counts) > maxSuspects {
		s.counts = map[destinations.OutputName]suspect{}
	}
}

// failed counts a 500 over the entries; alone says that they are all of one input. It says whether it is time to split them, or, alone,
// to reject: each of them has met enough of these, and something else has succeeded since the first.
func (s *suspects) failed(now time.Time, entries []destinations.OutputName, alone bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roomLocked()
	guilty := true
	for _, name := range entries {
		c := s.counts[name]
		if c.times == 0 {
			c.first = now
		}
		c.times++
		enough := c.times >= splitAfter
		if alone {
			c.alone++
			enough = c.alone >= rejectAfter
		}
		s.counts[name] = c
		guilty = guilty && enough && s.success.After(c.first)
	}
	return guilty
}

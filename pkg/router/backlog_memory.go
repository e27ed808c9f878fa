package router

import (
	"slices"
	"time"

	"eventrouter/pkg/store"
)

// What waits for accounts may be far more than memory: each of thousands may have a backlog. So the accounts of a destination share what their windows may hold, by a dynamic threshold, as they share
// its calls: a window may be as large as an eighth of what is free, and leastWindow in any case. A lane that is blocked holds nothing between two probes.
const (
	windowsBytes = 128 << 20 // that the windows of a destination's accounts may hold together, with entryBytes for each entry
	leastWindow  = 64 << 10
)

// mostLocked is how many bytes the window may hold, with entryBytes for each entry.
func (s *stream) mostLocked() int64 {
	l := s.lane
	g := l.account.gate
	switch {
	case g == nil:
		return heldBytes
	case l.stop != nil && l.stop.blocked:
		return leastWindow // for a probe
	}
	return max(leastWindow, (l.account.router.windowsBytes-g.loaded.Load())/8)
}

// sizeLocked is what the window holds, by the same measure.
func (s *stream) sizeLocked() int64 { return int64(s.bytes + len(s.window)*entryBytes) }

// countLocked counts an entry that comes into the window, or goes: -1.
func (s *stream) countLocked(e *entry, n int) {
	s.bytes += n * e.size()
	e.block.bytes += n * e.size()
	if g := s.lane.account.gate; g != nil {
		g.loaded.Add(int64(n * (e.size() + entryBytes)))
	}
}

// closedLocked says whether the lane of one account among others is blocked, and is not to be probed yet.
func (l *lane) closedLocked(now time.Time) bool {
	return l.account.gate != nil && l.stop != nil && l.stop.blocked && now.Before(l.stop.until)
}

// needed says whether something is to be loaded although the lane is closed: it is to be given up, or was in a call when an earlier run ended.
func (s *stream) needed() bool {
	s.lane.account.mu.Lock()
	defer s.lane.account.mu.Unlock()
	return s.giveUp != nil || s.loaded < s.recoverTo
}

// unloadLocked drops what the windows hold, unless something of it is under way: the store has all of it. The dispatcher calls it while the lane is closed.
func (l *lane) unloadLocked(now time.Time) {
	if l.calls > 0 || len(l.resend) > 0 || len(l.urgent) > 0 || len(l.recovered) > 0 {
		return
	}
	for _, s := range l.streams() {
		for _, e := range s.window {
			if e.busy || e.finished {
				return
			}
		}
	}
	for _, s := range l.streams() {
		if s.giveUp == nil && (len(s.window) > 0 || s.passed.active) {
			s.unloadLocked(now)
		}
	}
}

func (s *stream) unloadLocked(now time.Time) {
	l := s.lane
	for _, e := range s.window {
		s.countLocked(e, -1)
		for _, p := range e.persons {
			q := &p.queues[l.index]
			q.entries = slices.DeleteFunc(q.entries, func(e *entry) bool { return e.stream == s })
			l.account.forgetLocked(p, now)
		}
	}
	s.window, s.blocks, s.passed = nil, map[store.BlockID]*block{}, passed{}
	s.loaded, s.recoverTo, s.more, s.clock, s.larger = 0, 0, true, 0, 0
}

// dropWindows says that an account that has ended holds no windows any more.
func (a *account) dropWindows() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.lanes {
		for _, s := range l.streams() {
			if a.gate != nil {
				a.gate.loaded.Add(-s.sizeLocked())
			}
			s.bytes, s.window = 0, nil
		}
	}
}

package router

import (
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/store"
)

// surrender is what a lane is to let go of: its oldest entries.
type surrender struct {
	most   int
	before time.Time // only those that came before, see entry.cameBefore; zero: any
	err    error     // their outcome
	reason string    // of dead letters
}

// askToLetGo has the settler look at giveUp. It never blocks.
func (l *lane) askToLetGo() {
	select {
	case l.letGo <- struct{}{}:
	default:
	}
}

// letGoOldest takes what is to be given up from the windows; nil when that is nothing. The settler calls it. When there is more to give
// up than a window holds it goes on after the next load.
func (l *lane) letGoOldest() (all []*result) {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	for _, s := range l.streams() {
		if res := s.letGoLocked(); res != nil {
			all = append(all, res)
		}
	}
	return all
}

func (s *stream) letGoLocked() *result {
	give := s.giveUp
	if give == nil {
		return nil
	}
	var oldest []*entry
	for _, e := range s.window {
		if len(oldest) >= give.most {
			break
		}
		if !e.busy && (give.before.IsZero() || e.cameBefore(give.before, s.window[0].ref.Block)) {
			e.busy = true
			oldest = append(oldest, e)
		}
	}
	if len(s.window) == 0 && s.more && give.most > 0 {
		s.lane.poke() // nothing of it is loaded, for the lane is blocked
		return nil
	}
	give.most -= len(oldest)
	if len(oldest) == 0 || give.most <= 0 || !s.more {
		s.giveUp = nil
	}
	if len(oldest) == 0 {
		return nil
	}
	res := &result{unit: &unit{entries: oldest}, outcomes: make([]destinations.Outcome, len(oldest)), reason: give.reason}
	for i := range res.outcomes {
		res.outcomes[i].Err = give.err
	}
	return res
}

// cameBefore says whether an entry has been in its lane since before a time, at which the lane's first block has. A dead letter came when it was sent again, not when its event was received: its block
// alone tells that, so that it goes when that is the first one.
func (e *entry) cameBefore(t time.Time, first store.BlockID) bool {
	if e.replayed != nil {
		return e.ref.Block == first
	}
	return e.Event.Received.Before(t)
}

// over says whether a lane is at one of its limits.
func over(state store.Lane, limits config.LaneLimits, now time.Time) bool {
	return limits.MaxBytes > 0 && state.Bytes >= limits.MaxBytes ||
		limits.MaxAge > 0 && state.Entries > 0 && !state.Oldest.IsZero() && now.Sub(state.Oldest) >= limits.MaxAge
}

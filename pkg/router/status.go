package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// State of a lane.
type State string

// States of lanes.
const (
	Flowing State = "flowing"
	Paused  State = "paused"  // calls fail; the next is tried soon
	Blocked State = "blocked" // the remote refuses the lane or account as a whole
	Parked  State = "parked"  // its destination is gone or delivers to another hub
	// Swapping: a reload changed its destination, and calls that began before have to end first.
	Swapping State = "swapping"
)

// LaneStatus is the state of one lane, as /readyz and metrics show it.
type LaneStatus struct {
	Name          store.LaneName `json:"name"`
	Entries       int64          `json:"entries"`
	Bytes         int64          `json:"bytes"`
	OldestSeconds float64        `json:"oldest_seconds"`
	State         State          `json:"state"`
	Reason        string         `json:"reason,omitempty"`
	Since         *time.Time     `json:"since,omitempty"`
	NextTry       *time.Time     `json:"next_try,omitempty"`
	// OldCalls are calls of its account that began before a reload changed the destination, and are under way.
	OldCalls int `json:"old_calls,omitempty"`
}

// Status returns the lanes that the store knows, in the order of their creation.
func (r *Router) Status() []LaneStatus {
	lanes := map[store.LaneID]*lane{}
	for _, a := range r.allAccounts() {
		for _, l := range a.lanes {
			for _, s := range l.streams() {
				lanes[s.laneID()] = l
			}
		}
	}
	old, waits := r.swapping()
	t := r.table.Load()
	now := time.Now()
	all := []LaneStatus{} // none is a list too, for who reads it as JSON
	for _, stored := range r.store.Lanes() {
		s := LaneStatus{Name: stored.Name, Entries: stored.Entries, Bytes: stored.Bytes, State: Parked}
		if stored.Entries > 0 && !stored.Oldest.IsZero() {
			s.OldestSeconds = max(now.Sub(stored.Oldest).Seconds(), 0)
		}
		if isUnsorted(s.Name) && t.index(s.Name.Destination) >= 0 {
			s.State = Flowing
		}
		key := accountName{s.Name.Destination, s.Name.Hub, s.Name.Account}
		if s.OldCalls = old[key]; s.OldCalls > 0 {
			s.Reason = fmt.Sprintf("calls that began before a reload are under way: %d", s.OldCalls)
		}
		if l := lanes[stored.ID]; l != nil {
			s.State = Flowing
			l.account.mu.Lock()
			if stop := l.stop; stop != nil && (stop.blocked || stop.failures >= loudFailures) {
				s.State, s.Reason = Paused, stop.err.Error()
				if stop.blocked {
					s.State = Blocked
				}
				since, until := stop.began().UTC(), stop.until.UTC()
				s.Since, s.NextTry = &since, &until
			}
			l.account.mu.Unlock()
			if waits[key] {
				s.State = Swapping
			}
		}
		all = append(all, s)
	}
	return all
}

// swapping returns how many calls that began before a reload each account has under way, and which accounts wait for them to end.
func (r *Router) swapping() (old map[accountName]int, waits map[accountName]bool) {
	old, waits = map[accountName]int{}, map[accountName]bool{}
	r.mu.Lock()
	retiring := maps.Clone(r.retiring)
	for key, a := range r.accounts {
		if !a.begun {
			waits[key] = true
		}
	}
	r.mu.Unlock()
	for key, a := range retiring {
		a.mu.Lock()
		for _, l := range a.lanes {
			old[key] += l.calls
		}
		a.mu.Unlock()
	}
	return old, waits
}

// Idle says whether everything that was accepted is finished: the sorter is at the logs' ends and no lane has entries.
func (r *Router) Idle() bool {
	for _, in := range r.intakes() {
		if in.unsorted() > 0 {
			return false
		}
	}
	return !slices.ContainsFunc(r.store.Lanes(), func(l store.Lane) bool { return l.Entries > 0 })
}

// Refused says whether events of an API key and class are refused at present, because a lane that they feed is full or the disk is,
// and why. A lane that is full of imports refuses imports and replays only. It is cheap, for ingest asks it on every request.
func (r *Router) Refused(apiKey string, class event.Class) (reason string, refused bool) {
	m := r.refusals.Load()
	if m == nil {
		return "", false
	}
	keys := m.live
	if class != event.Live {
		keys = m.bulk
	}
	if reason, refused = keys[apiKey]; refused {
		return reason, true
	}
	reason, refused = keys[everyKey]
	return reason, refused
}

// refusals are the API keys that are refused, with the reason: for live events and for others.
type refusals struct{ live, bulk map[string]string }

// everyKey stands for all API keys in the refusals.
const everyKey = ""

// sweepInterval is how often holds that are over are looked for.
const sweepInterval = time.Minute

// watch looks once a second which lanes are at their limits, and now and then for what can be forgotten.
func (r *Router) watch(ctx context.Context) error {
	swept := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-r.rerouted:
			r.refuse(time.Now())
		case now := <-tick.C:
			r.refuse(now)
			r.tellLeftOut(now)
			if now.Sub(swept) < sweepInterval {
				continue
			}
			swept = now
			if err := r.forgetHolds(ctx, now); err != nil {
				return err
			}
			if err := r.expire(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// forgetHolds drops the holds that are over, in memory and in the store.
func (r *Router) forgetHolds(ctx context.Context, now time.Time) error {
	ended := false
	for _, a := range r.allAccounts() {
		if a.forgetHolds(now) {
			ended = true
		}
	}
	if !ended {
		return nil
	}
	err := r.store.Commit(ctx, &store.Batch{HoldsBefore: now})
	if ctx.Err() != nil || errors.Is(err, store.ErrFull) {
		return nil // at the next start, or when there are others
	}
	return err
}

// refuse works out which API keys are to be refused.
func (r *Router) refuse(now time.Time) {
	refused := refusals{live: map[string]string{}, bulk: map[string]string{}}
	t := r.table.Load()
	if r.store.Full() {
		refused.live[everyKey] = "the disk is almost full"
		refused.bulk[everyKey] = refused.live[everyKey]
	}
	for _, stored := range r.store.Lanes() {
		i := t.index(stored.Name.Destination)
		if i < 0 || stored.Entries == 0 {
			continue
		}
		route := t.routes[i]
		full := over(stored, route.Lanes, now)
		if r.parked(stored.Name, route) {
			continue // nothing feeds it, so that refusing would be for ever
		}
		if r.letGo(stored, route, full, now) || !full {
			continue
		}
		reason := "lane " + stored.Name.Lane + " of destination " + route.Name + " is full"
		keys := refused.live
		if strings.HasSuffix(stored.Name.Lane, bulkSuffix) {
			keys = refused.bulk
		}
		if route.APIKeys == nil {
			keys[everyKey] = reason
		}
		for key := range route.APIKeys {
			keys[key] = reason
		}
	}
	before := r.refusals.Load()
	if len(refused.live)+len(refused.bulk) == 0 {
		if before != nil {
			r.refusals.Store(nil)
			r.logger.Info("no lane is full any more, all API keys are accepted again")
		}
		return
	}
	r.refusals.Store(&refused)
	if before == nil {
		reasons := slices.AppendSeq(slices.Collect(maps.Values(refused.live)), maps.Values(refused.bulk))
		slices.Sort(reasons)
		for _, reason := range slices.Compact(reasons) {
			r.logger.Warn("events are refused with 503", "reason", reason)
		}
	}
}

// parked says that a lane's destination delivers to another hub now.
func (r *Router) parked(name store.LaneName, route *Route) bool {
	return !isUnsorted(name) && route.Destination.Hub(name.Account) != name.Hub
}

// letGo has a lane let go of its oldest entries, where the cause of its block or the configuration says so. It returns false for a lane that
// keeps all of them.
func (r *Router) letGo(stored store.Lane, route *Route, full bool, now time.Time) bool {
	if isUnsorted(stored.Name) {
		return route.Lanes.OnFull == config.DeadLetterOldest // see aside.tooOld
	}
	r.mu.Lock()
	a := r.accounts[accountName{stored.Name.Destination, stored.Name.Hub, stored.Name.Account}]
	r.mu.Unlock()
	if a == nil {
		return false
	}
	stream := a.stream(stored.Name.Lane)
	if stream == nil {
		return false
	}
	l := stream.lane
	give := &surrender{most: int(stored.Entries), before: now.Add(-route.Lanes.MaxAge)}
	if limit := route.Lanes.MaxBytes; limit > 0 && stored.Bytes >= limit {
		// About a tenth at a time: the size falls as whole blocks end.
		give = &surrender{most: max(100, int(stored.Entries/10))}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch s := l.stop; {
	case s != nil && s.skipAfter > 0:
		give.err = destinations.Skip(s.skipReason)
		if !full {
			give.before = now.Add(-s.skipAfter)
			if !stored.Oldest.Before(give.before) {
				return true
			}
		}
	case full && route.Lanes.OnFull == config.DeadLetterOldest:
		give.err, give.reason = destinations.Reject(errLaneFull), reasonLaneFull
	default:
		return false
	}
	stream.giveUp = give
	l.askToLetGo()
	return true
}

const reasonLaneFull = "lane_full" // of dead letters

var errLaneFull = errors.New("the lane is at its limit and gives up its oldest entries (lanes.on_full)")

package router

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

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
	Stopped State = "stopped" // no router runs
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
	// GivesUp is when its oldest entry becomes a dead letter, unless its account connects before; nil: its account is connected, or it waits as long as it takes.
	GivesUp *time.Time `json:"gives_up,omitempty"`
	// OldCalls are calls of its account that began before a reload changed the destination, and are under way.
	OldCalls int `json:"old_calls,omitempty"`

	unknownTTL time.Duration // with GivesUp: how long each of its entries waits
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
		s := newLaneStatus(stored, Parked, now)
		if i := t.index(s.Name.Destination); i >= 0 {
			s.rest(t.routes[i], stored.Oldest)
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
			if n, since, next := l.withheldLocked(); n > 0 && s.State == Flowing {
				since, next = since.UTC(), next.UTC()
				s.State, s.Reason, s.Since, s.NextTry = Blocked, fmt.Sprintf("%d entries would become dead letters, and %s", n, r.lettersFullReason(s.Name.Destination)), &since, &next
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

// rest is the state of a lane that no account has in hand, and whose oldest entry was received at a time.
func (s *LaneStatus) rest(route *Route, oldest time.Time) {
	switch {
	case isUnsorted(s.Name):
		s.State = Flowing
	case waitsForHub(s.Name, route):
		if s.State = Flowing; s.Entries > 0 && route.Destination.Hub(s.Name.Account) == "" {
			s.State, s.Reason = Blocked, "the account "+s.Name.Account+" is not connected"
			s.waitsSince(oldest, route.UnknownTTL)
		}
	case route.Connection != "" && route.Destination.Hub(s.Name.Account) == s.Name.Hub, route.Connection != "" && s.Entries == 0:
		s.State = Flowing // it has nothing to do
	case route.Connection != "":
		s.Reason = "the account " + s.Name.Account + " is not connected to this hub any more"
	}
}

// waitsSince notes since when a lane waits for its account to connect, and for how long.
func (s *LaneStatus) waitsSince(oldest time.Time, ttl time.Duration) {
	if oldest.IsZero() {
		return
	}
	since := oldest.UTC()
	s.Since = &since
	if ttl > 0 {
		until := since.Add(ttl)
		s.GivesUp, s.unknownTTL = &until, ttl
	}
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

// Idle says whether everything that was accepted is finished: the sorter is at the logs' ends, no lane has entries, and no dead letter is to be replayed.
func (r *Router) Idle() bool {
	for _, in := range r.intakes() {
		if in.unsorted() > 0 {
			return false
		}
	}
	if len(r.store.ReplaysLeft()) > 0 {
		return false
	}
	return !slices.ContainsFunc(r.store.Lanes(), func(l store.Lane) bool { return l.Entries > 0 })
}

// StoredStatus returns the lanes of a store that no router works on: stopped, blocked where they were when it ended, and parked where their destination is not
// configured.
func StoredStatus(st *store.Store, configured func(destination string) bool) []LaneStatus {
	all := []LaneStatus{}
	for _, stored := range st.Lanes() {
		s := newLaneStatus(stored, Stopped, time.Now())
		if !configured(stored.Name.Destination) {
			s.State = Parked
		} else if kept := storedBlock(st, stored.Name); kept != nil {
			s.State, s.Reason, s.Since = Blocked, kept.Reason, &kept.Since
		}
		all = append(all, s)
	}
	return all
}

func newLaneStatus(stored store.Lane, state State, now time.Time) LaneStatus {
	s := LaneStatus{Name: stored.Name, Entries: stored.Entries, Bytes: stored.Bytes, State: state}
	if stored.Entries > 0 && !stored.Oldest.IsZero() {
		s.OldestSeconds = max(now.Sub(stored.Oldest).Seconds(), 0)
	}
	return s
}

// sweepInterval is how often holds that are over are looked for.
const sweepInterval = time.Minute

// watch looks once a second which lanes are at their limits, and now and then for what can be forgotten.
func (r *Router) watch(ctx context.Context) error {
	swept, rested := time.Now(), time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-r.rerouted:
			r.refuse(time.Now())
		case now := <-tick.C:
			if err := r.pushOutLetters(ctx, now); err != nil {
				return err
			}
			r.refuse(now)
			r.tellLeftOut(now)
			r.store.Check()
			for _, in := range r.intakes() { // a log that is full of what is handed over gets no records, after which the sorter would
				in.log.Check()
				if err := in.reclaim(r.store); err != nil {
					return err
				}
			}
			if err := r.giveUpUnknown(ctx, now); err != nil {
				return err
			}
			if now.Sub(rested) >= idleFor/3 {
				rested = now
				r.retireIdle(now)
			}
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
			r.followHubs()
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

// parked says that a lane's destination delivers to another hub now. What waits for an account is not meant for any yet.
func (r *Router) parked(name store.LaneName, route *Route) bool {
	return !isUnsorted(name) && !waitsForHub(name, route) && route.Destination.Hub(name.Account) != name.Hub
}

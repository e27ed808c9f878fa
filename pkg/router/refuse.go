package router

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

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
	if strings.HasPrefix(apiKey, event.AppPrefix) {
		reason, refused = keys[everyApp] // a lane that takes all API keys' events has none of theirs
		return reason, refused
	}
	reason, refused = keys[everyKey]
	return reason, refused
}

// Refusal is an API key of which events are refused at present.
type Refusal struct {
	APIKey string `json:"api_key"` // "": all
	Live   bool   `json:"live"`    // live events too; else only imports and replays
	Reason string `json:"reason"`
}

// Refusals returns the API keys of which events are refused at present, by name.
func (r *Router) Refusals() []Refusal {
	all := []Refusal{}
	m := r.refusals.Load()
	if m == nil {
		return all
	}
	for key, reason := range m.live {
		if key == everyApp {
			continue // told as that of all
		}
		all = append(all, Refusal{APIKey: key, Live: true, Reason: reason})
	}
	for key, reason := range m.bulk {
		if _, both := m.live[key]; !both && key != everyApp {
			all = append(all, Refusal{APIKey: key, Reason: reason})
		}
	}
	slices.SortFunc(all, func(a, b Refusal) int { return strings.Compare(a.APIKey, b.APIKey) })
	return all
}

// Unsorted returns how many records of each log are not handed over to lanes, about.
func (r *Router) Unsorted() (live, bulk uint64) {
	if r.bulk != nil {
		bulk = r.bulk.unsorted()
	}
	return r.live.unsorted(), bulk
}

// refusals are the API keys that are refused, with the reason: for live events and for others.
type refusals struct{ live, bulk map[string]string }

// everyKey stands for all API keys in the refusals.
const everyKey = ""

// everyApp stands for the events of all apps.
const everyApp = event.AppPrefix

// refuse works out which API keys are to be refused.
func (r *Router) refuse(now time.Time) {
	refused := refusals{live: map[string]string{}, bulk: map[string]string{}}
	t := r.table.Load()
	if r.store.Full() {
		refused.live[everyKey] = "the disk is almost full"
		refused.bulk[everyKey], refused.live[everyApp] = refused.live[everyKey], refused.live[everyKey]
	}
	full := map[string]bool{}
	for _, route := range t.routes {
		if full[route.Name] = r.withholds(route, 0); full[route.Name] {
			reason := r.lettersFullReason(route.Name)
			refuse(refused.live, route, reason)
			refuse(refused.bulk, route, reason)
		} else if r.lettersWereFull[route.Name] {
			r.letGoOfLetters(route.Name, now)
		}
	}
	r.lettersWereFull = full
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
		if route.Connection != "" { // an account that is full is no other's concern
			if !waitsForHub(stored.Name, route) {
				r.letGo(stored, route, full, now)
			}
			continue
		}
		if r.letGo(stored, route, full, now) || !full {
			continue
		}
		reason := "lane " + stored.Name.Lane + " of destination " + route.Name + " is full"
		keys := refused.live
		if strings.HasSuffix(stored.Name.Lane, bulkSuffix) {
			keys = refused.bulk
		}
		refuse(keys, route, reason)
	}
	before := r.refusals.Load()
	if len(refused.live)+len(refused.bulk) == 0 {
		if before != nil {
			r.refusals.Store(nil)
			r.logger.Info("nothing is full any more, all API keys are accepted again")
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

// refuse notes that the API keys of a route are refused.
func refuse(keys map[string]string, route *Route, reason string) {
	if route.APIKeys == nil {
		keys[everyKey] = reason
		if route.Connection != "" {
			keys[event.AppPrefix+route.Connection] = reason
		}
	}
	for key := range route.APIKeys {
		keys[key] = reason
	}
}

// letGo has a lane let go of its oldest entries, where the cause of its block or the configuration says so. It returns false for a lane that
// keeps all of them, as each does when there is no room for more dead letters.
func (r *Router) letGo(stored store.Lane, route *Route, full bool, now time.Time) bool {
	if isUnsorted(stored.Name) {
		return route.Lanes.OnFull == config.DeadLetterOldest && !r.withholds(route, 0) // see aside.tooOld
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
	case full && route.Lanes.OnFull == config.DeadLetterOldest && !r.withholds(route, 0):
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

package eventscache

import (
	"encoding/json"
	"slices"
	"time"

	"eventrouter/pkg/event"
)

// Namespace says of what Query.IDs are.
type Namespace string

// Namespaces, by Jitsu's names.
const (
	Tokens       Namespace = "token"       // ids of API keys
	Destinations Namespace = "destination" // names of destinations
)

// Query asks for events.
type Query struct {
	Namespace  Namespace
	IDs        []string
	Errors     bool      // only those with an error
	Start, End time.Time // of receipt, Start included; zero: any
	Limit      int       // most events; 0: 100
}

// Answer has the names that Jitsu has.
type Answer struct {
	TotalEvents              int     `json:"total_events"`
	LastMinuteLimited        int64   `json:"last_minute_limited"`
	CacheCapacityPerInterval int     `json:"cache_capacity_per_interval"`
	IntervalSeconds          int     `json:"interval_seconds"`
	ResponseEvents           int     `json:"response_events"`
	Events                   []Event `json:"events"` // newest first
}

// Event is one event of an answer. Its outcome is one of Success, Skip and Error; an event that is under way has none.
type Event struct {
	Original    json.RawMessage `json:"original,omitempty"`
	Malformed   string          `json:"malformed,omitempty"`
	Success     json.RawMessage `json:"success,omitempty"`
	Error       string          `json:"error,omitempty"`
	Skip        string          `json:"skip,omitempty"`
	Timestamp   string          `json:"timestamp"`
	UID         string          `json:"uid"`
	Destination string          `json:"destination_id"`
	Token       string          `json:"token_id"`
}

// defaultLimit is Jitsu's.
const defaultLimit = 100

// Events answers a query.
func (c *Cache) Events(q Query) Answer {
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	a := Answer{CacheCapacityPerInterval: c.opts.Capacity, IntervalSeconds: int(c.opts.Interval / time.Second), Events: []Event{}}
	rings := c.members.Load().destinations
	if q.Namespace == Tokens {
		rings = c.members.Load().apiKeys
	}
	type dated struct {
		at time.Time
		Event
	}
	var found []dated
	now := time.Now()
	slices.Sort(q.IDs)
	for _, id := range slices.Compact(q.IDs) {
		r := rings[id]
		if r == nil {
			continue
		}
		r.mu.Lock()
		a.TotalEvents += len(r.entries)
		a.LastMinuteLimited += r.limitedLocked(now)
		for _, e := range r.entries {
			if q.wants(e) {
				found = append(found, dated{e.at, e.event()})
			}
		}
		r.mu.Unlock()
	}
	slices.Reverse(found)
	slices.SortStableFunc(found, func(a, b dated) int { return b.at.Compare(a.at) })
	for _, d := range found[:min(len(found), q.Limit)] {
		a.Events = append(a.Events, c.shown(d.Event))
	}
	a.ResponseEvents = len(a.Events)
	return a
}

// shown is e without what people are not to see: by the rules of now, which may not be those of when it came.
func (c *Cache) shown(e Event) Event {
	hidden := c.opts.Redact
	if !hidden.Active() {
		return e
	}
	values := hidden.Values(e.Original)
	e.Error, e.Skip, e.Success = values.Text(e.Error), values.Text(e.Skip), values.Detail(e.Success)
	e.Original, e.Malformed = hidden.JSON(e.Original), hidden.Malformed(e.Malformed)
	return e
}

func (q *Query) wants(e *entry) bool {
	if q.Errors && e.problem == "" && e.malformed == "" {
		return false
	}
	return (q.Start.IsZero() || !e.at.Before(q.Start)) && (q.End.IsZero() || e.at.Before(q.End))
}

// event is e as it is now. What it refers to is never written to again.
func (e *entry) event() Event {
	return Event{
		Original: e.original, Malformed: e.malformed, Success: e.success, Error: e.problem, Skip: e.skip,
		Timestamp: e.at.UTC().Format(event.TimestampLayout), UID: e.id, Destination: e.destination, Token: e.apiKey,
	}
}

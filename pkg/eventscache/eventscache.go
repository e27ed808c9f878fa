// Package eventscache keeps the last events in memory, for people who look on: what came in with each API key, and what each destination made of it.
//
//	ingest ─ Accepted, Malformed ─▶ a ring for each API key
//	router ─ Routed, Failed, Settled ─▶ a ring for each destination ─ Events ─▶ GET /api/v1/events/cache
//
// It is Jitsu's events cache. A ring takes a number of events in an interval and leaves the others out, so that it costs the same under any load. What
// became of an event is filled in when it is known. Nothing outlives the process; the store keeps every outcome.
package eventscache

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/store"
)

// Options of a Cache.
type Options struct {
	Capacity int            // events that a ring takes in an interval, and keeps; 0: nothing is kept
	Interval time.Duration  //
	Redact   *redact.Fields // members that answers do not show; nil: all are shown
	Members
}

// Members are whose events are kept.
type Members struct {
	APIKeys      []string // ids
	Destinations []string // names
	// Address says where a destination sends what is in a lane. nil: not known. Never a secret.
	Address func(destination, lane string) (method, url string)
}

// Bounds of one ring, beside its capacity.
const (
	maxRingBytes      = 4 << 20
	maxMalformedBytes = 10_000 // of a body, as Jitsu has it
	maxProblemBytes   = 1000
)

// What Jitsu says of an event that the template left out, and what there is to say of others.
const (
	skipFiltered  = "Transform or table name filter marked object to be skipped. This object will be skipped."
	skipDuplicate = "The API key had sent an event with this id before. This object will be skipped."
	skipUnrouted  = "The API key feeds no destination."
)

// Cache holds the rings. Its methods may be called from many goroutines.
type Cache struct {
	opts    Options // without Members
	members atomic.Pointer[members]
}

// members are never changed: a reload swaps them all.
type members struct {
	apiKeys, destinations map[string]*ring
	address               func(destination, lane string) (method, url string)
}

// New makes a cache.
func New(o Options) *Cache {
	c := &Cache{opts: o}
	c.members.Store(&members{})
	c.SetMembers(o.Members)
	return c
}

// SetMembers replaces the members. The events of those that stay are kept. Only one goroutine may call it at a time.
func (c *Cache) SetMembers(m Members) {
	old := c.members.Load()
	c.members.Store(&members{c.rings(m.APIKeys, old.apiKeys), c.rings(m.Destinations, old.destinations), m.Address})
}

func (c *Cache) rings(names []string, old map[string]*ring) map[string]*ring {
	rings := map[string]*ring{}
	if c.opts.Capacity <= 0 {
		return rings
	}
	for _, name := range names {
		if rings[name] = old[name]; rings[name] == nil {
			rings[name] = newRing(c.opts.Capacity, c.opts.Interval)
		}
	}
	return rings
}

// Accepted takes in the records of a request that are on disk.
func (c *Cache) Accepted(apiKey string, records [][]byte) {
	r := c.members.Load().apiKeys[apiKey]
	if r == nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, rec := range records {
		if !r.admitLocked(now, len(records)-i) {
			return
		}
		var ev event.Event
		if ev.Decode(rec) == nil {
			r.addLocked(entryOf(&ev))
		}
	}
}

// Malformed takes in a body that holds no events.
func (c *Cache) Malformed(apiKey string, body []byte, problem string) {
	r := c.members.Load().apiKeys[apiKey]
	if r == nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.admitLocked(now, 1) {
		r.addLocked(&entry{at: now.UTC(), apiKey: apiKey, malformed: maskedBody(body), problem: cut(problem, maxProblemBytes)})
	}
}

// Routed takes in an event that goes through a destination's filter and mapping.
func (c *Cache) Routed(destination string, offset uint64, ev *event.Event) {
	r := c.members.Load().destinations[destination]
	if r == nil {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.admitLocked(now, 1) || r.byOffset[offset] != nil { // it may come again, sorted apart
		return
	}
	e := entryOf(ev)
	e.destination, e.offset = destination, offset
	r.addLocked(e)
}

// Failed notes an attempt in vain that will be made again.
func (c *Cache) Failed(destination string, offset uint64, problem string) {
	r := c.members.Load().destinations[destination]
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.byOffset[offset]; e != nil && e.failed == 0 {
		e.problem = cut(problem, maxProblemBytes)
	}
}

// Settled notes what became of outputs.
func (c *Cache) Settled(outcomes []store.Outcome) {
	for i := range outcomes {
		o := &outcomes[i]
		if o.Destination == "" {
			c.settleReceipt(o)
			continue
		}
		r := c.members.Load().destinations[o.Destination]
		if r == nil {
			continue
		}
		r.mu.Lock()
		if e := r.byOffset[o.Offset]; e != nil {
			c.settle(e, o)
		}
		r.mu.Unlock()
	}
}

// settle notes what became of an event in a destination. A contact that is only made ready for it says nothing of it. Of several outputs of a transform the
// delivery of the first is shown, and the failure of the first that failed, whatever became of others.
func (c *Cache) settle(e *entry, o *store.Outcome) {
	if o.Status == store.Dead {
		if e.failed == 0 || o.Index < e.failed {
			e.problem, e.failed = cut(outputName(o)+o.Error, maxProblemBytes), o.Index+1
		}
		return
	}
	if o.Minimal {
		return
	}
	if o.Status != store.Filtered && (e.failed == 0 || e.failed == o.Index+1) {
		e.problem, e.failed = "", 0
	}
	switch o.Status {
	case store.Filtered:
		e.skip = skipFiltered
	case store.Skipped:
		e.skip = o.Reason
	case store.Delivered:
		if e.succeeded == 0 || o.Index < e.succeeded {
			e.success, e.succeeded = c.success(o), o.Index+1
		}
	}
}

// outputName names an output but the first.
func outputName(o *store.Outcome) string {
	if o.Index == 0 {
		return ""
	}
	return fmt.Sprintf("output %d: ", o.Index)
}

// settleReceipt notes what became of an event that got to no destination.
func (c *Cache) settleReceipt(o *store.Outcome) {
	r := c.members.Load().apiKeys[o.APIKey]
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.newestLocked(o.EventID, o.Received)
	switch {
	case e == nil:
	case o.Status == store.Duplicate:
		e.skip = skipDuplicate
	case o.Status == store.Unrouted:
		e.skip = skipUnrouted
	case o.Status == store.Dead:
		e.problem = cut(o.Error, maxProblemBytes)
	}
}

// success is what was delivered: where it went, and the destination's own account of it. There are no headers, which hold the token.
func (c *Cache) success(o *store.Outcome) json.RawMessage {
	s := struct {
		Destination string          `json:"destination_id"`
		Method      string          `json:"method,omitempty"`
		URL         string          `json:"url,omitempty"`
		Lane        string          `json:"lane"`
		Attempts    int             `json:"attempts"`
		Body        json.RawMessage `json:"body,omitempty"`
	}{Destination: o.Destination, Lane: o.Lane, Attempts: o.Attempts, Body: o.Detail}
	if address := c.members.Load().address; address != nil {
		s.Method, s.URL = address(o.Destination, o.Lane)
	}
	data, err := json.Marshal(s)
	if err != nil { // a Detail that is no JSON
		return nil
	}
	return data
}

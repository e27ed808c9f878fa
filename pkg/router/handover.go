package router

import (
	"context"
	"fmt"
	"slices"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// Blocks' buffers that are used again: those of some lanes, filled by records of common size.
const (
	mostBuffers = 8
	bufferBytes = 4 << 20
)

// handover collects what becomes of one batch of records, to be committed as a whole. One goroutine owns it.
type handover struct {
	r     *Router
	table *table
	now   time.Time
	batch store.Batch
	count counts

	seen       map[uint64]bool                    // event ids of this batch
	known      map[uint64]bool                    // keys that this batch makes known
	forgotten  map[store.PersonID]store.Forgotten // ids that were learned of persons who are forgotten
	identities personMemory
	lanes      map[*stream]*handed
	order      []*stream
	unsorted   map[*unsorted]*handed // of destinations that are set aside,
	slow       []*aside              // which are these; one may be in it twice

	hubs     map[accountName]string   // of connected accounts, as the batch saw them first
	waits    bool                     // it holds Router.waitingUse
	used     map[accountName]*account // of routes that deliver to accounts
	detached map[accountName]*account // by routes that are no longer in force: see Router.account

	stop     <-chan struct{} // closed when the router stops
	worlds   []filters.World // by route, of its transform
	kvs      []*kv           // likewise; nil: it does not use $kv
	consoles []*console

	owners    []owner         // of the event in hand, by route
	accounts  []string        // that routes have read in it, sorted
	views     []*event.Event  // see versions
	decisions []Decision      // of the event in hand, by one route
	spent     []time.Duration // in scripts, by route
	shares    []share
	scratch   []byte
	buffers   [][]byte // of blocks that were handed over
	recording bool     // outcomes are wanted
	final     bool     // what is in hand has waited to be identified
	failed    error    // the batch must not be committed

	replay *replaying // of the letter in hand; nil: there is none
}

// identityKey names an id in a scope: see scopeOf.
type identityKey struct{ apiKey, kind, value string }

func newHandover(r *Router, t *table) *handover {
	h := &handover{
		r: r, table: t, count: newCounts(r, t), detached: map[accountName]*account{}, hubs: map[accountName]string{}, used: map[accountName]*account{}, seen: map[uint64]bool{}, known: map[uint64]bool{},
		lanes: map[*stream]*handed{}, unsorted: map[*unsorted]*handed{},
		spent: make([]time.Duration, len(t.routes)), shares: make([]share, len(t.routes)), recording: r.records(),
		owners: make([]owner, len(t.routes)),
	}
	h.identities = personMemory{stored: h.storedIdentity, learned: map[identityKey]store.Identity{}}
	h.newWorlds()
	return h
}

// begin clears what the last batch left. When ctx ends nothing is waited for any more.
func (h *handover) begin(ctx context.Context) {
	h.now, h.stop = time.Now(), ctx.Done()
	h.listen()
	clear(h.seen)
	clear(h.known)
	clear(h.forgotten)
	clear(h.identities.learned)
	clear(h.lanes)
	clear(h.unsorted)
	clear(h.detached)
	clear(h.hubs)
	h.letGoOfAccounts() // of a batch that was not committed
	h.order, h.slow = h.order[:0], h.slow[:0]
	b := &h.batch
	*b = store.Batch{
		Seen: b.Seen[:0], Known: b.Known[:0], Identities: b.Identities[:0], Blocks: b.Blocks[:0], DeadLetters: b.DeadLetters[:0],
		Outcomes: reuse(b.Outcomes), KV: b.KV[:0], Replayed: b.Replayed[:0],
	}
}

// add takes in one record, but for one that counts later than until, if that is not zero: then it returns false.
func (h *handover) add(rec log.Record, until time.Time) (taken bool) {
	ev := &event.Event{}
	if err := ev.Decode(rec.Data); err != nil {
		h.bury(nil, rec, nil, dead(0, nil, "record", err))
		return true
	}
	ev.JSON = event.Normalize(ev.JSON)
	if !until.IsZero() && ev.Effective().After(until) {
		return false
	}
	h.sortNew(rec, ev)
	return true
}

// sortNew sorts an event that was not sorted before, unless the same one was. Of a dead letter that is what became one: its id was noted then, so that its copies
// count as duplicates of it.
func (h *handover) sortNew(rec log.Record, ev *event.Event) {
	h.whose(ev)
	id := h.eventHash(ev)
	if h.forgetsAny(rec, ev) {
		if !h.seen[id] && !h.r.store.Seen(id) { // should its client send it again
			h.seen[id] = true
			h.batch.Seen = append(h.batch.Seen, id)
		}
		h.count.sorted++
		h.skipForgotten(rec, ev)
		return
	}
	seen := h.seen[id] || h.r.store.Seen(id)
	if seen && h.replay == nil {
		h.count.duplicates++
		h.record(nil, rec, ev.ID, Decision{Event: ev, Status: store.Duplicate})
		return
	}
	if !seen {
		h.seen[id] = true
		h.batch.Seen = append(h.batch.Seen, id)
	}
	h.count.sorted++
	h.resolved(ev)
	if h.enriched(ev) {
		h.count.bots[ev.APIKey]++
	}
	routed := false
	for i, route := range h.table.routes {
		if !route.Takes(ev) {
			continue
		}
		routed = true
		ev, undone := h.own(i, ev)
		if undone.Status != "" {
			h.settle(i, route, rec, ev, &undone)
			continue
		}
		h.r.watcher.Routed(route.Name, uint64(rec.Offset), ev)
		if a := h.table.asides[i]; a != nil && a.active.Load() {
			h.setAside(i, a, rec, ev)
			continue
		}
		h.route(i, route, rec, ev)
		if h.spent[i] > shareLimit { // in this batch alone: its other events wait no longer
			h.tooSlow(i)
		}
	}
	if !routed {
		h.record(nil, rec, ev.ID, Decision{Event: ev, Status: store.Unrouted})
	}
}

// eventHash is what an event is known again by. Ids of browsers are apart: one that is guessed must not keep a server's event from counting.
func (h *handover) eventHash(ev *event.Event) uint64 {
	if ev.Account == "" && len(h.accounts) == 0 {
		return h.r.store.Hash(eventKind(ev), ev.APIKey, ev.ID)
	}
	return h.r.store.Hash(eventKey(ev, h.accounts)...)
}

// eventKey is the parts of an event's hash; accounts are those that routes read in it. Ids of one account's events say nothing of another's.
func eventKey(ev *event.Event, accounts []string) []string {
	key := []string{eventKind(ev), ev.APIKey, ev.ID}
	if ev.Account != "" || len(accounts) > 0 {
		key = append(append(key, ev.Account), accounts...)
	}
	return key
}

func eventKind(ev *event.Event) string {
	if ev.Server {
		return "event"
	}
	return "browser event"
}

// tooSlow has a destination set aside, and measures it afresh when it comes back.
func (h *handover) tooSlow(i int) {
	h.spent[i], h.shares[i] = 0, share{}
	h.r.setAside(h.table, i)
}

// setAside puts an event into an unsorted lane of a destination.
func (h *handover) setAside(i int, a *aside, rec log.Record, ev *event.Event) {
	h.putOff(a, a.lane(ev.Class), rec, ev)
}

// putOff puts an event into an unsorted lane of an aside.
func (h *handover) putOff(a *aside, u *unsorted, rec log.Record, ev *event.Event) {
	block := h.unsorted[u]
	if block == nil {
		var id store.LaneID
		if !h.untilRoom(func() (err error) { id, err = u.open(h.r.store); return err }) {
			return
		}
		block = h.newBlock(id, ev)
		h.unsorted[u] = block
		h.slow = append(h.slow, a)
	}
	h.append(block, rec, &Decision{Event: ev}, &destinations.Plan{})
}

// route decides on one event for one destination and notes what becomes of its outputs.
func (h *handover) route(i int, route *Route, rec log.Record, ev *event.Event) {
	defer h.buryPanic(route, rec, ev)
	defer h.hold(ev)()
	began := time.Now() // what the sorter waits for counts as the scripts' own time
	if kv := h.kvs[i]; kv != nil && !kv.hold(h.stop, ev.Account) {
		h.failed = context.Canceled
		return
	}
	h.decisions = route.Decide(h.decisions[:0], ev, h.worlds[i])
	if route.Transform != nil || route.Filter != nil {
		h.spent[i] += time.Since(began)
	}
	if h.mayWait(ev) && slices.ContainsFunc(h.decisions, func(d Decision) bool { return d.Status == store.Filtered || d.unidentified }) {
		h.wait(i, rec, ev) // it is decided on again: nothing of this counts, neither what scripts have kept
		return
	}
	if kv := h.kvs[i]; kv != nil && !slices.ContainsFunc(h.decisions, func(d Decision) bool { return d.failed }) {
		kv.keep()
	}
	for d := range h.decisions {
		h.settle(i, route, rec, ev, &h.decisions[d])
	}
}

// untilRoom is Router.untilRoom. False: the batch must not be committed.
func (h *handover) untilRoom(do func() error) bool {
	if err := h.r.untilRoom(h.stop, do); err != nil {
		h.failed = err
		return false
	}
	return true
}

// commit makes the batch durable and tells the lanes.
func (h *handover) commit(ctx context.Context) error {
	defer h.letGoOfAccounts()
	defer h.releaseKV()
	if h.failed != nil {
		return h.failed
	}
	// Blocks of contacts get lower ids than those of their events: see stream.showsLocked.
	slices.SortStableFunc(h.order, func(a, b *stream) int { return a.lane.index - b.lane.index })
	for _, s := range h.order {
		s.expect()
		h.batch.Blocks = append(h.batch.Blocks, h.lanes[s].Block)
	}
	for _, b := range h.unsorted {
		h.batch.Blocks = append(h.batch.Blocks, b.Block)
	}
	if len(h.identities.learned) > 0 {
		h.r.tellTaught(h.identities.learned)
	}
	for _, id := range h.identities.learned {
		h.batch.Identities = append(h.batch.Identities, id)
	}
	for _, k := range h.kvs {
		if k != nil {
			h.batch.KV = k.appendTo(h.batch.KV)
		}
	}
	if err := h.markForgotten(ctx); err != nil {
		return err
	}
	if err := h.r.commit(ctx, &h.batch); err != nil {
		for _, s := range h.order {
			s.despair()
		}
		return fmt.Errorf("hand records over: %w", err)
	}
	for i := range h.batch.Blocks { // the store does not keep them
		if data := h.batch.Blocks[i].Data; len(h.buffers) < mostBuffers && cap(data) <= bufferBytes {
			h.buffers = append(h.buffers, data)
		}
	}
	for _, s := range h.order {
		s.announce()
	}
	for _, a := range h.slow {
		a.poke()
	}
	for _, s := range h.order {
		s.lane.account.wakeFrom(s.lane.index)
	}
	h.count.flush()
	h.r.watcher.Settled(h.batch.Outcomes)
	return nil
}

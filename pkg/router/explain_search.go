package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// Bounds of one search.
const (
	searchBytes   = 256 << 20 // of what waits in the store, decompressed: about a second
	searchRecords = 100_000   // of the log that are not sorted; mostly there is none
)

// searchLog looks through what is accepted and not sorted. Errors of the log are the sorter's business.
func (x *explainer) searchLog(ctx context.Context, in *intake) {
	position, unsorted := in.position.Load(), in.unsorted()
	if unsorted == 0 {
		return
	}
	reader, err := in.log.NewReader(log.Offset(position))
	if err != nil {
		return
	}
	defer reader.Close()
	matched, told := 0, len(x.unsorted)
	defer func() { x.notMore("accepted and not sorted yet", matched, len(x.unsorted)-told) }()
	for looked := 0; ctx.Err() == nil; {
		if looked >= searchRecords {
			x.notef("of %d events in the %s log that are accepted and not sorted yet only the first %d were looked at", unsorted, in.name, looked)
			return
		}
		records, err := reader.ReadBatch(handoverRecords)
		if err != nil || len(records) == 0 {
			return
		}
		for _, rec := range records {
			var ev event.Event
			if !x.mayHold(rec.Data) || ev.Decode(rec.Data) != nil || !x.matches(&ev, ev.ID, "") {
				continue
			}
			if matched++; matched <= x.query.Limit {
				x.unsorted = append(x.unsorted, receiptOf(&ev, "", uint64(rec.Offset), ReceiptUnsorted))
			}
		}
		looked += len(records)
	}
}

// mayHold says whether records hold what is looked for. An id stands in them as it is, a person in any case.
func (x *explainer) mayHold(data []byte) bool {
	if x.query.EventID == "" {
		data = bytes.ToLower(data)
	}
	return bytes.Contains(data, x.needle)
}

func (x *explainer) notef(format string, args ...any) {
	x.notes = append(x.notes, fmt.Sprintf(format, args...))
}

// notMore says that of what was found where, the rest is not told.
func (x *explainer) notMore(where string, matched, told int) {
	if matched > told {
		x.notef("%s: %d were found, only the first %d are told", where, matched, told)
	}
}

func receiptOf(ev *event.Event, key string, offset uint64, state string) Receipt {
	if key == "" {
		key = strings.ToLower(ev.UserEmail())
	}
	return Receipt{Received: ev.Received, APIKey: ev.APIKey, EventID: ev.ID, EventType: ev.Type(), Person: key, Offset: offset, State: state}
}

// tell makes of an entry what waits. out says where.
func (e *entry) tell(out Output) found {
	f := found{receipt: receiptOf(e.Event, e.Plan.Key, e.Name.Offset, ReceiptSorted), output: out}
	f.receipt.EventID = e.eventID()
	o := &f.output
	o.Index, o.EventType, o.Person, o.Minimal, o.Replays = e.Name.Index, f.receipt.EventType, f.receipt.Person, e.Plan.IfNew, e.replays()
	return f
}

// searchLanes looks for what waits: in the windows, which hold the beginning of each lane, and behind them in the store.
func (x *explainer) searchLanes(ctx context.Context) error {
	windows, states := map[store.LaneID]*window{}, map[store.LaneName]LaneStatus{}
	if x.router != nil {
		for _, a := range x.router.atWork() {
			for _, l := range a.lanes {
				for _, s := range l.streams() {
					if id := s.laneID(); id != 0 {
						windows[id] = x.searchWindow(s)
						windows[id].more = windows[id].more || a.retired() // what is handed over since then is for its successor
					}
				}
			}
		}
		for _, s := range x.router.Status() {
			states[s.Name] = s
		}
	}
	inFlight, err := x.callsInFlight()
	if err != nil {
		return err
	}
	left := x.bytes
	for _, stored := range x.store.Lanes() {
		w := windows[stored.ID]
		if w == nil {
			w = &window{more: stored.Entries > 0}
		}
		s := &laneSearch{explainer: x, lane: stored, window: w, inFlight: inFlight}
		if w.more {
			if left, err = s.search(ctx, left); err != nil {
				return fmt.Errorf("search lane %s of %s: %w", stored.Name.Lane, stored.Name.Destination, err)
			}
		}
		x.notMore(stored.Name.Destination+", lane "+stored.Name.Lane, w.matched+s.matched, len(w.found)+len(s.found))
		for i := range s.found {
			if state, ok := states[stored.Name]; ok {
				s.found[i].output.Waiting.take(state, s.found[i].receipt.Received)
			}
		}
		for i := range w.found {
			waiting := w.found[i].output.Waiting
			if waiting.LastError, err = x.lastError(ctx, w.refs[i]); err != nil {
				return err
			}
			waiting.take(states[stored.Name], w.found[i].receipt.Received)
		}
		x.waiting = append(append(x.waiting, w.found...), s.found...)
	}
	return nil
}

const whyBlocked = "its lane is blocked"

// take adds the state of the lane, of an entry that was received at a time.
func (w *Waiting) take(s LaneStatus, received time.Time) {
	if s.GivesUp != nil {
		until := received.UTC().Add(s.unknownTTL)
		w.GivesUp = &until
	}
	w.LaneState, w.LaneReason, w.LaneSince, w.LaneNextTry = s.State, s.Reason, s.Since, s.NextTry
	switch {
	case w.Why == whyBlocked && s.NextTry != nil:
		w.NextAttempt = s.NextTry // of the same moment
	case w.Why != "":
	case s.State == Blocked && s.Name.Hub == "" && s.Name.Account != "":
		w.Why = "for the account " + s.Name.Account + " to connect: its people need an install link (router connections link)"
	case s.State == Blocked || s.State == Paused:
		w.Why = "its lane is " + string(s.State)
	case s.State == Swapping:
		w.Why = "a reload changed its destination: calls that began before have to end first"
	case s.State == Parked && s.Name.Account != "":
		w.Why = "its lane is parked: it goes on when the account " + s.Name.Account + " is connected to hub " + s.Name.Hub + " again, or a person moves or drops it (router lanes move, router lanes drop)"
	case s.State == Parked:
		w.Why = "its lane is parked: the destination is not in the configuration, or delivers to another hub now"
	case s.Name.Lane == unidentifiedLane:
		w.Why = "whose event it is is not known yet: the client may just be telling in another request"
	case strings.TrimSuffix(s.Name.Lane, bulkSuffix) == unsortedLane:
		w.Why = "the destination's template is slow: its events are sorted apart from the others"
	default:
		w.Why = "for what is before it in its lane"
	}
}

// window is what was found in a stream's window.
type window struct {
	loaded  store.BlockID // blocks up to this are in it
	entries int
	more    bool               // there may be blocks that are not
	holds   map[store.Ref]bool // the entries, where blocks that are to be looked through have some of them
	matched int
	found   []found     // of those the first
	refs    []store.Ref // of found
}

// searchWindow looks through what the stream holds in memory.
func (x *explainer) searchWindow(s *stream) *window {
	l, a := s.lane, s.lane.account
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &window{loaded: s.loaded, entries: len(s.window), more: s.more}
	if s.passed.active { // what was passed over stands in the store between what is in the window
		w.more, w.holds = true, make(map[store.Ref]bool, len(s.window))
		if s.passed.from != 0 {
			w.loaded = min(w.loaded, s.passed.from-1)
		}
	}
	for i, e := range s.window {
		if w.holds != nil {
			w.holds[e.ref] = true
		}
		if !x.matches(e.Event, e.eventID(), e.Plan.Key) {
			continue
		}
		if w.matched++; w.matched > x.query.Limit {
			continue
		}
		f := e.tell(Output{
			Destination: a.route.Name, Hub: a.hub, Account: a.name, Lane: l.spec.Name, State: OutputWaiting, Attempts: e.attempts, Waiting: l.whyLocked(e, now),
		})
		f.output.Waiting.Before = int64(i)
		if e.busy {
			f.output.State = OutputInFlight
		}
		w.found, w.refs = append(w.found, f), append(w.refs, e.ref)
	}
	return w
}

// whyLocked says why an entry of a window is not finished.
func (l *lane) whyLocked(e *entry, now time.Time) *Waiting {
	w := &Waiting{}
	until := func(at time.Time) { at = at.UTC(); w.NextAttempt = &at }
	for _, u := range l.resend {
		if slices.Contains(u.entries, e) {
			w.Why = "a call with it got no complete answer; it is sent again unchanged"
			until(u.due)
			return w
		}
	}
	switch {
	case e.busy:
		w.Why = "it is in a call now"
		return w
	case l.stop != nil && l.stop.blocked:
		w.Why = whyBlocked
		until(l.stop.until)
		return w
	case e.due.After(now):
		w.Why = "the last attempt failed"
		until(e.due)
		return w
	}
	for _, p := range e.persons {
		if at := p.queues[l.index].hold; at.After(now) {
			w.Why = "an earlier call for the same person got no complete answer and may still be carried out"
			until(at)
			return w
		}
	}
	for _, p := range e.persons {
		if i := slices.Index(p.queues[l.index].entries, e); i > 0 {
			w.Why = fmt.Sprintf("for earlier entries of the same person in this lane: %d", i)
			return w
		}
	}
	if earlier := l.heldByLocked(e); earlier != nil {
		w.Why = "for the " + earlier.spec.Name + " lane, which has to write its person first"
		if s := earlier.stop; s != nil && s.blocked {
			w.Why += "; that lane is blocked: " + s.err.Error()
			until(s.until)
		}
		return w
	}
	if l.stop != nil && now.Before(l.stop.until) {
		w.Why = "calls of its lane fail, the next one is tried after a pause"
		until(l.stop.until)
		return w
	}
	w.Why = "for its turn: what is before it, and the remote's quota"
	return w
}

// heldByLocked is the earlier lane that e has to wait for; nil: none.
func (l *lane) heldByLocked(e *entry) *lane {
	if l.releasedLocked(e) {
		return nil
	}
	for _, earlier := range l.account.lanes[:l.index] {
		if earlier.stop != nil && earlier.stop.blocked {
			return earlier
		}
		for _, p := range e.persons {
			if p.queues[earlier.index].firstBefore(e) != nil {
				return earlier
			}
		}
	}
	if l.index == 0 {
		return nil
	}
	return l.account.lanes[l.index-1] // it may, as not all of it is loaded
}

// callsInFlight are the entries of calls that are marked, where no router runs: with one, its windows know.
func (x *explainer) callsInFlight() (map[store.Ref]bool, error) {
	if x.router != nil {
		return nil, nil
	}
	calls, err := x.store.Calls()
	if err != nil {
		return nil, err
	}
	refs := map[store.Ref]bool{}
	for _, c := range calls {
		for _, ref := range c.Entries {
			refs[ref] = true
		}
	}
	return refs, nil
}

// laneSearch looks through the blocks of one lane that are not in memory.
type laneSearch struct {
	*explainer
	lane     store.Lane
	window   *window
	inFlight map[store.Ref]bool

	before  int64 // entries before the block in hand
	matched int
	found   []found // of those the first
}

// search stops when it has looked at left bytes, and returns what remains of them.
func (s *laneSearch) search(ctx context.Context, left int64) (int64, error) {
	s.before = int64(s.window.entries)
	for after := s.window.loaded; ; {
		if left <= 0 {
			s.notef("%s, lane %s: of %d entries only the first %d were looked through", s.lane.Name.Destination, s.lane.Name.Lane, s.lane.Entries, s.before)
			return left, nil
		}
		blocks, err := s.store.ReadBlocks(ctx, s.lane.ID, after, readBytes)
		var damaged *store.DamagedError
		if errors.As(err, &damaged) {
			s.notef("%s, lane %s: %d entries can not be read: %v", s.lane.Name.Destination, s.lane.Name.Lane, damaged.Block.Entries, damaged.Cause)
			after = damaged.Block.ID
			continue
		}
		if err != nil || len(blocks) == 0 {
			return left, err
		}
		for i := range blocks {
			left -= int64(len(blocks[i].Data))
			after = blocks[i].ID
			if err := s.block(&blocks[i]); err != nil {
				return left, err
			}
		}
	}
}

// block looks through one block.
func (s *laneSearch) block(b *store.StoredBlock) error {
	done := bitmap(b.Done)
	if !s.mayHold(b.Data) {
		for i := range b.Entries {
			if !done.has(i) {
				s.before++
			}
		}
		return nil
	}
	name := s.lane.Name
	entries, err := decodeBlock(b.Data, name.Destination, name.Account, strings.TrimSuffix(name.Lane, bulkSuffix))
	if err != nil {
		return err
	}
	for i, e := range entries {
		if i >= b.Entries || done.has(i) || s.window.holds[store.Ref{Block: b.ID, Index: i}] {
			continue
		}
		if s.matches(e.Event, e.eventID(), e.Plan.Key) {
			if s.matched++; s.window.matched+s.matched <= s.query.Limit {
				s.found = append(s.found, s.entry(e, b, i))
			}
		}
		s.before++
	}
	return nil
}

func (s *laneSearch) entry(e *entry, b *store.StoredBlock, i int) found {
	name := s.lane.Name
	f := e.tell(Output{
		Destination: name.Destination, Hub: name.Hub, Account: name.Account, Lane: e.Plan.Lane, State: OutputWaiting, Waiting: &Waiting{Before: s.before},
	})
	w := f.output.Waiting
	for _, r := range b.Retries {
		if r.Index == i {
			due := r.Due
			w.Why, w.NextAttempt, w.LastError, f.output.Attempts = "the last attempt failed", &due, r.Error, r.Attempt
		}
	}
	switch {
	case s.inFlight[store.Ref{Block: b.ID, Index: i}]:
		f.output.State, w.Why = OutputInFlight, "it was in a call when the router ended; it is sent again unchanged at the next start"
	case s.router == nil && w.Why == "":
		w.Why = "no router delivers it now"
	}
	return f
}

// lastError is what the last attempt of an entry has met: the store alone keeps it.
func (x *explainer) lastError(ctx context.Context, ref store.Ref) (string, error) {
	retry, _, err := x.store.Retry(ctx, ref)
	return retry.Error, err
}

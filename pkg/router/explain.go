package router

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// ExplainQuery asks what became of an event, or of a person's last events.
type ExplainQuery struct {
	EventID string
	Person  string // if there is no EventID: the lane key, an e-mail
	APIKey  string // only events of this API key; "": of all
	Account string // only what became of them in this customer's account; "": in all
	Limit   int    // of outcomes, and of what waits in each lane; 0: 20 of a person, 100 of an event
}

// Explanation is the whole story, as far as it is known.
type Explanation struct {
	EventID string `json:"event_id,omitempty"`
	Person  string `json:"person,omitempty"`
	APIKey  string `json:"api_key,omitempty"`
	Account string `json:"account,omitempty"`
	// Found says whether anything is known. If not, Notes say what that can mean.
	Found bool `json:"found"`
	// Receipts are the times that the event was received, or the events of the person, in order.
	Receipts []Receipt `json:"receipts"`
	// Notes say what could not be looked at, and what an answer can mean.
	Notes []string `json:"notes,omitempty"`
}

// Receipt is one event as it was received, and what became of it.
type Receipt struct {
	Received  time.Time `json:"received"`
	APIKey    string    `json:"api_key"`
	EventID   string    `json:"event_id"`
	EventType string    `json:"event_type"`
	Person    string    `json:"person,omitempty"`
	Offset    uint64    `json:"offset"`
	State     string    `json:"state"`
	Outputs   []Output  `json:"outputs"` // by destination and lane
}

// States of receipts.
const (
	ReceiptSorted    = "sorted"    // see Outputs
	ReceiptUnsorted  = "unsorted"  // accepted, and not sorted yet
	ReceiptDuplicate = "duplicate" // dropped: the API key had sent the id before
	ReceiptUnrouted  = "unrouted"  // accepted, and the API key feeds no destination
)

// Output is what became of an event for one lane of one destination.
type Output struct {
	Destination string `json:"destination"`
	Hub         string `json:"hub,omitempty"`
	Account     string `json:"account,omitempty"`
	Lane        string `json:"lane,omitempty"`
	// Index of the output, where a transform makes several of an event.
	Index int `json:"index,omitempty"`
	// EventType and Person are those of the output, where a transform gave it others than the receipt shows.
	EventType string `json:"event_type,omitempty"`
	Person    string `json:"person,omitempty"`
	// State is a store.Status, or waiting or in_flight.
	State string `json:"state"`
	// Minimal: a contact write without the event's data, made only so that the event has a contact.
	Minimal        bool            `json:"minimal,omitempty"`
	Reason         string          `json:"reason,omitempty"`
	Error          string          `json:"error,omitempty"`
	Settled        *time.Time      `json:"settled,omitempty"`
	LatencySeconds float64         `json:"latency_seconds,omitempty"` // from receipt
	Attempts       int             `json:"attempts,omitempty"`
	Detail         json.RawMessage `json:"detail,omitempty"` // the destination's own account
	DeadLetter     int64           `json:"dead_letter_id,omitempty"`
	// ToReplay says that the dead letter is to be sent again, and has not been yet.
	ToReplay bool `json:"to_replay,omitempty"`
	// Problem is why the dead letter could not be sent again; "" when it was not tried, or could.
	Problem string `json:"problem,omitempty"`
	// Replays is how often it was a dead letter that was sent again, before this.
	Replays int `json:"replays,omitempty"`
	// Before is the dead letter that it was before this.
	Before  *Failure `json:"before,omitempty"`
	Waiting *Waiting `json:"waiting,omitempty"`
}

// Failure is what made a dead letter of an output.
type Failure struct {
	Settled time.Time `json:"settled"`
	Reason  string    `json:"reason"`
	Error   string    `json:"error"`
}

// States of outputs that are not finished.
const (
	OutputWaiting  = "waiting"
	OutputInFlight = "in_flight" // in a call, or in one whose answer is not known
)

// Waiting is where and why an output waits.
type Waiting struct {
	// Why in plain words.
	Why string `json:"why"`
	// Before is how many entries of the lane come before it; others may overtake those.
	Before int64 `json:"entries_before"`
	// NextAttempt is when it is tried again, if that is known.
	NextAttempt *time.Time `json:"next_attempt,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	// LaneState is the state of its lane; "" when no router runs on it.
	LaneState   State      `json:"lane_state,omitempty"`
	LaneReason  string     `json:"lane_reason,omitempty"`
	LaneSince   *time.Time `json:"lane_since,omitempty"`
	LaneNextTry *time.Time `json:"lane_next_try,omitempty"`
	// GivesUp is when it becomes a dead letter, unless its account connects before; nil: that is connected, or it waits as long as it takes.
	GivesUp *time.Time `json:"gives_up,omitempty"`
}

// How much is told unless more is asked for.
const (
	personLimit = 20
	eventLimit  = 100
)

// Explain tells what became of an event, or of a person's last events. What waits is looked for in memory and then, up to a bound, in the store.
func (r *Router) Explain(ctx context.Context, q ExplainQuery) (*Explanation, error) {
	x := &explainer{store: r.store, router: r, query: q, bytes: searchBytes}
	return x.explain(ctx)
}

// ExplainStored is Explain for a store on which no router runs, or one that can not be asked.
func ExplainStored(ctx context.Context, st *store.Store, q ExplainQuery) (*Explanation, error) {
	x := &explainer{store: st, query: q, bytes: searchBytes}
	return x.explain(ctx)
}

// errNoQuestion is for a query without an event and a person.
var errNoQuestion = errors.New("neither an event id nor a person is asked for")

// explainer answers one query.
type explainer struct {
	store  *store.Store
	router *Router // nil: none runs
	query  ExplainQuery
	bytes  int64 // of the store that are searched at most

	needle   []byte    // what every record that is asked for holds
	waiting  []found   // not finished
	unsorted []Receipt // in the log
	notes    []string
}

// found is an output, with the event that it is of.
type found struct {
	receipt Receipt
	output  Output
}

func (x *explainer) explain(ctx context.Context) (*Explanation, error) {
	q := &x.query
	q.Person = strings.ToLower(strings.TrimSpace(q.Person))
	if q.EventID == "" && q.Person == "" {
		return nil, errNoQuestion
	}
	if q.Limit <= 0 {
		q.Limit = personLimit
		if q.EventID != "" {
			q.Limit = eventLimit
		}
	}
	e, err := x.search(ctx)
	if err != nil || e.Found {
		return e, err
	}
	if of, err := x.explainOutput(ctx); of != nil || err != nil {
		return of, err
	}
	e.Notes = append(x.meaningOfUnknown(), e.Notes...)
	return e, nil
}

// explainOutput tells of an output of a transform by the id that it has: that of the event with its number. nil: it is none that is known.
func (x *explainer) explainOutput(ctx context.Context) (*Explanation, error) {
	asked := x.query.EventID
	at := strings.LastIndexByte(asked, '_')
	if at <= 0 {
		return nil, nil
	}
	index, err := strconv.Atoi(asked[at+1:])
	if err != nil || index <= 0 {
		return nil, nil
	}
	of := explainer{store: x.store, router: x.router, query: x.query, bytes: x.bytes}
	of.query.EventID = asked[:at]
	e, err := of.search(ctx)
	if err != nil {
		return nil, err
	}
	e.Receipts = slices.DeleteFunc(e.Receipts, func(r Receipt) bool {
		return !slices.ContainsFunc(r.Outputs, func(o Output) bool { return o.Index == index })
	})
	if len(e.Receipts) == 0 {
		return nil, nil
	}
	e.Notes = append([]string{fmt.Sprintf("%s is the id of output %d that a transform made of event %s", asked, index, e.EventID)}, e.Notes...)
	return e, nil
}

// search looks everywhere.
func (x *explainer) search(ctx context.Context) (*Explanation, error) {
	q := &x.query
	x.needle = []byte(q.EventID)
	if q.EventID == "" {
		x.needle = []byte(q.Person)
	}
	// In the order in which an event goes its way, so that none slips through: what moved on meanwhile is seen further on.
	if x.router != nil {
		for _, in := range x.router.intakes() {
			x.searchLog(ctx, in)
		}
	}
	if err := x.searchLanes(ctx); err != nil {
		return nil, err
	}
	finished, err := x.finished(ctx)
	if err != nil {
		return nil, err
	}
	if finished, err = x.underOtherNames(ctx, finished); err != nil {
		return nil, err
	}
	letters, err := x.deadLetters(ctx, finished)
	if err != nil {
		return nil, err
	}
	e := &Explanation{EventID: q.EventID, Person: q.Person, APIKey: q.APIKey, Account: q.Account, Receipts: x.assemble(finished, letters), Notes: x.notes}
	if q.EventID != "" {
		e.Person = ""
	}
	e.Found = len(e.Receipts) > 0
	return e, nil
}

// finished returns the outcomes of what is asked for, newest first. That an id came again and again does not hide what became of the first.
func (x *explainer) finished(ctx context.Context) ([]store.Outcome, error) {
	q := store.OutcomeQuery{EventID: x.query.EventID, Person: x.query.Person, APIKey: x.query.APIKey, Account: x.query.Account, Limit: x.query.Limit}
	all, err := x.outcomes(ctx, q)
	if err != nil || q.EventID == "" || len(all) < q.Limit {
		return all, err
	}
	x.notef("the event came often: only the last %d outcomes are told, and those that are no duplicates", q.Limit)
	q.Except = store.Duplicate
	others, err := x.outcomes(ctx, q)
	return append(all, others...), err
}

// tellsAlone says whether a dead letter is told where no outcome of it is: outcomes are forgotten earlier, and a letter may be edited to be another person's. A person's that
// is older than all outcomes that are told is past the limit.
func (x *explainer) tellsAlone(d *store.DeadLetter, finished []store.Outcome) bool {
	if x.query.EventID != "" {
		return true
	}
	past := len(finished) >= x.query.Limit && d.At.Before(finished[len(finished)-1].Settled)
	return !past && strings.EqualFold(d.Person, x.query.Person)
}

// underOtherNames adds what the same outputs were or became under another person: a dead letter may be edited, so that its replay is somebody else's.
func (x *explainer) underOtherNames(ctx context.Context, finished []store.Outcome) ([]store.Outcome, error) {
	if x.query.EventID != "" {
		return finished, nil
	}
	asked := map[string]bool{}
	all := finished
	for i := range finished {
		o := &finished[i]
		if o.EventID == "" || asked[o.EventID] || o.Status != store.Dead && o.Replays == 0 {
			continue
		}
		asked[o.EventID] = true
		others, err := x.outcomes(ctx, store.OutcomeQuery{EventID: o.EventID, APIKey: o.APIKey, Account: x.query.Account, Limit: x.query.Limit})
		if err != nil {
			return nil, err
		}
		for _, other := range others {
			if !strings.EqualFold(other.Person, x.query.Person) && slices.ContainsFunc(finished, func(o store.Outcome) bool { return again(&o, &other) }) {
				all = append(all, other)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b store.Outcome) int { return b.Settled.Compare(a.Settled) })
	return all, nil
}

// again says whether of two outcomes of one output one came by a replay of the other.
func again(a, b *store.Outcome) bool {
	return a.Offset == b.Offset && a.APIKey == b.APIKey && a.EventID == b.EventID && a.Destination == b.Destination && a.Index == b.Index && a.Replays != b.Replays
}

// outcomes asks the store. What is damaged is told, and hides no other.
func (x *explainer) outcomes(ctx context.Context, q store.OutcomeQuery) ([]store.Outcome, error) {
	all, err := x.store.Outcomes(ctx, q)
	if errors.Is(err, store.ErrDamaged) {
		x.notef("not all that is known can be told: %v", err)
		err = nil
	}
	return all, err
}

// meaningOfUnknown says what it can mean that nothing is known.
func (x *explainer) meaningOfUnknown() []string {
	what := "nothing is known of this event: "
	if x.query.EventID == "" {
		what = "nothing is known of this person: "
	}
	notes := []string{what + "it was never accepted (the request got no 200, or the id is another), or it is longer ago than outcomes are kept (server.outcomes)"}
	if !x.store.KeepsOutcomes() && x.router != nil {
		notes[0] = what + "outcomes are not kept (server.outcomes.max_bytes is 0), so only what waits and dead letters are found"
	}
	if x.router == nil {
		notes = append(notes, "no router was asked: events accepted in the last moments before it ended may still stand in its log, and show up when it is started")
	}
	return notes
}

// deadLetters returns the dead letters of the event, or those of a person and those that the person's outcomes name.
func (x *explainer) deadLetters(ctx context.Context, finished []store.Outcome) ([]store.DeadLetter, error) {
	queries := []store.DeadLetterQuery{{EventID: x.query.EventID, Account: x.query.Account}}
	if x.query.EventID == "" {
		queries[0] = store.DeadLetterQuery{Person: x.query.Person, APIKey: x.query.APIKey, Account: x.query.Account, Limit: x.query.Limit}
		var ids []string
		for i := range finished {
			if o := &finished[i]; o.Status == store.Dead && !slices.Contains(ids, o.EventID) {
				ids = append(ids, o.EventID)
				queries = append(queries, store.DeadLetterQuery{EventID: o.EventID, Account: x.query.Account})
			}
		}
	}
	var all []store.DeadLetter
	seen := map[int64]bool{}
	for _, q := range queries {
		letters, err := x.store.DeadLetters(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range letters {
			if !seen[letters[i].ID] {
				seen[letters[i].ID] = true
				all = append(all, letters[i])
			}
		}
	}
	return all, nil
}

// matches says whether an event is one that is asked for: id is the one that it came in with, key its lane key, "" where it has none yet. Its account may be its destinations' to read, as long as
// it is not sorted.
func (x *explainer) matches(ev *event.Event, id, key string) bool {
	q := &x.query
	if q.APIKey != "" && ev.APIKey != q.APIKey || q.Account != "" && ev.Account != q.Account {
		return false
	}
	if q.EventID != "" {
		return id == q.EventID
	}
	return strings.EqualFold(key, q.Person) || key == "" && strings.EqualFold(ev.UserEmail(), q.Person)
}

// Package destinations is the contract between the router and what it delivers to.
//
// A destination plans, without I/O, which lanes an event's output goes to, and later sends batches of lane entries
// and reports one outcome per entry:
//
//	sorter ─ Plan(event) ─▶ lane entries ─▶ dispatcher ─ Acquire, Send(batch) ─▶ outcomes
//
// Everything between, durability, order, retries, dead letters, is the router's.
package destinations

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

// Factory makes a destination of one type from its settings. It checks every setting and reports all problems at once
// (a [config.Problems]); it does no network I/O and starts no goroutine, so that a remote that is down cannot stop the router from
// starting.
type Factory func(s config.Settings, env Env) (Destination, error)

// Destination delivers events to one remote system. All methods may be called concurrently.
type Destination interface {
	// Plan says where one output of the sorter goes: one Plan per lane entry to make. It is pure: it reads only the event and
	// the configuration, never a cache or the network, and it does not keep ev. An error made by Skip means that the event is not
	// for this destination; any other error dead-letters it. Unidentified says of either that it is for want of an identity.
	Plan(ev *event.Event) ([]Plan, error)

	// Lanes names the lanes of each account, the same for the life of the destination. An entry of a later lane waits for entries
	// with its Key in earlier lanes.
	Lanes() []LaneSpec

	// Hub names the remote account that entries of account belong to, by configuration alone. Entries planned for one hub are never
	// sent to another: when a reload changes the hub their lanes are parked.
	Hub(account string) string

	// Acquire waits for the right to make one call in a lane: quota, a lane that is not blocked, a token.
	// It is called only while the lane has an entry to send. It ends with ctx.Err() when ctx ends; other errors are outcomes for
	// the lane as a whole, best made by Block.
	Acquire(ctx context.Context, account, lane string) (Permit, error)

	// Send delivers batch and returns as many outcomes, in the same order. All entries are of one account and lane. Entries with
	// the same ID are adjacent in effect: they are to be merged oldest first into one write, and share its outcome. Oldest first is the order
	// of batch, and that of Entry.CountsAt; what counts as later may have been delivered before, which is what Memory is for.
	// Send uses up p for its first call and acquires further permits itself (bisecting, creating, reading). When ctx ends
	// it stops and reports what was not answered as Ambiguous or with ctx.Err(), never as delivered; both count as perhaps sent, and a lane with
	// LateAfter sends such entries again unchanged at the next start. It does not keep batch.
	Send(ctx context.Context, p Permit, batch []Entry) []Outcome
}

// Plan says where one output goes.
type Plan struct {
	// Account is the connected account; "" for the destination's single account.
	Account string
	// Lane is one of the names in Lanes.
	Lane string
	// Key orders: entries that share it are delivered in order, in all lanes of the account. "" needs no order.
	Key string
	// ID is the exact identity: waiting entries of one lane with the same Key and ID may be merged. Entries of
	// one Key but different IDs are ordered and never in one call.
	ID string
	// Also holds further identities of the same person, in the name space of Key. Entries that share any are ordered.
	Also []string
	// IfNew makes this entry only when Key is not yet known for the account (a minimal write that must precede others).
	IfNew bool
}

// OutputName identifies one output of the sorter.
type OutputName struct {
	Offset      uint64 // of the record in its log; those of the two logs differ
	Destination string
	Index       int // of the output, when a transform made several; else 0
}

// Entry is one lane entry to deliver.
type Entry struct {
	Name    OutputName
	Plan    Plan
	Event   *event.Event // read-only, shared with other entries
	Attempt int          // 1 for the first
	// Memory is what the last delivered entry of the same account, lane and ID left as Outcome.Memory, in lanes that have Remembers.
	// Nil: nothing, or forgotten since. Entries of one batch with the same ID carry the same. Read-only.
	Memory []byte
	// Late says that the event waited to be identified, so that later live events of its person may have been delivered before it. Other live events come in
	// order by themselves.
	Late bool
	// Effective is when the entry counts where that is not its event's own time: a replay that is to overwrite what was written since. Zero: as its event.
	Effective time.Time
}

// CountsAt is the time at which the entry counts, among those of its person: see event.Event.Effective.
func (e *Entry) CountsAt() time.Time {
	if !e.Effective.IsZero() {
		return e.Effective
	}
	return e.Event.Effective()
}

// Outcome of one entry.
type Outcome struct {
	// Err is nil for delivered. Otherwise one of Skip, Reject, RetryAfter, Block, Ambiguous; anything else is retried
	// with backoff, for losing data needs a decision.
	Err error
	// Detail is what explain shows: contact id, properties written, stripped, merged, correlation id. May be nil. Never a secret.
	Detail json.RawMessage
	// Memory replaces what is remembered of the entry's ID, in lanes that have Remembers; nil leaves it as it is. It is kept with the
	// outcome, in one transaction, for a week and a million IDs at least. Of several entries with one ID the last counts. At most
	// MaxMemory bytes, opaque to the router. Never a secret.
	Memory []byte
}

// MaxMemory is the most bytes that are remembered of one ID.
const MaxMemory = 4096

// Tester is implemented by a destination that can check its settings against the remote, without writing anything.
type Tester interface {
	// Test makes the calls that it needs and reports what it found, good and bad, in the order in which a person should read it.
	Test(ctx context.Context) []Finding
}

// Connected is implemented by a destination that delivers to accounts of others, which may connect to another hub at any time.
type Connected interface {
	// AcquireAt is Acquire for entries that belong to hub. The calls of its permit go to that hub or nowhere: while account is not connected to it there is a Block.
	AcquireAt(ctx context.Context, hub, account, lane string) (Permit, error)
}

// Simulated is implemented by a destination whose remote can be simulated, so that people can see what it would send without sending it.
type Simulated interface {
	// Schema returns what the simulation needs to know of the remote account, as JSON without secrets, for HubSpot its properties and event definitions. It may read
	// from the remote, and writes nothing there.
	Schema(ctx context.Context) (json.RawMessage, error)
	// Simulate returns a stand-in for the remote, which answers calls of a destination with the same settings as the remote would, and reaches no network. schema
	// is what Schema returned, perhaps long ago; nil: a new account's. Each call makes a stand-in of its own.
	Simulate(schema json.RawMessage) (http.RoundTripper, error)
}

// Discreet is implemented by a destination whose requests hold secrets elsewhere than in the usual headers, or that delivers by GET.
type Discreet interface {
	// Shown returns what people may see of a request that the destination has made: the URL and the headers without secrets. delivers says whether it delivers
	// entries; others only read. It changes nothing.
	Shown(req *http.Request) (url string, header http.Header, delivers bool)
}

// Addressed is implemented by a destination that can say, for people, where its calls go.
type Addressed interface {
	// Address returns the method and the URL of a lane's calls. Never a secret.
	Address(lane string) (method, url string)
}

// Finding is one thing that a Tester looked at.
type Finding struct {
	// Check names it in a word or two: token, account, scopes, tier, properties, quota.
	Check string `json:"check"`
	// Level says how bad it is.
	Level FindingLevel `json:"level"`
	// Text says in plain words what was found. Never a secret.
	Text string `json:"text"`
	// Fix says what to do about it; "" where nothing is wrong.
	Fix string `json:"fix,omitempty"`
}

// FindingLevel says how bad a finding is.
type FindingLevel string

// Levels of findings.
const (
	FindingOK      FindingLevel = "ok"
	FindingWarning FindingLevel = "warning" // some of what is configured will not work
	FindingError   FindingLevel = "error"   // nothing, or not what was meant, will be delivered
	FindingUnknown FindingLevel = "unknown" // it could not be found out
)

// LaneSpec describes one lane of an account.
type LaneSpec struct {
	Name       string
	MaxKeys    int           // most distinct keys in one call; 0: no limit
	MaxEntries int           // most entries in one call, merged ones counted singly
	MaxBytes   int           // most bytes of event JSON in one call
	InFlight   int           // most concurrent calls
	LateAfter  time.Duration // how late the remote may still apply a call that got no answer; 0: calls are idempotent
	MarksKeys  bool          // a delivered entry makes its Key known to later lanes and to IfNew
	Remembers  bool          // entries carry Memory, and outcomes leave one
}

// Permit is the right to make one call.
type Permit interface {
	// Release gives an unused permit back. It does nothing when the permit was used.
	Release()
}

// Env is what the router lends to a destination.
type Env struct {
	// Name is the destination's key in the configuration.
	Name string
	// Log is for events of the destination as a whole, never one line per event.
	Log *slog.Logger
	// Transport makes the HTTP calls; nil means http.DefaultTransport's settings.
	Transport http.RoundTripper
	// Cache keeps small values over restarts, such as the schema of an account. Never secrets.
	Cache Cache
	// Shared keeps what outlives a reload and is common to destinations of one account: limiters, tokens.
	Shared *Shared
	// Metrics are the counters that destinations share; never nil.
	Metrics *Metrics
	// App is the name of the app whose accounts Connections are.
	App string
	// AppURL is the base URL of the app's API: where calls go unless the settings say another.
	AppURL string
	// Connections are the accounts that the destination delivers to; nil: it has one, of its own settings.
	Connections Connections
	// Simulation says that Transport is what Simulated.Simulate returned, which knows no lag: nothing is waited for that a remote needs time for. Details of
	// outcomes are read by people alone, and may tell more: values before and after.
	Simulation bool
}

// Connections are the accounts of customers that have installed an app, for destinations that deliver to each of them. All methods but Token answer from memory; they may be
// called from many goroutines.
type Connections interface {
	// Hub names the remote account that account is connected to, also while it has to connect anew. "": the account is not known, and its entries wait for it.
	Hub(account string) string
	// Token returns an access token for hub that is good for a while yet; it may have to ask the remote for one. Its error is one for Acquire or Send to return: made by
	// Block for all of the account while that is not connected to hub, whatever it is connected to now, by RetryAfter while the remote gives no token. A token is for the hub that
	// was asked for, or there is none: what was meant for one hub never gets another one's, also while somebody connects.
	Token(ctx context.Context, account, hub string) (config.Secret, error)
	// Refused says that the remote has answered to token that it is not valid (401). The next Token is another one, or an error.
	Refused(account string, token config.Secret)
	// Delivered says that a call in the account went through, for those who look at the connection.
	Delivered(account string)
	// Choices are what the people of the account have chosen.
	Choices(account string) Choices
	// Scopes are what the people of the account have granted, which the caller must not change; nil: not known.
	Scopes(account string) []string
}

// Choices are what is not to be sent to an account, because its people have switched it off. The maps are read-only, and nil where nothing is.
type Choices struct {
	Properties map[string]bool // contact properties, by their names in the remote
	EventTypes map[string]bool
	AppEvents  map[string]bool // events of the app, by name
}

// Cache is a small persistent key-value store.
type Cache interface {
	// Load returns the value and when it was stored.
	Load(key string) (value []byte, at time.Time, ok bool)
	// Store keeps a copy of value. It does not wait for the disk; a lost write costs one call to the remote.
	Store(key string, value []byte)
}

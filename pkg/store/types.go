package store

import (
	"time"
)

// LaneName identifies a lane: what is delivered to one account by one kind of call.
type LaneName struct {
	Destination string `json:"destination"` // its name in the configuration
	Hub         string `json:"hub"`         // the remote account, by configuration; see destinations.Destination
	Account     string `json:"account"`     // connected account; "" for the destination's single one
	Lane        string `json:"lane"`        // contacts, events
}

// LaneID numbers lanes; it is never reused.
type LaneID int64

// BlockID numbers blocks, rising over all lanes; it is never reused.
type BlockID int64

// CallID numbers calls marked in flight; the caller chooses it with NextCall. It may be one that a call had before a restart.
type CallID int64

// Lane is the state of one lane.
type Lane struct {
	ID      LaneID
	Name    LaneName
	Entries int64     // not finished
	Bytes   int64     // on disk, of blocks that are not finished
	Oldest  time.Time // receipt of the oldest entry of the oldest unfinished block, or when that was replayed; zero when empty
}

// Block holds the entries of one lane that one hand-over made, in order.
type Block struct {
	Lane    LaneID
	Entries int
	Oldest  time.Time // earliest receipt among them
	Data    []byte    // opaque to the store, which compresses and checksums it
}

// StoredBlock is a block as it is read back.
type StoredBlock struct {
	ID      BlockID
	Entries int
	Bytes   int64   // on disk
	Done    []byte  // bitmap of finished entries, bit i%8 of byte i/8; nil: none
	Retries []Retry // of its unfinished entries
	Data    []byte
}

// Ref names one entry in a lane.
type Ref struct {
	Block BlockID
	Index int
}

// Retry is an entry that failed and waits.
type Retry struct {
	Ref
	Attempt int           // attempts made
	Due     time.Time     // not before
	Since   time.Time     // of its first failure
	Blocked time.Duration // time since then that its lane was blocked, which max_age does not count
	Error   string        // of the last attempt, at most 500 bytes
}

// Progress is what became of entries of one block. A batch whose numbers do not fit what the store has is an ErrBatch.
type Progress struct {
	Lane     LaneID
	Block    BlockID
	Finished int    // how many entries of the block this batch finishes
	Done     []byte // the whole bitmap after it; nil, or all bits set: all are done, and the block is deleted with its retries
}

// GivenUp is a block that can not be read: see DamagedError. Its unfinished entries count as finished, and no reading method returns it any more. A batch
// that gives one up that the lane does not have, or twice, is an ErrBatch.
type GivenUp struct {
	Lane      LaneID
	Block     BlockID
	KeptAside string // by KeepAside; "" when it is not
	Error     string // what is wrong with it
}

// Call is a marked call: its entries may have reached the remote, and no answer is recorded.
type Call struct {
	ID        CallID
	Lane      LaneID
	Entries   []Ref
	Ambiguous time.Time     // of the last attempt that was left without an answer; zero: still out, or found at start
	Age       time.Duration // from the first of those to the last, without the time that its lane was blocked
}

// Hold replaces an earlier one of the same lane and key. It keeps later writes of a key back until a call that got no answer can no longer be applied.
type Hold struct {
	Lane  LaneID
	Key   string
	Until time.Time
}

// Identity is what the identity memory knows of one id: the e-mail that goes with it.
type Identity struct {
	APIKey string
	Kind   string // user_id, anonymous_id
	Value  string
	Email  string
	Server bool // taught by a server key: Commit drops one that a browser key taught (Server false) in its favour
	Seen   time.Time
}

// Memory replaces what is remembered under a hash; without data it is forgotten.
type Memory struct {
	Hash uint64
	Data []byte // at most MaxMemory bytes; never a secret
}

// DeadLetter is an entry that can not be delivered, kept whole.
type DeadLetter struct {
	ID          int64 // given by the store; in a batch 0, or that of the letter that comes back, which has it again where it is free
	Destination string
	Hub         string
	Account     string
	Lane        string // "" when it did not get as far as a lane
	Offset      uint64
	Index       int
	APIKey      string
	EventID     string
	EventType   string
	Person      string // the lane key
	Received    time.Time
	At          time.Time
	Attempts    int
	Reason      string  // one word of a closed list: rejected, filter, plan, retries, lane_full, poison, ...
	Error       string  // what happened, at most 2,000 bytes; never a secret
	Event       []byte  // the record (package event) as it was to be delivered
	Original    []byte  // the record as it came in, where a transform changed it; else nil
	Outputs     int     // that the event had for the destination; 0: not known, or it did not get as far
	Replays     int     // how often it was replayed before it came back
	Replay      *Replay // how it is to be sent again; nil: nobody asked
	Problem     string  // why its last replay stopped; "" when none did
}

// Replay says how a dead letter is to be sent again.
type Replay struct {
	AsIs      bool // the output as it was, without transform and filter; else what the original event gives now
	Overwrite bool // properties too that a later delivery of the person wrote
	All       bool // all outputs that the event gives now, where their number is not what it was
}

// Replayed is what became of a dead letter that was to be sent again.
type Replayed struct {
	ID      int64
	Problem string // why it stays; "": it is handed over, and goes with the same transaction
}

// Export is one export of dead letters.
type Export struct {
	ID      int64
	At      time.Time
	Target  string // a file, or the address of who fetched them
	Query   string // which letters, in words
	Letters int64
}

// Batch is written whole or not at all. The zero Batch writes nothing. The store does not keep its slices after Commit.
// Times are kept to the millisecond.
type Batch struct {
	// By the sorter.
	Position     uint64     // next offset of the live log to sort; written if not 0
	BulkPosition uint64     // the same of the bulk log
	Seen         []uint64   // de-duplication hashes of accepted events
	Known        []uint64   // hashes of keys for which an entry was made
	Identities   []Identity // to put
	Blocks       []Block
	DeadLetters  []DeadLetter // those with a Replay are to be sent again
	Outcomes     []Outcome    // by dispatchers too; left out where none are kept
	KV           []KV         // to put; of several with one key the last counts
	Replayed     []Replayed   // dead letters that were marked with MarkReplay; one that is not is an ErrBatch

	// By dispatchers.
	Delivered   []uint64 // hashes of keys that the remote now has
	Memories    []Memory // for Recall
	Progress    []Progress
	GivenUp     []GivenUp
	Retries     []Retry // to put, replacing an earlier one of the same entry; finished entries' rows go with Progress
	Calls       []Call  // to put
	CallsDone   []CallID
	Holds       []Hold    // to put
	HoldsBefore time.Time // holds that ended before this are deleted; zero: none

	pruneKV bool // by the store: see ExpireKV
}

package ingest

import (
	"bytes"
	"crypto/rand"
	mathrand "math/rand/v2"
	"sync"
	"unsafe"

	"eventrouter/pkg/event"
	"eventrouter/pkg/ingest/segment"

	"github.com/klauspost/compress/gzip"
)

// The most that a pooled batch keeps allocated: one huge request must not hold its memory for good.
const (
	maxKeptBytes  = 4 << 20
	maxKeptEvents = 4096
)

// batch is what one request needs, pooled so that the fast path allocates nothing. Nothing in it outlives the handler: it refers
// into the request's body and headers, and Log.Append copies.
type batch struct {
	scanner  scanner
	elements []element
	object   bool // the body is one object, not an array

	// Of bodies of Segment's messages alone.
	dialect   *dialect // nil: Jitsu Classic's own
	messages  messages
	converter segment.Converter
	parsed    bool // the body was parsed to find its write key

	body                 []byte // as it was read
	clean, plain, merged []byte // the body made valid UTF-8, decompressed, with its template merged in
	compressed           bytes.Reader
	gzip                 *gzip.Reader

	credential []byte // decoded Basic credentials
	ip         []byte
	json       []byte // the event in hand without its write keys
	restricted []byte // the event in hand without what policies forbid
	added      []byte // what the router found out, of all events
	who        visitor
	whole      []byte // what the visitor's hash is made of
	hash       [32]byte
	settled    bool // the envelope holds the visitor of a request whose events tell of no other
	noCookie   bool // a policy forbids the visitor's cookie
	id         [36]byte
	seen       map[contentHash]uint64 // events of equal content in this request
	random     *mathrand.ChaCha8

	heavy   *heavy // nil: without bounds
	held    int64  // bytes of heavy.held
	hasTurn bool   // one of heavy.turns

	buf  []byte // the records, one after the other
	ends []int  // of each record in buf
	recs [][]byte
}

var batches = sync.Pool{New: func() any {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	return &batch{random: mathrand.NewChaCha8(seed), seen: map[contentHash]uint64{}}
}}

func acquireBatch() *batch { return batches.Get().(*batch) }

// release gives b back. Secrets and everything that refers into the request are dropped.
func (b *batch) release() {
	b.endTurn()
	clear(b.credential[:cap(b.credential)])
	b.compressed.Reset(nil)
	b.scanner.data = nil
	b.who, b.settled, b.noCookie = visitor{}, false, false
	if cap(b.body)+cap(b.clean)+cap(b.plain)+cap(b.merged)+cap(b.json)+cap(b.restricted)+cap(b.buf) > maxKeptBytes || cap(b.elements) > maxKeptEvents {
		return
	}
	clear(b.recs)
	clear(b.seen)
	b.scanner.cuts, b.elements, b.object = b.scanner.cuts[:0], b.elements[:0], false
	b.buf, b.ends, b.recs = b.buf[:0], b.ends[:0], b.recs[:0]
	b.dialect, b.messages, b.parsed = nil, messages{}, false
	batches.Put(b)
}

// encode makes b.recs of the elements: env with the id, the visitor and the JSON of each.
func (b *batch) encode(env event.Event) {
	for i := range b.elements {
		e := &b.elements[i]
		env.JSON = b.withoutWriteKeys(e)
		env.ID = b.eventID(e, env.JSON)
		b.who.settle(b, &env, e.sourceIP.of(b.scanner.data), "")
		b.buf = env.AppendTo(b.buf)
		b.ends = append(b.ends, len(b.buf))
	}
	b.cutRecords()
}

// cutRecords makes b.recs of what is in b.buf.
func (b *batch) cutRecords() {
	from := 0
	for _, to := range b.ends {
		b.recs = append(b.recs, b.buf[from:to:to])
		from = to
	}
}

// withoutWriteKeys returns the event's JSON as it is stored: the client's own bytes, api_key members cut out.
func (b *batch) withoutWriteKeys(e *element) []byte {
	cuts := b.scanner.cuts[e.cuts.from:e.cuts.to]
	if len(cuts) == 0 {
		return e.of(b.scanner.data)
	}
	b.json = b.json[:0]
	from := e.from
	for _, c := range cuts {
		b.json = append(b.json, b.scanner.data[from:c.from]...)
		from = c.to
	}
	b.json = append(b.json, b.scanner.data[from:e.to]...)
	return b.json
}

// view returns b as a string without a copy: valid as long as b is, and only while nobody writes to b. Within a handler that
// holds for the request's body and headers and for a batch's buffers.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

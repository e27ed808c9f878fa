package ingest

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// A body of some kilobytes may need a hundred megabytes: gzip, a template and tiny events multiply. Thousands of those at a time, which anybody may send who
// has read a client secret in a page, would end the process. So large requests are worked on a few at a time, and all bodies that are on
// their way share one bound. Small requests, nearly all, meet neither.
const (
	// lightBytes of a body and lightEvents in it pass freely.
	lightBytes  = 256 << 10
	lightEvents = 1000

	heavyBytes = 256 << 20        // of all bodies of more than lightBytes
	heavyWait  = 10 * time.Second // for a turn
)

var refuseBusy = &refusal{
	status: fasthttp.StatusServiceUnavailable, reason: reasonBusy, retryAfter: 5,
	message: "Too many large requests at the same time, send this one again later",
}

// heavy are the large requests in hand.
type heavy struct {
	most  int64
	held  atomic.Int64  // bytes of their bodies
	turns chan struct{} // more than the processors have to do would only need memory
	wait  time.Duration // heavyWait, but in tests
}

func newHeavy(maxBodyBytes int) *heavy {
	return &heavy{most: max(heavyBytes, 8*int64(maxBodyBytes)), turns: make(chan struct{}, max(4, 2*runtime.GOMAXPROCS(0))), wait: heavyWait}
}

// mayHold says whether b may hold n bytes of its body; false: others hold too much.
func (b *batch) mayHold(n int) bool {
	if n <= lightBytes || b.heavy == nil || int64(n) <= b.held {
		return true
	}
	more := max(2*int64(n), lightBytes) - b.held
	if b.heavy.held.Add(more) > b.heavy.most {
		b.heavy.held.Add(-more)
		return false
	}
	b.held += more
	return true
}

// takeTurn waits until b may be worked on as a large request, which it is until it is released.
func (b *batch) takeTurn() *refusal {
	if b.heavy == nil || b.hasTurn {
		return nil
	}
	select {
	case b.heavy.turns <- struct{}{}:
		b.hasTurn = true
		return nil
	default:
	}
	timer := time.NewTimer(b.heavy.wait)
	defer timer.Stop()
	select {
	case b.heavy.turns <- struct{}{}:
		b.hasTurn = true
		return nil
	case <-timer.C:
		return refuseBusy
	}
}

// endTurn gives back what b holds of the bounds.
func (b *batch) endTurn() {
	if b.heavy == nil {
		return
	}
	if b.hasTurn {
		<-b.heavy.turns
	}
	b.heavy.held.Add(-b.held)
	b.heavy, b.held, b.hasTurn = nil, 0, false
}

package ingest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"

	"github.com/valyala/fasthttp"
)

const (
	// bulkPatience is how long an upload waits for room in the log or a lane before its client is told to come again.
	bulkPatience = 10 * time.Second
	bulkLook     = 100 * time.Millisecond // how often it looks

	// maxUploads bounds the memory of uploads, some 4 MiB each and max_body_size at their beginning. No key may take all of it.
	maxUploads       = 32
	maxUploadsPerKey = 16
)

var refuseUploads = &refusal{
	status: fasthttp.StatusServiceUnavailable, reason: reasonRefused, retryAfter: 5,
	message: "Too many uploads at the same time, send this one again later",
}

// uploads are those under way.
type uploads struct {
	mu      sync.Mutex // guards the fields below
	count   int
	byKey   map[string]int
	open    map[net.Conn]struct{}
	stop    chan struct{} // closed by interrupt
	stopped bool
}

func newUploads() *uploads {
	return &uploads{byKey: map[string]int{}, open: map[net.Conn]struct{}{}, stop: make(chan struct{})}
}

// enter makes room for an upload over conn, until leave is called.
func (u *uploads) enter(key string, conn net.Conn) (leave func(), r *refusal) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.count == maxUploads || u.byKey[key] == maxUploadsPerKey {
		return nil, refuseUploads
	}
	u.count++
	u.byKey[key]++
	if conn != nil {
		u.open[conn] = struct{}{}
	}
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.open, conn)
		u.count--
		if u.byKey[key]--; u.byKey[key] == 0 {
			delete(u.byKey, key)
		}
	}, nil
}

// interrupt ends the waits of all uploads: the server stops, and they would not end within its grace time.
func (u *uploads) interrupt() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return
	}
	u.stopped = true
	close(u.stop)
	for conn := range u.open {
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// flush hands the events so far over to be made durable, once those before them are.
func (u *upload) flush() *refusal {
	c := &u.chunks[u.turn]
	u.encode(c)
	if u.checks {
		return nil
	}
	c.upTo = u.read
	if r := u.wait(); r != nil {
		return r
	}
	if len(c.recs) == 0 {
		u.stored = c.upTo
		return nil
	}
	u.pending = c
	u.turn = 1 - u.turn
	go func() { u.result <- u.append(c) }() // wait waits for it
	return nil
}

// wait returns when nothing is being made durable any more.
func (u *upload) wait() *refusal {
	if u.pending == nil {
		return nil
	}
	r := <-u.result
	if r == nil {
		u.stored = u.pending.upTo
	}
	u.pending = nil
	return r
}

// encode makes the records of a chunk out of the batch's elements, which are gone then.
func (u *upload) encode(c *chunk) {
	b := u.b
	b.scanner.data = u.lines.buf[:u.lines.end]
	c.buf, c.ends, c.recs = c.buf[:0], c.ends[:0], c.recs[:0]
	env := u.env
	env.Received, b.settled = u.server.opts.Now(), false
	for i := range b.elements {
		e := &b.elements[i]
		env.JSON = b.withoutWriteKeys(e)
		env.ID = u.bulkID(e, u.numbers[i], env.JSON)
		b.who.settle(b, &env, e.sourceIP.of(b.scanner.data), "")
		c.buf = env.AppendTo(c.buf)
		c.ends = append(c.ends, len(c.buf))
	}
	from := 0
	for _, to := range c.ends {
		c.recs = append(c.recs, c.buf[from:to:to])
		from = to
	}
	b.elements, b.scanner.cuts, u.numbers = b.elements[:0], b.scanner.cuts[:0], u.numbers[:0]
}

// append makes a chunk durable. Where there is no room it waits a while, and so does the client, which is not read from then.
func (u *upload) append(c *chunk) *refusal {
	s, key, n := u.server, u.src.key, float64(len(c.recs))
	key.received.Add(n)
	for began := time.Now(); ; {
		r := s.backPressure(key, event.Bulk)
		if r == nil {
			err := s.opts.BulkLog.Append(c.recs...)
			switch {
			case err == nil:
				key.accepted[event.Bulk].Add(n)
				if s.opts.Watcher != nil {
					s.opts.Watcher.Accepted(key.id, c.recs)
				}
				return nil
			case !errors.Is(err, log.ErrFull):
				return s.appendFailed(err)
			}
			r = refuseFullLog
		}
		if time.Since(began) >= s.bulkPatience {
			return r
		}
		select {
		case <-time.After(bulkLook):
		case <-s.uploads.stop:
			return errStopping.refusal
		}
		s.metrics.bulkWaited.Add(bulkLook.Seconds())
	}
}

// boundedText is an upload's text, which ends with a refusal where it is longer than it may be.
type boundedText struct {
	text       io.Reader
	left, most int64
}

// Read implements [io.Reader].
func (t *boundedText) Read(p []byte) (int, error) {
	if int64(len(p)) > t.left+1 {
		p = p[:t.left+1]
	}
	n, err := t.text.Read(p)
	if t.left -= int64(n); t.left < 0 {
		return n - 1, payloadError{&refusal{
			status: fasthttp.StatusRequestEntityTooLarge, reason: reasonSize,
			message: fmt.Sprintf("Upload exceeds limit: %d", t.most), detail: "counted after decompression (server.max_bulk_size); go on with next_line in another request",
		}}
	}
	return n, err
}

// readUpTo reads from r until it has more than limit bytes, with no error then.
func readUpTo(r io.Reader, limit int) (data []byte, err error) {
	for len(data) <= limit {
		if len(data) == cap(data) {
			data = slices.Grow(data, max(firstReadBytes, len(data)))
		}
		n, err := r.Read(data[len(data):min(cap(data), limit+1)])
		data = data[:len(data)+n]
		if err != nil {
			return data, err
		}
	}
	return data, nil
}

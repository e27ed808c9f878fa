package ingest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// bulkReadTime is how long an upload may send nothing, bulkSlowTime how much longer in all it may take than one at
	// server.min_body_rate would.
	bulkReadTime = 30 * time.Second
	bulkSlowTime = 10 * time.Second
)

// payloadError is an error of reading an upload that has its answer already.
type payloadError struct{ refusal *refusal }

func (e payloadError) Error() string { return e.refusal.message }

var (
	errSlow     = payloadError{refuseSlow}
	errCutBody  = payloadError{refuseCutBody}
	errStopping = payloadError{&refusal{
		status: fasthttp.StatusServiceUnavailable, reason: reasonRefused, retryAfter: 5,
		message: "Events of this API key are not accepted at the moment, send them again later", detail: "the router is stopping",
	}}
)

// uploadBody is the body of an upload as it comes over the connection. The time for a whole request does not hold for it: instead each
// piece must come within a time, and all of them at a least rate. Time in which we do not read is not the client's.
type uploadBody struct {
	stream    io.Reader
	conn      net.Conn // nil: not from a connection
	announced int64    // negative: not known
	readTime  time.Duration
	leastRate int // bytes a second; 0: any
	stopping  func() bool

	received int64
	waited   time.Duration
}

func (s *Server) uploadBody(ctx *fasthttp.RequestCtx) *uploadBody {
	b := &uploadBody{readTime: s.bulkReadTime, leastRate: s.config().MinBodyRate, stopping: s.stopping.Load}
	if b.stream = ctx.RequestBodyStream(); b.stream == nil {
		body := ctx.Request.Body()
		b.stream, b.announced = bytes.NewReader(body), int64(len(body))
		return b
	}
	b.conn, b.announced = ctx.Conn(), int64(ctx.Request.Header.ContentLength())
	return b
}

// Read implements [io.Reader]. Its errors are io.EOF, where the body has come whole, and payloadErrors.
func (b *uploadBody) Read(p []byte) (int, error) {
	began := time.Now()
	if b.conn != nil {
		allowed := b.readTime
		if b.leastRate > 0 {
			slow := float64(b.received) / float64(b.leastRate) * float64(time.Second)
			allowed = min(allowed, bulkSlowTime+time.Duration(slow)-b.waited)
		}
		_ = b.conn.SetReadDeadline(began.Add(allowed))
	}
	if b.stopping() { // after the deadline is set: interrupt sets another after it has said that we stop
		return 0, errStopping
	}
	n, err := b.stream.Read(p)
	b.waited += time.Since(began)
	b.received += int64(n)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded) && b.stopping():
		return n, errStopping
	case errors.Is(err, io.EOF) && b.whole():
		return n, io.EOF
	}
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return n, errSlow
	}
	return n, errCutBody
}

// whole says whether the end of the stream is that of the body: fasthttp takes the end of the connection for it, too.
func (b *uploadBody) whole() bool {
	if b.announced >= 0 {
		return b.received == b.announced
	}
	return chunksEnded(b.conn, b.stream)
}

// chunksEnded tells the last chunk of a body from the end of the connection between two, at which the stream gives io.EOF just the same:
// behind the last chunk it does so without another look at the connection.
func chunksEnded(conn net.Conn, stream io.Reader) bool {
	_ = conn.SetReadDeadline(time.Unix(1, 0))
	var one [1]byte
	_, err := stream.Read(one[:])
	return errors.Is(err, io.EOF)
}

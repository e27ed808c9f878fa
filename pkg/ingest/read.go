package ingest

import (
	"errors"
	"io"
	"net"
	"slices"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// firstReadBytes is what a body's buffer begins with: what a request says of its length is not believed before it has come.
	firstReadBytes = 16 << 10

	// drainBytes is read of a body that nobody wants, so that the client sees the answer: one that comes while it is still sending is
	// often not read, and what is left unread would be taken for the next request.
	drainBytes = 64 << 10
	drainTime  = time.Second

	// bodyGrace is what a body may take however slowly it comes: a phone in a tunnel is no attack.
	bodyGrace = 10 * time.Second
)

// pace is how fast a body must come.
type pace struct {
	bytesPerSecond int           // on average, behind the grace; 0: at any rate
	most           time.Duration // for all of it
}

// deadline is when more must have come than the first n bytes.
func (p pace) deadline(began time.Time, n int) time.Time {
	if p.bytesPerSecond == 0 {
		return began.Add(p.most)
	}
	return began.Add(min(p.most, bodyGrace+time.Duration(n)*time.Second/time.Duration(p.bytesPerSecond)))
}

func (s *Server) pace() pace { return pace{s.config().MinBodyRate, s.config().ReadTimeout} }

var (
	refuseUnreadable = &refusal{status: fasthttp.StatusBadRequest, reason: reasonHTTP, message: "Request is not readable as HTTP"}

	refuseCutBody = &refusal{status: fasthttp.StatusBadRequest, reason: reasonHTTP, message: "Request body ended too early"}
	refuseSlow    = &refusal{status: fasthttp.StatusRequestTimeout, reason: reasonHTTP, message: "Request took too long"}
)

// read returns the request's body, valid until b is released, or a refusal where it is longer than limit bytes or does not come whole.
func (b *batch) read(ctx *fasthttp.RequestCtx, limit int, p pace) ([]byte, *refusal) {
	stream := ctx.RequestBodyStream()
	if b.parsed {
		return b.body, nil
	}
	if stream == nil { // none, or a request that was not read from a connection
		return ctx.Request.Body(), nil
	}
	announced := ctx.Request.Header.ContentLength() // negative where the body is chunked
	if announced > limit {
		return nil, refuseBodySize(limit)
	}
	b.body = b.body[:0]
	began := time.Now()
	for {
		if len(b.body) > maxPrefetchedBytes { // until then that of awaitBody holds: most bodies need no other
			_ = ctx.Conn().SetReadDeadline(p.deadline(began, len(b.body))) // of a broken connection Read tells
		}
		if len(b.body) == cap(b.body) {
			more := max(firstReadBytes, len(b.body))
			if left := announced - len(b.body) + 1; left > 0 { // 1: for the end to be seen
				more = min(more, left)
			}
			b.body = slices.Grow(b.body, more)
		}
		n, err := stream.Read(b.body[len(b.body):cap(b.body)])
		b.body = b.body[:len(b.body)+n]
		switch {
		case !b.mayHold(len(b.body)):
			return nil, refuseBusy
		case len(b.body) > limit:
			return nil, refuseBodySize(limit)
		case errors.Is(err, io.EOF) && announced >= 0 && len(b.body) != announced,
			errors.Is(err, io.EOF) && announced < 0 && !chunksEnded(ctx.Conn(), stream):
			return nil, refuseCutBody // fasthttp takes the end of the connection for that of the body
		case errors.Is(err, io.EOF):
			return b.body, nil
		case err != nil:
			return nil, unreadableBody(err)
		}
	}
}

// unreadableBody turns an error of reading a body into the answer. err may quote the request, so it goes nowhere.
func unreadableBody(err error) *refusal {
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() {
		return refuseSlow
	}
	return refuseCutBody
}

// finishBody reads what is left of the body, and where that is too much has the connection closed.
func finishBody(ctx *fasthttp.RequestCtx) {
	stream := ctx.RequestBodyStream()
	if stream == nil {
		return
	}
	_ = ctx.Conn().SetReadDeadline(time.Now().Add(drainTime)) // fasthttp sets another for the next request
	if n, err := io.CopyN(io.Discard, stream, drainBytes+1); n > drainBytes || !errors.Is(err, io.EOF) {
		ctx.SetConnectionClose()
	}
}

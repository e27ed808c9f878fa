package ingest

import (
	"io"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// A client that is refused in the middle of its body is often not reading yet. Were the connection closed with bytes unread, the answer would
// be thrown away on its side; so we stop writing, and go on reading for a while.
const (
	lingerTime = 2 * time.Second
	// maxLingering bounds them, for they shall not take the connections of others: one more is closed at once.
	maxLingering = 1024
)

// lingering are the connections that are being closed slowly.
type lingering struct {
	conns *connections // they count there until they are closed; nil: nowhere

	mu   sync.Mutex // guards the fields below
	n    int
	none sync.Cond
}

func newLingering() *lingering {
	l := &lingering{}
	l.none.L = &l.mu
	return l
}

// wait returns when there are none, which takes no longer than lingerTime.
func (l *lingering) wait() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.n > 0 {
		l.none.Wait()
	}
}

// finishRefused reads what is left of the body of a request that r answers, so that the client sees the answer.
func (s *Server) finishRefused(ctx *fasthttp.RequestCtx, r *refusal) {
	if r == refuseSlow || r == refuseCutBody { // nothing comes, or nobody is there
		ctx.SetConnectionClose()
		return
	}
	finishBody(ctx)
	s.lingering.linger(ctx)
}

// linger closes the connection of ctx slowly behind its answer, if it is to be closed and the body was not read to its end.
func (l *lingering) linger(ctx *fasthttp.RequestCtx) {
	if !ctx.Response.ConnectionClose() || ctx.RequestBodyStream() == nil {
		return
	}
	if l.full() {
		return
	}
	response := ctx.Response.String()
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(conn net.Conn) {
		l.begin()
		defer l.end()
		defer l.closed(conn)
		answerAndDrain(conn, response)
	})
}

func (l *lingering) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n >= maxLingering
}

func (l *lingering) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n++
}

func (l *lingering) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.n--; l.n == 0 {
		l.none.Broadcast()
	}
}

// closed closes a hijacked connection, and says that it is no longer open.
func (l *lingering) closed(conn net.Conn) {
	if w, ok := conn.(interface{ UnsafeConn() net.Conn }); ok { // fasthttp's wrapper
		conn = w.UnsafeConn()
	}
	_ = conn.Close()
	if l.conns != nil {
		l.conns.track(conn, fasthttp.StateClosed)
	}
}

// answerAndDrain sends response and then waits until the client has stopped sending.
func answerAndDrain(conn net.Conn, response string) {
	_ = conn.SetDeadline(time.Now().Add(lingerTime))
	if _, err := io.WriteString(conn, response); err != nil {
		return
	}
	raw := conn
	if w, ok := conn.(interface{ UnsafeConn() net.Conn }); ok { // fasthttp's wrapper of a hijacked one
		raw = w.UnsafeConn()
	}
	if half, ok := raw.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, conn)
}

package ingest

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// fasthttp does not look at a connection while a handler works, so that a handler that waits for others never learns that nobody waits for it any more. A watch reads in that time: the
// end of the connection is what it looks for, and the byte that it may find instead, of a next request, is given to who reads next.

// plainConn is a connection without TLS that can be watched. What it reads by other methods than Read passes the watch's byte by.
type plainConn struct {
	*net.TCPConn
	watch
}

// Read implements [net.Conn].
func (c *plainConn) Read(p []byte) (int, error) { return c.read(c.TCPConn, p) }

// Watch calls gone, once and from another goroutine, when the client closes the connection or its side of it. A handler of a [Mount] may call it when the body is read; stop must be
// called before the handler returns or, where that streams its answer, by the time the stream is closed. It may be called again.
func (c *plainConn) Watch(gone func()) (stop func()) { return c.begin(c.TCPConn, gone) }

// watchable makes a connection one that can be watched, if it is one of a network.
func watchable(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &plainConn{TCPConn: tcp}
	}
	return conn
}

// watch is what a watch leaves behind. The goroutine that serves the connection owns it, but for the time of a watch.
type watch struct {
	early [1]byte
	found bool // there is a byte in early
}

// read is the connection's Read.
func (w *watch) read(conn net.Conn, p []byte) (int, error) {
	if w.found && len(p) > 0 {
		p[0], w.found = w.early[0], false
		return 1, nil
	}
	return conn.Read(p)
}

func (w *watch) begin(conn net.Conn, gone func()) (stop func()) {
	if w.found { // there is a next request: who sends one is there, and nothing more can be seen
		return func() {}
	}
	_ = conn.SetReadDeadline(time.Time{}) // of a broken connection Read tells
	var stopping atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n, err := conn.Read(w.early[:])
		w.found = n > 0
		if n == 0 && !stopping.Load() && !errors.Is(err, os.ErrDeadlineExceeded) {
			gone()
		}
	}()
	return sync.OnceFunc(func() {
		stopping.Store(true)
		_ = conn.SetReadDeadline(time.Unix(1, 0))
		<-ended
		_ = conn.SetReadDeadline(time.Time{}) // fasthttp sets that of the next request
	})
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// readTimeout is for a whole request, idleTimeout between two: Jitsu's own. A slow reader of our short answers is cut sooner.
	readTimeout  = 60 * time.Second
	idleTimeout  = 65 * time.Second
	writeTimeout = 30 * time.Second

	// maxConnections bounds goroutines and buffers; what comes on top is answered 503 and closed.
	maxConnections = 16384

	maxHeaderBytes = 16 << 10

	// maxPrefetchedBytes is what fasthttp reads of a body ahead of the handler, which shall refuse a request as soon as its header has come.
	maxPrefetchedBytes = 1
)

// Run serves ln until ctx ends; then it takes no new connections, finishes the open requests within the grace time, cuts off
// what is left, and returns nil. A listener that breaks is the only error.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	conns := connections{open: map[net.Conn]struct{}{}}
	srv := s.httpServer(conns.track)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(&patientListener{Listener: ln, done: ctx.Done(), server: s}) }()

	select {
	case err := <-served:
		if err == nil { // fasthttp's answer to a listener that somebody closed
			err = net.ErrClosed
		}
		return fmt.Errorf("ingest: %w", err)
	case <-ctx.Done():
	}
	s.stopping.Store(true)
	s.uploads.interrupt()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Server.Grace)
	defer cancel()
	if err := srv.ShutdownWithContext(grace); errors.Is(err, context.DeadlineExceeded) {
		s.opts.Logger.Warn("connections cut off at the end of the grace time", "connections", conns.closeAll())
	}
	s.lingering.wait()
	_ = ln.Close() // for a Serve that had not begun when Shutdown looked
	<-served
	return nil
}

func (s *Server) httpServer(track func(net.Conn, fasthttp.ConnState)) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:            s.Handler,
		ErrorHandler:       s.unreadable,
		ConnState:          track,
		Logger:             silent{},
		ReadTimeout:        readTimeout,
		WriteTimeout:       writeTimeout,
		IdleTimeout:        idleTimeout,
		Concurrency:        maxConnections,
		ReadBufferSize:     maxHeaderBytes,
		StreamRequestBody:  true,
		MaxRequestBodySize: maxPrefetchedBytes,

		NoDefaultServerHeader:        true,
		DisablePreParseMultipartForm: true, // bodies are bytes, whatever their type says
		SecureErrorLogMessage:        true, // no request bytes in error texts: they hold secrets
		CloseOnShutdown:              true,
	}
}

// unreadable answers a request whose header could not be read. err may quote the request, so it goes nowhere.
func (s *Server) unreadable(ctx *fasthttp.RequestCtx, err error) {
	r := &refusal{status: fasthttp.StatusBadRequest, reason: reasonHTTP, message: "Request is not readable as HTTP"}
	netErr, ok := errors.AsType[net.Error](err)
	switch {
	case isSmallBuffer(err):
		r.status, r.message = fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("Request header exceeds limit: %d", maxHeaderBytes)
	case ok && netErr.Timeout():
		r = refuseSlow
	}
	s.refuse(ctx, nil, r)
}

func isSmallBuffer(err error) bool {
	_, ok := errors.AsType[*fasthttp.ErrSmallBuffer](err)
	return ok
}

// silent drops fasthttp's messages: they are about single connections and may quote requests. Rejections are counted.
type silent struct{}

func (silent) Printf(string, ...any) {}

// connections are all open ones, so that they can be cut off at the end of the grace time.
type connections struct {
	mu   sync.Mutex // guards open
	open map[net.Conn]struct{}
}

func (c *connections) track(conn net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		c.mu.Lock()
		c.open[conn] = struct{}{}
		c.mu.Unlock()
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		c.mu.Lock()
		delete(c.open, conn)
		c.mu.Unlock()
	}
}

func (c *connections) closeAll() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		_ = conn.Close()
	}
	return len(c.open)
}

// patientListener waits when the process or the machine is out of descriptors, which fasthttp would take for the listener's end.
type patientListener struct {
	net.Listener
	done   <-chan struct{}
	server *Server
}

func (l *patientListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err == nil || !isShortage(err) {
			return conn, err
		}
		l.server.opts.Logger.Warn("no new connections for a second", "error", err)
		select {
		case <-time.After(time.Second):
		case <-l.done:
		}
	}
}

func isShortage(err error) bool {
	for _, e := range [...]error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

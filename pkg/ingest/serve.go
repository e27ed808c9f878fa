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

	// strangerBytes is what is read of a body before its key is known to be good. It is added to the limit of all others, so that a body
	// somewhat too big reaches the handler: an answer that comes while the client is still sending is often not read.
	strangerBytes = 64 << 10
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
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Server.Grace)
	defer cancel()
	if err := srv.ShutdownWithContext(grace); errors.Is(err, context.DeadlineExceeded) {
		s.opts.Logger.Warn("connections cut off at the end of the grace time", "connections", conns.closeAll())
	}
	_ = ln.Close() // for a Serve that had not begun when Shutdown looked
	<-served
	return nil
}

func (s *Server) httpServer(track func(net.Conn, fasthttp.ConnState)) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:            s.Handler,
		HeaderReceived:     s.admit,
		ErrorHandler:       s.unreadable,
		ConnState:          track,
		Logger:             silent{},
		ReadTimeout:        readTimeout,
		WriteTimeout:       writeTimeout,
		IdleTimeout:        idleTimeout,
		Concurrency:        maxConnections,
		ReadBufferSize:     maxHeaderBytes,
		MaxRequestBodySize: s.limits.body + strangerBytes,

		NoDefaultServerHeader:        true,
		DisablePreParseMultipartForm: true, // bodies are bytes, whatever their type says
		SecureErrorLogMessage:        true, // no request bytes in error texts: they hold secrets
		CloseOnShutdown:              true,
	}
}

// admit limits the memory that requests without a good key can claim: their bodies are read before the handler sees them.
func (s *Server) admit(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	const chunked = -1
	if n := h.ContentLength(); n <= strangerBytes && n != chunked {
		return fasthttp.RequestConfig{}
	}
	uri := fasthttp.AcquireURI()
	defer fasthttp.ReleaseURI(uri)
	if err := uri.Parse(nil, h.RequestURI()); err == nil {
		if src, refused := s.identify(uri, h); src != nil && refused == nil {
			return fasthttp.RequestConfig{}
		}
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: strangerBytes}
}

// identify returns the key of an event request, or the refusal of one without; neither for other routes.
func (s *Server) identify(uri *fasthttp.URI, h *fasthttp.RequestHeader) (*source, *refusal) {
	r := routeOf(uri.Path())
	if r != routeClient && r != routeServer {
		return nil, nil
	}
	b := acquireBatch()
	defer b.release()
	return s.sources.Load().authenticate(b.token(uri, h), r == routeClient)
}

// unreadable answers a request that could not be read to its end. err may quote the request, so it goes nowhere.
func (s *Server) unreadable(ctx *fasthttp.RequestCtx, err error) {
	r := &refusal{status: fasthttp.StatusBadRequest, reason: reasonHTTP, message: "Request is not readable as HTTP"}
	var netErr net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		src, refused := s.identify(ctx.URI(), &ctx.Request.Header)
		switch {
		case refused != nil:
			r = refused
		case src != nil:
			r = refuseBodySize(s.limits.body)
		default: // another route, or a chunked request, of which fasthttp has dropped the header by now
			r = &refusal{status: fasthttp.StatusRequestEntityTooLarge, reason: reasonSize, message: "Request body is too big"}
		}
		if routeOf(ctx.Path()) == routeClient {
			allowOrigin(ctx, src)
		}
	case isSmallBuffer(err):
		r.status, r.message = fasthttp.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("Request header exceeds limit: %d", maxHeaderBytes)
	case errors.As(err, &netErr) && netErr.Timeout():
		r.status, r.message = fasthttp.StatusRequestTimeout, "Request took too long"
	}
	s.refuse(ctx, r)
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

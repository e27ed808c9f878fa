package ingest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"eventrouter/pkg/config"

	"github.com/valyala/fasthttp"
)

const (
	// writeTimeout cuts off a slow reader of our short answers.
	writeTimeout = 30 * time.Second

	// maxPrefetchedBytes is what fasthttp reads of a body ahead of the handler, which shall refuse a request as soon as its header has come.
	maxPrefetchedBytes = 1

	// spareWorkers are connections that fasthttp may have beside those that are admitted: it ends one a little after it says so.
	spareWorkers = 1024
)

// withDefaults fills in limits that must not be zero: tests make servers that say nothing of them.
func withDefaults(s config.Server) config.Server {
	d := config.Default().Server
	s.MaxHeaderBytes = cmp.Or(s.MaxHeaderBytes, d.MaxHeaderBytes)
	s.MaxEvents = cmp.Or(s.MaxEvents, d.MaxEvents)
	s.MaxConnections = cmp.Or(s.MaxConnections, d.MaxConnections)
	s.ReadTimeout = cmp.Or(s.ReadTimeout, d.ReadTimeout)
	s.IdleTimeout = cmp.Or(s.IdleTimeout, d.IdleTimeout)
	return s
}

// Run serves ln until ctx ends; then it takes no new connections, finishes the open requests within the grace time, cuts off
// what is left, and returns nil. A listener that breaks is the only error.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	conns := newConnections(*s.config())
	s.lingering.conns = conns
	srv := s.httpServer(conns.track)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(&listener{Listener: ln, conns: conns, done: ctx.Done(), server: s}) }()

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
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config().Grace)
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
		HeaderReceived:     s.awaitBody,
		ConnState:          track,
		Logger:             silent{},
		ReadTimeout:        s.config().ReadTimeout,
		WriteTimeout:       writeTimeout,
		IdleTimeout:        s.config().IdleTimeout,
		Concurrency:        s.config().MaxConnections + spareWorkers,
		ReadBufferSize:     s.config().MaxHeaderBytes,
		StreamRequestBody:  true,
		MaxRequestBodySize: maxPrefetchedBytes,

		NoDefaultServerHeader:        true,
		DisablePreParseMultipartForm: true, // bodies are bytes, whatever their type says
		SecureErrorLogMessage:        true, // no request bytes in error texts: they hold secrets
		CloseOnShutdown:              true,
	}
}

// awaitBody bounds the wait for the first byte of a body, which fasthttp reads before it calls the handler.
func (s *Server) awaitBody(*fasthttp.RequestHeader) fasthttp.RequestConfig {
	return fasthttp.RequestConfig{ReadTimeout: s.pace().deadline(time.Time{}, 0).Sub(time.Time{})}
}

// ambiguous says whether a request has both a length and chunks: a proxy in front may have believed the other one, and then what stands behind the
// body would be a request that the proxy never saw. fasthttp believes the chunks, and keeps the length in the raw header only.
func ambiguous(h *fasthttp.RequestHeader) bool {
	return h.ContentLength() == -1 && hasLine(h.RawHeaders(), "content-length")
}

// hasLine says whether a raw header has a line of a name.
func hasLine(raw []byte, name string) bool {
	for line := range bytes.Lines(raw) {
		if len(line) > len(name) && line[len(name)] == ':' && strings.EqualFold(view(line[:len(name)]), name) {
			return true
		}
	}
	return false
}

// unreadable answers a request whose header could not be read. err may quote the request, so it goes nowhere.
func (s *Server) unreadable(ctx *fasthttp.RequestCtx, err error) {
	r := refuseUnreadable
	netErr, ok := errors.AsType[net.Error](err)
	switch {
	case isSmallBuffer(err):
		r = &refusal{
			status: fasthttp.StatusRequestHeaderFieldsTooLarge, reason: reasonHTTP,
			message: fmt.Sprintf("Request header exceeds limit: %d", s.config().MaxHeaderBytes),
		}
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

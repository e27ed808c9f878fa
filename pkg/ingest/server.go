// Package ingest is the HTTP front: it takes events over the wire protocols of their SDKs and makes them durable before it
// answers.
//
//	request ─▶ route ─▶ authenticate ─▶ parse ─▶ encode ─▶ Log.Append ─▶ 200
//	                                └─ 400 · 401 · 413 · 503, nothing stored ─┘
//
// A request is taken whole or not at all. What is stored is the client's JSON without its write keys, and an envelope of what the
// router knows of the request ([event.Event]).
package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
	"eventrouter/pkg/log"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// Log is all that ingest wants of the durable log.
type Log interface {
	// Append makes all records durable, or none, before it returns. It copies them. Many goroutines call it.
	Append(recs ...[]byte) error
}

// Watcher is told of what comes in, for people who look on. It is called for every request: it must be quick, and keep nothing of what it is given.
type Watcher interface {
	// Accepted is about records that are on disk.
	Accepted(apiKey string, records [][]byte)
	// Malformed is about a body that is refused for what is in it.
	Malformed(apiKey string, body []byte, problem string)
}

// Options of a Server.
type Options struct {
	Server       config.Server
	APIKeys      []config.APIKey
	Destinations []config.Destination // to know which keys feed something
	Log          Log
	BulkLog      Log // of bulk events; nil: none are taken

	// Refused says whether events of a key must be refused for now because a lane that it feeds is full, and why: the client reads
	// it. It is called for every request. nil: never.
	Refused func(apiKeyID string) (reason string, refused bool)
	// BulkRefused is the same for bulk events. nil: never.
	BulkRefused func(apiKeyID string) (reason string, refused bool)
	// Ready supplies the answer of /readyz, a JSON value. nil: always ready.
	Ready func() (detail []byte, ok bool)
	// Metrics serves the Prometheus page. nil: 404.
	Metrics fasthttp.RequestHandler
	// Admin are further pages for who may see admin pages, by method and path: "POST /api/v1/destinations/test".
	Admin map[string]fasthttp.RequestHandler

	// Watcher is told of what comes in. nil: nobody watches.
	Watcher Watcher

	Registerer prometheus.Registerer // for ingest's own metrics; nil: not registered anywhere
	Logger     *slog.Logger          // nil: discarded
	Now        func() time.Time      // nil: time.Now
}

// Server is the HTTP front. Make one with New.
type Server struct {
	opts     Options
	limits   limits
	metrics  *metrics
	sources  atomic.Pointer[sourceTable]
	stopping atomic.Bool
	failing  atomic.Bool // the last Append failed, and that was logged
}

// New checks the options. It opens no socket.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		return nil, errors.New("ingest: no log")
	}
	if o.Server.MaxEventBytes <= 0 || o.Server.MaxBodyBytes <= 0 {
		return nil, fmt.Errorf("ingest: max_event_size %d and max_body_size %d must be positive", o.Server.MaxEventBytes, o.Server.MaxBodyBytes)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("ingest: %w", err)
	}
	s := &Server{opts: o, limits: limits{event: o.Server.MaxEventBytes, body: o.Server.MaxBodyBytes}, metrics: m}
	s.SetSources(o.APIKeys, o.Destinations)
	return s, nil
}

// SetSources replaces the API keys; requests in hand finish with the old ones. A key that feeds no destination is warned about.
func (s *Server) SetSources(keys []config.APIKey, dests []config.Destination) {
	t := newSourceTable(keys, dests, s.metrics)
	s.sources.Store(t)
	for _, id := range t.unfed {
		s.opts.Logger.Warn("API key feeds no destination: its events are stored and go nowhere", "api_key", id)
	}
}

// Handler answers one request. Run calls it; tests and benchmarks may.
func (s *Server) Handler(ctx *fasthttp.RequestCtx) {
	switch r := routeOf(ctx.Path()); {
	case r == routeClient && ctx.IsPost(), r == routeServer && ctx.IsPost():
		s.accept(ctx, r == routeClient)
	case r == routeClient && ctx.IsOptions():
		s.preflight(ctx)
	case r == routeServer && ctx.IsOptions():
		ctx.SetStatusCode(fasthttp.StatusOK)
	case r == routeNone && s.adminPage(ctx):
	case !ctx.IsGet() && !ctx.IsHead():
		s.notFound(ctx)
	case r == routePing:
		s.ping(ctx)
	case r == routeHealth:
		s.healthz(ctx)
	case r == routeReady:
		s.readyz(ctx)
	case r == routeMetrics:
		s.metricsPage(ctx)
	default:
		s.notFound(ctx)
	}
}

type route uint8

const (
	routeNone route = iota
	routeClient
	routeServer
	routePing
	routeHealth
	routeReady
	routeMetrics
)

// routeOf finds the route of a path, with a slash at its end or without.
func routeOf(path []byte) route {
	if n := len(path); n > 1 && path[n-1] == '/' {
		path = path[:n-1]
	}
	switch string(path) {
	case "/api/v1/event", "/api/v1/events":
		return routeClient
	case "/api/v1/s2s/event", "/api/v1/s2s/events", "/s2s/event", "/s2s/events":
		return routeServer
	case "/ping":
		return routePing
	case "/healthz":
		return routeHealth
	case "/readyz":
		return routeReady
	case "/metrics", "/prometheus":
		return routeMetrics
	}
	if len(path) > len("/api.") && string(path[:len("/api.")]) == "/api." {
		return routeClient // a path that no ad blocker can know: the SDK's randomize_url
	}
	return routeNone
}

// preflight answers a browser that asks whether it may post: always 200, the headers tell.
func (s *Server) preflight(ctx *fasthttp.RequestCtx) {
	b := acquireBatch()
	defer b.release()
	src, _ := s.sources.Load().authenticate(b.token(ctx.URI(), &ctx.Request.Header), true)
	allowOrigin(ctx, src)
}

// accept is the fast path: everything between a posted body and its answer. It allocates nothing per event.
func (s *Server) accept(ctx *fasthttp.RequestCtx, browser bool) {
	received := s.opts.Now()
	b := acquireBatch()
	defer b.release()

	src, refused := s.sources.Load().authenticate(b.token(ctx.URI(), &ctx.Request.Header), browser)
	if browser {
		allowOrigin(ctx, src)
	}
	if refused == nil {
		refused = s.backPressure(src)
	}
	if refused == nil {
		refused = s.parse(b, ctx.Request.Body())
	}
	if refused != nil {
		s.watchRefused(b, src, refused, ctx.Request.Body())
		s.refuse(ctx, refused)
		return
	}

	n := float64(len(b.elements))
	src.received.Add(n)
	if n > 0 {
		ev := event.Event{APIKey: src.id, Received: received, Server: !browser, SourceIP: b.clientIP(ctx, s.opts.Server.TrustedProxies)}
		if browser {
			ev.UserAgent = userAgent(ctx)
		} else {
			ev.Source = "api"
		}
		b.encode(ev)
		if err := s.opts.Log.Append(b.recs...); err != nil {
			s.refuse(ctx, s.appendFailed(err))
			return
		}
		s.appended()
		if s.opts.Watcher != nil {
			s.opts.Watcher.Accepted(src.id, b.recs)
		}
	}
	src.accepted.Add(n)
	if !src.feeds {
		src.undelivered.Add(n)
	}
	answerOK(ctx)
	s.metrics.observe(s.opts.Now().Sub(received))
}

// parse is batch.parse with a net under it: a bug that one crafted body reaches must not end the process for all. Nothing
// else is caught: behind Append a broken state could lose events.
func (s *Server) parse(b *batch, body []byte) (r *refusal) {
	defer func() {
		if p := recover(); p != nil {
			s.opts.Logger.Error("BUG: panic while parsing a body", "panic", p, "stack", string(debug.Stack()))
			r = &refusal{status: fasthttp.StatusInternalServerError, reason: reasonInternal, message: "Internal error"}
		}
	}()
	return b.parse(body, s.limits)
}

// watchRefused shows a body that is refused for what is in it to the watcher.
func (s *Server) watchRefused(b *batch, src *source, r *refusal, body []byte) {
	if s.opts.Watcher == nil || src == nil || r.reason != reasonBody && r.reason != reasonSize && r.reason != reasonDepth {
		return
	}
	if bytes.HasPrefix(body, gzipMagic) {
		body = b.plain // parse has begun with it
	}
	s.opts.Watcher.Malformed(src.id, body, r.message)
}

// backPressure refuses a key while a lane that it feeds is full.
func (s *Server) backPressure(src *source) *refusal {
	if s.opts.Refused == nil {
		return nil
	}
	why, refused := s.opts.Refused(src.id)
	if !refused {
		return nil
	}
	return &refusal{
		status: fasthttp.StatusServiceUnavailable, reason: reasonRefused, retryAfter: 5,
		message: "Events of this API key are not accepted at the moment, send them again later", detail: why,
	}
}

// appendFailed turns an error of Append into the answer. It is logged once until an Append succeeds, not per request.
func (s *Server) appendFailed(err error) *refusal {
	if errors.Is(err, log.ErrTooBig) {
		return &refusal{
			status: fasthttp.StatusRequestEntityTooLarge, reason: reasonSize,
			message: "Request exceeds what the log takes at once", detail: "send fewer events at a time",
		}
	}
	if s.failing.CompareAndSwap(false, true) {
		s.opts.Logger.Error("events are refused: the log does not take them", "error", err)
	}
	r := &refusal{
		status: fasthttp.StatusServiceUnavailable, reason: reasonFailed, retryAfter: 30,
		message: "Events can not be stored at the moment, send them again later", detail: "log failed",
	}
	if errors.Is(err, log.ErrFull) {
		r.reason, r.retryAfter, r.detail = reasonFull, 5, "log is full"
	}
	return r
}

func (s *Server) appended() {
	if s.failing.Load() && s.failing.CompareAndSwap(true, false) {
		s.opts.Logger.Info("events are accepted again")
	}
}

func (s *Server) refuse(ctx *fasthttp.RequestCtx, r *refusal) {
	s.metrics.rejected[r.reason].Inc()
	r.answer(ctx)
	if r.status == fasthttp.StatusUnauthorized && routeOf(ctx.Path()) == routeClient {
		ctx.Response.Header.SetContentTypeBytes(typeText) // Jitsu's browser routes have it so
	}
}

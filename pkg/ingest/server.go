// Package ingest is the HTTP front: it takes events over the wire protocols of their SDKs and makes them durable before it
// answers.
//
//	request ─▶ endpoint ─▶ authenticate ─▶ read ─▶ parse ─▶ encode ─▶ Log.Append ─▶ 200
//	                                   └─ 400 · 401 · 413 · 503, nothing stored ─┘
//
// A body is read only once its key is known to be good.
//
// A request is taken whole or not at all. What is stored is the client's JSON without its write keys, and an envelope of what the
// router knows of the request ([event.Event]).
package ingest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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
	Log          Log                  // of live events
	BulkLog      Log                  // of imported ones; nil: Log takes them, too

	// Refused says whether events of a key must be refused for now because a lane that it feeds is full, and why: the client reads
	// it. It is called for every request. nil: never.
	Refused func(apiKeyID string, class event.Class) (reason string, refused bool)
	// Ready supplies the answer of /readyz, a JSON value. nil: always ready.
	Ready func() (detail []byte, ok bool)
	// Metrics serves the Prometheus page. nil: 404.
	Metrics fasthttp.RequestHandler
	// Place finds an address's country, and whether that is in the European Union, for policies that depend on it. It is called for every event that asks
	// for one. nil: nothing is known.
	Place func(netip.Addr) (country string, union, known bool)
	// Admin are further pages for who may see admin pages, by method and path: "POST /api/v1/destinations/test".
	Admin map[string]fasthttp.RequestHandler

	// Mounts are parts of the server that other packages answer. They go behind the routes of ingest itself.
	Mounts []Mount

	// Apps take events with tokens of end users.
	Apps []App

	// DryRun answers a dry run whose body was read. The ctx is its own until it returns. nil: the route does not exist.
	DryRun func(ctx *fasthttp.RequestCtx, tried Tried)

	// Certificate makes the server speak HTTPS. nil: HTTP.
	Certificate *Certificate

	// Watcher is told of what comes in. nil: nobody watches.
	Watcher Watcher

	Registerer prometheus.Registerer // for ingest's own metrics; nil: not registered anywhere
	Logger     *slog.Logger          // nil: discarded
	Now        func() time.Time      // nil: time.Now
}

// Server is the HTTP front. Make one with New.
type Server struct {
	opts     Options
	settings atomic.Pointer[config.Server]
	metrics  *metrics
	tls      *tls.Config // nil: HTTP
	sources  atomic.Pointer[sourceTable]
	apps     atomic.Pointer[appTable]
	stopping atomic.Bool
	failing  atomic.Bool // the last Append failed, and that was logged

	unknownPolicy atomic.Bool // a client sent one, and that was logged
	static        *static     // nil: no files are served
	uploads       *uploads
	heavy         *heavy

	lingering    *lingering
	bulkPatience time.Duration // how long an upload waits for room
	bulkReadTime time.Duration // how long it may send nothing
}

// New checks the options. It opens no socket.
func New(o Options) (*Server, error) {
	if o.Log == nil {
		return nil, errors.New("ingest: no log")
	}
	if o.Server.MaxEventBytes <= 0 || o.Server.MaxBodyBytes <= 0 {
		return nil, fmt.Errorf("ingest: max_event_size %d and max_body_size %d must be positive", o.Server.MaxEventBytes, o.Server.MaxBodyBytes)
	}
	if o.BulkLog == nil {
		o.BulkLog = o.Log
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
	s := &Server{opts: o, metrics: m}
	s.SetServer(o.Server)
	if dir := o.Server.StaticFilesDir; dir != "" {
		if s.static, err = openStatic(dir); err != nil {
			return nil, fmt.Errorf("server.static_files_dir: %w", err)
		}
	}
	s.heavy = newHeavy(o.Server.MaxBodyBytes)
	s.uploads, s.lingering, s.bulkPatience, s.bulkReadTime = newUploads(), newLingering(), bulkPatience, bulkReadTime
	if o.Certificate != nil {
		s.tls = o.Certificate.config()
	}
	s.SetSources(o.APIKeys, o.Destinations)
	s.SetApps(o.Apps, o.Destinations)
	return s, nil
}

// SetServer replaces the server section, for requests that come from now on: limits, the admin token and who may see what, what is added to events. What
// the listener and its connections were made with stays: their number, times, the size of headers, trusted proxies.
func (s *Server) SetServer(server config.Server) {
	server = withDefaults(server)
	s.settings.Store(&server)
}

// config is the server section in force.
func (s *Server) config() *config.Server { return s.settings.Load() }

func (s *Server) limits() limits {
	c := s.config()
	return limits{event: c.MaxEventBytes, body: c.MaxBodyBytes, events: c.MaxEvents}
}

// SetSources replaces the API keys; requests in hand finish with the old ones. A key that feeds no destination is warned about.
func (s *Server) SetSources(keys []config.APIKey, dests []config.Destination) {
	t := newSourceTable(keys, dests, s.metrics, s.sources.Load(), s.opts.Now())
	s.sources.Store(t)
	for _, id := range t.unfed {
		s.opts.Logger.Warn("API key feeds no destination: its events are stored and go nowhere", "api_key", id)
	}
}

// Handler answers one request. Run calls it; tests and benchmarks may.
func (s *Server) Handler(ctx *fasthttp.RequestCtx) {
	if ambiguous(&ctx.Request.Header) {
		ctx.SetConnectionClose()
		s.refuse(ctx, nil, refuseUnreadable)
		return
	}
	path := trimSlash(ctx.Path())
	e := endpointOf(path)
	switch {
	case string(path) == dryRunPath && ctx.IsPost() && s.opts.DryRun != nil:
		s.dryRun(ctx)
		return // with the body read
	case e == bulkUpload && ctx.IsPost():
		s.upload(ctx)
		return // with the body read
	case e != nil && ctx.IsPost():
		s.accept(ctx, e)
		return // with the body read
	case e == nil && ctx.IsPost() && appOfPath(path) != "":
		s.acceptApp(ctx, appOfPath(path))
		return // with the body read
	case e == nil && ctx.IsOptions() && appOfPath(path) != "":
		allowAnyOrigin(ctx)
	case e == nil && appOfPath(path) != "":
		s.notFound(ctx) // by another method
	case e != nil && ctx.IsOptions():
		s.preflight(ctx, e)
	case e == nil && (s.page(ctx, string(path)) || s.segmentPage(ctx, path) || s.staticFile(ctx, path) || s.adminPage(ctx, path) || s.mounted(ctx)):
	default:
		s.notFound(ctx)
	}
	finishBody(ctx)
}

// preflight answers a browser that asks whether it may post: always 200, the headers tell.
func (s *Server) preflight(ctx *fasthttp.RequestCtx, e *endpoint) {
	if !e.browser {
		return
	}
	b := acquireBatch()
	defer b.release()
	src, _ := s.authenticate(ctx, b, e)
	e.allowOrigin(ctx, src.key)
}

// accept is the fast path: everything between a posted body and its answer. It allocates nothing per event.
func (s *Server) accept(ctx *fasthttp.RequestCtx, e *endpoint) {
	received := s.opts.Now()
	b := acquireBatch()
	defer b.release()
	b.heavy = s.heavy

	src, r := s.authenticate(ctx, b, e)
	if e.browser {
		e.allowOrigin(ctx, src.key)
	}
	var body []byte
	if r == nil {
		r = s.admit(ctx, src, e.class, received)
	}
	if r == nil {
		body, r = b.read(ctx, s.limitsOf(ctx, e).body, s.pace())
	}
	if r == nil {
		r = s.parse(ctx, b, e, body)
	}
	if r != nil {
		s.watchRefused(b, src.key, r, body)
		s.refuse(ctx, e, r)
		return
	}
	if r := s.store(ctx, b, e, src, received); r != nil {
		s.refuse(ctx, e, r)
		return
	}
	b.answerTaken(ctx)
	s.metrics.observe(s.opts.Now().Sub(received))
}

// store makes the events of b durable.
func (s *Server) store(ctx *fasthttp.RequestCtx, b *batch, e *endpoint, src access, received time.Time) *refusal {
	n := float64(len(b.elements))
	src.key.received.Add(n + float64(len(b.messages.bad)))
	if r := s.rateLimited(src, e.class, received, len(b.elements)); r != nil {
		return r
	}
	if n > 0 {
		env := s.envelope(ctx, b, e, src, received)
		// What is noted of the request is stored with each of its events: it multiplies, too.
		if len(b.elements)*(len(env.UserAgent)+len(env.Added)) > maxEnvelopes*s.limits().body {
			return refuseEnvelopes
		}
		if r := s.encode(b, e, env); r != nil {
			return r
		}
		if err := s.logOf(e.class).Append(b.recs...); err != nil {
			return s.appendFailed(err)
		}
		s.appended()
		if s.opts.Watcher != nil {
			s.opts.Watcher.Accepted(src.key.id, b.recs)
		}
	}
	src.key.accepted[e.class].Add(n)
	if len(b.messages.bad) > 0 {
		s.noteLeftOut(b, src.key)
	}
	if !src.key.feeds {
		src.key.undelivered.Add(n)
	}
	return nil
}

// envelope is what all events of a request have in common. Its texts are valid until b is released.
func (s *Server) envelope(ctx *fasthttp.RequestCtx, b *batch, e *endpoint, src access, received time.Time) event.Event {
	b.who = visitor{
		front: s, addr: clientAddr(ctx, s.config().TrustedProxies), userAgent: ctx.UserAgent(), server: src.server, policies: s.policiesOf(ctx),
	}
	ev := event.Event{
		APIKey: src.key.id, Account: src.key.account, Received: received, Class: e.class, Server: src.server, Source: e.source, SourceIP: b.addressText(b.who.addr),
	}
	if s.config().HTTPContext {
		ip, cookie := s.at(b.who.policies.ip, b.who.addr), s.at(b.who.policies.cookie, b.who.addr)
		ev.Added = b.httpContext(ctx, hiddenHeaders{address: b.who.addr, ip: ip != keep, cookie: cookie != keep})
	}
	if !src.server {
		ev.UserAgent = userAgent(ctx)
	}
	return ev
}

// logOf is the log that takes events of a class.
func (s *Server) logOf(c event.Class) Log {
	if c == event.Live {
		return s.opts.Log
	}
	return s.opts.BulkLog
}

// encode makes the records of b.
func (s *Server) encode(b *batch, e *endpoint, env event.Event) (r *refusal) {
	if e.messages == nil {
		b.encode(env)
		return nil
	}
	defer s.rescue(&r)
	b.encodeMessages(env, e.messages)
	return nil
}

// parse is batch.parse with a net under it: a bug that one crafted body reaches must not end the process for all. But for the conversion of messages nothing
// else is caught: behind Append a broken state could lose events.
func (s *Server) parse(ctx *fasthttp.RequestCtx, b *batch, e *endpoint, body []byte) (r *refusal) {
	if b.parsed {
		return nil
	}
	defer s.rescue(&r)
	if e.messages != nil {
		return s.parseMessages(ctx, b, e, body)
	}
	return b.parse(body, s.limits())
}

// rescue makes a panic an answer; it is to be deferred.
func (s *Server) rescue(r **refusal) {
	if p := recover(); p != nil {
		s.opts.Logger.Error("BUG: panic while parsing a body", "panic", p, "stack", string(debug.Stack()))
		*r = &refusal{status: fasthttp.StatusInternalServerError, reason: reasonInternal, message: "Internal error"}
	}
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

// admit says whether a request is welcome, before its body is read.
func (s *Server) admit(ctx *fasthttp.RequestCtx, src access, class event.Class, now time.Time) *refusal {
	if src.old {
		s.oldSecret(src.key)
	}
	if r := src.checkOrigin(ctx); r != nil {
		return r
	}
	if r := s.rateLimited(src, class, now, 0); r != nil {
		return r
	}
	return s.backPressure(src.key, class)
}

// oldSecret notes that a secret is in use that is being replaced. It is logged once for each key until the next reload.
func (s *Server) oldSecret(src *source) {
	src.oldSecret.Inc()
	if src.oldSecretSeen.CompareAndSwap(false, true) {
		s.opts.Logger.Info("an older secret of an API key is still in use; router_old_secret_used_total counts how often", "api_key", src.id)
	}
}

// backPressure refuses a key while a lane that it feeds is full.
func (s *Server) backPressure(src *source, class event.Class) *refusal {
	if s.opts.Refused == nil {
		return nil
	}
	why, refused := s.opts.Refused(src.id, class)
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

// refuse answers r; e is nil for what is no endpoint.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, e *endpoint, r *refusal) {
	s.metrics.rejected[r.reason].Inc()
	r.answer(ctx)
	if r.status == fasthttp.StatusUnauthorized && e != nil && e.browser && e.messages == nil {
		ctx.Response.Header.SetContentTypeBytes(typeText) // Jitsu's browser routes have it so
	}
	s.finishRefused(ctx, r)
}

package ingest

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"strings"

	"eventrouter/pkg/config"

	"github.com/valyala/fasthttp"
)

var (
	typeJSON = []byte("application/json; charset=utf-8")
	typeText = []byte("text/plain; charset=utf-8")
	bodyOK   = []byte(`{"status":"ok"}`)
	// bodyNoCookie tells Jitsu's SDK to delete its cookie.
	bodyNoCookie = []byte(`{"status":"ok","delete_cookie":true}`)
)

// ping is Jitsu's sign of life.
func (s *Server) ping(ctx *fasthttp.RequestCtx) { answerText(ctx, fasthttp.StatusOK, "pong") }

// healthz says that the process answers.
func (s *Server) healthz(ctx *fasthttp.RequestCtx) { answerOK(ctx) }

// readyz says whether events are welcome here: 503 while something is not ready and from the moment the server is told to stop. Anybody
// may ask, as browsers use this port; the detail, which names destinations, accounts and their errors, is for who may see admin pages.
func (s *Server) readyz(ctx *fasthttp.RequestCtx) {
	detail, ok := []byte(nil), true
	if s.opts.Ready != nil {
		detail, ok = s.opts.Ready()
	}
	if s.stopping.Load() {
		detail, ok = []byte(`{"status":"stopping"}`), false
	}
	answerOK(ctx)
	if !ok {
		ctx.SetStatusCode(fasthttp.StatusServiceUnavailable)
		ctx.Response.SetBodyString(`{"status":"not ready"}`)
	}
	if len(detail) > 0 && (s.stopping.Load() || s.refuseAdmin(ctx) == nil) {
		ctx.SetBody(detail)
	}
}

// metricsPage serves Prometheus to holders of the admin token and, where none is configured, to this machine.
func (s *Server) metricsPage(ctx *fasthttp.RequestCtx) {
	if s.opts.Metrics == nil {
		s.notFound(ctx)
		return
	}
	if r := s.refuseAdmin(ctx); r != nil && s.config().MetricsAccess != config.AccessPublic {
		if r == refuseWrongAdmin {
			r = refuseWrongMetrics
		}
		s.refuse(ctx, nil, r)
		return
	}
	s.opts.Metrics(ctx)
}

// adminPage answers with one of Options.Admin; false: there is none for the request. A handler finds the body read.
func (s *Server) adminPage(ctx *fasthttp.RequestCtx, path []byte) bool {
	method := string(ctx.Method())
	if ctx.IsHead() {
		method = fasthttp.MethodGet // without the body, which fasthttp leaves out
	}
	answer := s.opts.Admin[method+" "+string(path)]
	if answer == nil {
		return false
	}
	if r := s.refuseAdmin(ctx); r != nil {
		s.refuse(ctx, nil, r)
		return true
	}
	b := acquireBatch()
	defer b.release()
	l := s.limits()
	// A dead letter that is imported may have two events, each larger than those of clients by what a transform and base64 add.
	body, r := b.read(ctx, max(l.body, 4*l.event+1<<20), s.pace())
	if r != nil {
		s.refuse(ctx, nil, r)
		return true
	}
	ctx.Request.SetBody(body)
	answer(ctx)
	return true
}

var (
	refuseWrongAdmin = &refusal{status: fasthttp.StatusUnauthorized, reason: reasonToken, message: "Admin token does not match"}
	// refuseWrongMetrics is what Jitsu says on the page of the metrics alone.
	refuseWrongMetrics = &refusal{status: fasthttp.StatusUnauthorized, reason: reasonToken, message: "Wrong token"}
	refuseNoAdmin      = &refusal{
		status: fasthttp.StatusForbidden, reason: reasonToken, message: "No admin token is configured",
		detail: "set server.admin_token and send it as X-Admin-Token or Authorization: Bearer; without one this page answers direct requests from this machine only",
	}
)

// refuseAdmin returns nil for a request that may see admin pages.
func (s *Server) refuseAdmin(ctx *fasthttp.RequestCtx) *refusal {
	if s.config().AdminToken == "" {
		if s.config().AdminAccess != config.AccessToken && isDirect(ctx) {
			return nil
		}
		return refuseNoAdmin
	}
	token := ctx.Request.Header.Peek("X-Admin-Token")
	if len(token) == 0 {
		token = ctx.QueryArgs().Peek("token")
	}
	if len(token) == 0 {
		scheme, value, _ := bytes.Cut(ctx.Request.Header.Peek(fasthttp.HeaderAuthorization), []byte{' '})
		if bytes.EqualFold(scheme, []byte("Bearer")) {
			token = bytes.TrimSpace(value)
		}
	}
	// Hashed first: a comparison of unequal lengths returns at once.
	got, want := sha256.Sum256(token), sha256.Sum256([]byte(s.config().AdminToken))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return refuseWrongAdmin
	}
	return nil
}

// proxyHeaders are those that proxies add.
var proxyHeaders = [...]string{
	fasthttp.HeaderXForwardedFor, fasthttp.HeaderForwarded, "X-Real-Ip", fasthttp.HeaderXForwardedHost, fasthttp.HeaderXForwardedProto, fasthttp.HeaderVia,
}

// isDirect says whether a request comes straight from this machine, as far as one can see: a proxy on it connects from the same address. That Host must
// be this machine too keeps out a web site whose name was made to lead here (DNS rebinding), and proxies that pass on the name they were called by.
func isDirect(ctx *fasthttp.RequestCtx) bool {
	if !peerAddr(ctx).IsLoopback() {
		return false
	}
	for _, name := range proxyHeaders {
		if len(ctx.Request.Header.Peek(name)) > 0 {
			return false
		}
	}
	host := string(bareHost(ctx.Host()))
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

func (s *Server) notFound(ctx *fasthttp.RequestCtx) {
	s.metrics.rejected[reasonRoute].Inc()
	answerText(ctx, fasthttp.StatusNotFound, "404 page not found")
}

func answerOK(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.SetContentTypeBytes(typeJSON)
	ctx.Response.SetBodyRaw(bodyOK)
}

func answerText(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentTypeBytes(typeText)
	ctx.SetBodyString(text)
}

package ingest

import (
	"bytes"

	"eventrouter/pkg/event"

	"github.com/valyala/fasthttp"
)

var (
	settingsPrefix = []byte("/v1/projects/")
	settingsSuffix = []byte("/settings")

	refuseSettings = &refusal{
		status: fasthttp.StatusNotFound, reason: reasonToken,
		message: "The write key is not found", detail: "it is the client_secret of no API key",
	}
)

// segmentPage answers what Segment's browser library asks for beside posting events; false: the request is something else.
func (s *Server) segmentPage(ctx *fasthttp.RequestCtx, path []byte) bool {
	if string(path) == "/v1/m" && (ctx.IsPost() || ctx.IsOptions()) { // measurements of the library itself, for Segment: dropped
		allowOrigin(ctx, nil)
		if ctx.IsPost() {
			ctx.Response.Header.SetContentTypeBytes(typeJSON)
			ctx.Response.SetBodyRaw(segmentDialect.reply)
		}
		return true
	}
	rest, ok := bytes.CutPrefix(path, settingsPrefix)
	key, ok2 := bytes.CutSuffix(rest, settingsSuffix)
	switch {
	case !ok || !ok2 || len(key) == 0 || bytes.IndexByte(key, '/') >= 0:
		return false
	case ctx.IsOptions():
		allowOrigin(ctx, nil)
	case ctx.IsGet() || ctx.IsHead():
		s.segmentSettings(ctx, key)
	default:
		return false
	}
	return true
}

// segmentSettings answers with the settings that Segment's browser library asks its CDN for: no destinations but this router. The library would send
// measurements of itself to Segment's own host if nothing were said about them.
func (s *Server) segmentSettings(ctx *fasthttp.RequestCtx, key []byte) {
	src, r := s.sources.Load().authenticate(key, clientSecret)
	if r != nil {
		src.key = nil
	}
	allowOrigin(ctx, src.key)
	if r != nil {
		s.refuse(ctx, nil, refuseSettings)
		return
	}
	scheme := "http"
	if ctx.IsTLS() || s.forwardedTLS(ctx) {
		scheme = "https"
	}
	host := string(ctx.Host()) + "/v1"
	body := append([]byte(nil), `{"integrations":{"Segment.io":{"apiKey":`...)
	body = event.AppendString(body, view(key))
	body = append(body, `,"apiHost":`...)
	body = event.AppendString(body, host)
	body = append(body, `,"protocol":"`...)
	body = append(body, scheme...)
	body = append(body, `","unbundledIntegrations":[],"addBundledMetadata":true,"maybeBundledConfigIds":{},"versionSettings":{"version":"4.4.7","componentTypes":["browser"]}}},`...)
	body = append(body, `"plan":{"track":{"__default":{"enabled":true,"integrations":{}}},"identify":{"__default":{"enabled":true}},"group":{"__default":{"enabled":true}}},`...)
	body = append(body, `"edgeFunction":{},"analyticsNextEnabled":true,"middlewareSettings":{},"enabledMiddleware":{},"legacyVideoPluginsEnabled":false,"remotePlugins":[],`...)
	body = append(body, `"metrics":{"sampleRate":0,"host":`...)
	body = event.AppendString(body, host)
	body = append(body, `,"protocol":"`...)
	body = append(body, scheme...)
	body = append(body, `"}}`...)
	ctx.Response.Header.SetContentTypeBytes(typeJSON)
	ctx.SetBody(body)
}

// forwardedTLS says whether a trusted proxy took the request over TLS.
func (s *Server) forwardedTLS(ctx *fasthttp.RequestCtx) bool {
	return isTrusted(peerAddr(ctx), s.config().TrustedProxies) &&
		bytes.EqualFold(ctx.Request.Header.Peek(fasthttp.HeaderXForwardedProto), []byte("https"))
}

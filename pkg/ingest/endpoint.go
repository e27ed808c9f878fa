package ingest

import (
	"bytes"

	"eventrouter/pkg/event"

	"github.com/valyala/fasthttp"
)

// endpoint is a route that takes events, with what is peculiar to it.
type endpoint struct {
	secret  secretKind
	browser bool        // pages of other origins may read its answers
	class   event.Class // of its events
	source  string      // `src` of events that say nothing themselves

	messages *messageRoute // what it takes are Segment's messages; nil: Jitsu Classic's events
}

// secretKind says which secret of an API key a route takes. What is posted with a client secret, which anybody can read, has no server's trust.
type secretKind uint8

const (
	clientSecret secretKind = iota
	serverSecret
	eitherSecret
)

var (
	jitsuClient = &endpoint{secret: clientSecret, browser: true}
	jitsuServer = &endpoint{secret: serverSecret, source: "api"}
)

// endpointOf finds the endpoint of a path that trimSlash has been at; nil: none.
func endpointOf(path []byte) *endpoint {
	switch string(path) {
	case "/api/v1/event", "/api/v1/events":
		return jitsuClient
	case "/api/v1/s2s/event", "/api/v1/s2s/events", "/s2s/event", "/s2s/events":
		return jitsuServer
	case "/api/v1/events/bulk":
		return bulkUpload
	case "/api/v1/segment", "/api/v1/segment/v1/batch":
		return jitsuSegment
	case "/api/v1/segment/compat", "/api/v1/segment/compat/v1/batch":
		return jitsuSegmentCompat
	}
	if rest, ok := bytes.CutPrefix(path, []byte("/v1/")); ok {
		return segmentEndpoints[string(rest)]
	}
	if rest, ok := bytes.CutPrefix(path, []byte("/api/s/s2s/")); ok {
		return jitsu2Server[string(rest)]
	}
	if rest, ok := bytes.CutPrefix(path, []byte("/api/s/")); ok {
		return jitsu2Browser[string(rest)]
	}
	if len(path) > len("/api.") && string(path[:len("/api.")]) == "/api." {
		return jitsuClient // a path that no ad blocker can know: the SDK's randomize_url
	}
	return nil
}

// trimSlash takes one slash off the end: it makes no difference anywhere.
func trimSlash(path []byte) []byte {
	if len(path) > 1 {
		return bytes.TrimSuffix(path, []byte{'/'})
	}
	return path
}

// page answers requests that only read; false: there is none at the path.
func (s *Server) page(ctx *fasthttp.RequestCtx, path string) bool {
	if !ctx.IsGet() && !ctx.IsHead() {
		return false
	}
	switch path {
	case pixelPath:
		s.pixel(ctx)
	case "/ping":
		s.ping(ctx)
	case "/healthz":
		s.healthz(ctx)
	case "/readyz":
		s.readyz(ctx)
	case "/metrics", "/prometheus":
		s.metricsPage(ctx)
	default:
		return false
	}
	return true
}

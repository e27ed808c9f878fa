package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// Headers are passed on by name, both ways: a list of what must not pass would never be whole, with each proxy on the way adding its own. Credentials, cookies, what tells
// where the caller is, and what is between two connections only, are in neither list.
var (
	sentHeaders = []string{
		"Accept", "Accept-Language", "Content-Type", "Content-Encoding", "Content-Language", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
		"Idempotency-Key", "Prefer", "Range",
	}
	answeredHeaders = []string{
		"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Content-Range", "Accept-Ranges", "Etag", "Last-Modified", "Retry-After", "Deprecation", "Sunset",
		"Warning",
	}
)

// hubspotHeaders is what HubSpot's own headers of answers begin with, such as those that tell the quotas. It documents none of requests, and what its servers do for one is not for browsers to try.
const hubspotHeaders = "X-Hubspot-"

// sentOn are the headers of a request that HubSpot gets, but for those that the proxy adds. A value with one of the secrets in it does not pass, nor what Connection names.
func sentOn(h *fasthttp.RequestHeader, secrets []string) http.Header {
	out := http.Header{}
	hop := connectionNamed(h.Peek(fasthttp.HeaderConnection))
	for k, v := range h.All() {
		name := http.CanonicalHeaderKey(string(k))
		if slices.Contains(sentHeaders, name) && !slices.Contains(hop, name) && !holdsAny(string(v), secrets) {
			out.Add(name, string(v))
		}
	}
	return out
}

// answered are the headers of an answer that the caller gets. Where Connection says close net/http has taken it away with all that it names.
func answered(h http.Header, secrets []string) http.Header {
	out := http.Header{}
	hop := connectionNamed([]byte(strings.Join(h.Values("Connection"), ",")))
	for name, values := range h {
		if !slices.Contains(answeredHeaders, name) && !strings.HasPrefix(name, hubspotHeaders) || slices.Contains(hop, name) {
			continue
		}
		for _, v := range values {
			if !holdsAny(v, secrets) {
				out.Add(name, v)
			}
		}
	}
	return out
}

// connectionNamed are the headers that a Connection header says are for this connection alone.
func connectionNamed(value []byte) (names []string) {
	for name := range strings.SplitSeq(string(value), ",") {
		names = append(names, http.CanonicalHeaderKey(strings.TrimSpace(name)))
	}
	return names
}

func holdsAny(text string, secrets []string) bool {
	return slices.ContainsFunc(secrets, func(s string) bool { return s != "" && strings.Contains(text, s) })
}

// allowOrigins lets pages of all origins call: no browser sends a token by itself, so that whoever has one may use it wherever they are.
func allowOrigins(h *fasthttp.ResponseHeader, preflight bool) {
	h.Set(fasthttp.HeaderAccessControlAllowOrigin, "*")
	h.Set(fasthttp.HeaderCacheControl, "no-store") // whose data it is does not stand in the address
	if preflight {
		h.Set(fasthttp.HeaderAccessControlMaxAge, "86400")
		h.Set(fasthttp.HeaderAccessControlAllowMethods, strings.Join(methods, ", "))
		h.Set(fasthttp.HeaderAccessControlAllowHeaders, "Authorization, X-Auth-Token, "+accountHeader+", "+strings.Join(sentHeaders, ", "))
		return
	}
	h.Set(fasthttp.HeaderAccessControlExposeHeaders, "Retry-After, Etag, Deprecation, Sunset, X-HubSpot-Correlation-Id, X-HubSpot-RateLimit-Max, X-HubSpot-RateLimit-Remaining, "+
		"X-HubSpot-RateLimit-Interval-Milliseconds")
}

package ingest

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"
)

// The headers of Jitsu's browser routes, value for value.
var (
	headerACAO        = []byte(fasthttp.HeaderAccessControlAllowOrigin)
	headerMaxAge      = []byte(fasthttp.HeaderAccessControlMaxAge)
	headerMethods     = []byte(fasthttp.HeaderAccessControlAllowMethods)
	headerHeaders     = []byte(fasthttp.HeaderAccessControlAllowHeaders)
	headerCredentials = []byte(fasthttp.HeaderAccessControlAllowCredentials)
	headerVary        = []byte(fasthttp.HeaderVary)

	corsMaxAge         = []byte("86400")
	corsMethods        = []byte("POST, GET, OPTIONS, PUT, DELETE, UPDATE, PATCH")
	corsHeaders        = []byte("Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, Host, X-Auth-Token")
	corsMessageHeaders = append(corsHeaders[:len(corsHeaders):len(corsHeaders)], ", X-Write-Key, X-IP-Policy, X-Retry-Count, AnonymousId, Content-Encoding"...)
	corsTrue           = []byte("true")
	corsVary           = []byte(fasthttp.HeaderOrigin)
)

// allowOrigin is for an endpoint's answers. SDKs that post messages send headers of their own.
func (e *endpoint) allowOrigin(ctx *fasthttp.RequestCtx, src *source) {
	allowOrigin(ctx, src)
	if e.messages != nil {
		ctx.Response.Header.SetCanonical(headerHeaders, corsMessageHeaders)
	}
}

// allowOrigin writes the CORS headers of a browser route. src is nil for a request without a known key: its origin may read the
// answer, which tells nothing but that. An origin that the key does not list loses Access-Control-Allow-Origin, not the event.
func allowOrigin(ctx *fasthttp.RequestCtx, src *source) {
	h := &ctx.Response.Header
	h.SetCanonical(headerMaxAge, corsMaxAge)
	h.SetCanonical(headerMethods, corsMethods)
	h.SetCanonical(headerHeaders, corsHeaders)
	h.SetCanonical(headerCredentials, corsTrue)
	h.SetCanonical(headerVary, corsVary)
	origin := ctx.Request.Header.Peek(fasthttp.HeaderOrigin)
	if len(origin) > 0 && (src == nil || src.allows(origin, ctx.Host())) {
		h.SetCanonical(headerACAO, origin)
	}
}

// allows says whether pages of origin may read the answers to s.
func (s *source) allows(origin, host []byte) bool {
	if len(s.origins) == 0 {
		return true
	}
	origin = bareHost(origin)
	for i := range s.origins {
		if s.origins[i].matches(origin, host) {
			return true
		}
	}
	return false
}

// originRule is one pattern of an API key's `origins`: a host, with `*` before it for whole labels, so that neither *example.com nor
// *.example.com matches notexample.com, and with `*` after it for anything. {{APP_TLD}} and *.{{APP_TLD}} stand for the last two labels of the router's own host
// name, also where those are a public suffix such as co.uk: list hosts by name there.
type originRule struct {
	text     string // without the stars
	anyLeft  bool
	anyRight bool
	ownHost  bool // {{APP_TLD}}
}

func newOriginRule(pattern string) originRule {
	r := originRule{text: string(bareHost([]byte(strings.TrimSpace(pattern))))}
	switch pattern {
	case "{{APP_TLD}}":
		return originRule{ownHost: true}
	case "*.{{APP_TLD}}":
		return originRule{ownHost: true, anyLeft: true}
	}
	r.text, r.anyLeft = strings.CutPrefix(r.text, "*")
	r.text, r.anyRight = strings.CutSuffix(r.text, "*")
	return r
}

// matches compares an origin's bare host; own is the Host header of the request.
func (r *originRule) matches(origin, own []byte) bool {
	if r.ownHost {
		site := lastLabels(bareHost(own))
		if len(site) == 0 {
			return false
		}
		if r.anyLeft {
			dot := len(origin) - len(site) - 1
			return dot >= 0 && origin[dot] == '.' && bytes.EqualFold(origin[dot+1:], site)
		}
		return bytes.EqualFold(lastLabels(origin), site)
	}
	if r.text == "" {
		return r.anyLeft || r.anyRight
	}
	for i := range origin {
		if i > 0 && !r.anyLeft {
			return false
		}
		// A * before the text ends where a label begins: at the dot if the text has one of its own.
		if i > 0 && origin[i-1] != '.' && r.text[0] != '.' {
			continue
		}
		rest := origin[i:]
		if r.anyRight && len(rest) > len(r.text) {
			rest = rest[:len(r.text)]
		}
		if len(rest) == len(r.text) && strings.EqualFold(view(rest), r.text) {
			return true
		}
	}
	return false
}

// bareHost strips scheme, user, port and path, and the dot of the root: example.com. is the same host, and who asks chooses how to write it.
func bareHost(origin []byte) []byte {
	if i := bytes.Index(origin, []byte("://")); i >= 0 {
		origin = origin[i+3:]
	}
	if i := bytes.IndexAny(origin, "/?#"); i >= 0 {
		origin = origin[:i]
	}
	if i := bytes.LastIndexByte(origin, '@'); i >= 0 {
		origin = origin[i+1:]
	}
	if len(origin) > 0 && origin[0] == '[' { // IPv6
		return origin[:bytes.IndexByte(origin, ']')+1]
	}
	if i := bytes.LastIndexByte(origin, ':'); i >= 0 {
		origin = origin[:i]
	}
	return bytes.TrimSuffix(origin, []byte{'.'})
}

// lastLabels returns the last two labels of a bare host, all of an address; nothing of what is no host name.
func lastLabels(host []byte) []byte {
	if _, err := netip.ParseAddr(view(host)); err == nil || bytes.HasPrefix(host, []byte{'['}) {
		return host
	}
	if bytes.HasSuffix(host, []byte{'.'}) {
		return nil
	}
	if i := bytes.LastIndexByte(host, '.'); i > 0 {
		if j := bytes.LastIndexByte(host[:i], '.'); j >= 0 {
			return host[j+1:]
		}
	}
	return host
}

package ingest

import (
	"bytes"
	"net"
	"net/netip"
	"unicode/utf8"

	"github.com/valyala/fasthttp"
)

// peerAddr returns the address at the other end of the connection; the zero Addr where that is no TCP.
func peerAddr(ctx *fasthttp.RequestCtx) netip.Addr { return tcpAddr(ctx.RemoteAddr()) }

func tcpAddr(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(tcp.IP)
	return addr.Unmap()
}

// clientAddr returns the address of the client: the peer's own, or, if the peer is a trusted proxy, the rightmost entry of
// X-Forwarded-For that is none. Only what trusted proxies wrote is read: entries further left, and all behind
// one that is no address, may be anybody's.
func clientAddr(ctx *fasthttp.RequestCtx, trusted []netip.Prefix) netip.Addr {
	addr := peerAddr(ctx)
	if !isTrusted(addr, trusted) {
		return addr
	}
	lines := ctx.Request.Header.PeekAll(fasthttp.HeaderXForwardedFor)
	for i := len(lines) - 1; i >= 0; i-- {
		for line, more := lines[i], true; more; {
			entry := line
			comma := bytes.LastIndexByte(line, ',')
			if more = comma >= 0; more {
				line, entry = line[:comma], line[comma+1:]
			}
			entry = bytes.TrimSpace(entry)
			if len(entry) == 0 {
				continue
			}
			hop := parseHop(entry)
			if !hop.IsValid() {
				return addr
			}
			addr = hop
			if !isTrusted(addr, trusted) {
				return addr
			}
		}
	}
	return addr
}

func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// parseHop reads an entry of X-Forwarded-For that is not empty: an address, also in brackets or with a port as some proxies write it. The zero
// Addr stands for anything else.
func parseHop(entry []byte) netip.Addr {
	if entry[0] == '[' {
		end := bytes.IndexByte(entry, ']')
		if end < 0 {
			return netip.Addr{}
		}
		entry = entry[1:end]
	} else if colon := bytes.IndexByte(entry, ':'); colon >= 0 && bytes.LastIndexByte(entry, ':') == colon {
		entry = entry[:colon]
	}
	addr, err := netip.ParseAddr(view(entry))
	if addr = addr.WithZone("").Unmap(); err != nil || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}

// addressText returns the client's address as text, valid until b is released; "" if it is unknown.
func (b *batch) addressText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	b.ip = addr.AppendTo(b.ip[:0])
	return view(b.ip)
}

// maxUserAgentBytes is what is kept of a User-Agent header.
const maxUserAgentBytes = 1024

// userAgent returns the User-Agent header, valid within the handler.
func userAgent(ctx *fasthttp.RequestCtx) string {
	ua := ctx.UserAgent()
	if n := maxUserAgentBytes; len(ua) > n {
		for n > 0 && !utf8.RuneStart(ua[n]) { // not in the middle of a character
			n--
		}
		ua = ua[:n]
	}
	return view(ua)
}

package ingest

import (
	"bytes"
	"net/netip"
	"strings"

	"eventrouter/pkg/event"

	"github.com/valyala/fasthttp"
)

// maxContextBytes bounds the headers that are noted of a request: each of its events carries them.
const maxContextBytes = 8 << 10

// httpContext returns the request's headers as filters see them, Jitsu's `__HTTP_CONTEXT__`, valid until b is released: names in lower case, a list of
// values for each. Secrets are left out, and so is what tells the client's address, or the visitor's id, where that must not be stored.
func (b *batch) httpContext(ctx *fasthttp.RequestCtx, without hiddenHeaders) []byte {
	keys := [...][]byte{bytes.Clone(b.token(ctx)), bytes.Clone(b.writeKey(ctx))}
	var names []string
	values := map[string][][]byte{}
	size := 0
	for k, v := range ctx.Request.Header.All() {
		name := strings.ToLower(string(k))
		switch {
		case name == "host" || isSecretHeader(name) || holds(v, keys[0]) || holds(v, keys[1]) || without.hide(name, v):
			continue
		}
		if size += len(name) + len(v); size > maxContextBytes {
			break
		}
		if values[name] == nil {
			names = append(names, name)
		}
		values[name] = append(values[name], v)
	}
	b.added = append(b.added[:0], `{"`+event.FieldHTTPContext+`":{"headers":{`...)
	for i, name := range names {
		if i > 0 {
			b.added = append(b.added, ',')
		}
		b.added = append(event.AppendString(b.added, name), ':', '[')
		for j, v := range values[name] {
			if j > 0 {
				b.added = append(b.added, ',')
			}
			b.added = event.AppendString(b.added, view(v))
		}
		b.added = append(b.added, ']')
	}
	b.added = append(b.added, "}}}"...)
	return b.added
}

// holds says whether a header's value has a key in it, also with the escapes of an address: proxies tell in headers where a request went.
func holds(value, key []byte) bool {
	if len(key) == 0 {
		return false
	}
	if bytes.Contains(value, key) {
		return true
	}
	if bytes.IndexByte(value, '%') < 0 && bytes.IndexByte(value, '+') < 0 {
		return false
	}
	return bytes.Contains(fasthttp.AppendUnquotedArg(nil, value), key)
}

// hiddenHeaders is what policies leave out of the headers.
type hiddenHeaders struct {
	address netip.Addr // the client's, as far as it is known
	ip      bool       // what tells it
	cookie  bool       // what tells the visitor's id
}

// hide says whether a header is left out.
func (h hiddenHeaders) hide(name string, value []byte) bool {
	return h.cookie && strings.Contains(name, "anonymous") || h.ip && (isAddressHeader(name) || h.near(value))
}

// near says whether a value has the client's address in it, or one of the same network, in whatever spelling.
func (h hiddenHeaders) near(value []byte) bool {
	if !h.address.IsValid() {
		return false
	}
	isAddress := func(r rune) bool {
		return r == '.' || r == ':' || '0' <= r && r <= '9' || 'a' <= r && r <= 'f' || 'A' <= r && r <= 'F'
	}
	for word := range bytes.FieldsFuncSeq(value, func(r rune) bool { return !isAddress(r) }) {
		if addr := parseHop(word); addr.IsValid() && coarse(addr) == coarse(h.address) {
			return true
		}
	}
	return false
}

// secretWords are parts of the names of headers that hold secrets, ours and those of proxies: a list of names would never be whole.
var secretWords = [...]string{
	"auth", "token", "secret", "cookie", "password", "passwd", "credential", "session", "signature", "jwt", "assertion",
	"api-key", "api_key", "apikey", "write-key", "writekey", "csrf", "xsrf", "client-cert",
}

func isSecretHeader(name string) bool {
	for _, word := range secretWords {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// addressWords are the words in the names of headers in which proxies tell the client's address, or where it is: X-Real-IP, CF-Connecting-IP, Forwarded,
// CloudFront-Viewer-Address. Each vendor has names of its own, so a list of them would never be whole.
var addressWords = map[string]bool{
	"ip": true, "ips": true, "ipv4": true, "ipv6": true, "clientip": true, "realip": true, "remoteip": true, "socketip": true, "addr": true, "address": true,
	"iplatitude": true, "iplongitude": true, "latitude": true, "longitude": true, "latlong": true, "citylatlong": true,
}

func isAddressHeader(name string) bool {
	if name == "forwarded" || name == "x-forwarded" || strings.HasSuffix(name, "forwarded-for") {
		return true
	}
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '-' || r == '_' }) {
		if addressWords[word] {
			return true
		}
	}
	return false
}

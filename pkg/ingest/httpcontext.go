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
// values for each. Secrets are left out, and so is what tells the client's address where that must not be stored.
func (b *batch) httpContext(ctx *fasthttp.RequestCtx, withoutAddress bool, addr netip.Addr) []byte {
	token := b.token(ctx)
	address := ""
	if withoutAddress && addr.IsValid() {
		address = addr.String()
	}
	var names []string
	values := map[string][][]byte{}
	size := 0
	for k, v := range ctx.Request.Header.All() {
		name := strings.ToLower(string(k))
		switch {
		case name == "host" || isSecretHeader(name) || len(token) > 0 && bytes.Contains(v, token):
			continue
		case withoutAddress && (addressHeaders[name] || address != "" && bytes.Contains(v, []byte(address))):
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

// addressHeaders are those in which proxies tell the client's address, or where it is.
var addressHeaders = map[string]bool{
	"forwarded": true, "x-forwarded-for": true, "x-original-forwarded-for": true, "x-forwarded": true, "forwarded-for": true, "x-real-ip": true,
	"x-client-ip": true, "client-ip": true, "x-cluster-client-ip": true, "true-client-ip": true, "cf-connecting-ip": true, "cf-connecting-ipv6": true,
	"cf-pseudo-ipv4": true, "fastly-client-ip": true, "fly-client-ip": true, "do-connecting-ip": true, "x-envoy-external-address": true,
	"x-azure-clientip": true, "x-azure-socketip": true, "x-appengine-user-ip": true, "x-appengine-remote-addr": true, "x-remote-ip": true,
	"x-remote-addr": true, "x-originating-ip": true, "x-vercel-forwarded-for": true, "x-nf-client-connection-ip": true, "cloudfront-viewer-address": true,
	"cf-iplatitude": true, "cf-iplongitude": true, "x-appengine-citylatlong": true, "cloudfront-viewer-latitude": true, "cloudfront-viewer-longitude": true,
}

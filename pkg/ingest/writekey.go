package ingest

import (
	"bytes"
	"encoding/base64"
	"slices"

	"eventrouter/pkg/ingest/segment"

	"github.com/tidwall/gjson"
	"github.com/valyala/fasthttp"
)

const (
	headerWriteKey = "X-Write-Key"
	argWriteKey    = "writekey"
)

// authenticate returns who sends a request. Where the write key stands in the body alone, the body is read and parsed here.
func (s *Server) authenticate(ctx *fasthttp.RequestCtx, b *batch, e *endpoint) (access, *refusal) {
	t := s.sources.Load()
	if e.messages == nil || e.messages.dialect == jitsuSegmentDialect {
		return t.authenticate(b.token(ctx), e.secret)
	}
	key := b.writeKey(ctx)
	if len(key) == 0 && e.messages.keyInBody && ctx.IsPost() {
		var r *refusal
		if key, r = s.keyInBody(ctx, b, e); r != nil {
			return access{}, r
		}
	}
	if len(key) == 0 {
		return access{}, refuseNoWriteKey
	}
	return t.authenticateKey(key, e.secret)
}

var refuseNoWriteKey = &refusal{
	status: fasthttp.StatusUnauthorized, reason: reasonToken,
	message: "The token is not found", detail: "send an API key's secret as the write key: Authorization: Basic, X-Write-Key, or on /v1 routes writeKey in the body",
}

// writeKey returns the write key that a request's header carries, valid until b is released: what SDKs of Jitsu's second version send, what Segment's and
// RudderStack's do, and else what Jitsu Classic's would.
func (b *batch) writeKey(ctx *fasthttp.RequestCtx) []byte {
	h := &ctx.Request.Header
	if key := h.Peek(headerWriteKey); len(key) > 0 {
		return key
	}
	if key := ctx.QueryArgs().Peek(argWriteKey); len(key) > 0 {
		return key
	}
	scheme, value, _ := bytes.Cut(h.Peek(fasthttp.HeaderAuthorization), []byte{' '})
	if bytes.EqualFold(scheme, []byte("Basic")) {
		return b.basic(bytes.TrimSpace(value))
	}
	return b.token(ctx)
}

// basic decodes Basic credentials. A key of Jitsu's second version has a colon of its own; an empty password leaves one at the end.
func (b *batch) basic(value []byte) []byte {
	b.credential = slices.Grow(b.credential[:0], base64.StdEncoding.DecodedLen(len(value)))
	b.credential = b.credential[:cap(b.credential)]
	n, err := base64.StdEncoding.Decode(b.credential, value)
	if err != nil {
		return nil
	}
	return bytes.TrimSuffix(b.credential[:n], []byte{':'})
}

// authenticateKey is authenticate for a write key: a secret, `id:secret` with the id of its API key, or a secret with a password that does not count.
func (t *sourceTable) authenticateKey(key []byte, kind secretKind) (access, *refusal) {
	a, refused := t.authenticate(key, kind)
	left, right, split := bytes.Cut(key, []byte{':'})
	if refused == nil || !split {
		return a, refused
	}
	if a, r := t.authenticate(right, kind); a.key != nil && a.key.id == view(left) {
		return a, r
	}
	if a, r := t.authenticate(left, kind); a.key != nil {
		return a, r
	}
	return a, refused
}

// keyInBody reads and parses the body for its write key: that of a batch, or of its first message. A body that is none has no key; it is refused
// only for what may be otherwise when it is sent again.
func (s *Server) keyInBody(ctx *fasthttp.RequestCtx, b *batch, e *endpoint) ([]byte, *refusal) {
	body, r := b.read(ctx, s.limits().within(segmentDialect.limits).body, s.pace())
	if r == nil {
		r = s.parse(ctx, b, e, body)
	}
	switch {
	case r == nil:
	case r.reason == reasonBody || r.reason == reasonSize || r.reason == reasonDepth:
		return nil, nil
	default:
		return nil, r
	}
	raw := b.messages.writeKey.of(b.scanner.data)
	if len(raw) == 0 && b.messages.many && len(b.elements) > 0 {
		raw = segment.Find(b.elements[0].of(b.scanner.data), "writeKey")
	}
	if len(raw) == 0 || raw[0] != '"' {
		return nil, nil
	}
	b.parsed = true
	return []byte(gjson.ParseBytes(raw).Str), nil
}

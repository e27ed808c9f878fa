package ingest

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"eventrouter/pkg/config"

	"github.com/dchest/siphash"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// source is an API key as requests need it.
type source struct {
	id      string
	account string // whose its events are; "": it does not say
	origins []originRule
	feeds   bool // at least one destination

	enforceOrigins bool
	limit          *rateLimit // nil: none
	rotates        bool       // it has old secrets
	oldSecretSeen  atomic.Bool

	limited, oldSecret    prometheus.Counter
	received, undelivered prometheus.Counter
	badLines              prometheus.Counter    // of uploads
	badMessages           prometheus.Counter    // of batches
	accepted              [2]prometheus.Counter // by event.Class, live and bulk
}

// access is who posts: an API key, and whether with its server secret.
type access struct {
	key    *source // nil: nobody known
	server bool
	old    bool // with a secret that is being replaced
}

// credential is a secret and the key that it belongs to.
type credential struct {
	secret []byte
	source *source
	old    bool // not the current one
}

// sourceTable finds a key by its secret. It is never changed: a reload swaps the whole table.
//
// The map's key is SipHash under random keys of this table, so how long a look-up takes tells a caller nothing about the
// secrets; the whole secret is then compared in constant time.
type sourceTable struct {
	k0, k1         uint64
	client, server map[uint64]credential
	keys           []*source // in their order
	unfed          []string  // ids of keys that feed no destination
	limits         map[string]*rateLimit
}

// newSourceTable makes a table. before is the one that it replaces, nil for none: what keys have sent counts on while their limits are the same.
func newSourceTable(keys []config.APIKey, dests []config.Destination, m *metrics, before *sourceTable, now time.Time) *sourceTable {
	var seed [16]byte
	_, _ = rand.Read(seed[:]) // never fails
	t := &sourceTable{
		k0: binary.LittleEndian.Uint64(seed[:8]), k1: binary.LittleEndian.Uint64(seed[8:]),
		client: map[uint64]credential{}, server: map[uint64]credential{}, limits: map[string]*rateLimit{},
	}
	for _, k := range keys {
		src := &source{
			id: k.ID, account: k.Account, feeds: feedsAny(k.ID, dests), enforceOrigins: k.EnforceOrigins,
			limit: newRateLimit(k.RateLimit, now), rotates: len(k.OldClientSecrets)+len(k.OldServerSecrets) > 0,
		}
		if before != nil && src.limit != nil {
			if old := before.limits[k.ID]; old != nil && old.settings == k.RateLimit {
				src.limit = old
			}
		}
		t.limits[k.ID] = src.limit
		for _, pattern := range k.Origins {
			src.origins = append(src.origins, newOriginRule(pattern))
		}
		m.resolve(src)
		t.keys = append(t.keys, src)
		if !src.feeds {
			t.unfed = append(t.unfed, k.ID)
		}
		t.add(t.client, src, k.ClientSecret, k.OldClientSecrets)
		t.add(t.server, src, k.ServerSecret, k.OldServerSecrets)
	}
	return t
}

func feedsAny(id string, dests []config.Destination) bool {
	return slices.ContainsFunc(dests, func(d config.Destination) bool {
		return !d.Staged && (d.OnlyTokens == nil || slices.Contains(d.OnlyTokens, id))
	})
}

func (t *sourceTable) add(m map[uint64]credential, src *source, current config.Secret, old []config.Secret) {
	for i, secret := range append([]config.Secret{current}, old...) {
		if secret != "" {
			text := []byte(secret)
			m[siphash.Hash(t.k0, t.k1, text)] = credential{secret: text, source: src, old: i > 0}
		}
	}
}

// find returns the key that token is a secret of, nil for none, and whether that is an old one.
func (t *sourceTable) find(m map[uint64]credential, token []byte) (src *source, old bool) {
	c := m[siphash.Hash(t.k0, t.k1, token)]
	if c.source == nil || subtle.ConstantTimeCompare(c.secret, token) != 1 {
		return nil, false
	}
	return c.source, c.old
}

// authenticate returns who sends a token to a route that takes secrets of a kind. On refusal the key is the one whose secret is of the other kind,
// if any.
func (t *sourceTable) authenticate(token []byte, kind secretKind) (access, *refusal) {
	var a access
	if kind != serverSecret {
		a.key, a.old = t.find(t.client, token)
	}
	if a.key == nil && kind != clientSecret {
		a.key, a.old = t.find(t.server, token)
		a.server = true
	}
	switch {
	case a.key != nil:
		return a, nil
	case len(token) == 0:
		return access{}, refuseNoToken
	case kind == eitherSecret:
		return access{}, refuseUnknown
	}
	other, refused, unknown := t.server, refuseServerSecret, refuseUnknownClient
	if kind == serverSecret {
		other, refused, unknown = t.client, refuseClientSecret, refuseUnknownServer
	}
	if key, _ := t.find(other, token); key != nil {
		return access{key: key}, refused
	}
	return access{}, unknown
}

// Jitsu's texts, but for the token that it repeats: an answer may be logged by others.
var (
	refuseNoToken = &refusal{
		status: fasthttp.StatusUnauthorized, reason: reasonToken,
		message: "The token is not found", detail: "send an API key's secret as ?token=, X-Auth-Token or Authorization: Bearer",
	}
	refuseUnknownClient = &refusal{
		status: fasthttp.StatusUnauthorized, reason: reasonToken,
		message: "The token is not found", detail: "it is the client_secret of no API key",
	}
	refuseUnknown = &refusal{
		status: fasthttp.StatusUnauthorized, reason: reasonToken,
		message: "The token is not found", detail: "it is a secret of no API key",
	}
	refuseUnknownServer = &refusal{
		status: fasthttp.StatusUnauthorized, reason: reasonToken,
		message: "The token is not found", detail: "it is the server_secret of no API key",
	}
	refuseServerSecret = &refusal{
		status: fasthttp.StatusUnauthorized, reason: reasonToken,
		message: "The token is not found", detail: "it is a server_secret, this route takes a client_secret",
	}
	refuseClientSecret = &refusal{
		status: fasthttp.StatusUnauthorized, reason: reasonToken,
		message: "The token isn't a server secret token. Please use an s2s integration token", detail: "",
	}
)

// token returns the secret that a request carries: the first place that has one decides, in Jitsu's order. It is valid until b is
// released.
func (b *batch) token(ctx *fasthttp.RequestCtx) []byte {
	uri, h := ctx.URI(), &ctx.Request.Header
	args := uri.QueryArgs()
	if t := args.Peek("token"); len(t) > 0 {
		return t
	}
	if t := h.Peek("X-Auth-Token"); len(t) > 0 {
		return t
	}
	if t := h.Peek("api_key"); len(t) > 0 {
		return t
	}
	for query := uri.QueryString(); len(query) > 0; {
		pair, rest, _ := bytes.Cut(query, []byte{'&'})
		query = rest
		if !bytes.HasPrefix(pair, []byte("p_")) {
			continue
		}
		name, _, _ := bytes.Cut(pair, []byte{'='})
		if t := args.PeekBytes(name); len(t) > 0 {
			return t
		}
	}
	return b.authorization(h.Peek(fasthttp.HeaderAuthorization))
}

// authorization returns the user name of Basic credentials or a Bearer token.
func (b *batch) authorization(header []byte) []byte {
	scheme, value, _ := bytes.Cut(header, []byte{' '})
	value = bytes.TrimSpace(value)
	switch {
	case bytes.EqualFold(scheme, []byte("Bearer")):
		return value
	case bytes.EqualFold(scheme, []byte("Basic")):
		b.credential = slices.Grow(b.credential[:0], base64.StdEncoding.DecodedLen(len(value)))
		b.credential = b.credential[:cap(b.credential)]
		n, err := base64.StdEncoding.Decode(b.credential, value)
		if err != nil {
			return nil
		}
		user, _, _ := bytes.Cut(b.credential[:n], []byte{':'})
		return user
	}
	return nil
}

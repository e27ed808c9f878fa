package ingest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/tidwall/gjson"
)

// maxIDBytes is the longest event id that is kept as the client sent it.
const maxIDBytes = 200

// contentHash is what of a SHA-256 fits into a UUID.
type contentHash [16]byte

// eventID returns the id that the event is de-duplicated by, valid until the next call: the client's own; else, if it carries the client's time,
// one made of its content; else a random one.
//
// Jitsu's SDKs send an empty id. When an answer is missing they send their whole queue again, byte for byte the same, so an id made
// of the content survives that; the client's time keeps two real events apart, and equal events of one queue differ by their ordinal.
// Without a time two equal events are two events.
func (b *batch) eventID(e *element, json []byte) string {
	for _, v := range e.ids {
		if id := b.clientID(v.of(b.scanner.data)); id != "" {
			return id
		}
	}
	if e.timed || e.ctxTimed {
		return b.contentID(json)
	}
	return b.randomID()
}

// clientID returns the id that a raw value holds: the text of a string or number, hashed if it is too long; "" for anything else.
func (b *batch) clientID(raw []byte) string {
	if len(raw) == 0 {
		return ""
	}
	text := ""
	switch c := raw[0]; {
	case c == '"':
		text = gjson.Parse(view(raw)).Str // copies only what has escapes
	case c == '-' || '0' <= c && c <= '9':
		text = view(raw)
	}
	if len(text) > maxIDBytes {
		sum := sha256.Sum256([]byte(text))
		return b.uuid(contentHash(sum[:]), 8)
	}
	return text
}

// contentID returns an id made of the stored JSON and of how many equal ones came before it in this request.
func (b *batch) contentID(json []byte) string {
	sum := sha256.Sum256(json)
	if len(b.elements) > 1 {
		content := contentHash(sum[:])
		n := b.seen[content]
		b.seen[content] = n + 1
		if n > 0 {
			var in [sha256.Size + 8]byte
			copy(in[:], sum[:])
			binary.BigEndian.PutUint64(in[sha256.Size:], n)
			sum = sha256.Sum256(in[:])
		}
	}
	return b.uuid(contentHash(sum[:]), 8)
}

func (b *batch) randomID() string {
	var u contentHash
	binary.BigEndian.PutUint64(u[:8], b.random.Uint64())
	binary.BigEndian.PutUint64(u[8:], b.random.Uint64())
	return b.uuid(u, 4)
}

// uuid writes u as a UUID of the version (RFC 9562: 4 is random, 8 is one's own hash) into b.id.
func (b *batch) uuid(u contentHash, version byte) string {
	u[6] = u[6]&0x0f | version<<4
	u[8] = u[8]&0x3f | 0x80
	id := b.id[:]
	hex.Encode(id[0:8], u[0:4])
	hex.Encode(id[9:13], u[4:6])
	hex.Encode(id[14:18], u[6:8])
	hex.Encode(id[19:23], u[8:10])
	hex.Encode(id[24:36], u[10:16])
	id[8], id[13], id[18], id[23] = '-', '-', '-', '-'
	return view(id)
}

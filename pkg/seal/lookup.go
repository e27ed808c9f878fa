package seal

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// LookupBytes is the size of what Lookup.Sum returns: half of an HMAC-SHA-256, of which two meet by chance among 2^64.
const LookupBytes = 16

// Lookup turns texts into keyed hashes, by which a row is found whose text is sealed. Its methods may be called from many goroutines.
type Lookup struct {
	pool sync.Pool
}

type lookupHash struct {
	mac  hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

// NewLookupKey returns a random key for NewLookup, to be kept sealed.
func NewLookupKey() []byte {
	key := make([]byte, KeyBytes)
	rand.Read(key)
	return key
}

// NewLookup returns a lookup with a key from NewLookupKey.
func NewLookup(key []byte) *Lookup {
	key = derive(key, nil, "lookup")
	return &Lookup{pool: sync.Pool{New: func() any { return &lookupHash{mac: hmac.New(sha256.New, key)} }}}
}

// Sum is the keyed hash of the parts, of which the first says what they are. Parts are told apart: ("a", "bc") and ("ab", "c") differ. It is the caller's own.
func (l *Lookup) Sum(parts ...string) []byte {
	h := l.pool.Get().(*lookupHash)
	defer l.pool.Put(h)
	h.mac.Reset()
	h.text = h.text[:0]
	for _, p := range parts {
		h.text = binary.AppendUvarint(h.text, uint64(len(p)))
		h.text = append(h.text, p...)
	}
	h.mac.Write(h.text)
	return append([]byte(nil), h.mac.Sum(h.sum[:0])[:LookupBytes]...)
}

package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// KeyBytes is the size of a key.
const KeyBytes = 32

// KeyID names a key without telling anything of it: a part of a hash. It stands in everything that the key has sealed.
type KeyID [4]byte

// String is the id as people are shown it: 8 hex digits.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// Head is what everything that a key has sealed begins with.
func (id KeyID) Head() []byte { return append([]byte{version}, id[:]...) }

// ParseKeyID is the inverse of String.
func ParseKeyID(text string) (id KeyID, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%.20q is no id of a key", text)
	}
	return KeyID(b), nil
}

// Key is what data is encrypted with. It prints as its id.
type Key struct {
	id     KeyID
	secret []byte
}

// ID names the key.
func (k Key) ID() KeyID { return k.id }

// Format keeps the key out of every verb of fmt.
func (k Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "key "+k.id.String()) }

// LogValue keeps the key out of slog.
func (k Key) LogValue() slog.Value { return slog.StringValue("key " + k.id.String()) }

// MarshalText keeps the key out of JSON.
func (k Key) MarshalText() ([]byte, error) { return []byte("key " + k.id.String()), nil }

var errKey = errors.New("must be 32 bytes as base64 or as 64 hex digits: router keygen prints a new one")

// ParseKey reads a key: 32 bytes as base64, of either alphabet, or as hex. No error has anything of text in it.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	secret, err := hex.DecodeString(text)
	if err != nil || len(secret) != KeyBytes {
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		if secret, err = base64.RawStdEncoding.DecodeString(plain); err != nil || len(secret) != KeyBytes {
			return Key{}, errKey
		}
	}
	if bytes.Count(secret, secret[:1]) == KeyBytes {
		return Key{}, errors.New("is one byte 32 times, which is no key: router keygen prints a new one")
	}
	id := derive(secret, nil, "id")
	return Key{id: KeyID(id), secret: secret}, nil
}

// NewKey returns a new random key as ParseKey reads it.
func NewKey() string {
	secret := make([]byte, KeyBytes)
	rand.Read(secret)
	return base64.StdEncoding.EncodeToString(secret)
}

// derive makes a key of its own for one purpose.
func derive(secret, salt []byte, purpose string) []byte {
	key, err := hkdf.Key(sha256.New, secret, salt, "eventrouter "+purpose, KeyBytes)
	if err != nil {
		panic("BUG: hkdf: " + err.Error()) // only of sizes, which are constant
	}
	return key
}

// Ring is the keys of a configuration: one that seals, or none, and all those that open. A nil Ring has no keys. It does not change.
type Ring struct {
	keys  []Key
	seals bool // the first one does
}

// NewRing returns a ring of which all keys open and the first one seals; with seals false none does, which is how encryption is turned off again.
// No keys give a nil Ring. A key that stands there twice is one.
func NewRing(seals bool, keys ...Key) (*Ring, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	r := &Ring{seals: seals}
	for _, k := range keys {
		old, had := r.key(k.id)
		switch {
		case !had:
			r.keys = append(r.keys, k)
		case !bytes.Equal(old.secret, k.secret):
			return nil, fmt.Errorf("two keys have the same id, %s: make another one with router keygen", k.id)
		}
	}
	return r, nil
}

// Sealing returns the key that seals; false when none does.
func (r *Ring) Sealing() (KeyID, bool) {
	if r == nil || !r.seals {
		return KeyID{}, false
	}
	return r.keys[0].id, true
}

// Has says whether the ring has a key, and so can open what it has sealed.
func (r *Ring) Has(id KeyID) bool {
	_, ok := r.key(id)
	return ok
}

// IDs are the ids of all keys, the one that seals first if one does.
func (r *Ring) IDs() []KeyID {
	if r == nil {
		return nil
	}
	ids := make([]KeyID, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return ids
}

func (r *Ring) key(id KeyID) (Key, bool) {
	if r == nil {
		return Key{}, false
	}
	for _, k := range r.keys {
		if k.id == id {
			return k, true
		}
	}
	return Key{}, false
}

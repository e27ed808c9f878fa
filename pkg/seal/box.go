// Package seal encrypts what is kept on disk, and tells whether it was changed.
//
//	Ring (keys of the configuration) ─▶ Box (one purpose: log, store) ─▶ Seal, Open (one record, row, file)
//
//	sealed: version 1 | key id 4 | salt 16 | nonce 12 | ciphertext | tag 16
//
// It is AES-256-GCM of the standard library. A key may seal no more than 2^32 texts under random nonces of 96 bits before two of the same become likely enough to
// matter (NIST SP 800-38D, 8.3), and a router that takes 60,000 events a second gets there in a day. So the configured key seals nothing itself: each Box
// derives a key of its own with HKDF from that one and a random salt of 128 bits, and takes another salt after 2^31 texts. Nonces are random and not
// counted: a virtual machine that is restored from a snapshot would count on from where it was, and use nonces a second time.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

const (
	version   = 1
	saltBytes = 16
	headBytes = 1 + len(KeyID{}) + saltBytes
	bodyAt    = headBytes + 12 // behind the nonce

	// Overhead is how many bytes more a sealed text has.
	Overhead = bodyAt + 16

	sessionTexts = 1 << 31
	maxSessions  = 256 // that a Box remembers for opening; there is one for each start of a process whose data is still there
)

// Errors of Open, to be tested with errors.Is.
var (
	ErrKey    = errors.New("sealed with a key that is not there") // it names the key by its id
	ErrSealed = errors.New("can not be opened")                   // cut, changed, or not what it is taken for
)

// Name says what is sealed. It must be given again to open it, so that one record can not stand for another.
type Name struct {
	Kind byte      // what sort of thing
	IDs  [3]uint64 // which one
	Text string    // likewise
}

func (n *Name) appendTo(dst []byte) []byte {
	dst = append(dst, n.Kind)
	for _, id := range n.IDs {
		dst = binary.LittleEndian.AppendUint64(dst, id)
	}
	return append(dst, n.Text...)
}

// Box seals and opens for one purpose. Its methods may be called from many goroutines. Those of a nil Box know no keys.
type Box struct {
	ring    *Ring
	purpose string
	now     atomic.Pointer[session] // that seals; nil: none does

	mu       sync.RWMutex
	sessions map[[headBytes]byte]*session // of what was opened lately
}

// session is a derived key.
type session struct {
	head [headBytes]byte
	aead cipher.AEAD
	left atomic.Int64 // texts that it may still seal
}

// Box returns a new box for a purpose, a word: what one purpose sealed no other opens. It is nil when the ring has no keys.
func (r *Ring) Box(purpose string) *Box {
	if r == nil {
		return nil
	}
	b := &Box{ring: r, purpose: purpose, sessions: map[[headBytes]byte]*session{}}
	if r.seals {
		b.now.Store(b.newSession())
	}
	return b
}

// Seals says whether there is a key to seal with.
func (b *Box) Seals() bool { return b != nil && b.now.Load() != nil }

// Sealing returns the id of the key that seals; false when none does.
func (b *Box) Sealing() (KeyID, bool) {
	if b == nil {
		return KeyID{}, false
	}
	return b.ring.Sealing()
}

// Has says whether the box can open what a key has sealed.
func (b *Box) Has(id KeyID) bool { return b != nil && b.ring.Has(id) }

// names are reused: what a cipher behind an interface is given would else be allocated each time.
var names = sync.Pool{New: func() any { b := make([]byte, 0, 128); return &b }}

// Seal appends plain to dst, sealed. It must be called only when Seals is true. A steady state allocates nothing when dst has Overhead more bytes of room than plain;
// dst and plain must not overlap.
func (b *Box) Seal(dst, plain []byte, name Name) []byte {
	s := b.now.Load()
	if s.left.Add(-1) < 0 {
		s = b.renew(s)
	}
	ad := names.Get().(*[]byte)
	*ad = name.appendTo((*ad)[:0])
	dst = append(dst, s.head[:]...)
	at := len(dst)
	dst = append(dst, make([]byte, bodyAt-headBytes)...)
	rand.Read(dst[at:])
	dst = s.aead.Seal(dst, dst[at:], plain, *ad)
	names.Put(ad)
	return dst
}

// Open appends to dst what was sealed under name. dst may be sealed[:0], and then what is returned stands within sealed. Errors wrap ErrKey or ErrSealed; the bytes of sealed that dst overlaps are lost then.
func (b *Box) Open(dst, sealed []byte, name Name) ([]byte, error) {
	id, err := ID(sealed)
	if err != nil {
		return nil, err
	}
	s := b.session([headBytes]byte(sealed[:headBytes]))
	if s == nil {
		return nil, MissingKey(id)
	}
	if len(dst) == 0 && cap(dst) > 0 && &dst[:1][0] == &sealed[0] {
		dst = sealed[bodyAt:bodyAt] // where the ciphertext stands: a cipher takes no other overlap
	}
	ad := names.Get().(*[]byte)
	*ad = name.appendTo((*ad)[:0])
	plain, err := s.aead.Open(dst, sealed[headBytes:bodyAt], sealed[bodyAt:], *ad)
	names.Put(ad)
	if err != nil {
		return nil, fmt.Errorf("%w with key %s: it was changed, or is not what it is taken for", ErrSealed, id)
	}
	return plain, nil
}

// MissingKey is the error that says that a key is missing, and what to do about it.
func MissingKey(id KeyID) error {
	return fmt.Errorf("%w: key %s; add it to server.encryption.old_keys, or take back the configuration that has it", ErrKey, id)
}

// ID says which key has sealed a text.
func ID(sealed []byte) (id KeyID, err error) {
	if len(sealed) < Overhead || sealed[0] != version {
		return id, fmt.Errorf("%w: it is not sealed", ErrSealed)
	}
	return KeyID(sealed[1:]), nil
}

func (b *Box) newSession() *session {
	var head [headBytes]byte
	head[0] = version
	copy(head[1:], b.ring.keys[0].id[:])
	rand.Read(head[headBytes-saltBytes:])
	s := b.derive(b.ring.keys[0], head)
	s.left.Store(sessionTexts)
	return s
}

func (b *Box) derive(key Key, head [headBytes]byte) *session {
	block, err := aes.NewCipher(derive(key.secret, head[headBytes-saltBytes:], "seal "+b.purpose))
	if err != nil {
		panic("BUG: aes: " + err.Error())
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: gcm: " + err.Error())
	}
	return &session{head: head, aead: aead}
}

// renew puts another session in the place of one that is used up.
func (b *Box) renew(used *session) *session {
	fresh := b.newSession()
	fresh.left.Add(-1)
	if b.now.CompareAndSwap(used, fresh) {
		return fresh
	}
	// Another goroutine was first; this one's is as good, if only for this text.
	return fresh
}

// session finds the session that has sealed under head; nil when its key is not there.
func (b *Box) session(head [headBytes]byte) *session {
	if b == nil {
		return nil
	}
	if s := b.now.Load(); s != nil && s.head == head {
		return s
	}
	b.mu.RLock()
	s := b.sessions[head]
	b.mu.RUnlock()
	if s != nil {
		return s
	}
	key, ok := b.ring.key(KeyID(head[1:]))
	if !ok {
		return nil
	}
	s = b.derive(key, head)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.sessions) >= maxSessions {
		clear(b.sessions)
	}
	b.sessions[head] = s
	return s
}

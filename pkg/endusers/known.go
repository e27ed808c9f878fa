package endusers

import (
	"crypto/sha256"
	"sync"

	"github.com/golang-jwt/jwt/v5"
)

// maxKnown is how many tokens of a generation are remembered.
const maxKnown = 4096

// known remembers tokens that were good: a page sends the same one with each of its events, and to hash it takes a fiftieth of verifying its signature. Two generations, so that
// the older half goes at once and nothing has to be sorted.
type known struct {
	mu          sync.Mutex // guards the fields below
	now, before map[tokenID]entry
}

// tokenID is the SHA-256 of a token.
type tokenID [sha256.Size]byte

// entry is a token that is signed well, with claims that hold but for the time.
type entry struct {
	claims jwt.RegisteredClaims
	from   *keySet // the set of the URL whose key has signed it; nil: one of the file. It counts while that set does.
}

func newKnown() *known {
	return &known{now: map[tokenID]entry{}}
}

func (*known) id(token []byte) tokenID { return sha256.Sum256(token) }

func (k *known) find(id tokenID) (entry, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e, ok := k.now[id]
	if !ok {
		if e, ok = k.before[id]; ok {
			k.addLocked(id, e)
		}
	}
	return e, ok
}

func (k *known) add(id tokenID, e entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.addLocked(id, e)
}

func (k *known) addLocked(id tokenID, e entry) {
	if len(k.now) >= maxKnown {
		k.now, k.before = make(map[tokenID]entry, maxKnown), k.now
	}
	k.now[id] = e
}

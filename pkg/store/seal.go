package store

import (
	"bytes"
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"eventrouter/pkg/seal"
)

// What is sealed, with a key among Options.Keys that seals:
//
//	what is only read    blocks, outcomes, caches, ...   a blob; its first byte or another column says so
//	texts                errors of retries, ...          a BLOB in a column of TEXT
//	what is looked up    ids, persons, keys of $kv       a keyed hash in its column, the true text in a sealed one beside it
//
// What operators ask for stays: destinations, lanes, reasons, numbers, times. The row that something belongs to is authenticated with it.

// ErrKey says that data is sealed with a key that is not among Options.Keys; it names the key.
var ErrKey = seal.ErrKey

// Kinds of seal.Name. One is never used for something else.
const (
	sealedBlock      = 'b' // id, lane, entries
	sealedOutcomes   = 'o' // id, count
	sealedMemories   = 'm' // id; heads
	sealedRetry      = 'r' // block, entry
	sealedKV         = 'k' // destination, hash of the key
	sealedIdentity   = 'i' // API key, kind, hash of the value
	sealedHold       = 'h' // lane; hash of the key
	sealedLetter     = 'd' // offset, output, time; destination and part
	sealedProblem    = 'p' // letter
	sealedExport     = 'e' // id; column
	sealedCache      = 'c' // key
	sealedConnection = 'a' // app, account, hub
	sealedConnecting = 'g' // id
	sealedForgot     = 'f' // hash
	sealedHashKey    = 's' //
	sealedLookup     = 'l' //
)

func blockName(id BlockID, lane LaneID, entries int) seal.Name {
	return seal.Name{Kind: sealedBlock, IDs: [3]uint64{uint64(id), uint64(lane), uint64(entries)}}
}

func outcomesName(id int64, count int) seal.Name {
	return seal.Name{Kind: sealedOutcomes, IDs: [3]uint64{uint64(id), uint64(count)}}
}

func memoriesName(row *memoryRow) seal.Name {
	return seal.Name{Kind: sealedMemories, IDs: [3]uint64{uint64(row.id)}, Text: string(row.heads)}
}

func retryName(block BlockID, entry int64) seal.Name {
	return seal.Name{Kind: sealedRetry, IDs: [3]uint64{uint64(block), uint64(entry)}}
}

func kvName(destination string, hash []byte) seal.Name {
	return seal.Name{Kind: sealedKV, Text: string(hash) + destination}
}

func identityName(apiKey, kind string, hash []byte) seal.Name {
	return seal.Name{Kind: sealedIdentity, Text: string(hash) + apiKey + "\x00" + kind}
}

func holdName(lane LaneID, hash []byte) seal.Name {
	return seal.Name{Kind: sealedHold, IDs: [3]uint64{uint64(lane)}, Text: string(hash)}
}

func problemName(letter int64) seal.Name {
	return seal.Name{Kind: sealedProblem, IDs: [3]uint64{uint64(letter)}}
}

func exportName(id int64, column string) seal.Name {
	return seal.Name{Kind: sealedExport, IDs: [3]uint64{uint64(id)}, Text: column}
}

func forgottenName(hash []byte) seal.Name {
	return seal.Name{Kind: sealedForgot, Text: string(hash)}
}

func cacheName(key string) seal.Name { return seal.Name{Kind: sealedCache, Text: key} }

// sealBlob returns blob as it is stored. What it returns is valid until the next call on the connection.
func (c *conn) sealBlob(blob []byte, name seal.Name) []byte {
	if !c.box.Seals() {
		return blob
	}
	c.sealed = c.box.Seal(append(slices.Grow(c.sealed[:0], 1+len(blob)+seal.Overhead), codecSealed), blob, name)
	return c.sealed
}

// openBlob is the inverse of sealBlob.
func (c *conn) openBlob(stored []byte, name seal.Name) ([]byte, error) {
	if len(stored) == 0 || stored[0] != codecSealed {
		return stored, nil
	}
	return c.box.Open(nil, stored[1:], name)
}

// sealTexts returns texts as a column holds them that nobody looks up: sealed, as a BLOB, or as it is, where it is one and there is no key that seals.
func (c *conn) sealTexts(name seal.Name, texts ...string) any {
	if !c.box.Seals() {
		return texts[0]
	}
	return c.box.Seal(nil, appendParts(nil, texts), name)
}

// openTexts is the inverse of sealTexts: n texts, the first one alone where they are not sealed.
func (c *conn) openTexts(v driver.Value, name seal.Name, n int) ([]string, error) {
	texts := make([]string, n)
	stored, sealed := v.([]byte)
	if !sealed {
		texts[0] = toString(v)
		return texts, nil
	}
	data, err := c.box.Open(nil, stored, name)
	for i := range texts {
		if err != nil {
			return nil, err
		}
		texts[i], data, err = cutPart(data)
	}
	return texts, err
}

// openNote is openTexts of one that nothing depends on.
func (c *conn) openNote(v driver.Value, name seal.Name) string {
	texts, err := c.openTexts(v, name, 1)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return texts[0]
}

// cutPart is the inverse of appendParts for the first part.
func cutPart(data []byte) (part string, rest []byte, err error) {
	size, n := binary.Uvarint(data)
	if n <= 0 || size > uint64(len(data)-n) {
		return "", nil, fmt.Errorf("%w: texts are cut", ErrDamaged)
	}
	data = data[n:]
	return string(data[:size]), data[size:], nil
}

// hashed returns what a column holds by which a row is looked up: a keyed hash where data is sealed, else the text, the last of parts. The others say what it is.
func (c *conn) hashed(parts ...string) any { return hashed(c.lookup, parts...) }

func hashed(l *seal.Lookup, parts ...string) any {
	if l == nil {
		return parts[len(parts)-1]
	}
	return l.Sum(parts...)
}

// hashedUnlessEmpty is hashed for what a row may be without.
func (c *conn) hashedUnlessEmpty(kind, text string) any {
	if text == "" {
		return ""
	}
	return c.hashed(kind, text)
}

// KeysLeft are the ids of the keys with which something in the store may be sealed; the zero id stands for what is plain. Once it is only one, the others are not needed
// any more.
func (s *Store) KeysLeft() []seal.KeyID {
	if s.readOnly {
		var keys []seal.KeyID
		_ = s.read(func(c *conn) error {
			st, err := c.sealState()
			keys = st.keys
			return err
		})
		return keys
	}
	return *s.keysLeft.Load()
}

// isAsWanted says whether what begins with head, sealed or not, is as the keys say now.
func (c *conn) isAsWanted(sealed bool, head []byte) bool {
	want, seals := c.box.Sealing()
	if !sealed || !seals {
		return sealed == seals
	}
	return bytes.HasPrefix(head, want.Head())
}

// unopened is the error of a row that can not be opened: ErrKey stays what it is, for the row is sound.
func unopened(err error) error {
	if errors.Is(err, ErrKey) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

package store

import (
	"encoding/binary"

	"github.com/dchest/siphash"
)

// Hash is the keyed hash (SipHash-2-4) that Seen, Known and their like take. The key is random, secret and kept in the store,
// so that nobody outside can make two ids meet. Parts are told apart: ("a", "bc") and ("ab", "c") differ.
func (s *Store) Hash(parts ...string) uint64 {
	size := 0
	for _, p := range parts {
		size += binary.MaxVarintLen64 + len(p)
	}
	var stack [512]byte
	if size <= len(stack) {
		return siphash.Hash(s.k0, s.k1, appendParts(stack[:0], parts))
	}
	buf := blobs.Get().(*[]byte)
	defer blobs.Put(buf)
	*buf = appendParts((*buf)[:0], parts)
	return siphash.Hash(s.k0, s.k1, *buf)
}

func appendParts(dst []byte, parts []string) []byte {
	for _, p := range parts {
		dst = binary.AppendUvarint(dst, uint64(len(p)))
		dst = append(dst, p...)
	}
	return dst
}

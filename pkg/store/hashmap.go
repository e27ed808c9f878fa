package store

import (
	"math/bits"
	"sync"
	"unsafe"
)

// hashMap maps 8-byte hashes to a tag. It is a flat table with linear probing, filled to between 0.71 and 0.8. With tags of one byte that is
// 11 to 13 bytes a hash, where a Go map takes 20 to 40; with tags of 8 bytes 20 to 23. It grows in small steps: a hash is moved nine times on average, which
// is little beside the event that brought it, and with a backlog these tables are most of what the process holds.
//
// It is split by the hashes' upper bits, so that growing stops the writer for a 64th of the set only; the slot rises with
// the hash, so growing reads and writes memory in order.
type hashMap[T any] struct {
	mu     sync.RWMutex // guards the fields below
	shards [64]hashShard[T]
	n      int
}

type hashShard[T any] struct {
	keys []uint64 // 0: empty
	tags []T
	n    int
}

// hashKey makes 0 free to mean empty.
func hashKey(h uint64) uint64 {
	if h == 0 {
		return 0x9e3779b97f4a7c15
	}
	return h
}

// find returns the slot of k, or the empty slot where it belongs.
func (s *hashShard[T]) find(k uint64) (slot int, found bool) {
	hi, _ := bits.Mul64(k<<6, uint64(len(s.keys)))
	for i := int(hi); ; {
		switch s.keys[i] {
		case k:
			return i, true
		case 0:
			return i, false
		}
		if i++; i == len(s.keys) {
			i = 0
		}
	}
}

// getLocked returns the tag of h.
func (s *hashMap[T]) getLocked(h uint64) (tag T, ok bool) {
	k := hashKey(h)
	sh := &s.shards[k>>58]
	if sh.n == 0 {
		return tag, false
	}
	slot, found := sh.find(k)
	if !found {
		return tag, false
	}
	return sh.tags[slot], true
}

// putLocked sets the tag of h and returns the one that it had.
func (s *hashMap[T]) putLocked(h uint64, tag T) (old T, had bool) {
	k := hashKey(h)
	shard := k >> 58
	sh := &s.shards[shard]
	if 5*(sh.n+1) > 4*len(sh.keys) {
		// The first size differs from shard to shard, so that they grow one after the other.
		sh.resize(max(64+int(shard)*8/64, len(sh.keys)*9/8), nil)
	}
	slot, found := sh.find(k)
	if found {
		old, sh.tags[slot] = sh.tags[slot], tag
		return old, true
	}
	sh.keys[slot], sh.tags[slot] = k, tag
	sh.n++
	s.n++
	return old, false
}

// reserveLocked makes room for n hashes.
func (s *hashMap[T]) reserveLocked(n int) {
	for i := range s.shards {
		// Again of different sizes, see putLocked; a little more than a shard's share, for hashes are not spread evenly.
		size := n / len(s.shards) * 13 / 10
		if sh := &s.shards[i]; size > len(sh.keys) {
			sh.resize(size+size*i/512, nil)
		}
	}
}

// removeLocked removes h. What was put behind it for want of a place moves up.
func (s *hashMap[T]) removeLocked(h uint64) {
	k := hashKey(h)
	sh := &s.shards[k>>58]
	if sh.n == 0 {
		return
	}
	hole, found := sh.find(k)
	if !found {
		return
	}
	size := len(sh.keys)
	for i := hole; ; {
		if i++; i == size {
			i = 0
		}
		if sh.keys[i] == 0 {
			break
		}
		hi, _ := bits.Mul64(sh.keys[i]<<6, uint64(size))
		// It may move to the hole if it wants a place no later than that, going round.
		if (i-int(hi)+size)%size >= (i-hole+size)%size {
			sh.keys[hole], sh.tags[hole] = sh.keys[i], sh.tags[i]
			hole = i
		}
	}
	var none T
	sh.keys[hole], sh.tags[hole] = 0, none
	sh.n--
	s.n--
}

// eachLocked calls f with every hash.
func (s *hashMap[T]) eachLocked(f func(h uint64, tag T)) {
	for i := range s.shards {
		for j, k := range s.shards[i].keys {
			if k != 0 {
				f(k, s.shards[i].tags[j])
			}
		}
	}
}

// drop removes all hashes whose tag is in gone, shard by shard: look-ups go on meanwhile.
func (s *hashMap[T]) drop(gone func(tag T) bool) {
	for i := range s.shards {
		s.mu.Lock()
		sh := &s.shards[i]
		left := 0
		for j, k := range sh.keys {
			if k != 0 && !gone(sh.tags[j]) {
				left++
			}
		}
		if left < sh.n {
			s.n -= sh.n - left
			sh.resize(max(64+i*8/64, left*4/3), gone)
		}
		s.mu.Unlock()
	}
}

// resize moves the hashes whose tag is not gone to a table of size slots.
func (s *hashShard[T]) resize(size int, gone func(tag T) bool) {
	old := *s
	*s = hashShard[T]{keys: make([]uint64, size), tags: make([]T, size)}
	for i, k := range old.keys {
		if k == 0 || gone != nil && gone(old.tags[i]) {
			continue
		}
		slot, _ := s.find(k)
		s.keys[slot], s.tags[slot] = k, old.tags[i]
		s.n++
	}
}

func (s *hashMap[T]) len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.n
}

// bytes is the memory that the tables take.
func (s *hashMap[T]) bytes() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	slots := 0
	for i := range s.shards {
		slots += len(s.shards[i].keys)
	}
	var tag T
	return int64(slots) * (8 + int64(unsafe.Sizeof(tag)))
}

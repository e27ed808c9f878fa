package store

import (
	"database/sql/driver"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"sync/atomic"
)

// Rows in plain have checksums (CRC-32C), so that a byte that the disk has changed is told, and nothing is sent to a person, or taken for known, because of it. What is sealed is
// authenticated anyhow, and has none: it would tell something of the text.

func partsSum(parts ...string) int64 {
	return int64(crc32.Checksum(appendParts(nil, parts), castagnoli))
}

// sumDiffers says whether a row has a checksum, and another one than want.
func sumDiffers(stored driver.Value, want int64) bool {
	n, ok := stored.(int64)
	return ok && n >= 0 && n != want
}

var errSum = fmt.Errorf("%w: checksum does not match", ErrDamaged)

func identitySum(id *Identity) int64 {
	return partsSum(id.APIKey, id.Kind, id.Value, id.Email, strconv.FormatBool(id.Server))
}

func kvSum(destination, key, value string, expires int64) int64 {
	return partsSum(destination, key, value, strconv.FormatInt(expires, 10))
}

func holdSum(h *Hold) int64 {
	return partsSum(strconv.FormatInt(int64(h.Lane), 10), h.Key, strconv.FormatInt(toMillis(h.Until), 10))
}

func cacheSum(key string, at int64, value []byte) int64 {
	return partsSum(key, strconv.FormatInt(at, 10), string(value))
}

// letterPlaceSum is that of where a dead letter belongs, and how it got there. It covers nothing that is sealed where other texts are.
func letterPlaceSum(d *DeadLetter) int64 {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	return partsSum(d.Destination, d.Hub, d.Account, d.Lane, number(int64(d.Offset)), number(int64(d.Index)), d.APIKey,
		number(toMillis(d.Received)), number(toMillis(d.At)), d.Reason, number(int64(d.Outputs)), number(int64(d.Replays)))
}

// hashesSum is that of a row of a window.
func hashesSum(id, bucket, began int64, mark int, hashes []byte) int64 {
	var head [32]byte
	for i, n := range [...]int64{id, bucket, began, int64(mark)} {
		binary.LittleEndian.PutUint64(head[8*i:], uint64(n))
	}
	return int64(crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, hashes))
}

// Tables of which damaged rows are counted.
const (
	damagedSeen = iota
	damagedKnown
	damagedIdentities
	damagedKV
	damagedHolds
	damagedCalls
	damagedCache
	damagedMemories
	damagedOutcomes
	damagedLetters
	damagedTables
)

var damagedNames = [damagedTables]string{"seen", "known", "identities", "kv", "holds", "calls", "cache", "memories", "outcomes", "dead_letters"}

// damagedRows counts how often a damaged row was met, by table.
type damagedRows [damagedTables]atomic.Int64

// loudDamage is how many damaged rows of a table the log tells one by one; of the others each thousandth.
const loudDamage = 20

// tellDamaged counts a damaged row, and has the log tell of it. err must not say what stands in the row.
func (s *Store) tellDamaged(table int, err error) {
	if n := s.stats.damaged[table].Add(1); n <= loudDamage || n%1000 == 0 {
		s.opts.Logger.Error("a row of the store is damaged, and is as one that is not there", "store", s.path, "table", damagedNames[table], "times", n, "error", err.Error())
	}
}

func (s *Store) teller(table int) func(error) {
	return func(err error) { s.tellDamaged(table, err) }
}

// isDamage says whether a row could not be read because it is damaged. Of the keys a store that is written to has all: one that is missing was never there.
func (s *Store) isDamage(err error) bool {
	return errors.Is(err, ErrDamaged) || !s.readOnly && errors.Is(err, ErrKey)
}

// DamagedRows is how often rows were met since Open that can not be read, by table; those of none are 0.
func (s *Store) DamagedRows() map[string]int64 {
	all := make(map[string]int64, damagedTables)
	for i, name := range damagedNames {
		all[name] = s.stats.damaged[i].Load()
	}
	return all
}

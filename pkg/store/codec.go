package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// The first byte of a block's data says how the rest is stored.
const (
	codecRaw    = 0
	codecS2     = 1
	codecSealed = 2 // see conn.sealBlob
)

var blobs = sync.Pool{New: func() any { return new([]byte) }}

// appendBlock appends data as it is stored: compressed where that is smaller and wanted.
func appendBlock(dst, data []byte, uncompressed bool) []byte {
	start := len(dst)
	if size := s2.MaxEncodedLen(len(data)); !uncompressed && size > 0 {
		dst = append(dst, codecS2)
		dst = append(dst, make([]byte, size)...)
		if packed := s2.Encode(dst[start+1:], data); len(packed) < len(data) {
			return dst[:start+1+len(packed)]
		}
	}
	dst = append(dst[:start], codecRaw)
	return append(dst, data...)
}

// openBlock returns the data of a stored block, size bytes. It never keeps blob, but may return a part of it.
func openBlock(blob []byte, size int) ([]byte, error) {
	if len(blob) == 0 {
		return nil, errors.New("no data")
	}
	switch body := blob[1:]; blob[0] {
	case codecRaw:
		if len(body) != size {
			return nil, fmt.Errorf("%d bytes instead of %d", len(body), size)
		}
		return body, nil
	case codecS2:
		if n, err := s2.DecodedLen(body); err != nil || n != size {
			return nil, fmt.Errorf("%d bytes instead of %d", n, size)
		}
		return s2.Decode(nil, body)
	default:
		return nil, fmt.Errorf("codec %d", blob[0])
	}
}

// blockSum is the checksum of a stored block. It covers whose data it is, too.
func blockSum(id BlockID, lane LaneID, entries int, blob []byte) uint32 {
	var head [24]byte
	binary.LittleEndian.PutUint64(head[:], uint64(id))
	binary.LittleEndian.PutUint64(head[8:], uint64(lane))
	binary.LittleEndian.PutUint64(head[16:], uint64(entries))
	return crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, blob)
}

// letterSum is the checksum of a dead letter's records.
func letterSum(event, original []byte) uint32 {
	return crc32.Update(crc32.Checksum(event, castagnoli), castagnoli, original)
}

// formatRefs writes the entries of a call as an operator reads them: block:index,index;block:index
func formatRefs(refs []Ref) string {
	var b []byte
	for i, r := range refs {
		switch {
		case i > 0 && r.Block == refs[i-1].Block:
			b = append(b, ',')
		case i > 0:
			b = append(b, ';')
			fallthrough
		default:
			b = strconv.AppendInt(b, int64(r.Block), 10)
			b = append(b, ':')
		}
		b = strconv.AppendInt(b, int64(r.Index), 10)
	}
	return string(b)
}

// parseRefs is the inverse of formatRefs.
func parseRefs(s string) ([]Ref, error) {
	if s == "" {
		return nil, nil
	}
	var refs []Ref
	for part := range strings.SplitSeq(s, ";") {
		id, list, _ := strings.Cut(part, ":")
		block, err := strconv.ParseInt(id, 10, 64)
		if err != nil || block < 0 {
			return nil, fmt.Errorf("block %.20q", id)
		}
		for index := range strings.SplitSeq(list, ",") {
			i, err := strconv.ParseUint(index, 10, 31)
			if err != nil {
				return nil, fmt.Errorf("entry %.20q of block %d", index, block)
			}
			refs = append(refs, Ref{Block: BlockID(block), Index: int(i)})
		}
	}
	return refs, nil
}

// cut shortens s to at most n bytes, at a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}

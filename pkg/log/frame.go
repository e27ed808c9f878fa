package log

import (
	"encoding/binary"
	"hash/crc32"

	"eventrouter/pkg/seal"
)

// Everything behind a segment's header is frames:
//
//	magic 3 | kind 1 | length 4 | offset 8 | CRC-32C 4 | data
//
// little-endian; the checksum covers data, then the 16 bytes before it. The magic lets a reader find the next frame
// behind a damaged one; 0xFE is in no UTF-8 text, so that bodies do not look like frames.
const (
	frameHead = 20

	kindRecord = 'r' // data is the caller's
	kindSealed = 's' // data is the caller's, sealed
	kindGroup  = 'g' // data is groupData; the offset is that of its first record

	// groupData: durable end before the group 8 | bytes of its records with their frames 4 | count of its records 4
	groupData = 16
	groupHead = frameHead + groupData

	// MaxRecordBytes is the most that one record may hold.
	MaxRecordBytes = 64 << 20
)

var (
	frameMagic = [3]byte{0xFE, 0xC3, 0x5A}
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// frame is a frame that was read and found good.
type frame struct {
	kind   byte
	offset Offset
	data   []byte
}

func (f *frame) size() int64 { return frameHead + int64(len(f.data)) }

func (f *frame) isRecord() bool { return f.kind == kindRecord || f.kind == kindSealed }

// group reads the data of a kindGroup frame.
func (f *frame) group() (prev Offset, bytes int64, count uint32) {
	return Offset(binary.LittleEndian.Uint64(f.data)), int64(binary.LittleEndian.Uint32(f.data[8:])), binary.LittleEndian.Uint32(f.data[12:])
}

// putRecord writes a record's frame to the beginning of dst, which must have room, and returns its size.
func putRecord(dst []byte, kind byte, off Offset, data []byte) int {
	copy(dst[frameHead:], data)
	n := frameHead + len(data)
	putHead(dst[:n], kind, off)
	return n
}

// putSealed is putRecord for data that is to be sealed.
func putSealed(dst []byte, box *seal.Box, off Offset, data []byte) int {
	n := frameHead + len(data) + seal.Overhead
	box.Seal(dst[frameHead:frameHead:n], data, recordName(off))
	putHead(dst[:n], kindSealed, off)
	return n
}

// recordName binds a sealed record to its place.
func recordName(off Offset) seal.Name { return seal.Name{Kind: 'r', IDs: [3]uint64{uint64(off)}} }

// putGroup writes a group's frame to the beginning of buf, which holds the group's records behind it.
func putGroup(buf []byte, first, prev Offset, count int) {
	data := buf[frameHead:groupHead]
	binary.LittleEndian.PutUint64(data, uint64(prev))
	binary.LittleEndian.PutUint32(data[8:], uint32(len(buf)-groupHead))
	binary.LittleEndian.PutUint32(data[12:], uint32(count))
	putHead(buf[:groupHead], kindGroup, first)
}

// putHead writes the head of a frame whose data stands in its place already.
func putHead(b []byte, kind byte, off Offset) {
	copy(b, frameMagic[:])
	b[3] = kind
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-frameHead))
	binary.LittleEndian.PutUint64(b[8:], uint64(off))
	binary.LittleEndian.PutUint32(b[16:], frameSum(b))
}

func frameSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[frameHead:], castagnoli), castagnoli, b[:16])
}

// frameSize returns the size that the head of a frame claims; false if it is no head at all.
func frameSize(head []byte) (int64, bool) {
	if [3]byte(head[:3]) != frameMagic {
		return 0, false
	}
	n := int64(binary.LittleEndian.Uint32(head[4:]))
	switch head[3] {
	case kindRecord:
		return frameHead + n, n <= MaxRecordBytes
	case kindSealed:
		return frameHead + n, n >= int64(seal.Overhead) && n <= MaxRecordBytes+int64(seal.Overhead)
	case kindGroup:
		return groupHead, n == groupData
	}
	return 0, false
}

// parseFrame reads the frame that b is, after frameSize; false if its checksum is wrong. The data points into b.
func parseFrame(b []byte) (frame, bool) {
	if binary.LittleEndian.Uint32(b[16:]) != frameSum(b) {
		return frame{}, false
	}
	return frame{kind: b[3], offset: Offset(binary.LittleEndian.Uint64(b[8:])), data: b[frameHead:]}, true
}

package log

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"eventrouter/pkg/seal"
)

// A segment file begins with
//
//	magic 8 | version 4 | first offset 8 | durable end before it 8 | CRC-32C of these 4
//
// which is synced before any group follows. Later versions keep this layout and may change what is behind it.
const (
	headerBytes   = 32
	plainVersion  = 1 // no record is sealed
	formatVersion = 2 // some may be
	segmentSuffix = ".log"
	nameDigits    = 20 // of the greatest offset
)

var headerMagic = [8]byte{0xFE, 'e', 'v', 'l', 'o', 'g', '\r', '\n'}

// errHeader is a segment header that can not be read.
var errHeader = errors.New("segment header")

// segment is one file of the log.
type segment struct {
	path  string
	first Offset // no record of it is below; its name
	prev  Offset // end of the records in the segments before it

	sealed bool       // its records may be
	key    seal.KeyID // that has sealed its records; the zero id: none has

	size int64 // of its durable part; guarded by Log.mu once the log is open
}

func segmentPath(dir string, first Offset) string {
	return filepath.Join(dir, fmt.Sprintf("%0*d%s", nameDigits, uint64(first), segmentSuffix))
}

func segmentName(name string) (Offset, bool) {
	digits, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok || len(digits) != nameDigits {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return Offset(n), err == nil
}

// listSegments returns the segments in dir by rising offset, sizes as the files have them, headers not read yet.
func listSegments(dir string) ([]*segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var segments []*segment
	for _, e := range entries {
		first, ok := segmentName(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		segments = append(segments, &segment{path: filepath.Join(dir, e.Name()), first: first, size: info.Size()})
	}
	slices.SortFunc(segments, func(a, b *segment) int { return cmp.Compare(a.first, b.first) })
	return segments, nil
}

func (s *segment) header() []byte {
	b := make([]byte, headerBytes)
	copy(b, headerMagic[:])
	version := uint32(plainVersion)
	if s.sealed {
		version = formatVersion
	}
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint64(b[12:], uint64(s.first))
	binary.LittleEndian.PutUint64(b[20:], uint64(s.prev))
	binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
	return b
}

// readHeader takes prev from the file's header. An error wraps errHeader if it is damaged, ErrFormat if it is of a
// newer version.
func (s *segment) readHeader() error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [headerBytes]byte
	if _, err := f.ReadAt(b[:], 0); err == io.EOF {
		return fmt.Errorf("%w is cut short", errHeader)
	} else if err != nil {
		return err
	}
	return s.parseHeader(b)
}

func (s *segment) parseHeader(b [headerBytes]byte) error {
	if [8]byte(b[:8]) != headerMagic || binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli) {
		return fmt.Errorf("%w has a wrong checksum", errHeader)
	}
	v := binary.LittleEndian.Uint32(b[8:])
	if v < plainVersion || v > formatVersion {
		return fmt.Errorf("%w: %s has version %d, this program reads up to %d", ErrFormat, s.path, v, formatVersion)
	}
	first, prev := Offset(binary.LittleEndian.Uint64(b[12:])), Offset(binary.LittleEndian.Uint64(b[20:]))
	if first != s.first || prev > first {
		return fmt.Errorf("%w does not go with the file name", errHeader)
	}
	s.prev, s.sealed = prev, v == formatVersion
	return nil
}

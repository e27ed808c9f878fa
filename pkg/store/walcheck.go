package store

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"
)

// SQLite reads its write-ahead log up to the first frame whose checksum is wrong: that is where a crash has torn the last transaction. It can not tell a
// torn end from damage in the middle. But a transaction is synced before the next one begins, so what was torn is the last: where two more end behind a
// bad frame, it is damage.
//
//	log ─▶ header 32 | frame ─▶ page number 4, size of the database after a commit 4 (else 0), salts 8, checksums 8, page

const (
	walHeader      = 32
	walFrameHeader = 24
	walMagic       = 0x377f0682 // the lowest bit: checksums of big-endian words
)

// walDamage is what is wrong with a write-ahead log.
type walDamage struct {
	frame   int // that can not be read
	commits int // of transactions behind it, which are lost with it
}

// checkWAL reads the write-ahead log that an earlier process left, if there is one. Anything but damage is left to SQLite.
func checkWAL(path string) (*walDamage, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	var head [walHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, endOfFile(err)
	}
	magic := binary.BigEndian.Uint32(head[:])
	if magic&^1 != walMagic || binary.BigEndian.Uint32(head[8:]) != pageSize {
		return nil, nil
	}
	order := binary.ByteOrder(binary.LittleEndian)
	if magic&1 == 1 {
		order = binary.BigEndian
	}
	sum := walSum(order, [2]uint32{}, head[:24])
	if sum != [2]uint32{binary.BigEndian.Uint32(head[24:]), binary.BigEndian.Uint32(head[28:])} {
		return nil, nil // it was being begun
	}
	var damage *walDamage
	frame := make([]byte, walFrameHeader+pageSize)
	for n := 1; ; n++ {
		if _, err := io.ReadFull(r, frame); err != nil {
			if damage != nil && damage.commits < 2 {
				damage = nil
			}
			return damage, endOfFile(err)
		}
		current := [8]byte(frame[8:16]) == [8]byte(head[16:24]) // else it is of an earlier round, when the log began anew
		commits := binary.BigEndian.Uint32(frame[4:]) != 0
		if damage != nil {
			if current && commits {
				damage.commits++
			}
			continue
		}
		sum = walSum(order, walSum(order, sum, frame[:8]), frame[walFrameHeader:])
		if !current || sum != [2]uint32{binary.BigEndian.Uint32(frame[16:]), binary.BigEndian.Uint32(frame[20:])} {
			damage = &walDamage{frame: n} // what it says of itself does not count
		}
	}
}

func endOfFile(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// walSum goes on with SQLite's checksum.
func walSum(order binary.ByteOrder, s [2]uint32, b []byte) [2]uint32 {
	for ; len(b) >= 8; b = b[8:] {
		s[0] += order.Uint32(b) + s[1]
		s[1] += order.Uint32(b[4:]) + s[0]
	}
	return s
}

// reportWAL looks for damage in the write-ahead log before SQLite drops what is behind it, keeps the file aside and says so. Opening goes on: what
// the database file does not hold is still in the ingest log.
func (s *Store) reportWAL() {
	path := s.path + "-wal"
	damage, err := checkWAL(path)
	if err != nil {
		s.opts.Logger.Warn("the store's write-ahead log can not be read to look for damage", "path", path, "error", err.Error())
		return
	}
	if damage == nil {
		return
	}
	kept, err := s.keepWAL(path)
	if err != nil {
		s.opts.Logger.Error("the damaged write-ahead log can not be kept aside", "path", path, "error", err.Error())
	}
	s.stats.walDamaged.Add(1)
	s.opts.Logger.Error("the store's write-ahead log is damaged: what was committed behind the damage is not used, and is done again: events may be delivered a second time",
		"path", path, "frame", damage.frame, "commits", damage.commits, "kept_aside", kept)
}

// keepWAL copies the write-ahead log.
func (s *Store) keepWAL(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return s.keepAside("wal-"+time.Now().UTC().Format("20060102T150405.000000000Z"), b)
}

func (s *Store) damagedDir() string { return filepath.Join(filepath.Dir(s.path), damagedDir) }

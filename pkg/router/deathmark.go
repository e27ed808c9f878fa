package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"syscall"
)

// maxDeaths is how often the process may die with one record alone in hand before that record is a dead letter.
const maxDeaths = 3

// deathMark names in a file the records that the sorter has in hand. The file is not synced: it outlives the process, which is what
// it is about, not the machine.
type deathMark struct {
	path string
	at   int64 // in the file: each log has a mark of its own
	file *os.File
}

// span is a range of records [from, to) and how often the process died with just these in hand.
type span struct {
	from, to uint64
	deaths   int
}

const markBytes = 28

// open reads what an earlier process had in hand when it died; an empty span when it ended well.
func (m *deathMark) open() (span, error) {
	if m.path == "" {
		return span{}, nil
	}
	f, err := os.OpenFile(m.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return span{}, fmt.Errorf("open sorter mark: %w", err)
	}
	m.file = f
	var buf [markBytes]byte
	if _, err := f.ReadAt(buf[:], m.at); err != nil {
		if errors.Is(err, io.EOF) {
			return span{}, nil
		}
		return span{}, fmt.Errorf("read sorter mark: %w", err)
	}
	if crc32.ChecksumIEEE(buf[:24]) != binary.LittleEndian.Uint32(buf[24:]) {
		return span{}, nil
	}
	return span{
		from: binary.LittleEndian.Uint64(buf[0:]), to: binary.LittleEndian.Uint64(buf[8:]), deaths: int(binary.LittleEndian.Uint64(buf[16:])),
	}, nil
}

// begin says that [from, to) is in hand, and returns how often the process died with just this in hand before.
func (m *deathMark) begin(from, to uint64, suspects span) (deaths int, err error) {
	if m.file == nil {
		return 0, nil
	}
	if suspects.from == from && suspects.to == to && to == from+1 {
		deaths = suspects.deaths + 1
	}
	return deaths, m.write(span{from, to, deaths})
}

// end says that nothing is in hand.
func (m *deathMark) end() error {
	if m.file == nil {
		return nil
	}
	return m.write(span{})
}

func (m *deathMark) write(s span) error {
	var buf [markBytes]byte
	binary.LittleEndian.PutUint64(buf[0:], s.from)
	binary.LittleEndian.PutUint64(buf[8:], s.to)
	binary.LittleEndian.PutUint64(buf[16:], uint64(s.deaths))
	binary.LittleEndian.PutUint32(buf[24:], crc32.ChecksumIEEE(buf[:24]))
	// A disk that is full, or of which the store will say what is wrong, must not end the router here: without its mark, a record that kills the process is found later at worst.
	if _, err := m.file.WriteAt(buf[:], m.at); err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) && !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("write sorter mark: %w", err)
	}
	return nil
}

func (m *deathMark) close() {
	if m.file != nil {
		m.file.Close()
	}
}

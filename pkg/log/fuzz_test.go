package log

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzOpenSegment opens arbitrary bytes as a segment, with and without salvage. Whatever is read stands in the file with a good
// checksum, and by rising offsets.
func FuzzOpenSegment(f *testing.F) {
	file, starts, _ := threeGroups(f)
	f.Add(file)
	f.Add(file[:len(file)-5])
	f.Add(bytes.Join([][]byte{file[:starts[1]], []byte("garbage"), file[starts[1]:]}, nil))
	f.Add(bytes.Join([][]byte{file[:starts[1]], file[starts[2]:]}, nil))
	f.Add(append(bytes.Clone(file), make([]byte, 100)...))
	f.Add(file[:headerBytes])
	f.Add([]byte{})
	f.Add(bytes.Repeat(frameMagic[:], 50))
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, salvage := range []bool{false, true} {
			l, err := openOn(logOf(t, file), Options{Salvage: salvage}, unsynced{})
			if errors.Is(err, ErrDamaged) || errors.Is(err, ErrFormat) {
				if salvage && errors.Is(err, ErrDamaged) {
					t.Errorf("salvage: %v", err)
				}
				continue
			} else if err != nil {
				t.Fatal(err)
			}
			readChecked(t, l, file)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

func readChecked(t *testing.T, l *Log, file []byte) {
	if err := l.Append([]byte("new")); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t, l, 0)
	if err != nil || len(got) == 0 || got[len(got)-1].Data != "new" {
		t.Fatalf("read %v, %v; want the new record last", got, err)
	}
	end := Offset(0)
	for _, r := range got[:len(got)-1] {
		b := make([]byte, frameHead+len(r.Data))
		putRecord(b, kindRecord, r.Offset, []byte(r.Data))
		if !bytes.Contains(file, b) {
			t.Errorf("record %d %q is not in the file", r.Offset, r.Data)
		}
		if r.Offset < end {
			t.Errorf("record %d after %d", r.Offset, end-1)
		}
		end = r.Offset + 1
	}
}

// FuzzFrame takes bytes as a frame, and as the data of one.
func FuzzFrame(f *testing.F) {
	b := make([]byte, frameHead+3)
	putRecord(b, kindRecord, 7, []byte("abc"))
	f.Add(b, uint64(1))
	f.Add([]byte{}, uint64(0))
	f.Add(bytes.Repeat([]byte{0xFE, 0xC3, 0x5A, 'r'}, 10), ^uint64(0))
	f.Fuzz(func(t *testing.T, data []byte, off uint64) {
		if len(data) >= frameHead {
			if size, ok := frameSize(data); ok && size <= int64(len(data)) {
				if f, ok := parseFrame(data[:size]); ok && f.kind == kindRecord {
					again := make([]byte, size)
					if putRecord(again, kindRecord, f.offset, f.data); !bytes.Equal(again, data[:size]) {
						t.Errorf("%q was taken for the frame %q", data[:size], again)
					}
				}
			}
		}
		b := make([]byte, frameHead+len(data)+1)
		n := putRecord(b, kindRecord, Offset(off), data)
		size, ok := frameSize(b)
		if !ok || size != int64(n) {
			t.Fatalf("size %d %v, want %d", size, ok, n)
		}
		got, ok := parseFrame(b[:n])
		if !ok || got.kind != kindRecord || got.offset != Offset(off) || !bytes.Equal(got.data, data) {
			t.Errorf("record %d %q came back as %d %q, %v", off, data, got.offset, got.data, ok)
		}
		b[int(off%uint64(n))] ^= 1
		if size, ok := frameSize(b); ok && size == int64(n) {
			if _, ok := parseFrame(b[:n]); ok {
				t.Errorf("a flipped bit in byte %d was not noticed", off%uint64(n))
			}
		}
	})
}

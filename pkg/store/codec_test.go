package store

import (
	"bytes"
	"database/sql/driver"
	"slices"
	"testing"
	"time"
)

func TestBlockCodec(t *testing.T) {
	f := func(data []byte, most int) {
		t.Helper()
		for _, uncompressed := range []bool{false, true} {
			blob := appendBlock([]byte("before"), data, uncompressed)[len("before"):]
			if len(blob) > most && !uncompressed {
				t.Errorf("%d bytes are stored as %d, want %d at most", len(data), len(blob), most)
			}
			got, err := openBlock(blob, len(data))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes: %d come back, %v", len(data), len(got), err)
			}
		}
	}
	f(nil, 1)
	f([]byte("a"), 2)
	f(bytes.Repeat([]byte("a"), 1<<20), 1<<12)
	f(randomBytes(10_000), 10_001) // what does not shrink is stored as it is
}

func FuzzOpenBlock(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add([]byte{codecRaw}, 0)
	f.Add([]byte{codecRaw, 'a'}, 1)
	f.Add([]byte{codecS2, 0xff, 0xff, 0xff, 0xff, 0x0f}, 0xffffffff)
	f.Add([]byte{7, 'a'}, 1)
	f.Add(appendBlock(nil, bytes.Repeat([]byte("abc"), 100), false), 300)
	f.Fuzz(func(t *testing.T, blob []byte, size int) {
		if size > 16<<20 {
			return // the size comes from the row, and is as much memory
		}
		data, err := openBlock(blob, size)
		if err == nil && len(data) != size {
			t.Errorf("%d bytes, want %d", len(data), size)
		}
	})
}

func FuzzBlockRoundTrip(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte(`{"a":1}`), 50))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := openBlock(appendBlock(nil, data, false), len(data))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q comes back as %q, %v", data, got, err)
		}
	})
}

func TestRefs(t *testing.T) {
	f := func(text string, refs ...Ref) {
		t.Helper()
		if got := formatRefs(refs); got != text {
			t.Errorf("%v: %q, want %q", refs, got, text)
		}
		if got, err := parseRefs(text); err != nil || !slices.Equal(got, refs) {
			t.Errorf("%q: %v %v, want %v", text, got, err, refs)
		}
	}
	f("")
	f("1:0", Ref{1, 0})
	f("12:3,0;9:1;12:1", Ref{12, 3}, Ref{12, 0}, Ref{9, 1}, Ref{12, 1})
}

func FuzzParseRefs(f *testing.F) {
	for _, s := range []string{"", "1:0", "12:3,0;9:1", ":", ";", "1:", "1:0;", "1:-1", "-1:0", "1:99999999999999999999", "a:b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		refs, err := parseRefs(s)
		if err != nil {
			return
		}
		for _, r := range refs {
			if r.Block < 0 || r.Index < 0 {
				t.Errorf("%q: %v", s, r)
			}
		}
		again, err := parseRefs(formatRefs(refs))
		if err != nil || !slices.Equal(again, refs) {
			t.Errorf("%q: %v, then %v %v", s, refs, again, err)
		}
	})
}

// FuzzLoadHashes: any row in a table of hashes gives a usable window.
func FuzzLoadHashes(f *testing.F) {
	f.Add(int64(1), int64(1), int64(0), int64(0), []byte("12345678"), int64(-1))
	f.Add(int64(-1), int64(-1), int64(-1), int64(3), []byte("123456789"), int64(5))
	f.Fuzz(func(t *testing.T, id, num, began, mark int64, hashes []byte, crc int64) {
		w := newWindow("seen", 0, 1000)
		w.loadRowLocked([]driver.Value{id, num, began, mark, hashes, crc}, at, func(error) {})
		st := w.step(at, [2][]uint64{{1, 2, 3}})
		w.adopt(&st)
		if seen, _ := w.has(2); !seen {
			t.Error("not there after adding")
		}
	})
}

// FuzzLoadMemories: any row in the table of memories gives a usable index.
func FuzzLoadMemories(f *testing.F) {
	row := memoryRow{id: 1}
	row.append(7, 1, []byte("seven"))
	row.append(8, 2, nil)
	f.Add(int64(1), row.heads, row.data)
	f.Add(int64(-1), row.heads[:20], []byte{})
	f.Add(int64(1<<62), bytes.Repeat([]byte{0xff}, 14*300), row.data)
	f.Fuzz(func(t *testing.T, id int64, heads, data []byte) {
		row := memoryRow{id: id, heads: heads, data: data}
		m := newMemories(time.Hour, 10, 1<<20)
		m.indexLocked(&row, 0)
		row.youngest()
		for i := range row.count() + 1 {
			if i < row.count() {
				hash, _, _ := row.head(i)
				m.index.removeLocked(hash)
			}
			row.get(i, 7)
		}
	})
}

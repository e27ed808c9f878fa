package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// threeGroups is a log of three groups as a kill would leave it, with the positions where its groups begin and what it holds.
func threeGroups(t testing.TB) (file []byte, starts []int, recs []rec) {
	t.Helper()
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	for _, group := range [][]string{{"one", "two"}, {"three"}, {"four", "five"}} {
		starts = append(starts, int(l.Stats().Bytes))
		mustAppend(t, l, group...)
	}
	starts[0] = headerBytes // the file is made by the first append
	return mustReadFile(t, segmentPath(dir, 0)), starts, numbered(0, "one", "two", "three", "four", "five")
}

func mustReadFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// logOf makes a folder with one segment of those bytes.
func logOf(t testing.TB, file []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(segmentPath(dir, 0), file, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// wantCut opens a log that is torn, and checks what is kept and that it goes on.
func wantCut(t *testing.T, dir string, torn []byte, want []rec) {
	t.Helper()
	l := mustOpen(t, dir, Options{})
	damage := l.Damage()
	if len(damage) != 1 || damage[0].KeptAside == "" {
		t.Fatalf("damage: got %+v, want one that is kept aside", damage)
	}
	if kept := mustReadFile(t, damage[0].KeptAside); !bytes.Equal(kept, torn) {
		t.Errorf("kept aside:\n%q\nwant\n%q", kept, torn)
	}
	wantGoesOn(t, dir, l, want)
}

var cmpEmpty = cmpopts.EquateEmpty()

// wantGoesOn appends to an open log, opens it again and checks all of it.
func wantGoesOn(t *testing.T, dir string, l *Log, want []rec) {
	t.Helper()
	mustAppend(t, l, "new")
	all, err := readAll(t, l, 0)
	if err != nil {
		t.Fatalf("read after the cut: %v", err)
	}
	if n := len(all); n == 0 || all[n-1].Data != "new" || len(want) > 0 && all[n-1].Offset <= want[len(want)-1].Offset {
		t.Errorf("appended record not last: %v", all)
	} else if diff := cmp.Diff(want, all[:n-1], cmpEmpty); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	mustClose(t, l)
	again := mustOpen(t, dir, Options{})
	if d := again.Damage(); len(d) > 0 {
		t.Errorf("damage when opened once more: %+v", d)
	}
	wantRecords(t, again, 0, all)
	mustClose(t, again)
}

func TestCutAtEveryByte(t *testing.T) {
	file, starts, recs := threeGroups(t)
	f := func(cut int) {
		t.Helper()
		dir := logOf(t, file[:cut])
		whole, kept := headerBytes, 0
		for i, end := range append(starts[1:], len(file)) {
			if end <= cut {
				whole, kept = end, []int{2, 3, 5}[i]
			}
		}
		if cut <= headerBytes || cut == whole { // nothing, or nothing torn
			l := mustOpen(t, dir, Options{})
			if d := l.Damage(); len(d) > 0 {
				t.Errorf("damage: %+v", d)
			}
			wantGoesOn(t, dir, l, recs[:kept])
			return
		}
		wantCut(t, dir, file[whole:cut], recs[:kept])
	}
	for cut := range len(file) + 1 {
		f(cut)
		if t.Failed() {
			t.Fatalf("cut at byte %d of %d", cut, len(file))
		}
	}
}

func TestTails(t *testing.T) {
	file, starts, recs := threeGroups(t)
	f := func(tail []byte) {
		t.Helper()
		wantCut(t, logOf(t, slices.Concat(file, tail)), tail, recs)
	}
	f([]byte{0})
	f(make([]byte, 5000))
	f(make([]byte, windowBytes+5000))
	f([]byte("garbage"))
	f(bytes.Repeat([]byte("garbage"), windowBytes/3))
	f(bytes.Repeat(frameMagic[:], 5000))
	f(file[headerBytes:starts[1]]) // a group that was there already
	f(file[starts[0]+groupHead : starts[1]])

	// The middle pages of a torn group may be missing while later ones are there.
	torn := slices.Clone(file)
	clear(torn[starts[2]+groupHead+3 : starts[2]+groupHead+9])
	wantCut(t, logOf(t, torn), torn[starts[2]:], recs[:3])
}

// TestFlippedBits flips a bit of every byte of a log. Each flip must be noticed: refused below the durable end, cut and reported above.
func TestFlippedBits(t *testing.T) {
	file, starts, recs := threeGroups(t)
	dir := logOf(t, file)
	mustClose(t, mustOpen(t, dir, Options{}))
	f := func(file []byte, last int, cut []rec) {
		t.Helper()
		for i := range file {
			flipped := slices.Clone(file)
			flipped[i] ^= 1 << (i % 8)
			dir := logOf(t, flipped)
			if i >= last {
				wantCut(t, dir, flipped[last:], cut)
			} else if l, err := openOn(dir, Options{}, unsynced{}); !errors.Is(err, ErrDamaged) {
				t.Errorf("opened, with %v; want ErrDamaged", err)
				l.Close()
			} else if got := mustReadFile(t, segmentPath(dir, 0)); !bytes.Equal(got, flipped) {
				t.Error("the refused file was changed")
			}
			if t.Failed() {
				t.Fatalf("bit %d of byte %d flipped, of %d", i%8, i, len(file))
			}
		}
	}
	f(file, starts[2], recs[:3])
	// A clean close adds an empty group, which proves the last one with records.
	sealed := file
	for i := 0; i < groupHead; i++ {
		sealed = append(sealed, 0)
	}
	putGroup(sealed[len(file):], 5, 5, 0)
	f(sealed, len(file), recs)
}

// TestMissingGroup has a whole group cut out of the file: what is left is good, but not the chain.
func TestMissingGroup(t *testing.T) {
	file, starts, recs := threeGroups(t)
	f := func(from, to, kept int) {
		t.Helper()
		dir := logOf(t, slices.Delete(slices.Clone(file), from, to))
		if _, err := openOn(dir, Options{}, unsynced{}); !errors.Is(err, ErrDamaged) {
			t.Errorf("without the bytes %d to %d: got %v, want ErrDamaged", from, to, err)
		}
		// Not the last segment: the reader notices.
		next := &segment{first: 5, prev: 5}
		if err := os.WriteFile(segmentPath(dir, 5), next.header(), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(t, mustOpen(t, dir, Options{}), 0)
		if diff := cmp.Diff(recs[:kept], got, cmpEmpty); !errors.Is(err, ErrDamaged) || diff != "" {
			t.Errorf("without the bytes %d to %d: %v (-want +got):\n%s", from, to, err, diff)
		}
	}
	f(starts[0], starts[1], 0)
	f(starts[1], starts[2], 2)
	f(starts[0], starts[2], 0)
}

func TestCloseSealsTheLastGroup(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, "one", "two")
	mustClose(t, l)
	path := segmentPath(dir, 0)
	file := mustReadFile(t, path)
	file[bytes.Index(file, []byte("two"))] = 'T'
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openOn(dir, Options{}, unsynced{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("open: got %v, want ErrDamaged", err)
	}
}

func TestOpenAndCloseWriteNothing(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, "one")
	mustClose(t, l)
	before := mustReadFile(t, segmentPath(dir, 0))
	for range 3 {
		mustClose(t, mustOpen(t, dir, Options{}))
	}
	if after := mustReadFile(t, segmentPath(dir, 0)); !bytes.Equal(before, after) {
		t.Errorf("%d bytes became %d", len(before), len(after))
	}
}

func TestCrashWhileASegmentIsMade(t *testing.T) {
	file, _, recs := threeGroups(t)
	f := func(newest []byte) {
		t.Helper()
		dir := logOf(t, file)
		if err := os.WriteFile(segmentPath(dir, 5), newest, 0o600); err != nil {
			t.Fatal(err)
		}
		l := mustOpen(t, dir, Options{})
		if d := l.Damage(); len(d) > 0 {
			t.Errorf("damage: %+v", d)
		}
		wantRecords(t, l, 0, recs)
		wantGoesOn(t, dir, l, recs)
	}
	header := (&segment{first: 5, prev: 5}).header()
	for _, n := range []int{0, 1, 11, 12, 28, 31, 32} {
		f(header[:n])
		f(make([]byte, n))
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	file, _, _ := threeGroups(t)
	binary.LittleEndian.PutUint32(file[8:], formatVersion+1)
	binary.LittleEndian.PutUint32(file[28:], crc32.Checksum(file[:28], castagnoli))
	dir := logOf(t, file)
	f := func(opts Options) {
		t.Helper()
		if _, err := openOn(dir, opts, unsynced{}); !errors.Is(err, ErrFormat) {
			t.Errorf("open: got %v, want ErrFormat", err)
		}
	}
	f(Options{})
	f(Options{Salvage: true})
	if got := mustReadFile(t, segmentPath(dir, 0)); !bytes.Equal(got, file) {
		t.Error("the file was changed")
	}
}

func TestPositionAhead(t *testing.T) {
	f := func(dir string, position Offset, want []rec) {
		t.Helper()
		l := mustOpen(t, dir, Options{Position: position})
		if end := l.Stats().End; end < position {
			t.Errorf("end %d is below position %d", end, position)
		}
		mustAppend(t, l, "new")
		wantRecords(t, l, 0, want)
		mustClose(t, l)
		wantRecords(t, mustOpen(t, dir, Options{Position: position}), 0, want)
	}
	file, _, recs := threeGroups(t)
	f(t.TempDir(), 0, numbered(0, "new"))
	f(t.TempDir(), 1000, numbered(1000, "new")) // the log was lost
	f(logOf(t, file), 4, append(slices.Clone(recs), rec{5, "new"}))
	f(logOf(t, file), 5, append(slices.Clone(recs), rec{5, "new"}))
	f(logOf(t, file), 6, append(slices.Clone(recs), rec{6, "new"}))
	f(logOf(t, file[:len(file)-1]), 5, append(slices.Clone(recs[:3]), rec{5, "new"})) // the log was cut
}

func TestPositionBeforeTheFirstSegment(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SegmentBytes: 1})
	mustAppend(t, l, "a")
	mustAppend(t, l, "b")
	mustAppend(t, l, "c")
	mustClose(t, l)
	if err := os.Remove(segmentPath(dir, 0)); err != nil {
		t.Fatal(err)
	}
	f := func(position Offset, want int) {
		t.Helper()
		l := mustOpen(t, dir, Options{Position: position})
		defer l.Close()
		if d := l.Damage(); len(d) != want {
			t.Errorf("position %d: damage %+v, want %d", position, d, want)
		}
		wantRecords(t, l, 1, numbered(1, "b", "c"))
	}
	f(0, 0) // no position is known
	f(1, 0)
	f(2, 0)
	if err := os.Remove(segmentPath(dir, 1)); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, dir, Options{Position: 1})
	if d := l.Damage(); len(d) != 1 || d[0].LostBefore != 2 {
		t.Errorf("damage %+v, want records up to 2 lost", d)
	}
}

func TestKeptAsideIsBounded(t *testing.T) {
	file, _, _ := threeGroups(t)
	dir := logOf(t, file)
	for range maxKeptAside + 3 {
		f, err := os.OpenFile(segmentPath(dir, 0), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("torn"); err != nil {
			t.Fatal(err)
		}
		f.Close()
		mustClose(t, mustOpen(t, dir, Options{}))
	}
	kept, _ := filepath.Glob(filepath.Join(dir, "*.torn-*"))
	if len(kept) != maxKeptAside {
		t.Errorf("%d files kept aside, want %d", len(kept), maxKeptAside)
	}
}

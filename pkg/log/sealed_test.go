package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/seal"
)

// mustRing is a ring of keys as a configuration has them.
func mustRing(t testing.TB, seals bool, texts ...string) *seal.Ring {
	t.Helper()
	var keys []seal.Key
	for _, text := range texts {
		k, err := seal.ParseKey(text)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	r, err := seal.NewRing(seals, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func keyOf(t testing.TB, text string) seal.KeyID {
	t.Helper()
	k, err := seal.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k.ID()
}

// TestSealedLog: from plain to a key, to another one, and back to plain: what was appended is read whatever it is sealed with, and none of it is on the disk in
// plain while there was a key.
func TestSealedLog(t *testing.T) {
	dir := t.TempDir()
	one, two := seal.NewKey(), seal.NewKey()
	var want []rec
	life := func(keys *seal.Ring, record string) {
		t.Helper()
		l := mustOpen(t, dir, Options{Keys: keys})
		wantRecords(t, l, 0, want)
		mustAppend(t, l, record+" jane@example.com", record)
		want = append(want, numbered(Offset(len(want)), record+" jane@example.com", record)...)
		wantRecords(t, l, 0, want)
		mustClose(t, l)
	}
	life(nil, "plain")
	life(nil, "plain again")
	life(mustRing(t, true, one), "under one")
	life(mustRing(t, true, one), "under one again")
	life(mustRing(t, true, two, one), "under two")
	life(mustRing(t, false, one, two), "without")
	for text, files := range map[string]int{"plain jane@": 1, "plain again": 1, "under": 0, "without": 1} {
		if got := filesNaming(t, dir, text); len(got) != files {
			t.Errorf("%q stands in %v, want %d files", text, got, files)
		}
	}
	l := mustOpen(t, dir, Options{Keys: mustRing(t, true, two, one)})
	with := func(want ...seal.KeyID) {
		t.Helper()
		got := l.SealedWith()
		if len(got) != len(want) {
			t.Errorf("sealed with %v, want %v", got, want)
		}
		for _, id := range want {
			if got[id] == 0 {
				t.Errorf("nothing is sealed with %v, want some: %v", id, got)
			}
		}
	}
	with(seal.KeyID{}, keyOf(t, one), keyOf(t, two))
	if keys, err := KeysOf(dir); len(keys) != 3 || err != nil {
		t.Errorf("KeysOf = %v, %v; want three", keys, err)
	}
	mustAppend(t, l, "last")
	if err := l.Erase(Offset(len(want))); err != nil {
		t.Fatal(err)
	}
	with(keyOf(t, two))
}

// TestSealedLogWithoutItsKey: the start is refused with words that say what to do, and changes nothing, also where it is to salvage.
func TestSealedLogWithoutItsKey(t *testing.T) {
	dir := t.TempDir()
	one, two := seal.NewKey(), seal.NewKey()
	l := mustOpen(t, dir, Options{Keys: mustRing(t, true, one)})
	mustAppend(t, l, "a", "b")
	mustClose(t, l)
	path := segmentPath(dir, 0)
	before := mustReadFile(t, path)
	f := func(opts Options) {
		t.Helper()
		_, err := Open(dir, opts)
		if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), "key "+keyOf(t, one).String()+"; add it to server.encryption.old_keys") {
			t.Errorf("open: %v; want that key %s is missing", err, keyOf(t, one))
		}
		if after := mustReadFile(t, path); !bytes.Equal(before, after) {
			t.Error("the segment was changed")
		}
	}
	f(Options{})
	f(Options{Salvage: true})
	f(Options{Keys: mustRing(t, true, two)})
	f(Options{Keys: mustRing(t, true, two), Salvage: true})
	wantRecords(t, mustOpen(t, dir, Options{Keys: mustRing(t, true, two, one)}), 0, numbered(0, "a", "b"))
}

// TestSealedLogIsCut: a sealed log that is cut at every byte of its last group loses that group alone; what is kept aside of it is sealed.
func TestSealedLogIsCut(t *testing.T) {
	keys := mustRing(t, true, seal.NewKey())
	source := t.TempDir()
	l := mustOpen(t, source, Options{Keys: keys})
	mustAppend(t, l, "first")
	whole := l.Stats().Bytes
	mustAppend(t, l, "jane@example.com", "x")
	data := mustReadFile(t, segmentPath(source, 0))
	for cut := whole; cut <= int64(len(data)); cut++ {
		dir := t.TempDir()
		if err := os.WriteFile(segmentPath(dir, 0), data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := mustOpen(t, dir, Options{Keys: keys})
		want := numbered(0, "first")
		if cut == int64(len(data)) {
			want = numbered(0, "first", "jane@example.com", "x")
		}
		wantRecords(t, l, 0, want)
		if found := filesNaming(t, dir, "jane@"); len(found) > 0 {
			t.Errorf("cut at %d: jane stands in %v", cut, found)
		}
		mustClose(t, l)
	}
}

// TestSealedRecordsStayInTheirPlace: who can write to the disk, and knows no key, can put no other bytes in the place of a record, nor one record in that of
// another, without it being noticed, even if all checksums are right.
func TestSealedRecordsStayInTheirPlace(t *testing.T) {
	keys := mustRing(t, true, seal.NewKey())
	f := func(name string, forge func(records [][]byte)) {
		t.Helper()
		dir := t.TempDir()
		l := mustOpen(t, dir, Options{Keys: keys})
		mustAppend(t, l, "one", "two", "six")
		mustClose(t, l)
		path := segmentPath(dir, 0)
		data := mustReadFile(t, path)
		size := frameHead + 3 + seal.Overhead
		var records [][]byte
		for at := headerBytes + groupHead; len(records) < 3; at += size {
			records = append(records, data[at:at+size])
		}
		forge(records)
		for _, r := range records {
			binary.LittleEndian.PutUint32(r[16:], frameSum(r))
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l = mustOpen(t, dir, Options{Keys: keys})
		got, err := readAll(t, l, 0)
		if diff := cmp.Diff(numbered(0, "one"), got); diff != "" || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: read %v, %v; want the first record, and that the log is damaged", name, got, err)
		}
		r := mustReader(t, l, 1)
		for range 2 {
			if got, err := r.ReadBatch(10); len(got) > 0 || !errors.Is(err, ErrDamaged) {
				t.Errorf("%s: from the second on: %v, %v; want the error at each call", name, got, err)
			}
		}
		mustClose(t, l)
		l = mustOpen(t, dir, Options{Keys: keys, Salvage: true})
		wantRecords(t, l, 0, []rec{{0, "one"}, {2, "six"}})
		if n := l.Stats().PassedOver; n == 0 {
			t.Errorf("%s: nothing was said to be passed over", name)
		}
	}
	f("a byte", func(r [][]byte) { r[1][len(r[1])-20] ^= 1 })
	f("the first record in the place of the second", func(r [][]byte) { copy(r[1][frameHead:], r[0][frameHead:]) })
}

// TestRewriteSealed: records are judged by what they say and taken from a sealed log, and files kept aside are found by what is sealed in them.
func TestRewriteSealed(t *testing.T) {
	dir := t.TempDir()
	keys := mustRing(t, true, seal.NewKey())
	l := mustOpen(t, dir, Options{Keys: keys})
	mustAppend(t, l, "ann", "bob", "ann again", "cid")
	names := func(piece []byte) bool { return bytes.Contains(piece, []byte("ann")) }
	data := mustReadFile(t, segmentPath(dir, 0))
	aside := filepath.Join(dir, "00000000000000000000.log.torn-20261121T120000.000000000Z")
	other := filepath.Join(dir, "00000000000000000000.log.damaged-20261121T120000.000000000Z")
	record := frameHead + 3 + seal.Overhead
	for path, piece := range map[string][]byte{aside: data[headerBytes+groupHead-3:], other: data[headerBytes+groupHead+record:][:record]} {
		if err := os.WriteFile(path, piece, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	erased, err := l.EraseKeptAside(names)
	if diff := cmp.Diff([]string{aside}, erased); diff != "" || err != nil {
		t.Errorf("erased (-want +got): %s%v", diff, err)
	}
	dropped, err := l.Rewrite(func(r Record) (bool, error) { return !names(r.Data), nil })
	if dropped != 2 || err != nil {
		t.Errorf("dropped %d, %v; want 2", dropped, err)
	}
	wantRecords(t, l, 0, []rec{{1, "bob"}, {3, "cid"}})
}

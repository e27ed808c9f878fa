package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDamagedBlock: bytes of one block change on the disk. The others are read, and the lane can go on without it.
func TestDamagedBlock(t *testing.T) {
	f := func(name string, damage func(t *testing.T, dir string, data []byte)) {
		t.Run(name, func(t *testing.T) { damagedBlock(t, damage) })
	}
	f("a byte", func(t *testing.T, dir string, data []byte) {
		edit(t, dir, data[5000:5100], func(b []byte) { b[50] ^= 1 })
	})
	f("a page is zero", func(t *testing.T, dir string, data []byte) {
		edit(t, dir, data[5000:5100], func(b []byte) { clear(b) })
	})
	f("shorter", func(t *testing.T, dir string, _ []byte) {
		byHand(t, filepath.Join(dir, fileName), `UPDATE blocks SET data = x'0001' WHERE id = 2`)
	})
	f("empty", func(t *testing.T, dir string, _ []byte) {
		byHand(t, filepath.Join(dir, fileName), `UPDATE blocks SET data = x'' WHERE id = 2`)
	})
	f("another's", func(t *testing.T, dir string, _ []byte) {
		byHand(t, filepath.Join(dir, fileName), `UPDATE blocks SET (data, crc, size) = (SELECT data, crc, size FROM blocks WHERE id = 1) WHERE id = 2`)
	})
	f("no overflow page", func(t *testing.T, dir string, data []byte) {
		// The number of the page that follows stands before the page's content.
		file := mustReadFile(t, dir)
		page := bytes.Index(file, data[5000:5100]) / pageSize * pageSize
		edit(t, dir, file[page:page+100], func(b []byte) { copy(b, "\xff\xff\xff\xff") })
	})
}

func damagedBlock(t *testing.T, damage func(t *testing.T, dir string, data []byte)) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	lane := mustLane(t, s, contacts)
	data := randomBytes(20_000)
	for _, b := range [][]byte{[]byte("one"), data, []byte("three")} {
		mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 5, Data: b}}})
	}
	mustCommit(t, s, &Batch{Progress: []Progress{{Lane: lane, Block: 2, Finished: 2, Done: []byte{3}}}})
	mustClose(t, s)
	damage(t, dir, data)

	s = mustOpen(t, dir, Options{})
	if got := mustRead(t, s, lane, 0, 1<<20); len(got) != 1 || string(got[0].Data) != "one" {
		t.Errorf("before it: %d blocks", len(got))
	}
	_, err := s.ReadBlocks(ctx, lane, 1, 1<<20)
	var damaged *DamagedError
	if !errors.As(err, &damaged) || !errors.Is(err, ErrDamaged) {
		t.Fatalf("%v, want a DamagedError", err)
	}
	if damaged.Lane != lane || damaged.Block.ID != 2 || damaged.Block.Entries != 5 || !bytes.Equal(damaged.Block.Done, []byte{3}) {
		t.Errorf("it says %+v", damaged)
	}
	if text := err.Error(); !strings.Contains(text, fmt.Sprintf("lane %d", lane)) || !strings.Contains(text, "block 2") {
		t.Errorf("it does not name lane and block: %v", text)
	}
	if got := mustRead(t, s, lane, damaged.Block.ID, 1<<20); len(got) != 1 || string(got[0].Data) != "three" {
		t.Errorf("behind it: %d blocks", len(got))
	}
	giveUp(t, s, damaged)
	if got := mustRead(t, s, lane, 1, 1<<20); len(got) != 1 || string(got[0].Data) != "three" {
		t.Errorf("after it was given up: %d blocks", len(got))
	}
	mustClose(t, s)
	s = mustOpen(t, dir, Options{})
	if got := s.Lanes()[0]; got.Entries != 10 {
		t.Errorf("the lane has %d entries, want 10", got.Entries)
	}
	mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 1, Data: []byte("four")}}})
	for range 2 * readers { // no read connection stays behind
		if got := mustRead(t, s, lane, 3, 1); len(got) != 1 || string(got[0].Data) != "four" {
			t.Errorf("committed after it: %d blocks", len(got))
		}
	}
}

// edit changes the bytes of the database file where it has what.
func edit(t *testing.T, dir string, what []byte, change func([]byte)) {
	t.Helper()
	file := mustReadFile(t, dir)
	i := bytes.Index(file, what)
	if i < 0 {
		t.Fatal("not found in the file")
	}
	change(file[i : i+len(what)])
	if err := os.WriteFile(filepath.Join(dir, fileName), file, 0o600); err != nil {
		t.Fatal(err)
	}
}

// giveUp gives a block up as the router does.
func giveUp(t *testing.T, s *Store, d *DamagedError) (kept string) {
	t.Helper()
	kept, err := s.KeepAside(d)
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, &Batch{GivenUp: []GivenUp{{Lane: d.Lane, Block: d.Block.ID, KeptAside: kept, Error: d.Cause.Error()}}})
	return kept
}

func TestGiveUpDamagedBlock(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	lane := mustLane(t, s, contacts)
	data := randomBytes(9000)
	mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 5, Oldest: at, Data: data}}})
	mustCommit(t, s, &Batch{
		Progress: []Progress{{Lane: lane, Block: 1, Finished: 2, Done: []byte{3}}},
		Retries:  []Retry{{Ref: Ref{1, 4}, Attempt: 1}},
	})
	byHand(t, s.path, `UPDATE blocks SET crc = crc + 1`)
	_, err := s.ReadBlocks(ctx, lane, 0, 1)
	var damaged *DamagedError
	if !errors.As(err, &damaged) {
		t.Fatal(err)
	}
	if got := damaged.Data(); !bytes.Equal(got, data) {
		t.Errorf("what can be read in spite: %d bytes", len(got))
	}
	kept := giveUp(t, s, damaged)
	if got := s.Lanes()[0]; got.Entries != 0 || got.Bytes != 0 || !got.Oldest.IsZero() {
		t.Errorf("lane %+v", got)
	}
	raw, err := os.ReadFile(kept)
	if err != nil || !bytes.Equal(raw, damaged.Raw) {
		t.Errorf("kept aside: %d bytes, %v; want %d", len(raw), err, len(damaged.Raw))
	}
	if fi, err := os.Stat(kept); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
	again := &Batch{GivenUp: []GivenUp{{Lane: lane, Block: 1}}}
	if err := s.Commit(ctx, again); !errors.Is(err, ErrBatch) {
		t.Errorf("given up twice: %v", err)
	}
	if blocks := mustRead(t, s, lane, 0, 1<<20); len(blocks) != 0 {
		t.Errorf("%d blocks are read", len(blocks))
	}
	// What is kept aside is bounded.
	if err := os.Truncate(kept, mostDamagedBytes); err != nil {
		t.Fatal(err)
	}
	damaged.Block.ID++
	if path, err := s.KeepAside(damaged); path != "" || err != nil {
		t.Errorf("beyond the bound: %q, %v", path, err)
	}
}

func TestOpenErrors(t *testing.T) {
	prepared := func(sql string) string {
		dir := t.TempDir()
		s := mustOpen(t, dir, Options{})
		mustClose(t, s)
		byHand(t, s.path, sql)
		return dir
	}
	f := func(name, dir string, want error) {
		t.Helper()
		if _, err := Open(dir, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: open: %v, want %v", name, err, want)
		}
		if _, err := OpenReadOnly(dir, nil); !errors.Is(err, want) {
			t.Errorf("%s: open read-only: %v, want %v", name, err, want)
		}
	}
	f("newer schema", prepared(`PRAGMA user_version = 99`), ErrFormat)
	f("no state", prepared(`DELETE FROM state`), ErrDamaged)

	if _, err := OpenReadOnly(t.TempDir(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("read-only, nothing there: %v", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), bytes.Repeat([]byte("not a database\n"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil {
		t.Error("opened a file that is no database")
	}
	// Each failed Open gave its lock back.
	if _, err := Open(dir, Options{}); errors.Is(err, ErrInUse) {
		t.Error(err)
	}
}

func TestFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	s := mustOpen(t, dir, Options{})
	f := func(path string, want os.FileMode) {
		t.Helper()
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s: %v, want %v", path, fi.Mode().Perm(), want)
		}
	}
	f(dir, 0o700)
	f(s.path, 0o600)
	f(s.path+"-wal", 0o600)
	g := func(pragma string, want int64) {
		t.Helper()
		got, err := s.w.queryInt(`PRAGMA ` + pragma)
		if err != nil || got != want {
			t.Errorf("%s: %d %v, want %d", pragma, got, err, want)
		}
	}
	g("synchronous", 2)
	g("auto_vacuum", 2)
	g("secure_delete", 1)
	g("page_size", pageSize)
	g("wal_autocheckpoint", 4000)
}

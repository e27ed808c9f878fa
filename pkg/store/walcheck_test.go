package store

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// walStore is a store that was killed: the files of one that has committed n batches since its last checkpoint, each with a position, a block, a dead letter
// and a hash.
func walStore(t *testing.T, n int) (db, wal []byte) {
	t.Helper()
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	lane := mustLane(t, s, contacts)
	s.AskCheckpoint()
	waitFor(t, func() bool { return !s.checkpointAsked.Load() })
	for i := 1; i <= n; i++ {
		mustCommit(t, s, &Batch{
			Position: uint64(i), Seen: []uint64{s.Hash(itoa(uint64(i)))},
			Blocks:      []Block{{Lane: lane, Entries: 1, Oldest: at, Data: randomBytes(100)}},
			DeadLetters: []DeadLetter{{EventID: itoa(uint64(i)), Event: []byte("event")}},
		})
	}
	db, wal = mustReadFile(t, dir), mustReadPath(t, s.path+"-wal")
	mustClose(t, s)
	return db, wal
}

func mustReadPath(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// waitFor waits for another goroutine.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still not after 30 s")
		}
	}
}

// opened opens a store on files and checks that it holds exactly what the batches up to its position wrote, which it returns, with the log's text.
func opened(t *testing.T, db, wal []byte, n int) (position int, text string) {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "store-test-") // nothing is cut: memory will do
	if err != nil {
		dir = t.TempDir()
	}
	defer os.RemoveAll(dir)
	for name, b := range map[string][]byte{fileName: db, fileName + "-wal": wal} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	s := mustOpen(t, dir, Options{Logger: slog.New(slog.NewTextHandler(&out, nil))})
	defer mustClose(t, s)
	position = int(s.Position())
	letters, err := s.DeadLetters(ctx, DeadLetterQuery{Bodies: true, Limit: 1000})
	if err != nil || len(letters) != position {
		t.Errorf("position %d: %d dead letters, %v", position, len(letters), err)
	}
	if blocks := mustRead(t, s, 1, 0, 1<<20); len(blocks) != position {
		t.Errorf("position %d: %d blocks", position, len(blocks))
	}
	for i := 1; i <= n; i++ {
		if seen := s.Seen(s.Hash(itoa(uint64(i)))); seen != (i <= position) {
			t.Errorf("position %d: batch %d is seen: %v", position, i, seen)
		}
	}
	return position, out.String()
}

// TestDamagedWAL cuts the write-ahead log of a killed store at many bytes, and flips many: what opens is the state after some commit, whole; and damage that takes
// more away than the last one is told, and kept aside. STORE_EVERY_BYTE=1 takes every byte.
func TestDamagedWAL(t *testing.T) {
	const n = 4
	db, wal := walStore(t, n)
	ends := commitEnds(wal) // only of this round
	if len(ends) != n {
		t.Fatalf("%d commits in the write-ahead log", len(ends))
	}
	// after is how many commits end before a byte of the file.
	after := func(at int) (k int) {
		for k < n && ends[k] <= at {
			k++
		}
		return k
	}
	step := 3001
	if os.Getenv("STORE_EVERY_BYTE") != "" {
		step = 1
	}
	for at := 0; at < ends[n-1]; at++ {
		inHeader := at < walHeader || (at-walHeader)%(walFrameHeader+pageSize) < walFrameHeader
		if at%step != 0 && !(inHeader && at%5 == 0 && (at < 5000 || at > ends[n-1]-5*(walFrameHeader+pageSize))) {
			continue
		}
		if got, text := opened(t, db, wal[:at], n); got != after(at) || strings.Contains(text, "damaged") {
			t.Errorf("cut at %d: position %d, want %d; log %s", at, got, after(at), text)
		}
		flipped := bytes.Clone(wal)
		flipped[at] ^= 0x10
		want := after(at)
		got, text := opened(t, db, flipped, n)
		if at < walHeader {
			if got != 0 && got != n { // not all of the header counts
				t.Errorf("byte %d of the header: position %d", at, got)
			}
			continue
		}
		if frame := (at - walHeader) % (walFrameHeader + pageSize); frame >= 16 && frame < walFrameHeader && got == n {
			t.Errorf("byte %d, of a checksum: position %d", at, got)
		}
		if got != want {
			t.Errorf("byte %d: position %d, want %d", at, got, want)
		}
		frameEnd := at - (at-walHeader)%(walFrameHeader+pageSize) + walFrameHeader + pageSize
		behind := n - after(frameEnd)
		if told := strings.Contains(text, "write-ahead log is damaged"); told != (behind >= 2) {
			t.Errorf("byte %d: %d commits stand behind it, told: %v", at, behind, told)
		}
	}
}

// commitEnds are where the transactions of the file's present round end.
func commitEnds(wal []byte) (ends []int) {
	for at := walHeader; at+walFrameHeader+pageSize <= len(wal); at += walFrameHeader + pageSize {
		if !bytes.Equal(wal[at+8:at+16], wal[16:24]) {
			break
		}
		if binary.BigEndian.Uint32(wal[at+4:]) != 0 {
			ends = append(ends, at+walFrameHeader+pageSize)
		}
	}
	return ends
}

// TestCheckpoint: the positions that the file holds follow those that were committed when that is asked for, and not while someone reads an older state.
func TestCheckpoint(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	lane := mustLane(t, s, contacts)
	f := func(want, wantBulk uint64) {
		t.Helper()
		s.AskCheckpoint()
		waitFor(t, func() bool { return !s.checkpointAsked.Load() })
		mustCommit(t, s, &Batch{Blocks: []Block{{Lane: lane, Entries: 1, Data: []byte("x")}}}) // behind it
		if live, bulk := s.FilePositions(); live != want || bulk != wantBulk {
			t.Errorf("the file holds %d and %d, want %d and %d", live, bulk, want, wantBulk)
		}
	}
	if live, bulk := s.FilePositions(); live != 0 || bulk != 0 {
		t.Errorf("before the first: %d %d", live, bulk)
	}
	mustCommit(t, s, &Batch{Position: 5})
	f(5, 0)
	mustCommit(t, s, &Batch{Position: 6, BulkPosition: 9})
	c := <-s.readers
	if err := c.snapshot(func() error {
		if _, err := c.queryInt(`SELECT count(*) FROM blocks`); err != nil {
			return err
		}
		mustCommit(t, s, &Batch{Position: 7})
		f(5, 0)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s.readers <- c
	f(7, 9)
}

package log

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func mustReader(t testing.TB, l *Log, from Offset) *Reader {
	t.Helper()
	r, err := l.NewReader(from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// texts returns what the records hold; nil for none.
func texts(recs []Record) []string {
	var all []string
	for _, r := range recs {
		all = append(all, string(r.Data))
	}
	return all
}

func TestReadBatchLimits(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{SegmentBytes: 150})
	for i := range 10 {
		mustAppend(t, l, fmt.Sprint(i))
	}
	r := mustReader(t, l, 1)
	f := func(most int, want ...string) {
		t.Helper()
		got, err := r.ReadBatch(most)
		if diff := cmp.Diff(want, texts(got)); err != nil || diff != "" {
			t.Errorf("ReadBatch of %d: %v (-want +got):\n%s", most, err, diff)
		}
	}
	f(1, "1")
	f(0, "2") // as 1
	f(4, "3", "4", "5", "6")
	f(5, "7", "8", "9")
	f(1)
}

// TestReadBatchBytes reads records of all sizes around the size of a piece. All of a batch must be valid together.
func TestReadBatchBytes(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{SegmentBytes: 5 << 20})
	var want [][]byte
	for i := range 60 {
		n := []int{10, windowBytes / 3, windowBytes - frameHead - 1, windowBytes - frameHead, windowBytes, 2*windowBytes + 5, 3 << 20}[i%7]
		want = append(want, bytes.Repeat([]byte{byte(i + 1)}, n))
		if err := l.Append(want[i]); err != nil {
			t.Fatal(err)
		}
	}
	r := mustReader(t, l, 0)
	for at := 0; at < len(want); {
		got, err := r.ReadBatch(len(want))
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for i, g := range got {
			size += len(g.Data)
			if g.Offset != Offset(at) || !bytes.Equal(g.Data, want[at]) {
				t.Fatalf("record %d: got offset %d and %d bytes, want %d bytes", at, g.Offset, len(g.Data), len(want[at]))
			}
			if i < len(got)-1 && size >= batchBytes {
				t.Errorf("a batch of %d bytes got one more record", size)
			}
			at++
		}
	}
}

// TestWake: the channel receives when there is more than ReadBatch found, at once if there is already.
func TestWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, t.TempDir(), Options{Position: 1 << 52})
		r := mustReader(t, l, 1<<52)
		began := time.Now()
		go func() {
			for i := range 3 {
				time.Sleep(10 * time.Millisecond)
				mustAppend(t, l, fmt.Sprint(i), fmt.Sprint(i))
			}
		}()
		f := func(most int, wantAt time.Duration, want ...string) {
			t.Helper()
			got, err := awaitBatch(t.Context(), r, most)
			if diff := cmp.Diff(want, texts(got)); err != nil || diff != "" {
				t.Errorf("ReadBatch: %v (-want +got):\n%s", err, diff)
			}
			if at := time.Since(began); at != wantAt {
				t.Errorf("returned after %v, want %v", at, wantAt)
			}
		}
		f(10, 10*time.Millisecond, "0", "0")
		f(1, 20*time.Millisecond, "1")
		f(1, 20*time.Millisecond, "1")
		time.Sleep(5 * time.Millisecond)
		f(10, 30*time.Millisecond, "2", "2")
		for range 2 { // what was asked for before the last read may be on its way
			select {
			case <-r.Wake():
				if got, err := r.ReadBatch(1); len(got) > 0 || err != nil {
					t.Errorf("%q, %v", texts(got), err)
				}
			default:
			}
		}
		select {
		case <-r.Wake():
			t.Error("it receives though nothing came")
		case <-time.After(time.Hour):
		}
	})
}

func TestReadBatchOfAClosedLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := mustOpen(t, t.TempDir(), Options{})
		r := mustReader(t, l, 0)
		go func() {
			time.Sleep(time.Second)
			mustClose(t, l)
		}()
		if got, err := awaitBatch(t.Context(), r, 1); !errors.Is(err, ErrClosed) {
			t.Errorf("got %q, %v; want ErrClosed", texts(got), err)
		}
		<-r.Wake()
		synctest.Wait()
		if _, err := l.NewReader(0); !errors.Is(err, ErrClosed) {
			t.Errorf("NewReader: got %v, want ErrClosed", err)
		}
	})
}

func TestReclaim(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SegmentBytes: 1}) // a segment for each append
	for i := range 6 {
		mustAppend(t, l, fmt.Sprint(i, "a"), fmt.Sprint(i, "b"))
	}
	slow := mustReader(t, l, 0)
	if got, err := slow.ReadBatch(1); err != nil || texts(got)[0] != "0a" {
		t.Fatalf("got %q, %v", texts(got), err)
	}
	f := func(below Offset, wantFirst Offset, wantSegments int) {
		t.Helper()
		if err := l.Reclaim(below); err != nil {
			t.Fatal(err)
		}
		s := l.Stats()
		if s.First != wantFirst || s.Segments != wantSegments || len(segmentFiles(t, dir)) != wantSegments {
			t.Errorf("below %d: first %d, %d segments, %d files; want %d, %d", below, s.First, s.Segments, len(segmentFiles(t, dir)), wantFirst, wantSegments)
		}
		size := int64(0)
		for _, path := range segmentFiles(t, dir) {
			size += int64(len(mustReadFile(t, path)))
		}
		if s.Bytes != size {
			t.Errorf("below %d: Stats.Bytes %d, files %d", below, s.Bytes, size)
		}
	}
	f(0, 0, 6)
	f(1, 0, 6) // record 1 is in the first segment too
	f(2, 2, 5)
	f(7, 6, 3)
	f(1000, 10, 1) // never the last

	// The slow reader ends its segment and goes on with what is kept.
	got, err := drain(slow, 12)
	want := []rec{{1, "0b"}, {10, "5a"}, {11, "5b"}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("slow reader: %v (-want +got):\n%s", err, diff)
	}
	wantRecords(t, l, 0, want[1:])
	mustClose(t, l)
	l = mustOpen(t, dir, Options{Position: 12})
	if d := l.Damage(); len(d) > 0 {
		t.Errorf("damage: %+v", d)
	}
	wantRecords(t, l, 0, want[1:])
}

// fourSegments is a log of four segments with two records each, closed.
func fourSegments(t testing.TB) (dir string, recs []rec) {
	t.Helper()
	dir = t.TempDir()
	l := mustOpen(t, dir, Options{SegmentBytes: 1})
	for i := range 4 {
		data := []string{fmt.Sprintf("<%d first>", i), fmt.Sprintf("<%d second>", i)}
		mustAppend(t, l, data...)
		recs = append(recs, numbered(Offset(2*i), data...)...)
	}
	mustClose(t, l)
	return dir, recs
}

// wantDamaged reads a log with damage in an older segment: every record before it, then the error, each time.
func wantDamaged(t *testing.T, dir string, recs []rec) {
	t.Helper()
	l, err := openOn(dir, Options{}, unsynced{})
	if errors.Is(err, ErrDamaged) {
		return // a header, which Open reads
	} else if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := mustReader(t, l, 0)
	got, err := drain(r, l.Stats().End)
	if !errors.Is(err, ErrDamaged) || len(got) >= len(recs) {
		t.Errorf("read %d of %d records and error %v, want ErrDamaged", len(got), len(recs), err)
	} else if diff := cmp.Diff(recs[:len(got)], got, cmpEmpty); diff != "" {
		t.Errorf("records before the damage (-want +got):\n%s", diff)
	}
	if again, err := r.ReadBatch(1); !errors.Is(err, ErrDamaged) {
		t.Errorf("second try: %q, %v; want ErrDamaged", texts(again), err)
	}
}

func TestDamageInAnOlderSegment(t *testing.T) {
	orig, recs := fourSegments(t)
	damaged := segmentPath(orig, 2)
	file := mustReadFile(t, damaged)
	f := func(damage func(file []byte) []byte) {
		t.Helper()
		if err := os.WriteFile(damaged, damage(slices.Clone(file)), 0o600); err != nil {
			t.Fatal(err)
		}
		wantDamaged(t, orig, recs)
	}
	for i := range file {
		f(func(b []byte) []byte { b[i] ^= 1 << (i % 8); return b })
		f(func(b []byte) []byte { return b[:i] })
		if t.Failed() {
			t.Fatalf("byte %d of %d", i, len(file))
		}
	}
	f(func(b []byte) []byte { return append(b[:headerBytes], b[headerBytes+groupHead:]...) })
	if err := os.Remove(damaged); err != nil {
		t.Fatal(err)
	}
	wantDamaged(t, orig, recs)
}

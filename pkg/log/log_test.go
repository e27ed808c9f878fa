package log

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		childAppends(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// unsynced is a disk that syncs nothing: thousands of logs are opened here, and no test can cut the power.
type unsynced struct{ osDisk }

type unsyncedFile struct{ file }

func (unsyncedFile) Sync() error      { return nil }
func (unsynced) SyncDir(string) error { return nil }
func (unsynced) wrap(f file, err error) (file, error) {
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}
func (d unsynced) Create(path string) (file, error) { return d.wrap(d.osDisk.Create(path)) }
func (d unsynced) Open(path string) (file, error)   { return d.wrap(d.osDisk.Open(path)) }

func mustOpen(t testing.TB, dir string, opts Options) *Log {
	t.Helper()
	l, err := openOn(dir, opts, unsynced{})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustAppend(t testing.TB, l *Log, recs ...string) {
	t.Helper()
	if err := l.Append(bytesOf(recs)...); err != nil {
		t.Fatalf("append %q: %v", recs, err)
	}
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func bytesOf(recs []string) [][]byte {
	var all [][]byte
	for _, r := range recs {
		all = append(all, []byte(r))
	}
	return all
}

// rec is a record with its offset, for comparing.
type rec struct {
	Offset Offset
	Data   string
}

func numbered(from Offset, data ...string) []rec {
	var recs []rec
	for i, d := range data {
		recs = append(recs, rec{from + Offset(i), d})
	}
	return recs
}

// readAll reads from the given offset to the log's end, below which there must be a record. The error is the first that the
// reader returned.
func readAll(t testing.TB, l *Log, from Offset) ([]rec, error) {
	t.Helper()
	r, err := l.NewReader(from)
	if err != nil {
		t.Fatalf("new reader: %v", err)
	}
	defer r.Close()
	return drain(r, l.Stats().End)
}

// awaitBatch waits for the next records.
func awaitBatch(ctx context.Context, r *Reader, most int) ([]Record, error) {
	for {
		got, err := r.ReadBatch(most)
		if err != nil || len(got) > 0 {
			return got, err
		}
		select {
		case <-r.Wake():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// drain reads in small batches up to the given end.
func drain(r *Reader, end Offset) ([]rec, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var all []rec
	for r.from < end {
		got, err := awaitBatch(ctx, r, 3)
		if err != nil {
			return all, err
		}
		for _, g := range got {
			all = append(all, rec{g.Offset, string(g.Data)})
		}
	}
	return all, nil
}

func wantRecords(t testing.TB, l *Log, from Offset, want []rec) {
	t.Helper()
	got, err := readAll(t, l, from)
	if err != nil {
		t.Errorf("read from %d: %v", from, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("read from %d (-want +got):\n%s", from, diff)
	}
}

func segmentFiles(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(paths)
	return paths
}

func TestAppendAndRead(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, "a", "b")
	mustAppend(t, l, "")
	mustAppend(t, l, "c")
	want := numbered(0, "a", "b", "", "c")
	wantRecords(t, l, 0, want)
	wantRecords(t, l, 2, want[2:])
	mustClose(t, l)

	l = mustOpen(t, dir, Options{})
	wantRecords(t, l, 0, want)
	mustAppend(t, l, "d")
	wantRecords(t, l, 0, append(want, rec{4, "d"}))
	if d := l.Damage(); len(d) > 0 {
		t.Errorf("damage after a clean close: %v", d)
	}
}

func TestSegments(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SegmentBytes: 200})
	var data []string
	for i := range 20 {
		data = append(data, fmt.Sprintf("record %d", i))
		mustAppend(t, l, data[i])
	}
	if n := len(segmentFiles(t, dir)); n < 5 {
		t.Errorf("%d segments, want several", n)
	}
	for from := range Offset(21) {
		wantRecords(t, l, from, numbered(from, data[from:]...))
	}
	mustClose(t, l)
	wantRecords(t, mustOpen(t, dir, Options{}), 0, numbered(0, data...))
}

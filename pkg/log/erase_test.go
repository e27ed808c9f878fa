package log

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// filesNaming are the files of a directory that hold a text.
func filesNaming(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(text)) {
			names = append(names, f.Name())
		}
	}
	return names
}

func TestRollErases(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	if from, err := l.Roll(); from != 0 || err != nil {
		t.Errorf("roll of an empty log: %d, %v", from, err)
	}
	mustAppend(t, l, "old ann", "old bob")
	r, err := l.NewReader(0)
	if err != nil {
		t.Fatal(err)
	}
	from, err := l.Roll()
	if from != 2 || err != nil {
		t.Fatalf("roll: %d, %v; want 2", from, err)
	}
	if again, err := l.Roll(); again != 2 || err != nil {
		t.Errorf("a second roll: %d, %v; want 2, nothing to do", again, err)
	}
	mustAppend(t, l, "new")
	if err := l.Erase(1); err != nil {
		t.Fatal(err)
	}
	if got := filesNaming(t, dir, "old bob"); len(got) != 1 {
		t.Errorf("a record that is not handed over is in %v", got)
	}
	if err := l.Erase(from); err != nil {
		t.Fatal(err)
	}
	if got := filesNaming(t, dir, "old"); len(got) != 0 {
		t.Errorf("erased records are in %v", got)
	}
	if got, err := drain(r, 3); err != nil || len(got) != 1 || string(got[0].Data) != "new" {
		t.Errorf("a reader that stood before: %v, %v", got, err)
	}
	r.Close()
	mustClose(t, l)
	l = mustOpen(t, dir, Options{Position: 2})
	mustAppend(t, l, "newer")
	wantRecords(t, l, 2, numbered(2, "new", "newer"))
}

// TestRollBesideAppends rolls while others append: no offset is given twice, and nothing is missing.
func TestRollBesideAppends(t *testing.T) {
	l := mustOpen(t, t.TempDir(), Options{})
	const writers, each = 8, 200
	done := make(chan error, writers)
	for w := range writers {
		go func() {
			for i := range each {
				if err := l.Append(fmt.Appendf(nil, "%d-%d", w, i)); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 40 {
		if _, err := l.Roll(); err != nil {
			t.Fatal(err)
		}
	}
	for range writers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	got, err := readAll(t, l, 0)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]bool{}
	for i, rec := range got {
		texts[string(rec.Data)] = true
		if rec.Offset != Offset(i) {
			t.Fatalf("record %d has offset %d", i, rec.Offset)
		}
	}
	if len(got) != writers*each || len(texts) != writers*each {
		t.Errorf("%d records, %d different; want %d", len(got), len(texts), writers*each)
	}
}

func TestRewrite(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{SegmentBytes: 200})
	var want []rec
	for i := range 60 {
		text := fmt.Sprintf("record %d of bob", i)
		if i%7 == 3 || i >= 55 {
			text = fmt.Sprintf("record %d of ann", i)
		} else {
			want = append(want, numbered(Offset(i), text)...)
		}
		mustAppend(t, l, text)
	}
	left := segmentFiles(t, dir)[0] + rewrittenSuffix
	if err := os.WriteFile(left, []byte("of ann, by a process that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	refuse := func(r Record) (bool, error) { return !bytes.Contains(r.Data, []byte("ann")), nil }
	if dropped, err := l.Rewrite(refuse); dropped != 60-len(want) || err != nil {
		t.Errorf("dropped %d, %v; want %d", dropped, err, 60-len(want))
	}
	if got := filesNaming(t, dir, "ann"); len(got) != 0 {
		t.Errorf("dropped records are in %v", got)
	}
	if dropped, err := l.Rewrite(refuse); dropped != 0 || err != nil {
		t.Errorf("a second time: %d, %v", dropped, err)
	}
	mustAppend(t, l, "more")
	want = append(want, numbered(60, "more")...)
	wantRecords(t, l, 0, want)
	mustClose(t, l)
	wantRecords(t, mustOpen(t, dir, Options{}), 0, want)
}

func TestEraseKeptAside(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	mustAppend(t, l, "ann")
	far := strings.Repeat("x", 1<<20-2) + "ann" // over the border of two pieces
	for name, data := range map[string]string{
		"00000000000000000001.log.torn-1": "ann", "00000000000000000002.log.torn-2": "bob", "00000000000000000003.log.damaged-1": far,
		"00000000000000000004.log.salvaged": "ann", "00000000000000000005.log.rewritten": "ann",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	erased, err := l.EraseKeptAside(func(piece []byte) bool { return bytes.Contains(piece, []byte("ann")) })
	if err != nil || len(erased) != 4 {
		t.Errorf("erased %v, %v; want 4 files", erased, err)
	}
	if got, want := filesNaming(t, dir, "bob"), []string{"00000000000000000002.log.torn-2"}; !slices.Equal(got, want) {
		t.Errorf("of others there is %v, want %v", got, want)
	}
	if got := filesNaming(t, dir, "ann"); len(got) != 1 || filepath.Join(dir, got[0]) != segmentFiles(t, dir)[0] {
		t.Errorf("the name is in %v, want it in the log alone", got)
	}
}

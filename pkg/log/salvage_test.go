package log

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wantSalvaged salvages a log and checks that what is left is right, that no more than lost is missing, and that the log is sound
// afterwards.
func wantSalvaged(t *testing.T, dir string, recs []rec, lost int) {
	t.Helper()
	before := map[string][]byte{}
	for _, path := range segmentFiles(t, dir) {
		before[path] = mustReadFile(t, path)
	}
	damage, err := Salvage(dir, Options{})
	if err != nil {
		t.Errorf("salvage: %v", err)
		return
	}
	if len(damage) == 0 {
		t.Error("no damage was reported")
	}
	for _, d := range damage {
		if d.From > d.To || d.Reason == "" || d.KeptAside == "" {
			t.Errorf("damage: %+v", d)
		} else if kept := mustReadFile(t, d.KeptAside); !bytes.Equal(kept, before[d.File]) {
			t.Errorf("%s is not what %s was", d.KeptAside, d.File)
		}
	}
	l := mustOpen(t, dir, Options{})
	defer l.Close()
	mustAppend(t, l, "new")
	got, err := readAll(t, l, 0)
	if err != nil {
		t.Errorf("read: %v", err)
		return
	}
	n := len(got) - 1
	if n < len(recs)-lost || got[n].Data != "new" || got[n].Offset < recs[len(recs)-1].Offset {
		t.Errorf("read %v; want all but %d of %v, then the new one", got, lost, recs)
	}
	for _, r := range got[:n] {
		if !slices.Contains(recs, r) {
			t.Errorf("read %v, which never was", r)
		}
	}
	for _, r := range recs {
		told := slices.ContainsFunc(damage, func(d Damage) bool { return d.LostBefore > r.Offset })
		if !told && !slices.Contains(got, r) {
			t.Errorf("%v is missing, and no damage says so: %+v", r, damage)
		}
	}
	if more, err := Salvage(dir, Options{}); err == nil {
		t.Errorf("salvage of an open log: %v, want an error", more)
	}
	mustClose(t, l)
	if more, err := Salvage(dir, Options{}); err != nil || len(more) > 0 {
		t.Errorf("salvaged again: %+v, %v", more, err)
	}
}

func TestSalvageFlippedBits(t *testing.T) {
	file, _, recs := threeGroups(t)
	for i := range file {
		flipped := slices.Clone(file)
		flipped[i] ^= 1 << (i % 8)
		wantSalvaged(t, logOf(t, flipped), recs, 1)
		if t.Failed() {
			t.Fatalf("byte %d of %d", i, len(file))
		}
	}
}

func TestSalvage(t *testing.T) {
	f := func(damage func(dir string, files []string), lost int) {
		t.Helper()
		dir, recs := fourSegments(t)
		damage(dir, segmentFiles(t, dir))
		wantSalvaged(t, dir, recs, lost)
	}
	edit := func(path string, how func([]byte) []byte) {
		t.Helper()
		if err := os.WriteFile(path, how(mustReadFile(t, path)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f(func(_ string, files []string) { // each has one damaged record
		for _, path := range files {
			edit(path, func(b []byte) []byte { b[bytes.Index(b, []byte("first"))]++; return b })
		}
	}, 4)
	f(func(_ string, files []string) { os.Remove(files[1]) }, 2)
	f(func(_ string, files []string) { os.Remove(files[1]); os.Remove(files[2]) }, 4)
	f(func(_ string, files []string) { edit(files[0], func(b []byte) []byte { return nil }) }, 2)
	f(func(_ string, files []string) { edit(files[1], func(b []byte) []byte { return b[:len(b)-1] }) }, 1)
	f(func(_ string, files []string) { edit(files[1], func(b []byte) []byte { return b[:headerBytes] }) }, 2)
	f(func(_ string, files []string) { edit(files[2], func(b []byte) []byte { clear(b); return b }) }, 2)
	f(func(_ string, files []string) {
		edit(files[2], func(b []byte) []byte { clear(b[:headerBytes+groupHead]); return b })
	}, 0)
	f(func(_ string, files []string) {
		edit(files[3], func(b []byte) []byte { return slices.Insert(b, headerBytes, []byte("stray bytes")...) })
	}, 0)
}

// TestSalvageLargeDamage has damage over many pieces of the window, records of many groups behind it.
func TestSalvageLargeDamage(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{})
	var recs []rec
	for i := range 400 {
		data := string(bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 10_000))
		mustAppend(t, l, data)
		recs = append(recs, rec{Offset(i), data})
	}
	mustClose(t, l)
	path := segmentPath(dir, 0)
	file := mustReadFile(t, path)
	clear(file[1_000_000:5_000_000])
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	wantSalvaged(t, dir, recs, 4_000_000/20_000+2)
}

// TestReaderPassesOverDamage damages a segment behind the back of a log that is open for salvage.
func TestReaderPassesOverDamage(t *testing.T) {
	dir, recs := fourSegments(t)
	l := mustOpen(t, dir, Options{Salvage: true})
	files := segmentFiles(t, dir)
	file := mustReadFile(t, files[1])
	file[len(file)-1]++
	if err := os.WriteFile(files[1], file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(files[2]); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t, l, 0)
	if err == nil {
		t.Errorf("read %v although a file is missing that was there", got)
	}
	if err := os.WriteFile(files[2], make([]byte, 200), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = readAll(t, l, 0)
	want := slices.Concat(recs[:3], recs[6:])
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if n := l.Stats().PassedOver; n == 0 {
		t.Error("nothing was counted")
	}
}

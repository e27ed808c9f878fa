package log

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"eventrouter/pkg/trial"
)

// powerDisk knows what of its files is on the platter and what only in the page cache, so that a power cut can be played: of
// what was not synced, each sector is there or not. A sync that fails drops the pages, as Linux does: they can still be read,
// but no later sync writes them.
type powerDisk struct {
	osDisk
	rng   *rand.Rand
	files map[string]*platter

	untilCut  int // syncs until the power is cut; negative: never
	untilFail int // syncs until one fails
	cutDir    string
}

type platter struct {
	named   bool // the folder's entry is there
	durable []byte
	pending []change
}

// change is a write, or a truncation if data is nil.
type change struct {
	off  int64
	data []byte
}

const sectorBytes = 512

var (
	errPower = errors.New("power cut")
	errSync  = errors.New("sync failed")
)

func (c change) apply(b []byte) []byte {
	if c.data == nil {
		return b[:min(int64(len(b)), c.off)]
	}
	if end := int(c.off) + len(c.data); end > len(b) {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[c.off:], c.data)
	return b
}

// newPowerDisk takes all files of a folder for durable.
func newPowerDisk(t *testing.T, dir string, rng *rand.Rand) *powerDisk {
	t.Helper()
	d := &powerDisk{rng: rng, files: map[string]*platter{}, untilCut: -1, untilFail: -1}
	paths, _ := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	for _, path := range paths {
		d.files[path] = &platter{named: true, durable: mustReadFile(t, path)}
	}
	return d
}

// step is called before each sync.
func (d *powerDisk) step() error {
	if d.cutDir != "" {
		return errPower
	}
	d.untilCut--
	d.untilFail--
	if d.untilCut == -1 {
		d.cut()
		return errPower
	}
	if d.untilFail == -1 {
		return errSync
	}
	return nil
}

// cut writes what a computer would find after a power cut now to a new folder.
func (d *powerDisk) cut() {
	dir, err := os.MkdirTemp("", "log-power")
	if err != nil {
		panic(err)
	}
	d.cutDir = dir
	for path, p := range d.files {
		if !p.named && d.rng.IntN(2) == 0 {
			continue
		}
		b := append([]byte(nil), p.durable...)
		for _, c := range p.pending {
			for _, part := range c.sectors() {
				if d.rng.IntN(3) > 0 {
					b = part.apply(b)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o600); err != nil {
			panic(err)
		}
	}
}

func (c change) sectors() []change {
	if c.data == nil {
		return []change{c}
	}
	var parts []change
	for off, data := c.off, c.data; len(data) > 0; {
		n := min(len(data), sectorBytes-int(off%sectorBytes))
		parts = append(parts, change{off, data[:n]})
		off, data = off+int64(n), data[n:]
	}
	return parts
}

func (d *powerDisk) SyncDir(string) error {
	if err := d.step(); err != nil {
		return err
	}
	for path, p := range d.files {
		p.named = true
		if _, err := os.Stat(path); err != nil { // removed
			delete(d.files, path)
		}
	}
	return nil
}

func (d *powerDisk) Create(path string) (file, error) {
	f, err := d.osDisk.Create(path)
	if err != nil {
		return nil, err
	}
	d.files[path] = &platter{}
	return &powerFile{f, d, d.files[path]}, nil
}

func (d *powerDisk) Open(path string) (file, error) {
	f, err := d.osDisk.Open(path)
	if err != nil {
		return nil, err
	}
	return &powerFile{f, d, d.files[path]}, nil
}

type powerFile struct {
	file
	disk *powerDisk
	on   *platter
}

func (f *powerFile) WriteAt(b []byte, off int64) (int, error) {
	f.on.pending = append(f.on.pending, change{off, append([]byte{}, b...)})
	return f.file.WriteAt(b, off)
}

func (f *powerFile) Truncate(size int64) error {
	f.on.pending = append(f.on.pending, change{off: size})
	return f.file.Truncate(size)
}

func (f *powerFile) Sync() error {
	err := f.disk.step()
	if err == nil {
		for _, c := range f.on.pending {
			f.on.durable = c.apply(f.on.durable)
		}
	}
	if !errors.Is(err, errPower) {
		f.on.pending = nil
	}
	return err
}

// TestPowerCuts lives through power cuts, failed syncs, kills and clean closes in random order. Whatever was acknowledged must
// be there in every life, and the log must open each time.
func TestPowerCuts(t *testing.T) {
	for seed := range uint64(trial.Rounds(t, 100)) {
		livesOf(t, rand.New(rand.NewPCG(seed, 1)))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func livesOf(t *testing.T, rng *rand.Rand) {
	t.Helper()
	dir, err := os.MkdirTemp("", "log-power")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { os.RemoveAll(dir) }()
	d := newPowerDisk(t, dir, rng)
	var acked []rec
	for life := range 8 {
		switch rng.IntN(4) {
		case 0:
			d.untilFail = rng.IntN(12)
		case 1:
		default:
			d.untilCut = rng.IntN(12)
		}
		l, err := openOn(dir, Options{SegmentBytes: 3000}, d)
		switch {
		case err == nil:
			wantHeld(t, l, acked)
			acked = append(acked, appendRandomly(l, life, rng)...)
			if rng.IntN(2) == 0 {
				l.Close() // with its error, if the power is gone
			} else {
				l.lock.Close() // a kill
				if l.tail != nil {
					l.tail.Close()
				}
			}
		case errors.Is(err, ErrDamaged), !errors.Is(err, errPower) && !errors.Is(err, errSync):
			t.Errorf("life %d: %v", life, err)
			return
		}
		if d.cutDir != "" {
			os.RemoveAll(dir)
			dir = d.cutDir
			d = newPowerDisk(t, dir, rng)
		}
		d.untilCut, d.untilFail = -1, -1
	}
	l, err := openOn(dir, Options{}, d)
	if err != nil {
		t.Error(err)
		return
	}
	defer l.Close()
	wantHeld(t, l, acked)
}

// appendRandomly appends until it is tired or the disk fails, and returns what was acknowledged.
func appendRandomly(l *Log, life int, rng *rand.Rand) []rec {
	var acked []rec
	for i := range rng.IntN(15) {
		data := fmt.Sprintf("%d/%d/%0*d", life, i, rng.IntN(1500), 0)
		if err := l.Append([]byte(data)); err != nil {
			break
		}
		acked = append(acked, rec{l.Stats().End - 1, data})
	}
	return acked
}

func wantHeld(t *testing.T, l *Log, acked []rec) {
	t.Helper()
	got, err := readAll(t, l, 0)
	if err != nil {
		t.Errorf("read: %v", err)
		return
	}
	held := map[rec]bool{}
	for _, r := range got {
		held[r] = true
	}
	for _, r := range acked {
		if !held[r] {
			t.Errorf("acknowledged record %d, %.10q, is missing", r.Offset, r.Data)
		}
	}
}

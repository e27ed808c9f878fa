package log

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// faultyDisk fails as it is told.
type faultyDisk struct {
	osDisk
	mu     sync.Mutex
	faults faults
}

// faults are the errors of each call; nil: it works.
type faults struct {
	create, write, sync, syncDir, truncate error
	short                                  int           // bytes that a failing write writes all the same
	gate                                   chan struct{} // a sync sends when it begins, and receives before it ends
}

func (d *faultyDisk) set(f faults) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = f
}

func (d *faultyDisk) now() faults {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.faults
}

func (d *faultyDisk) Create(path string) (file, error) {
	if err := d.now().create; err != nil {
		return nil, err
	}
	f, err := d.osDisk.Create(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

func (d *faultyDisk) Open(path string) (file, error) {
	f, err := d.osDisk.Open(path)
	if err != nil {
		return nil, err
	}
	return &faultyFile{f, d}, nil
}

func (d *faultyDisk) SyncDir(string) error { return d.now().syncDir }

type faultyFile struct {
	file
	disk *faultyDisk
}

func (f *faultyFile) WriteAt(b []byte, off int64) (int, error) {
	fault := f.disk.now()
	if fault.write == nil {
		return f.file.WriteAt(b, off)
	}
	n, err := f.file.WriteAt(b[:min(len(b), fault.short)], off)
	return n, errors.Join(fault.write, err)
}

func (f *faultyFile) Sync() error {
	fault := f.disk.now()
	if fault.gate != nil {
		fault.gate <- struct{}{}
		<-fault.gate
	}
	return fault.sync
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.disk.now().truncate; err != nil {
		return err
	}
	return f.file.Truncate(size)
}

func mustOpenFaulty(t *testing.T, dir string, d *faultyDisk) *Log {
	t.Helper()
	l, err := openOn(dir, Options{MaxBytes: 2500}, d) // little, so that what fails must not be counted
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestFailedWrite has a disk fail for a while: what was refused is not read, what comes after is, also when opened again.
func TestFailedWrite(t *testing.T) {
	errIO := errors.New("input/output error")
	f := func(fault faults, want error) {
		t.Helper()
		dir, d := t.TempDir(), &faultyDisk{}
		l := mustOpenFaulty(t, dir, d)
		mustAppend(t, l, "a", "b")
		d.set(fault)
		for range 50 {
			err := l.Append([]byte("refused"), []byte("refused too"))
			if !errors.Is(err, want) || errors.Is(err, ErrFailed) || (want == errIO && errors.Is(err, ErrFull)) {
				t.Errorf("append: got %v, want %v", err, want)
			}
		}
		got, err := readAll(t, l, 0)
		if fmt.Sprint(got, err) != "[{0 a} {1 b}] <nil>" {
			t.Errorf("meanwhile read %v, %v", got, err)
		}
		d.set(faults{})
		mustAppend(t, l, "c")
		mustAppend(t, l, "d")
		got, err = readAll(t, l, 0)
		if len(got) != 4 || err != nil || got[2].Data != "c" || got[3].Data != "d" || got[3].Offset != got[2].Offset+1 {
			t.Errorf("read %v, %v; want a b c d", got, err)
		}
		if n := len(segmentFiles(t, dir)); n > 2 {
			t.Errorf("%d segment files, want at most 2", n)
		}
		if s, files := l.Stats(), segmentFiles(t, dir); s.Segments != len(files) {
			t.Errorf("%d segments, %d files", s.Segments, len(files))
		}
		mustClose(t, l)
		l = mustOpen(t, dir, Options{})
		wantRecords(t, l, 0, got)
		if d := l.Damage(); len(d) > 0 {
			t.Errorf("damage: %+v", d)
		}
		mustClose(t, l)
		// Bytes that could not be cut off are no damage to Salvage either.
		if damage, err := Salvage(dir, Options{}); err != nil || len(damage) > 0 {
			t.Errorf("salvage: %+v, %v", damage, err)
		}
	}
	f(faults{write: unix.ENOSPC}, ErrFull)
	f(faults{write: unix.EDQUOT}, ErrFull)
	f(faults{write: unix.ENOSPC, short: 70}, ErrFull)
	f(faults{write: unix.ENOSPC, short: 40, truncate: errIO}, ErrFull)
	f(faults{write: unix.ENOSPC, short: 70, truncate: errIO}, ErrFull)
	f(faults{write: unix.ENOSPC, short: 1}, ErrFull)
	f(faults{write: errIO, short: 50}, errIO)
	f(faults{create: unix.ENOSPC, write: unix.ENOSPC}, ErrFull)
}

// TestFailedWriteThenCrash leaves the bytes of a refused group at the end of the last segment.
func TestFailedWriteThenCrash(t *testing.T) {
	dir, d := t.TempDir(), &faultyDisk{}
	l := mustOpenFaulty(t, dir, d)
	mustAppend(t, l, "a")
	d.set(faults{write: unix.ENOSPC, short: 70, truncate: unix.EIO})
	if err := l.Append([]byte("refused"), []byte("refused too")); !errors.Is(err, ErrFull) {
		t.Errorf("append: got %v, want ErrFull", err)
	}
	file := mustReadFile(t, segmentPath(dir, 0))
	wantCut(t, logOf(t, file), file[len(file)-70:], numbered(0, "a"))
}

// TestNoRoomToKeepAside opens a torn log on a full disk: the log must come up all the same.
func TestNoRoomToKeepAside(t *testing.T) {
	file, starts, recs := threeGroups(t)
	f := func(file []byte, want []rec) {
		t.Helper()
		dir, d := logOf(t, file), &faultyDisk{}
		d.set(faults{create: unix.ENOSPC})
		l := mustOpenFaulty(t, dir, d)
		if damage := l.Damage(); len(damage) != 1 || damage[0].KeptAside != "" {
			t.Errorf("damage %+v, want one that still stands in the file", damage)
		}
		if err := l.Append([]byte("refused")); !errors.Is(err, ErrFull) {
			t.Errorf("append: got %v, want ErrFull", err)
		}
		d.set(faults{})
		wantGoesOn(t, dir, l, want)
	}
	f(file[:len(file)-1], recs[:3])
	f(file[:starts[1]-1], nil)
	f(file[:headerBytes+1], nil)
}

func TestFailedSync(t *testing.T) {
	errIO := errors.New("input/output error")
	f := func(fault faults, firstFails bool) {
		t.Helper()
		dir, d := t.TempDir(), &faultyDisk{}
		l := mustOpenFaulty(t, dir, d)
		var want []rec
		if !firstFails {
			mustAppend(t, l, "a")
			want = numbered(0, "a")
		}
		if err := l.Err(); err != nil {
			t.Errorf("Err before: %v", err)
		}
		d.set(fault)
		if err := l.Append([]byte("refused")); !errors.Is(err, ErrFailed) || !errors.Is(err, errIO) {
			t.Errorf("append: got %v, want ErrFailed", err)
		}
		d.set(faults{})
		if err := l.Append([]byte("refused too")); !errors.Is(err, ErrFailed) {
			t.Errorf("append after the failure: got %v, want ErrFailed", err)
		}
		select {
		case <-l.Failed():
		default:
			t.Error("Failed is not closed")
		}
		if err := l.Err(); !errors.Is(err, errIO) {
			t.Errorf("Err: %v, want the reason", err)
		}
		wantRecords(t, l, 0, want)
		mustClose(t, l)
		got, err := readAll(t, mustOpen(t, dir, Options{}), 0)
		if err != nil || len(got) < len(want) {
			t.Errorf("opened again: %v, %v; want at least %v", got, err, want)
		}
	}
	f(faults{sync: errIO}, false)
	f(faults{sync: errIO}, true)
	f(faults{syncDir: errIO}, true)
}

// TestGroupFailsAsAWhole has many calls gather in one group while another is synced; then the disk is full.
func TestGroupFailsAsAWhole(t *testing.T) {
	f := func(fault faults, want error) {
		t.Helper()
		const calls = 20
		d := &faultyDisk{}
		l := mustOpenFaulty(t, t.TempDir(), d)
		mustAppend(t, l, "a")
		gate := make(chan struct{})
		d.set(faults{gate: gate})
		first := make(chan error)
		go func() { first <- l.Append([]byte("b")) }()
		<-gate
		d.set(fault)
		var wg sync.WaitGroup
		errs := make([]error, calls)
		for i := range calls {
			wg.Go(func() { errs[i] = l.Append([]byte("refused")) })
		}
		for l.Stats().Waiting < 1+calls {
			runtime.Gosched()
		}
		gate <- struct{}{}
		if err := <-first; err != nil {
			t.Errorf("first: %v", err)
		}
		wg.Wait()
		for _, err := range errs {
			if !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		wantRecords(t, l, 0, numbered(0, "a", "b"))
	}
	f(faults{write: unix.ENOSPC}, ErrFull)
	f(faults{sync: unix.EIO}, ErrFailed)
}

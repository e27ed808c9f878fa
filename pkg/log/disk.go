package log

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is what the log needs of the file system to append; tests put one that fails in its place.
type disk interface {
	Create(path string) (file, error)
	Open(path string) (file, error)
	SyncDir(dir string) error
	Free(dir string) (bytes int64, err error)
}

type file interface {
	io.WriterAt
	Sync() error // data and what is needed to read it; not times
	Truncate(size int64) error
	Close() error
}

type osDisk struct{}

// Create makes a file that its owner alone may read; it is an error if there is one.
func (osDisk) Create(path string) (file, error) { return openFile(path, os.O_CREATE|os.O_EXCL) }

// Open opens a file that is there, to read and write.
func (osDisk) Open(path string) (file, error) { return openFile(path, 0) }

func openFile(path string, flag int) (file, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flag, 0o600)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, fd: int(f.Fd())}, nil
}

// SyncDir makes the names in a folder durable.
func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Free is how many bytes may still be written below a folder by who is not root.
func (osDisk) Free(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}

// osFile is a file whose Sync is fdatasync, half the journal traffic of fsync.
type osFile struct {
	*os.File
	fd int
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// lockDir takes the lock of a directory; closing the file gives it free, and so does the end of the process.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, fmt.Errorf("%w: %s, by process %s", ErrInUse, dir, strings.TrimSpace(string(pid)))
	}
	if err := errors.Join(f.Truncate(0), writePid(f)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func writePid(f *os.File) error {
	_, err := fmt.Fprintln(f, os.Getpid())
	return err
}

// Check fails the log when the directory at its path is gone, or another one: what is appended then nobody would find again. Whoever runs the log calls it from time to time.
func (l *Log) Check() {
	here, err := l.lock.Stat()
	if err != nil {
		return // closed
	}
	there, err := os.Stat(filepath.Join(l.dir, "LOCK"))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(here, there) {
		l.fail(fmt.Errorf("the directory %s is gone, or another one stands in its place", l.dir))
	}
}

package log

import "golang.org/x/sys/unix"

func (f *osFile) Sync() error {
	for {
		if err := unix.Fdatasync(f.fd); err != unix.EINTR {
			return err
		}
	}
}

package log

import "golang.org/x/sys/unix"

// Sync makes data durable with what is needed to read it, and spares the times.
func (f *osFile) Sync() error {
	for {
		if err := unix.Fdatasync(f.fd); err != unix.EINTR {
			return err
		}
	}
}

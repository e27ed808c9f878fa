//go:build !linux

package log

// Sync makes data durable, with all that the system keeps of the file.
func (f *osFile) Sync() error { return f.File.Sync() }

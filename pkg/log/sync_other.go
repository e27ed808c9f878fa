//go:build !linux

package log

func (f *osFile) Sync() error { return f.File.Sync() }

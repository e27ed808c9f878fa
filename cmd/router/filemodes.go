package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// ownNames are what a router makes in its data directory; folders with all that is in them. Whatever else stands there is somebody's own.
var ownNames = []string{"router.db", "router.db-wal", "router.db-shm", "LOCK", "sorter.mark", "log", "elsewhere", "damaged"}

// tightenModes keeps what is in a data directory to the owner: 0600 and 0700, as the router makes it whatever the umask. What was copied there with wider modes
// is told of, once, for others may have read it. The directory itself stays as an administrator made it.
func tightenModes(dataDir string, logger *slog.Logger) {
	var widened, failed []string
	tighten := func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // reclaimed meanwhile, or not there yet
				return nil
			}
			failed = append(failed, path)
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Mode().Perm()&0o077 == 0 || !info.Mode().IsRegular() && !info.IsDir() {
			return nil // a link is another's
		}
		mode := fs.FileMode(0o600)
		if d.IsDir() {
			mode = 0o700
		}
		if err := os.Chmod(path, mode); err != nil {
			failed = append(failed, path)
			return nil
		}
		widened = append(widened, path)
		return nil
	}
	for _, name := range ownNames {
		if err := filepath.WalkDir(filepath.Join(dataDir, name), tighten); err != nil {
			failed = append(failed, name)
		}
	}
	const most = 5
	told := func(paths []string) string {
		if len(paths) > most {
			paths = append(paths[:most:most], "...")
		}
		return strings.Join(paths, ", ")
	}
	if len(widened) > 0 {
		logger.Warn("files in the data directory were open to others, and are not any more", "files", len(widened), "paths", told(widened))
	}
	if len(failed) > 0 {
		logger.Warn("files in the data directory are open to others, which can not be changed: who owns them?", "files", len(failed), "paths", told(failed))
	}
}

package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// crashBytes is the most that is read of a report; what kills a call stands in its first goroutine.
const crashBytes = 1 << 20

// crashReport returns what the runtime wrote when the process before ended of itself, which the log tells, and has it write there from now on. "": it was stopped or killed. Only who has the
// store open may call it.
func crashReport(dataDir string, logger *slog.Logger) (string, error) {
	f, err := os.OpenFile(filepath.Join(dataDir, "crash.txt"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("open the file of crashes: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, crashBytes))
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = debug.SetCrashOutput(f, debug.CrashOptions{}) // it keeps the file open by itself
	}
	if err != nil {
		return "", fmt.Errorf("prepare the file of crashes: %w", err)
	}
	if first, _, _ := strings.Cut(string(text), "\n"); strings.HasPrefix(first, "fatal error: ") {
		logger.Error("the process before ended of itself", "cause", first)
	} else if first != "" {
		logger.Error("the process before ended of itself, by a panic")
	}
	return string(text), nil
}

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
)

// crashBytes is the most that is read of a report; what kills a call stands in its first goroutine.
const crashBytes = 1 << 20

// crashReport returns what the runtime wrote when the process before ended of itself, which the log tells, and has it write there from now on. "": it was stopped or killed, or the file can
// not be used, which the log tells too: nobody needs it to deliver. Only who has the store open may call it.
func crashReport(dataDir string, logger *slog.Logger) string {
	text, err := takeCrash(dataDir)
	if err != nil {
		logger.Warn("calls that end the process can not be found out", "error", err.Error())
	}
	if first, _, _ := strings.Cut(text, "\n"); strings.HasPrefix(first, "fatal error: ") {
		logger.Error("the process before ended of itself", "cause", first)
	} else if first != "" {
		logger.Error("the process before ended of itself, by a panic")
	}
	return text
}

// takeCrash empties the file of crashes.
func takeCrash(dataDir string) (string, error) {
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
	return string(text), nil
}

// trimCrash takes what a panic said out of the file of crashes, for that may quote an event. Where it was stays.
func trimCrash(dataDir string) error {
	path := filepath.Join(dataDir, "crash.txt")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, where, _ := strings.Cut(string(text), "\n\ngoroutine "); err == nil && strings.HasPrefix(string(text), "panic: ") {
		err = os.WriteFile(path, []byte("panic\n\ngoroutine "+where), 0o600)
	}
	if err != nil {
		return fmt.Errorf("erase what a panic said: %w", err)
	}
	return nil
}

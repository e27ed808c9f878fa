package docs

import (
	"bytes"
	"errors"
	"os/exec"
	"testing"
)

// router runs the router and returns what it printed and its exit code.
func router(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	var buf bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return buf.String(), cmd.ProcessState.ExitCode()
}

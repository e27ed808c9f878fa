package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestOpenAPILint: docs/openapi.yaml passes Redocly's linter with what it recommends (openapi/redocly.yaml), without a warning.
func TestOpenAPILint(t *testing.T) {
	t.Parallel()
	const linter = "openapi/node_modules/@redocly/cli/bin/cli.js"
	for _, file := range []string{"../docs/openapi.yaml", "openapi/redocly.yaml"} { // go test must know that a cached result depends on them
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(linter); err != nil {
		t.Fatalf("%v: run e2e/install.sh", err)
	}
	lint := func(file string) (errors, warnings int, out string) {
		cmd := exec.Command("node", linter, "lint", "--config", "openapi/redocly.yaml", "--format", "json", file)
		cmd.Env = append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true") // it is to call nobody
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run() // a status other than 0 means problems, which are printed
		var result struct {
			Totals struct{ Errors, Warnings int }
		}
		if err := json.Unmarshal(stdout.Bytes(), &result); err != nil {
			t.Fatalf("%v\n%s\n%s", err, stdout.Bytes(), stderr.Bytes())
		}
		return result.Totals.Errors, result.Totals.Warnings, stdout.String()
	}
	if errors, warnings, out := lint("../docs/openapi.yaml"); errors+warnings > 0 {
		t.Errorf("%d errors, %d warnings\n%s", errors, warnings, out)
	}
	// The linter is one that finds something.
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("openapi: 3.1.1\ninfo: {title: x, version: '1'}\npaths:\n  /x:\n    get: {responses: {}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if errors, warnings, out := lint(bad); errors == 0 || warnings == 0 {
		t.Errorf("a bad file has %d errors, %d warnings\n%s", errors, warnings, out)
	}
}

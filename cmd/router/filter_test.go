package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCheckFilters: each mistake in a filter is reported with its line, and all of them at once.
func TestCheckFilters(t *testing.T) {
	const file = "testdata/filter.bad.yaml"
	_, errText, code := command(t, "check", "--config", file)
	if code != exitUsage {
		t.Errorf("exit %d, want %d", code, exitUsage)
	}
	golden := strings.TrimSuffix(file, ".yaml") + ".txt"
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), errText+"\n"); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
}

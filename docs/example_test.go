package docs

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestExamplesAreShown: pages show the code that runs.
func TestExamplesAreShown(t *testing.T) {
	files, err := filepath.Glob("example_*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	sources := ""
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources += string(source)
	}
	for _, p := range loadAll(t) {
		for _, b := range p.blocks {
			if b.is("go", "example") && !strings.Contains(sources, b.text) {
				t.Errorf("%s is in none of the examples", &b)
			}
		}
	}
}

// TestExampleIsWhole: adding-a-destination.md shows all of the destination.
func TestExampleIsWhole(t *testing.T) {
	shown := ""
	for _, b := range load(t, "adding-a-destination.md").blocks {
		if b.is("go", "example") {
			shown += b.text
		}
	}
	for _, method := range []string{
		"newCollector", ") Plan(", ") Lanes(", ") Hub(", ") Acquire(", ") Send(", ") deliver(", ") post(", "func verdict(", ") Test(", "destinationtest.Run",
	} {
		if !strings.Contains(shown, method) {
			t.Errorf("adding-a-destination.md does not show %s", method)
		}
	}
}

// TestFilesOfTheWebhook: the page leads through all files of the smallest real destination.
func TestFilesOfTheWebhook(t *testing.T) {
	files, err := filepath.Glob("../pkg/destinations/webhook/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			want = append(want, filepath.Base(file))
		}
	}
	for _, row := range load(t, "adding-a-destination.md").tableUnder(t, "The smallest real one").rows {
		got = append(got, code(row[0])...)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-files +page):\n%s", diff)
	}
}

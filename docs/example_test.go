package docs

import (
	"os"
	"strings"
	"testing"
)

// TestExampleIsShown: the page shows the code that runs, and all of the destination.
func TestExampleIsShown(t *testing.T) {
	source, err := os.ReadFile("example_destination_test.go")
	if err != nil {
		t.Fatal(err)
	}
	shown := ""
	for _, b := range load(t, "adding-a-destination.md").blocks {
		if !b.is("go", "example") {
			continue
		}
		if !strings.Contains(string(source), b.text) {
			t.Errorf("%s is not in example_destination_test.go", &b)
		}
		shown += b.text
	}
	for _, method := range []string{"newJSONLines", ") Plan(", ") Lanes(", ") Hub(", ") Acquire(", ") Send(", ") Test("} {
		if !strings.Contains(shown, method) {
			t.Errorf("adding-a-destination.md does not show %s", method)
		}
	}
}

package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// allowed says which packages of ours each package may import. Arrows point one way: to leaves.
var allowed = map[string][]string{
	"pkg/event":  {},
	"pkg/seal":   {},
	"pkg/config": {"pkg/event", "pkg/seal"},
	"pkg/log":    {"pkg/seal"},
	"pkg/store":  {"pkg/seal"},
	"pkg/redact": {},
	"pkg/trial":  {},

	"pkg/endusers": {"pkg/config", "pkg/event"},
	"pkg/portal":   {"pkg/config", "pkg/connections", "pkg/endusers"},

	"pkg/ingest/segment": {},

	"pkg/upload": {},
	"pkg/export": {"pkg/event"},

	"pkg/testcase": {"pkg/config"},

	"pkg/filters":      {"pkg/config", "pkg/event"},
	"pkg/jitsuconfig":  {"pkg/config", "pkg/filters"},
	"pkg/ingest":       {"pkg/appevents", "pkg/config", "pkg/endusers", "pkg/event", "pkg/ingest/segment", "pkg/log"},
	"pkg/appevents":    {"pkg/config", "pkg/destinations", "pkg/event", "pkg/filters"},
	"pkg/destinations": {"pkg/config", "pkg/event"},
	"pkg/eventscache":  {"pkg/event", "pkg/redact", "pkg/store"},
	"pkg/enrich":       {"pkg/config", "pkg/event"},
	"pkg/router":       {"pkg/config", "pkg/destinations", "pkg/enrich", "pkg/event", "pkg/filters", "pkg/log", "pkg/redact", "pkg/store"},

	"pkg/connections": {"pkg/config", "pkg/destinations", "pkg/event", "pkg/seal", "pkg/store"},

	// The apps of the proxy are all HubSpot's, and it shares the quotas of that destination.
	"pkg/proxy": {"pkg/config", "pkg/destinations", "pkg/destinations/hubspot", "pkg/endusers", "pkg/event"},

	"pkg/dryrun": {"pkg/destinations", "pkg/enrich", "pkg/event", "pkg/filters", "pkg/redact", "pkg/router", "pkg/store"},

	// A destination knows its contract, the leaves and the language of expressions, never the router; a double of a remote knows nothing of ours.
	// HubSpot brings its double along: a dry run sends to that.
	"pkg/destinations/hubspot":         {"pkg/config", "pkg/destinations", "pkg/destinations/hubspot/sandbox", "pkg/event", "pkg/filters"},
	"pkg/destinations/hubspot/sandbox": {},
	"pkg/destinations/webhook":         {"pkg/config", "pkg/destinations", "pkg/event", "pkg/filters"},
	"pkg/destinations/destinationtest": {"pkg/config", "pkg/destinations", "pkg/event"},
}

func TestImportsPointOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "eventrouter/pkg/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg := strings.TrimPrefix(fields[0], "eventrouter/")
		seen[pkg] = true
		may, ok := allowed[pkg]
		if !ok {
			t.Errorf("package %s has no row here: say what it may import", pkg)
		}
		for _, path := range fields[1:] {
			ours, isOurs := strings.CutPrefix(path, "eventrouter/")
			if isOurs && !slices.Contains(may, ours) {
				t.Errorf("%s imports %s, which it may not", pkg, ours)
			}
		}
	}
	for pkg := range allowed {
		if !seen[pkg] {
			t.Errorf("package %s has a row here and does not exist", pkg)
		}
	}
}

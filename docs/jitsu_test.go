package docs

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestDifferences: each row of the table is about a recorded case, and no case stands twice. That the rows are right, and all there are,
// is what the tests of the packages show.
func TestDifferences(t *testing.T) {
	recorded := map[string]string{
		"ingest_http":                     "../testdata/jitsu/ingest.json",
		"upstream-tests.incoming_event":   "../testdata/jitsu/ingest.json",
		"upstream-tests.segment_api":      "../testdata/jitsu/ingest.json",
		"upstream-tests.pixel":            "../testdata/jitsu/ingest.json",
		"upstream-tests.ip_cookie_policy": "../testdata/jitsu/ingest.json",
		"table_name":                      "../testdata/jitsu/templates.json",
		"upstream-tests.js_expression":    "../testdata/jitsu/templates.json",
		"transform":                       "../testdata/jitsu/transforms.json",
		"hubspot":                         "../testdata/jitsu/hubspot.json",
		"mappings":                        "../testdata/jitsu/mappings.json",
		"evaluate":                        "../testdata/jitsu/evaluate.json",

		"upstream-tests.api_keys_forms": "../testdata/jitsu/config.json",
	}
	p := load(t, "jitsu-differences.md")
	if len(p.tables) != 1 || strings.Join(p.tables[0].header, " ") != "group case reason" {
		t.Fatalf("the page has no table of group, case and reason")
	}
	seen := map[string]bool{}
	for _, row := range p.tables[0].rows {
		group, name, reason := code(row[0])[0], code(row[1])[0], row[2]
		data, err := os.ReadFile(recorded[group])
		if err != nil {
			t.Errorf("group %s: %v", group, err)
			continue
		}
		var all any
		if err := json.Unmarshal(data, &all); err != nil {
			t.Fatal(err)
		}
		if !holds(all, name) {
			t.Errorf("%s: no case is called %q", group, name)
		}
		if reason == "" || seen[row[0]+row[1]] {
			t.Errorf("%s: %s stands twice or has no reason", group, row[1])
		}
		seen[row[0]+row[1]] = true
	}
}

// holds says whether text is one of the strings in v.
func holds(v any, text string) bool {
	switch v := v.(type) {
	case string:
		return v == text
	case []any:
		for _, item := range v {
			if holds(item, text) {
				return true
			}
		}
	case map[string]any:
		for _, item := range v {
			if holds(item, text) {
				return true
			}
		}
	}
	return false
}

package filters

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/docs"
)

// differences say what becomes of the cases in which this router deliberately does not do what Jitsu does: the name, or "error", by template and
// event. The reasons are in the table of the documentation, which lists the same cases.
var differences = map[string]string{
	`{{if gt .n 5}}big{{else}}small{{end}} E`:                            "big",
	`{{ get . "/user/email" "none" }} E`:                                 "john_doe_example_com",
	`{{ get . "/user/email" "none" }} EMPTY`:                             "none",
	`{{ get . "user/email||src" "none" }} EMPTY`:                         "none",
	`return typeof require E`:                                            "undefined",
	`return typeof $kv E`:                                                "undefined",
	`return process.env.PATH E`:                                          "error",
	`if (true) {var a = function(){ metric_type }} return $.metric_type`: "error",
}

// jitsuCases are templates with what Jitsu was seen to make of them.
type jitsuCases struct {
	Groups []struct {
		ID      string                     `json:"id"`
		Objects map[string]json.RawMessage `json:"objects"`
		Cases   []jitsuCase                `json:"cases"`
	} `json:"groups"`
}

type jitsuCase struct {
	// table_name
	Expression string  `json:"expression"`
	Object     string  `json:"object"`
	Format     string  `json:"format"`
	TableName  *string `json:"table_name"`
	Outcome    string  `json:"outcome"`
	// upstream-tests
	JS       string          `json:"js"`
	Template string          `json:"template"`
	Input    json.RawMessage `json:"input"`
	Event    json.RawMessage `json:"event"`
	Expected json.RawMessage `json:"expected"`
}

func TestJitsuCases(t *testing.T) {
	raw, err := os.ReadFile("../../testdata/jitsu/templates.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases jitsuCases
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, group := range cases.Groups {
		for _, c := range group.Cases {
			if c.Expression != "" || c.Object != "" {
				checkJitsuCase(t, seen, c, c.Expression, string(group.Objects[c.Object]), c.observed())
				continue
			}
			checkJitsuCase(t, seen, c, c.JS+c.Template, string(c.Input)+string(c.Event), c.expected(t))
		}
	}
	listed := docs.Differences("table_name")
	maps.Copy(listed, docs.Differences("upstream-tests.js_expression"))
	if diff := cmp.Diff(slices.Sorted(maps.Keys(listed)), slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("the cases that differ from Jitsu's are not those that the documentation lists (-listed +differ):\n%s", diff)
	}
}

func (c jitsuCase) observed() string {
	if c.Outcome == "error" {
		return "error"
	}
	return *c.TableName
}

// expected is what a case of Jitsu's own tests comes to as a table name.
func (c jitsuCase) expected(t *testing.T) string {
	var v any
	if err := json.Unmarshal(c.Expected, &v); err != nil {
		t.Fatal(err)
	}
	switch v := v.(type) {
	case string:
		return tableName(v)
	case bool:
		return map[bool]string{true: "true", false: "false"}[v]
	case map[string]any:
		if _, ok := v["$error_prefix"]; ok {
			return "error"
		}
	}
	return "null"
}

func checkJitsuCase(t *testing.T, seen map[string]bool, c jitsuCase, template, view, jitsu string) {
	t.Helper()
	want := jitsu
	name := strings.TrimSuffix(template+" "+c.Object, " ")
	if ours, ok := differences[name]; ok {
		want = ours
		seen[name] = true
		if want == jitsu {
			t.Errorf("%q, %s: Jitsu does the same: %q", template, c.Object, want)
		}
	}
	got, format := evalNamed(template, view)
	if got != want {
		t.Errorf("%q, %s = %q, want %q", template, c.Object, got, want)
	}
	if c.Format != "" && format != "" && format != c.Format {
		t.Errorf("%q: format %s, want %s", template, format, c.Format)
	}
}

// evalNamed returns the table name, or "error", and the format, or "" for a template that does not compile.
func evalNamed(template, view string) (name, format string) {
	f, err := Compile(template, Options{Destination: "dst1"})
	if err != nil {
		return "error", ""
	}
	r, err := f.evalView(view)
	if err != nil {
		return "error", f.Format()
	}
	if skip := r.Name == "" || r.Name == "null" || r.Name == "false"; r.Keep == skip {
		return "keep and skip are mixed up", f.Format()
	}
	return r.Name, f.Format()
}

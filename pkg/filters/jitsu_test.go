package filters

import (
	"encoding/json"
	"os"
	"testing"
)

// difference is a case in which this router deliberately does not do what Jitsu does.
type difference struct {
	template string // as in testdata/jitsu-cases.json
	object   string // the event's name there; "" for all
	want     string // the name, or "error"
	reason   string
}

// differences are all of them.
var differences = []difference{
	{`{{if gt .n 5}}big{{else}}small{{end}}`, "E", "big", "numbers compare as numbers; in Jitsu the comparison fails"},
	{`{{ get . "/user/email" "none" }}`, "E", "john_doe_example_com", "get works; in Jitsu it always fails"},
	{`{{ get . "/user/email" "none" }}`, "EMPTY", "none", "get works; in Jitsu it always fails"},
	{`{{ get . "user/email||src" "none" }}`, "EMPTY", "none", "get works; in Jitsu it always fails"},
	{`return typeof require`, "E", "undefined", "scripts have no modules"},
	{`return typeof $kv`, "E", "undefined", "scripts keep nothing between events"},
	{`return process.env.PATH`, "E", "error", "scripts do not see the environment, and unknown names are found at the start"},
	{`if (true) {var a = function(){ metric_type }} return $.metric_type`, "", "error", "unknown names are found at the start, even where they would never be reached"},
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
	raw, err := os.ReadFile("testdata/jitsu-cases.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases jitsuCases
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[difference]bool{}
	for _, group := range cases.Groups {
		for _, c := range group.Cases {
			if c.Expression != "" || c.Object != "" {
				checkJitsuCase(t, seen, c, c.Expression, string(group.Objects[c.Object]), c.observed())
				continue
			}
			checkJitsuCase(t, seen, c, c.JS+c.Template, string(c.Input)+string(c.Event), c.expected(t))
		}
	}
	for _, d := range differences {
		if !seen[d] {
			t.Errorf("no case for the difference %q, %s", d.template, d.object)
		}
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

func checkJitsuCase(t *testing.T, seen map[difference]bool, c jitsuCase, template, view, jitsu string) {
	t.Helper()
	want := jitsu
	for _, d := range differences {
		if d.template == template && d.object == c.Object {
			want = d.want
			seen[d] = true
			if want == jitsu {
				t.Errorf("%q, %s: Jitsu does the same: %q", template, c.Object, want)
			}
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

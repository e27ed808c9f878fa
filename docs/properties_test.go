package docs

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// exampleProperties are those of the examples of settings.
var exampleProperties = []sandbox.Property{
	{Name: "external_id", Label: "External id", Type: "string", FieldType: "text", HasUniqueValue: true},
	{Name: "plan_tier", Label: "Plan", Type: "string", FieldType: "text"},
	{Name: "fullname", Label: "Name", Type: "string", FieldType: "text"},
	{Name: "seats", Label: "Seats", Type: "number", FieldType: "number"},
	{Name: "born", Label: "Born", Type: "date", FieldType: "date"},
	{Name: "interests", Label: "Interests", Type: "enumeration", FieldType: "checkbox", Options: []sandbox.Option{
		{Label: "Art", Value: "art"}, {Label: "Cars", Value: "cars"},
	}},
}

// TestPropertyExamples: the table of settings in hubspot.md, from the events to what HubSpot holds, in one batch and in several.
func TestPropertyExamples(t *testing.T) {
	t.Parallel()
	examples := tablesOf(t, "settings | user | contact")
	if len(examples) < 15 {
		t.Fatal("hubspot.md lacks its table of settings")
	}
	for _, row := range examples {
		for _, apart := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) { propertyExample(t, row, apart) })
		}
	}
}

func propertyExample(t *testing.T, row []string, apart bool) {
	t.Helper()
	a := newAccount(t, code(row[0])[0], sandbox.Options{Properties: exampleProperties})
	var batch []destinations.Entry
	for _, user := range code(row[1]) {
		if !strings.Contains(user, `"email"`) {
			user = `{"email":"a@example.com",` + strings.TrimPrefix(user, "{")
		}
		entries, err := a.plan(`{"event_type":"user_identify","user":` + user + `}`)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%s %s: %d entries, %v", row[0], row[1], len(entries), err)
		}
		if batch = append(batch, entries...); apart {
			a.deliver(t, batch...)
			batch = nil
		}
	}
	if !apart {
		a.deliver(t, batch...)
	}
	var want map[string]string
	if err := json.Unmarshal([]byte(code(row[2])[0]), &want); err != nil {
		t.Fatal(err)
	}
	contacts := a.box.Contacts()
	if len(contacts) != 1 {
		t.Fatalf("%s %s: %d contacts", row[0], row[1], len(contacts))
	}
	got := contacts[0].Properties
	if want["email"] == "" {
		delete(got, "email")
	}
	for name, v := range got {
		if v == "" { // cleared
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s %s, one by one: %v (-page +HubSpot)\n%s", row[0], row[1], apart, diff)
	}
}

// TestReasonsOfWhatIsLeftOut: the page has the reasons that the code has.
func TestReasonsOfWhatIsLeftOut(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../pkg/destinations/hubspot/merge.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(v.Names[0].Name, "reason") {
			text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, text)
		}
		return true
	})
	var got []string
	for _, row := range load(t, "hubspot.md").tableUnder(t, "What was left out").rows {
		got = append(got, code(row[0])...)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 5 {
		t.Error(fmt.Sprint("reasons (-code +hubspot.md):\n", diff))
	}
}

// TestComplaints: each complaint of hubspot.md has its test, and each of these tests its complaint.
func TestComplaints(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../pkg/destinations/hubspot/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^func (TestComplaint\d\d)\w*\(t \*testing`).FindAllStringSubmatch(string(data), -1) {
			want = append(want, m[1])
		}
	}
	slices.Sort(want)
	want = slices.Compact(want)
	var got []string
	for _, row := range load(t, "hubspot.md").tableUnder(t, "Twenty complaints").rows {
		got = append(got, code(row[2])...)
	}
	if diff := cmp.Diff(want, got); diff != "" || len(got) != 20 {
		t.Errorf("%d complaints (-tests +hubspot.md):\n%s", len(got), diff)
	}
}

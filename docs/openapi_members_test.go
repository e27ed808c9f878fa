package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// TestOpenAPIMembers: schemas of answers have the members that the source gives them, also those that no example shows, and require those that are never left
// out.
func TestOpenAPIMembers(t *testing.T) {
	t.Parallel()
	s := loadSpec(t)
	f := func(goType string, schema ...string) {
		t.Helper()
		n := s.get(s.root, append([]string{"components", "schemas"}, schema...)...)
		got := map[string]bool{}
		for name := range pairs(member(n, "properties")) {
			got[name] = false
		}
		if list := member(n, "required"); list != nil {
			for _, name := range list.Content {
				got[name.Value] = true
			}
		}
		if diff := cmp.Diff(structMembers(t, goType), got); diff != "" {
			t.Errorf("%s (-%s +schema):\n%s", strings.Join(schema, "."), goType, diff)
		}
	}
	f("pkg/router.Explanation", "Explanation")
	f("pkg/router.Receipt", "Receipt")
	f("pkg/router.Output", "Output")
	f("pkg/router.Waiting", "Output", "properties", "waiting")
	f("pkg/router.LaneStatus", "Lane")
	f("pkg/store.LaneName", "Lane", "properties", "name")
	f("pkg/dryrun.Report", "DryRun")
	f("pkg/dryrun.Destination", "DryRun", "properties", "destinations", "items")
	f("pkg/dryrun.Event", "DryRunEvent")
	f("pkg/dryrun.Result", "DryRunResult")
	f("pkg/dryrun.Line", "DryRunResult", "properties", "logs", "items")
	f("pkg/dryrun.Output", "DryRunOutput")
	f("pkg/dryrun.Delivery", "DryRunOutput", "properties", "deliveries", "items")
	f("pkg/dryrun.Request", "DryRunRequest")
	f("pkg/dryrun.Header", "DryRunRequest", "properties", "headers", "items")
	f("cmd/router.evaluated", "Evaluated")
	f("cmd/router.evaluateLog", "Evaluated", "properties", "logs", "items")
	f("pkg/eventscache.Answer", "EventsCache")
	f("pkg/eventscache.Event", "CachedEvent")
	f("pkg/destinations.Finding", "Finding")
	f("cmd/router.reload", "Reload")
	f("cmd/router.addressStatus", "Reload", "properties", "elsewhere", "items")
	f("cmd/router.reloadRefused", "ReloadError")
	f("cmd/router.reloadProblem", "ReloadError", "properties", "problems", "items")
	f("cmd/router.shownLetter", "DeadLetter")
	f("cmd/router.shownReplay", "DeadLetter", "properties", "replay")
	f("cmd/router.lettersPage", "DeadLetters")
	f("cmd/router.lettersSummary", "DeadLetterSummary")
	f("cmd/router.lettersGroup", "DeadLetterSummary", "properties", "groups", "items")
	f("cmd/router.letterFilter", "DeadLetterFilter")
	f("cmd/router.replayAnswer", "DeadLettersReplayed")
	f("cmd/router.dropAnswer", "DeadLettersDropped")
	f("cmd/router.editableLetter", "EditableDeadLetter")
	f("cmd/router.edited", "DeadLetterEdited")
	f("cmd/router.importAnswer", "DeadLettersImported")
	f("cmd/router.badLine", "DeadLettersImported", "properties", "refused", "items")
	f("cmd/router.lettersRefusal", "DeadLettersRefused")
	f("pkg/connections.Connection", "Connection")
	f("pkg/connections.Disconnection", "Disconnection")
	f("cmd/router.fallbackFiles", "Fallback")
	f("cmd/router.fallbackFile", "Fallback", "properties", "files", "items")

	// What has no struct: each name stands in the source that writes it.
	source := ingestSource(t)
	for _, schema := range []string{"Taken", "Error", "Upload", "UploadError", "LineError", "BatchTaken", "BatchSuccess", "BatchOkTrue", "Settings"} {
		walk(s.get(s.root, "components", "schemas", schema), func(n *yaml.Node) {
			for name := range pairs(member(n, "properties")) {
				if !strings.Contains(source, `"`+name+`":`) {
					t.Errorf("%s: nothing writes %s", schema, name)
				}
			}
		})
	}
}

// structMembers are the JSON names of a struct's fields, and whether each is always there.
func structMembers(t *testing.T, goType string) map[string]bool {
	t.Helper()
	dir, name, _ := strings.Cut(goType, ".")
	files, err := filepath.Glob("../" + dir + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	members := map[string]bool{}
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != name {
				return true
			}
			fields, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range fields.Fields.List {
				if field.Tag == nil {
					continue
				}
				tag := reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json")
				json, options, _ := strings.Cut(tag, ",")
				members[json] = options != "omitempty"
			}
			return true
		})
	}
	if len(members) == 0 {
		t.Fatalf("%s has no members", goType)
	}
	return members
}

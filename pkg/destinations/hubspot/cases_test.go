package hubspot

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
	"golang.org/x/tools/txtar"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

var update = flag.Bool("update", false, "rewrite what the cases expect")

// TestCases runs testdata/cases: events.jsonl goes in, with properties.json as custom contact properties, contacts.jsonl as what HubSpot has
// before, and settings.yaml beside the token; the calls that were made and the outcomes must be those in the file.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got []txtar.File
			synctest.Test(t, func(t *testing.T) { got = runCase(t, a) })
			inputs, want := splitCase(a)
			if *update {
				a.Files = append(inputs, got...)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(byName(want), byName(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func splitCase(a *txtar.Archive) (inputs, want []txtar.File) {
	for _, f := range a.Files {
		if strings.HasPrefix(f.Name, "want/") {
			want = append(want, f)
		} else {
			inputs = append(inputs, f)
		}
	}
	return inputs, want
}

func byName(files []txtar.File) map[string]string {
	all := map[string]string{}
	for _, f := range files {
		all[f.Name] = string(f.Data)
	}
	return all
}

func runCase(t *testing.T, a *txtar.Archive) (got []txtar.File) {
	t.Helper()
	var o sandbox.Options
	var events []*event.Event
	settings := ""
	var before []byte
	for _, f := range a.Files {
		switch f.Name {
		case "properties.json":
			if err := json.Unmarshal(f.Data, &o.Properties); err != nil {
				t.Fatal(err)
			}
		case "contacts.jsonl":
			before = f.Data
		case "settings.yaml":
			settings = string(f.Data)
		case "events.jsonl":
			for line := range bytes.Lines(f.Data) {
				events = append(events, &event.Event{
					ID: fmt.Sprintf("event-%d", len(events)+1), APIKey: "key", Received: time.Now().UTC(), Server: true, JSON: bytes.TrimSpace(line),
				})
			}
		}
	}
	r := newRig(t, o, settings)
	for line := range bytes.Lines(before) {
		r.put(gjson.GetBytes(line, "email").Str, string(line))
	}
	rec := &recorder{RoundTripper: r.env.Transport}
	r.env.Transport = rec
	r.restart()
	results := r.run(events...)
	for i, p := range rec.posts {
		got = append(got, txtar.File{Name: fmt.Sprintf("want/%d.request.json", i+1), Data: []byte(p.path + "\n" + indented(t, p.body))})
	}
	var b strings.Builder
	for _, res := range results {
		lane := res.entry.Plan.Lane
		if lane == "" {
			lane = "plan"
		}
		fmt.Fprintf(&b, "%s %s: ", res.entry.Event.ID, lane)
		if err := res.outcome.Err; err != nil {
			fmt.Fprintf(&b, "%s: %v\n", outcomeOf(err), err)
		} else {
			fmt.Fprintf(&b, "delivered %s\n", res.outcome.Detail)
		}
	}
	return append(got, txtar.File{Name: "want/outcomes", Data: []byte(b.String())})
}

func indented(t *testing.T, body []byte) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", " "); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return b.String() + "\n"
}

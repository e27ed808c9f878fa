package docs

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/jitsuconfig"
)

// TestImportedKeys: from-jitsu.md says of each key and type of Jitsu's what the code says, and of no other.
func TestImportedKeys(t *testing.T) {
	want, got := map[string]string{}, map[string]string{}
	for _, k := range jitsuconfig.Keys() {
		want[k.Section+" "+k.Name] = k.Text
	}
	for _, typ := range jitsuconfig.Types() {
		want["type "+typ.Name] = typ.Text
	}
	p := load(t, "from-jitsu.md")
	rows := p.tableUnder(t, "What import-config carries over").rows
	rows = append(rows, p.tableUnder(t, "What it leaves out").rows...)
	for _, row := range rows {
		for _, name := range code(row[1]) {
			place := strings.Trim(row[0], "`") + " " + name
			if got[place] != "" {
				t.Errorf("%s stands twice", place)
			}
			got[place] = row[2]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-pkg/jitsuconfig +from-jitsu.md):\n%s", diff)
	}
}

// TestImportExamples: the examples of router import-config come out as the pages say.
func TestImportExamples(t *testing.T) {
	examples := 0
	for _, p := range loadAll(t) {
		for i, b := range p.blocks {
			if !b.is("yaml", "jitsu") {
				continue
			}
			examples++
			if i+2 >= len(p.blocks) {
				t.Fatalf("%s: two blocks must follow", &b)
			}
			r, err := jitsuconfig.Convert("eventnative.yaml", []byte(b.text))
			if err != nil {
				t.Fatalf("%s: %v", &b, err)
			}
			var report bytes.Buffer
			if err := jitsuconfig.WriteNotes(&report, "eventnative.yaml", r.Notes); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p.blocks[i+1].text, string(r.YAML)); diff != "" {
				t.Errorf("%s (-page +result):\n%s", &p.blocks[i+1], diff)
			}
			if diff := cmp.Diff(p.blocks[i+2].text, report.String()); diff != "" {
				t.Errorf("%s (-page +report):\n%s", &p.blocks[i+2], diff)
			}
		}
	}
	if examples == 0 {
		t.Error("no page has an example")
	}
}

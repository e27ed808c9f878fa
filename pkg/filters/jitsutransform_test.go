package filters

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/docs"
	"eventrouter/pkg/event"
)

// defaultTemplate is what the recordings call the default of HubSpot destinations.
const defaultTemplate = "$.user?.email"

// transformDifferences say what becomes of the recorded transforms in which this router deliberately does not do what Jitsu does: where the outcome is the same, what
// of the event is another.
var transformDifferences = map[string]jitsuResult{
	`const r = await fetch("http://127.0.0.1:18999/x"); return {...$, s:r.status}`: {outcome: "error"},
}

// exactly is the difference of all those that touch the event: the large number is that of the client.
const exactly = "12345678901234567890"

// jitsuResult is what becomes of an event.
type jitsuResult struct {
	outcome string // events, skip or error
	events  []map[string]any
}

func TestJitsuTransforms(t *testing.T) {
	var recorded struct {
		Groups []struct {
			Object json.RawMessage
			Cases  []struct {
				Case      string
				Transform string
				Template  string `json:"table_name_template"`
				Outcome   string
				Result    json.RawMessage
			}
		}
	}
	read(t, "../../testdata/jitsu/transforms.json", &recorded)
	seen := map[string]bool{}
	for _, c := range recorded.Groups[0].Cases {
		template := c.Template
		if template != "evts" {
			template = defaultTemplate
		}
		jitsu := jitsuResult{outcome: c.Outcome}
		if c.Outcome == "events" {
			jitsu.events = append(jitsu.events, exact(t, c.Result))
		}
		got := transformed(t, c.Transform, template, recorded.Groups[0].Object)
		want := jitsu
		if ours, ok := transformDifferences[c.Transform]; ok {
			want = ours
		} else if len(want.events) > 0 && want.events[0]["big"] == json.Number("12345678901234567000") {
			want.events = []map[string]any{maps.Clone(want.events[0])}
			want.events[0]["big"] = json.Number(exactly)
		}
		if !gocmp.Equal(want, jitsu, gocmp.AllowUnexported(jitsuResult{})) {
			seen[cmp.Or(c.Case, c.Transform)] = true
		}
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(jitsuResult{})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", c.Transform, diff)
		}
	}
	if diff := gocmp.Diff(slices.Sorted(maps.Keys(docs.Differences("transform"))), slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("the cases that differ from Jitsu's are not those that the documentation lists (-listed +differ):\n%s", diff)
	}
}

// TestJitsuObjects: what Jitsu's own tests have scripts make of events, as whole objects. Those with other results are in TestJitsuCases.
func TestJitsuObjects(t *testing.T) {
	var cases jitsuCases
	read(t, "../../testdata/jitsu/templates.json", &cases)
	n := 0
	for _, group := range cases.Groups {
		for _, c := range group.Cases {
			var want map[string]any
			if src := c.JS + c.Template; src != "" && len(c.Expected) > 0 && c.Expected[0] == '{' && !bytes.Contains(c.Expected, []byte("$error_prefix")) {
				n++
				want = exact(t, c.Expected)
				got := transformed(t, src, "evts", slices.Concat(c.Input, c.Event))
				if diff := gocmp.Diff(jitsuResult{"events", []map[string]any{want}}, got, gocmp.AllowUnexported(jitsuResult{})); diff != "" {
					t.Errorf("%s of %s%s (-want +got)\n%s", src, c.Input, c.Event, diff)
				}
			}
		}
	}
	if n != 13 {
		t.Errorf("%d cases have an object as their result", n)
	}
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// exact is an object with its numbers as they are written.
func exact(t *testing.T, raw []byte) (object map[string]any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&object); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return object
}

// transformed is what a destination with this transform and template makes of a view.
func transformed(t *testing.T, src, template string, view json.RawMessage) (res jitsuResult) {
	t.Helper()
	filter := mustCompile(t, template)
	transform, err := CompileTransform(src, Options{Destination: "dst1", Type: "hubspot", Limit: patient.Limit})
	if err != nil {
		return jitsuResult{outcome: "error"}
	}
	// The envelope of the recorded object, without what the router would add of its own.
	ev := &event.Event{ID: gjson.GetBytes(view, event.FieldEventID).Str, APIKey: gjson.GetBytes(view, event.FieldAPIKey).Str, Hidden: event.HideTimestamp, JSON: view}
	outputs := []Output{{Event: ev}}
	if transform != nil {
		if outputs, _, err = transform.Eval(ev, World{KV: NewMemoryKV(nil)}); err != nil {
			return jitsuResult{outcome: "error"}
		}
	}
	res.outcome = "skip"
	for _, o := range outputs {
		decision := o.Table
		if decision == nil {
			r, err := filter.Eval(o.Event)
			if err != nil {
				t.Fatal(err)
			}
			decision = &r
		}
		if decision.Keep {
			res.outcome = "events"
			res.events = append(res.events, exact(t, o.Event.AppendView(nil)))
		}
	}
	return res
}

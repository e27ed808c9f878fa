package jitsuconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// jitsuRule is a mapping rule as Jitsu has it.
type jitsuRule struct {
	Src    string `yaml:"src,omitempty"`
	Dst    string `yaml:"dst,omitempty"`
	Action string `yaml:"action"`
	Value  any    `yaml:"value,omitempty"`
	Type   string `yaml:"type,omitempty"`
}

// model is what Jitsu 1.44 makes of an event by its mappings, with its one documented fault mended: a value set inside an object leaves the object's other
// members alone.
//
// A move reads the event as it came and sets in a second object; what was moved is then taken out of the first. With keep_unmapped the second object is
// put over the first; removals come last. To set below something that is no object is an error.
type model struct {
	keep  bool
	rules []jitsuRule
}

type object = map[string]any

func (m model) apply(in object) (object, error) {
	out := object{}
	made := map[string]bool{} // paths of the objects that rules made to hold something
	var moved []string
	for _, r := range m.rules {
		switch r.Action {
		case "move":
			v, ok := lookUp(in, r.Src)
			if !ok {
				continue
			}
			if err := put(out, made, steps(r.Dst), v); err != nil {
				return nil, err
			}
			moved = append(moved, r.Src)
		case "constant":
			if err := put(out, made, steps(r.Dst), fresh(r.Value)); err != nil {
				return nil, err
			}
		}
	}
	for _, src := range moved {
		takeOut(in, src)
	}
	if m.keep {
		out = overlay(in, out, made, "")
	}
	for _, r := range m.rules {
		if r.Action == "remove" {
			takeOut(out, r.Src)
		}
	}
	return out, nil
}

// fresh is a copy: events do not share what a rule sets.
func fresh(v any) any {
	o, ok := v.(object)
	if !ok {
		return v
	}
	c := object{}
	for name, below := range o {
		c[name] = fresh(below)
	}
	return c
}

func steps(path string) []string {
	path = strings.ReplaceAll(path, " ", "")
	return strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
}

func lookUp(in object, paths string) (any, bool) {
	for _, path := range strings.Split(paths, "||") {
		if holder, last := holderOf(in, steps(path)); holder != nil {
			return holder[last], true
		}
	}
	return nil, false
}

// holderOf returns the object that has what a path leads to; nil if nothing is there.
func holderOf(in object, names []string) (object, string) {
	for _, name := range names[:len(names)-1] {
		in, _ = in[name].(object)
	}
	last := names[len(names)-1]
	if _, ok := in[last]; !ok {
		return nil, ""
	}
	return in, last
}

func takeOut(in object, paths string) {
	for _, path := range strings.Split(paths, "||") {
		if holder, last := holderOf(in, steps(path)); holder != nil {
			delete(holder, last)
			return
		}
	}
}

func put(out object, made map[string]bool, names []string, v any) error {
	path := ""
	for _, name := range names[:len(names)-1] {
		path += "/" + name
		if _, ok := out[name]; !ok {
			out[name] = object{}
			made[path] = true
		}
		below, ok := out[name].(object)
		if !ok {
			return errors.New(name + " is no object")
		}
		out = below
	}
	last := names[len(names)-1]
	out[last] = v
	delete(made, path+"/"+last)
	return nil
}

func overlay(under, over object, made map[string]bool, path string) object {
	for name, v := range over {
		at := path + "/" + name
		below, isObject := under[name].(object)
		if isObject && made[at] {
			under[name] = overlay(below, v.(object), made, at)
		} else {
			under[name] = v
		}
	}
	return under
}

// converted returns the transform that the converter makes of mappings.
func converted(t *testing.T, keep bool, rules []jitsuRule) string {
	t.Helper()
	layout := map[string]any{"mappings": map[string]any{"keep_unmapped": keep, "fields": rules}}
	return layoutOf(t, layout).Transform
}

type resultLayout struct {
	Transform         string
	TableNameTemplate string `yaml:"table_name_template"`
	Staged            bool
	notes             []Note
}

// layoutOf converts a file with one webhook that has this data_layout.
func layoutOf(t *testing.T, layout any) resultLayout {
	t.Helper()
	data, err := yaml.Marshal(map[string]any{
		"api_keys":     []string{"js.secret1"},
		"destinations": map[string]any{"hook": map[string]any{"type": "webhook", "mode": "stream", "data_layout": layout}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Convert("jitsu.yaml", data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	var file struct {
		Destinations map[string]struct {
			Staged     bool
			DataLayout resultLayout `yaml:"data_layout"`
		}
	}
	if err := yaml.Unmarshal(r.YAML, &file); err != nil {
		t.Fatalf("%s: %v", r.YAML, err)
	}
	d := file.Destinations["hook"]
	d.DataLayout.Staged, d.DataLayout.notes = d.Staged, r.Notes
	return d.DataLayout
}

// added are the members that the router adds for scripts to see, in an event that lacks them.
var added = []string{"api_key", "_timestamp", "src", "eventn_ctx_event_id", "source_ip", "user_agent"}

// compile compiles a transform that the converter made.
func compile(t *testing.T, script string) *filters.Transform {
	t.Helper()
	tr, err := filters.CompileTransform(script, filters.Options{Destination: "hook", Type: "webhook", Limit: time.Minute})
	if err != nil {
		t.Fatalf("%v:\n%s", err, script)
	}
	return tr
}

// run evaluates a transform on an event.
func run(t *testing.T, tr *filters.Transform, in string) (object, error) {
	t.Helper()
	outputs, why, err := tr.Eval(&event.Event{ID: "id1", APIKey: "k", JSON: []byte(in)}, filters.World{})
	if err != nil {
		return nil, err
	}
	if len(outputs) != 1 {
		t.Fatalf("%s: %d outputs, %s", in, len(outputs), why)
	}
	out := decode(t, outputs[0].Event.JSON)
	for _, name := range added {
		delete(out, name)
	}
	return out, nil
}

func decode(t *testing.T, data []byte) (out object) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return out
}

// TestMappingsDoTheSame: the transform that is made of mappings gives for generated mappings and events what Jitsu's semantics give.
func TestMappingsDoTheSame(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	failed := 0
	const many, each = 40, 40 // of mappings: each script takes some milliseconds to compile
	for i := range many {
		rules := randomRules(rng)
		keep := rng.IntN(2) == 0
		script := converted(t, keep, rules)
		if script == "" { // nothing that changes an event
			script = "return {...$}"
		}
		tr := compile(t, script)
		for range each {
			in := randomObject(rng, 3)
			text, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			want, wantErr := model{keep, rules}.apply(decode(t, text))
			var again []byte
			if wantErr == nil {
				again, wantErr = json.Marshal(want) // an object that was moved into itself has no end
			}
			got, err := run(t, tr, string(text))
			if (err != nil) != (wantErr != nil) {
				t.Fatalf("%d: keep %v, %+v of %s: error %v, the model has %v\n%s", i, keep, rules, text, err, wantErr, script)
			}
			if wantErr != nil {
				failed++
				continue
			}
			if diff := cmp.Diff(decode(t, again), got); diff != "" {
				t.Fatalf("%d: keep %v, %+v of %s (-model +transform):\n%s\n%s", i, keep, rules, text, diff, script)
			}
		}
	}
	if failed == 0 || failed > many*each/2 {
		t.Errorf("%d of %d events could not be mapped: the test does not try what it should", failed, many*each)
	}
}

// few names, so that paths meet.
var someNames = []string{"a", "b", "user", "email", "toString", "x y"}

func randomRules(rng *rand.Rand) (rules []jitsuRule) {
	for range 1 + rng.IntN(4) {
		r := jitsuRule{Action: []string{"move", "move", "move", "remove", "constant", "cast"}[rng.IntN(6)], Type: "text"}
		if r.Action != "constant" {
			r.Src = randomPath(rng, rng.IntN(6) == 0)
		}
		if r.Action != "remove" {
			r.Dst = randomPath(rng, false)
		}
		if r.Action == "constant" {
			r.Value = []any{"app", 5, true, nil, []any{"x"}, object{"a": 1}, `"quoted" \ ${x}`}[rng.IntN(7)]
		}
		rules = append(rules, r)
	}
	return rules
}

func randomPath(rng *rand.Rand, alternatives bool) string {
	var b strings.Builder
	for range 1 + rng.IntN(3)*rng.IntN(2) {
		b.WriteString("/" + someNames[rng.IntN(len(someNames)-1)])
	}
	p := b.String()
	switch rng.IntN(8) {
	case 0:
		p = strings.TrimPrefix(p, "/")
	case 1:
		p += "/"
	case 2:
		p = " " + strings.ReplaceAll(p, "/", "/ ")
	}
	if alternatives {
		p += "||" + randomPath(rng, false)
	}
	return p
}

func randomObject(rng *rand.Rand, depth int) object {
	o := object{}
	for _, name := range someNames {
		if rng.IntN(3) > 0 {
			o[name] = randomValue(rng, depth-1)
		}
	}
	return o
}

func randomValue(rng *rand.Rand, depth int) any {
	switch n := rng.IntN(10); {
	case n < 5 && depth > 0:
		return randomObject(rng, depth)
	case n == 5:
		return nil
	case n == 6:
		return []any{1, object{"a": "in a list"}}
	case n == 7:
		return rng.IntN(1000)
	default:
		return fmt.Sprintf("text %d", rng.IntN(100))
	}
}

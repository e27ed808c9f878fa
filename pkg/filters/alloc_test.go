//go:build !race

package filters

import "testing"

// TestEvalIsLazy keeps what a template costs to the fields that it reads. Parsing the whole benchmark event takes over 200 allocations.
func TestEvalIsLazy(t *testing.T) {
	f := func(src string, most float64) {
		t.Helper()
		ev, filter := benchEvent(t), mustCompile(t, src)
		got := testing.AllocsPerRun(200, func() {
			if _, err := filter.Eval(ev); err != nil {
				t.Fatal(err)
			}
		})
		if got > most {
			t.Errorf("%s: %v allocations, want at most %v", src, got, most)
		}
	}
	f("events", 1)
	f(benchGo, 5)
	f(benchJS, 1)
	f(`{{range $i, $t := .tags}}{{$t}}{{end}}{{.user.email}}`, 35) // by text/template
	f("$.tags.map(t => t + $.user.email).join()", 90)              // by the engine
}

// TestMatchDoesNotAllocate: conditions are looked up in the event's own bytes.
func TestMatchDoesNotAllocate(t *testing.T) {
	ev := benchEvent(t)
	m := mustMatch(t, "event_type: [signup, purchase]\nuser.email: {ends_with: '@Example.com'}\napi_key: key1\nprice: {gt: 10}\nnot: {user.plan: free}")
	got := testing.AllocsPerRun(200, func() {
		if r, err := m.Eval(ev); err != nil || !r.Keep {
			t.Fatal(r, err)
		}
	})
	if got > 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestValuesAreLazy is the same for expressions of one value, which share the view of their event.
func TestValuesAreLazy(t *testing.T) {
	ev := valueBenchEvent(t)
	f := func(most float64, sources ...string) {
		t.Helper()
		var values []*Value
		for _, src := range sources {
			v, err := CompileValue(src, patient)
			if err != nil {
				t.Fatal(err)
			}
			values = append(values, v)
		}
		got := testing.AllocsPerRun(200, func() {
			view := NewView(ev)
			for _, v := range values {
				if _, err := v.Eval(view); err != nil {
					t.Fatal(err)
				}
			}
		})
		if got > most {
			t.Errorf("%q: %v allocations, want at most %v", sources, got, most)
		}
	}
	f(3, "$.traits.Plan", "$.user.email", "$.utm.source")
	f(180, benchMapping...)
}

// TestTransformsAreLazy is the same for transforms, which scan the event and neither parse nor write again what they pass on. Parsing it into a map takes over 300.
func TestTransformsAreLazy(t *testing.T) {
	most := map[string]float64{"pass": 30, "add": 70, "change": 45, "anew": 80, "two": 90}
	for _, b := range benchTransforms {
		transform, err := CompileTransform(b.src, patient)
		if err != nil {
			t.Fatal(err)
		}
		ev := benchEvent(t)
		got := testing.AllocsPerRun(200, func() {
			if _, _, err := transform.Eval(ev, World{}); err != nil {
				t.Fatal(err)
			}
		})
		if got > most[b.name] {
			t.Errorf("%s: %v allocations, want at most %v", b.name, got, most[b.name])
		}
	}
}

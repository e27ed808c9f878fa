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
	f(benchGo, 35)
	f(benchJS, 33)
}

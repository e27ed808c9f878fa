package appevents

import (
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestCostOfPayloads: what a sender chooses makes no check take long, or much memory: many values that are wrong, numbers that are long, and levels that double the work.
func TestCostOfPayloads(t *testing.T) {
	const schema = `{"$defs":{"node":{"oneOf":[
		{"properties":{"of":{"$ref":"#/$defs/node"}},"required":["and"]},{"properties":{"of":{"$ref":"#/$defs/node"}},"required":["op"]}]}},
		"properties":{"rule":{"$ref":"#/$defs/node"},"list":{"items":{"type":"string"}},"amounts":{"items":{"multipleOf":0.01}},"pattern":{"format":"regex"}}}`
	s := mustSet(t, "{Made: {schema: made.json}}", map[string]string{"made.json": schema})
	var before, after runtime.MemStats
	f := func(payload, want string) {
		t.Helper()
		runtime.ReadMemStats(&before)
		got := told(s, "Made", payload)
		runtime.ReadMemStats(&after)
		if line, _, _ := strings.Cut(got, "\n"); line != want {
			t.Errorf("%.40s…: got %q, want %q", payload, line, want)
		}
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 256 {
			t.Errorf("%.40s…: takes %d MB", payload, mb)
		}
	}
	nested := func(levels int) string {
		return `{"rule":` + strings.Repeat(`{"op":"and","of":`, levels) + `{"op":"x"}` + strings.Repeat("}", levels) + "}"
	}
	list := func(name, value string, n int) string {
		return `{"` + name + `":[` + strings.TrimSuffix(strings.Repeat(value+",", n), ",") + "]}"
	}
	f(nested(2), "")
	f(nested(60), "/payload takes too many steps to be held against its schema: nest it less")
	f(list("list", `"x"`, 9000), "")
	f(list("list", "1", 9000), "/payload/list/0 is number, and must be string")
	f(list("list", "1", 400_000), "/payload holds more than 10000 values")
	f(list("amounts", "1e-99", 9000), "/payload/amounts/0 is no multiple of 1/100")
	f(`{"pattern":"`+strings.Repeat("(", 500_000)+`"}`, "/payload/pattern is no regex")

	var wg sync.WaitGroup // a schema may be used by many at once
	for range 8 {
		wg.Go(func() {
			if got := told(s, "Made", nested(3)); got != "" {
				t.Error(got)
			}
		})
	}
	wg.Wait()
}

package filters

import (
	"encoding/json"
	"testing"

	"github.com/dop251/goja"

	"eventrouter/pkg/event"
)

// benchTransforms read two fields of the event of 2 KiB, and
var benchTransforms = []struct{ name, src string }{
	{"pass", `if ($.event_type == "pageview" && !$.user.email) return null; return $ /* as it is */`},
	{"add", `return $.event_type == "pageview" ? null : {...$, plan: $.user.email ? "known" : "new"}`},
	{"change", `$.event_type = $.event_type + "_" + $.user.id; return $`},
	{"anew", `return {event_type: $.event_type, user: {email: $.user.email}}`},
	{"two", `return [$, {...$, event_type: "copy_of_" + $.user.id}]`},
}

// BenchmarkTransform measures transforms, and beside each what parsing the event into a map, goja and json.Marshal take for it.
func BenchmarkTransform(b *testing.B) {
	for _, t := range benchTransforms {
		b.Run(t.name, func(b *testing.B) {
			transform, err := CompileTransform(t.src, Options{})
			if err != nil {
				b.Fatal(err)
			}
			ev := benchEvent(b)
			b.SetBytes(int64(len(ev.JSON)))
			b.ReportAllocs()
			for b.Loop() {
				if outputs, _, err := transform.Eval(ev, World{}); err != nil || len(outputs) == 0 {
					b.Fatal(outputs, err)
				}
			}
		})
		b.Run(t.name+" naive", func(b *testing.B) { benchNaiveTransform(b, t.src) })
	}
}

func benchNaiveTransform(b *testing.B, src string) {
	rt := goja.New()
	v, err := rt.RunString("$ => {" + src + "\n}")
	if err != nil {
		b.Fatal(err)
	}
	call, _ := goja.AssertFunction(v)
	ev := benchEvent(b)
	b.SetBytes(int64(len(ev.JSON)))
	b.ReportAllocs()
	for b.Loop() {
		var m map[string]any
		if err := json.Unmarshal(ev.AppendView(nil), &m); err != nil {
			b.Fatal(err)
		}
		v, err := call(goja.Undefined(), rt.ToValue(m))
		if err != nil {
			b.Fatal(err)
		}
		outputs, ok := v.Export().([]any)
		if !ok {
			outputs = []any{v.Export()}
		}
		for _, o := range outputs {
			out := *ev
			if out.JSON, err = json.Marshal(o); err != nil {
				b.Fatal(err)
			}
			keepTransformed = &out
		}
	}
}

var keepTransformed *event.Event

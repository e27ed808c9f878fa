package filters

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// TestNothingIsLeftForTheNextEvent: what a getter of a result puts off is done with its own event, and fails it.
func TestNothingIsLeftForTheNextEvent(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		transform, err := CompileTransform(src, patient)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			kv := NewMemoryKV(nil)
			_, _, err := transform.Eval(transformEvent(fmt.Sprintf(`{"n":%d}`, i)), World{KV: kv})
			kept, _, _ := kv.Load("n")
			want := strings.ReplaceAll(want, "#", strconv.Itoa(i))
			if got := fmt.Sprint(kept, " ", err); got != want {
				t.Errorf("%s of event %d: kept and error are %s, want %s", src, i, got, want)
			}
		}
	}
	f("const e = $; return {get a() { Promise.resolve().then(() => $kv.set('n', e.n)) }}", "# <nil>")
	f("const e = $; return {get a() { Promise.resolve().then(() => { throw new Error(e.n) }) }}", " transform line 1, column 69: Error: #")
	f("const e = $; return {get a() { Promise.resolve().then(() => $kv.set('n', e.n)); return Promise.resolve() }}", " transform: the result is or holds a Promise; write await before it")
}

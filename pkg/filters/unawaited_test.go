package filters

import (
	"strings"
	"testing"
)

// TestUnawaited: what $kv.get returns is no value before it is awaited, and a script that takes it for one is told.
func TestUnawaited(t *testing.T) {
	f := func(src, want string) {
		t.Helper()
		tr, err := CompileTransform(src, Options{})
		if err != nil {
			t.Fatalf("%s: %v", src, err)
		}
		if got := strings.Join(tr.Warnings(), "\n"); got != want {
			t.Errorf("%s\n got %q\nwant %q", src, got, want)
		}
	}
	const text = "$kv.get returns a promise, not the value; write await $kv.get(…)"
	f(`if ($kv.get("a")) return null; return {...$}`, "line 1, column 5: "+text)
	f("return !$kv.get(1) ? null : {...$}", "line 1, column 9: "+text)
	f("const n = ($kv.get('n') ?? 0) + 1;\nreturn {...$, n}", "line 1, column 12: "+text)
	f("return $kv.get('a') ? null : {...$}", "line 1, column 8: "+text)
	f("const f = () => `${$kv.get('a')}`;\nreturn {...$, a: f()}", "line 1, column 20: "+text)
	f(`if (await $kv.get("a")) return null; return {...$}`, "")
	f(`const n = (await $kv.get("n") ?? 0) + 1; await $kv.set("n", n); return {...$, n}`, "")
	f(`const [a, b] = await Promise.all([$kv.get("a"), $kv.get("b")]); return {...$, a, b}`, "")
	f(`return $kv.get("a").then(a => ({...$, a}))`, "")
	f(`const a = $kv.get("a"); return {...$, a: await a}`, "")
	f(`const m = new Map(); if (m.get("a")) return null; return {...$}`, "")
}

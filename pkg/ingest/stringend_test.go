package ingest

import "testing"

// FuzzStringEnd holds stringEnd against reading byte by byte.
func FuzzStringEnd(f *testing.F) {
	for _, s := range []string{`""`, `"a"`, `"\""`, `"\\"`, `"\\\""x`, `"\`, `"`, `"a\"b\\"c"`, `"\\\\\\"`, `"fifteen letters\"and more\\"x`, `"sixteen letters!\"and more\\\"x"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		want := -1
		for i := 1; i < len(data); i++ {
			if data[i] == '\\' {
				i++
			} else if data[i] == '"' {
				want = i + 1
				break
			}
		}
		if got := stringEnd(data, 0); got != want {
			t.Errorf("stringEnd(%q) = %d, want %d", data, got, want)
		}
	})
}

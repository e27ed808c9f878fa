package router

import (
	"fmt"
	"path/filepath"
	"testing"

	"eventrouter/pkg/store"
)

// BenchmarkCallMarks is what it costs a call that its entries are marked.
func BenchmarkCallMarks(b *testing.B) {
	for _, n := range []int{1, 100, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newCallMarks(filepath.Join(b.TempDir(), "mark"))
			if err := m.open(""); err != nil {
				b.Fatal(err)
			}
			defer m.close()
			entries := make([]*entry, n)
			for i := range entries {
				entries[i] = &entry{ref: store.Ref{Block: 7, Index: i}}
			}
			for b.Loop() {
				m.end(m.begin(entries))
			}
		})
	}
}

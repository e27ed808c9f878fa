//go:build !race

package log

import (
	"testing"

	"eventrouter/pkg/seal"
)

func TestAppendDoesNotAllocate(t *testing.T) {
	doesNotAllocate(t, nil)
	doesNotAllocate(t, mustRing(t, true, seal.NewKey()))
}

func doesNotAllocate(t *testing.T, keys *seal.Ring) {
	t.Helper()
	l := mustOpen(t, t.TempDir(), Options{MinFreeBytes: 1, Keys: keys})
	recs := [][]byte{make([]byte, 1000), make([]byte, 10)}
	r := mustReader(t, l, 0)
	if n := testing.AllocsPerRun(200, func() {
		if err := l.Append(recs...); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Append allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.ReadBatch(2); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("ReadBatch allocates %v times", n)
	}
}

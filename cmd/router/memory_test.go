package main

import "testing"

// TestMemoryLimit: at any size there is room for garbage.
func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ live, want int64 }{{0, 128 << 20}, {80 << 20, 128 << 20}, {160 << 20, 212 << 20}, {2 << 30, 2<<30 + 288<<20}} {
		if got := memoryLimit(uint64(c.live)); got != c.want {
			t.Errorf("%d MiB in use: %d MiB, want %d", c.live>>20, got>>20, c.want>>20)
		}
	}
}

//go:build !race

package seal

import "testing"

func TestSealAndOpenDoNotAllocate(t *testing.T) {
	box := mustRing(t, true, mustKey(t, 1)).Box("log")
	plain, dst := make([]byte, 1<<10), make([]byte, 0, 2<<10)
	n := testing.AllocsPerRun(1000, func() {
		dst = box.Seal(dst[:0], plain, Name{Kind: 'r', IDs: [3]uint64{7}})
		if _, err := box.Open(dst[:0], dst, Name{Kind: 'r', IDs: [3]uint64{7}}); err != nil {
			t.Fatal(err)
		}
	})
	if n >= 1 {
		t.Errorf("%v allocations to seal and open 1 KiB, want none", n)
	}
}

package seal

import (
	"strconv"
	"testing"
)

func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			box := mustRing(b, true, mustKey(b, 1)).Box("log")
			plain, dst := make([]byte, size), make([]byte, 0, size+Overhead)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				dst = box.Seal(dst[:0], plain, Name{Kind: 'r', IDs: [3]uint64{uint64(i)}})
			}
		})
	}
}

// BenchmarkOpen opens what another process has sealed.
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{64, 1 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			ring := mustRing(b, true, mustKey(b, 1))
			sealed := ring.Box("log").Seal(nil, make([]byte, size), Name{Kind: 'r'})
			box, dst := ring.Box("log"), make([]byte, 0, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = box.Open(dst[:0], sealed, Name{Kind: 'r'}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	l := NewLookup(NewLookupKey())
	b.ReportAllocs()
	for b.Loop() {
		l.Sum("identity", "key1", "user_id", "customer-4711")
	}
}

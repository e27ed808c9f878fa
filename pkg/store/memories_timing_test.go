package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// BenchmarkMemories is what it costs to remember something of a contact and to recall it, by the hundred as calls do, among a million.
func BenchmarkMemories(b *testing.B) {
	const most, group = 1_000_000, 100
	for _, size := range []int{40, 200} {
		dir := b.TempDir()
		opts := Options{MemoryMax: most}
		s := mustOpen(b, dir, opts)
		data := make([]byte, size)
		batch := func(n int) *Batch {
			var batch Batch
			for range n {
				batch.Memories = append(batch.Memories, Memory{s.Hash(fmt.Sprint(rand.IntN(most))), data})
			}
			return &batch
		}
		for range most / 10_000 * 5 {
			mustCommit(b, s, batch(10_000))
		}
		mustClose(b, s)
		heap, began := heapInUse(), time.Now()
		s = mustOpen(b, dir, opts)
		opened := time.Since(began)
		heap = heapInUse() - heap
		b.Run(fmt.Sprintf("remember/%d", size), func(b *testing.B) {
			before := measureUsage()
			for n := 0; n < b.N; n += group {
				mustCommit(b, s, batch(group))
			}
			reportPer(b, before, b.N, "memory")
		})
		b.Run(fmt.Sprintf("recall/%d", size), func(b *testing.B) {
			before := measureUsage()
			found := 0
			for n := 0; n < b.N; n += group {
				var hashes []uint64
				for range group {
					hashes = append(hashes, s.Hash(fmt.Sprint(rand.IntN(most))))
				}
				for _, data := range mustRecall(b, s, hashes...) {
					if data != nil {
						found++
					}
				}
			}
			reportPer(b, before, b.N, "memory")
			b.ReportMetric(float64(found)/float64(b.N), "found")
			b.ReportMetric(float64(opened.Milliseconds()), "ms-to-open")
			b.ReportMetric(float64(heap)/(1<<20), "MiB-heap")
			st := s.Stats()
			b.ReportMetric(float64(st.Memories), "memories")
			b.ReportMetric(float64(st.MemoryBytes)/(1<<20), "MiB-disk")
		})
		mustClose(b, s)
	}
}

func reportPer(b *testing.B, before usage, n int, what string) {
	u := measureUsage()
	b.ReportMetric(float64((u.cpu-before.cpu).Nanoseconds())/float64(n), "cpu-ns/"+what)
	b.ReportMetric(float64(u.written-before.written)/float64(n), "B-written/"+what)
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

package log

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"eventrouter/pkg/seal"
)

// The raw loop is one goroutine that writes and syncs what a group of that many producers would hold, and nothing else:
// the physical limit of the disk that the appends beside it are held against.
func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct{ producers, batch int }{{1, 1}, {64, 1}, {512, 1}, {64, 100}} {
		name := fmt.Sprintf("%dx%d", c.producers, c.batch)
		b.Run("raw/"+name, func(b *testing.B) { benchmarkRaw(b, c.producers*c.batch) })
		b.Run("log/"+name, func(b *testing.B) { benchmarkAppend(b, c.producers, c.batch, nil) })
		b.Run("sealed/"+name, func(b *testing.B) { benchmarkAppend(b, c.producers, c.batch, mustRing(b, true, seal.NewKey())) })
	}
}

const benchRecordBytes = 1 << 10

func benchmarkRaw(b *testing.B, group int) {
	dir := b.TempDir()
	buf := make([]byte, group*benchRecordBytes)
	b.SetBytes(benchRecordBytes)
	b.ReportAllocs()
	var f file
	at := int64(defaultSegmentBytes)
	n := 0
	for ; n < b.N; n += group {
		if at+int64(len(buf)) > defaultSegmentBytes {
			var err error
			if f, err = new(osDisk).Create(filepath.Join(dir, fmt.Sprint(n))); err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			at = 0
		}
		if _, err := f.WriteAt(buf, at); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		at += int64(len(buf))
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

func benchmarkAppend(b *testing.B, producers, batch int, keys *seal.Ring) {
	l, err := Open(b.TempDir(), Options{MaxBytes: 64 << 30, Keys: keys})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	rec := make([]byte, benchRecordBytes)
	b.SetBytes(benchRecordBytes)
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for range producers {
		wg.Go(func() {
			recs := make([][]byte, batch)
			for i := range recs {
				recs[i] = rec
			}
			for left.Add(-int64(batch)) > -int64(batch) {
				if err := l.Append(recs...); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	s := l.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(s.Records)/float64(s.Groups), "records/group")
}

// benchLog fills a log with a million records of 1 KiB.
func benchLog(b *testing.B) (l *Log, dir string) {
	b.Helper()
	dir = b.TempDir()
	l, err := Open(dir, Options{MaxBytes: 4 << 30})
	if err != nil {
		b.Fatal(err)
	}
	recs := make([][]byte, 1000)
	for i := range recs {
		recs[i] = make([]byte, benchRecordBytes)
	}
	for range benchRecords / len(recs) {
		if err := l.Append(recs...); err != nil {
			b.Fatal(err)
		}
	}
	return l, dir
}

const benchRecords = 1_000_000

func BenchmarkRead(b *testing.B) {
	l, _ := benchLog(b)
	defer l.Close()
	b.SetBytes(benchRecords * benchRecordBytes)
	b.ReportAllocs()
	for b.Loop() {
		r, err := l.NewReader(0)
		if err != nil {
			b.Fatal(err)
		}
		for n := 0; n < benchRecords; {
			got, err := r.ReadBatch(1000)
			if err != nil {
				b.Fatal(err)
			}
			n += len(got)
		}
		r.Close()
	}
	b.ReportMetric(benchRecords*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkOpen opens a log of a million records.
func BenchmarkOpen(b *testing.B) {
	l, dir := benchLog(b)
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		l, err := Open(dir, Options{MaxBytes: 4 << 30})
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}

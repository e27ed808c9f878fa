package ingest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/log"

	"golang.org/x/sync/errgroup"
)

// draining is a log whose records are thrown away as a sorter would take them, so that it does not get full.
func draining(b testing.TB) Log {
	b.Helper()
	lg, err := log.Open(b.TempDir(), log.Options{MaxBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { lg.Close() })
	return drainingLog{lg}
}

type drainingLog struct{ *log.Log }

func (l drainingLog) Append(recs ...[]byte) error {
	err := l.Log.Append(recs...)
	return errors.Join(err, l.Reclaim(l.Stats().End))
}

// BenchmarkBulk uploads NDJSON of 1 KiB events over a connection into a log on disk, against appending the same records to the same kind of log.
func BenchmarkBulk(b *testing.B) {
	const events, perUpload = 1000, 100_000
	var lines bytes.Buffer
	for i := range events {
		line := benchEvent(fmt.Sprint("u", i))
		lines.Write(append(bytes.ReplaceAll(line, []byte(`"event_id":""`), fmt.Appendf(nil, `"event_id":"%d"`, i)), '\n'))
	}
	b.Run("raw-append", func(b *testing.B) {
		lg := draining(b)
		recs := bytes.SplitAfter(bytes.TrimSuffix(lines.Bytes(), []byte("\n")), []byte("\n"))
		b.SetBytes(int64(lines.Len()))
		b.ReportAllocs()
		for b.Loop() {
			if err := lg.Append(recs...); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)*events/b.Elapsed().Seconds(), "events/s")
	})
	f := func(name string, text []byte, header string) {
		b.Run(name, func(b *testing.B) {
			o := testOptions(draining(b))
			o.Now = time.Now
			url := bulkServer(b, o)
			b.SetBytes(int64(lines.Len()))
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= perUpload / events {
				n := min(left, perUpload/events)
				postBulk(b, url+bulkPath+"&skip_malformed=true", io.MultiReader(repeated(text, n)...), header, int64(n)*events)
			}
			b.ReportMetric(float64(b.N)*events/b.Elapsed().Seconds(), "events/s")
		})
	}
	f("NDJSON", lines.Bytes(), "identity")
	f("gzip", gzipped(b, lines.String()), "gzip")
}

func repeated(text []byte, n int) (all []io.Reader) {
	for range n {
		all = append(all, bytes.NewReader(text))
	}
	return all
}

// bulkServer serves o on a loopback port until the benchmark ends.
func bulkServer(b testing.TB, o Options) (url string) {
	b.Helper()
	s := newServer(b, o)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var g errgroup.Group
	ctx := b.Context()
	g.Go(func() error { return s.Run(ctx, ln) })
	b.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		_ = g.Wait()
	})
	return "http://" + ln.Addr().String()
}

func postBulk(b testing.TB, url string, body io.Reader, encoding string, want int64) {
	b.Helper()
	req, err := http.NewRequest("POST", url, body)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Content-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || !strings.Contains(string(answer), fmt.Sprintf(`"accepted":%d,`, want)) {
		b.Fatalf("%s %s", resp.Status, answer)
	}
}

// BenchmarkBulkMemory uploads a gigabyte that is made on the fly, and reports the most memory that the process had meanwhile, over what it had before.
func BenchmarkBulkMemory(b *testing.B) {
	line := append(benchEvent("u"), '\n')
	const total = 1 << 30
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			o := testOptions(draining(b))
			o.Now = time.Now
			o.Server.MaxBodyBytes = 10 << 20
			url := bulkServer(b, o)
			text := bytes.Repeat(line, 1000)
			n := total / len(text)
			if encoding == "gzip" {
				text = gzipped(b, string(text))
			}
			runtime.GC()
			before := residentBytes()
			stop, peak := make(chan struct{}), make(chan int64)
			go func() {
				most := int64(0)
				for {
					select {
					case <-time.After(10 * time.Millisecond):
						most = max(most, residentBytes())
					case <-stop:
						peak <- most
						return
					}
				}
			}()
			b.ResetTimer()
			for range b.N {
				postBulk(b, url+bulkPath, io.MultiReader(repeated(text, n)...), encoding, int64(n)*1000)
			}
			b.StopTimer()
			close(stop)
			b.ReportMetric(float64(<-peak-before)/(1<<20), "MiB-more-resident")
			b.ReportMetric(float64(b.N)*float64(n)*1000/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// residentBytes is what the process has in memory.
func residentBytes() int64 {
	data, _ := os.ReadFile("/proc/self/statm")
	var size, resident int64
	_, _ = fmt.Sscan(string(data), &size, &resident)
	return resident * int64(os.Getpagesize())
}

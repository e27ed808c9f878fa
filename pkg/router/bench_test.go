package router

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// kibibyte is an event of 1 KiB of one of 10,000 persons.
func kibibyte(i int) []byte {
	text := fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"p%d@example.com","id":"u%d","firstname":"Ada","plan":"pro"},"utc_time":"2026-11-21T02:52:27.371000Z","url":"https://shop.example.com/pricing?utm_source=newsletter","page_title":"Pricing page","pad":"`,
		i%10_000, i%10_000)
	pad := make([]byte, (1024-len(text)-2)/2)
	rnd := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})
	rnd.Read(pad) // what does not compress: the store compresses blocks
	text += hex.EncodeToString(pad)
	text += strings.Repeat("x", 1024-len(text)-2) + `"}`
	ev := event.Event{ID: fmt.Sprintf("event-%d", i), APIKey: "key", Received: time.Now().UTC(), Server: true, JSON: []byte(text)}
	return ev.AppendTo(nil)
}

// stuck is a destination that plans and never gets a permit: what stays is the sorter and its commit.
type stuck struct{ *remote }

func (stuck) Acquire(ctx context.Context, _, _ string) (destinations.Permit, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// BenchmarkSorter reads 1 KiB events from the log and hands them over. ns/event is wall time; cpu-ns/event is that of the process.
func BenchmarkSorter(b *testing.B) {
	dir := b.TempDir()
	st, err := store.Open(filepath.Join(dir, "store"), store.Options{SeenWindow: time.Hour, SeenMax: 10_000_000})
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	l, err := log.Open(filepath.Join(dir, "log"), log.Options{MaxBytes: 64 << 30})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	r, err := New(Options{
		Log: l, Store: st, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		MarkFile: filepath.Join(dir, "mark"),
		Routes:   []Route{{Name: "crm", Destination: stuck{newRemote()}, Lanes: config.LaneLimits{OnFull: config.Refuse}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	const group = 1000
	recs := make([][]byte, 0, group)
	for i := range b.N {
		recs = append(recs, kibibyte(i))
		if len(recs) == group || i == b.N-1 {
			if err := l.Append(recs...); err != nil {
				b.Fatal(err)
			}
			recs = recs[:0]
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b.SetBytes(1024)
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	go func() { done <- r.Run(ctx) }()
	for r.live.unsorted() > 0 {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/event")
	b.ReportMetric(float64(b.N)/(cpuTime()-cpu).Seconds(), "events/s/core")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

package store

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// BenchmarkDeadLetters opens a store with 1,000,000 dead letters, lists the newest, those of one reason, of one person and of an account that has none, counts them, has all replayed, and drops
// all. meanwhile-ms is the slowest commit of another while they are counted by groups.
func BenchmarkDeadLetters(b *testing.B) {
	const letters, group = 1_000_000, 5000
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	body := randomBytes(300)
	for i := 0; i < letters; i += group {
		batch := &Batch{}
		for n := i; n < i+group; n++ {
			batch.DeadLetters = append(batch.DeadLetters, DeadLetter{
				Destination: "crm", Hub: "1", Lane: "contacts", Offset: uint64(n), APIKey: "key", EventID: fmt.Sprint("e", n), EventType: "user_identify",
				Person: fmt.Sprintf("p%d@example.com", n%100_000), At: time.Now(), Reason: []string{"rejected", "transform", "max_age"}[n%3], Error: "HubSpot answered 400 Bad Request", Event: body,
			})
		}
		if err := s.Commit(ctx, batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	timed := func(name string, f func() error) {
		b.Helper()
		began := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, name+"-ms")
	}
	list := func(q DeadLetterQuery, want int) func() error {
		return func() error {
			found, err := s.DeadLetters(ctx, q)
			if len(found) != want {
				err = fmt.Errorf("%d letters, want %d: %w", len(found), want, err)
			}
			return err
		}
	}
	for b.Loop() {
		timed("open", func() (err error) { s, err = Open(dir, Options{}); return err })
		timed("newest", list(DeadLetterQuery{}, 100))
		timed("reason", list(DeadLetterQuery{Destination: "crm", Reason: "transform"}, 100))
		timed("person", list(DeadLetterQuery{Person: "p77@example.com"}, 10))
		timed("account", list(DeadLetterQuery{Account: "acme"}, 0))
		timed("event-type", list(DeadLetterQuery{EventType: "user_identify"}, 100))
		done, slowest := make(chan struct{}), make(chan time.Duration)
		go func() {
			most := time.Duration(0)
			for n := uint64(1); ; n++ {
				select {
				case <-done:
					slowest <- most
					return
				default:
				}
				began := time.Now()
				if err := s.Commit(ctx, &Batch{Seen: []uint64{n}}); err != nil {
					b.Error(err)
				}
				most = max(most, time.Since(began))
			}
		}()
		timed("groups", func() error { _, err := s.GroupDeadLetters(ctx, DeadLetterQuery{}); return err })
		close(done)
		b.ReportMetric(float64((<-slowest).Microseconds())/1000, "meanwhile-ms")
		timed("counts", func() error { _, err := s.DeadLetterCounts(); return err })
		timed("mark-all", func() error { _, err := s.MarkReplay(ctx, DeadLetterQuery{}, Replay{}); return err })
		timed("first-to-replay", list(DeadLetterQuery{Marked: true, Destination: "crm", OldestFirst: true, Limit: 100}, 100))
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		timed("open-marked", func() (err error) { s, err = Open(dir, Options{}); return err })
		timed("drop-all", func() error { _, err := s.DropDeadLetters(ctx, DeadLetterQuery{}); return err })
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		b.ReportMetric(float64(m.HeapInuse)/(1<<20), "heap-MB")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

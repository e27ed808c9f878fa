package store

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkDeadLetters opens a store with 1,000,000 dead letters, lists the newest, those of one reason and those of one person, and counts them.
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
		timed("counts", func() error { _, err := s.DeadLetterCounts(); return err })
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

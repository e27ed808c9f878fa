package store

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkDropLetters drops 100,000 dead letters, and reports how many went in a second.
func BenchmarkDropLetters(b *testing.B) {
	const letters, group = 100_000, 5000
	body := randomBytes(300)
	for b.Loop() {
		b.StopTimer()
		s, err := Open(b.TempDir(), Options{})
		if err != nil {
			b.Fatal(err)
		}
		for i := 0; i < letters; i += group {
			batch := &Batch{}
			for n := i; n < i+group; n++ {
				batch.DeadLetters = append(batch.DeadLetters, DeadLetter{
					Destination: "crm", Hub: "1", Lane: "contacts", Offset: uint64(n), APIKey: "key", EventID: fmt.Sprint("e", n*7919%letters), EventType: "user_identify",
					Person: fmt.Sprintf("p%d@example.com", n*7919%100_000), At: time.Now(), Reason: []string{"rejected", "transform", "max_age"}[n%3], Error: "HubSpot answered 400 Bad Request", Event: body,
				})
			}
			if err := s.Commit(ctx, batch); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		began := time.Now()
		n, err := s.DropDeadLetters(ctx, DeadLetterQuery{})
		if n != letters || err != nil {
			b.Errorf("dropped %d, %v, want %d", n, err, letters)
		}
		b.ReportMetric(letters/time.Since(began).Seconds(), "letters/s")
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

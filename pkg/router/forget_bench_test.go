package router

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
)

// BenchmarkForget forgets one of 10,000 persons in a store of 1,000,000 entries that wait, 1 KiB each, while another lane delivers. It reports how much the heap grows and the longest
// time that a delivery took meanwhile. -benchtime 1x.
func BenchmarkForget(b *testing.B) {
	var t testing.T
	r := newRemote()
	r.answer = func(c call) []error {
		if c.lane == "contacts" {
			return nil
		}
		return []error{destinations.Block(errors.New("no"), destinations.LaneScope, time.Time{})}
	}
	g := newRig(&t, r, nil)
	g.dir = b.TempDir()
	g.start()
	defer g.stop()
	padding := strings.Repeat("x", 900)
	for n := range 1000 {
		texts := make([]string, 1000)
		for i := range texts {
			texts[i] = fmt.Sprintf(`{"id":"e%d-%d","event_type":"t","padding":%q,"user":{"email":"p%d@example.com","id":"user-%d"}}`, n, i, padding, (n*1000+i)%10_000, (n*1000+i)%10_000)
		}
		g.post(texts...)
	}
	for live := uint64(1); live > 0; time.Sleep(100 * time.Millisecond) {
		live, _ = g.router.Unsorted()
	}
	for b.Loop() {
		runtime.GC()
		var before, m runtime.MemStats
		runtime.ReadMemStats(&before)
		var peak, slowest atomic.Int64
		done := make(chan struct{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				case <-time.After(10 * time.Millisecond):
				}
				began := time.Now()
				key := fmt.Sprintf("live%d@example.com", n)
				g.post(identify(key, n+1))
				for g.writes(key) == "" {
					time.Sleep(time.Millisecond)
				}
				slowest.Store(max(slowest.Load(), int64(time.Since(began))))
				if n%20 == 0 {
					runtime.ReadMemStats(&m)
					peak.Store(max(peak.Load(), int64(m.HeapAlloc)))
				}
			}
		}()
		forgotten := g.forget(ForgetQuery{Email: "p77@example.com"})
		close(done)
		<-ended
		b.ReportMetric(float64(peak.Load()-int64(before.HeapAlloc))/(1<<20), "MiB-more")
		b.ReportMetric(float64(slowest.Load())/1e6, "ms-slowest-delivery")
		b.ReportMetric(float64(forgotten.Waiting), "erased")
		b.ReportMetric(float64(forgotten.Pages), "pages")
	}
}

package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// crowd is a destination with many accounts, of which the first may fail: by turns they hang, break down and refuse.
type crowd struct {
	mu      sync.Mutex
	failing int
	slow    atomic.Int64    // so many answer after 5 s
	refused atomic.Bool     // all calls are
	away    string          // an account that is not connected; "": none
	latency []time.Duration // from receipt to answer, of accounts that never fail
	first   int             // of those
	done    int
}

func (c *crowd) Plan(ev *event.Event) ([]destinations.Plan, error) {
	return []destinations.Plan{{Account: ev.Account, Lane: "contacts", Key: "a@b.co", ID: "a@b.co"}}, nil
}

func (c *crowd) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{{Name: "contacts", MaxKeys: 100, InFlight: 16}, {Name: "events", MaxEntries: 500, InFlight: 4}}
}

func (c *crowd) Hub(account string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if account == c.away {
		return ""
	}
	return "hub-" + account
}

func (c *crowd) Acquire(context.Context, string, string) (destinations.Permit, error) {
	return permit{}, nil
}

func (c *crowd) Send(ctx context.Context, _ destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	n, _ := strconv.Atoi(batch[0].Plan.Account)
	out := make([]destinations.Outcome, len(batch))
	if c.refused.Load() {
		for i := range out {
			out[i].Err = destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})
		}
		return out
	}
	c.mu.Lock()
	fails := n < c.failing
	c.mu.Unlock()
	if fails {
		var err error
		switch n % 3 {
		case 0:
			select {
			case <-ctx.Done():
			case <-time.After(30 * time.Second):
			}
			err = destinations.Unavailable(errors.New("timeout"))
		case 1:
			time.Sleep(20 * time.Millisecond)
			err = errors.New("500")
		default:
			time.Sleep(20 * time.Millisecond)
			err = destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})
		}
		for i := range out {
			out[i].Err = err
		}
		return out
	}
	if n < int(c.slow.Load()) {
		time.Sleep(5 * time.Second)
	}
	time.Sleep(20 * time.Millisecond)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += len(batch)
	if n >= c.first {
		for _, e := range batch {
			c.latency = append(c.latency, now.Sub(e.Event.Received))
		}
	}
	return out
}

// crowdRig is a router with a crowd on the disk of this machine.
type crowdRig struct {
	tb    testing.TB
	crowd *crowd
	log   *log.Log
	store *store.Store
	r     *Router
	stop  func()
	n     int
}

func newCrowdRig(tb testing.TB, connected bool) *crowdRig {
	tb.Helper()
	dir := tb.TempDir()
	g := &crowdRig{tb: tb, crowd: &crowd{first: 50}}
	var err error
	if g.store, err = store.Open(filepath.Join(dir, "store"), store.Options{}); err != nil {
		tb.Fatal(err)
	}
	if g.log, err = log.Open(filepath.Join(dir, "log"), log.Options{}); err != nil {
		tb.Fatal(err)
	}
	route := Route{Name: "customers", Type: "fake", Destination: g.crowd, Lanes: config.LaneLimits{OnFull: config.DeadLetterOldest}, Retry: config.Retry{MaxAge: time.Hour, MaxDelay: 5 * time.Minute}}
	if connected {
		route.Connection = "app"
	}
	g.r, err = New(Options{Log: g.log, Store: g.store, Routes: []Route{route}, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.r.Run(ctx) }()
	g.stop = func() {
		cancel()
		if err := errors.Join(<-done, g.log.Close(), g.store.Close()); err != nil {
			tb.Error(err)
		}
	}
	return g
}

// post posts an event of each of these accounts.
func (g *crowdRig) post(accounts ...int) {
	recs := make([][]byte, len(accounts))
	for i, a := range accounts {
		g.n++
		ev := event.Event{ID: strconv.Itoa(g.n), APIKey: "key", Account: strconv.Itoa(a), Server: true, Received: time.Now(), JSON: []byte(`{"event_type":"user_identify","user":{"email":"a@b.co"}}`)}
		recs[i] = ev.AppendTo(nil)
	}
	if err := g.log.Append(recs...); err != nil {
		g.tb.Fatal(err)
	}
}

// await waits until so many events are delivered.
func (g *crowdRig) await(done int) {
	for {
		g.crowd.mu.Lock()
		n := g.crowd.done
		g.crowd.mu.Unlock()
		if n >= done {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func sequence(from, to int) (all []int) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}

// BenchmarkAccounts has 1,000 accounts post 500 events a second for ten seconds, twice: while all is well, and while 50 of them hang, break down and refuse. It reports the 99th percentile of the
// other accounts' latencies, from receipt to answer, where an answer takes 20 ms, and the ratio of the two.
func BenchmarkAccounts(b *testing.B) {
	const accounts, seconds, perTick = 1000, 10, 5
	for range b.N {
		g := newCrowdRig(b, true)
		g.post(sequence(0, accounts)...)
		g.await(accounts) // lanes are made
		p99 := func(failing int) time.Duration {
			g.crowd.mu.Lock()
			g.crowd.failing, g.crowd.latency = failing, nil
			g.crowd.mu.Unlock()
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for i := range seconds * 100 {
				<-tick.C
				for j := range perTick {
					g.post((i*perTick + j) * 7 % accounts)
				}
			}
			time.Sleep(200 * time.Millisecond)
			g.crowd.mu.Lock()
			defer g.crowd.mu.Unlock()
			slices.Sort(g.crowd.latency)
			return g.crowd.latency[len(g.crowd.latency)*99/100]
		}
		well := p99(0)
		ill := p99(50)
		g.stop()
		b.ReportMetric(float64(well.Microseconds())/1000, "p99-well-ms")
		b.ReportMetric(float64(ill.Microseconds())/1000, "p99-with-50-failing-ms")
		b.ReportMetric(float64(ill)/float64(well), "ratio")
	}
}

// BenchmarkAccountsUneven has 1,000 accounts post 500 events a second for ten seconds: while all is well, while the hubs of 50 take 5 s for each answer, and while one account has just posted 200,000
// events. It reports the 99th percentile of the latencies of the accounts from 50 on.
func BenchmarkAccountsUneven(b *testing.B) {
	const accounts = 1000
	for range b.N {
		g := newCrowdRig(b, true)
		g.post(sequence(0, accounts)...)
		g.await(accounts)
		p99 := func() float64 {
			g.crowd.mu.Lock()
			g.crowd.latency = nil
			g.crowd.mu.Unlock()
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for i := range 1000 {
				<-tick.C
				for j := range 5 {
					g.post((i*5 + j) * 7 % accounts)
				}
			}
			time.Sleep(200 * time.Millisecond)
			g.crowd.mu.Lock()
			defer g.crowd.mu.Unlock()
			slices.Sort(g.crowd.latency)
			return float64(g.crowd.latency[len(g.crowd.latency)*99/100].Microseconds()) / 1000
		}
		b.ReportMetric(p99(), "p99-well-ms")
		g.crowd.slow.Store(50)
		b.ReportMetric(p99(), "p99-with-50-slow-ms")
		g.crowd.slow.Store(0)
		for range 200 {
			g.post(slices.Repeat([]int{7}, 1000)...)
		}
		b.ReportMetric(p99(), "p99-with-a-backlog-ms")
		g.stop()
	}
}

// BenchmarkAccountsAtRest reports what accounts take in memory: resident, with all at work, and when they have had nothing to do for a while.
func BenchmarkAccountsAtRest(b *testing.B) {
	for _, accounts := range []int{1000, 10_000} {
		b.Run(strconv.Itoa(accounts), func(b *testing.B) {
			for range b.N {
				before := residentKiB()
				g := newCrowdRig(b, true)
				for i := 0; i < accounts; i += 500 {
					g.post(sequence(i, i+500)...)
				}
				g.await(accounts)
				working, goroutines := residentKiB(), runtime.NumGoroutine()
				for len(g.r.allAccounts()) > 0 {
					time.Sleep(time.Second)
				}
				time.Sleep(time.Second)
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(working-before)/float64(accounts), "resident-KiB/account-at-work")
				b.ReportMetric(float64(goroutines), "goroutines-at-work")
				b.ReportMetric(float64(m.HeapAlloc+m.StackInuse)/1024/float64(accounts), "heap+stack-KiB/account-at-rest")
				b.ReportMetric(float64(runtime.NumGoroutine()), "goroutines-at-rest")
				b.ReportMetric(float64(residentKiB())/1024, "resident-MiB-at-rest")
				g.stop()
			}
		})
	}
}

func residentKiB() int {
	data, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(data)) {
		if n, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.Fields(n)[0])
			return kib
		}
	}
	return 0
}

// BenchmarkSorterAccounts sorts and delivers events of one account, and of 1,000 by turns.
func BenchmarkSorterAccounts(b *testing.B) {
	for _, accounts := range []int{1, 1000} {
		b.Run(fmt.Sprint(accounts), func(b *testing.B) {
			g := newCrowdRig(b, true)
			g.crowd.first = accounts
			g.post(sequence(0, accounts)...)
			g.await(accounts)
			const events = 100_000
			all := make([]int, 1000)
			b.ResetTimer()
			for range b.N {
				done := g.n
				for i := 0; i < events; i += len(all) {
					for j := range all {
						all[j] = (i + j) % accounts
					}
					g.post(all...)
				}
				for {
					if live, _ := g.r.Unsorted(); live == 0 {
						break
					}
					time.Sleep(time.Millisecond)
				}
				b.StopTimer()
				g.await(done + events)
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s-sorted")
			g.stop()
		})
	}
}

// BenchmarkAccountConnects has an account connect for which 500,000 events wait, while others post one every 10 ms. It reports the longest that one of those took from receipt to answer, where an answer
// takes 20 ms, and how long the move took.
func BenchmarkAccountConnects(b *testing.B) {
	const waiting = 500_000
	for range b.N {
		g := newCrowdRig(b, true)
		g.crowd.mu.Lock()
		g.crowd.away = "7"
		g.crowd.mu.Unlock()
		for i := 0; i < waiting; i += 1000 {
			g.post(slices.Repeat([]int{7}, 1000)...)
		}
		g.post(sequence(50, 100)...)
		g.await(50)
		for {
			if live, _ := g.r.Unsorted(); live == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		g.crowd.mu.Lock()
		g.crowd.latency, g.crowd.away = nil, ""
		g.crowd.mu.Unlock()
		g.r.Connected("app", "7")
		began, moved := time.Now(), time.Duration(0)
		for i := 0; moved == 0 || time.Since(began) < moved+time.Second; i++ {
			g.post(50 + i%50)
			time.Sleep(10 * time.Millisecond)
			if l, _ := g.store.Lane(store.LaneName{Destination: "customers", Account: "7", Lane: "contacts"}); l.Entries == 0 && moved == 0 {
				moved = time.Since(began)
			}
		}
		g.crowd.mu.Lock()
		longest := slices.Max(g.crowd.latency)
		g.crowd.mu.Unlock()
		g.stop()
		b.ReportMetric(longest.Seconds(), "s-longest-of-others")
		b.ReportMetric(moved.Seconds(), "s-move")
	}
}

// BenchmarkBlockedBacklogs reports what 1,000 accounts take in memory of which each has a backlog of 2 MB, while their hubs refuse all calls, and at most while they deliver it.
func BenchmarkBlockedBacklogs(b *testing.B) {
	const accounts, events = 1000, 200
	for range b.N {
		g := newCrowdRig(b, true)
		g.crowd.refused.Store(true)
		text := strings.Repeat("x", 10_000)
		before := heapMiB()
		for a := range accounts {
			recs := make([][]byte, events)
			for i := range recs {
				g.n++
				ev := event.Event{ID: strconv.Itoa(g.n), APIKey: "key", Account: strconv.Itoa(a), Server: true, Received: time.Now(), JSON: []byte(`{"event_type":"user_identify","user":{"email":"a@b.co"},"text":"` + text + `"}`)}
				recs[i] = ev.AppendTo(nil)
			}
			for g.log.Append(recs...) != nil {
				time.Sleep(10 * time.Millisecond)
			}
		}
		for {
			if live, _ := g.r.Unsorted(); live == 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		b.ReportMetric(heapMiB()-before, "MiB-blocked")
		g.crowd.refused.Store(false)
		g.r.Probe()
		most := 0.0
		for done := 0; done < accounts*events; time.Sleep(100 * time.Millisecond) {
			most = max(most, heapMiB()-before)
			g.crowd.mu.Lock()
			done = g.crowd.done
			g.crowd.mu.Unlock()
		}
		g.stop()
		b.ReportMetric(most, "MiB-most-delivering")
	}
}

func heapMiB() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

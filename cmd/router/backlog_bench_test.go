package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// Variables that say how many entries BenchmarkBacklog has wait, and of how many people; else a tenth of that. 10000000 take half an hour and 5 GB.
const (
	backlogEntries = "BACKLOG_ENTRIES"
	backlogPeople  = "BACKLOG_PEOPLE"
)

const (
	backlogSlice  = 300_000          // events over which a speed is taken
	backlogBatch  = 1000             // events of a request
	backlogSettle = 20 * time.Second // a router at rest holds what it needs for good
)

// appendBacklogEvent appends the ith event, of a person: identifies and events by turns, so that both lanes fill.
func appendBacklogEvent(b []byte, i, of int) []byte {
	person := strconv.Itoa(of)
	b = append(b, `{"event_id":"backlog-`...)
	b = strconv.AppendInt(b, int64(i), 10)
	b = append(b, `","user":{"id":"u`...)
	b = append(append(b, person...), `","email":"person.`...)
	b = append(append(b, person...), `@example.com`...)
	if i%2 == 0 {
		b = append(b, `","firstname":"Ada","lastname":"Lovelace","plan":"pro","score":`...)
		b = strconv.AppendInt(b, int64(i%1000), 10)
		b = append(b, `},"event_type":"user_identify"`...)
	} else {
		b = append(b, `"},"event_type":"purchase","revenue":12.5,"product":"Widget"`...)
	}
	return append(b, `,"utc_time":"2026-11-21T02:52:27.371000Z","url":"https://shop.example.com/pricing?utm_source=newsletter","page_title":"Pricing page"}`...)
}

// backlog is a router whose HubSpot can be reached or not.
type backlog struct {
	b      *testing.B
	binary string
	config string
	hub    *sandbox.Sandbox
	remote string // address
	next   int    // event to post
	old    int    // events below this are of people who come again and again,
	people int    // of so many; later ones are of new people, two events each
	first  atomic.Int64
	stop   func()
}

func newBacklog(b *testing.B, binary string) *backlog {
	b.Helper()
	l := &backlog{b: b, binary: binary, hub: sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken, Properties: demoProperties()}), stop: func() {}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	l.remote = ln.Addr().String()
	ln.Close() // nobody answers there
	dir := b.TempDir()
	l.config = filepath.Join(dir, "router.yaml")
	text := fmt.Sprintf(`
server: {host: 127.0.0.1, port: 0, data_dir: %q, max_log_bytes: 64GiB}
api_keys: [{id: demo, server_secret: %s}]
destinations:
  crm:
    type: hubspot
    lanes: {max_bytes: 64GiB}
    hubspot: {access_token: %s, hub_id: %q, base_url: "http://%s"}
`, filepath.Join(dir, "data"), demoServerKey, demoToken, demoHub, l.remote)
	if err := os.WriteFile(l.config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.stop() })
	return l
}

func (l *backlog) person(i int) int {
	if i < l.old {
		return i / 2 % l.people
	}
	return i/2 + l.people
}

// answer has HubSpot answer from now on. l.first is set when it gets the first contact.
func (l *backlog) answer() {
	ln, err := net.Listen("tcp", l.remote)
	if err != nil {
		l.b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			l.first.CompareAndSwap(0, time.Now().UnixNano())
		}
		l.hub.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			l.b.Error(err)
		}
	}()
	l.stop = sync.OnceFunc(func() { srv.Close(); <-done })
}

// speed is how fast something went: by the clock, and by the time that the router's process used for it.
type speed struct{ perSecond, cpu float64 }

func speedOf(n int, took, cpu time.Duration) speed {
	return speed{float64(n) / took.Seconds(), float64(cpu.Nanoseconds()) / float64(n)}
}

// fill posts n events and waits until they are sorted.
func (l *backlog) fill(c *child, n int) speed {
	l.b.Helper()
	began, cpu, from := time.Now(), c.cpu(l.b), l.next
	l.next += n
	var next atomic.Int64
	next.Store(int64(from))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var body []byte
			for {
				at := int(next.Add(backlogBatch)) - backlogBatch
				if at >= from+n {
					return
				}
				body = append(body[:0], '[')
				for i := at; i < min(at+backlogBatch, from+n); i++ {
					body = append(appendBacklogEvent(body, i, l.person(i)), ',')
				}
				body[len(body)-1] = ']'
				if err := postEvents(c.url, body); err != nil {
					l.b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	c.until(l.b, "router_log_unsorted_records", 0)
	return speedOf(n, time.Since(began), c.cpu(l.b)-cpu)
}

func postEvents(url string, body []byte) error {
	for {
		res, err := http.Post(url+serverPath, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		res.Body.Close()
		switch res.StatusCode {
		case http.StatusOK:
			return nil
		case http.StatusServiceUnavailable:
			time.Sleep(100 * time.Millisecond)
		default:
			return errors.New(res.Status)
		}
	}
}

// drain waits until n entries have left.
func (l *backlog) drain(c *child, n int) speed {
	l.b.Helper()
	before := c.metric(l.b, "router_delivered_total")
	began, cpu := time.Now(), c.cpu(l.b)
	for {
		left := c.metric(l.b, "router_delivered_total") - before
		if int(left) >= n {
			return speedOf(int(left), time.Since(began), c.cpu(l.b)-cpu)
		}
		time.Sleep(20 * time.Millisecond) // another process
	}
}

// numberIn reads a variable.
func numberIn(b *testing.B, name string, otherwise int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkBacklog has BACKLOG_ENTRIES entries wait, contacts and events by half, for a HubSpot that cannot be reached, and reports memory, the time from a
// start to the first delivery, and how fast events are accepted and sorted, and delivered, relative to a router with nothing waiting. The router is a process of its own. Give it
// one iteration: -benchtime 1x.
func BenchmarkBacklog(b *testing.B) {
	n := numberIn(b, backlogEntries, 600_000)
	people := numberIn(b, backlogPeople, n/10)
	binary := buildRouter(b)
	for b.Loop() {
		none := newBacklog(b, binary)
		c := startChild(b, binary, none.config)
		none.fill(c, 20_000) // warm
		without := none.fill(c, backlogSlice)
		c.kill()
		none.answer()
		c = startChild(b, binary, none.config)
		none.drain(c, 10_000)
		delivered := none.drain(c, backlogSlice-50_000)
		c.kill()
		none.stop()
		b.ReportMetric(without.perSecond, "sorted/s")
		b.ReportMetric(delivered.perSecond, "delivered/s")

		l := newBacklog(b, binary)
		l.old, l.people = n, people
		c = startChild(b, binary, l.config)
		for l.next < n {
			s := l.fill(c, min(n-l.next, 500_000))
			now, peak := c.memory(b)
			b.Logf("%d entries wait: %.0f MB, at most %.0f; %.0f sorted/s, %.0f cpu-ns", l.next, now, peak, s.perSecond, s.cpu)
		}
		with := l.fill(c, backlogSlice)
		time.Sleep(backlogSettle)
		now, peak := c.memory(b)
		b.ReportMetric(now, "RSS-MB")
		b.ReportMetric(peak, "peak-MB")
		c.kill()

		c = startChild(b, binary, l.config)
		b.ReportMetric(c.ready.Seconds(), "ready-s")
		time.Sleep(backlogSettle)
		now, peak = c.memory(b)
		b.ReportMetric(now, "restarted-RSS-MB")
		b.ReportMetric(peak, "restarted-peak-MB")
		c.kill()

		l.answer()
		l.first.Store(0)
		c = startChild(b, binary, l.config)
		l.drain(c, 10_000)
		b.ReportMetric(time.Unix(0, l.first.Load()).Sub(c.started).Seconds(), "first-delivery-s")
		drained := l.drain(c, backlogSlice-50_000)
		again := l.fill(c, backlogSlice) // while it drains
		_, peak = c.memory(b)
		b.ReportMetric(peak, "draining-peak-MB")
		c.kill()
		l.stop()
		b.Logf("sorted: %.0f/s (%.0f cpu-ns) with nothing waiting, %.0f/s (%.0f cpu-ns) behind the backlog, %.0f/s while it drains",
			without.perSecond, without.cpu, with.perSecond, with.cpu, again.perSecond)
		b.Logf("delivered: %.0f/s (%.0f cpu-ns) with nothing waiting, %.0f/s (%.0f cpu-ns) of the backlog",
			delivered.perSecond, delivered.cpu, drained.perSecond, drained.cpu)
		b.ReportMetric(with.perSecond/without.perSecond, "sorted-ratio")
		b.ReportMetric(without.cpu/with.cpu, "sorted-cpu-ratio")
		b.ReportMetric(drained.perSecond/delivered.perSecond, "delivered-ratio")
		b.ReportMetric(delivered.cpu/drained.cpu, "delivered-cpu-ratio")
	}
}

// BenchmarkRestart starts a router with 1,000,000 records in the log that are not sorted, and reports the time from its start to the first call that HubSpot gets.
func BenchmarkRestart(b *testing.B) {
	const records = 1_000_000
	binary := buildRouter(b)
	l := newBacklog(b, binary)
	cfg, err := config.Load(l.config)
	if err != nil {
		b.Fatal(err)
	}
	var took []float64
	for b.Loop() {
		b.StopTimer()
		srv, err := newService(cfg, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			b.Fatal(err)
		}
		recs := make([][]byte, backlogBatch)
		for i := 0; i < records; i += len(recs) {
			for j := range recs {
				ev := event.Event{ID: strconv.Itoa(l.next), APIKey: "demo", Received: time.Now().UTC(), Server: true, JSON: appendBacklogEvent(nil, l.next, l.person(l.next))}
				recs[j] = ev.AppendTo(nil)
				l.next++
			}
			if err := srv.log.Append(recs...); err != nil {
				b.Fatal(err)
			}
		}
		if err := srv.close(); err != nil {
			b.Fatal(err)
		}
		l.answer()
		l.first.Store(0)
		b.StartTimer()
		c := startChild(b, binary, l.config)
		l.drain(c, 1)
		took = append(took, time.Unix(0, l.first.Load()).Sub(c.started).Seconds())
		b.ReportMetric(c.ready.Seconds(), "ready-s")
		b.StopTimer()
		_, peak := c.memory(b)
		b.ReportMetric(peak, "peak-MB")
		c.kill()
		l.stop()
		b.StartTimer()
	}
	b.ReportMetric(median(took), "first-delivery-s")
}

// BenchmarkLanesAtStart starts a router with 1,000,000 entries in lanes, five times, and reports the median time from its start to the first call that HubSpot gets, and what it has used of a
// core by then.
func BenchmarkLanesAtStart(b *testing.B) {
	const entries, starts = 1_000_000, 5
	binary := buildRouter(b)
	for b.Loop() {
		l := newBacklog(b, binary)
		l.old, l.people = entries, entries/10
		c := startChild(b, binary, l.config)
		l.fill(c, entries)
		c.kill()
		l.answer()
		var took, used []float64
		for range starts {
			l.first.Store(0)
			c = startChild(b, binary, l.config)
			for l.first.Load() == 0 {
				time.Sleep(5 * time.Millisecond) // another process
			}
			used = append(used, c.cpu(b).Seconds())
			took = append(took, time.Unix(0, l.first.Load()).Sub(c.started).Seconds())
			c.kill()
		}
		l.stop()
		b.ReportMetric(median(took), "first-delivery-s")
		b.ReportMetric(median(used), "first-delivery-cpu-s")
	}
}

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
	"eventrouter/pkg/seal"
)

// The load is made in this process: each figure stands beside that of a bare fasthttp handler under the same load in the same run.

const benchBody = `{"event_id":"00000000000000000000","event_type":"user_identify","user":{"email":"p0000@example.com","id":"u1","firstname":"Ada","lastname":"Lovelace"},"utc_time":"2026-11-21T02:52:27.371000Z","referer":"https://www.google.com/","url":"https://shop.example.com/pricing?utm_source=newsletter","page_title":"Pricing page"`

// benchRequest is a request of a 1 KiB event, with the places of its id and person.
func benchRequest() (request []byte, id, person int) {
	body := benchBody + `,"pad":"` + strings.Repeat("0123456789abcdef", 100)
	body = body[:1022] + `"}`
	request = fmt.Appendf(nil, "POST /api/v1/s2s/event?token=%s HTTP/1.1\r\nHost: router\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		demoServerKey, len(body), body)
	return request, bytes.Index(request, []byte("00000000000000000000")), bytes.Index(request, []byte("p0000@")) + 1
}

var requestIDs atomic.Int64

// post1KiB posts events over conns connections for d and returns how many were answered with 200.
func post1KiB(b *testing.B, address string, conns int, d time.Duration) int {
	b.Helper()
	var answered atomic.Int64
	stop := time.Now().Add(d)
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() {
			n, err := postOver(address, stop)
			if err != nil {
				b.Error(err)
			}
			answered.Add(int64(n))
		})
	}
	wg.Wait()
	return int(answered.Load())
}

func postOver(address string, stop time.Time) (answered int, err error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	request, id, person := benchRequest()
	answer := make([]byte, 4096)
	size := 0
	for time.Now().Before(stop) {
		next := requestIDs.Add(1)
		copy(request[id:], fmt.Appendf(nil, "%020d", next))
		copy(request[person:], fmt.Appendf(nil, "%04d", next%10_000))
		if _, err := conn.Write(request); err != nil {
			return answered, err
		}
		if size == 0 { // all answers have the length of the first
			if size, err = conn.Read(answer); err != nil {
				return answered, err
			}
		} else if _, err := io.ReadFull(conn, answer[:size]); err != nil {
			return answered, err
		}
		if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
			return answered, fmt.Errorf("answer %q", answer[:size])
		}
		answered++
	}
	return answered, nil
}

// bareServer answers 200 to everything and does nothing.
func bareServer(b *testing.B) (address string) {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.SetContentType("application/json; charset=utf-8")
		ctx.SetBodyString(`{"status":"ok"}`)
	}, NoDefaultServerHeader: true}
	go srv.Serve(ln)
	b.Cleanup(func() { srv.Shutdown() })
	return ln.Addr().String()
}

// benchService is a router on a temporary directory that delivers to a sandbox without limits.
func benchService(b *testing.B, change ...func(*config.Server)) (*service, *sandbox.Sandbox) {
	b.Helper()
	hub := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken, Properties: demoProperties()})
	remote := httptest.NewServer(hub)
	b.Cleanup(remote.Close)
	return benchServiceAt(b, remote.URL, change...), hub
}

// benchServiceAt is a router on a temporary directory that delivers to the HubSpot at a URL.
func benchServiceAt(b *testing.B, hubspot string, change ...func(*config.Server)) *service {
	b.Helper()
	env := map[string]string{"DEMO_DATA": b.TempDir(), "DEMO_PORT": "0", "DEMO_HUBSPOT": hubspot}
	cfg, err := config.Parse("bench.yaml", demoConfig, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	if err != nil {
		b.Fatal(err)
	}
	cfg.Destinations[0].Filter = "" // the destination's own
	cfg.Server.MaxLogBytes = 64 << 30
	cfg.Server.DedupeMaxIDs = 20_000_000
	for _, c := range change {
		c(&cfg.Server)
	}
	srv, err := newService(cfg, slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelError})), nil)
	if err != nil {
		b.Fatal(err)
	}
	return srv
}

// BenchmarkIngest compares requests per second over loopback with those of a bare handler. burst: accepted and durable, nothing
// else at work. sustained: sorted and delivered as well, timed until all of it is. Give it iterations, not time: -benchtime 3x.
func BenchmarkIngest(b *testing.B) {
	for _, conns := range []int{64, 512} {
		b.Run("burst/"+strconv.Itoa(conns), func(b *testing.B) { benchmarkIngest(b, conns, false) })
		b.Run("sustained/"+strconv.Itoa(conns), func(b *testing.B) { benchmarkIngest(b, conns, true) })
	}
}

func benchmarkIngest(b *testing.B, conns int, deliver bool) {
	const slice = 2 * time.Second
	bare := bareServer(b)
	var bareRates, rates, ratios []float64
	var records, groups int64
	for b.Loop() {
		srv, _ := benchService(b)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		if deliver {
			go func() { done <- srv.run(ctx, ln) }()
		} else {
			go func() { done <- srv.ingest.Run(ctx, ln) }()
		}
		bareRate := float64(post1KiB(b, bare, conns, slice)) / slice.Seconds()
		began := time.Now()
		n := post1KiB(b, ln.Addr().String(), conns, slice)
		for deliver && !srv.router.Idle() {
			time.Sleep(time.Millisecond)
		}
		rate := float64(n) / time.Since(began).Seconds()
		stats := srv.log.Stats()
		records, groups = records+stats.Records, groups+stats.Groups
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		if !deliver {
			srv.close()
		}
		bareRates, rates, ratios = append(bareRates, bareRate), append(rates, rate), append(ratios, rate/bareRate)
	}
	b.ReportMetric(median(bareRates), "bare-req/s")
	b.ReportMetric(median(rates), "req/s")
	b.ReportMetric(median(ratios), "ratio-to-bare")
	b.ReportMetric(float64(records)/float64(groups), "events/fsync")
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// BenchmarkDelivery delivers contacts from a full log into the sandbox, over loopback HTTP and in the same process.
func BenchmarkDelivery(b *testing.B) { benchmarkDelivery(b) }

// BenchmarkDeliveryUntold is the same without outcomes and events cache: what those cost.
func BenchmarkDeliveryUntold(b *testing.B) {
	benchmarkDelivery(b, func(s *config.Server) { s.OutcomesMaxBytes, s.EventsCacheCapacity = 0, 0 })
}

// BenchmarkDeliveryEncrypted is BenchmarkDelivery with a key.
func BenchmarkDeliveryEncrypted(b *testing.B) {
	key, err := seal.ParseKey(seal.NewKey())
	if err != nil {
		b.Fatal(err)
	}
	ring, err := seal.NewRing(true, key)
	if err != nil {
		b.Fatal(err)
	}
	benchmarkDelivery(b, func(s *config.Server) { s.Encryption.Keys = ring })
}

func benchmarkDelivery(b *testing.B, change ...func(*config.Server)) {
	srv, hub := benchService(b, change...)
	var recs [][]byte
	for i := range b.N {
		ev := event.Event{
			ID: strconv.Itoa(i), APIKey: "demo", Received: time.Now().UTC(), Server: true,
			JSON: fmt.Appendf(nil, `{"event_type":"user_identify","user":{"email":"p%d@example.com","firstname":"Ada","lastname":"Lovelace","plan":"pro","score":%d}}`, i, i),
		}
		recs = append(recs, ev.AppendTo(nil))
		if len(recs) == 1000 || i == b.N-1 {
			if err := srv.log.Append(recs...); err != nil {
				b.Fatal(err)
			}
			recs = recs[:0]
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	go func() { done <- srv.router.Run(ctx) }()
	for !srv.router.Idle() {
		time.Sleep(time.Millisecond)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "contacts/s")
	b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/contact")
	if n := hub.ContactCount(); n != b.N {
		b.Errorf("%d contacts, want %d", n, b.N)
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	srv.close()
}

// cpuTime is what this process has used, by others hardly disturbed.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

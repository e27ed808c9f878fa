package ingest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/config"

	"github.com/valyala/fasthttp"
)

// limited makes a server in which key2 has a rate limit, and a post to it without a socket.
func limited(t testing.TB, log Log, limit config.RateLimit) (*Server, func(path string, events int) *fasthttp.Response) {
	t.Helper()
	o := testOptions(log)
	o.Now = time.Now
	o.APIKeys[1].RateLimit = limit
	s := newServer(t, o)
	return s, func(path string, events int) *fasthttp.Response {
		return handle(s, "POST", path, "["+strings.Join(slices.Repeat([]string{`{"event_type":"x"}`}, events), ",")+"]")
	}
}

// Events are counted, not requests; over both secrets of a key; a batch larger than the burst passes and is paid for; Retry-After is right to the second.
func TestRateLimit(t *testing.T) {
	const server, client = "/s2s/events?token=s2s.open", "/api/v1/events?token=js.open"
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		_, post := limited(t, log, config.RateLimit{EventsPerSecond: 10, Burst: 20})
		stored := 0
		// f posts events and wants them stored, or after how many seconds to come again.
		f := func(path string, events, retryAfter int) {
			t.Helper()
			res := post(path, events)
			status, header := 200, ""
			if retryAfter > 0 {
				status, header = 429, fmt.Sprint(retryAfter)
			} else {
				stored += events
			}
			if res.StatusCode() != status || string(res.Header.Peek("Retry-After")) != header {
				t.Errorf("%d events to %s: got %d, Retry-After %q, want %d, %q", events, path, res.StatusCode(), res.Header.Peek("Retry-After"), status, header)
			}
			if want := `{"message":"Too many events of this API key, send them again later","error":"rate_limit is 10 events per second, and a burst of 20"}`; status == 429 && string(res.Body()) != want {
				t.Errorf("got %s", res.Body())
			}
		}
		f(server, 15, 0)
		f(client, 4, 0)
		f(server, 1, 0) // the 20th
		f(server, 1, 1)
		f(client, 1, 1)
		f(server, 0, 1)
		time.Sleep(100 * time.Millisecond)
		f(server, 1, 0)
		f(server, 1, 1)

		time.Sleep(time.Hour)
		f(server, 100, 0) // more than the burst: owes 80
		f(server, 1, 9)   // 8.1 s until the first token
		time.Sleep(8 * time.Second)
		f(client, 1, 1)
		time.Sleep(100 * time.Millisecond)
		f(client, 50, 0)
		f(client, 1, 5)

		f("/s2s/events?token=s2s.secret", 1000, 0) // another key
		if got := len(log.take(t)); got != stored {
			t.Errorf("stored %d events, want %d", got, stored)
		}
	})
}

// What many clients send together stays within the rate, and everybody gets through who waits as he is told.
func TestRateLimitOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &memoryLog{}
		_, post := limited(t, log, config.RateLimit{EventsPerSecond: 100, Burst: 50})
		began := time.Now()
		var g sync.WaitGroup
		var last atomic.Int64
		for size := range 40 {
			g.Go(func() {
				for range 10 {
					for {
						res := post("/s2s/events?token=s2s.open", 5*size)
						if res.StatusCode() == 200 {
							last.Store(int64(time.Since(began)))
							break
						}
						wait, err := time.ParseDuration(string(res.Header.Peek("Retry-After")) + "s")
						if err != nil || wait < time.Second {
							t.Errorf("Retry-After: %q", res.Header.Peek("Retry-After"))
							return
						}
						time.Sleep(wait)
					}
				}
			})
		}
		g.Wait()
		const events = 5 * 780 * 10
		if got := len(log.take(t)); got != events {
			t.Errorf("stored %d events, want %d", got, events)
		}
		// All but the burst and what is still owed was paid for.
		if took := time.Duration(last.Load()); took < (events-50-195)/100*time.Second || took > 2*events/100*time.Second {
			t.Errorf("%d events at 100 a second took %s", events, took)
		}
	})
}

// A reload keeps what a key owes while its limit is the same, whatever else changes.
func TestRateLimitOutlivesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := config.RateLimit{EventsPerSecond: 1, Burst: 10}
		s, post := limited(t, &memoryLog{}, limit)
		f := func(path string, status int) {
			t.Helper()
			if res := post(path, 10); res.StatusCode() != status {
				t.Errorf("%s: got %d, want %d", path, res.StatusCode(), status)
			}
		}
		f("/s2s/events?token=s2s.open", 200)
		f("/s2s/events?token=s2s.open", 429)
		s.SetSources([]config.APIKey{{ID: "key2", ServerSecret: "s2s.new", RateLimit: limit}}, nil)
		f("/s2s/events?token=s2s.new", 429)
		s.SetSources([]config.APIKey{{ID: "key2", ServerSecret: "s2s.new", RateLimit: config.RateLimit{EventsPerSecond: 2, Burst: 10}}}, nil)
		f("/s2s/events?token=s2s.new", 200)
		f("/s2s/events?token=s2s.new", 429)
		s.SetSources([]config.APIKey{{ID: "key2", ServerSecret: "s2s.new"}}, nil)
		f("/s2s/events?token=s2s.new", 200)
		f("/s2s/events?token=s2s.new", 200)
	})
}

// Limits at the ends of their range do not overflow.
func TestRateLimitRange(t *testing.T) {
	f := func(limit config.RateLimit, n, times int) {
		t.Helper()
		now := time.Now()
		l := newRateLimit(limit, now)
		for i := range times {
			if wait := l.take(now, n); wait != 0 {
				t.Errorf("%+v: %d events, the %dth time: wait %s", limit, n, i, wait)
			}
		}
		if wait := l.take(now, n); wait <= 0 {
			t.Errorf("%+v: %d events are taken without end", limit, n)
		}
	}
	f(config.RateLimit{EventsPerSecond: 0.001, Burst: 1}, 1_000_000, 1)
	f(config.RateLimit{EventsPerSecond: 0.001, Burst: 1000}, 1, 1000)
	f(config.RateLimit{EventsPerSecond: 1e9, Burst: 1e9}, 1_000_000, 1000)
	f(config.RateLimit{EventsPerSecond: 0.5, Burst: 1}, 1, 1)
	f(config.RateLimit{EventsPerSecond: 3, Burst: 2}, 1, 2)
}

// In a browser only what is exposed can be read.
func TestRetryAfterIsExposed(t *testing.T) {
	o := testOptions(&memoryLog{})
	o.APIKeys[1].RateLimit = config.RateLimit{EventsPerSecond: 1, Burst: 1}
	url := start(t, o) + "/api/v1/event?token=js.open"
	send(t, "POST", url, []byte(`{}`))
	res := send(t, "POST", url, []byte(`{}`), "Origin", "https://a.example")
	if res.status != http.StatusTooManyRequests || res.header.Get("Access-Control-Expose-Headers") != "Retry-After" ||
		res.header.Get("Access-Control-Allow-Origin") != "https://a.example" || res.header.Get("Retry-After") != "1" {
		t.Errorf("got %+v", res)
	}
}

func BenchmarkRateLimit(b *testing.B) {
	now := time.Now()
	l := newRateLimit(config.RateLimit{EventsPerSecond: 1e9, Burst: 1e9}, now)
	b.ReportAllocs()
	for b.Loop() {
		l.take(now, 1)
	}
}

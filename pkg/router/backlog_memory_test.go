package router

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// TestBacklogsTakeLittleMemory: accounts with much to deliver, whose hubs refuse all calls, do not answer, or answer slowly, do not keep it in memory. In the end all of it is delivered, in order.
func TestBacklogsTakeLittleMemory(t *testing.T) {
	const accounts, rounds, perRound = 15, 10, 10
	payload := strings.Repeat("x", 10_000) // 1 MB of each account
	f := func(name string, answer error, most int64) {
		inBubble(t, func(t *testing.T) {
			g, w := accountRig(t, nil)
			g.stop()
			g.most = 2 << 20
			g.start()
			w.router = g.router
			var failing atomic.Bool
			failing.Store(true)
			w.mu.Lock()
			w.answer = func(hub string) error {
				if failing.Load() {
					return answer
				}
				return nil
			}
			w.mu.Unlock()
			heap := func() int64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return int64(m.HeapAlloc)
			}
			for i := range accounts {
				w.connect(fmt.Sprintf("a%d", i), fmt.Sprintf("a%d-h1", i))
			}
			want := ""
			before := heap()
			for r := range rounds {
				for i := range accounts {
					var texts []string
					for v := range perRound {
						texts = append(texts, fmt.Sprintf(`{"owner":"a%d","event_type":"user_identify","user":{"email":"p@a%d","v":%d},"text":%q}`, i, i, r*perRound+v+1, payload))
					}
					g.append(event.Event{Server: true, Account: fmt.Sprintf("a%d", i)}, texts...)
					time.Sleep(50 * time.Millisecond)
				}
			}
			for v := range rounds * perRound {
				want = strings.TrimSpace(fmt.Sprint(want, " ", v+1))
			}
			for range 3 {
				time.Sleep(7 * time.Minute)
				if grown := heap() - before; grown > most {
					t.Errorf("%s: a backlog of %d MB takes %d MB of memory, want %d MB at most", name, accounts*rounds*perRound*len(payload)>>20, grown>>20, most>>20)
				}
			}
			failing.Store(false)
			g.drain()
			for i := range accounts {
				g.want(fmt.Sprintf("%s: delivered to account %d", name, i), w.written(fmt.Sprintf("a%d-h1", i), fmt.Sprintf("p@a%d", i)), want)
			}
			g.stop()
		})
	}
	f("refuses", destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{}), 6<<20)
	f("is away", destinations.Unavailable(errors.New("503")), 12<<20)
}

// TestFullBlockedAccount: a lane that is blocked, of which nothing is in memory, gives up its own oldest at its limit, keeps the rest, and delivers it when it flows again.
func TestFullBlockedAccount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, func(route *Route) {
			route.Lanes = config.LaneLimits{MaxAge: time.Hour, OnFull: config.DeadLetterOldest}
		})
		defer g.stop()
		w.connect("a1", "a1-h1")
		w.mu.Lock()
		w.answer = func(string) error {
			return destinations.Block(errors.New("403"), destinations.AccountScope, time.Now().Add(20*time.Minute))
		}
		w.mu.Unlock()
		for v := range 90 {
			g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", v+1))
			time.Sleep(time.Minute)
		}
		time.Sleep(time.Second)
		letters := g.deadLetters()
		if n := len(letters); n < 28 || n > 32 || letters[0].Reason != reasonLaneFull {
			t.Fatalf("%d were given up, want about 30", n)
		}
		for i, d := range letters { // newest first
			if want := fmt.Sprintf("e%d", len(letters)-i); d.EventID != want {
				t.Errorf("given up: %s, want %s", d.EventID, want)
			}
		}
		w.mu.Lock()
		w.answer = nil
		w.mu.Unlock()
		g.drain()
		want := ""
		for v := len(g.deadLetters()); v < 90; v++ {
			want = strings.TrimSpace(fmt.Sprint(want, " ", v+1))
		}
		g.want("delivered", w.written("a1-h1", "p@a1"), want)
	})
}

package router

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// TestPoisonOfOneAccount: an account whose events all become dead letters reaches the bound of the destination's dead letters alone. It gives up its own oldest; nobody is refused, the others'
// events flow, and their dead letters stay.
func TestPoisonOfOneAccount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		defer g.stop()
		for _, account := range []string{"bad", "good", "late"} {
			w.connect(account, account+"-h1")
		}
		w.answer = func(hub string) error {
			if hub == "bad-h1" || hub == "late-h1" {
				return destinations.Reject(errors.New("refused"))
			}
			return nil
		}
		g.router.LimitDeadLetters(DeadLetterBounds{MaxBytes: 4000})
		g.append(event.Event{Server: true, Account: "late"}, ofAccount("late", 1)) // older than all of the other's
		for v := range 100 {
			g.append(event.Event{Server: true, Account: "bad"}, fmt.Sprintf(`{"owner":"bad","event_type":"user_identify","user":{"email":"p%d@bad","v":1}}`, v))
			g.append(event.Event{Server: true, Account: "good"}, ofAccount("good", v+1))
			time.Sleep(time.Second)
			if reason, refused := g.router.Refused("key", event.Live); refused {
				t.Fatalf("after %d events: refused: %s", v+1, reason)
			}
		}
		g.append(event.Event{Server: true, Account: "late"}, ofAccount("late", 2))
		time.Sleep(2 * time.Second)
		if n := len(strings.Fields(w.written("good-h1", "p@good"))); n != 100 {
			t.Errorf("the other account got %d of 100 events", n)
		}
		of := map[string][]string{}
		for _, d := range g.deadLetters() { // newest first
			of[d.Account] = append(of[d.Account], d.Person)
		}
		if len(of["late"]) != 2 {
			t.Errorf("of the account with two dead letters are left %v", of["late"])
		}
		if n := len(of["bad"]); n < 5 || n > 60 || of["bad"][0] != "p99@bad" || of["bad"][n-1] != fmt.Sprintf("p%d@bad", 100-n) {
			t.Errorf("the account that floods keeps %v, want its newest", of["bad"])
		}
		if bytes := g.store.DeadLetterBytes("customers"); bytes >= 4000 {
			t.Errorf("dead letters take %d bytes, want less than 4000", bytes)
		}
		for _, s := range g.router.Status() {
			if s.Entries > 0 || s.State != Flowing {
				t.Errorf("in the end: %+v", s)
			}
		}
		outcomes, err := g.store.Outcomes(t.Context(), store.OutcomeQuery{EventID: "e2", Limit: 10})
		if err != nil || len(outcomes) == 0 || outcomes[0].Status != store.Dropped || !strings.Contains(outcomes[0].Reason, "server.dead_letters.max_bytes") {
			t.Errorf("what became of the first that went: %+v, %v", outcomes, err)
		}
	})
}

// TestBacklogThatMoves: what has waited for an account for long moves to its hub piece by piece when it connects. Others' events do not wait for all of it, and the account's own leave in order, also
// what comes while the rest moves. TestAccountsModel does the same with kills, reloads and disconnecting in the midst of it.
func TestBacklogThatMoves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		g.stop()
		waits := func() int64 {
			l, _ := g.store.Lane(store.LaneName{Destination: "customers", Account: "big", Lane: "contacts"})
			return l.Entries
		}
		var looking atomic.Bool
		var left atomic.Int64 // when the other account's event was sorted
		g.window = 50         // a block is read at a time
		g.routes = func(*rig) []Route {
			return []Route{{Name: "customers", Type: "fake", Connection: "app", Destination: askedFor{&shared{world: w}, func(account string) {
				if account == "small" && looking.CompareAndSwap(true, false) {
					left.Store(waits())
				}
			}}, Retry: config.Retry{MaxAge: time.Hour, MaxDelay: time.Minute}, Lanes: config.LaneLimits{OnFull: config.DeadLetterOldest}}}
		}
		g.start()
		w.router = g.router
		w.connect("small", "small-h1")
		const blocks = 60
		want := []string{}
		post := func(v int) {
			g.append(event.Event{Server: true, Account: "big"}, ofAccount("big", v))
			want = append(want, fmt.Sprint(v))
		}
		for v := range blocks {
			post(v + 1)
			time.Sleep(handoverRest + time.Millisecond)
		}
		if n := waits(); n != blocks {
			t.Fatalf("%d entries wait, want %d", n, blocks)
		}
		looking.Store(true)
		w.connect("big", "big-h1")
		g.append(event.Event{Server: true, Account: "small"}, ofAccount("small", 1))
		post(blocks + 1)
		time.Sleep(time.Second)
		if n := left.Load(); n < blocks-3 {
			t.Errorf("the event of another account was sorted when %d of %d blocks were left to move", n, blocks)
		}
		g.want("in order", w.written("big-h1", "p@big"), strings.Join(want, " "))
		g.want("of the other", w.written("small-h1", "p@small"), "1")
		g.stop()
	})
}

// TestMoveIsInterrupted: while what has waited for an account moves to its hub, the process is killed, or the account connects to another hub. After a kill it goes on; to another hub goes nothing
// that waited when the account connected to the first one, but what came afterwards.
func TestMoveIsInterrupted(t *testing.T) {
	const blocks = 30
	f := func(t *testing.T, interrupt func(g *rig, w *world), check func(g *rig, w *world, want string)) {
		g, w := accountRig(t, nil)
		g.stop()
		var asked atomic.Int64 // since the account connected
		asked.Store(-1000)
		g.window, g.routes = 50, func(*rig) []Route {
			return []Route{{Name: "customers", Type: "fake", Connection: "app", Destination: askedFor{&shared{world: w, life: w.life}, func(account string) {
				if account == "big" && asked.Add(1) == 10 {
					interrupt(g, w)
				}
			}}, Retry: config.Retry{MaxAge: time.Hour, MaxDelay: time.Minute}, Lanes: config.LaneLimits{OnFull: config.DeadLetterOldest}}}
		}
		g.start()
		w.router = g.router
		want := ""
		for v := range blocks {
			g.append(event.Event{Server: true, Account: "big"}, ofAccount("big", v+1))
			want = strings.TrimSpace(fmt.Sprint(want, " ", v+1))
			time.Sleep(handoverRest + time.Millisecond)
		}
		asked.Store(0)
		w.connect("big", "big-h1")
		time.Sleep(time.Second)
		check(g, w, want)
		g.stop()
	}
	inBubble(t, func(t *testing.T) { // a kill
		copied := memoryDir(t)
		f(t, func(g *rig, w *world) {
			if err := os.CopyFS(copied, os.DirFS(g.dir)); err != nil {
				t.Error(err)
			}
		}, func(g *rig, w *world, want string) {
			g.want("without a kill", w.written("big-h1", "p@big"), want)
			g.stop()
			g.dir = copied
			w.wrote, w.router = map[string][]string{}, nil
			g.open()
			l, _ := g.store.Lane(store.LaneName{Destination: "customers", Account: "big", Lane: "contacts"})
			if l.Entries == 0 || l.Entries == blocks {
				t.Errorf("killed when %d of %d were left to move, want it in the midst", l.Entries, blocks)
			}
			g.run()
			time.Sleep(time.Second)
			g.want("after a kill", w.written("big-h1", "p@big"), want)
		})
	})
	inBubble(t, func(t *testing.T) { // another hub
		f(t, func(g *rig, w *world) {
			w.mu.Lock()
			w.hubs["big"] = "big-h2"
			w.mu.Unlock()
			g.append(event.Event{Server: true, Account: "big"}, ofAccount("big", blocks+1))
		}, func(g *rig, w *world, want string) {
			g.want("at the other hub", w.written("big-h2", "p@big"), fmt.Sprint(blocks+1))
			g.want("at the first hub", w.written("big-h1", "p@big"), "")
			w.connect("big", "big-h1")
			time.Sleep(time.Second)
			g.want("when it is connected there again", w.written("big-h1", "p@big"), want)
		})
	})
}

// askedFor tells when its router asks for the hub of an account.
type askedFor struct {
	*shared
	asked func(account string)
}

func (d askedFor) Hub(account string) string {
	d.asked(account)
	return d.shared.Hub(account)
}

package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// accountRig is a router that delivers to accounts of a world.
func accountRig(t *testing.T, change func(*Route)) (*rig, *world) {
	t.Helper()
	w := newWorld()
	g := newRig(t, newRemote(), nil)
	g.routes = func(*rig) []Route {
		route := Route{
			Name: "customers", Type: "fake", Connection: "app", Destination: &shared{world: w}, UnknownTTL: time.Hour,
			Retry: config.Retry{MaxAge: 24 * time.Hour, MaxDelay: 5 * time.Minute}, Lanes: config.LaneLimits{OnFull: config.DeadLetterOldest},
		}
		if change != nil {
			change(&route)
		}
		return []Route{route}
	}
	g.start()
	w.router = g.router
	return g, w
}

func ofAccount(account string, v int) string {
	return fmt.Sprintf(`{"owner":%q,"event_type":"user_identify","user":{"email":"p@%s","v":%d}}`, account, account, v)
}

// TestUnknownAccount: what comes for an account that is not connected waits, says so, and is delivered in order once it connects; what has waited too long is a dead letter, which can be replayed.
func TestUnknownAccount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		defer g.stop()
		g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 1))
		time.Sleep(50 * time.Minute)
		g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 2))
		time.Sleep(time.Second)
		oldest := time.Now().Add(-50*time.Minute - time.Second)
		for _, s := range g.router.Status() {
			if s.Since == nil || !s.Since.Equal(oldest) || s.GivesUp == nil || !s.GivesUp.Equal(oldest.Add(time.Hour)) {
				t.Errorf("since %v, until %v, want %v and an hour more", s.Since, s.GivesUp, oldest)
			}
			if s.State != Blocked || s.Reason != "the account a1 is not connected" || s.Entries != 2 {
				t.Errorf("while it waits: %+v", s)
			}
		}
		x, err := g.router.Explain(t.Context(), ExplainQuery{Person: "p@a1"})
		if err != nil || len(x.Receipts) != 2 {
			t.Fatalf("got %d receipts, %v, want both", len(x.Receipts), err)
		}
		for _, r := range x.Receipts {
			if w := r.Outputs[0].Waiting; w == nil || w.GivesUp == nil || !w.GivesUp.Equal(r.Received.Add(time.Hour)) || w.LaneSince == nil {
				t.Errorf("an event of %v: %+v, want that it waits for an hour", r.Received, w)
			}
		}
		time.Sleep(11 * time.Minute) // an hour for the first, not for the second
		letters := g.deadLetters()
		if len(letters) != 1 || letters[0].Reason != "unknown_account" || letters[0].Account != "a1" || letters[0].Hub != "" ||
			!strings.Contains(letters[0].Error, "the account a1 has not connected within 1h") {
			t.Fatalf("after its time: %+v", letters)
		}
		w.connect("a1", "a1-h1")
		g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 3))
		time.Sleep(time.Second)
		g.want("delivered", w.written("a1-h1", "p@a1"), "2 3")
		if _, err := g.store.MarkReplay(t.Context(), store.DeadLetterQuery{OldestFirst: true, Limit: 10}, store.Replay{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		g.want("replayed", w.written("a1-h1", "p@a1"), "2 3 1") // this destination remembers nothing
	})
}

// TestFullAccount: a lane of an account at its limit gives up its own oldest, waiting or blocked, and refuses nobody.
func TestFullAccount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, func(route *Route) {
			route.Lanes = config.LaneLimits{MaxAge: time.Minute, OnFull: config.DeadLetterOldest}
		})
		defer g.stop()
		w.connect("a2", "a2-h1")
		g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 1))
		for v := range 5 {
			g.append(event.Event{Server: true, Account: "a2"}, ofAccount("a2", v+1))
			time.Sleep(20 * time.Second)
			if reason, refused := g.router.Refused("key", event.Live); refused {
				t.Fatalf("refused: %s", reason)
			}
		}
		letters := g.deadLetters()
		if len(letters) != 1 || letters[0].Reason != "lane_full" || letters[0].Account != "a1" {
			t.Errorf("given up: %+v", letters)
		}
		g.want("delivered", w.written("a2-h1", "p@a2"), "1 2 3 4 5")
	})
}

// TestIdleAccounts: accounts that have nothing to do have no goroutines, and begin again with their next event.
func TestIdleAccounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		defer g.stop()
		for round := range 2 {
			for a := range 20 {
				account := fmt.Sprintf("a%d", a)
				w.connect(account, account+"-h1")
				g.append(event.Event{Server: true, Account: account}, ofAccount(account, round+1))
			}
			time.Sleep(time.Second)
			if n := len(g.router.allAccounts()); n != 20 {
				t.Fatalf("at work: %d accounts, want 20", n)
			}
			time.Sleep(lateAfter + time.Minute)
			if n := len(g.router.allAccounts()); n != 0 {
				t.Errorf("at rest: %d accounts have goroutines", n)
			}
		}
		for a := range 20 {
			g.want("delivered", w.written(fmt.Sprintf("a%d-h1", a), fmt.Sprintf("p@a%d", a)), "1 2")
		}
	})
}

// TestGateIsFair: who has many calls under way leaves room for who has none, and those that fail leave the last quarter to the others.
func TestGateIsFair(t *testing.T) {
	g := newGate(64)
	try := func(a *account, failing bool) bool {
		ctx, cancel := newCanceled()
		defer cancel()
		return g.acquire(ctx, a, failing)
	}
	greedy, held := &account{}, 0
	for try(greedy, false) {
		held++
	}
	if held != 7 { // an eighth of the 57 that are free then
		t.Errorf("one account holds %d of 64 places, want 7", held)
	}
	failing := 0
	for try(&account{}, true) {
		failing++
	}
	if failing != 64-7-16 {
		t.Errorf("%d that fail got in, want %d", failing, 64-7-16)
	}
	for i := range 16 {
		if !try(&account{}, false) {
			t.Errorf("account %d has to wait although there is room", i)
		}
	}
	if try(&account{}, false) {
		t.Error("more calls than places")
	}
	g.release(greedy)
	if !try(&account{}, false) {
		t.Error("a place that was given back is not given on")
	}
}

// newCanceled is a context that has ended: who may go on does so at once.
func newCanceled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}

// TestParkedAccounts: what accounts have left behind in other hubs is counted where it holds events, for an alert, until somebody drops it.
func TestParkedAccounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		defer g.stop()
		f := func(when string, want int) {
			t.Helper()
			_, sums := g.router.Summary("")
			if len(sums) != 1 || sums[0].States[Parked] != want {
				t.Errorf("%s: got %+v, want %d parked lanes with events", when, sums, want)
			}
		}
		for _, account := range []string{"a1", "a2"} {
			w.connect(account, account+"-h1")
		}
		g.append(event.Event{Server: true, Account: "a2"}, ofAccount("a2", 1))
		time.Sleep(time.Minute)
		w.mu.Lock()
		w.next = []string{"block"}
		w.mu.Unlock()
		g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 1))
		time.Sleep(time.Second)
		w.connect("a2", "a2-h2") // nothing waits for it
		f("before", 0)
		w.connect("a1", "a1-h2")
		time.Sleep(time.Minute)
		f("with another hub", 1)
		if done, err := g.router.Unpark(t.Context(), ParkedQuery{Destination: "customers", Account: "a1"}); err != nil || done.Entries != 1 {
			t.Fatalf("dropped: %+v, %v", done, err)
		}
		f("dropped", 0)
	})
}

// TestUnknownAccountAtFullLetters: dead letters at their bound, which another account fills, keep nothing waiting for accounts that do not connect for longer than they may, nor more of it.
func TestUnknownAccountAtFullLetters(t *testing.T) {
	f := func(name string, limits config.LaneLimits, wait time.Duration, wantReason string) {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				g, w := accountRig(t, func(route *Route) { route.Lanes, route.UnknownTTL = limits, 3*time.Minute })
				defer g.stop()
				w.mu.Lock()
				w.answer = func(string) error { return destinations.Reject(errors.New("400")) }
				w.mu.Unlock()
				w.connect("bad", "bad-h1")
				g.router.LimitDeadLetters(DeadLetterBounds{MaxBytes: 20_000})
				g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 1))
				for v := range 200 {
					g.append(event.Event{Server: true, Account: "bad"}, ofAccount("bad", v))
				}
				time.Sleep(wait)
				of := map[string]int{}
				for _, d := range g.deadLetters() {
					of[d.Account+" "+d.Reason]++
				}
				if of["a1 "+wantReason] != 1 || of["bad rejected"] < 10 {
					t.Errorf("dead letters: %v, want 1 of a1, %s, among those of the other", of, wantReason)
				}
				for _, l := range g.store.Lanes() {
					if l.Name.Account == "a1" && l.Entries > 0 {
						t.Errorf("%d events of a1 wait still", l.Entries)
					}
				}
			})
		})
	}
	f("too long", config.LaneLimits{OnFull: config.DeadLetterOldest}, 4*time.Minute, reasonUnknownAccount)
	f("too much", config.LaneLimits{OnFull: config.DeadLetterOldest, MaxAge: time.Minute}, 2*time.Minute, reasonLaneFull)
}

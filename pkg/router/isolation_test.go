package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// owned is an event of a person of an account, as a server posts it: the account stands in it.
func owned(account, id, kind, user string) string {
	return fmt.Sprintf(`{"id":%q,"tenant":%q,"owner":%q,"event_type":%q,"user":{%s}}`, id, account, account, kind, user)
}

// tenant is a change of a route that delivers to the accounts of a world, which events name.
func tenant(t *testing.T, w *world) Route {
	t.Helper()
	account, err := CompileAccount("{{.tenant}}", filters.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return Route{
		Name: "crm", Type: "fake", Connection: "app", Account: account, Destination: &shared{world: w},
		Retry: config.Retry{MaxAge: 24 * time.Hour, MaxDelay: 5 * time.Minute}, Lanes: config.LaneLimits{OnFull: config.DeadLetterOldest},
	}
}

// TestConnectionComesLater: a destination gets a `connection`. What it had put off until then belongs to accounts as what comes then: it goes to their hubs, with what their events have taught.
func TestConnectionComesLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := newRig(t, newRemote(), nil), newWorld()
		g.start()
		defer g.stop()
		w.connect("a1", "a1-h1")
		g.post(
			owned("a2", "e1", "user_identify", `"id":"u1","email":"p@a2"`), // of another account, in which the same id is another person's
			owned("a1", "e2", "t", `"id":"u7"`),                            // waits until one may know who that is
		)
		time.Sleep(time.Second)
		g.reload(tenant(t, w))
		g.post(owned("a1", "e3", "user_identify", `"id":"u7","email":"p@a1"`))
		time.Sleep(time.Minute)
		w.mu.Lock()
		defer w.mu.Unlock()
		g.want("events", strings.Join(w.events["a1-h1"], " "), "e2")
		g.want("faults", strings.Join(w.faults, "; "), "")
	})
}

// TestKVOfNoAccount: what scripts keep of an account can not be met by events of none, whatever they name.
func TestKVOfNoAccount(t *testing.T) {
	seen := map[string]string{}
	for _, of := range []struct{ account, key string }{{"", "k"}, {"a1", "k"}, {"", "a1\x00k"}, {"", "\x00k"}, {"a1", "\x00k"}, {"", "\x00a1\x00k"}} {
		scoped := ScopedKey(of.account, of.key)
		if was, twice := seen[scoped]; twice {
			t.Errorf("account %q, key %q is kept where %s is", of.account, of.key, was)
		}
		seen[scoped] = fmt.Sprintf("account %q, key %q", of.account, of.key)
	}
}

// TestUnparkLeavesWhatWaits: what waits for an account is not parked, not even in the moment in which it connects.
func TestUnparkLeavesWhatWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		defer g.stop()
		g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 1))
		time.Sleep(time.Second)
		w.connectUntold("a1", "a1-h1")
		if done, err := g.router.Unpark(t.Context(), ParkedQuery{Destination: "customers", Account: "a1"}); !errors.Is(err, ErrNotParked) {
			t.Errorf("while it connects: %+v, %v", done, err)
		}
		time.Sleep(2 * time.Minute)
		g.want("delivered", w.written("a1-h1", "p@a1"), "1")
	})
}

// TestMovedIntoAccounts: what was of a destination with one account goes to that of accounts of which it is, when somebody moves its lane there or replays its dead letters as they were; what is of none stays.
func TestMovedIntoAccounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		old, w := newRemote(), newWorld()
		refuse := func(call) []error { return []error{errors.New("not now")} }
		old.answer = refuse
		g := newRig(t, old, nil)
		g.start()
		defer g.stop()
		w.connect("a1", "a1-h1")
		g.post(owned("a1", "e1", "user_identify", `"id":"u7","email":"p@a1","v":1`), owned("", "e2", "user_identify", `"email":"p@none","v":2`))
		time.Sleep(time.Second)
		g.reload(tenant(t, w))
		time.Sleep(time.Second)
		if done, err := g.router.Unpark(t.Context(), ParkedQuery{Destination: "crm", To: "crm"}); err != nil || done.Entries != 2 {
			t.Fatalf("moved: %+v, %v", done, err)
		}
		time.Sleep(time.Minute)
		g.want("delivered", w.written("a1-h1", "p@a1"), "1")
		letters := g.deadLetters()
		if len(letters) != 1 || letters[0].EventID != "e2" || letters[0].Replay != nil || !strings.Contains(letters[0].Problem, "no account") {
			t.Errorf("what is of nobody's account: %+v", letters)
		}
	})
}

// TestOtherHubUntold: what waits for one hub, because calls fail there, is not sent to another one that its account connects, also while nobody has told the router of that, and after a restart.
func TestOtherHubUntold(t *testing.T) {
	f := func(answer error) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			g, w := accountRig(t, nil)
			w.answer = func(hub string) error {
				if hub == "a1-h1" {
					return answer
				}
				return nil
			}
			w.connect("a1", "a1-h1")
			g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 1), `{"owner":"a1","event_type":"t","user":{"email":"q@a1"}}`)
			time.Sleep(time.Second)
			w.connectUntold("a1", "a1-h2")
			g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 2))
			time.Sleep(50 * time.Second)
			g.stop()
			g.start()
			defer g.stop()
			g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 3))
			time.Sleep(10 * time.Minute)
			g.want(answer.Error()+": in the other hub", w.written("a1-h2", "p@a1")+" "+strings.Join(w.events["a1-h2"], " "), "2 3 ")
			w.answer, w.router = nil, g.router
			w.connect("a1", "a1-h1")
			time.Sleep(10 * time.Minute)
			g.want(answer.Error()+": in the first hub", w.written("a1-h1", "p@a1")+" "+strings.Join(w.events["a1-h1"], " "), "1 e2")
		})
	}
	f(destinations.RetryAfter(errors.New("retry"), 2*time.Second))
	f(destinations.Block(errors.New("block"), destinations.AccountScope, time.Time{}))
	f(destinations.Ambiguous(errors.New("ambiguous")))
	f(errors.New("fail"))
}

// TestHoldsOutliveReconnecting: what a call without an answer wrote may still come, so that later writes of its person wait, also where the account has disconnected and connected again since, has
// been at another hub, or the router was started anew meanwhile, and nothing else was left of it.
func TestHoldsOutliveReconnecting(t *testing.T) {
	f := func(name string, away func(g *rig, w *world)) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			g, w := accountRig(t, nil)
			w.connect("a1", "a1-h1")
			w.next = []string{"never"} // and then with an answer
			g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 1))
			time.Sleep(10 * time.Second)
			g.want(name+": before", w.written("a1-h1", "p@a1"), "1")
			away(g, w)
			defer g.stop()
			w.connect("a1", "a1-h1")
			time.Sleep(time.Second)
			g.append(event.Event{Server: true, Account: "a1"}, ofAccount("a1", 2))
			time.Sleep(lateAfter / 2)
			g.want(name+": while the first write may still come", w.written("a1-h1", "p@a1"), "1")
			time.Sleep(lateAfter)
			g.want(name+": after that", w.written("a1-h1", "p@a1"), "1 2")
		})
	}
	leave := func(hub string) func(*rig, *world) {
		return func(_ *rig, w *world) {
			w.connect("a1", hub)
			time.Sleep(5 * time.Second)
		}
	}
	f("disconnected", leave(""))
	f("at another hub", leave("a1-h2"))
	f("disconnected, and started anew", func(g *rig, w *world) {
		leave("")(g, w)
		g.stop()
		g.start()
		w.router = g.router
		time.Sleep(5 * time.Second)
	})
}

// TestLettersStayTheirAccounts: a dead letter goes to the hub of the account of which it is, whatever the destination's expression reads now, whatever it is edited to say, and however it is replayed.
func TestLettersStayTheirAccounts(t *testing.T) {
	f := func(how store.Replay, transform Transform, edit string) {
		t.Helper()
		inBubble(t, func(t *testing.T) {
			g, w := newRig(t, newRemote(), nil), newWorld()
			route := tenant(t, w)
			route.Transform = transform
			g.routes = func(*rig) []Route { return []Route{route} }
			g.start()
			defer g.stop()
			w.answer = func(string) error { return destinations.Reject(errors.New("400")) }
			w.connect("a1", "a1-h1")
			w.connect("a2", "a2-h1")
			g.post(`{"id":"e1","tenant":"a1","other":"a2","owner":"a1","event_type":"user_identify","user":{"email":"p@a1","v":1}}`)
			time.Sleep(time.Second)
			letters := g.deadLetters()
			if len(letters) != 1 || letters[0].Account != "a1" {
				t.Fatalf("letters: %+v", letters)
			}
			if edit != "" {
				was := letters[0]
				for _, record := range []*[]byte{&was.Event, &was.Original} {
					var ev event.Event
					if len(*record) == 0 || ev.Decode(*record) != nil {
						continue
					}
					ev.JSON = []byte(strings.Replace(string(ev.JSON), `"tenant":"a1"`, edit, 1))
					*record = ev.AppendTo(nil)
				}
				if err := g.store.EditDeadLetter(t.Context(), was.ID, store.LetterEdit{Event: was.Event, Original: was.Original, EventType: was.EventType, Person: was.Person}); err != nil {
					t.Fatal(err)
				}
			}
			w.answer = nil
			other := tenant(t, w)
			other.Transform = transform
			var err error
			if other.Account, err = CompileAccount("{{.other}}", filters.Options{}); err != nil {
				t.Fatal(err)
			}
			g.reload(other)
			if _, err := g.store.MarkReplay(t.Context(), store.DeadLetterQuery{OldestFirst: true, Limit: 10}, how); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.mu.Lock()
			defer w.mu.Unlock()
			g.want(fmt.Sprintf("%+v: faults", how), strings.Join(w.faults, "; "), "")
			g.want(fmt.Sprintf("%+v: written", how), strings.Join(w.wrote["a1-h1 p@a1"], " "), "1")
		})
	}
	f(store.Replay{}, nil, "")
	f(store.Replay{AsIs: true}, nil, "")
	f(store.Replay{}, thief{}, "")
	f(store.Replay{All: true}, thief{}, "")
	f(store.Replay{AsIs: true}, thief{}, "")
	f(store.Replay{}, nil, `"tenant":"a2"`)
	f(store.Replay{}, thief{}, `"tenant":"a2"`)
}

// TestConnectionGoes: a destination loses its `connection`, and delivers to one account. What was for the accounts of customers never goes there: it is parked, and goes on when the `connection` is back.
func TestConnectionGoes(t *testing.T) {
	f := func(name string, restart bool) {
		inBubble(t, func(t *testing.T) {
			g, w := newRig(t, newRemote(), nil), newWorld()
			plain := g.routes
			with := tenant(t, w)
			g.routes = func(*rig) []Route { return []Route{with} }
			g.start()
			defer func() { g.stop() }()
			become := func(routes func(*rig) []Route) {
				g.routes = routes
				if restart {
					g.stop()
					g.start()
					w.mu.Lock()
					w.router = g.router
					w.mu.Unlock()
					return
				}
				g.reload(routes(g)...)
			}
			w.connect("a1", "a1-h1")
			w.answer = func(string) error { return destinations.RetryAfter(errors.New("not now"), 2*time.Second) }
			g.post(owned("a1", "e1", "user_identify", `"email":"p@a1","v":1`), owned("a2", "e2", "user_identify", `"email":"p@a2","v":2`))
			time.Sleep(time.Second)

			become(plain)
			g.post(`{"id":"e3","event_type":"user_identify","user":{"email":"p@own","v":3}}`)
			time.Sleep(5 * time.Minute)
			g.want(name+": in the one account", g.writes("p@a1")+"|"+g.writes("p@a2")+"|"+g.writes("p@own"), "||3")
			parked := 0
			for _, s := range g.router.Status() {
				if s.State == Parked {
					parked += int(s.Entries)
				}
			}
			if parked != 2 {
				t.Errorf("%s: %d entries are parked, want 2: %+v", name, parked, g.router.Status())
			}

			w.answer = nil
			become(func(*rig) []Route { return []Route{with} })
			w.connect("a2", "a2-h1")
			time.Sleep(5 * time.Minute)
			g.want(name+": with the connection again", w.written("a1-h1", "p@a1")+"|"+w.written("a2-h1", "p@a2"), "1|2")
		})
	}
	f("reload", false)
	f("restart", true)
}

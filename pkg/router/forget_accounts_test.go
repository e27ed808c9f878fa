package router

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// TestForgetInAccounts forgets a person of one account, whose unsorted events tell their account to a destination's expression alone: where no router runs, and where the router is killed once
// it has noted who is to be forgotten, and the sorter of the next one leaves out what is that person's. The same ids in another account are somebody else's, all of whose events arrive.
func TestForgetInAccounts(t *testing.T) {
	f := func(name string, forget func(g *rig)) {
		t.Run(name, func(t *testing.T) { inBubble(t, func(t *testing.T) { forgetInAccounts(t, forget) }) })
	}
	f("no router", func(g *rig) {
		g.open()
		defer g.closeFiles()
		done, err := g.atRest().Forget(context.Background(), ForgetQuery{Email: annEmail})
		if err != nil {
			g.t.Fatal(err)
		}
		if found := g.left(annEmail, "ann1", "ann3"); found != nil {
			g.t.Errorf("left: %v\n%+v", found, done)
		}
	})
	f("the sorter", func(g *rig) {
		g.open()
		defer g.closeFiles()
		f := newForgettingStored(g.atRest(), ForgetQuery{Email: annEmail})
		ctx, kill := context.WithCancel(context.Background())
		f.atStep = func(step string) {
			if step == "rewrite the logs" {
				kill()
			}
		}
		if _, err := f.run(ctx, ForgetQuery{Email: annEmail}); err == nil {
			g.t.Error("all is forgotten by who was killed")
		}
	})
}

func forgetInAccounts(t *testing.T, forget func(*rig)) {
	w := newWorld()
	w.hubs["a1"], w.hubs["a2"] = "a1-h1", "a2-h1"
	account, err := CompileAccount("{{.tenant}}", filters.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := newRig(t, newRemote(), nil)
	g.routes = func(*rig) []Route {
		return []Route{{
			Name: "customers", Type: "fake", Connection: "app", Account: account, Destination: &shared{world: w},
			Retry: config.Retry{MaxAge: time.Hour, MaxDelay: time.Minute}, Lanes: config.LaneLimits{OnFull: config.DeadLetterOldest},
		}}
	}
	in := func(tenant, id, kind, user string) string {
		return of(id, kind, user, `,"tenant":"`+tenant+`","owner":"`+tenant+`"`)
	}
	const bob = `"email":"bob@a2"`
	g.start()
	g.post(in("a1", "known", "user_identify", `"id":"u1","email":"`+annEmail+`"`), in("a2", "known", "user_identify", `"id":"u1",`+bob))
	g.drain()
	g.stop()
	g.open()
	g.append(event.Event{Server: true},
		in("a1", "ann1", "t", `"id":"u1"`), in("a2", "bob1", "t", `"id":"u1"`), // whose u1 is was told before
		in("a1", "ann2", "user_identify", `"id":"u2","email":"`+annEmail+`"`), in("a2", "bob2", "t", `"id":"u2",`+bob), // and u2 is told now
		in("a1", "ann3", "t", `"id":"u2"`), in("a2", "bob3", "t", `"id":"u2"`),
		in("a1", "ann4", "t", `"email":"`+annEmail+`"`), in("", "nobody", "t", `"id":"u2"`))
	g.closeFiles()
	forget(g)
	g.start()
	g.drain()
	g.stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	g.want("events of the person", strings.Join(w.events["a1-h1"], " "), "")
	g.want("events of the other account", strings.Join(w.events["a2-h1"], " "), "bob1 bob2 bob3")
}

// TestForgetAcrossAccounts: ann has one e-mail in four accounts, in which something of hers waits for the account, is parked, waits for a retry, and is a dead letter; bob has her user id in a fifth one. She is
// forgotten in all of them, and the answer says in which; by her user id in one account she is found as well, and bob is not. Without the account he would be: a dry run shows that.
func TestForgetAcrossAccounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		defer func() { g.stop() }()
		w.answer = func(hub string) error {
			if hub == "letter-h1" {
				return destinations.Reject(errors.New("400"))
			}
			return destinations.RetryAfter(errors.New("later"), time.Hour)
		}
		for _, account := range []string{"parked", "retry", "letter", "bobs"} {
			w.connect(account, account+"-h1")
		}
		for _, account := range []string{"waits", "parked", "retry", "letter"} {
			g.append(event.Event{Server: true, Account: account}, of("ann in "+account, "user_identify", annAll, `,"owner":"`+account+`"`))
		}
		g.append(event.Event{Server: true, Account: "bobs"}, of("bob", "user_identify", annID+`,"email":"bob@b.co"`, `,"owner":"bobs"`))
		time.Sleep(time.Second)
		w.connect("parked", "parked-h2")
		time.Sleep(time.Second)

		f := func(q ForgetQuery, accounts string) {
			t.Helper()
			q.DryRun = true
			if done := g.forget(q); strings.Join(done.Accounts, " ") != accounts {
				t.Errorf("%+v: in accounts %v, want %s: %+v", q, done.Accounts, accounts, done)
			}
		}
		f(ForgetQuery{UserID: annUser, APIKey: "key"}, "bobs letter parked retry waits")
		f(ForgetQuery{UserID: annUser, APIKey: "key", Account: "bobs"}, "bobs")
		f(ForgetQuery{UserID: annUser, APIKey: "key", Account: "nobody"}, "")
		f(ForgetQuery{UserID: annUser, APIKey: "key", Account: "waits"}, "letter parked retry waits")
		for _, q := range []ForgetQuery{{Email: annEmail, APIKey: "key", Account: "waits"}, {UserID: annUser, Account: "waits"}} {
			if _, err := g.router.Forget(t.Context(), q); !errors.Is(err, ErrForgetAccount) {
				t.Errorf("%+v: %v", q, err)
			}
		}
		done := g.forget(ForgetQuery{UserID: annUser, APIKey: "key", Account: "waits"})
		if got := strings.Join(done.Accounts, " "); got != "letter parked retry waits" || done.Waiting != 3 || done.DeadLetters != 1 {
			t.Errorf("in accounts %s: %+v", got, done)
		}
		if found := g.left(annEmail); found != nil {
			t.Errorf("left: %v", found)
		}
		w.answer = nil
		g.stop()
		g.start()
		w.router = g.router
		for account, hub := range map[string]string{"waits": "waits-h1", "parked": "parked-h1"} {
			w.connect(account, hub)
		}
		time.Sleep(2 * time.Hour)
		w.mu.Lock()
		defer w.mu.Unlock()
		for key, n := range w.sent {
			if !strings.HasPrefix(key, "bobs-h1 ") {
				t.Errorf("%s was delivered %d times", key, n)
			}
		}
		if w.sent["bobs-h1 bob"] != 1 {
			t.Errorf("what is bob's was delivered %d times", w.sent["bobs-h1 bob"])
		}
	})
}

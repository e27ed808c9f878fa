package router

import (
	"context"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
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

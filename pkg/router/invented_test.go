package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// TestInventedAccounts: a server whose events name an account that nobody has heard of, each another one, fills neither memory nor disk with them: so many are waited for, the events of others are
// dead letters that say so. Who is waited for already, and who is connected, notices nothing. When nothing waits for an account any more nothing is left of it.
func TestInventedAccounts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, func(route *Route) { route.UnknownAccounts = 40 })
		defer func() { g.stop() }()
		w.connect("good", "good-h1")
		post := func(account string, v int) {
			g.append(event.Event{Server: true, Account: account}, ofAccount(account, v))
		}
		rows := func() (n int) {
			for _, l := range g.store.Lanes() {
				if l.Name.Hub == "" && l.Name.Account != "" {
					n++
				}
			}
			return n
		}
		for round := range 3 {
			for i := range 200 {
				post(fmt.Sprintf("r%d-%d", round, i), 1)
			}
			post(fmt.Sprintf("r%d-3", round), 2)
			post("good", round+1)
			time.Sleep(10 * time.Second)
			letters := g.deadLetters()
			if n := len(letters) - 199*round; n != 160 || !strings.Contains(letters[0].Error, "unknown_accounts") || letters[0].Reason != reasonUnknownAccount {
				t.Fatalf("round %d: %d dead letters, want 160: %+v", round, n, letters[0])
			}
			if n := rows(); n != 40 {
				t.Errorf("round %d: the store has %d lanes that wait for accounts, want 40", round, n)
			}
			if round == 1 { // over a restart
				g.stop()
				g.start()
				w.mu.Lock()
				w.router = g.router
				w.mu.Unlock()
			}
			time.Sleep(30 * time.Minute)
			connects := fmt.Sprintf("r%d-3", round)
			w.connect(connects, connects+"-h1")
			time.Sleep(time.Second)
			g.want("who was waited for", w.written(connects+"-h1", "p@"+connects), "1 2")
			time.Sleep(40 * time.Minute) // unknown_account_ttl is an hour
			if n := rows(); n != 0 {
				t.Errorf("round %d: %d lanes are left of accounts for which nothing waits", round, n)
			}
			if n := len(g.deadLetters()); n != 199*(round+1) {
				t.Errorf("round %d: in the end %d dead letters, want %d", round, n, 199*(round+1))
			}
		}
		g.want("who is connected", w.written("good-h1", "p@good"), "1 2 3")
	})
}

// TestTrouble: of each account it is known what went wrong last, without words of its events, and of no other account's.
func TestTrouble(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, w := accountRig(t, nil)
		defer g.stop()
		w.mu.Lock()
		w.answer = func(hub string) error {
			switch hub {
			case "scope-h1":
				return destinations.Block(errors.New("403: the scope crm.objects.contacts.write is missing"), destinations.AccountScope, time.Time{})
			case "rejected-h1":
				return destinations.Reject(errors.New("400: ada@example.com is not an e-mail"))
			case "away-h1":
				return destinations.Unavailable(errors.New("503"))
			}
			return nil
		}
		w.mu.Unlock()
		accounts := []string{"scope", "rejected", "away", "well"}
		for _, account := range accounts {
			w.connect(account, account+"-h1")
			g.append(event.Event{Server: true, Account: account}, ofAccount(account, 1))
		}
		time.Sleep(2 * time.Minute)
		for i, want := range []Trouble{
			{Words: "lane contacts of customers is blocked: 403: the scope crm.objects.contacts.write is missing", Cause: destinations.CauseOther}, // this destination knows no cause
			{Words: "an event for customers became a dead letter: rejected", Cause: destinations.CauseRefused},
			{Words: "calls of lane contacts of customers fail: 503", Cause: destinations.CauseUnavailable},
			{},
		} {
			got := g.router.Trouble("app", accounts[i], accounts[i]+"-h1")
			if at := got.At; want.Words != "" && (at.IsZero() || time.Since(at) > 3*time.Minute) {
				t.Errorf("%s: at %s", accounts[i], at)
			}
			got.At = time.Time{}
			g.want(accounts[i], fmt.Sprint(got), fmt.Sprint(want))
		}
	})
}

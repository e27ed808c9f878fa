package hubspot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// openRig is one whose sandbox takes any token.
func openRig(t *testing.T, o sandbox.Options, extra string) *rig {
	t.Helper()
	r := newRig(t, o, extra)
	o.HubID = testHub
	r.box = sandbox.New(o)
	r.env.Transport = r.box.RoundTripper()
	r.restart()
	return r
}

// beside is another destination in the same process.
func (r *rig) beside(name, token, extra string) *rig {
	r.t.Helper()
	s, err := config.NewSettings("test.yaml", "destinations."+name, []byte("access_token: "+token+"\nhub_id: \""+testHub+"\"\n"+extra))
	if err != nil {
		r.t.Fatal(err)
	}
	other := *r
	other.env.Name = name
	d, err := New(s, other.env)
	if err != nil {
		r.t.Fatal(err)
	}
	other.dest = d.(*Destination)
	return &other
}

// crmCalls are those that count in a day.
func (r *rig) crmCalls() int { return r.calls("", 200) + r.calls("", 201) - r.calls(sendEndpoint, 200) }

// blocked is the block that a permit for contacts meets.
func (r *rig) blocked() *destinations.BlockError {
	r.t.Helper()
	p, err := r.dest.Acquire(r.t.Context(), "", laneContacts)
	if err == nil {
		p.Release()
		return nil
	}
	var block *destinations.BlockError
	if !errors.As(err, &block) {
		r.t.Fatal(err)
	}
	return block
}

// TestTokensOfOneAccount has two destinations with one token and a third with another: ten seconds are the token's, the day is the account's.
func TestTokensOfOneAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const burst, daily = 50, 600
		time.Sleep(time.Hour) // after midnight
		a := openRig(t, sandbox.Options{Burst: burst, Daily: daily}, "")
		var mu sync.Mutex
		sent := map[string][]time.Time{}
		box := a.env.Transport
		a.env.Transport = script(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			sent[r.Header.Get("Authorization")] = append(sent[r.Header.Get("Authorization")], time.Now())
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			return box.RoundTrip(r)
		})
		a.restart()
		twin, other := a.beside("twin", testToken, ""), a.beside("other", "pat-other", "")
		var wg sync.WaitGroup
		for _, r := range []*rig{a, twin, other} {
			wg.Go(func() { r.backlogFor(40 * time.Second) })
		}
		wg.Wait()
		if len(sent) != 2 {
			t.Fatalf("%d tokens", len(sent))
		}
		for token, at := range sent {
			for i := range at {
				if i+burst < len(at) && at[i+burst].Sub(at[i]) < 10*time.Second {
					t.Errorf("%s: %d calls in %v", token, burst+1, at[i+burst].Sub(at[i]))
				}
			}
			if len(at) < 4*burst*9/10 {
				t.Errorf("%s: %d calls in 40 s, want nearly %d", token, len(at), 4*burst)
			}
		}
		for _, r := range []*rig{a, twin, other} {
			wg.Go(func() { r.backlogFor(time.Hour) })
		}
		wg.Wait()
		if ok, refused := a.crmCalls(), a.calls("", 429); ok != daily || refused != 0 {
			t.Errorf("%d calls in the day and %d refused, want %d and none", ok, refused, daily)
		}
		for _, r := range []*rig{a, twin, other} {
			if block := r.blocked(); block == nil || time.Until(block.Until) <= 0 {
				t.Errorf("%s goes on: %v", r.env.Name, block)
			}
		}
	})
}

// TestDailyBudget: what the router may use of a day, over restarts, until midnight where the account is.
func TestDailyBudget(t *testing.T) {
	tokyo := time.FixedZone("Asia/Tokyo", 9*60*60)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 100, Daily: 1000, TimeZone: tokyo}, "daily_budget: 60\n")
		mustDeliver(t, r.run(track("x")))
		mustDeliver(t, r.run(people(1)...))
		for range 6 {
			began := r.crmCalls()
			for r.crmCalls() < began+12 && r.blocked() == nil {
				r.run(people(1)...)
				time.Sleep(300 * time.Millisecond)
			}
			r.restart()
		}
		block := r.blocked()
		if block == nil || block.Scope != destinations.LaneScope || !strings.Contains(block.Error(), "daily_budget of 60 calls is used up until") {
			t.Fatalf("%v", block)
		}
		now := time.Now().In(tokyo)
		if want := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, tokyo); !block.Until.Equal(want) {
			t.Errorf("blocked until %v, want midnight in Tokyo, %v", block.Until, want)
		}
		if n := r.crmCalls(); n < 60 || n > 60+6*3 { // each restart may forget a second of calls, three of these
			t.Errorf("%d calls of 60", n)
		}
		if n := r.metric("router_quota_remaining", "policy", budgetPolicy); n != 0 {
			t.Errorf("the metric says that %v are left", n)
		}
		_, others := r.entries(track("x"))
		if got := outcomeOf(r.send(others)[0].Err); got != "delivered" {
			t.Errorf("a sent event costs nothing, and %s", got)
		}
		if more := r.beside("more", testToken, "daily_budget: 500\n"); more.blocked() != nil {
			t.Error("another destination of the account, with a larger budget, is blocked too")
		}
		time.Sleep(time.Until(block.Until))
		mustDeliver(t, r.run(people(1)...))
		if n := r.metric("router_quota_remaining", "policy", budgetPolicy); n < 50 {
			t.Errorf("the metric says that %v are left of a new day", n)
		}
	})
}

// TestQuotaShare leaves half of ten seconds and of the day to others, who have used some of the day before.
func TestQuotaShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := openRig(t, sandbox.Options{Burst: 100, Daily: 1000}, "quota_share: 0.5\n")
		time.Sleep(time.Hour) // after midnight
		for range 200 {
			r.http(http.MethodGet, "/account-info/v3/details", "") // theirs, with this token
			time.Sleep(time.Second)
		}
		theirs := r.crmCalls()
		time.Sleep(time.Minute)
		box := r.env.Transport
		var mu sync.Mutex
		var sent []time.Time
		r.env.Transport = script(func(q *http.Request) (*http.Response, error) {
			mu.Lock()
			sent = append(sent, time.Now())
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			return box.RoundTrip(q)
		})
		r.restart()
		r.backlogFor(50 * time.Second)
		slices.SortFunc(sent, time.Time.Compare)
		for i := range sent {
			if i+50 < len(sent) && sent[i+50].Sub(sent[i]) < 10*time.Second {
				t.Fatalf("51 calls in %v", sent[i+50].Sub(sent[i]))
			}
		}
		if n := len(sent); n < 225 {
			t.Errorf("%d calls in 50 s, want nearly 250", n)
		}
		r.restart()
		r.backlogFor(time.Hour)
		if ours := r.crmCalls() - theirs; ours < 390 || ours > 405 {
			t.Errorf("%d calls of 800 that were left", ours)
		}
		if block := r.blocked(); block == nil || !strings.Contains(block.Error(), "quota_share of 0.5 of the day's calls, 4") {
			t.Errorf("%v", block)
		}
		if n := r.calls("", 429); n != 0 {
			t.Errorf("%d calls refused", n)
		}
	})
}

// TestShareAtMidnight is about HubSpot's clock: just after our midnight it may still tell what is left of yesterday.
func TestShareAtMidnight(t *testing.T) {
	for _, behind := range []time.Duration{-time.Minute, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			now := func() time.Time { return time.Now().Add(-behind) }
			r := openRig(t, sandbox.Options{Burst: 100, Daily: 1000, Now: now}, "quota_share: 0.5\n")
			mustDeliver(t, r.run(track("x")))
			mustDeliver(t, r.run(people(1)...))
			time.Sleep(20 * time.Hour)
			for r.crmCalls() < 985 { // by others, most of them
				r.http(http.MethodGet, "/account-info/v3/details", "")
				time.Sleep(time.Second)
			}
			time.Sleep(time.Until(time.Now().Truncate(24 * time.Hour).Add(24 * time.Hour)))
			for range 100 { // ten minutes of the new day
				if r.blocked() == nil {
					r.run(people(1)...)
				}
				time.Sleep(6 * time.Second)
			}
			before := r.crmCalls()
			r.backlogFor(time.Minute)
			if n := r.crmCalls() - before; n < 100 {
				t.Errorf("HubSpot's clock is %v behind: %d calls in a minute of the new day", behind, n)
			}
		})
	}
}

// TestPermitsComeInOrder has two backlogs and a call that loads something: it waits for one call of each.
func TestPermitsComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 50}, "")
		r.env.Transport = slow{r.env.Transport, constantWay(50 * time.Millisecond)}
		r.restart()
		twin := r.beside("twin", testToken, "")
		ctx, stop := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { r.backlog(ctx) })
		wg.Go(func() { twin.backlog(ctx) })
		time.Sleep(30 * time.Second)
		begun := func() int {
			w := r.dest.account.crm
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.begun
		}
		for i := range 50 {
			time.Sleep(time.Duration(100+17*i) * time.Millisecond)
			before := begun()
			ps := &permits{d: r.dest}
			p, err := ps.next(ctx, r.dest.account.crm)
			if err != nil {
				t.Fatal(err)
			}
			if n := begun() - before; n > 2 {
				t.Errorf("%d calls were let past one that waited", n)
			}
			p.Release()
		}
		stop()
		wg.Wait()
		of := func(name string) float64 { return r.metric("router_destination_calls_total", "destination", name) }
		if a, b := of("crm"), of("twin"); a < 0.8*b || b < 0.8*a {
			t.Errorf("one destination made %v calls and the other %v", a, b)
		}
	})
}

// TestAnIdleQuotaDelaysNobody: while much is free, calls that come alone or a few together leave at once.
func TestAnIdleQuotaDelaysNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 100}, "")
		r.env.Transport = slow{r.env.Transport, constantWay(time.Millisecond)}
		r.restart()
		mustDeliver(t, r.run(people(1)...))
		time.Sleep(11 * time.Second)
		at := func(n int) {
			t.Helper()
			began := time.Now()
			var held []destinations.Permit
			for range n {
				p, err := r.dest.Acquire(t.Context(), "", laneContacts)
				if err != nil {
					t.Fatal(err)
				}
				held = append(held, p)
			}
			if waited := time.Since(began); waited != 0 {
				t.Errorf("%d permits took %v", n, waited)
			}
			for i, p := range held {
				contacts, _ := r.entries(identify(fmt.Sprintf(`{"email":"a%d@b.co"}`, i)))
				r.dest.Send(t.Context(), p, contacts)
			}
		}
		for range 9 { // 45 calls, not yet half of the limit
			at(1)
			at(together)
		}
	})
}

// TestQuotaMetrics are asked long after the last call, and count what was refused.
func TestQuotaMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 100, Daily: 1000}, "quota_share: 0.8\ndaily_budget: 300\n")
		f := func(policy string, want float64) {
			t.Helper()
			if got := r.metric("router_quota_remaining", "policy", policy); got != want {
				t.Errorf("%s: %v left, want %v", policy, got, want)
			}
		}
		r.backlogFor(5 * time.Second)
		made := float64(r.calls("", 200))
		f(burstPolicy, 80-made)
		f(dailyPolicy, 1000-made)
		f(budgetPolicy, 300-made)
		time.Sleep(11 * time.Second)
		f(burstPolicy, 80)
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: 429, Body: `{"policyName":"TEN_SECONDLY_ROLLING"}`})
		r.backlogFor(time.Millisecond)
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: 429, Body: `{"policyName":"DAILY"}`})
		r.backlogFor(20 * time.Second)
		f(dailyPolicy, 0)
		for policy, want := range map[string]float64{burstPolicy: 1, dailyPolicy: 1} {
			if got := r.metric("router_quota_refused_total", "policy", policy); got != want {
				t.Errorf("%s: %v refused, want %v", policy, got, want)
			}
		}
	})
}

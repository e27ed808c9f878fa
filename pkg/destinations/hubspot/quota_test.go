package hubspot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// slow is a transport with a way to HubSpot and back.
type slow struct {
	http.RoundTripper
	way func() time.Duration
}

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(s.way())
	a, err := s.RoundTripper.RoundTrip(r)
	time.Sleep(s.way())
	return a, err
}

func constantWay(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

// backlog keeps the contacts lane busy until ctx ends, as a dispatcher does, with calls of one contact.
func (r *rig) backlog(ctx context.Context) {
	spec := r.dest.Lanes()[0]
	slots := make(chan struct{}, spec.InFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		p, err := r.dest.Acquire(ctx, "", laneContacts)
		if err != nil {
			time.Sleep(min(waitOf(err), time.Minute))
			<-slots
			continue
		}
		email := fmt.Sprintf("p%d@example.com", n%100)
		batch := []destinations.Entry{{
			Plan:  destinations.Plan{Lane: laneContacts, Key: email, ID: email},
			Event: &event.Event{JSON: []byte(`{"event_type":"user_identify","user":{"firstname":"A"}}`)},
		}}
		wg.Go(func() {
			r.dest.Send(context.WithoutCancel(ctx), p, batch)
			<-slots
		})
	}
}

func (r *rig) backlogFor(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	r.backlog(ctx)
}

// stranger uses the token for calls of its own.
func (r *rig) stranger(ctx context.Context, every time.Duration) {
	for ctx.Err() == nil {
		r.askDetails()
		time.Sleep(every)
	}
}

// askDetails is one call of another user of the token.
func (r *rig) askDetails() {
	req, _ := http.NewRequest(http.MethodGet, "https://api.hubapi.com/account-info/v3/details", nil)
	req.Header.Set("Authorization", "Bearer "+testToken)
	_, _ = r.box.RoundTripper().RoundTrip(req)
}

func TestQuotaIsUsedUpAndNotOverrun(t *testing.T) {
	f := func(burst int, way func() time.Duration, least float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Burst: burst}, "")
			r.env.Transport = slow{r.env.Transport, way}
			r.restart()
			const windows = 10
			r.backlogFor(windows * 10 * time.Second)
			if n := r.calls("", http.StatusTooManyRequests); n != 0 {
				t.Errorf("burst %d: %d calls refused", burst, n)
			}
			use := float64(r.calls("", 0)) / float64(windows*burst)
			if use < least {
				t.Errorf("burst %d: %.3f of the quota used, want %.3f", burst, use, least)
			}
			t.Logf("burst %d: %.3f of the quota used", burst, use)
		})
	}
	f(190, constantWay(75*time.Millisecond), 0.95)
	f(100, constantWay(75*time.Millisecond), 0.95)
	f(110, constantWay(10*time.Millisecond), 0.95)
	f(190, constantWay(200*time.Millisecond), 0.97)
	f(190, constantWay(400*time.Millisecond), 0.94)
	f(190, constantWay(0), 0.95)
	f(190, func() time.Duration { return time.Duration(20+rand.IntN(100)) * time.Millisecond }, 0.95)
}

// TestTheWayBecomesShorter is about calls that arrive sooner than those before them: what was learned from slow answers must not overrun the
// quota. there is the part of a slow call's time that passes before HubSpot counts it.
func TestTheWayBecomesShorter(t *testing.T) {
	f := func(slowly time.Duration, there float64, most int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Burst: 190}, "")
			box := r.env.Transport
			var quick atomic.Bool
			r.env.Transport = script(func(q *http.Request) (*http.Response, error) {
				before, after := time.Millisecond, time.Millisecond
				if !quick.Load() {
					before = time.Duration(there * float64(slowly))
					after = slowly - before
				}
				time.Sleep(before)
				a, err := box.RoundTrip(q)
				time.Sleep(after)
				return a, err
			})
			r.restart()
			var wg sync.WaitGroup
			wg.Go(func() { r.backlogFor(75 * time.Second) })
			for range 3 { // quick, slow, and quick again
				time.Sleep(20 * time.Second)
				quick.Store(!quick.Load())
			}
			wg.Wait()
			if n := r.calls("", http.StatusTooManyRequests); n > most {
				t.Errorf("from %v, %g of it there, to 2 ms: %d calls refused", slowly, there, n)
			}
		})
	}
	for _, slowly := range []time.Duration{150 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond} {
		f(slowly, 0, 0)
		f(slowly, 0.5, 0)
		f(slowly, 1, 0)
	}
}

func TestRestartCostsAtMostOneRefusedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 100}, "")
		r.env.Transport = slow{r.env.Transport, constantWay(50 * time.Millisecond)}
		r.restart()
		for i := range 8 {
			r.backlogFor(time.Duration(1300+700*i) * time.Millisecond)
			before := r.calls("", http.StatusTooManyRequests)
			r.restart()
			r.backlogFor(15 * time.Second)
			if n := r.calls("", http.StatusTooManyRequests) - before; n > 1 {
				t.Errorf("restart %d: %d calls refused", i, n)
			}
		}
	})
}

// TestCallsOfAKilledProcessArriveLate: those that were under way arrive after the first answer to the next process, which does not count on the places that they take.
func TestCallsOfAKilledProcessArriveLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 100}, "quota_share: 0.1\n") // of so few places more than half are free: calls leave at once
		earlier := func(n int) {
			for range n {
				r.askDetails()
			}
		}
		earlier(100 - callsInFlight)
		r.env.Transport = slow{r.env.Transport, constantWay(100 * time.Millisecond)}
		r.restart()
		var wg sync.WaitGroup
		wg.Go(func() {
			time.Sleep(250 * time.Millisecond)
			earlier(callsInFlight)
		})
		r.backlogFor(5 * time.Second)
		wg.Wait()
		if n := r.calls(upsertEndpoint, http.StatusTooManyRequests); n > 1 {
			t.Errorf("%d calls refused, want one at most", n)
		}
	})
}

// TestOneCallTriesAfterARefusal: what is in flight when another program has used up the limit is refused, and then one call in ten seconds, as long as that goes on.
func TestOneCallTriesAfterARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 100}, "")
		tape := &tape{RoundTripper: slow{r.env.Transport, constantWay(100 * time.Millisecond)}}
		r.env.Transport = tape
		r.restart()
		r.backlogFor(5 * time.Second)
		clear := r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: http.StatusTooManyRequests, Body: `{"policyName":"TEN_SECONDLY_ROLLING"}`})
		r.backlogFor(time.Minute)
		clear()
		before := r.calls(upsertEndpoint, http.StatusOK)
		r.backlogFor(20 * time.Second)
		rounds := tape.rounds()
		for i, round := range rounds {
			if i > 0 && len(round) != 1 || len(round) > callsInFlight {
				t.Errorf("round %d of %d: %d calls refused", i, len(rounds), len(round))
			}
		}
		if len(rounds) < 5 {
			t.Errorf("%d rounds in a minute", len(rounds))
		}
		if n := r.calls(upsertEndpoint, http.StatusOK) - before; n < 100 {
			t.Errorf("%d calls in the 20 s after", n)
		}
	})
}

func TestReloadKeepsTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 100}, "")
		r.backlogFor(3 * time.Second)
		r.reload()
		r.backlogFor(20 * time.Second)
		if n := r.calls("", http.StatusTooManyRequests); n != 0 {
			t.Errorf("%d calls refused", n)
		}
	})
}

func TestAnotherUserOfTheToken(t *testing.T) {
	f := func(every time.Duration, least float64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			const burst, windows = 190, 8
			r := newRig(t, sandbox.Options{Burst: burst}, "")
			r.env.Transport = slow{r.env.Transport, constantWay(75 * time.Millisecond)}
			r.restart()
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { r.stranger(ctx, every) })
			r.backlogFor(windows * 10 * time.Second)
			cancel()
			wg.Wait()
			refused := r.calls("contacts/batch/upsert", http.StatusTooManyRequests)
			if refused > windows*callsInFlight {
				t.Errorf("stranger every %v: %d of our calls refused in %d windows", every, refused, windows)
			}
			theirs := float64(r.calls("account-info", http.StatusOK))
			ours := float64(r.calls("contacts/batch/upsert", http.StatusOK))
			if use := ours / (windows*burst - theirs); use < least {
				t.Errorf("stranger every %v: %.3f of what is left used, want %.3f", every, use, least)
			}
			t.Logf("stranger every %v: %d refused, %.3f of what is left used", every, refused, ours/(windows*burst-theirs))
		})
	}
	f(time.Second, 0.8)
	f(200*time.Millisecond, 0.8)
	f(100*time.Millisecond, 0.8)
	f(60*time.Millisecond, 0.5)
}

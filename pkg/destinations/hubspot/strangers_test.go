package hubspot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/trial"
)

// tape is a transport that notes the calls of one process.
type tape struct {
	http.RoundTripper

	mu    sync.Mutex // guards the fields below
	calls []taped
}

type taped struct {
	sent, answered time.Time
	status         int
}

func (t *tape) RoundTrip(r *http.Request) (*http.Response, error) {
	c := taped{sent: time.Now()}
	res, err := t.RoundTripper.RoundTrip(r)
	c.answered = time.Now()
	if err == nil {
		c.status = res.StatusCode
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls = append(t.calls, c)
	return res, err
}

// rounds are the refused calls, put together by when the window that refused them was over.
func (t *tape) rounds() (all [][]taped) {
	t.mu.Lock()
	defer t.mu.Unlock()
	calls := slices.Clone(t.calls)
	slices.SortFunc(calls, func(a, b taped) int { return a.answered.Compare(b.answered) })
	for _, c := range calls {
		if c.status != http.StatusTooManyRequests {
			continue
		}
		if last := len(all) - 1; last >= 0 && c.answered.Before(all[last][0].answered.Add(10*time.Second)) {
			all[last] = append(all[last], c)
		} else {
			all = append(all, []taped{c})
		}
	}
	return all
}

// TestStrangersAndRestarts is about any number of processes one after the other, killed at any moment, beside another user of the token with
// any number of calls: a process is refused one call when it begins, and what is in flight when the limit is met; then it waits. Without
// another user that is all, and what the limit allows is used.
func TestStrangersAndRestarts(t *testing.T) {
	f := func(seed uint64, stranger, restarts bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			name := fmt.Sprintf("seed %d, stranger %v, restarts %v", seed, stranger, restarts)
			burst := []int{100, 110, 190, 250}[rnd.IntN(4)]
			r := newRig(t, sandbox.Options{Burst: burst}, "")
			least := 5 + rnd.IntN(100)
			spread := 1 + rnd.IntN(100)
			var mu sync.Mutex
			ways := rand.New(rand.NewPCG(seed, 3))
			way := func() time.Duration {
				mu.Lock()
				defer mu.Unlock()
				return time.Duration(least+ways.IntN(spread)) * time.Millisecond
			}
			transport := slow{r.env.Transport, way}
			var wg sync.WaitGroup
			defer wg.Wait()
			strangerCtx, stop := context.WithCancel(context.Background())
			defer stop()
			if stranger {
				rate := 25 * rnd.Float64() // a second, at random moments
				mine := rand.New(rand.NewPCG(seed, 2))
				wg.Go(func() {
					for strangerCtx.Err() == nil {
						r.askDetails()
						time.Sleep(time.Duration(mine.ExpFloat64() / rate * float64(time.Second)))
					}
				})
			}
			const length = time.Minute
			for began := time.Now(); time.Since(began) < length; {
				tape := &tape{RoundTripper: transport}
				r.env.Transport = tape
				r.restart()
				lives := length
				if restarts {
					lives = time.Duration(rnd.ExpFloat64() * float64(15*time.Second))
				}
				ctx, kill := context.WithTimeout(context.Background(), lives)
				dest, ended := r.dest, make(chan struct{})
				wg.Go(func() {
					defer close(ended)
					(&rig{dest: dest}).backlog(ctx) // what is in flight when the process dies still arrives
				})
				<-ctx.Done()
				kill()
				if !restarts {
					<-ended
				}
				for i, round := range tape.rounds() {
					for _, c := range round {
						if c.sent.After(round[0].answered) {
							t.Errorf("%s: a call was sent %v after one was refused", name, c.sent.Sub(round[0].answered))
						}
					}
					switch {
					case !stranger && i > 0, !stranger && len(round) > 1:
						t.Errorf("%s: process of %v: round %d of %d refused calls", name, lives, i, len(round))
					case len(round) > callsInFlight:
						t.Errorf("%s: %d refused calls in a round", name, len(round))
					}
				}
			}
			if stranger || restarts {
				return
			}
			if n := r.calls("", http.StatusOK); float64(n) < 0.95*float64(burst)*length.Seconds()/10 {
				t.Errorf("%s: %d calls in %v of %d in 10 s", name, n, length, burst)
			}
		})
	}
	for seed := range uint64(trial.Rounds(t, 4)) {
		f(seed, false, false)
		f(seed, false, true)
		f(seed, true, false)
		f(seed, true, true)
	}
}

package hubspot

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// inFlight are the permits of an account that were given out and not given back, which would stop a lane for ever.
func (a *account) inFlight() int {
	n := 0
	for _, w := range []*window{a.crm, a.events} {
		w.mu.Lock()
		n += w.inFlight
		w.mu.Unlock()
	}
	return n
}

// TestNoPermitIsLost meets every fault at every endpoint, with and without a schema, and is cut short at every call.
func TestNoPermitIsLost(t *testing.T) {
	f := func(endpoint string, fault sandbox.Fault, warm bool, cut time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Burst: 100}, "")
			r.env.Transport = slow{r.env.Transport, constantWay(50 * time.Millisecond)}
			r.restart()
			if warm {
				mustDeliver(t, r.run(track("x")))
			}
			fault.Endpoint = endpoint
			clear := r.box.Inject(fault)
			contacts, others := r.entries(
				serverEvent(`{"event_type":"new","user":{"email":"a@b.co"}}`),
				serverEvent(`{"event_type":"x","more":1,"user":{"email":"b@b.co"}}`), identify(`{"email":"b@b.co","firstname":"B"}`),
			)
			var wg sync.WaitGroup
			for _, batch := range [][]destinations.Entry{contacts, others} {
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), cut)
					defer cancel()
					p, err := r.dest.Acquire(ctx, "", batch[0].Plan.Lane)
					if err != nil {
						return
					}
					for _, o := range r.dest.Send(ctx, p, batch) {
						if o.Err == nil && len(o.Detail) == 0 {
							t.Errorf("%s, status %d, cut after %v: an entry has no outcome", endpoint, fault.Status, cut)
						}
					}
				})
			}
			wg.Wait()
			if n := r.dest.account.inFlight(); n != 0 {
				t.Errorf("%s, status %d, cut after %v: %d permits are lost", endpoint, fault.Status, cut, n)
			}
			clear()
			time.Sleep(time.Minute)
			r.results = nil
			r.drain(contacts)
			r.drain(others)
			if fault.Status < 400 {
				mustDeliver(t, r.results)
			}
		})
	}
	for _, endpoint := range []string{upsertEndpoint, sendEndpoint, "properties/list", "definitions"} {
		warm := endpoint == upsertEndpoint || endpoint == sendEndpoint
		for _, a := range answers {
			f(endpoint, a.fault, warm, time.Hour)
		}
	}
	for cut := time.Duration(0); cut < 1200*time.Millisecond; cut += 40 * time.Millisecond {
		f(upsertEndpoint, sandbox.Fault{Delay: time.Millisecond}, false, cut)
	}
}

// TestBothLanesBeginWithoutASchema is about a fresh process, which has one permit for contacts calls: its holder must not wait for who
// waits for it.
func TestBothLanesBeginWithoutASchema(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		contacts, others := r.entries(track("x"))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		p, err := r.dest.Acquire(ctx, "", laneContacts)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			q, err := r.dest.Acquire(ctx, "", laneEvents)
			if err != nil {
				t.Error(err)
				return
			}
			if got := outcomeOf(r.dest.Send(ctx, q, others)[0].Err); got != "delivered" {
				t.Errorf("event: %s", got)
			}
		})
		synctest.Wait() // the events lane loads the schema, and has no permit for it
		if got := outcomeOf(r.dest.Send(ctx, p, contacts)[0].Err); got != "delivered" {
			t.Errorf("contact: %s", got)
		}
		wg.Wait()
	})
}

func TestTinyQuotas(t *testing.T) {
	for burst := 1; burst <= 6; burst++ {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Burst: burst}, "")
			r.env.Transport = slow{r.env.Transport, constantWay(75 * time.Millisecond)}
			r.restart()
			const windows = 30
			r.backlogFor(windows * 10 * time.Second)
			calls, refused := r.calls("", 0), r.calls("", 429)
			if refused != 0 || calls < (windows-2)*burst*9/10 {
				t.Errorf("burst %d: %d calls in %d windows, %d refused", burst, calls, windows, refused)
			}
		})
	}
}

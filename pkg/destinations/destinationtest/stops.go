package destinationtest

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"eventrouter/pkg/destinations"
)

// soon is how long a Send may go on after its context has ended, in virtual time: it takes no time to give up.
const soon = time.Second

// testCutShort: the router stops, in whichever phase a Send is.
func testCutShort(r *rig) {
	r.warm()
	for what, how := range map[string]func(*http.Request) (*http.Response, error){
		"while no answer comes": hang, "within the answer": stall, "before the answer": slow(time.Hour),
	} {
		batch := r.entries(people(r.some())...)
		r.remote.breakCalls(how)
		r.cut(what, batch, 5*time.Second)
		r.remote.breakCalls(nil)
		time.Sleep(time.Minute)
		r.deliver(batch...)
	}
	batch := r.entries(people(r.some())...)
	r.cut("before the call", batch, 0)
	r.deliver(batch...)
	r.cutAcquire()
}

// cut sends a batch and ends its context after a time.
func (r *rig) cut(what string, batch []destinations.Entry, after time.Duration) []destinations.Outcome {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, err := r.acquire(ctx, r.lane)
	if err != nil {
		r.t.Fatalf("no permit: %v", err)
	}
	before := r.remote.count()
	if after == 0 {
		cancel()
	}
	timer := time.AfterFunc(after, cancel)
	defer timer.Stop()
	began := time.Now()
	out := r.sendWith(ctx, p, batch)
	if took := time.Since(began) - after; took > soon {
		r.t.Errorf("cut %s: Send went on for %s", what, took)
	}
	for i, o := range out {
		r.mustWait(o, fmt.Sprintf("cut %s, entry %d", what, i))
	}
	if n := r.remote.count() - before; after == 0 && n != 0 {
		r.t.Errorf("cut %s: %d calls", what, n)
	}
	return out
}

// cutAcquire ends waits for a permit: while others are held, and after a 429.
func (r *rig) cutAcquire() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if p, err := r.dest.Acquire(ctx, "", r.lane); err == nil {
		p.Release()
		r.t.Error("Acquire gives a permit although its context has ended")
	}
	var held []destinations.Permit
	for range 50 {
		if p := r.acquireFor(5 * time.Second); p != nil {
			held = append(held, p)
		}
	}
	for _, p := range held {
		p.Release()
	}
	batch := r.entries(person(0))
	r.remote.breakCalls(always(Answer{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"60"}}}))
	r.send(context.Background(), batch)
	r.remote.breakCalls(nil)
	if p := r.acquireFor(5 * time.Second); p != nil {
		p.Release()
	}
}

// acquireFor takes a permit if there is one within a time. The wait must end with that.
func (r *rig) acquireFor(d time.Duration) destinations.Permit {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	began := time.Now()
	p, err := r.dest.Acquire(ctx, "", r.lane)
	if took := time.Since(began); took > d+soon {
		r.t.Errorf("Acquire went on for %s after its context had ended", took-d)
	}
	if err != nil {
		return nil
	}
	return p
}

// testCutShortWhileSplitting: the router stops between the calls of one Send. What one of them delivered is delivered, and nothing else.
func testCutShortWhileSplitting(r *rig) {
	r.warm()
	if r.some() < 2 {
		return
	}
	for call := int32(2); call <= 4; call++ {
		what := fmt.Sprintf("cut in call %d", call)
		emails := people(r.some())
		for i := range emails { // nobody that an earlier round has delivered
			emails[i] = person(int(call)*100 + i)
		}
		emails[1] = badEmail
		batch := r.entriesOf(emails)
		ctx, cancel := context.WithCancel(context.Background())
		p, err := r.acquire(ctx, r.lane)
		if err != nil {
			r.t.Fatal(err)
		}
		var calls atomic.Int32
		r.remote.breakCalls(func(req *http.Request) (*http.Response, error) {
			if calls.Add(1) < call {
				return nil, nil
			}
			cancel()
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		out := r.sendWith(ctx, p, batch)
		cancel()
		r.remote.breakCalls(nil)
		for i, o := range out {
			if c := Class(o.Err); c == "rejected" && i != 1 || len(c) > 7 && c[:7] == "skipped" {
				r.t.Errorf("%s: entry %d is %s (%v)", what, i, c, o.Err)
			}
		}
		r.mustHave(batch, out, emails, what)
		time.Sleep(time.Minute)
	}
}

// testPermits: permits come back, whether they are used or not.
func testPermits(r *rig) {
	r.warm()
	const times = 300
	if p, err := r.acquire(context.Background(), r.lane); err == nil { // the first may wait
		p.Release()
	}
	began := time.Now()
	for range times {
		p, err := r.acquire(context.Background(), r.lane)
		if err != nil {
			r.t.Fatalf("no permit: %v", err)
		}
		p.Release()
		p.Release() // which does nothing
	}
	if took := time.Since(began); took > soon {
		r.t.Errorf("%d permits that were not used took %s: they do not come back", times, took)
	}
	batch := r.entries(person(0))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if p, err := r.acquire(context.Background(), r.lane); err == nil { // a call of the entries may still count
		p.Release()
	}
	began = time.Now()
	for range times {
		p, err := r.acquire(context.Background(), r.lane)
		if err != nil {
			r.t.Fatalf("no permit: %v", err)
		}
		r.sendWith(ended, p, batch)
	}
	if took := time.Since(began); took > soon {
		r.t.Errorf("%d permits of calls that were never made took %s: they do not come back", times, took)
	}
	for range 2 * max(1, r.spec.InFlight) { // failed calls give them back too
		r.remote.breakCalls(reset)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		p, err := r.acquire(ctx, r.lane)
		cancel()
		if err != nil {
			r.t.Fatalf("no permit after failed calls: %v", err)
		}
		r.sendWith(context.Background(), p, batch)
	}
	r.remote.breakCalls(nil)
	time.Sleep(time.Minute)
	r.deliver(batch...)
}

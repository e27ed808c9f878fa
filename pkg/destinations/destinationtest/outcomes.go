package destinationtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

// testDelivers: what the remote takes is delivered, one or many.
func testDelivers(r *rig) {
	for _, n := range []int{1, r.some()} {
		emails := people(n)
		batch := r.entries(emails...)
		out := r.send(context.Background(), batch)
		for i, o := range out {
			if o.Err != nil {
				r.t.Errorf("entry %d of %d: %v", i, n, o.Err)
			}
		}
		r.mustHave(batch, out, emails, "delivered")
	}
}

// testEmpty: a Send of nothing gives its permit back.
func testEmpty(r *rig) {
	p, err := r.acquire(context.Background(), r.lane)
	if err != nil {
		r.t.Fatal(err)
	}
	before := r.remote.count()
	if out := r.dest.Send(context.Background(), p, nil); len(out) != 0 {
		r.t.Errorf("%d outcomes of nothing", len(out))
	}
	if n := r.remote.count() - before; n != 0 {
		r.t.Errorf("%d calls for nothing", n)
	}
}

// testOneBad: the remote refuses a call because of one entry, wherever in it that is. Only that one is given up.
func testOneBad(r *rig) {
	r.warm()
	for _, at := range slices.Compact([]int{0, r.some() / 2, r.some() - 1}) {
		what := fmt.Sprintf("entry %d of %d is bad", at, r.some())
		emails := people(r.some())
		emails[at] = badEmail
		batch := r.entriesOf(emails)
		out := r.send(context.Background(), batch)
		for i, o := range out {
			want := "delivered"
			if i == at {
				want = "rejected"
			}
			if got := Class(o.Err); got != want {
				r.t.Errorf("%s: entry %d is %s (%v), want %s", what, i, got, o.Err, want)
			}
		}
		r.mustHave(batch, out, emails, what)
	}
}

// entriesOf is entries for emails of which one may be refused: what goes before it in other lanes is not made.
func (r *rig) entriesOf(emails []string) []destinations.Entry {
	r.t.Helper()
	var batch []destinations.Entry
	for i, email := range emails {
		if email != badEmail {
			batch = append(batch, r.entries(email)...)
			batch[len(batch)-1].Name.Offset = uint64(i)
			continue
		}
		ev := r.event(email)
		plans, err := r.dest.Plan(ev)
		if err != nil {
			r.t.Fatalf("plan of %s: %v", ev.JSON, err)
		}
		for _, p := range plans {
			if p.Lane == r.lane {
				batch = append(batch, destinations.Entry{Name: destinations.OutputName{Offset: uint64(i), Destination: "d"}, Plan: p, Event: ev, Attempt: 1})
			}
		}
	}
	return batch
}

// testBlocked: what concerns no single entry blocks all of a call and is charged to none. Afterwards all goes on.
func testBlocked(r *rig) {
	r.warm()
	for _, a := range r.s.Blocking {
		what := fmt.Sprintf("status %d", a.Status)
		emails := people(r.some())
		batch := r.entries(emails...)
		r.remote.breakCalls(always(a))
		for i, o := range r.send(context.Background(), batch) {
			if got := Class(o.Err); got != "blocked" {
				r.t.Errorf("%s: entry %d is %s (%v), want blocked", what, i, got, o.Err)
			}
		}
		r.remote.breakCalls(nil)
		r.deliver(batch...)
	}
}

// testThrottled: a remote that asks to wait is left alone for as long.
func testThrottled(r *rig) {
	const wait = 7 * time.Second
	r.warm()
	batch := r.entries(people(r.some())...)
	r.remote.breakCalls(always(Answer{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"7"}}}))
	began := time.Now()
	for i, o := range r.send(context.Background(), batch) {
		var retry *destinations.RetryError
		var block *destinations.BlockError
		switch {
		case errors.As(o.Err, &block) && block.Until.Sub(began) >= wait:
		case errors.As(o.Err, &retry) && retry.After >= wait:
		default:
			r.t.Errorf("429: entry %d is %s (%v), want to be tried again after %s", i, Class(o.Err), o.Err, wait)
		}
	}
	r.remote.breakCalls(nil)
	time.Sleep(wait)
	r.deliver(batch...)
}

// testServerErrors: a remote that breaks down gives nothing up and takes nothing.
func testServerErrors(r *rig) {
	r.warm()
	for _, status := range []int{500, 502, 503, 504, 524} {
		batch := r.entries(people(r.some())...)
		r.remote.breakCalls(always(Answer{Status: status}))
		for _, o := range r.send(context.Background(), batch) {
			r.mustWait(o, fmt.Sprintf("status %d", status))
		}
		r.remote.breakCalls(nil)
		time.Sleep(time.Minute)
		r.deliver(batch...)
	}
}

// testNoAnswer: calls without a whole answer.
func testNoAnswer(r *rig) {
	r.warm()
	for what, how := range map[string]func(*http.Request) (*http.Response, error){
		"no connection": noConnection, "a reset": reset, "half an answer": half, "no answer": hang, "an answer without end": stall,
	} {
		batch := r.entries(people(r.some())...)
		r.remote.breakCalls(how)
		began := time.Now()
		for _, o := range r.send(context.Background(), batch) {
			r.mustWait(o, what)
		}
		if took := time.Since(began); took > 5*time.Minute {
			r.t.Errorf("%s: Send took %s", what, took)
		}
		r.remote.breakCalls(nil)
		time.Sleep(time.Minute)
		r.deliver(batch...)
	}
}

// testConcurrently: as many calls at a time as the lane has, many times, some of which fail.
func testConcurrently(r *rig) {
	r.warm()
	calls := max(2, min(r.spec.InFlight, 8))
	var wg sync.WaitGroup
	for i := range calls {
		emails := make([]string, r.some())
		for j := range emails {
			emails[j] = person(i*100 + j)
		}
		batch := r.entries(emails...)
		wg.Go(func() {
			for range 5 {
				p, err := r.acquire(context.Background(), r.lane)
				if err != nil {
					r.t.Errorf("no permit: %v", err)
					return
				}
				out := r.sendWith(context.Background(), p, batch)
				for j, o := range out {
					if o.Err != nil {
						r.t.Errorf("call %d, entry %d: %v", i, j, o.Err)
					}
				}
				r.mustHave(batch, out, emails, "concurrently")
				plans, err := r.dest.Plan(batch[0].Event)
				if err != nil || len(plans) == 0 {
					r.t.Errorf("plan meanwhile: %v, %v", plans, err)
				}
			}
		})
	}
	wg.Wait()
}

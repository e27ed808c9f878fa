package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/destinationtest"
	"eventrouter/pkg/event"
)

// TestVerdicts: what becomes of an event by what the endpoint says.
func TestVerdicts(t *testing.T) {
	f := func(yaml string, a answered, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, yaml)
			r.at.answers(always(a))
			if got := destinationtest.Class(r.send(r.event(`{"a":"x"}`))[0].Err); got != want {
				t.Errorf("%s %+v: %s, want %s", yaml, a, got, want)
			}
		})
	}
	wait := func(text string) http.Header { return http.Header{"Retry-After": {text}} }
	const templated = "url: 'https://example.com/{{.a}}'\n"
	for _, status := range []int{200, 201, 202, 204, 299} {
		f("", answered{status: status}, "delivered")
	}
	for _, status := range []int{408, 425, 429, 500, 501, 502, 503, 504, 520, 599} {
		f("", answered{status: status}, "again")
		f(templated, answered{status: status}, "again")
	}
	for _, status := range []int{401, 402, 407} {
		f("", answered{status: status}, "blocked")
		f(templated, answered{status: status}, "blocked")
	}
	// Where the event has a part in the URL, they may be about what that names.
	for _, status := range []int{301, 302, 304, 307, 403, 404, 405, 406, 410, 415, 421, 426} {
		f("", answered{status: status}, "blocked")
		f(templated, answered{status: status}, "rejected")
	}
	for _, status := range []int{400, 409, 411, 412, 413, 414, 418, 422, 423, 424, 428, 431, 451, 499} {
		f("", answered{status: status}, "rejected")
		f(templated, answered{status: status}, "rejected")
	}
	f("", answered{status: 429, header: wait("7")}, "again after 7s")
	f("", answered{status: 503, header: wait(" 120 ")}, "again after 2m0s")
	f("", answered{status: 429, header: wait("Sat, 01 Jan 2000 00:00:30 GMT")}, "again after 30s") // a bubble begins at 2000
	f("", answered{status: 429, header: wait("Fri, 31 Dec 1999 00:00:30 GMT")}, "again")
	ahead := wait("Sat, 01 Jan 2000 01:00:30 GMT") // by a clock that is an hour ahead of ours
	ahead.Set("Date", "Sat, 01 Jan 2000 01:00:00 GMT")
	f("", answered{status: 429, header: ahead}, "again after 30s")
	f("", answered{status: 429, header: wait("86400")}, "again after 1h0m0s")
	f("", answered{status: 429, header: wait("99999999999999999999999")}, "again")
	f("", answered{status: 429, header: wait("18446744073709551615")}, "again after 1h0m0s")
	f("", answered{status: 429, header: wait("-5")}, "again")
	f("", answered{status: 429, header: wait("soon")}, "again")
	f("", answered{status: 400, header: wait("5")}, "rejected")
}

// TestWhatIsSaid: the words of an error, which people read.
func TestWhatIsSaid(t *testing.T) {
	f := func(a answered, want string) {
		t.Helper()
		r := newRig(t, "headers: {Authorization: Bearer abcdefgh, X-Key: ijklmnop}\nurl: https://example.com/services/T0000000000000001?key=qrstuvw\nsecret: 0123456789abcdef\n")
		r.at.answers(always(a))
		err := r.send(r.event(`{}`))[0].Err
		var block *destinations.BlockError
		if errors.As(err, &block) {
			err = block.Err
		}
		if err == nil || err.Error() != want {
			t.Errorf("%+v: got %v, want %s", a, err, want)
		}
	}
	f(answered{status: 400}, "the endpoint answered 400")
	f(answered{status: 400, body: " no\n\tsuch  field "}, "the endpoint answered 400: no such field")
	f(answered{status: 401, body: "bad"}, "the endpoint answered 401, check the credentials in headers, and secret: bad")
	f(answered{status: 410}, "the endpoint answered 410, the endpoint was removed; remove the destination, or write another url")
	f(answered{status: 400, body: "Bearer abcdefgh, abcdefgh, ijklmnop, /services/T0000000000000001?key=qrstuvw, 0123456789abcdef"},
		"the endpoint answered 400: ***, ***, ***, /services/***?key=***, ***")
	f(answered{status: 400, body: strings.Repeat("é", 150)}, "the endpoint answered 400: "+strings.Repeat("é", 100)+"…")
	f(answered{status: 400, body: "a\xffb"}, "the endpoint answered 400: a\ufffdb")
	f(answered{status: 400, body: strings.Repeat(" ", maxAnswer-4) + "ijklmnop"}, "the endpoint answered 400") // cut in the middle of a secret
	f(answered{status: 302, header: http.Header{"Location": {"https://other.example.com/ijklmnop"}}},
		"the endpoint answered 302, a redirect to https://other.example.com, which is not followed: only 307 and 308 are, at most 3, and to the same host; write the url that it leads to")
	f(answered{err: errors.New("reset")}, "no whole answer: reset")
	f(answered{err: errors.New("dial https://example.com/services/T0000000000000001")}, "no whole answer: dial https://example.com/services/***")
}

// TestSplitting: one bad event costs its neighbours nothing, and no more calls than halving takes.
func TestSplitting(t *testing.T) {
	f := func(status, events int, bad map[int]bool, calls int) {
		t.Helper()
		r := newRig(t, "batch: {max_events: 1000}\nbody: '({n: $.n})'\n")
		r.at.answers(func(in *received) answered {
			for n := range bad {
				if strings.Contains(in.body, fmt.Sprintf(`"n":%d}`, n)) {
					return answered{status: status, body: "no"}
				}
			}
			return answered{status: 200}
		})
		var all []*event.Event
		for n := range events {
			all = append(all, r.event(fmt.Sprintf(`{"n":%d}`, n)))
		}
		for n, o := range r.send(all...) {
			if want := map[bool]string{false: "delivered", true: "rejected"}[bad[n]]; destinationtest.Class(o.Err) != want {
				t.Errorf("%d, bad %v: event %d is %s (%v)", status, bad, n, destinationtest.Class(o.Err), o.Err)
			}
		}
		if n := len(r.at.take()); n > calls {
			t.Errorf("%d of %d bad: %d calls", len(bad), events, n)
		}
	}
	f(400, 1, nil, 1)
	f(400, 1, map[int]bool{0: true}, 1)
	f(422, 100, map[int]bool{42: true}, 15)
	f(413, 128, map[int]bool{0: true, 127: true}, 28)
	f(400, 8, map[int]bool{0: true, 1: true, 2: true, 3: true, 4: true, 5: true, 6: true, 7: true}, 15)
}

// TestA500OverOneEvent is about an endpoint that breaks down over one of many: once all have been tried a few times, that one is found.
func TestA500OverOneEvent(t *testing.T) {
	r := newRig(t, "batch: {max_events: 100}\n")
	r.at.answers(func(in *received) answered {
		if strings.Contains(in.body, "poison") {
			return answered{status: 500}
		}
		return answered{status: 200}
	})
	f := func(attempt int, want string, calls int) {
		t.Helper()
		batch := r.entries(r.event(`{"user":{"email":"a"}}`), r.event(`{"user":{"email":"b"},"poison":1}`), r.event(`{"user":{"email":"b"}}`), r.event(`{"user":{"email":"c"}}`))
		for i := range batch {
			batch[i].Attempt = attempt
		}
		if got := classes(r.sendAll(batch)); got != want {
			t.Errorf("attempt %d: %s, want %s", attempt, got, want)
		}
		if n := len(r.at.take()); n != calls {
			t.Errorf("attempt %d: %d calls, want %d", attempt, n, calls)
		}
	}
	f(1, "again, again, again, again", 1)
	f(2, "again, again, again, again", 1)
	f(3, "delivered, again, again, delivered", 5) // the third waits for the second, whose person it shares

	r.at.answers(always(answered{status: 500})) // an endpoint that is down
	var events []*event.Event
	for range 100 {
		events = append(events, r.event(`{}`))
	}
	batch := r.entries(events...)
	for i := range batch {
		batch[i].Attempt = 9
	}
	r.sendAll(batch)
	if n := len(r.at.take()); n > 2*mostFailures {
		t.Errorf("%d calls to an endpoint that is down", n)
	}
}

// TestNothingPassesWhatWaits: after a call that failed, no later one of the same Send is made where it would fail too, and none of the same person in any case.
func TestNothingPassesWhatWaits(t *testing.T) {
	f := func(a answered, want string, calls int) {
		t.Helper()
		r := newRig(t, "batch: {max_events: 9}\nurl: 'https://example.com/{{.event_type}}'\n")
		r.at.answers(func(in *received) answered {
			if strings.HasSuffix(in.url, "/a") {
				return a
			}
			return answered{status: 200}
		})
		out := r.send(
			r.event(`{"event_type":"a","user":{"email":"p"}}`), r.event(`{"event_type":"b","user":{"email":"p"}}`), r.event(`{"event_type":"b","user":{"email":"q"}}`),
		)
		if got, n := classes(out), len(r.at.take()); got != want || n != calls {
			t.Errorf("%+v: %s with %d calls, want %s with %d", a, got, n, want, calls)
		}
	}
	f(answered{status: 500}, "again, again, delivered", 2)
	f(answered{status: 422}, "rejected, delivered, delivered", 2)
	f(answered{status: 503}, "again, again, again", 1)
	f(answered{status: 401}, "blocked, blocked, blocked", 1)
	f(answered{err: errors.New("reset")}, "again, again, again", 1)
}

// TestTheRate: no more calls than are allowed, at once after a pause, and none while the endpoint has asked to wait.
func TestTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "max_per_second: 4\nbatch: {max_events: 2}\n")
		for range 10 {
			r.send(r.event(`{}`), r.event(`{}`))
		}
		in := r.at.take()
		if took := in[9].at.Sub(in[0].at); len(in) != 10 || took != 9*time.Second/4 {
			t.Errorf("%d calls in %s, want 10 in 2.25s", len(in), took)
		}
		time.Sleep(time.Second)
		began := time.Now()
		r.send(r.event(`{}`))
		if waited := time.Since(began); waited != 0 {
			t.Errorf("after a pause a call waits for %s", waited)
		}
		r.at.answers(always(answered{status: 429, header: http.Header{"Retry-After": {"20"}}}))
		r.send(r.event(`{}`))
		r.reload("max_per_second: 4\nbatch: {max_events: 2}\nsecret: 0123456789abcdef\n") // which forgets nothing
		_, err := r.dest.Acquire(context.Background(), "", laneEvents)
		var block *destinations.BlockError
		if !errors.As(err, &block) || time.Until(block.Until) != 20*time.Second {
			t.Errorf("while the endpoint wants no calls: %v", err)
		}
	})
}

// TestAGateThatIsNotUsed: a permit that comes back leaves its place.
func TestAGateThatIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "max_per_second: 1\n")
		for range 100 {
			p, err := r.dest.Acquire(context.Background(), "", laneEvents)
			if err != nil {
				t.Fatal(err)
			}
			p.Release()
		}
		ctx, cancel := context.WithCancel(context.Background())
		r.send(r.event(`{}`))
		time.AfterFunc(time.Second/2, cancel)
		began := time.Now()
		if _, err := r.dest.Acquire(ctx, "", laneEvents); !errors.Is(err, context.Canceled) || time.Since(began) != time.Second/2 {
			t.Errorf("a wait that is cut short: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		r.send(r.event(`{}`))
		if waited := time.Since(began); waited != time.Second/2 {
			t.Errorf("the next call waits for %s, want 500ms", waited)
		}
	})
}

// TestDetails: what explain shows of a request.
func TestDetails(t *testing.T) {
	f := func(yaml string, a answered, want string) {
		t.Helper()
		r := newRig(t, yaml)
		r.at.answers(always(a))
		ev := r.event(`{}`)
		want = strings.ReplaceAll(want, "ID", destinations.EventUUID(ev, 0).String())
		if got := string(r.send(ev)[0].Detail); got != want {
			t.Errorf("%s: got %s, want %s", yaml, got, want)
		}
	}
	f("", answered{status: 202}, `{"webhook_id":"ID","status":202}`)
	f("batch: {max_events: 2}", answered{status: 200}, `{"webhook_id":"ID","status":200,"events":1}`)
	f("", answered{status: 422}, `{"webhook_id":"ID","status":422}`)
	f("", answered{err: errors.New("reset")}, `{"webhook_id":"ID"}`)
}

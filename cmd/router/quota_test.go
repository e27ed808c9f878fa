package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/trial"
)

// The run that the quota is judged by: 200,000 identifies of 50,000 people against 190 calls in ten seconds with answers after 150 ms.
const (
	quotaPeople  = 50_000
	quotaEach    = 4
	quotaBurst   = 190
	quotaLatency = 150 * time.Millisecond
)

// quotaRun is some identifies of each person, among those of 500 others: what people do comes in sessions.
func quotaRun(people, each int) []string {
	var all []string
	r := rand.New(rand.NewPCG(1, 2))
	for first := 0; first < people; first += 500 {
		var session []string
		for p := first; p < min(people, first+500); p++ {
			for n := range each {
				session = append(session, fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"p%d@example.com","firstname":"Ada","lastname":"Lovelace","city":"Paris %d"}}`, p, n))
			}
		}
		r.Shuffle(len(session), func(i, j int) { session[i], session[j] = session[j], session[i] })
		all = append(all, session...)
	}
	return all
}

// quotaUse is how much of a rolling limit a run of calls uses.
type quotaUse struct {
	contacts, calls, refused int
	share                    float64 // of the calls that the limit allows in the whole intervals of the run
	rate                     float64 // contacts a second
	perCall                  float64 // contacts a call
}

// useOf judges calls by the times at which they reached HubSpot.
func useOf(box *sandbox.Sandbox, arrived []time.Time, burst int) (u quotaUse) {
	for _, c := range box.Counts() {
		switch {
		case c.Status == http.StatusTooManyRequests:
			u.refused += c.Calls
		case c.Endpoint == "contacts/batch/upsert" && c.Status == http.StatusOK:
			u.calls, u.contacts = u.calls+c.Calls, u.contacts+c.Inputs
		}
	}
	slices.SortFunc(arrived, time.Time.Compare)
	began, ended := arrived[0], arrived[len(arrived)-1]
	whole := ended.Sub(began) / (10 * time.Second)
	in := 0
	for _, at := range arrived {
		if at.Before(began.Add(whole * 10 * time.Second)) {
			in++
		}
	}
	u.share = float64(in) / float64(int(whole)*burst)
	u.rate = float64(u.contacts) / ended.Sub(began).Seconds()
	u.perCall = float64(u.contacts) / float64(u.calls)
	return u
}

// TestQuotaIsUsed holds the whole router to what the quota allows, in virtual time. Of that run it plays two identifies of so many people as fill one interval, or as
// many times more as ROUNDS says.
func TestQuotaIsUsed(t *testing.T) {
	t.Parallel()
	people := trial.Rounds(t, 21_000)
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, sandbox.Options{Burst: quotaBurst, Daily: 1_000_000}, constant(quotaLatency/2), "")
		v.start()
		defer v.stop()
		v.post(quotaRun(people, 2)...)
		v.drain(time.Minute)
		var arrived []time.Time
		for _, c := range v.made() {
			arrived = append(arrived, c.sent.Add(quotaLatency/2))
		}
		u := useOf(v.box, arrived, quotaBurst)
		t.Logf("%.0f contacts/s, %.3f of the calls allowed, %.1f contacts a call, %d calls, %d refused", u.rate, u.share, u.perCall, u.calls, u.refused)
		if n := v.box.ContactCount(); n != people {
			t.Errorf("HubSpot has %d contacts, want %d", n, people)
		}
		if u.share < 0.98 || u.rate < 0.98*quotaBurst*100/10 {
			t.Errorf("%.0f contacts a second, %.3f of the calls that are allowed; want 0.98", u.rate, u.share)
		}
		if u.refused != 0 {
			t.Errorf("%d calls refused", u.refused)
		}
		if u.perCall < 95 {
			t.Errorf("%.1f contacts a call, want 95", u.perCall)
		}
	})
}

// TestQuotaOverRestarts stops the router at any moment of a backlog of some windows and starts it again at once: at most the first call of a start is refused.
func TestQuotaOverRestarts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		synctest.Test(t, func(t *testing.T) {
			const people, restarts = 5000, 6
			r := rand.New(rand.NewPCG(seed, 3))
			v := newVirtual(t, sandbox.Options{Burst: 16, Daily: 1_000_000}, func() time.Duration {
				return 10*time.Millisecond + rand.N(120*time.Millisecond)
			}, "")
			v.start()
			v.post(quotaRun(people, 1)...)
			before := 0 // calls of the starts before
			check := func(start int) {
				t.Helper()
				calls := v.made()[before:]
				for i, c := range calls {
					if i > 0 && c.status == http.StatusTooManyRequests {
						t.Errorf("seed %d, start %d: HubSpot refused call %d of %d, want none but the first", seed, start, i+1, len(calls))
					}
				}
				before += len(calls)
			}
			for n := range restarts {
				time.Sleep(time.Duration(r.Int64N(int64(7 * time.Second))))
				v.stop()
				check(n)
				v.start()
			}
			v.drain(time.Minute)
			check(restarts)
			if n := v.box.ContactCount(); n != people {
				t.Errorf("seed %d: HubSpot has %d contacts, want %d", seed, n, people)
			}
			v.stop()
		})
	}
}

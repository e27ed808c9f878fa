package hubspot

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestDailyQuota uses up the day's calls: contacts stop before a call is refused, until midnight where the account is; events go on.
func TestDailyQuota(t *testing.T) {
	tokyo := time.FixedZone("Asia/Tokyo", 9*60*60)
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Daily: 40, TimeZone: tokyo}, "")
		mustDeliver(t, r.run(track("x"), track("x")))
		mustDeliver(t, r.run(people(1)...)) // beside it the account's time zone is asked for
		var last error
		for i := 0; last == nil; i++ {
			if i > 40 {
				t.Fatal("the day's calls never end")
			}
			contacts, _ := r.entries(people(1)...)
			last = r.send(contacts)[0].Err
		}
		var block *destinations.BlockError
		if !errors.As(last, &block) || block.Scope != destinations.LaneScope {
			t.Fatalf("%v", last)
		}
		now := time.Now().In(tokyo)
		if want := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, tokyo); !block.Until.Equal(want) {
			t.Errorf("blocked until %v, want midnight in Tokyo, %v", block.Until, want)
		}
		if n := r.calls("", http.StatusTooManyRequests); n != 0 {
			t.Errorf("%d calls refused", n)
		}
		_, others := r.entries(track("x"))
		if got := outcomeOf(r.send(others)[0].Err); got != "delivered" {
			t.Errorf("events are exempt, and %s", got)
		}
		_, undefined := r.entries(track("new"))
		if got := outcomeOf(r.send(undefined)[0].Err); got != "retry after 15m0s" {
			t.Errorf("an event that has to be defined: %s", got)
		}
		time.Sleep(time.Until(block.Until))
		mustDeliver(t, r.run(people(3)...))
	})
}

func TestDailyRefusal(t *testing.T) {
	f := func(name string, zone string, at, want time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			r.box.Inject(sandbox.Fault{Endpoint: "account-info", Status: 404})
			time.Sleep(at) // the bubble begins at midnight UTC
			if zone != "" {
				r.dest.account.day.setZone(zone, 0)
			}
			mustDeliver(t, r.run(people(1)...))
			r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: 429, Body: `{"policyName":"DAILY","errorType":"RATE_LIMIT"}`})
			contacts, _ := r.entries(people(1)...)
			err := r.send(contacts)[0].Err
			var block *destinations.BlockError
			if !errors.As(err, &block) || block.Scope != destinations.LaneScope {
				t.Fatalf("%s: %v", name, err)
			}
			if got := time.Until(block.Until); got != want {
				t.Errorf("%s: blocked for %v, want %v", name, got, want)
			}
			if _, err := r.dest.Acquire(t.Context(), "", laneContacts); !errors.As(err, &block) {
				t.Errorf("%s: the next call is let through: %v", name, err)
			}
		})
	}
	f("unknown zone: an hour", "", 10*time.Hour, time.Hour)
	f("unknown zone, less than an hour to midnight", "", 23*time.Hour+30*time.Minute, 30*time.Minute)
	f("known zone: its midnight", "Etc/GMT-9", 10*time.Hour, 5*time.Hour)
	f("clocks that differ", "UTC", 24*time.Hour+time.Minute, 5*time.Minute)
}

func TestEventsHaveTheirOwnQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 20, EventsPerSecond: eventsPerSecond}, "")
		mustDeliver(t, r.run(track("x")))
		for range 3000 {
			p, err := r.dest.Acquire(t.Context(), "", laneEvents)
			if err != nil {
				t.Fatal(err)
			}
			_, others := r.entries(track("x"))
			if got := outcomeOf(r.dest.Send(t.Context(), p, others)[0].Err); got != "delivered" {
				t.Fatal(got)
			}
		}
		if n := r.calls("", http.StatusTooManyRequests); n != 0 {
			t.Errorf("%d calls refused", n)
		}
		if n := r.calls(sendEndpoint, http.StatusNoContent); n != 3001 {
			t.Errorf("%d calls", n)
		}
	})
}

// HubSpot asks not to rely on any field of an error body.
func TestDailyQuotaIsUsedUpAsTheMessageSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(people(1)...))
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Times: 1, Status: 429, Body: `{"category":"RATE_LIMITS","message":"You have reached your daily limit."}`,
		})
		contacts, _ := r.entries(people(1)...)
		if err := r.send(contacts)[0].Err; waitOf(err) < time.Minute {
			t.Error(err)
		}
	})
}

func TestAnUnusedPermitIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Burst: 20}, "")
		for range 100 { // in a fresh process one call is in flight: a lost permit would block the second
			p, err := r.dest.Acquire(t.Context(), "", laneContacts)
			if err != nil {
				t.Fatal(err)
			}
			p.Release()
			p.Release()
		}
		mustDeliver(t, r.run(people(1)...))
		if n := r.calls("", 0); n > 2 {
			t.Errorf("%d calls", n)
		}
	})
}

// TestDayWithAClockThatJumps: a clock that is set over midnight, and back, gives no budget twice.
func TestDayWithAClockThatJumps(t *testing.T) {
	d, budget := newDay(), terms{share: 1, daily: 10}
	evening := time.Date(2026, 3, 1, 23, 30, 0, 0, time.UTC)
	f := func(what string, at time.Time, calls, want int) {
		t.Helper()
		made := 0
		for range calls {
			if _, changed, err := d.take(at, budget); err == nil && changed == nil {
				made++
				d.end(at, nil)
				d.works()
			}
		}
		if made != want {
			t.Errorf("%s: %d of %d calls are made, want %d", what, made, calls, want)
		}
	}
	f("in the evening", evening, 6, 6)
	f("an hour forward", evening.Add(time.Hour), 3, 3)
	f("and back", evening, 10, 1)
	f("forward again", evening.Add(time.Hour), 10, 7)
	f("a day later", evening.Add(24*time.Hour), 10, 0)
	f("two days later", evening.Add(25*time.Hour), 20, 10)
}

// TestNewNamesWithAClockThatJumps: nor does it give another day's share of new names to browsers.
func TestNewNamesWithAClockThatJumps(t *testing.T) {
	c, set := &newAccount(newDay()).definitions, &EventsSettings{NewPerAccount: 100, BrowserNewPerDay: 2}
	morning := time.Date(2026, 3, 2, 0, 30, 0, 0, time.UTC)
	for i, at := range []struct {
		time.Time
		allowed bool
	}{{morning, true}, {morning, true}, {morning, false}, {morning.Add(-time.Hour), false}, {morning, false}, {morning.Add(24 * time.Hour), true}} {
		if got := c.allow(set, true, at.Time); got != at.allowed {
			t.Errorf("name %d at %s: allowed %v", i, at.Time, got)
		} else if got {
			c.count(true, at.Time)
		}
	}
}

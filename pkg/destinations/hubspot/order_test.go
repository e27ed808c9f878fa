package hubspot

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// faultsOfARun are those that a schedule is drawn from. What they apply, they apply at once: to wait for late ones is the router's part.
var faultsOfARun = []sandbox.Fault{
	{Status: 500},
	{Status: 502, Apply: true},
	{Status: 503},
	{Drop: true},
	{Drop: true, Apply: true},
	{Delay: time.Minute},
	{Status: 429, Body: `{"policyName":"TEN_SECONDLY_ROLLING"}`},
	{Status: 423},
	{Status: 409, Body: `{"category":"CONFLICT","message":"Contact already exists"}`},
	{Status: 401},
	{Status: 200, Body: `{"status":"COMPLETE","results":[]}`},
	{Status: 400, Body: `{"category":"VALIDATION_ERROR","message":"no","errors":[{"code":"INVALID_OPTION","context":{"propertyName":["nobody_has_this"]}}]}`},
	{Status: 207, Body: `{"results":[],"numErrors":1,"errors":[{"category":"RATE_LIMITS","message":"busy"}]}`},
}

// TestAnyFaultsEndAsInOrder sends any identifies of a few people through any faults: the contacts end as if nothing had happened.
func TestAnyFaultsEndAsInOrder(t *testing.T) {
	f := func(seed uint64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			r := newRig(t, sandbox.Options{Burst: 100}, "")
			want := map[string]map[string]string{}
			for range 10 {
				var events []*event.Event
				for range 1 + rnd.IntN(150) {
					email := fmt.Sprintf("p%d@example.com", rnd.IntN(12))
					user := map[string]string{"email": email}
					if want[email] == nil {
						want[email] = map[string]string{}
					}
					for _, name := range []string{"firstname", "lastname", "city"} {
						if rnd.IntN(2) == 0 {
							user[name] = fmt.Sprint(rnd.IntN(1000))
							want[email][name] = user[name]
						}
					}
					body, err := json.Marshal(user)
					if err != nil {
						t.Fatal(err)
					}
					events = append(events, identify(string(body)))
				}
				for range rnd.IntN(3) {
					fault := faultsOfARun[rnd.IntN(len(faultsOfARun))]
					fault.Endpoint, fault.Times = upsertEndpoint, 1+rnd.IntN(2)
					r.box.Inject(fault)
				}
				mustDeliver(t, r.run(events...))
			}
			for email, properties := range want {
				if diff := cmp.Diff(properties, r.properties(email)); diff != "" {
					t.Errorf("seed %d, %s: %s", seed, email, diff)
				}
			}
		})
	}
	for seed := range uint64(30) {
		f(seed)
	}
}

// TestAnyRefusedValuesEndAsInOrder sends identifies of which some hold a value that HubSpot refuses, merged as they come: each contact ends as
// if its identifies had been applied one by one, without those values.
func TestAnyRefusedValuesEndAsInOrder(t *testing.T) {
	f := func(seed uint64) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			r := newRig(t, sandbox.Options{}, "")
			r.box.Inject(sandbox.Fault{
				Endpoint: upsertEndpoint, Status: 400, Match: has("refused"),
				Body: `{"category":"VALIDATION_ERROR","message":"no","errors":[{"code":"INVALID_OPTION","context":{"propertyName":["city"]}}]}`,
			})
			want := map[string]map[string]string{}
			var events []*event.Event
			for range 60 {
				email := fmt.Sprintf("p%d@example.com", rnd.IntN(6))
				if want[email] == nil {
					want[email] = map[string]string{}
				}
				city, name := fmt.Sprint("city", rnd.IntN(100)), fmt.Sprint("name", rnd.IntN(100))
				want[email]["firstname"] = name
				if rnd.IntN(3) == 0 {
					city = fmt.Sprint("refused", rnd.IntN(3))
				} else {
					want[email]["city"] = city
				}
				events = append(events, identify(fmt.Sprintf(`{"email":%q,"firstname":%q,"city":%q}`, email, name, city)))
			}
			mustDeliver(t, r.run(events...))
			for email, properties := range want {
				if diff := cmp.Diff(properties, r.properties(email)); diff != "" {
					t.Errorf("seed %d, %s: %s", seed, email, diff)
				}
			}
		})
	}
	for seed := range uint64(10) {
		f(seed)
	}
}

package hubspot

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestComplaint18CustomEventsAreLost: without the tier or its scope, for a bad address beside a good token, or for want of a definition. Here they wait
// without being charged an attempt, lose the address alone, and are defined.
func TestComplaint18CustomEventsAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		clear := r.box.Inject(sandbox.Fault{Endpoint: "events", Status: 403})
		clearDefinitions := r.box.Inject(sandbox.Fault{Endpoint: "definitions", Status: 403})
		_, others := r.entries(track("Never Seen"))
		for range 3 {
			var block *destinations.BlockError
			if err := r.send(others)[0].Err; !errors.As(err, &block) {
				t.Fatalf("without the tier: %v, want the lane to wait", err)
			}
			time.Sleep(time.Hour)
		}
		if n := r.logs.Count("HubSpot refuses custom events"); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
		clear()
		clearDefinitions()
		if err := r.send(others)[0].Err; err != nil {
			t.Errorf("with the tier: %v", err)
		}
		got := r.run(serverEvent(fmt.Sprintf(`{"event_type":"x","user":{"email":"not an address"},"hubspotutk":%q}`, aToken)))
		mustDeliver(t, got)
		if ev := r.last(); ev.UTK != aToken || ev.Email != "" {
			t.Errorf("a bad address beside a good token: %+v", ev)
		}
	})
}

package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/router"
)

// reload puts other settings of the destination in force; yaml is as in newVirtual.
func (v *virtual) reload(yaml string) {
	v.t.Helper()
	v.yaml = yaml
	p := v.srv.parts
	now := v.srv.state.Load()
	p.earlier = &assembled{now.cfg, now.routes}
	cfg := v.config()
	made, _, err := routes(cfg, p)
	if err != nil {
		v.t.Fatal(err)
	}
	if err := v.srv.router.Reload(made); err != nil {
		v.t.Fatal(err)
	}
	v.srv.state.Store(&state{cfg: cfg, routes: made, redact: now.redact})
}

// TestReloadWhileHubSpotIsSlow: a call takes almost as long as it may when the mapping changes. It ends as it was meant, and the next write of its contact has
// the new mapping; others wait for no longer than it takes.
func TestReloadWhileHubSpotIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var way atomic.Int64
		way.Store(int64(100 * time.Millisecond))
		v := newVirtual(t, sandbox.Options{}, func() time.Duration { return time.Duration(way.Load()) }, "")
		v.start()
		defer v.stop()
		v.post(`{"event_type":"user_identify","user":{"email":"warm@example.com"}}`) // reads what there is of properties
		v.drain(time.Minute)
		way.Store(int64(14 * time.Second))
		v.post(`{"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"Ada"}}`)
		time.Sleep(time.Second)
		way.Store(int64(100 * time.Millisecond))
		v.reload("      properties: {map: {jobtitle: boss}}\n")
		v.post(`{"event_type":"user_identify","user":{"email":"ada@example.com","lastname":"Lovelace"}}`)
		time.Sleep(time.Second)
		if got := v.states(); !strings.Contains(got, "contacts swapping 1") {
			t.Errorf("states %s", got)
		}
		began := time.Now()
		v.drain(time.Minute)
		if took := time.Since(began); took > 14*time.Second {
			t.Errorf("it took %v", took)
		}
		ada, _ := v.box.Contact("ada@example.com")
		if ada.Properties["firstname"] != "Ada" || ada.Properties["lastname"] != "Lovelace" || ada.Properties["jobtitle"] != "boss" {
			t.Errorf("contact %+v", ada.Properties)
		}
		writes := 0
		for _, c := range v.made() {
			if !strings.Contains(c.body, "ada@example.com") {
				continue
			}
			writes++
			if first := strings.Contains(c.body, `"Ada"`); first == strings.Contains(c.body, "boss") {
				t.Errorf("the mapping changes within a call: %s", c.body)
			}
		}
		if writes != 2 {
			t.Errorf("%d writes of the contact, want 2", writes)
		}
		if got := v.states(); strings.Contains(got, "swapping") {
			t.Errorf("states %s", got)
		}
	})
}

// TestReloadManyTimes: the mapping changes every second while people write; each contact ends with the last value, and what is written after a reload has its mapping.
func TestReloadManyTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, sandbox.Options{}, constant(700*time.Millisecond), "")
		v.start()
		defer v.stop()
		last := map[string]string{}
		for i := range 50 {
			v.reload(fmt.Sprintf("      properties: {map: {jobtitle: boss%d}}\n", i))
			for n := range 20 {
				email, name := fmt.Sprintf("p%d@example.com", (i+n)%30), fmt.Sprintf("%d.%d", i, n)
				last[email] = name
				v.post(fmt.Sprintf(`{"event_type":"user_identify","user":{"email":%q,"firstname":%q}}`, email, name))
				time.Sleep(50 * time.Millisecond)
			}
		}
		v.drain(time.Minute)
		for email, name := range last {
			c, _ := v.box.Contact(email)
			if got := c.Properties["firstname"]; got != name {
				t.Errorf("%s: first name %q, want %q", email, got, name)
			}
			var i, n int
			fmt.Sscanf(name, "%d.%d", &i, &n)
			// What waits has the mapping that is in force when it leaves.
			var boss int
			if _, err := fmt.Sscanf(c.Properties["jobtitle"], "boss%d", &boss); err != nil || boss < i {
				t.Errorf("%s: job title %q, written after reload %d", email, c.Properties["jobtitle"], i)
			}
		}
	})
}

// states are the lanes with their states and calls that began before a reload.
func (v *virtual) states() string {
	var all []string
	for _, l := range v.srv.router.Status() {
		if l.State == router.Flowing {
			all = append(all, l.Name.Lane+" flowing")
			continue
		}
		all = append(all, fmt.Sprintf("%s %s %d", l.Name.Lane, l.State, l.OldCalls))
	}
	return strings.Join(all, ", ")
}

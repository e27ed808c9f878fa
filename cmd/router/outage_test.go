package main

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestOutage: however HubSpot is away, and for longer than retry.max_age, nothing becomes a dead letter, and all is delivered in order when it is back.
func TestOutage(t *testing.T) {
	f := func(fault sandbox.Fault, refused error) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			v := newVirtual(t, sandbox.Options{}, constant(50*time.Millisecond), "    retry: {max_age: 10m}\n")
			v.start()
			v.post(`{"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"before"}}`)
			v.drain(time.Hour)
			back := v.box.Inject(fault)
			v.refuse.Store(&refused)
			for i := range 10 {
				v.post(fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"post %d"}}`, i), `{"event_type":"seen","user":{"email":"ada@example.com"}}`)
				time.Sleep(5 * time.Minute)
			}
			v.wantProperty("ada@example.com", "firstname", "before")
			back()
			v.refuse.Store(nil)
			v.drain(time.Hour)
			if letters := v.letters(); len(letters) != 0 {
				t.Errorf("%+v, %v: %d dead letters, the first is %s: %s", fault, refused, len(letters), letters[0].Reason, letters[0].Error)
			}
			v.wantProperty("ada@example.com", "firstname", "post 9")
			if n := v.box.EventCount(); n != 10 {
				t.Errorf("%+v, %v: %d custom events", fault, refused, n)
			}
			v.stop()
		})
	}
	f(sandbox.Fault{Status: http.StatusServiceUnavailable}, nil)
	f(sandbox.Fault{Drop: true}, nil)
	f(sandbox.Fault{}, fmt.Errorf("dial: %w", syscall.ECONNREFUSED))
}

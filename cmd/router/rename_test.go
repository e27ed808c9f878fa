package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/connections"
)

// TestAppIsRenamed: the configuration gives an app another name. Nothing is sent by the connections of the old one, nothing is lost, and the router says what is orphaned and what to do; with the
// old name, or when the accounts have connected anew, all goes out, to the hubs that it is for.
func TestAppIsRenamed(t *testing.T) {
	f := func(name string, mend func(r *appRig)) {
		t.Run(name, func(t *testing.T) {
			inAppRig(t, "", func(r *appRig) {
				r.connect("a1", "1001")
				r.connect("a2", "1002")
				down := errors.New("HubSpot is down")
				r.refuse.Store(&down)
				r.post(`{"tenant":"a1","event_type":"user_identify","user":{"email":"ada@example.com","firstname":"first"}}`)
				time.Sleep(time.Minute)
				r.rename("sales")
				r.refuse.Store(nil)
				r.post(`{"tenant":"a1","event_type":"user_identify","user":{"email":"ada@example.com","firstname":"second"}}`,
					`{"tenant":"a2","event_type":"user_identify","user":{"email":"bob@example.com"}}`)
				time.Sleep(10 * time.Minute)
				if got := r.holds("1001") + r.holds("1002"); got != "" {
					t.Errorf("the hubs hold %s, want nothing", got)
				}
				if got := r.logs.String(); !strings.Contains(got, "2 accounts are connected by the app crm, which is not in the configuration") {
					t.Errorf("nothing of it in the log:\n%s", got)
				}
				if c, _ := r.srv.connected.Get("crm", "a1"); c.Hub != "1001" || c.Reason != "the app is not in the configuration" {
					t.Errorf("what is told of the account: %+v", c)
				}
				if got := r.check(); !strings.Contains(got, "warning: apps: 2 accounts are connected by the app crm, which is not in the configuration") {
					t.Errorf("router check: %s", got)
				}
				mend(r)
				r.want("1001", "ada@example.com second")
				r.want("1002", "bob@example.com")
				if n := r.box.ContactCount(); n != 0 {
					t.Errorf("%d contacts in a hub that nobody has connected", n)
				}
			})
		})
	}
	f("back", func(r *appRig) { r.rename("crm") })
	f("connected anew", func(r *appRig) {
		r.connect("a1", "1001")
		r.connect("a2", "1002")
		for _, account := range []string{"a1", "a2"} { // takes no token away from the app of today
			if _, err := r.srv.connected.Disconnect(r.t.Context(), "crm", account); err != nil {
				r.t.Error(err)
			}
		}
		if left, _ := r.srv.connected.List("", "", [2]string{}, 10); len(left) != 2 || left[0].Status != connections.Connected || left[0].App != "sales" {
			r.t.Errorf("left: %+v", left)
		}
		time.Sleep(time.Hour) // the tokens are refreshed
	})
}

// check is what router check says of the data directory.
func (r *appRig) check() string {
	r.t.Helper()
	cfg, err := config.Parse("virtual.yaml", []byte(r.text()), func(string) (string, bool) { return "", false })
	if err != nil {
		r.t.Fatal(err)
	}
	var out strings.Builder
	if err := checkKeys(streams{out: &out}, cfg); err != nil {
		r.t.Error(err)
	}
	return out.String()
}

// rename restarts the router with another name of its app, which at HubSpot is the same.
func (r *appRig) rename(app string) {
	r.t.Helper()
	r.stop()
	r.app = app
	r.start()
}

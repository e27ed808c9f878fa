package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestTwoAccountsOfOneHub: accounts that are connected to the same hub share its quota. HubSpot refuses no call of theirs, the quota is used, each has its share while both have much to send, and one
// with little is not behind the other's backlog.
func TestTwoAccountsOfOneHub(t *testing.T) {
	inAppRig(t, "", func(r *appRig) {
		for _, account := range []string{"a1", "a2", "a3"} {
			r.connect(account, "1001")
		}
		setting := httptest.NewRecorder() // calls in ten seconds, of up to 100 contacts
		r.box.ServeHTTP(setting, httptest.NewRequest(http.MethodPatch, "/_sandbox/hubs/1001/options", strings.NewReader(`{"app_burst": 8}`)))
		if setting.Code != http.StatusOK {
			t.Fatalf("the sandbox: %d %s", setting.Code, setting.Body)
		}
		r.way = constant(time.Second) // so that calls of both are under way together
		const each = 1600
		var texts []string
		for i := range each {
			for _, account := range []string{"a1", "a2"} {
				texts = append(texts, fmt.Sprintf(`{"tenant":%q,"event_type":"user_identify","user":{"email":"p%d@%s.example","firstname":"x"}}`, account, i, account))
			}
		}
		r.post(texts...)
		time.Sleep(25 * time.Second)
		written := func() (all map[string]int) {
			all = map[string]int{}
			for _, c := range r.box.Hub("1001").Contacts() {
				_, host, _ := strings.Cut(c.Properties["email"], "@")
				all[host]++
			}
			return all
		}
		half := written()
		if a, b := half["a1.example"], half["a2.example"]; a+b < 1200 || min(a, b) < 2*max(a, b)/3 {
			t.Errorf("after 25 s: %v, want about as many of each, and the hub's quota used", half)
		}
		r.post(`{"tenant":"a3","event_type":"user_identify","user":{"email":"little@a3.example"}}`)
		time.Sleep(15 * time.Second)
		if written()["a3.example"] != 1 {
			t.Error("an account with one event waits for the backlogs of the others")
		}
		r.drain(5 * time.Minute)
		if all := written(); all["a1.example"] != each || all["a2.example"] != each {
			t.Errorf("in the end: %v, want %d of each", all, each)
		}
		for _, c := range r.made() {
			if c.status == http.StatusTooManyRequests {
				t.Errorf("HubSpot refused %s at %s", c.path, c.sent)
			}
		}
	})
}

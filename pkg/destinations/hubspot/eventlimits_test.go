package hubspot

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

func (r *rig) fillDefinitions(n int) {
	for i := range n {
		r.http(http.MethodPost, "/events/v3/event-definitions", fmt.Sprintf(`{"label":"Old %d","name":"old_%d","includeDefaultProperties":true,"propertyDefinitions":[]}`, i, i))
	}
}

// TestAnAccountWithoutRoom has its 500 definitions: events of new names wait a little, then they are skipped; those of others flow.
func TestAnAccountWithoutRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.fillDefinitions(500)
		began := time.Now()
		got := r.run(track("new one"), track("old_7"), track("new two"))
		var all []string
		for _, g := range got {
			if g.entry.Plan.Lane == laneEvents {
				all = append(all, g.entry.Event.Type()+" "+outcomeOf(g.outcome.Err))
			}
		}
		want := []string{"old_7 delivered", "new one skipped: no room for a definition", "new two skipped: no room for a definition"}
		if diff := cmp.Diff(want, all); diff != "" {
			t.Error(diff)
		}
		if waited := time.Since(began); waited < fullPatience || waited > fullPatience+2*fullAgain {
			t.Errorf("new names waited %v", waited)
		}
		asked := r.calls("definitions/create", 400)
		for range 100 {
			if o := outcomeOf(last(r.run(track(fmt.Sprint("more", r.offset)))).outcome.Err); o != "skipped: no room for a definition" {
				t.Errorf("a further name is %s", o)
			}
		}
		if n := r.calls("definitions/create", 400); n != asked {
			t.Errorf("100 further names asked %d times", n-asked)
		}
		if n := r.logs.Count("no room for more event definitions"); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
		// Somebody deletes one.
		r.http(http.MethodDelete, "/events/v3/event-definitions/old_3", "")
		time.Sleep(fullRarely)
		mustDeliver(t, r.run(track("new one")))
		if r.logs.Count("takes new event definitions again") != 1 {
			t.Error("no word in the log that there is room again")
		}
	})
}

func last(results []result) result { return results[len(results)-1] }

// TestWordsOfAFullAccount are those that HubSpot might use, for it documents none.
func TestWordsOfAFullAccount(t *testing.T) {
	f := func(body string, room, deleted bool) {
		t.Helper()
		r := parseRefusal([]byte(body))
		if r.aboutRoom() != room || r.aboutDeleted() != deleted {
			t.Errorf("%s: about room %t, about a deleted name %t", body, r.aboutRoom(), r.aboutDeleted())
		}
	}
	f(`{"message":"The limit of 500 event definitions is reached"}`, true, false)
	f(`{"message":"You can no longer create events: maximum reached"}`, true, false)
	f(`{"message":"Too many custom events"}`, true, false)
	f(`{"message":"no","category":"EVENT_DEFINITION_LIMIT_EXCEEDED"}`, true, false)
	f(`{"message":"no","errors":[{"code":"EVENT_LIMIT_EXCEEDED","message":"x"}]}`, true, false)
	f(`{"message":"Event name is longer than the limit of 50 characters"}`, false, false)
	f(`{"message":"The limit of 50 custom properties of an event is exceeded"}`, false, false)
	f(`{"message":"Label exceeds the maximum length"}`, false, false)
	f(`{"message":"You have reached your rate limit for events"}`, false, false)
	f(`{"message":"Event name x was used by a deleted event and cannot be used again"}`, false, true)
	f(`{"message":"x is archived"}`, false, true)
	f(`{"message":"no","subCategory":"EVENT_NAME_PREVIOUSLY_DELETED"}`, false, true)
	f(`{"message":"Event name 5 is invalid"}`, false, false)
	f(`<html>`, false, false)
}

// TestABurntName is about an event that was deleted in HubSpot, which takes its name never again.
func TestABurntName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(track("Order Completed"), track("other")))
		time.Sleep(3 * time.Minute)
		r.http(http.MethodDelete, "/events/v3/event-definitions/order_completed", "")
		var days []int
		for range 3 {
			before := r.calls("definitions/create", 400)
			for range 24 {
				got := last(r.run(track("other"), track("Order Completed")))
				err := got.outcome.Err
				if outcomeOf(err) != "rejected" || !strings.Contains(err.Error(), `events: {map: {"Order Completed": order_completed_2}}`) {
					t.Fatalf("%v", err)
				}
				time.Sleep(time.Hour)
			}
			days = append(days, r.calls("definitions/create", 400)-before)
		}
		if days[0] > 7 || days[2] > 1 {
			t.Errorf("a name that is gone for good is asked for %v times a day", days)
		}
		if n := r.logs.Count("an event was deleted in HubSpot"); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
		// What the error says helps.
		r.yaml += `events: {map: {"Order Completed": order_completed_2}}` + "\n"
		r.reload()
		mustDeliver(t, r.run(track("Order Completed")))
		if name := r.last().EventName; name != "pe12345_order_completed_2" {
			t.Errorf("the event is a %s", name)
		}
	})
	// HubSpot may also say that the name is there, and that it is archived.
	f := func(status int, body string, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(track("other")))
			r.box.Inject(sandbox.Fault{Endpoint: "definitions/create", Status: 409, Body: `{"category":"OBJECT_ALREADY_EXISTS","message":"exists"}`})
			r.box.Inject(sandbox.Fault{Endpoint: "definitions/read", Status: status, Body: body})
			began := time.Now()
			got := last(r.run(track("gone")))
			if outcomeOf(got.outcome.Err) != "rejected" || !strings.Contains(got.outcome.Err.Error(), "gone_2") {
				t.Errorf("%s: %v", body, got.outcome.Err)
			}
			if took := time.Since(began).String(); took != want {
				t.Errorf("%s: found after %s, want %s", body, took, want)
			}
		})
	}
	f(200, `{"name":"gone","fullyQualifiedName":"pe12345_gone","archived":true}`, "0s")
	f(404, `{"message":"not found"}`, "2m2s")
}

// TestOneBadPropertyOfANewDefinition is about a name that HubSpot does not take for a property: it is left out alone.
func TestOneBadPropertyOfANewDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		const answer = `{"category":"VALIDATION_ERROR","message":"Some property is reserved"}`
		r.box.Inject(sandbox.Fault{Endpoint: "definitions", Status: 400, Match: has(`"name":"reserved"`), Body: answer})
		got := r.run(serverEvent(`{"event_type":"x","good":1,"reserved":2,"fine":"3","user":{"email":"a@b.co"}}`))
		mustDeliver(t, got)
		if diff := cmp.Diff(map[string]string{"good": "1", "fine": "3"}, r.last().Properties); diff != "" {
			t.Error(diff)
		}
		if s := detail(t, last(got).outcome).Stripped["reserved"]; s != "unknown" {
			t.Errorf("reserved is stripped as %q", s)
		}
		if n := last(got).tries; n != 1 {
			t.Errorf("%d tries", n)
		}
	})
}

// TestAFullDefinition has its 50 properties: others are left out, and it is said why.
func TestAFullDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		body := func(from, n int) *event.Event {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, `"p%d":"%d",`, from+i, i)
			}
			return serverEvent(`{"event_type":"x",` + b.String() + `"user":{"email":"a@b.co"}}`)
		}
		mustDeliver(t, r.run(body(0, 30)))
		got := r.run(body(30, 30))
		mustDeliver(t, got)
		d := detail(t, last(got).outcome)
		if len(d.Written) != 20 || len(d.Stripped) != 10 || d.Stripped["p55"] != "limit" {
			t.Errorf("%d written, stripped %v", len(d.Written), d.Stripped)
		}
		if n := len(r.box.Definitions()[0].Properties); n != 50 {
			t.Errorf("%d properties in HubSpot", n)
		}
	})
}

// TestCutValuesAreCounted: what is shortened is in the metrics, too.
func TestCutValuesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		got := r.run(serverEvent(fmt.Sprintf(`{"event_type":"x","note":%q,"my_link":%q,"user":{"email":"a@b.co"}}`, strings.Repeat("😀", 200), strings.Repeat("x", 1024))))
		mustDeliver(t, got)
		if diff := cmp.Diff([]string{"note"}, detail(t, last(got).outcome).Cut); diff != "" {
			t.Error(diff)
		}
		if n := r.metric("router_stripped_properties_total", "property", "note", "reason", "cut"); n != 1 {
			t.Errorf("the metric says %v", n)
		}
	})
}

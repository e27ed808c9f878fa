package hubspot

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// TestABadEventInABatch is about what HubSpot does not document: whether an event that it does not take fails the others of its batch. However it
// is, the others arrive once, and the bad one is told of where HubSpot tells of it.
func TestABadEventInABatch(t *testing.T) {
	f := func(mode sandbox.BadEvents, strict bool, bad string, most int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{BadEvents: mode, StrictUUID: strict}, "")
			var events []*event.Event
			for i := range 100 {
				email := fmt.Sprintf("p%d@example.com", i)
				if i == 42 || i == 77 {
					email = bad
				}
				events = append(events, serverEvent(fmt.Sprintf(`{"event_type":"x","n":"%d","user":{"email":"%s"}}`, i, email)))
			}
			mustDeliver(t, r.run(track("x")))
			contacts, others := r.entries(events...)
			r.drain(contacts)
			r.restart() // does not know that the address was refused
			mustDeliver(t, r.run(track("x")))
			before := r.calls(sendEndpoint, 0)
			r.results = nil
			r.drain(others)
			for _, g := range r.results {
				if refused := g.entry.Plan.ID == bad; refused != (g.outcome.Err != nil) && !(refused && mode == sandbox.DropSilently) {
					t.Errorf("mode %d: %s is %s: %v", mode, g.entry.Plan.ID, outcomeOf(g.outcome.Err), g.outcome.Err)
				}
			}
			count := map[string]int{}
			for _, ev := range r.box.Events() {
				count[ev.Properties["n"]]++
			}
			for i := range 100 {
				want := 1
				if i == 42 || i == 77 {
					want = 0
				}
				if n := count[fmt.Sprint(i)]; n != want {
					t.Errorf("mode %d, strict %t: event %d is in HubSpot %d times", mode, strict, i, n)
				}
			}
			if n := r.calls(sendEndpoint, 0) - before; n > most {
				t.Errorf("mode %d: %d calls", mode, n)
			}
		})
	}
	for _, strict := range []bool{false, true} {
		// The answer names the address.
		f(sandbox.RefuseBatch, strict, "bad@nodomain", 4)
		f(sandbox.DropSilently, strict, "bad@nodomain", 1)
		f(sandbox.NamePartly, strict, "bad@nodomain", 1)
		f(sandbox.CountPartly, strict, "bad@nodomain", 1)
	}
}

// TestAPartialAnswerThatNamesNobody is found out by halves, without an event that arrives twice.
func TestAPartialAnswerThatNamesNobody(t *testing.T) {
	f := func(strict bool, body string, bad string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{StrictUUID: strict}, "")
			mustDeliver(t, r.run(serverEvent(`{"event_type":"x","n":"start","user":{"email":"a@b.co"}}`)))
			// HubSpot takes all but that one: the sandbox takes all, so it is counted as if it had not.
			r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: 207, Apply: true, Match: has(`"n":"13"`), Body: body})
			var events []*event.Event
			for i := range 50 {
				events = append(events, serverEvent(fmt.Sprintf(`{"event_type":"x","n":"%d","user":{"email":"p%d@b.co"}}`, i, i)))
			}
			for _, g := range r.run(events...) {
				is13 := g.entry.Plan.Lane == laneEvents && g.entry.Plan.ID == "p13@b.co"
				if want := map[bool]string{false: "delivered", true: bad}[is13]; outcomeOf(g.outcome.Err) != want {
					t.Errorf("%s: %s is %v, want %s", body, g.entry.Plan.ID, g.outcome.Err, want)
				}
			}
			if n := r.box.EventCount(); n != 51 {
				t.Errorf("%s: %d events, want 51", body, n)
			}
		})
	}
	for _, strict := range []bool{false, true} {
		f(strict, `{"status":"COMPLETE","results":[],"numErrors":1,"errors":[{"category":"VALIDATION_ERROR","message":"An event is bad"}]}`, "rejected")
		f(strict, `{"errors":[{"category":"VALIDATION_ERROR","message":"no"}]}`, "rejected")
	}
	f(false, `{"status":"COMPLETE","results":[]}`, "delivered")
}

// TestNothingIsLeftToBeDropped sends what clients send to an account that drops silently what it does not like: all of it arrives.
func TestNothingIsLeftToBeDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{BadEvents: sandbox.DropSilently}, "")
		var events []*event.Event
		values := []string{
			`5`, `1e300`, `-0`, `"x"`, `true`, `null`, `""`, `[1,2]`, `{"a":1}`, `"2026-01-02T03:04:05Z"`, `"9999-01-02T03:04:05Z"`, `"\u0000\ud83d\ude00"`,
			`12345678901234567890`, `"` + strings.Repeat("ü", 5000) + `"`, `"<script>"`, `0.1`, `" "`, `"01234"`,
		}
		for i := range 300 {
			v := func(n int) string { return values[(i*7+n*5)%len(values)] }
			events = append(events, serverEvent(fmt.Sprintf(
				`{"event_type":%s,"plan":%s,"Total Value":%s,"url":%s,"page_title":%s,"revenue":%s,"screen_resolution":%s,"user_language":%s,"hs_page_id":%s,"utc_time":%s,"ünï":%s,"user":{"email":"p%d@b.co","firstname":%s,"hs_object_id":%s},"hubspotutk":%s}`,
				v(0), v(1), v(2), v(3), v(4), v(5), v(6), v(7), v(8), v(9), v(10), i, v(11), v(12), v(13))))
		}
		sent := 0
		for _, g := range r.run(events...) {
			if g.entry.Plan.Lane == laneEvents && g.outcome.Err == nil {
				sent++
			}
		}
		if n := r.box.EventCount(); n != sent || sent < 250 {
			t.Errorf("%d events are said to be delivered, %d are in HubSpot", sent, n)
		}
	})
}

// TestHowHubSpotMaySayThatItKnowsAnEvent: words for programs, words for people, or only the uuid.
func TestHowHubSpotMaySayThatItKnowsAnEvent(t *testing.T) {
	f := func(status int, body, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(track("x")))
			ev := serverEvent(`{"event_type":"x","plan":"pro","user":{"email":"b@b.co"}}`)
			id := destinations.EventUUID(ev, 0).String()
			r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: status, Match: has(id), Body: strings.ReplaceAll(body, "UUID1", id)})
			got := r.run(track("x"), ev)
			if o := outcomeOf(last(got).outcome.Err); o != want {
				t.Errorf("%d %s: %s, want %s", status, body, o, want)
			}
		})
	}
	f(400, `{"category":"VALIDATION_ERROR","message":"An event with uuid UUID1 already exists."}`, "delivered")
	f(409, `{"category":"CONFLICT","message":"Event UUID1"}`, "delivered")
	f(400, `{"category":"VALIDATION_ERROR","message":"No: UUID1"}`, "delivered")
	f(400, `{"category":"VALIDATION_ERROR","message":"no","subCategory":"EventError.DUPLICATE_UUID","context":{"uuid":["UUID1"]}}`, "delivered")
	f(400, `{"category":"VALIDATION_ERROR","message":"no","errors":[{"code":"ALREADY_EXISTS","message":"x","context":{"uuid":["UUID1"]}}]}`, "delivered")
	f(207, `{"numErrors":1,"errors":[{"category":"CONFLICT","message":"no","context":{"uuid":["UUID1"]}}]}`, "delivered")
	f(400, `{"category":"VALIDATION_ERROR","message":"Event UUID1 is invalid"}`, "rejected")
	f(400, `{"category":"VALIDATION_ERROR","message":"Event UUID1: occurredAt is required"}`, "rejected")
	f(400, `{"category":"VALIDATION_ERROR","message":"no","errors":[{"code":"ALREADY_EXISTS","message":"x"}]}`, "rejected")
	f(400, `{"category":"VALIDATION_ERROR","message":"Event 00000000-0000-0000-0000-000000000000 already exists"}`, "rejected")
}

func TestMentionsEmail(t *testing.T) {
	f := func(s, email string, want bool) {
		t.Helper()
		if got := mentionsEmail(s, email); got != want {
			t.Errorf("%q in %q: %t", email, s, got)
		}
	}
	f("email address a@b.co is invalid", "a@b.co", true)
	f("invalid: a@b.co", "a@b.co", true)
	f("invalid: a@b.co.", "a@b.co", true)
	f("invalid: [a@b.co]", "a@b.co", true)
	f("invalid: aa@b.co", "a@b.co", false)
	f("invalid: x+a@b.co", "a@b.co", false)
	f("invalid: a@b.com", "a@b.co", false)
	f("invalid: a@b.co.uk", "a@b.co", false)
	f("invalid: aa@b.co, a@b.co", "a@b.co", true)
	f("", "a@b.co", false)
}

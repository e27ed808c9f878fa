package hubspot

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

const sendEndpoint = "events/send/batch"

// browserEvent is an event of a browser's key.
func browserEvent(body string) *event.Event {
	ev := serverEvent(body)
	ev.Server = false
	return ev
}

func track(eventType string) *event.Event {
	return serverEvent(fmt.Sprintf(`{"event_type":%q,"user":{"email":"a@b.co"}}`, eventType))
}

// last is the newest event that HubSpot took.
func (r *rig) last() sandbox.Event {
	r.t.Helper()
	all := r.box.Events()
	if len(all) == 0 {
		r.t.Fatal("HubSpot has no events")
	}
	return all[len(all)-1]
}

func (r *rig) definitionNames() []string {
	var names []string
	for _, d := range r.box.Definitions() {
		names = append(names, d.Name)
	}
	return names
}

func TestEventCarriesWhatThePageSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Properties: []sandbox.Property{{Name: "plan", Label: "Plan", Type: "string", FieldType: "text"}}}, "")
		page := `"event_id":"","ids":{"ga":"1"},"utc_time":"1999-11-21T02:52:27.371000Z","local_tz_offset":0,"referer":"https://www.google.com/",
			"url":"http://a.b/pricing?x=1","page_title":"Pricing","doc_path":"/pricing","doc_host":"a.b","doc_search":"?x=1",
			"screen_resolution":"1920x1080","vp_size":"1024x768","user_agent":"Mozilla/5.0","user_language":"en-US","doc_encoding":"UTF-8",
			"utm":{"source":"newsletter","medium":"email","campaign":"spring"},"click_id":{"gclid":"G1"},
			"user":{"anonymous_id":"x","id":"123","email":"a@b.co","firstname":"John","plan":"user's","nope":1}`
		own := `"src":"jitsu","api_key":"js.client","event_type":"signup","plan":"pro","seats":3,"trial":true,"none":null,"empty":"","list":[1],"conversion":{"revenue":99.9,"currency":"USD"}`
		want := map[string]string{
			"revenue": "99.9", "hs_page_url": "http://a.b/pricing?x=1", "hs_page_title": "Pricing", "hs_referrer": "https://www.google.com/",
			"hs_user_agent": "Mozilla/5.0", "hs_utm_source": "newsletter", "hs_utm_medium": "email", "hs_utm_campaign": "spring",
			"hs_screen_width": "1920", "hs_screen_height": "1080", "plan": "pro", "seats": "3", "trial": "true", "firstname": "John",
		}
		for _, body := range []string{
			"{" + page + "," + own + "}",
			`{"eventn_ctx":{` + page + "}," + own + "}",
		} {
			mustDeliver(t, r.run(browserEvent(body)))
			got := r.last()
			if diff := cmp.Diff(want, got.Properties); diff != "" {
				t.Errorf("%s\n%s", body, diff)
			}
			if at := got.OccurredAt.Format(occurredLayout); got.Email != "a@b.co" || at != "1999-11-21T02:52:27.371Z" || got.ContactID == "" {
				t.Errorf("e-mail %s, time %s, contact %s", got.Email, at, got.ContactID)
			}
		}
		var types []string
		for _, p := range r.box.Definitions()[0].Properties {
			types = append(types, p.Name+" "+p.Type)
		}
		slices.Sort(types)
		if diff := cmp.Diff([]string{"firstname string", "plan string", "revenue number", "seats number", "trial string"}, types); diff != "" {
			t.Error(diff)
		}
	})
}

func TestDefinitionsAreMadeOnceAndExtended(t *testing.T) {
	f := func(lag time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Lag: lag}, "")
			send := func(body string) result {
				t.Helper()
				got := r.run(serverEvent(body))
				mustDeliver(t, got)
				return got[len(got)-1]
			}
			send(`{"event_type":"Order Completed","total":5,"user":{"email":"a@b.co"}}`)
			if g := send(`{"event_type":"order completed!","total":"7.5","coupon":"X","user":{"email":"a@b.co"}}`); g.tries != 1 {
				t.Errorf("lag %v: %d tries, want the lag to be waited for", lag, g.tries)
			}
			g := send(`{"event_type":"Order Completed","total":"much","user":{"email":"a@b.co"}}`)
			if d := detail(t, g.outcome); d.Stripped["total"] != "value" {
				t.Errorf("stripped %v, want total: value", d.Stripped)
			}
			if diff := cmp.Diff([]string{"order_completed", "order_completed_"}, r.definitionNames()); diff != "" {
				t.Error(diff)
			}
			send(`{"event_type":"ORDER  COMPLETED","user":{"email":"a@b.co"}}`)
			if n := len(r.box.Definitions()); n != 2 {
				t.Errorf("lag %v: %d definitions", lag, n)
			}
			if n := r.box.EventCount(); n != 4 {
				t.Errorf("lag %v: %d events, want 4", lag, n)
			}
			if label := r.box.Definitions()[0].Label; label != "Order Completed" {
				t.Errorf("label %q", label)
			}
		})
	}
	f(0)
	f(700 * time.Millisecond)
	f(900 * time.Millisecond)
}

// TestALongLagIsWaitedFor is about a definition that HubSpot needs longer for than it was ever seen to.
func TestALongLagIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Lag: 9 * time.Second}, "")
		mustDeliver(t, r.run(track("old"), serverEvent(`{"event_type":"new","x":1,"user":{"email":"a@b.co"}}`)))
		mustDeliver(t, r.run(serverEvent(`{"event_type":"new","y":1,"user":{"email":"a@b.co"}}`)))
		if got := r.last().Properties; got["y"] != "1" {
			t.Errorf("properties %v, want the one that was new", got)
		}
	})
}

func TestExistingDefinitionsDecideTheTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "events: {create: false}\n")
		r.http(http.MethodPost, "/events/v3/event-definitions", `{"label":"Order","name":"order","includeDefaultProperties":true,"propertyDefinitions":[
			{"name":"total","label":"Total","type":"number"},
			{"name":"at","label":"At","type":"datetime"},
			{"name":"size","label":"Size","type":"enumeration","options":[{"label":"Extra large","value":"XL"},{"label":"Small","value":"S"}]},
			{"name":"gift","label":"Gift","type":"bool"}]}`)
		got := r.run(
			serverEvent(`{"event_type":"order","total":1e3,"at":"2026-01-02T03:04:05Z","size":"extra LARGE","gift":"yes","other":"x","user":{"email":"a@b.co"}}`),
			serverEvent(`{"event_type":"order","total":"x","at":"x","size":"x","gift":"x","user":{"email":"a@b.co"}}`),
		)
		mustDeliver(t, got)
		want := map[string]string{"total": "1000", "at": "1767323045000", "size": "XL", "gift": "true"}
		if diff := cmp.Diff(want, r.box.Events()[0].Properties); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]string{"other": "unknown"}, detail(t, got[1].outcome).Stripped); diff != "" {
			t.Error(diff)
		}
		stripped := map[string]string{"total": "value", "at": "value", "size": "option", "gift": "value"}
		if diff := cmp.Diff(stripped, detail(t, got[2].outcome).Stripped); diff != "" {
			t.Error(diff)
		}
	})
}

func TestMoreThanFiftyPropertiesAndLongValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		var b strings.Builder
		for i := range 60 {
			fmt.Fprintf(&b, `"f%02d":"%s","link%02d":"%s",`, i, strings.Repeat("ü", 300), i, strings.Repeat("x", 2000))
		}
		got := r.run(serverEvent(`{"event_type":"big","revenue":1,"url":"https://a.b",` + b.String() + `"user":{"email":"a@b.co"}}`))
		mustDeliver(t, got)
		ev := r.last()
		if n := len(ev.Properties); n != 50 {
			t.Errorf("%d properties, want 50", n)
		}
		if ev.Properties["revenue"] != "1" || ev.Properties["hs_page_url"] == "" {
			t.Error("the first in order are not among those kept")
		}
		if a, b := len([]rune(ev.Properties["f00"])), len(ev.Properties["link00"]); a != 256 || b != 1024 {
			t.Errorf("values cut to %d and %d characters, want 256 and 1024", a, b)
		}
		d := detail(t, got[1].outcome)
		if len(d.Written) != 50 || len(d.Cut) != 48 || len(d.Stripped) != 72 {
			t.Errorf("%d written, %d cut, %d stripped", len(d.Written), len(d.Cut), len(d.Stripped))
		}
		if d.Stripped["f24"] != "limit" || d.Stripped["link59"] == "" {
			t.Errorf("stripped: %v", d.Stripped)
		}
	})
}

func TestTheSameEventIsCountedOnce(t *testing.T) {
	f := func(strict bool, inBatch int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{StrictUUID: strict}, "")
			var events []*event.Event
			for i := range inBatch {
				events = append(events, serverEvent(fmt.Sprintf(`{"event_type":"x","n":%d,"user":{"email":"a@b.co"}}`, i)))
			}
			mustDeliver(t, r.run(events...))
			events = append(events, serverEvent(`{"event_type":"x","n":-1,"user":{"email":"a@b.co"}}`))
			got := r.run(events...) // as after a crash
			mustDeliver(t, got)
			if n := r.box.EventCount(); n != inBatch+1 {
				t.Errorf("strict %v: %d events, want %d", strict, n, inBatch+1)
			}
			if strict && !detail(t, got[0].outcome).Repeated {
				t.Error("the detail does not say that it was taken before")
			}
		})
	}
	f(false, 1)
	f(true, 1)
	f(true, 7)
}

func TestOneBadEventIsRejectedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		var events []*event.Event
		for i := range 500 {
			email := fmt.Sprintf("p%d@example.com", i)
			if i == 123 {
				email = "nobody@nodomain"
			}
			events = append(events, serverEvent(fmt.Sprintf(`{"event_type":"x","user":{"email":"%s"}}`, email)))
		}
		// The contact was refused by an earlier process.
		contacts, others := r.entries(events...)
		r.drain(contacts)
		r.restart()
		r.results = nil
		r.drain(others)
		for _, g := range r.results {
			if bad := g.entry.Plan.ID == "nobody@nodomain"; bad != (outcomeOf(g.outcome.Err) == "rejected") {
				t.Errorf("%s: %v", g.entry.Plan.ID, g.outcome.Err)
			}
		}
		if n := r.box.EventCount(); n != 499 {
			t.Errorf("%d events, want 499", n)
		}
		if n := r.calls(sendEndpoint, 0); n > 20 {
			t.Errorf("%d calls to find one of 500", n)
		}
	})
}

func TestEventsOfARefusedAddressAreNotTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		got := r.run(
			serverEvent(`{"event_type":"x","user":{"email":"nobody@nodomain"}}`),
			serverEvent(`{"event_type":"x","user":{"email":"a@b.co"}}`),
		)
		var all []string
		for _, g := range got {
			all = append(all, g.entry.Plan.Lane+" "+g.entry.Plan.ID+" "+outcomeOf(g.outcome.Err))
		}
		want := []string{
			"contacts nobody@nodomain rejected", "contacts a@b.co delivered", "events nobody@nodomain rejected", "events a@b.co delivered",
		}
		if diff := cmp.Diff(want, all); diff != "" {
			t.Error(diff)
		}
		if n := r.calls(sendEndpoint, 400); n != 0 {
			t.Errorf("%d calls were refused", n)
		}
		// Their permits are given back: a second's worth of them would stop the lane.
		for range eventsPerSecond {
			r.send([]destinations.Entry{got[2].entry})
		}
		began := time.Now()
		mustDeliver(t, r.run(track("x")))
		if took := time.Since(began); took != 0 {
			t.Errorf("an event waited %v behind calls that were not made", took)
		}
	})
}

func TestAPropertyThatHubSpotRefusesIsDroppedAlone(t *testing.T) {
	f := func(body string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(serverEvent(`{"event_type":"x","good":"1","bad":"fine","user":{"email":"a@b.co"}}`)))
			r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: 400, Match: has(`"evil"`), Body: body})
			got := r.run(
				serverEvent(`{"event_type":"x","good":"2","bad":"evil","user":{"email":"a@b.co"}}`),
				serverEvent(`{"event_type":"x","good":"3","bad":"fine","user":{"email":"a@b.co"}}`),
			)
			mustDeliver(t, got)
			evs := r.box.Events()
			var all []string
			for _, ev := range evs {
				all = append(all, ev.Properties["good"]+ev.Properties["bad"])
			}
			slices.Sort(all)
			if diff := cmp.Diff([]string{"1fine", "2", "3fine"}, all); diff != "" {
				t.Errorf("after %s: %s", body, diff)
			}
			if d := detail(t, got[0].outcome); d.Stripped["bad"] != "refused" {
				t.Errorf("stripped %v", d.Stripped)
			}
		})
	}
	f(`{"category":"VALIDATION_ERROR","message":"Value of property bad is longer than the limit"}`)
	f(`{"category":"VALIDATION_ERROR","message":"no","errors":[{"code":"INVALID_OPTION","context":{"propertyName":["bad"]}}]}`)
	f(`{"category":"VALIDATION_ERROR","message":"Property values were not valid: [{\"error\":\"INVALID_LONG\",\"name\":\"bad\"}]"}`)
}

func TestBudgetOfNewDefinitions(t *testing.T) {
	names := func(prefix string, n int, make func(string) *event.Event) (events []*event.Event) {
		for i := range n {
			events = append(events, make(fmt.Sprintf(`{"event_type":"%s%d","user":{"email":"a@b.co"}}`, prefix, i)))
		}
		return events
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "events: {new_per_account: 8, browser_new_per_day: 2, define: [Vip Event]}\n")
		skipped := func(results []result) (n int) {
			for _, g := range results {
				switch outcomeOf(g.outcome.Err) {
				case "skipped: undefined event name":
					n++
				case "delivered":
				default:
					t.Errorf("%v", g.outcome.Err)
				}
			}
			return n
		}
		if n := skipped(r.run(names("b", 5, browserEvent)...)); n != 3 {
			t.Errorf("first day: %d skipped of 5 from a browser, want 3", n)
		}
		r.restart() // the count is kept
		if n := skipped(r.run(names("b", 5, browserEvent)...)); n != 3 {
			t.Errorf("after a restart: %d skipped, want 3", n)
		}
		time.Sleep(25 * time.Hour)
		if n := skipped(r.run(names("b", 5, browserEvent)...)); n != 1 {
			t.Errorf("next day: %d skipped, want 1", n)
		}
		if n := skipped(r.run(names("s", 6, serverEvent)...)); n != 2 {
			t.Errorf("%d skipped of 6 from a server, want 2: 8 in all", n)
		}
		if n := skipped(r.run(track("vip  event"))); n != 0 {
			t.Error("a name of events.define was not made")
		}
		if n := len(r.box.Definitions()); n != 9 {
			t.Errorf("%d definitions: %v", n, r.definitionNames())
		}
		if n := r.logs.Count("events: {define: [s5]}"); n != 1 {
			t.Errorf("%d log lines show what to add for s5, want 1", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "events: {create: false, define: [vip]}\n")
		if got := r.run(track("x")); outcomeOf(got[1].outcome.Err) != "skipped: undefined event name" {
			t.Errorf("create: false: %v", got[1].outcome.Err)
		}
		mustDeliver(t, r.run(track("vip")))
	})
}

// TestAMissingTier is about accounts that may not have custom events at all.
func TestAMissingTier(t *testing.T) {
	f := func(name string, o sandbox.Options, contactsToo bool) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, o, "events: {hold: 2h}\n")
			contacts, others := r.entries(track("x"))
			if got := outcomeOf(r.send(contacts)[0].Err); got != "delivered" {
				t.Errorf("%s: the contact is %s", name, got)
			}
			for range 3 {
				if got := outcomeOf(r.send(others)[0].Err); got != "lane" {
					t.Errorf("%s: the event is %s", name, got)
				}
				time.Sleep(time.Minute)
			}
			if n := r.logs.Count("HubSpot refuses custom events"); n != 1 {
				t.Errorf("%s: said %d times, want once", name, n)
			}
			var block *destinations.BlockError
			if err := r.send(others)[0].Err; !errors.As(err, &block) || block.SkipAfter != 2*time.Hour || block.SkipReason != "no tier or scope" {
				t.Errorf("%s: the block does not say how long events wait: %#v", name, err)
			}
		})
	}
	f("no tier", sandbox.Options{NoEnterprise: true}, true)
	f("no scope to send", sandbox.Options{MissingScopes: []string{"analytics.behavioral_events.send"}}, true)
	f("no scope to define", sandbox.Options{MissingScopes: []string{"behavioral_events.event_definitions.read_write"}}, true)
}

func TestTheTierComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		clear := r.box.Inject(sandbox.Fault{Endpoint: "events", Status: 403})
		_, others := r.entries(track("x"))
		if got := outcomeOf(r.send(others)[0].Err); got != "lane" {
			t.Errorf("without the tier: %s", got)
		}
		clear()
		if got := outcomeOf(r.send(others)[0].Err); got != "delivered" {
			t.Errorf("with the tier: %s", got)
		}
		if r.logs.Count("takes custom events again") != 1 {
			t.Error("no word of it in the log")
		}
	})
}

func TestEventsGoWithoutTheSchemaScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{MissingScopes: []string{"crm.schemas.contacts.read"}}, "")
		contacts, others := r.entries(serverEvent(`{"event_type":"x","plan":"pro","user":{"email":"a@b.co","firstname":"A"}}`))
		if o := r.send(contacts)[0]; outcomeOf(o.Err) != "lane" || !strings.Contains(o.Err.Error(), "crm.schemas.contacts.read") {
			t.Errorf("contact: %v", o.Err)
		}
		if got := outcomeOf(r.send(others)[0].Err); got != "delivered" {
			t.Errorf("event: %s", got)
		}
		if diff := cmp.Diff(map[string]string{"plan": "pro"}, r.last().Properties); diff != "" {
			t.Error(diff)
		}
	})
}

func TestADefinitionThatSomebodyElseMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Lag: 500 * time.Millisecond}, "")
		mustDeliver(t, r.run(track("old"))) // the list is loaded
		r.http(http.MethodPost, "/events/v3/event-definitions", `{"label":"New","name":"new","includeDefaultProperties":true,
			"propertyDefinitions":[{"name":"x","label":"X","type":"number"}]}`)
		got := r.run(serverEvent(`{"event_type":"new","x":"text","y":1,"user":{"email":"a@b.co"}}`))
		mustDeliver(t, got)
		if diff := cmp.Diff(map[string]string{"y": "1"}, r.last().Properties); diff != "" {
			t.Error(diff)
		}
	})
}

func TestADefinitionThatSomebodyDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(track("x"), track("y")))
		time.Sleep(3 * time.Minute)
		r.http(http.MethodDelete, "/events/v3/event-definitions/x", "")
		got := r.run(track("y"), track("x"), track("x"), track("y"))
		for _, g := range got {
			// HubSpot lets nobody use the name of a deleted event again.
			want := "delivered"
			if g.entry.Event.Type() == "x" && g.entry.Plan.Lane == laneEvents {
				want = "rejected"
			}
			if o := outcomeOf(g.outcome.Err); o != want {
				t.Errorf("%s: %s (%v), want %s", g.entry.Event.Type(), o, g.outcome.Err, want)
			}
		}
	})
}

func TestEventsWaitOnlyForTheDefinitionsTheyNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(track("old")))
		r.box.Inject(sandbox.Fault{Endpoint: "definitions", Status: 503})
		_, others := r.entries(track("old"), track("new"))
		out := r.send(others)
		if got := outcomeOf(out[0].Err); got != "delivered" {
			t.Errorf("defined: %s", got)
		}
		if got := outcomeOf(out[1].Err); got != "retry" {
			t.Errorf("not defined: %s", got)
		}
	})
}

func TestAPoisonedEventIsFoundAndRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: 500, Match: has("p7@example.com")})
		var events []*event.Event
		for i := range 20 {
			events = append(events, serverEvent(fmt.Sprintf(`{"event_type":"x","user":{"email":"p%d@example.com"}}`, i)))
		}
		_, left := r.entries(events...)
		for round := 0; len(left) > 0; round++ {
			if round > 20 {
				t.Fatalf("%d entries are still tried", len(left))
			}
			var again []destinations.Entry
			for i, o := range r.send(left) {
				switch bad := left[i].Plan.ID == "p7@example.com"; {
				case !isFinal(o.Err):
					again = append(again, left[i])
				case bad != (o.Err != nil):
					t.Errorf("%s: %v", left[i].Plan.ID, o.Err)
				}
			}
			left = again
			time.Sleep(time.Second)
			mustDeliver(t, r.run(track("x")))
		}
	})
}

func TestEventName(t *testing.T) {
	f := func(s, want string) {
		t.Helper()
		if got := eventName(s); got != want {
			t.Errorf("eventName(%q) = %q, want %q", s, got, want)
		}
	}
	f("signed_up", "signed_up")
	f("Signed Up", "signed_up")
	f("Order Completed!", "order_completed_")
	f("a--b..c", "a_b_c")
	f("a__b", "a__b")
	f(" Signed Up\n", "signed_up")
	f("5", "e_5")
	f("_plan", "e_plan")
	f("$plan", "e_plan")
	f("", "unknown")
	f("!!!", "unknown")
	f("Größe", "gr_e")
	f(strings.Repeat("x", 80), strings.Repeat("x", 50))
	f("заказ", "e_1d30e44f")
	f("заказ 1", "e_1_57c84a64")
	if a, b := eventName("заказ"), eventName("оплата"); a == b {
		t.Errorf("two names in another script are both %s", a)
	}
}

package hubspot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// TestAListCutShortIsNotBelieved is about properties and definitions that HubSpot has and a damaged answer does not show: they would be
// stripped, or made.
func TestAListCutShortIsNotBelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{
			Endpoint: "properties/list", Times: 1, Status: 200,
			Body: `{"results":[{"name":"email","type":"string","fieldType":"text"},{"name":"firstname","type":"string","fieldType":"text"},{"name":"ci`,
		})
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","firstname":"A","city":"Rome"}`)))
		if diff := cmp.Diff(map[string]string{"firstname": "A", "city": "Rome"}, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "events: {create: false}\n")
		r.http(http.MethodPost, "/events/v3/event-definitions", `{"label":"X","name":"x","propertyDefinitions":[]}`)
		r.box.Inject(sandbox.Fault{
			Endpoint: "definitions", Times: 1, Status: 200,
			Body: `{"results":[{"name":"other","fullyQualifiedName":"pe12345_other"},{"name":"xx`,
		})
		mustDeliver(t, r.run(track("x")))
	})
}

// TestAnUpsertAnswerCutShort is about a trace id of which only the beginning came: it names another contact.
func TestAnUpsertAnswerCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Times: 1, Status: 200, Body: `{"status":"COMPLETE","results":[{"id":"7","objectWriteTraceId":"1`,
		})
		mustDeliver(t, r.run(people(20)...))
		if n := r.box.ContactCount(); n != 20 {
			t.Errorf("%d contacts, want 20", n)
		}
	})
}

// TestAnErrorOfAnotherInput is about errors that name an input, but none that is open: nobody else is rejected for them.
func TestAnErrorOfAnotherInput(t *testing.T) {
	for _, trace := range []string{"0", "99"} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			r.box.Inject(sandbox.Fault{
				Endpoint: upsertEndpoint, Times: 1, Status: 207,
				Body: `{"results":[{"id":"1","objectWriteTraceId":"0"},{"id":"2","objectWriteTraceId":"2"}],"numErrors":1,"errors":[
					{"category":"VALIDATION_ERROR","message":"bad","context":{"objectWriteTraceId":["` + trace + `"]}}]}`,
			})
			mustDeliver(t, r.run(people(3)...))
			if _, ok := r.box.Contact("p1@example.com"); !ok {
				t.Errorf("error of %s: the contact that was left out is not there", trace)
			}
		})
	}
}

// TestEventsThatNobodyTook is about answers that say 200 and do not come from where events are taken.
func TestEventsThatNobodyTook(t *testing.T) {
	f := func(body, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(track("x")))
			r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: 200, Body: body})
			_, others := r.entries(track("x"))
			if got := outcomeOf(r.send(others)[0].Err); got != want {
				t.Errorf("%s: %s, want %s", body, got, want)
			}
		})
	}
	f(`<html>Sign in to the network</html>`, "lane")
	f(`{"status":"error","category":"VALIDATION_ERROR","message":"no"}`, "rejected")
	f(`{"status":"error","message":"no"}`, "retry")
	f(`{"status":"err`, "lane")
	f(`{"status":"COMPLETE"}`, "delivered")
	f(`{}`, "delivered")
	f(" \n", "delivered")
}

// TestRefusalsThatAreNotAboutInputs is about answers that would be the same for each half of a batch.
func TestRefusalsThatAreNotAboutInputs(t *testing.T) {
	f := func(fault sandbox.Fault) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(track("x")))
			var events []*event.Event
			for i := range 100 {
				events = append(events, serverEvent(fmt.Sprintf(`{"event_type":"x","user":{"email":"p%d@b.co"}}`, i)))
			}
			contacts, others := r.entries(events...)
			before := r.calls("", 0)
			r.box.Inject(fault)
			for _, o := range append(r.send(contacts), r.send(others)...) {
				if got := outcomeOf(o.Err); got != "retry" {
					t.Errorf("status %d: %s, want retry", fault.Status, got)
				}
			}
			if n := r.calls("", 0) - before; n > 2 {
				t.Errorf("status %d: %d calls for two batches", fault.Status, n)
			}
		})
	}
	f(sandbox.Fault{Status: 410, Body: `{"message":"This API is gone"}`})
	f(sandbox.Fault{Status: 402})
	f(sandbox.Fault{Status: 451, Body: `<html>no</html>`})
	f(sandbox.Fault{Status: 207, Body: `{"results":[],"numErrors":1,"errors":[{"category":"RATE_LIMITS","message":"busy"}]}`})
	f(sandbox.Fault{Status: 200, Body: `{"status":"error","message":"busy","errors":[{"message":"busy"}]}`})
}

// TestAConflictAfterAnOutage is about an entry that was tried often, for other reasons: its first conflict is not its last.
func TestAConflictAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: "contacts", Times: 8, Status: 502})
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 2, Status: 409, Body: `{"category":"CONFLICT","message":"Contact already exists"}`})
		mustDeliver(t, r.run(identify(`{"email":"a@b.co"}`)))
	})
}

// TestABadValueGivesWayToAnOlderOne is about entries that were merged: applied one after the other, the older value would stand.
func TestABadValueGivesWayToAnOlderOne(t *testing.T) {
	f := func(status int, body string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: status, Match: has("atlantis"), Body: body})
			got := r.run(
				identify(`{"email":"a@b.co","firstname":"1","city":"Rome"}`),
				identify(`{"email":"a@b.co","city":"atlantis"}`),
				identify(`{"email":"a@b.co","firstname":"2","city":"atlantis"}`),
			)
			mustDeliver(t, got)
			if diff := cmp.Diff(map[string]string{"firstname": "2", "city": "Rome"}, r.properties("a@b.co")); diff != "" {
				t.Error(diff)
			}
			if d := detail(t, got[0].outcome); d.Stripped["city"] != "refused" {
				t.Errorf("nobody is told: %+v", d)
			}
		})
	}
	const problem = `"category":"VALIDATION_ERROR","message":"x","errors":[{"code":"INVALID_OPTION","message":"no","context":{"propertyName":["city"]}}]`
	f(400, `{"status":"error",`+problem+`}`)
	f(207, `{"results":[],"numErrors":1,"errors":[{"context":{"objectWriteTraceId":["0"]},`+problem+`}]}`)
}

// TestACallThatWasNeverMade is about a Send that is cut short before its call.
func TestACallThatWasNeverMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(track("x")))
		contacts, others := r.entries(serverEvent(`{"event_type":"x","user":{"email":"c@b.co"}}`))
		for _, batch := range [][]destinations.Entry{contacts, others} {
			ctx, cancel := context.WithCancel(context.Background())
			p, err := r.dest.Acquire(ctx, "", batch[0].Plan.Lane)
			if err != nil {
				t.Fatal(err)
			}
			before := r.calls("", 0)
			cancel()
			o := r.dest.Send(ctx, p, batch)[0]
			if got := outcomeOf(o.Err); got != "retry" || !errors.Is(o.Err, context.Canceled) {
				t.Errorf("%s: %s, %v", batch[0].Plan.Lane, got, o.Err)
			}
			if n := r.calls("", 0) - before; n != 0 {
				t.Errorf("%s: %d calls", batch[0].Plan.Lane, n)
			}
		}
		if n := r.dest.account.inFlight(); n != 0 {
			t.Errorf("%d permits are lost", n)
		}
	})
}

// TestDefinitionsOfAHangingHubSpot is about names that are all to be made: one that gets no answer speaks for the others.
func TestDefinitionsOfAHangingHubSpot(t *testing.T) {
	f := func(fault sandbox.Fault, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(track("old")))
			fault.Endpoint = "definitions"
			r.box.Inject(fault)
			var events []*event.Event
			for i := range 20 {
				events = append(events, track(fmt.Sprintf("new%d", i)))
			}
			_, others := r.entries(append(events, track("old"))...)
			began, before := time.Now(), r.calls("", 0)
			out := r.send(others)
			for i, o := range out[:20] {
				if got := outcomeOf(o.Err); got != want {
					t.Errorf("new%d: %s, want %s", i, got, want)
				}
			}
			if took := time.Since(began); took > 2*callTimeout {
				t.Errorf("one Send took %v", took)
			}
			if n := r.calls("", 0) - before; n > 2 {
				t.Errorf("%d calls", n)
			}
		})
	}
	f(sandbox.Fault{Delay: time.Hour}, "retry")
	f(sandbox.Fault{Status: 401}, "account")
}

// TestArchivedDefinitions is about names that HubSpot still lists, or answers for, and takes no events of.
func TestArchivedDefinitions(t *testing.T) {
	const archived = `{"name":"x","fullyQualifiedName":"pe12345_x","archived":true,"properties":[]}`
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: "definitions/list", Times: 1, Status: 200, Body: `{"results":[` + archived + `]}`})
		clear := r.box.Inject(sandbox.Fault{Endpoint: "definitions/read", Status: 200, Body: archived})
		mustDeliver(t, r.run(track("x")))
		clear()
		if n := r.box.EventCount(); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// TestDefinitionsOfOthersAreNotInTheBudget is about names that somebody else defined meanwhile.
func TestDefinitionsOfOthersAreNotInTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "events: {new_per_account: 1}\n")
		r.http(http.MethodGet, "/events/v3/event-definitions", "")
		r.box.Inject(sandbox.Fault{Endpoint: "definitions/list", Times: 1, Status: 200, Body: `{"results":[]}`})
		r.http(http.MethodPost, "/events/v3/event-definitions", `{"label":"A","name":"theirs","propertyDefinitions":[]}`)
		mustDeliver(t, r.run(track("theirs")))
		mustDeliver(t, r.run(track("ours")))
	})
}

// TestNamesOfAnyLength is about members that a client gives names of any length: what is told of them stays short.
func TestNamesOfAnyLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		long := strings.Repeat("x", 100_000)
		got := r.run(identify(`{"email":"a@b.co","`+long+`":1}`), serverEvent(`{"event_type":"`+long+`","user":{"email":"a@b.co"}}`))
		mustDeliver(t, got)
		for _, g := range got {
			if n := len(g.outcome.Detail); n > 1000 {
				t.Errorf("%s: a detail of %d bytes", g.entry.Plan.Lane, n)
			}
		}
		if n := len(r.logs.String()); n > 10_000 {
			t.Errorf("%d bytes of log", n)
		}
		families, err := r.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		if n := len(fmt.Sprint(families)); n > 50_000 {
			t.Errorf("%d bytes of metrics", n)
		}
	})
}

// TestAPoisonAmongManyMergedWrites is about a contact with many waiting writes, of which HubSpot refuses one without saying why.
func TestAPoisonAmongManyMergedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(people(1)...))
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: 400, Match: has("poison"), Body: `{"message":"no"}`})
		var events []*event.Event
		for i := range 300 {
			lastname := ""
			if i == 123 {
				lastname = `,"lastname":"poison"`
			}
			events = append(events, identify(fmt.Sprintf(`{"email":"a@b.co","firstname":"%d"%s}`, i, lastname)))
		}
		before := r.calls(upsertEndpoint, 0)
		for i, g := range r.run(events...) {
			if (i == 123) != (outcomeOf(g.outcome.Err) == "rejected") {
				t.Errorf("write %d: %v", i, g.outcome.Err)
			}
		}
		if diff := cmp.Diff(map[string]string{"firstname": "299"}, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
		if n := r.calls(upsertEndpoint, 0) - before; n > 20 {
			t.Errorf("%d calls to find one of 300", n)
		}
	})
}

// TestWhatIsNoRepetition is about refusals that speak of a uuid, and not of one that was taken before.
func TestWhatIsNoRepetition(t *testing.T) {
	f := func(body string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(serverEvent(`{"event_type":"x","uuid":"1","user":{"email":"a@b.co"}}`)))
			r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: 400, Match: has(`"uuid":"evil"`), Body: body})
			mustDeliver(t, r.run(serverEvent(`{"event_type":"x","uuid":"evil","user":{"email":"a@b.co"}}`)))
			if n := r.box.EventCount(); n != 2 {
				t.Errorf("%s: HubSpot has %d events, want 2", body, n)
			}
		})
	}
	f(`{"category":"VALIDATION_ERROR","message":"Property uuid was refused"}`)
	f(`{"category":"VALIDATION_ERROR","message":"no","errors":[{"code":"INVALID_OPTION","message":"uuid is already an option","context":{"propertyName":["uuid"]}}]}`)
}

package hubspot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

const upsertEndpoint = "contacts/batch/upsert"

// has matches bodies that hold s.
func has(s string) func([]byte) bool {
	return func(body []byte) bool { return bytes.Contains(body, []byte(s)) }
}

// people are n identifies of different people, p0@example.com and so on.
func people(n int) []*event.Event {
	all := make([]*event.Event, n)
	for i := range all {
		all[i] = identify(fmt.Sprintf(`{"email":"p%d@example.com","firstname":"P%d"}`, i, i))
	}
	return all
}

func TestIdentifiesMergeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		got := r.run(
			identify(`{"email":" John.Doe@Example.com ","firstname":"J","city":"Rome","phone":"+49 1"}`),
			identify(`{"email":"amy@example.com","firstname":"Amy"}`),
			identify(`{"Email":"JOHN.DOE@example.com","FirstName":"John","city":"","phone":null,"Job Title":"x","createdate":"2020-01-01","nope":1}`),
		)
		mustDeliver(t, got)
		want := map[string]string{"firstname": "John", "city": "Rome", "phone": "+49 1"}
		if diff := cmp.Diff(want, r.properties("john.doe@example.com")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]string{"firstname": "Amy"}, r.properties("amy@example.com")); diff != "" {
			t.Error(diff)
		}
		if n := r.calls(upsertEndpoint, 0); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
		d := detail(t, got[2].outcome)
		if d.ContactID == "" || !d.New || d.Merged != 2 || d.CorrelationID == "" {
			t.Errorf("detail %+v", d)
		}
		stripped := map[string]string{"job_title": "unknown", "createdate": "read-only", "nope": "unknown"}
		if diff := cmp.Diff(stripped, d.Stripped); diff != "" {
			t.Error(diff)
		}
		if n := r.metric("router_stripped_properties_total", "property", "createdate", "reason", "read-only"); n != 1 {
			t.Errorf("stripped metric is %v, want 1", n)
		}
	})
}

func TestMembersThatCleanToOneNameCollide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		got := r.run(identify(`{"email":"a@b.co","JobTitle":"first","jobtitle":"second","JOBTITLE":""}`))
		mustDeliver(t, got)
		if p := r.properties("a@b.co")["jobtitle"]; p != "second" {
			t.Errorf("jobtitle is %q, want the later one that is not empty", p)
		}
		if d := detail(t, got[0].outcome); !cmp.Equal(d.Collided, []string{"jobtitle"}) {
			t.Errorf("collided: %v", d.Collided)
		}
	})
}

func TestAnIdentifyWithNothingToSayMakesTheContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","nope":"x","firstname":""}`)))
		if got := r.properties("a@b.co"); len(got) != 0 {
			t.Errorf("properties %v, want none", got)
		}
	})
}

func TestOneBadContactIsRejectedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		events := people(99)
		events = append(events, identify(`{"email":"nobody@nodomain","firstname":"X"}`))
		for _, g := range r.run(events...) {
			bad := g.entry.Plan.ID == "nobody@nodomain"
			if bad != (g.outcome.Err != nil) {
				t.Errorf("%s: %v", g.entry.Plan.ID, g.outcome.Err)
			}
			if c, ok := r.box.Contact(g.entry.Plan.ID); ok && detail(t, g.outcome).ContactID != c.ID {
				t.Errorf("%s: detail of contact %s, it is %s", g.entry.Plan.ID, detail(t, g.outcome).ContactID, c.ID)
			}
		}
		if n := r.calls(upsertEndpoint, 0); n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
		if n := r.box.ContactCount(); n != 99 {
			t.Errorf("%d contacts, want 99", n)
		}
	})
}

func TestOneBadPropertyIsDroppedAlone(t *testing.T) {
	f := func(name string, prepare func(r *rig), wantReason string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Properties: []sandbox.Property{
				{Name: "plan", Label: "Plan", Type: "string", FieldType: "text"},
			}}, "")
			mustDeliver(t, r.run(identify(`{"email":"first@b.co"}`))) // loads the schema
			prepare(r)
			got := r.run(identify(`{"email":"a@b.co","firstname":"A","plan":"pro"}`), identify(`{"email":"b@b.co","firstname":"B"}`))
			mustDeliver(t, got)
			for _, email := range []string{"a@b.co", "b@b.co"} {
				if diff := cmp.Diff(map[string]string{"firstname": strings.ToUpper(email[:1])}, r.properties(email)); diff != "" {
					t.Errorf("%s, %s: %s", name, email, diff)
				}
			}
			if d := detail(t, got[0].outcome); d.Stripped["plan"] != wantReason {
				t.Errorf("%s: stripped %v, want plan: %s", name, d.Stripped, wantReason)
			}
			if d := detail(t, got[1].outcome); len(d.Stripped) != 0 {
				t.Errorf("%s: stripped of the other contact: %v", name, d.Stripped)
			}
		})
	}
	inject := func(body string) func(r *rig) {
		return func(r *rig) {
			r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: 400, Body: body, Match: has(`"plan"`)})
		}
	}
	f("deleted in HubSpot", func(r *rig) {
		r.http(http.MethodDelete, "/crm/v3/properties/contacts/plan", "")
	}, "unknown")
	f("errors[] of a whole call", inject(`{"status":"error","message":"Property values were not valid","category":"VALIDATION_ERROR",
		"errors":[{"message":"Property \"plan\" does not exist","code":"PROPERTY_DOESNT_EXIST","context":{"propertyName":["plan"]}}]}`), "unknown")
	f("in the message only, cut short", inject(`{"status":"error","category":"VALIDATION_ERROR","message":"Property values were not valid: `+
		`[{\"isValid\":false,\"message\":\"\\\"plan\\\" is a read only property; its value cannot be set.\",\"error\":\"READ_ONLY_VALUE\",\"name\":\"plan\"},{\"isValid\":false,\"mess"}`), "read-only")
	f("a value of it", inject(`{"status":"error","category":"VALIDATION_ERROR","message":"Property values were not valid",
		"errors":[{"message":"pro was not one of the allowed options: []","code":"INVALID_OPTION","context":{"propertyName":["plan"]}}]}`), "refused")
}

// TestBadValuesOfOneProperty is about answers that say which property has a bad value, and not whose.
func TestBadValuesOfOneProperty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Status: 400, Match: has("atlantis"),
			Body: `{"status":"error","category":"VALIDATION_ERROR","message":"x","errors":[{"code":"INVALID_OPTION","message":"no","context":{"propertyName":["city"]}}]}`,
		})
		var events []*event.Event
		for i := range 50 {
			city := "rome"
			if i == 17 {
				city = "atlantis"
			}
			events = append(events, identify(fmt.Sprintf(`{"email":"p%d@b.co","firstname":"P","city":"%s"}`, i, city)))
		}
		mustDeliver(t, r.run(events...))
		for i := range 50 {
			want := map[string]string{"firstname": "P", "city": "rome"}
			if i == 17 {
				delete(want, "city")
			}
			if diff := cmp.Diff(want, r.properties(fmt.Sprintf("p%d@b.co", i))); diff != "" {
				t.Errorf("p%d: %s", i, diff)
			}
		}
	})
}

func TestARefusalThatNamesNobodyIsBisected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Status: 400, Match: has("p42@example.com"),
			Body: `{"status":"error","message":"Something went wrong","category":"VALIDATION_ERROR"}`,
		})
		for _, g := range r.run(people(100)...) {
			if bad := g.entry.Plan.ID == "p42@example.com"; bad != (g.outcome.Err != nil) {
				t.Errorf("%s: %v", g.entry.Plan.ID, g.outcome.Err)
			}
		}
		if n := r.calls(upsertEndpoint, 0); n > 15 {
			t.Errorf("%d calls to find one of 100", n)
		}
	})
}

// TestAFaultThatLooksLikeBadInputs is about a 400 for everything: that is hardly the fault of each contact.
func TestAFaultThatLooksLikeBadInputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(track("x")))
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: 400, Body: `{"message":"Unsupported"}`})
		r.box.Inject(sandbox.Fault{Endpoint: sendEndpoint, Status: 400, Body: `{"message":"Unsupported"}`})
		f := func(batch []destinations.Entry) {
			t.Helper()
			got := map[string]int{}
			before := r.calls("", 400)
			for _, o := range r.send(batch) {
				got[outcomeOf(o.Err)]++
			}
			if diff := cmp.Diff(map[string]int{"rejected": 10, "retry": 90}, got); diff != "" {
				t.Error(diff)
			}
			if n := r.calls("", 400) - before; n > 30 {
				t.Errorf("%d calls", n)
			}
		}
		contacts, _ := r.entries(people(100)...)
		f(contacts)
		var events []*event.Event
		for range 100 {
			events = append(events, track("x"))
		}
		_, others := r.entries(events...)
		f(others)
	})
}

func TestAMergedWriteIsTakenApartBeforeItIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: 400, Match: has("poison"), Body: `{"message":"no"}`})
		got := r.run(
			identify(`{"email":"a@b.co","firstname":"1","city":"Rome"}`),
			identify(`{"email":"a@b.co","firstname":"2","lastname":"poison"}`),
			identify(`{"email":"a@b.co","firstname":"3"}`),
		)
		for i, g := range got {
			var reject *destinations.RejectError
			if want := i == 1; want != errors.As(g.outcome.Err, &reject) {
				t.Errorf("entry %d: %v", i, g.outcome.Err)
			}
		}
		if diff := cmp.Diff(map[string]string{"firstname": "3", "city": "Rome"}, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
	})
}

// TestTakenApartKeepsOrder is about an older entry of a merged write that is to be tried again: newer ones must wait for it.
func TestTakenApartKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(identify(`{"email":"first@b.co"}`)))
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: 400, Match: has("poison"), Body: `{"message":"no"}`})
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: 502, Match: has(`"older"`)})
		contacts, _ := r.entries(
			identify(`{"email":"a@b.co","firstname":"older"}`),
			identify(`{"email":"a@b.co","firstname":"newer"}`),
			identify(`{"email":"a@b.co","lastname":"poison"}`),
		)
		out := r.send(contacts)
		var ambiguous *destinations.AmbiguousError
		if !errors.As(out[0].Err, &ambiguous) {
			t.Errorf("the older: %v", out[0].Err)
		}
		if out[1].Err == nil || errors.As(out[1].Err, &ambiguous) {
			t.Errorf("the newer was not sent, its outcome is %v", out[1].Err)
		}
		if _, ok := r.box.Contact("a@b.co"); ok {
			t.Error("a newer entry went before an older one")
		}
	})
}

func TestDuplicateIDsArePartedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Status: 400,
			Match: func(b []byte) bool { return has("p1@example.com")(b) && has("p2@example.com")(b) },
			Body:  `{"status":"error","message":"Duplicate IDs found in batch input: [p1@example.com]. IDs must be unique","context":{"ids":["p1@example.com"]},"category":"VALIDATION_ERROR"}`,
		})
		mustDeliver(t, r.run(people(10)...))
		if n := r.calls(upsertEndpoint, 0); n != 3 {
			t.Errorf("%d calls, want 3: all, the others, the duplicate", n)
		}
	})
}

func TestSilentNoOpIsNotDelivery(t *testing.T) {
	f := func(status int, body string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: status, Body: body})
			got := r.run(people(3)...)
			mustDeliver(t, got)
			for _, g := range got {
				if g.tries != 2 {
					t.Errorf("%d tries after %s, want 2", g.tries, body)
				}
			}
			if n := r.box.ContactCount(); n != 3 {
				t.Errorf("%d contacts, want 3", n)
			}
			if r.logs.Count("says a call succeeded that left contacts out") == 0 {
				t.Error("no word of it in the log")
			}
		})
	}
	f(200, `{"status":"COMPLETE","results":[],"startedAt":"2026-01-01T00:00:00Z","completedAt":"2026-01-01T00:00:01Z"}`)
	f(200, `{"status":"COMPLETE"}`)
	f(200, `<html>hello</html>`)
	f(200, `{"results":[{"id":"1","objectWriteTraceId":"99"},{"id":"1"},7,null]}`)
	f(207, `{"status":"COMPLETE","results":[],"numErrors":3}`)
}

// TestPartialErrorWithoutTraceID is about errors that do not say whose they are.
func TestPartialErrorWithoutTraceID(t *testing.T) {
	f := func(body string, rejected string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: 207, Body: body})
			for _, g := range r.run(people(3)...) {
				if bad := g.entry.Plan.ID == rejected; bad != (g.outcome.Err != nil) {
					t.Errorf("%s after %s: %v", g.entry.Plan.ID, body, g.outcome.Err)
				}
			}
		})
	}
	// The one that is left over must be meant.
	f(`{"results":[{"id":"1","objectWriteTraceId":"0"},{"id":"2","objectWriteTraceId":"2"}],"numErrors":1,"errors":[{"category":"VALIDATION_ERROR","message":"bad"}]}`,
		"p1@example.com")
	// Two are left over: they are sent alone, and HubSpot takes them then.
	f(`{"results":[{"id":"2","objectWriteTraceId":"2"}],"numErrors":1,"errors":[{"category":"VALIDATION_ERROR","message":"bad"}]}`, "")
}

func TestConflictIsTriedAgainThenRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 2, Status: 409, Body: `{"category":"CONFLICT","message":"Contact already exists"}`})
		got := r.run(identify(`{"email":"a@b.co"}`))
		mustDeliver(t, got)
		if got[0].tries != 3 {
			t.Errorf("%d tries, want 3", got[0].tries)
		}
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: 409, Body: `{"category":"CONFLICT","message":"Contact already exists"}`})
		if got := r.run(identify(`{"email":"b@b.co"}`)); got[0].outcome.Err == nil || got[0].tries != maxConflicts {
			t.Errorf("%d tries, %v", got[0].tries, got[0].outcome.Err)
		}
	})
}

// outcomeOf is the class of an outcome in words.
func outcomeOf(err error) string {
	var (
		reject    *destinations.RejectError
		ambiguous *destinations.AmbiguousError
		block     *destinations.BlockError
		retry     *destinations.RetryError
	)
	reason, skipped := destinations.IsSkip(err)
	switch {
	case err == nil:
		return "delivered"
	case skipped:
		return "skipped: " + reason
	case errors.As(err, &reject):
		return "rejected"
	case errors.As(err, &ambiguous):
		return "ambiguous"
	case errors.As(err, &block):
		s := "lane"
		if block.Scope == destinations.AccountScope {
			s = "account"
		}
		if !block.Until.IsZero() {
			s += " for " + time.Until(block.Until).Round(time.Millisecond).String()
		}
		return s
	case errors.As(err, &retry):
		return "retry after " + retry.After.String()
	default:
		return "retry"
	}
}

// answers is the table of statuses: what becomes of a contact, and of an event.
var answers = []struct {
	fault           sandbox.Fault
	contacts, event string
}{
	{sandbox.Fault{Status: 401}, "account", "account"},
	{sandbox.Fault{Status: 403}, "lane", "lane"},
	{sandbox.Fault{Status: 404, Body: "no such path"}, "lane", "lane"},
	{sandbox.Fault{Status: 302, Header: map[string]string{"Location": "https://evil.example"}}, "lane", "lane"},
	{sandbox.Fault{Status: 405}, "lane", "lane"},
	{sandbox.Fault{Status: 408}, "retry", "retry"},
	{sandbox.Fault{Status: 413}, "rejected", "rejected"},
	{sandbox.Fault{Status: 415}, "lane", "lane"},
	{sandbox.Fault{Status: 418}, "retry", "retry"},
	{sandbox.Fault{Status: 422}, "rejected", "rejected"},
	{sandbox.Fault{Status: 423}, "lane for 2s", "lane for 2s"},
	{sandbox.Fault{Status: 423, Header: map[string]string{"Retry-After": "7"}}, "lane for 7s", "lane for 7s"},
	{sandbox.Fault{Status: 429, Body: `{"policyName":"TEN_SECONDLY_ROLLING"}`}, "lane for 10.001s", "lane for 1.001s"},
	{sandbox.Fault{Status: 429, Body: `{"policyName":"SECONDLY"}`}, "lane for 1.001s", "lane for 1.001s"},
	{sandbox.Fault{Status: 429, Body: `{"message":"You have reached your secondly limit.","category":"RATE_LIMITS"}`}, "lane for 1.001s", "lane for 1.001s"},
	{sandbox.Fault{Status: 429, Body: `{}`, Header: map[string]string{"Retry-After": "3"}}, "lane for 3.001s", "lane for 3.001s"},
	{sandbox.Fault{Status: 477, Header: map[string]string{"Retry-After": "3600"}}, "account for 1h0m0s", "account for 1h0m0s"},
	{sandbox.Fault{Status: 477}, "account", "account"},
	{sandbox.Fault{Status: 500}, "ambiguous", "retry"},
	{sandbox.Fault{Status: 502}, "ambiguous", "retry"},
	{sandbox.Fault{Status: 503}, "ambiguous", "retry"},
	{sandbox.Fault{Status: 504}, "ambiguous", "retry"},
	{sandbox.Fault{Status: 521, Body: "<html>Web server is down</html>"}, "ambiguous", "retry"},
	{sandbox.Fault{Status: 524}, "ambiguous", "retry"},
	{sandbox.Fault{Drop: true}, "ambiguous", "retry"},
	{sandbox.Fault{Delay: time.Minute}, "ambiguous", "retry"}, // our own time limit
}

func TestOutcomeOfEachAnswer(t *testing.T) {
	f := func(lane string, fault sandbox.Fault, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(serverEvent(`{"event_type":"x","user":{"email":"first@b.co"}}`)))
			contacts, others := r.entries(serverEvent(`{"event_type":"x","user":{"email":"a@b.co"}}`))
			batch := contacts
			fault.Endpoint = upsertEndpoint
			if lane == laneEvents {
				batch, fault.Endpoint = others, "events/send/batch"
			}
			fault.Times = 1
			r.box.Inject(fault)
			o := r.send(batch)[0]
			if got := outcomeOf(o.Err); got != want {
				t.Errorf("%s, status %d: %s (%v), want %s", lane, fault.Status, got, o.Err, want)
			}
		})
	}
	for _, a := range answers {
		f(laneContacts, a.fault, a.contacts)
		f(laneEvents, a.fault, a.event)
	}
}

func TestCallsThatWereNotMadeAreNotAmbiguous(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, "")
			mustDeliver(t, r.run(identify(`{"email":"first@b.co"}`)))
			r.env.Transport = script(func(*http.Request) (*http.Response, error) { return nil, err })
			r.reload()
			contacts, _ := r.entries(identify(`{"email":"a@b.co"}`))
			if got := outcomeOf(r.send(contacts)[0].Err); got != want {
				t.Errorf("%v: %s, want %s", err, got, want)
			}
		})
	}
	f(&net.OpError{Op: "dial", Err: errors.New("connection refused")}, "retry")
	f(&net.DNSError{Err: "no such host", Name: "api.hubapi.com"}, "retry")
	f(&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, "ambiguous")
}

// TestRealConnections is about what a transport with sockets tells of a call that failed.
func TestRealConnections(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	box := sandbox.New(sandbox.Options{})
	connections := 0
	server := &http.Server{Handler: box, ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		connections++ // by the accepting goroutine alone
		return ctx
	}}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	defer server.Close()

	r := newRig(t, sandbox.Options{}, "base_url: http://"+listener.Addr().String()+"\n")
	r.box, r.env.Transport = box, nil
	r.restart()
	for range 20 {
		mustDeliver(t, r.run(identify(`{"email":"first@b.co"}`)))
	}
	box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Drop: true, Apply: true})
	contacts, _ := r.entries(identify(`{"email":"a@b.co"}`))
	if got := outcomeOf(r.send(contacts)[0].Err); got != "ambiguous" {
		t.Errorf("answer lost: %s", got)
	}
	r.properties("a@b.co")
	mustDeliver(t, r.run(identify(`{"email":"b@b.co"}`)))

	server.Close()
	listener.Close()
	<-served
	if connections > 4 {
		t.Errorf("%d connections for calls made one after the other", connections)
	}
	contacts, _ = r.entries(identify(`{"email":"c@b.co"}`))
	r.send(contacts) // may find a kept connection closed only after it wrote
	if got := outcomeOf(r.send(contacts)[0].Err); got != "retry" {
		t.Errorf("HubSpot is down: %s", got)
	}
}

func TestACallCutShortIsNeverDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(identify(`{"email":"first@b.co"}`)))
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Delay: 5 * time.Second})
		contacts, _ := r.entries(people(2)...)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		p, err := r.dest.Acquire(ctx, "", laneContacts)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for _, o := range r.dest.Send(ctx, p, contacts) {
			if got := outcomeOf(o.Err); got != "ambiguous" || !errors.Is(o.Err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", got, o.Err)
			}
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("Send went on for %v", took)
		}
	})
}

// TestAnAnswerThatNeverCame is the whole story of an ambiguous call: it was applied, and is sent again.
func TestAnAnswerThatNeverCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Drop: true, Apply: true})
		got := r.run(people(5)...)
		mustDeliver(t, got)
		if n := r.box.ContactCount(); n != 5 {
			t.Errorf("%d contacts, want 5", n)
		}
		if d := detail(t, got[0].outcome); d.New {
			t.Error("the second call found the contact and says it is new")
		}
	})
}

func TestAPoisonedContactIsFoundAndRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Status: 500, Match: has("p7@example.com")})
		contacts, _ := r.entries(people(20)...)
		left := contacts
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
			mustDeliver(t, r.run(identify(fmt.Sprintf(`{"email":"other%d@b.co"}`, round)))) // others are taken
		}
		if n := r.box.ContactCount(); n < 19 {
			t.Errorf("%d contacts", n)
		}
	})
}

func TestAnOutageRejectsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(identify(`{"email":"first@b.co"}`)))
		time.Sleep(time.Second)
		r.box.Inject(sandbox.Fault{Status: 500})
		contacts, _ := r.entries(people(20)...)
		before := r.calls("", 500)
		for range 50 {
			for _, o := range r.send(contacts) {
				if got := outcomeOf(o.Err); got != "ambiguous" {
					t.Fatalf("%s: %v", got, o.Err)
				}
			}
			time.Sleep(time.Minute)
		}
		// One for each try, and now and then one for the schema, which is stale.
		if n := r.calls(upsertEndpoint, 500) - before; n != 50 {
			t.Errorf("%d calls in 50 tries", n)
		}
	})
}

func TestRecordedRefusals(t *testing.T) {
	f := func(file string, status int, want string) {
		t.Helper()
		body, err := os.ReadFile("testdata/wire/" + file)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{Properties: []sandbox.Property{
				{Name: "first000name", Label: "F", Type: "string", FieldType: "text"},
				{Name: "last000name", Label: "L", Type: "string", FieldType: "text"},
			}}, "")
			r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: status, Body: string(body)})
			got := r.run(identify(`{"email":"a@b.co","firstname":"A","first000name":"x","last000name":"y"}`))
			mustDeliver(t, got)
			if got := fmt.Sprint(detail(t, got[0].outcome).Stripped, got[0].tries); got != want {
				t.Errorf("%s: %s, want %s", file, got, want)
			}
		})
	}
	f("err-many-invalid-properties.json", 400, "map[first000name:unknown last000name:unknown] 1")
	f("err-conflict.json", 409, "map[] 2")
	f("err-schemas-scope.json", 403, "map[] 2")
}

package hubspot

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

func jsonResponse(res *http.Response, body any) *http.Response {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return res
}

func TestComplaint15ALifecycleStageThatCannotGoBack(t *testing.T) {
	f := func(extra, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, extra)
			mustDeliver(t, r.run(identify(`{"email":"a@b.co","lifecyclestage":"customer"}`)))
			mustDeliver(t, r.run(identify(`{"email":"a@b.co","lifecyclestage":"lead"}`)))
			if got := r.properties("a@b.co")["lifecyclestage"]; got != want {
				t.Errorf("with %q the stage is %q, want %q", extra, got, want)
			}
		})
	}
	f("", "customer")
	f("properties: {write: {lifecyclestage: force}}\n", "lead")
}

func TestComplaint16DuplicatesWhileTheSearchLagsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{Lag: 30 * time.Second}, "properties: {write: {firstname: if_empty}}\n")
		for _, name := range []string{"Ada", "Bob", "Cleo"} {
			mustDeliver(t, r.run(identify(`{"email":"a@b.co","firstname":"`+name+`"}`)))
		}
		if n := r.box.ContactCount(); n != 1 {
			t.Errorf("%d contacts of one person", n)
		}
		if got := r.properties("a@b.co")["firstname"]; got != "Ada" {
			t.Errorf("firstname is %q, want the first: it was not empty any more", got)
		}
	})
}

// TestComplaint17AnOlderValueWinsAfterARetry: what failed and is sent again does not go over what came later.
func TestComplaint17AnOlderValueWinsAfterARetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 2, Status: 502, Apply: true})
		mustDeliver(t, r.run(
			identify(`{"email":"a@b.co","city":"Rome","firstname":"Ann"}`),
			identify(`{"email":"A@B.co","city":"Oslo"}`),
		))
		if diff := cmp.Diff(map[string]string{"city": "Oslo", "firstname": "Ann"}, r.properties("a@b.co")); diff != "" {
			t.Error(diff)
		}
	})
}

func TestComplaint18CustomEventsThatNeverArrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{NoEnterprise: true}, "")
		contacts, others := r.entries(eventOf(`{"email":"a@b.co"}`, ``))
		r.drain(contacts)
		out := r.send(others)
		if got := outcomeOf(out[0].Err); !strings.HasPrefix(got, "lane") {
			t.Errorf("without the tier: %s, want a blocked lane", got)
		}
		mustDeliver(t, r.run(identify(`{"email":"b@b.co"}`))) // contacts flow on
		if n := r.logs.Count("Enterprise"); n != 1 {
			t.Errorf("the log says it %d times", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(eventOf(`{"email":"a@b.co"}`, `,"plan":"pro"`))) // nobody defined it
		if e := r.last(); e.EventName != "pe"+testHub+"_signed_up" || e.Properties["plan"] != "pro" {
			t.Errorf("HubSpot has %+v", e)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		for _, g := range r.run(eventOf(`{"email":"a@no-top-level-domain","hubspotutk":"0123456789abcdef0123456789abcdef"}`, ``)) {
			if g.entry.Plan.Lane == laneEvents && g.outcome.Err != nil {
				t.Errorf("the event: %v", g.outcome.Err)
			}
		}
		if e := r.last(); e.UTK != "0123456789abcdef0123456789abcdef" || e.Email != "" {
			t.Errorf("HubSpot has %+v, want the event by its utk", e)
		}
	})
}

func TestComplaint19TokensThatExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "base_url: https://api-eu1.example.com\n")
		r.env.Transport = script(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "api-eu1.example.com" {
				t.Errorf("a call to %s", req.URL.Host)
			}
			return r.box.RoundTripper().RoundTrip(req)
		})
		r.restart()
		stop := r.box.Inject(sandbox.Fault{Status: http.StatusUnauthorized, Body: `{"status":"error","category":"INVALID_AUTHENTICATION","message":"expired"}`})
		contacts, _ := r.entries(people(5)...)
		for range 20 {
			for _, o := range r.send(contacts) {
				if got := outcomeOf(o.Err); got != "account" {
					t.Fatalf("while the token is refused: %s, want a blocked account", got)
				}
			}
			time.Sleep(time.Minute)
		}
		stop()
		r.drain(contacts)
		mustDeliver(t, r.results)
		if n := r.box.ContactCount(); n != 5 {
			t.Errorf("%d contacts of 5", n)
		}
	})
}

func TestComplaint20SuccessAndNothingChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.box.Inject(sandbox.Fault{Endpoint: upsertEndpoint, Times: 1, Status: 200, Body: `{"status":"COMPLETE","results":[]}`})
		mustDeliver(t, r.run(people(3)...))
		if n := r.box.ContactCount(); n != 3 {
			t.Errorf("%d contacts of 3", n)
		}
	})
	f := func(policy, sent, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, sandbox.Options{}, policy)
			mustDeliver(t, r.run(identify(`{"email":"a@b.co","city":"Rome"}`)))
			mustDeliver(t, r.run(identify(`{"email":"a@b.co","city":`+sent+`}`)))
			if got := r.properties("a@b.co")["city"]; got != want {
				t.Errorf("%s with %q: %q, want %q", sent, policy, got, want)
			}
		})
	}
	for _, sent := range []string{`null`, `""`} {
		f("", sent, "Rome")
		f("properties: {null: ignore}\n", sent, "Rome")
		f("properties: {null: clear}\n", sent, "")
	}
}

// reversed turns round the results of an answer: HubSpot promises no order.
func reversed(res *http.Response, err error) (*http.Response, error) {
	if err != nil || res.StatusCode >= 300 {
		return res, err
	}
	var body map[string]any
	if json.NewDecoder(res.Body).Decode(&body) != nil {
		return res, errors.New("no JSON")
	}
	if list, ok := body["results"].([]any); ok {
		for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
			list[i], list[j] = list[j], list[i]
		}
	}
	return jsonResponse(res, body), nil
}

// eventOf is an event of a visitor, with the id of a key.
func eventOf(user, rest string) *event.Event {
	return serverEvent(`{"event_type":"signed_up","user":` + user + rest + `}`)
}

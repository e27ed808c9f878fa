package hubspot

import (
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

func TestHubSpotDownAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		clear := r.box.Inject(sandbox.Fault{Status: 503})
		contacts, others := r.entries(track("x"))
		if got := outcomeOf(r.send(contacts)[0].Err); got != "retry" {
			t.Errorf("contact without a schema: %s", got)
		}
		if got := outcomeOf(r.send(others)[0].Err); got != "retry" {
			t.Errorf("event without a schema: %s", got)
		}
		clear()
		r.drain(contacts)
		r.drain(others)
		mustDeliver(t, r.results)

		// With a schema of before, only the call itself has to work.
		r.box.Inject(sandbox.Fault{Endpoint: "properties", Status: 503})
		r.box.Inject(sandbox.Fault{Endpoint: "definitions", Status: 503})
		time.Sleep(48 * time.Hour)
		r.restart()
		mustDeliver(t, r.run(identify(`{"email":"b@b.co","firstname":"B","nope":1}`), track("x")))
		if diff := cmp.Diff(map[string]string{"firstname": "B"}, r.properties("b@b.co")); diff != "" {
			t.Error(diff)
		}
		if n := r.box.EventCount(); n != 2 {
			t.Errorf("%d events, want 2", n)
		}
	})
}

func TestNewPropertiesAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		plan := func(email string) string {
			mustDeliver(t, r.run(identify(`{"email":"`+email+`","plan":"pro"}`)))
			return r.properties(email)["plan"]
		}
		plan("a@b.co")
		r.http(http.MethodPost, "/crm/v3/properties/contacts", `{"name":"plan","label":"Plan","type":"string","fieldType":"text","groupName":"contactinformation"}`)
		time.Sleep(schemaFresh)
		plan("b@b.co") // by the old schema, while the new one is loaded
		if got := plan("c@b.co"); got != "pro" {
			t.Errorf("plan is %q after the schema went stale", got)
		}
		calls := r.calls("properties/list", 0)
		for range 20 {
			plan("d@b.co")
			time.Sleep(10 * time.Second)
		}
		if n := r.calls("properties/list", 0) - calls; n != 0 {
			t.Errorf("%d loads of a fresh schema", n)
		}
	})
}

// TestRefreshThatPanics: what is loaded beside the calls costs no entry and no process, whatever it does.
func TestRefreshThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		panics := false
		r.env.Transport = script(func(req *http.Request) (*http.Response, error) {
			if panics && req.Method == http.MethodGet {
				panic("a list that nobody has thought of")
			}
			return r.box.RoundTripper().RoundTrip(req)
		})
		r.restart()
		mustDeliver(t, r.run(people(1)...))
		panics = true
		time.Sleep(schemaFresh)
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","city":"x"}`)))
		panics = false
		time.Sleep(schemaAgain)
		mustDeliver(t, r.run(identify(`{"email":"a@b.co","city":"y"}`)))
		if got := r.properties("a@b.co")["city"]; got != "y" {
			t.Errorf("city is %q, want y", got)
		}
	})
}

func TestADeletedPropertyDoesNotCauseAStormOfLoads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		mustDeliver(t, r.run(people(1)...))
		time.Sleep(schemaAgain)
		r.box.Inject(sandbox.Fault{
			Endpoint: upsertEndpoint, Status: 400, Match: has(`"city"`),
			Body: `{"category":"VALIDATION_ERROR","message":"no","errors":[{"code":"PROPERTY_DOESNT_EXIST","context":{"propertyName":["city"]}}]}`,
		})
		calls := r.calls("properties/list", 0)
		for range 30 {
			mustDeliver(t, r.run(identify(`{"email":"a@b.co","city":"x"}`)))
			time.Sleep(time.Second)
		}
		if n := r.calls("properties/list", 0) - calls; n != 1 {
			t.Errorf("%d loads in half a minute, want 1", n)
		}
	})
}

// TestRecordedSchema reads the list of a real account, and what is kept of it in the cache.
func TestRecordedSchema(t *testing.T) {
	body, err := os.ReadFile("testdata/wire/properties-sampled.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := parseSchema(body, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseSchema(s.encode(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again, cmp.AllowUnexported(schema{}, property{}, valueType{}, option{}, choice{})); diff != "" {
		t.Errorf("what comes out of the cache is something else: %s", diff)
	}
}

func TestParseSchemaRefuses(t *testing.T) {
	for _, body := range []string{``, `null`, `[]`, `{}`, `{"results":{}}`, `{"results":[]}`, `{"results":[{"label":"x"}]}`, `<html>`} {
		if s, err := parseSchema([]byte(body), time.Time{}); err == nil {
			t.Errorf("%s is taken for a schema: %+v", body, s)
		}
	}
}

func TestTheTokenOfAnotherAccountIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, sandbox.Options{}, "")
		r.yaml = "access_token: " + testToken + "\nhub_id: 777\n"
		r.restart()
		mustDeliver(t, r.run(people(1)...))
		mustDeliver(t, r.run(people(1)...))
		if n := r.logs.Count("token_hub_id=" + testHub); n != 1 {
			t.Errorf("said %d times, want once", n)
		}
	})
}

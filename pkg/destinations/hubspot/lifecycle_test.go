package hubspot

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

const forceStage = "properties: {write: {lifecyclestage: force}}\n"

func (r *rig) history(email, property string) string {
	r.t.Helper()
	c, _ := r.box.Contact(email)
	var values []string
	for _, w := range c.History[property] {
		values = append(values, w.Value)
	}
	return strings.Join(values, ",")
}

func TestLifecycleStageForced(t *testing.T) {
	inBubble(t, sandbox.Options{}, forceStage, func(t *testing.T, r *rig) {
		for _, email := range []string{"back@x.co", "back2@x.co", "same@x.co", "none@x.co"} {
			r.put(email, `{"email":"`+email+`","lifecyclestage":"customer"}`)
		}
		before := r.calls("contacts/batch/upsert", 0)
		mustDeliver(t, r.run(
			identify(`{"email":"back@x.co","lifecyclestage":"Lead","firstname":"Ada"}`),
			identify(`{"email":"back2@x.co","lifecyclestage":"subscriber"}`),
			identify(`{"email":"same@x.co","lifecyclestage":"customer"}`),
			identify(`{"email":"new@x.co","lifecyclestage":"lead"}`),
			identify(`{"email":"none@x.co","firstname":"Bob"}`),
		))
		if n := r.calls("contacts/batch/upsert", 0) - before; n != 3 || r.reads() != 0 {
			t.Errorf("%d upserts and %d reads, want 3 and none", n, r.reads())
		}
		r.want("back@x.co", map[string]string{"lifecyclestage": "lead", "firstname": "Ada"})
		r.want("back2@x.co", map[string]string{"lifecyclestage": "subscriber"})
		if got := r.history("back@x.co", "lifecyclestage"); got != "customer,,lead" {
			t.Errorf("history %s", got)
		}
		if got := r.history("same@x.co", "lifecyclestage"); got != "customer,customer" {
			t.Errorf("history of the one that has it: %s", got)
		}
		r.want("new@x.co", map[string]string{"lifecyclestage": "lead"})
		r.want("none@x.co", map[string]string{"lifecyclestage": "customer", "firstname": "Bob"})
	})
}

// Without the policy HubSpot decides.
func TestLifecycleStageNotForced(t *testing.T) {
	inBubble(t, sandbox.Options{}, "", func(t *testing.T, r *rig) {
		r.put("a@x.co", `{"email":"a@x.co","lifecyclestage":"customer"}`)
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","lifecyclestage":"lead"}`)))
		r.want("a@x.co", map[string]string{"lifecyclestage": "customer"})
	})
}

// Whichever of the calls fails, the contact ends with the stage that was sent, and never without one for good.
func TestLifecycleStageSurvivesFaults(t *testing.T) {
	has := func(word string) func([]byte) bool {
		return func(body []byte) bool { return strings.Contains(string(body), word) }
	}
	clearing, setting := has(`"lifecyclestage":""`), func(body []byte) bool {
		return strings.Contains(string(body), `"lifecyclestage":"lead"`) && !strings.Contains(string(body), "firstname")
	}
	f := func(name string, fault sandbox.Fault) {
		t.Helper()
		inBubble(t, sandbox.Options{}, forceStage, func(t *testing.T, r *rig) {
			fault.Endpoint, fault.Times = "contacts/batch/upsert", 1
			r.put("a@x.co", `{"email":"a@x.co","lifecyclestage":"customer"}`)
			r.put("b@x.co", `{"email":"b@x.co","lifecyclestage":"customer"}`)
			r.box.Inject(fault)
			mustDeliver(t, r.run(
				identify(`{"email":"a@x.co","lifecyclestage":"lead","firstname":"Ada"}`), identify(`{"email":"b@x.co","lifecyclestage":"lead","firstname":"Bob"}`)))
			r.want("a@x.co", map[string]string{"lifecyclestage": "lead", "firstname": "Ada"})
			r.want("b@x.co", map[string]string{"lifecyclestage": "lead", "firstname": "Bob"})
			if t.Failed() {
				t.Log(name)
			}
		})
	}
	for _, status := range []int{401, 409, 423, 429, 500, 503, 524} {
		f("clear", sandbox.Fault{Status: status, Match: clearing})
		f("set", sandbox.Fault{Status: status, Match: setting})
		f("set, applied", sandbox.Fault{Status: status, Match: setting, Apply: true})
	}
	f("clear lost", sandbox.Fault{Drop: true, Apply: true, Match: clearing})
	f("set lost", sandbox.Fault{Drop: true, Match: setting})
	f("no results for clear", sandbox.Fault{Status: 200, Body: `{"status":"COMPLETE","results":[]}`, Match: clearing})
	f("no results for set", sandbox.Fault{Status: 200, Body: `{"status":"COMPLETE","results":[]}`, Match: setting})
	f("set refused as a whole", sandbox.Fault{Status: 400, Match: setting, Body: `{"category":"VALIDATION_ERROR","message":"x"}`})
}

// Where HubSpot refuses the stage for good the contact gets back the one that it had.
func TestLifecycleStageRestored(t *testing.T) {
	inBubble(t, sandbox.Options{}, forceStage, func(t *testing.T, r *rig) {
		r.put("a@x.co", `{"email":"a@x.co","lifecyclestage":"customer"}`)
		r.box.Inject(sandbox.Fault{
			Endpoint: "contacts/batch/upsert", Status: 400, Body: `{"category":"VALIDATION_ERROR","message":"no"}`,
			Match: func(body []byte) bool {
				return strings.Contains(string(body), `"lifecyclestage":"lead"`) && !strings.Contains(string(body), "firstname")
			},
		})
		results := r.run(identify(`{"email":"a@x.co","lifecyclestage":"lead","firstname":"Ada"}`))
		mustDeliver(t, results)
		r.want("a@x.co", map[string]string{"lifecyclestage": "customer", "firstname": "Ada"})
		if got := detail(t, results[0].outcome).Stripped; !cmp.Equal(got, map[string]string{"lifecyclestage": "refused"}) {
			t.Errorf("stripped %v", got)
		}
	})
}

// An answer that does not show the stage is asked for it.
func TestLifecycleStageNotShown(t *testing.T) {
	inBubble(t, sandbox.Options{}, forceStage, func(t *testing.T, r *rig) {
		r.put("a@x.co", `{"email":"a@x.co","lifecyclestage":"customer"}`)
		r.put("b@x.co", `{"email":"b@x.co","lifecyclestage":"subscriber"}`)
		c, _ := r.box.Contact("a@x.co")
		d, _ := r.box.Contact("b@x.co")
		r.box.Inject(sandbox.Fault{
			Endpoint: "contacts/batch/upsert", Times: 1, Apply: true, Status: 200,
			Body: `{"results":[{"id":"` + c.ID + `","new":false,"objectWriteTraceId":"0"},{"id":"` + d.ID + `","new":false,"objectWriteTraceId":"1"}]}`,
		})
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","lifecyclestage":"lead"}`), identify(`{"email":"b@x.co","lifecyclestage":"lead"}`)))
		r.want("a@x.co", map[string]string{"lifecyclestage": "lead"})
		r.want("b@x.co", map[string]string{"lifecyclestage": "lead"})
		if got := r.history("b@x.co", "lifecyclestage"); got != "subscriber,lead" {
			t.Errorf("history of the one that moved forward: %s", got)
		}
	})
}

// Clearing and then setting an earlier stage comes out the same in one call as in two, whatever the policy.
func TestLifecycleStageClearedAndSet(t *testing.T) {
	inBubble(t, sandbox.Options{}, "properties: {null: clear}\n", func(t *testing.T, r *rig) {
		r.put("a@x.co", `{"email":"a@x.co","lifecyclestage":"customer"}`)
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","lifecyclestage":null}`), identify(`{"email":"a@x.co","lifecyclestage":"lead"}`)))
		r.want("a@x.co", map[string]string{"lifecyclestage": "lead"})
	})
}

package hubspot

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

const ifEmptyNames = "properties: {write: {firstname: if_empty, phone: if_empty}}\n"

func inBubble(t *testing.T, o sandbox.Options, yaml string, f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newRig(t, o, yaml)) })
}

// put writes a contact as another program would.
func (r *rig) put(email, properties string) {
	r.t.Helper()
	r.http("POST", "/crm/v3/objects/contacts/batch/upsert", `{"inputs":[{"idProperty":"email","id":"`+email+`","properties":`+properties+`}]}`)
}

func (r *rig) want(email string, want map[string]string) {
	r.t.Helper()
	if diff := cmp.Diff(want, r.properties(email)); diff != "" {
		r.t.Errorf("%s: %s", email, diff)
	}
}

func (r *rig) reads() int { return r.calls("contacts/batch/read", 0) }

func TestIfEmpty(t *testing.T) {
	inBubble(t, sandbox.Options{}, ifEmptyNames, func(t *testing.T, r *rig) {
		r.put("old@x.co", `{"email":"old@x.co","firstname":"Old","city":"Rome"}`)
		r.put("cleared@x.co", `{"email":"cleared@x.co","firstname":"x"}`)
		r.put("cleared@x.co", `{"email":"cleared@x.co","firstname":""}`)
		if err := r.box.AddEmail("old@x.co", "second@x.co"); err != nil {
			t.Fatal(err)
		}
		results := r.run(
			identify(`{"email":"old@x.co","firstname":"New","phone":"1","city":"Paris"}`),
			identify(`{"email":"new@x.co","firstname":"New","phone":"2"}`),
			identify(`{"email":"cleared@x.co","firstname":"New"}`),
			identify(`{"email":"other@x.co","city":"Oslo"}`),
		)
		mustDeliver(t, results)
		if n := r.reads(); n != 1 {
			t.Errorf("%d reads for one batch", n)
		}
		r.want("old@x.co", map[string]string{"firstname": "Old", "phone": "1", "city": "Paris"})
		r.want("new@x.co", map[string]string{"firstname": "New", "phone": "2"})
		r.want("cleared@x.co", map[string]string{"firstname": "New"})
		if got := detail(t, results[0].outcome).Stripped; !cmp.Equal(got, map[string]string{"firstname": "not empty"}) {
			t.Errorf("stripped %v", got)
		}
		// By another address of the same contact.
		mustDeliver(t, r.run(identify(`{"email":"second@x.co","firstname":"Second","state":"NY"}`)))
		r.want("old@x.co", map[string]string{"firstname": "Old", "phone": "1", "city": "Paris", "state": "NY"})
		// By both in one call.
		r.put("old@x.co", `{"firstname":"","phone":""}`)
		time.Sleep(recentWrite)
		mustDeliver(t, r.run(identify(`{"email":"second@x.co","firstname":"Second"}`), identify(`{"email":"old@x.co","firstname":"First","phone":"3"}`)))
		r.want("old@x.co", map[string]string{"firstname": "Second", "phone": "3", "city": "Paris", "state": "NY"})
	})
}

// Nothing is read where nothing has the policy, nor within ten minutes of our own write, over restarts too; later another program may have
// cleared it.
func TestIfEmptyReadsOnlyWhenNeeded(t *testing.T) {
	inBubble(t, sandbox.Options{}, ifEmptyNames, func(t *testing.T, r *rig) {
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","city":"Rome"}`), serverEvent(`{"event_type":"page","user":{"email":"b@x.co"}}`)))
		if r.reads() != 0 {
			t.Error("read although nothing has the policy")
		}
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","firstname":"One"}`)))
		r.restart()
		time.Sleep(recentWrite - time.Second)
		results := r.run(identify(`{"email":"a@x.co","firstname":"Two"}`))
		mustDeliver(t, results)
		if r.reads() != 1 {
			t.Errorf("%d reads, want only the first", r.reads())
		}
		if got := detail(t, results[0].outcome).Stripped; !cmp.Equal(got, map[string]string{"firstname": "not empty"}) {
			t.Errorf("stripped %v", got)
		}
		r.want("a@x.co", map[string]string{"firstname": "One", "city": "Rome"})
		time.Sleep(2 * time.Second)
		r.put("a@x.co", `{"firstname":""}`)
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","firstname":"Three"}`)))
		r.want("a@x.co", map[string]string{"firstname": "Three", "city": "Rome"})
	})
}

// When the read meets a fault nothing is sent, and everything arrives later.
func TestIfEmptyReadFails(t *testing.T) {
	for _, status := range []int{401, 403, 423, 429, 477, 500, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			inBubble(t, sandbox.Options{}, ifEmptyNames, func(t *testing.T, r *rig) {
				r.put("a@x.co", `{"email":"a@x.co","firstname":"Old"}`)
				before := r.calls("contacts/batch/upsert", 0)
				r.box.Inject(sandbox.Fault{Endpoint: "contacts/batch/read", Status: status, Times: 1})
				contacts, _ := r.entries(identify(`{"email":"a@x.co","firstname":"New","city":"Rome"}`), identify(`{"email":"b@x.co","city":"Oslo"}`))
				for _, o := range r.send(contacts) {
					if o.Err == nil || isFinal(o.Err) {
						t.Errorf("outcome %v", o.Err)
					}
				}
				if n := r.calls("contacts/batch/upsert", 0) - before; n != 0 {
					t.Error("sent although the read failed")
				}
				r.drain(contacts)
				mustDeliver(t, r.results)
				r.want("a@x.co", map[string]string{"firstname": "Old", "city": "Rome"})
				r.want("b@x.co", map[string]string{"city": "Oslo"})
			})
		})
	}
}

// Of merged writes the first value counts, and the next one where HubSpot refuses it; a write that is taken apart reads once.
func TestIfEmptyMerged(t *testing.T) {
	o := sandbox.Options{Properties: []sandbox.Property{{Name: "score", Label: "Score", Type: "string", FieldType: "text"}}}
	yaml := "properties: {write: {firstname: if_empty, score: if_empty}}\n"
	inBubble(t, o, yaml, func(t *testing.T, r *rig) {
		mustDeliver(t, r.run(
			identify(`{"email":"a@x.co","firstname":"One"}`), identify(`{"email":"a@x.co","firstname":"Two"}`), identify(`{"email":"a@x.co","firstname":"Three"}`)))
		r.want("a@x.co", map[string]string{"firstname": "One"})

		r.box.Inject(sandbox.Fault{
			Endpoint: "contacts/batch/upsert", Times: 1, Status: 400,
			Body: `{"category":"VALIDATION_ERROR","message":"x","errors":[{"code":"INVALID_X","context":{"propertyName":["score"]}}]}`,
		})
		mustDeliver(t, r.run(identify(`{"email":"b@x.co","score":"bad"}`), identify(`{"email":"b@x.co","score":"good"}`)))
		r.want("b@x.co", map[string]string{"score": "good"})

		// Refused without a reason: each entry goes alone, the first value still counts.
		before := r.reads()
		r.box.Inject(sandbox.Fault{Endpoint: "contacts/batch/upsert", Times: 1, Status: 400, Body: `{"category":"VALIDATION_ERROR"}`})
		mustDeliver(t, r.run(
			identify(`{"email":"c@x.co","firstname":"One"}`), identify(`{"email":"c@x.co","firstname":"Two","city":"Rome"}`)))
		r.want("c@x.co", map[string]string{"firstname": "One", "city": "Rome"})
		if n := r.reads() - before; n != 1 {
			t.Errorf("%d reads", n)
		}
	})
}

// An import that is older than what was written is left out, and the live value behind it counts where a person has emptied the property.
func TestIfEmptyMergedWithAnImport(t *testing.T) {
	inBubble(t, sandbox.Options{}, ifEmptyNames, func(t *testing.T, r *rig) {
		before := time.Now().Add(-time.Hour)
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","firstname":"First"}`)))
		time.Sleep(time.Hour)
		r.put("a@x.co", `{"firstname":""}`)
		mustDeliver(t, r.run(bulkAt(before, `{"email":"a@x.co","firstname":"Import"}`), identify(`{"email":"a@x.co","firstname":"Live"}`)))
		r.want("a@x.co", map[string]string{"firstname": "Live"})
	})
}

func bulkAt(effective time.Time, user string) *event.Event {
	ev := serverEvent(`{"event_type":"user_identify","utc_time":"` + effective.UTC().Format("2006-01-02T15:04:05.000000Z") + `","user":` + user + `}`)
	ev.Class = event.Bulk
	return ev
}

// What an imported or replayed event says of a property that a later event wrote is left out.
func TestOlderEventsAreLeftOut(t *testing.T) {
	o := sandbox.Options{Properties: []sandbox.Property{{
		Name: "topics", Label: "Topics", Type: "enumeration", FieldType: "checkbox",
		Options: []sandbox.Option{{Label: "A", Value: "a"}, {Label: "B", Value: "b"}, {Label: "C", Value: "c"}},
	}}}
	inBubble(t, o, "", func(t *testing.T, r *rig) {
		day := 24 * time.Hour
		now := time.Now()
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","firstname":"Live","topics":";a"}`)))
		r.restart()
		time.Sleep(time.Hour)
		results := r.run(bulkAt(now.Add(-day), `{"email":"a@x.co","firstname":"Import","city":"Rome","topics":";b"}`))
		mustDeliver(t, results)
		r.want("a@x.co", map[string]string{"firstname": "Live", "city": "Rome", "topics": "a;b"})
		if got := detail(t, results[0].outcome).Stripped; !cmp.Equal(got, map[string]string{"firstname": "older"}) {
			t.Errorf("stripped %v", got)
		}
		// An import that is older than the last import, one that is newer, and a replay.
		mustDeliver(t, r.run(bulkAt(now.Add(-2*day), `{"email":"a@x.co","city":"Oslo"}`)))
		r.want("a@x.co", map[string]string{"firstname": "Live", "city": "Rome", "topics": "a;b"})
		mustDeliver(t, r.run(bulkAt(now.Add(time.Minute), `{"email":"a@x.co","firstname":"Newer","city":"Paris"}`)))
		r.want("a@x.co", map[string]string{"firstname": "Newer", "city": "Paris", "topics": "a;b"})
		replay := identify(`{"email":"a@x.co","firstname":"Replayed","state":"NY"}`)
		replay.Class, replay.Received = event.Replay, now
		mustDeliver(t, r.run(replay))
		r.want("a@x.co", map[string]string{"firstname": "Newer", "city": "Paris", "topics": "a;b", "state": "NY"})
		// Merged in effective order, with a live one last.
		mustDeliver(t, r.run(
			bulkAt(now.Add(-3*day), `{"email":"a@x.co","city":"Bonn","zip":"1"}`),
			bulkAt(now.Add(-2*day), `{"email":"a@x.co","city":"Graz","zip":"2"}`),
			identify(`{"email":"a@x.co","firstname":"Last"}`)))
		r.want("a@x.co", map[string]string{"firstname": "Last", "city": "Paris", "topics": "a;b", "state": "NY", "zip": "2"})
	})
}

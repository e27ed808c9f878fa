package hubspot

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// A semicolon adds to checkboxes only. In other properties it is text like any.
func TestTextThatBeginsWithASemicolon(t *testing.T) {
	for _, settings := range []string{"", "properties: {null: clear}\n", "properties: {write: {city: if_empty}}\n"} {
		inBubble(t, sandbox.Options{}, settings, func(t *testing.T, r *rig) {
			first := `"Rome"`
			if settings != "" {
				first = `""`
			}
			mustDeliver(t, r.run(identify(`{"email":"a@x.co","city":`+first+`}`), identify(`{"email":"a@x.co","city":";-)"}`)))
			r.want("a@x.co", map[string]string{"city": ";-)"})
		})
	}
}

// HubSpot names a problem twice, in errors[] and in the message, and not always in the same words. The next older value is tried all the same.
func TestProblemNamedTwice(t *testing.T) {
	o := sandbox.Options{Properties: []sandbox.Property{{Name: "score", Label: "Score", Type: "string", FieldType: "text"}}}
	inBubble(t, o, "", func(t *testing.T, r *rig) {
		r.box.Inject(sandbox.Fault{
			Endpoint: "contacts/batch/upsert", Times: 1, Status: 400,
			Body: `{"category":"VALIDATION_ERROR","message":"Property values were not valid: [{\"isValid\":false,\"message\":\"bad was no score\",\"error\":\"INVALID_X\",\"name\":\"score\"}]",` +
				`"errors":[{"message":"bad is not a score","code":"INVALID_X","context":{"propertyName":["score"]}}]}`,
		})
		mustDeliver(t, r.run(identify(`{"email":"b@x.co","score":"good"}`), identify(`{"email":"b@x.co","score":"bad"}`)))
		r.want("b@x.co", map[string]string{"score": "good"})
	})
}

func topics() sandbox.Options {
	return sandbox.Options{Properties: []sandbox.Property{{
		Name: "topics", Label: "Topics", Type: "enumeration", FieldType: "checkbox",
		Options: []sandbox.Option{{Label: "A", Value: "a"}, {Label: "B", Value: "b"}, {Label: "C", Value: "c"}},
	}}}
}

// What an import adds is older than the list that replaced all: it does not come in with a live addition that it is merged with.
func TestOlderAdditionIsLeftOutOfAMerge(t *testing.T) {
	inBubble(t, topics(), "", func(t *testing.T, r *rig) {
		before := time.Now().Add(-time.Hour)
		mustDeliver(t, r.run(identify(`{"email":"a@x.co","topics":"a"}`)))
		mustDeliver(t, r.run(bulkAt(before, `{"email":"a@x.co","topics":";b"}`), identify(`{"email":"a@x.co","topics":";c"}`)))
		r.want("a@x.co", map[string]string{"topics": "a;c"})
	})
}

// A conflict that stays is that of one of the merged events; the others are delivered.
func TestMergedWriteWithAConflict(t *testing.T) {
	inBubble(t, sandbox.Options{}, "", func(t *testing.T, r *rig) {
		r.box.Inject(sandbox.Fault{
			Endpoint: "contacts/batch/upsert", Status: 409, Contains: `"taken"`, Body: `{"category":"CONFLICT","message":"another contact has it"}`,
		})
		got := r.run(
			identify(`{"email":"a@x.co","firstname":"Ada"}`), identify(`{"email":"a@x.co","city":"taken"}`), identify(`{"email":"a@x.co","phone":"1"}`))
		var outcomes []string
		for _, g := range got {
			outcomes = append(outcomes, outcomeOf(g.outcome.Err))
		}
		if diff := cmp.Diff([]string{"delivered", "rejected", "delivered"}, outcomes); diff != "" {
			t.Error(diff)
		}
		r.want("a@x.co", map[string]string{"firstname": "Ada", "phone": "1"})
	})
}

// One of several additions is refused: the others arrive.
func TestRefusedAdditionDoesNotTakeTheOthers(t *testing.T) {
	for _, order := range [][]string{{";a", ";b", ";c"}, {";b", ";a", ";c"}, {";b", ";c", ";a"}} {
		inBubble(t, topics(), "", func(t *testing.T, r *rig) {
			mustDeliver(t, r.run(identify(`{"email":"z@x.co","topics":"a"}`)))
			r.http("PATCH", "/crm/v3/properties/contacts/topics",
				`{"options":[{"label":"B","value":"b","hidden":false},{"label":"C","value":"c","hidden":false}]}`)
			mustDeliver(t, r.run(
				identify(`{"email":"a@x.co","topics":"`+order[0]+`"}`), identify(`{"email":"a@x.co","topics":"`+order[1]+`"}`),
				identify(`{"email":"a@x.co","topics":"`+order[2]+`"}`)))
			r.want("a@x.co", map[string]string{"topics": "b;c"})
		})
	}
}

// TestThousandsOfOneContactAreMerged in one go: what is remembered of earlier values is not copied for each that follows.
func TestThousandsOfOneContactAreMerged(t *testing.T) {
	f := func(p policy, wantValue, wantNext string) {
		t.Helper()
		w := &write{}
		allocs := testing.AllocsPerRun(1, func() {
			w.values = nil
			for i := range 1000 {
				w.set(written{name: "plan", value: strconv.Itoa(i + 1), policy: p, entry: i})
			}
		})
		if allocs > 1100 { // the texts, and an array that grows now and then
			t.Errorf("policy %v: %.0f allocations for 1000 values", p, allocs)
		}
		v := w.values[0]
		if !v.next() || w.values[0].value != wantValue || v.value != wantNext {
			t.Errorf("policy %v: %s is written and then %s, want %s and %s", p, w.values[0].value, v.value, wantValue, wantNext)
		}
	}
	f(overwrite, "1000", "999")
	f(ifEmpty, "1", "2")
}

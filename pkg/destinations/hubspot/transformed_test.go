package hubspot

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/event"
)

// TestTransformedProperties: of an event that a transform has passed on, HubSpot gets the same properties as of the event itself, but for what the transform did.
func TestTransformedProperties(t *testing.T) {
	properties := func(ev *event.Event) map[string]string {
		all := map[string]string{}
		for _, c := range candidates(ev, nil, &eventProperties{expressions: &expressions{}}) {
			all[c.name] = c.value.Raw
		}
		return all
	}
	f := func(json, old, replacement, name, value string) {
		t.Helper()
		ev := &event.Event{
			ID: "e1", APIKey: "web", Received: time.Unix(1700000000, 0), Source: "jitsu", SourceIP: "10.0.0.1", UserAgent: "UA", Email: "a@b.co", AnonymousHash: "hash",
			Added: []byte(`{"location":{"city":"Ulm"},"parsed_ua":{"bot":true},"__HTTP_CONTEXT__":{"headers":{}}}`), JSON: []byte(json),
		}
		view := ev.AppendView(nil)
		result := strings.Replace(string(view), old, replacement, 1)
		if result == string(view) {
			t.Fatalf("%s is not in %s", old, view)
		}
		want := properties(ev)
		if value == "" {
			delete(want, name)
		} else {
			want[name] = value
		}
		if diff := cmp.Diff(want, properties(ev.Changed(view, []byte(result), 0))); diff != "" {
			t.Errorf("%s to %s (-want +got)\n%s", view, result, diff)
		}
	}
	const flat, compat = `{"event_type":"a","user":{"id":"u1"},"n":12345678901234567890,"plan":"pro"}`, `{"eventn_ctx":{"event_id":"","user":{"id":"u1"},"step":1},"event_type":"a","plan":"pro"}`
	for _, json := range []string{flat, compat} {
		f(json, `"plan":"pro"`, `"plan":"pro","more":1.50`, "more", "1.50")
		f(json, `"plan":"pro"`, `"plan":"free"`, "plan", `"free"`)
		f(json, `,"plan":"pro"`, ``, "plan", "")
		f(json, `"event_type":"a"`, `"event_type":"b"`, "none", "")
		f(json, `,"source_ip":"10.0.0.1"`, ``, "none", "")
		f(json, `"api_key":"web",`, ``, "none", "")
		f(json, `,"src":"jitsu"`, ``, "none", "")
		f(json, `,"_timestamp":"2023-11-14T22:13:20.000000Z"`, ``, "none", "")
		f(json, `,"location":{"city":"Ulm"}`, ``, "none", "")
		f(json, `"email":"a@b.co",`, ``, "none", "")
		f(json, `"hashed_anonymous_id":"hash"`, `"x":1`, "none", "")
	}
	f(compat, `"step":1`, `"step":2`, "step", "2")
}

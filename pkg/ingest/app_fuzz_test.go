package ingest

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/appevents"
	"eventrouter/pkg/config"
	"eventrouter/pkg/event"
)

// FuzzAppEvents: no posted bytes panic, and what is stored of an event is its name and payload, and the account of the token, whatever a body names.
func FuzzAppEvents(f *testing.F) {
	for _, seed := range []string{
		`{"name":"A","payload":{"email":"ada@example.com","n":1e99}}`, `[{"name":"A","payload":{}},{"name":"B","payload":{"a":[1,{"b":null}]},"at":1577404800,"event_id":7}]`,
		`{"name":"A","name":"B","payload":{"x":1,"x":2},"payload":{"y":3}}`, `{"name":"A","payload":{"email":7},"account":"a2","sub":"a2"}`, `{"na\u006de":"B","payload":{"\ud800":"\ud800"}}`,
		`{"name":"A","payload":{"email":"x@y.z","list":["a",1]}}`, "\xef\xbb\xbf[]", `{"name":"B","payload":{"n":-0.0e-400}}`,
	} {
		f.Add([]byte(seed))
	}
	app := config.DefaultApp("crm")
	var err error
	if app.AppEvents, err = config.NewSettings("router.yaml", "apps.crm.app_events", []byte(`
A: {schema: {properties: {email: {type: string, format: email}, n: {multipleOf: 0.5}, list: {items: {type: string}, uniqueItems: true}}, required: [email]}}
B: {}
`)); err != nil {
		f.Fatal(err)
	}
	set, _, err := appevents.New(app)
	if err != nil {
		f.Fatal(err)
	}
	s := newServer(f, testOptions(&memoryLog{}))
	src := &appSource{App: App{Name: "crm", Events: set}, source: &source{id: config.AppEventsKey("crm")}}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := &batch{random: batches.New().(*batch).random, seen: map[contentHash]uint64{}}
		r := s.parseApp(b, src, "a1", receipt, bytes.Clone(body))
		if r != nil {
			if r.status >= 500 || len(b.recs) > 0 {
				t.Fatalf("%d %s, %d records", r.status, r.message, len(b.recs))
			}
			return
		}
		for _, rec := range b.recs {
			var ev event.Event
			if err := ev.Decode(rec); err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(ev.JSON, &got); err != nil {
				t.Fatalf("%q: %v", ev.JSON, err)
			}
			name, _ := got["name"].(string)
			if ev.Account != "a1" || got["account"] != "a1" || got["app"] != "crm" || got["event_type"] != name || name != "A" && name != "B" || ev.ID == "" || len(ev.ID) > maxIDBytes {
				t.Errorf("stored %q of %q, id %q", ev.JSON, ev.Account, ev.ID)
			}
		}
		if want, ok := postedPayloads(body); ok {
			var got []any
			for _, rec := range b.recs {
				var ev event.Event
				_ = ev.Decode(rec) // as above
				var one struct{ Payload any }
				_ = json.Unmarshal(ev.JSON, &one)
				got = append(got, one.Payload)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("payloads (-posted +stored):\n%s", diff)
			}
		}
	})
}

// postedPayloads reads a body by encoding/json alone; ok is false for what that reads in another way, such as numbers without a float64.
func postedPayloads(body []byte) (payloads []any, ok bool) {
	var many []map[string]any
	if json.Unmarshal(body, &many) != nil {
		var one map[string]any
		if json.Unmarshal(body, &one) != nil {
			return nil, false
		}
		many = append(many, one)
	}
	for _, m := range many {
		payloads = append(payloads, m["payload"])
	}
	return payloads, true
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// TestTransformsDeliver: a script that counts in $kv, makes two events of one, leaves some out and fails on some, over a restart, up to HubSpot, the
// dead letters and what explain says.
func TestTransformsDeliver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, sandbox.Options{}, constant(50*time.Millisecond), "")
		v.layout = `
      transform: |
        if ($.event_type == "noise") return null
        if ($.event_type == "broken") throw new Error("no such thing")
        const n = (await $kv.get($.user.email) ?? 0) + 1
        await $kv.set($.user.email, n, {ttlSec: 3600})
        return [{...$, user: {...$.user, firstname: "visit " + n}}, {event_type: "visited", user: {email: $.user.email}, n}]`
		identify := func(n int) {
			for range n {
				v.post(`{"event_type":"user_identify","user":{"email":"ada@example.com"}}`)
			}
		}
		v.start()
		identify(3)
		v.post(`{"event_type":"noise"}`, `{"event_type":"broken","user":{"email":"ada@example.com"}}`)
		v.drain(time.Hour)
		v.stop()
		v.start()
		identify(2)
		v.drain(time.Hour)
		if c, _ := v.box.Contact("ada@example.com"); c.Properties["firstname"] != "visit 5" {
			t.Errorf("contact: %v, want the fifth visit", c.Properties)
		}
		if n := v.box.EventCount(); n != 5 {
			t.Errorf("%d custom events, want 5", n)
		}
		if n := v.metric("router_kv_entries", "destination", "crm"); n != 1 {
			t.Errorf("router_kv_entries %v", n)
		}
		tell := func(id string) string {
			x, err := v.srv.router.Explain(t.Context(), router.ExplainQuery{EventID: id})
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			if err := writeExplanation(&text, x); err != nil {
				t.Fatal(err)
			}
			return text.String()
		}
		for id, wants := range map[string][]string{
			"e1":   {"crm, contacts (hub 20546336)\n    delivered", "crm, events (hub 20546336, output 1)\n    output       visited\n    delivered"},
			"e1_1": {"e1_1 is the id of output 1 that a transform made of event e1"},
			"e4":   {"filtered", "because      the transform returned null"},
			"e5":   {"dead letter", "reason       transform", "no such thing"},
		} {
			got := tell(id)
			for _, want := range wants {
				if !strings.Contains(got, want) {
					t.Errorf("explain %s lacks %q:\n%s", id, want, got)
				}
			}
		}
		v.stop()

		config := filepath.Join(v.dir, "router.yaml")
		text := fmt.Sprintf("server: {port: 0, data_dir: %s}\napi_keys: [{id: app, server_secret: s2s.app}]\ndestinations: {crm: {type: hubspot, hubspot: {access_token: t, hub_id: \"1\"}}}\n", v.dir)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if err := run(context.Background(), []string{"deadletters", "list", "--reason", "transform", "--json", "--config", config}, &out, &errs); err != nil {
			t.Fatal(err, errs.String())
		}
		var letter struct {
			Reason string
			ID     string `json:"event_id"`
			Event  json.RawMessage
		}
		if err := json.Unmarshal(out.Bytes(), &letter); err != nil || letter.Reason != "transform" || letter.ID != "e5" || !strings.Contains(string(letter.Event), `"broken"`) {
			t.Errorf("dead letters: %s (%v)", out.String(), err)
		}
	})
}

// TestShownLetterHidesWhatMoved: a value that is hidden in the event as it came is hidden where a transform has put it.
func TestShownLetterHidesWhatMoved(t *testing.T) {
	record := func(id, text string) []byte {
		return (&event.Event{ID: id, APIKey: "web", JSON: []byte(text)}).AppendTo(nil)
	}
	d := store.DeadLetter{
		Error: "hush-hush is not a number", Event: record("e_1", `{"moved":["hush-hush"],"secret":"own secret","plain":1}`), Original: record("e", `{"secret":"hush-hush"}`),
	}
	f := func(hidden *redact.Fields, wantError, wantEvent, wantOriginal string) {
		t.Helper()
		shown, ev, original := redactor{strings.NewReplacer(), nil}.shownLetter(d, hidden)
		if shown.Error != wantError || string(ev) != wantEvent || string(original) != wantOriginal {
			t.Errorf("shown are %s, %s, %s; want %s, %s, %s", shown.Error, ev, original, wantError, wantEvent, wantOriginal)
		}
	}
	f(redact.New([]string{"secret"}), "*** is not a number", `{"moved":["***"],"secret":"***","plain":1}`, `{"secret":"***"}`)
	f(nil, d.Error, `{"moved":["hush-hush"],"secret":"own secret","plain":1}`, `{"secret":"hush-hush"}`)
	d.Original = nil
	f(redact.New([]string{"secret"}), "hush-hush is not a number", `{"moved":["hush-hush"],"secret":"***","plain":1}`, ``)
}

package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/tidwall/gjson"
)

// TestEventsCache: what was posted stands under its API key at once, and under its destination with what became of it.
func TestEventsCache(t *testing.T) {
	g := newAnswersRig(t)
	g.start()
	g.post(`[{"event_id":"told","event_type":"user_identify","user":{"email":"ada@example.com","firstname":"Ada","favourite_color":"green"}},
		{"event_id":"left-out","event_type":"heartbeat","user":{"email":"ada@example.com"}},
		{"event_id":"dead","event_type":"user_identify","user":{"email":"bad@example.c1"}},
		{"event_id":"nobody","event_type":"sign_up"},
		{"event_id":"blocked","event_type":"sign_up","user":{"email":"ada@example.com"}}]`)
	g.request("POST", "/api/v1/s2s/event?token="+plantedServer, `{"event_type":`)
	const path = "/api/v1/events/cache?ids=crm"
	event := func(id string) gjson.Result { return gjson.Get(g.admin(path), `events.#(uid=="`+id+`")`) }
	g.until("the events are settled", func() bool {
		return event("told").Get("success").Exists() && event("dead").Get("error").Exists() && event("blocked").Get("error").Exists()
	})
	f := func(id, member, want string) {
		t.Helper()
		if got := event(id).Get(member).String(); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s of %s is %q, want %q", member, id, got, want)
		}
	}
	f("told", "success.method", "POST")
	f("told", "success.url", "/crm/objects/2026-03/contacts/batch/upsert")
	f("told", "success.destination_id", "crm")
	f("told", "success.body.contact_id", "101")
	f("told", "success.body.stripped.favourite_color", "unknown")
	f("told", "success.headers", "")
	f("told", "error", "")
	f("told", "original.user.firstname", "Ada")
	f("told", "original.eventn_ctx_event_id", "told")
	f("told", "original.api_key", "web")
	f("told", "token_id", "web")
	f("told", "destination_id", "crm")
	f("left-out", "skip", "Transform or table name filter marked object to be skipped. This object will be skipped.")
	f("nobody", "skip", "no identity")
	f("dead", "error", "INVALID_EMAIL")
	f("blocked", "error", "MISSING_SCOPES")
	f("blocked", "success", "")
	errors := gjson.Get(g.admin(path+"&status=error"), "events.#.uid").String()
	if !strings.Contains(errors, "dead") || !strings.Contains(errors, "blocked") || strings.Contains(errors, "told") {
		t.Errorf("with errors are %s", errors)
	}

	tokens := g.admin("/api/v1/events/cache?namespace=token&ids=web")
	if n := gjson.Get(tokens, "total_events").Int(); n != 6 || gjson.Get(tokens, "response_events").Int() != n {
		t.Errorf("of the API key: %s", tokens)
	}
	if newest := gjson.Get(tokens, "events.0"); newest.Get("malformed").Str != `{"event_type":` || !strings.Contains(newest.Get("error").Str, "unexpected EOF") {
		t.Errorf("malformed: %s", newest)
	}
}

// TestEventsCacheOff: a capacity of 0 is no cache.
func TestEventsCacheOff(t *testing.T) {
	g := newAnswersRig(t)
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	g.config = write(t, strings.Replace(string(text), "server: {", "server: {events_cache: {capacity: 0}, ", 1))
	g.start()
	g.post(`{"event_id":"told","event_type":"user_identify","user":{"email":"ada@example.com"}}`)
	g.until("the event is settled", func() bool { return g.has("told", "delivered") })
	if body := g.admin("/api/v1/events/cache?ids=crm"); gjson.Get(body, "total_events").Int() != 0 || gjson.Get(body, "cache_capacity_per_interval").Int() != 0 {
		t.Errorf("without a cache: %s", body)
	}
}

// TestEventsCacheRefusesAsJitsu: the one recorded case of Jitsu's that is about the cache.
func TestEventsCacheRefusesAsJitsu(t *testing.T) {
	data, err := os.ReadFile("../../testdata/jitsu/ingest.json")
	if err != nil {
		t.Fatal(err)
	}
	recorded := gjson.GetBytes(data, `ingest_http.#(name=="events cache bad ns")`)
	path := recorded.Get("request.path").Str
	if path == "" {
		t.Fatal("the case is missing")
	}
	g := newAnswersRig(t)
	g.start()
	status, body := g.request(recorded.Get("request.method").Str, strings.Replace(path, "token=adm&", "token="+plantedAdmin+"&", 1), "")
	var want, got any
	_ = json.Unmarshal([]byte(recorded.Get("response.body").Str), &want)
	_ = json.Unmarshal([]byte(body), &got)
	wantText, _ := json.Marshal(want)
	gotText, _ := json.Marshal(got)
	if int64(status) != recorded.Get("response.status").Int() || string(gotText) != string(wantText) {
		t.Errorf("%d %s, Jitsu's answer is %s", status, body, recorded.Get("response"))
	}
}

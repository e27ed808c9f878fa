package hubspot

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// hashed is the account of the tests of the visitor's hash.
func hashed() sandbox.Options {
	return sandbox.Options{Properties: []sandbox.Property{{Name: event.FieldAnonymousHash, Label: "Hash", Type: "string", FieldType: "text"}}}
}

// TestCompatibilityFormat: an event of the older format makes the contact and the custom event that the flat one makes.
func TestCompatibilityFormat(t *testing.T) {
	f := func(settings, flat, compat string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			made := func(body string) (contact map[string]string, events []map[string]string, stripped map[string]string) {
				r := newRig(t, subscriber(), settings)
				ev := serverEvent(body)
				ev.Server, ev.UserAgent = false, "UA/1"
				got := r.run(ev)
				mustDeliver(t, got)
				for _, o := range r.box.Events() {
					events = append(events, o.Properties)
				}
				return r.properties("a@b.co"), events, detail(t, got[0].outcome).Stripped
			}
			contact, events, stripped := made(flat)
			contact2, events2, stripped2 := made(compat)
			if len(contact)+len(events) == 0 {
				t.Fatalf("%s makes nothing", flat)
			}
			for _, diff := range []string{cmp.Diff(contact, contact2), cmp.Diff(events, events2), cmp.Diff(stripped, stripped2)} {
				if diff != "" {
					t.Errorf("%s\nand %s\ndiffer (-flat +compat):\n%s", flat, compat, diff)
				}
			}
		})
	}
	const user = `"user":{"anonymous_id":"x","id":"u1","email":"A@b.co","firstname":"Ann","Job Title":"CTO","plan":"pro","nope":1,"createdate":"2020-01-01"}`
	const page = `"utc_time":"2026-11-21T02:51:54.727000Z","url":"https://a.b/c?d=1","page_title":"T","referer":"https://r.co/","user_agent":"UA/2","user_language":"de",` +
		`"utm":{"source":"s","medium":"m"},"screen_resolution":"10x20","ids":{},"local_tz_offset":0,"doc_path":"/c"`
	for _, kind := range []string{"user_identify", "sign_up"} {
		const own = `"seats":3,"conversion":{"revenue":9.5}`
		flat := `{"event_id":"1","event_type":"` + kind + `",` + user + `,` + page + `,` + own + `}`
		compat := `{"event_type":"` + kind + `","eventn_ctx":{"event_id":"1",` + user + `,` + page + `},` + own + `}`
		f("", flat, compat)
		f("contact_events: all\n", flat, compat)
	}
	const both = `"eventn_ctx":{"user":{"email":"a@b.co","firstname":"Bob"}}`
	f("", `{"event_type":"user_identify","user":{"firstname":"Ann","email":"a@b.co"}}`, `{"event_type":"user_identify","user":{"firstname":"Ann"},`+both+`}`)
}

// TestAnonymousHash: the visitor's hash is written where the account has a property for it, and nobody hears of it elsewhere.
func TestAnonymousHash(t *testing.T) {
	f := func(o sandbox.Options, settings, user string, server bool, want map[string]string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, o, settings)
			ev := identify(user)
			ev.Server, ev.AnonymousHash = server, "0a1b"
			got := r.run(ev)
			mustDeliver(t, got)
			if diff := cmp.Diff(want, r.properties("a@b.co")); diff != "" {
				t.Errorf("%s %s (-want +got):\n%s", settings, user, diff)
			}
			if stripped := detail(t, got[0].outcome).Stripped; len(stripped) > 0 && settings == "" {
				t.Errorf("%s: %v is said to be left out", user, stripped)
			}
		})
	}
	const user = `{"email":"a@b.co","firstname":"A"}`
	with := map[string]string{"firstname": "A", event.FieldAnonymousHash: "0a1b"}
	without := map[string]string{"firstname": "A"}
	f(hashed(), "", user, false, with)
	f(hashed(), "", `{"email":"a@b.co","firstname":"A","hashed_anonymous_id":"made up"}`, false, with)
	f(hashed(), "", user, true, without) // a server's is no visitor's
	f(sandbox.Options{}, "", user, false, without)
	f(sandbox.Options{}, "", `{"email":"a@b.co","firstname":"A","hashed_anonymous_id":"made up"}`, false, without)
	f(sandbox.Options{}, "properties: {unknown: create}\n", user, false, without)
	f(hashed(), "properties: {except: [hashed_anonymous_id]}\n", user, false, without)
	f(hashed(), "properties: {only: [firstname]}\n", user, false, without)
	f(hashed(), "properties: {map: {hashed_anonymous_id: $.user.firstname}}\n", user, false, map[string]string{"firstname": "A", event.FieldAnonymousHash: "A"})
	f(hashed(), "properties: {map: {firstname: $.user.hashed_anonymous_id}}\n", user, false, map[string]string{"firstname": "0a1b", event.FieldAnonymousHash: "0a1b"})
}

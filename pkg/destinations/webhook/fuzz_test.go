package webhook

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// FuzzEvents: whatever is in an event, nothing panics, each has one outcome, calls go to the configured host, and no header is smuggled in.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		anEventJSON, `{"a":"../..","b":"x\r\nX-Evil: 1"}`, `{"a":"@evil.example.net/","b":"\u0000"}`, `{"a":"%2e%2e","b":""}`, `{"a":"\\..\\","b":1}`,
		`{"a":null}`, `{"a":"//evil.example.net","b":"é"}`, `{"user":{"email":"\ud800"}}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, json string) {
		if !gjson.Valid(json) || !gjson.Parse(json).IsObject() {
			return
		}
		for _, yaml := range []string{
			"url: 'https://example.com/x/{{.a}}/y?b={{.b}}'\nheaders: {X-B: '{{.b}}'}\nbatch: {max_events: 3}\n",
			"url: 'https://example.com/{{or .a \"none\"}}'\nbody: '[$.a, $.b]'\n", "content_type: text/plain\nbody: '{{.a}}'\nkey: $.a\n",
		} {
			r := newRig(t, yaml)
			events := []*event.Event{r.event(json), r.enveloped(json), r.event(json)}
			var batch []destinations.Entry
			for i, ev := range events {
				plans, err := r.dest.Plan(ev)
				if err != nil {
					continue
				}
				batch = append(batch, destinations.Entry{Name: destinations.OutputName{Offset: uint64(i)}, Plan: plans[0], Event: ev, Attempt: 1})
			}
			if out := r.sendAll(batch); len(out) != len(batch) {
				t.Fatalf("%d outcomes of %d", len(out), len(batch))
			}
			for _, in := range r.at.take() {
				u, err := url.Parse(in.url)
				if err != nil || gjson.Get(json, event.FieldEnvelope).Exists() {
					continue
				}
				if u.Host != "example.com" || strings.Contains(yaml, "/x/") && (!strings.HasPrefix(u.EscapedPath(), "/x/") || strings.Count(u.EscapedPath(), "/") != 3) {
					t.Errorf("%s leads to %s", json, in.url)
				}
				if strings.ContainsAny(in.header.Get("X-B"), "\r\n\x00") {
					t.Errorf("%s makes the header %q", json, in.header)
				}
			}
		}
	})
}

// FuzzEnvelopes: whatever a transform writes.
func FuzzEnvelopes(f *testing.F) {
	for _, seed := range []string{`{"url":"https://a/"}`, `{"url":"http://0/","headers":{"a":1},"body":[]}`, `{"url":7,"method":7,"headers":"x"}`, `{"url":"https://[::1%25a]/"}`, `[]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, json string) {
		if !gjson.Valid(json) {
			return
		}
		r := newRig(t, "headers: {Authorization: Bearer abcdef}\nsecret: 0123456789abcdef\n")
		r.send(r.enveloped(`{"JITSU_ENVELOP":` + json + `}`))
		for _, in := range r.at.take() {
			u, err := url.Parse(in.url)
			if err != nil {
				t.Fatal(err)
			}
			own := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") == "example.com"
			if !own && (in.header.Get("Authorization") == "Bearer abcdef" || in.header.Get("Webhook-Signature") != "") {
				t.Errorf("%s: credentials go to %s", json, in.url)
			}
		}
	})
}

// FuzzAnswers: whatever an endpoint says.
func FuzzAnswers(f *testing.F) {
	f.Add(429, "7", "https://a/", "no 0123456789abcdef")
	f.Add(302, "Fri, 31 Dec 1999 23:59:59 GMT", "//x", "\xff")
	f.Fuzz(func(t *testing.T, status int, wait, location, body string) {
		if status < 100 || status > 999 {
			return
		}
		r := newRig(t, "secret: 0123456789abcdef\n")
		r.at.answers(always(answered{status: status, header: map[string][]string{"Retry-After": {wait}, "Location": {location}}, body: body}))
		out := r.send(r.event(`{}`))
		if err := out[0].Err; err != nil && (strings.Contains(err.Error(), "0123456789abcdef") || len(err.Error()) > 1000) {
			t.Errorf("status %d: %v", status, err)
		}
		if d := retryAfter(map[string][]string{"Retry-After": {wait}}, time.Now()); d < 0 || d > maxWait {
			t.Errorf("%q: wait %s", wait, d)
		}
	})
}

// FuzzURL: settings never panic, and what New takes has a host of its own.
func FuzzURL(f *testing.F) {
	for _, seed := range []string{"https://example.com/{{.a}}?x", "http://[::1]:80/", "https://a{{", "HTTPS://A.:443/{{\"}}\"}}", "https://a?{{.a}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src string) {
		var c checker
		a := c.address(src, networks{})
		if len(c.problems) > 0 {
			return
		}
		if a.host == "" || a.hub == "" || !strings.HasPrefix(a.hub, a.scheme+"://") {
			t.Errorf("%q: %+v", src, a)
		}
	})
}

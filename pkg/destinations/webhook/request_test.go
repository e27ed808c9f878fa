package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/destinations/destinationtest"
	"eventrouter/pkg/event"
)

const anEventJSON = `{"event_type":"signup","user":{"email":"a@b.co","id":7},"n":12345678901234567890}`

// asSent is that event as filters see it.
const asSent = `{"event_type":"signup","user":{"email":"a@b.co","id":7},"n":12345678901234567890,` +
	`"api_key":"web","eventn_ctx_event_id":"ev-1","_timestamp":"2026-01-02T03:04:05.000000Z"}`

// shown is a request as a test writes it: method, url, the headers that are not in each, and the body.
func shown(r received) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", r.method, r.url)
	var names []string
	for name := range r.header {
		if name != "User-Agent" && !strings.HasPrefix(name, "Webhook-") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(r.header[name], ", "))
	}
	return b.String() + r.body
}

func TestRequests(t *testing.T) {
	f := func(yaml, json, want string) {
		t.Helper()
		r := newRig(t, yaml)
		out := r.send(r.event(json))
		got := r.at.take()
		if len(got) != 1 || out[0].Err != nil {
			t.Errorf("%s: %d requests, %v", yaml, len(got), out[0].Err)
			return
		}
		if diff := cmp.Diff(want, shown(got[0])); diff != "" {
			t.Errorf("%s\n%s (-want +got):\n%s", yaml, json, diff)
		}
	}
	const post, typ = "POST https://example.com/in\n", "Content-Type: application/json\n"
	f(``, anEventJSON, post+typ+asSent)
	f(`method: put`, anEventJSON, "PUT https://example.com/in\n"+typ+asSent)
	f(`url: 'https://example.com/u/{{.user.id}}?e={{.user.email}}'`, anEventJSON, "POST https://example.com/u/7?e=a%40b.co\n"+typ+asSent)
	f(`url: 'https://example.com/{{if eq .event_type "signup"}}new{{else}}old{{end}}'`, anEventJSON, "POST https://example.com/new\n"+typ+asSent)
	f(`url: 'https://example.com/{{.event_type}}'`, `{"event_type":"a/../b?c#d e"}`,
		"POST https://example.com/a%2F..%2Fb%3Fc%23d%20e\n"+typ+`{"event_type":"a/../b?c#d e","api_key":"web","eventn_ctx_event_id":"ev-1","_timestamp":"2026-01-02T03:04:05.000000Z"}`)
	f("method: GET\nurl: 'https://example.com/?id={{.user.id}}'\n", anEventJSON, "GET https://example.com/?id=7\n")
	f("method: DELETE\nurl: 'https://example.com/u/{{.user.id}}'\nbody: '({})'\n", anEventJSON, "DELETE https://example.com/u/7\n"+typ+"{}")
	f("headers: {authorization: Bearer abc, X-Type: '{{.event_type}}'}", anEventJSON, post+"Authorization: Bearer abc\n"+typ+"X-Type: signup\n"+asSent)
	f("headers: {X-Plan: '{{or .plan \"none\"}}'}", anEventJSON, post+typ+"X-Plan: none\n"+asSent)
	f("headers: {content-type: application/vnd.x+json}", anEventJSON, post+"Content-Type: application/vnd.x+json\n"+asSent)
	f("content_type: text/plain\nbody: '{{.event_type}} of {{.user.email}}'\n", anEventJSON, post+"Content-Type: text/plain\nsignup of a@b.co")
	f("body: '({who: $.user.email, n: $.n})'\n", anEventJSON, post+typ+`{"who":"a@b.co","n":12345678901234567890}`)
	f("body: '{\"text\": {{json .event_type}}}'\n", `{"event_type":"a\"b"}`, post+typ+`{"text": "a\"b"}`)
	f("body: 'JSON.stringify([$.event_type])'\n", anEventJSON, post+typ+`["signup"]`)
	f("body: '$.user'\n", anEventJSON, post+typ+`{"email":"a@b.co","id":7}`)
	f("content_type: text/plain\nbody: '$.user.id'\n", anEventJSON, post+"Content-Type: text/plain\n7")
	f("batch: {max_events: 5}", anEventJSON, post+typ+"["+asSent+"]")
	f("batch: {max_events: 5, format: ndjson}", anEventJSON, post+"Content-Type: application/x-ndjson\n"+asSent+"\n")
	f("batch: {format: ndjson}\nbody: \"({a: 1})\"\n", anEventJSON, post+"Content-Type: application/x-ndjson\n{\"a\":1}\n")
}

// TestWhatCannotBeSent is about events that a template does not fit: they are dead letters, and no request is made.
func TestWhatCannotBeSent(t *testing.T) {
	f := func(yaml, json, want string) {
		t.Helper()
		r := newRig(t, yaml)
		out := r.send(r.event(json))
		if got := destinationtest.Class(out[0].Err); got != "rejected" || out[0].Err.Error() != want || len(r.at.take()) > 0 {
			t.Errorf("%s\n%s: %s, %v, want %s", yaml, json, got, out[0].Err, want)
		}
	}
	f(`url: 'https://example.com/{{.user.id}}'`, `{"user":{}}`, "url: {{.user.id}}: the event has no value for it")
	f(`url: 'https://example.com/{{.user}}'`, `{"user":{"id":1}}`, "url: {{.user}}: it is an object or a list; name what of it is meant")
	f(`url: 'https://example.com/{{.a}}/x'`, `{"a":".."}`, "url: a segment of its path is . or .., which leads elsewhere")
	f(`url: 'https://example.com/{{.a}}'`, `{"a":"`+strings.Repeat("x", 20_000)+`"}`, "url: the url is longer than 16384 bytes")
	f(`headers: {X-A: '{{.a}}'}`, `{"a":"1\r\nX-B: 2"}`, "headers.X-A: it holds a line break or another character that no header has")
	f(`headers: {X-A: '{{.a}}'}`, `{}`, "headers.X-A: {{.a}}: the event has no value for it")
	f(`body: '$.a'`, `{}`, "body: the template gives nothing; filter such events out, or write what is to be sent instead")
	f(`body: '$.a'`, `{"a":null}`, "body: the template gives nothing; filter such events out, or write what is to be sent instead")
	f(`body: '$.a'`, `{"a":"text"}`, "body: what the template gives is not JSON; return an object, write {{json .field}} in a Go template, or set content_type to what it is")
	f(`body: '{"a": "{{.a}}"}'`, `{"a":"\""}`, "body: what the template gives is not JSON; return an object, write {{json .field}} in a Go template, or set content_type to what it is")
	f(`body: 'throw new Error("no")'`, `{}`, "body: line 1, column 7: Error: no")
}

// verify is what a receiver does, by the specification.
func verify(key []byte, r received, now time.Time) error {
	id, stamp := r.header.Get("webhook-id"), r.header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("timestamp %q", stamp)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "." + r.body))
	for signature := range strings.SplitSeq(r.header.Get("webhook-signature"), " ") {
		got, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "v1,"))
		if err == nil && hmac.Equal(got, mac.Sum(nil)) {
			return nil
		}
	}
	return fmt.Errorf("no signature of %q", r.header.Get("webhook-signature"))
}

func TestSignatures(t *testing.T) {
	f := func(secret string, signed ...string) {
		t.Helper()
		r := newRig(t, "secret: "+secret+"\n")
		r.send(r.event(anEventJSON))
		got := r.at.take()[0]
		for _, key := range signed {
			if err := verify([]byte(key), got, time.Now()); err != nil {
				t.Errorf("%s: %v", secret, err)
			}
		}
		if err := verify([]byte("another secret which is wrong"), got, time.Now()); err == nil {
			t.Errorf("%s: any key verifies", secret)
		}
	}
	f("0123456789abcdef", "0123456789abcdef")
	f("whsec_MDEyMzQ1Njc4OWFiY2RlZg==", "0123456789abcdef")
	f("[0123456789abcdef, the one of yesterday]", "0123456789abcdef", "the one of yesterday")

	// The specification's own example.
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := signer{[][]byte{key}}.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("the example of the specification: %s, want %s", got, want)
	}

	r := newRig(t, "")
	r.send(r.event(anEventJSON))
	if h := r.at.take()[0].header; h.Get("webhook-signature") != "" || h.Get("webhook-id") == "" {
		t.Errorf("without a secret: %v", h)
	}
}

// TestTheIDStays is about what a receiver knows repetitions by.
func TestTheIDStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, "secret: 0123456789abcdef\nbatch: {max_events: 2}\n")
		id := func(batch []destinations.Entry) string {
			t.Helper()
			r.sendAll(batch)
			return r.at.take()[0].header.Get("webhook-id")
		}
		one, two := r.event(anEventJSON), r.event(anEventJSON)
		first, both := id(r.entries(one)), id(r.entries(one, two))
		r.at.answers(always(answered{status: 500}))
		r.sendAll(r.entries(one, two))
		again := r.at.take()[0].header
		r.at.answers(nil)
		time.Sleep(time.Hour)
		r = newRig(t, "url: https://example.com/in\nsecret: another-secret-here\nbatch: {max_events: 2}\n")
		if got := id(r.entries(one)); got != first || first != destinations.EventUUID(one, 0).String() {
			t.Errorf("the id of an event: %s, then %s", first, got)
		}
		if got := id(r.entries(one, two)); got != both || again.Get("webhook-id") != both {
			t.Errorf("the id of two events: %s, %s, then %s", both, again.Get("webhook-id"), got)
		}
		output := r.entries(one)
		output[0].Name.Index = 1
		others := map[string]bool{first: true, both: true}
		for _, batch := range [][]destinations.Entry{r.entries(two), r.entries(two, one), output} {
			if got := id(batch); others[got] {
				t.Errorf("two requests have the id %s", got)
			} else {
				others[got] = true
			}
		}
	})
}

// TestBatches: which events share a request.
func TestBatches(t *testing.T) {
	f := func(yaml string, events []string, want ...string) {
		t.Helper()
		r := newRig(t, yaml)
		var all []*event.Event
		for _, json := range events {
			all = append(all, r.event(json))
		}
		for i, o := range r.send(all...) {
			if o.Err != nil {
				t.Errorf("%s: %s: %v", yaml, events[i], o.Err)
			}
		}
		var got []string
		for _, in := range r.at.take() {
			got = append(got, strings.TrimPrefix(in.url, "https://example.com")+" "+in.body)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", yaml, diff)
		}
	}
	const types = "\nbody: '$.n'\nurl: 'https://example.com/{{.event_type}}'\n"
	e := func(typ, person string, n int) string {
		return fmt.Sprintf(`{"event_type":%q,"user":{"email":%q},"n":%d}`, typ, person, n)
	}
	f("batch: {max_events: 9}"+types, []string{e("a", "p", 1), e("b", "q", 2), e("a", "r", 3)}, "/a [1,3]", "/b [2]")
	// The order of a person goes before fewer requests.
	f("batch: {max_events: 9}"+types, []string{e("a", "p", 1), e("b", "p", 2), e("a", "p", 3), e("b", "q", 4)}, "/a [1]", "/b [2,4]", "/a [3]")
	f("key: none\nbatch: {max_events: 9}"+types, []string{e("a", "p", 1), e("b", "p", 2), e("a", "p", 3)}, "/a [1,3]", "/b [2]")
	f("batch: {max_events: 2}"+types, []string{e("a", "p", 1), e("a", "q", 2), e("a", "r", 3)}, "/a [1,2]", "/a [3]")
	f("batch: {max_events: 9, max_bytes: 8}"+types, []string{e("a", "p", 123), e("a", "q", 456), e("a", "r", 789)}, "/a [123,456]", "/a [789]")
	f("batch: {max_events: 9, max_bytes: 2}"+types, []string{e("a", "p", 123), e("a", "q", 456)}, "/a [123]", "/a [456]")
	f("batch: {max_events: 9, format: ndjson}\nbody: '{{json_indent .user}}'\n", []string{e("a", "p", 1), e("a", "q", 2)},
		"/in {\"email\":\"p\"}\n{\"email\":\"q\"}\n")
	f("batch: {max_events: 9}\nheaders: {X: '{{.n}}'}\nbody: '$.n'\n", []string{e("a", "p", 1), e("a", "q", 1), e("a", "r", 2)}, "/in [1,1]", "/in [2]")
}

// TestEnvelopes: what a transform says of where an event goes.
func TestEnvelopes(t *testing.T) {
	const yaml = "headers: {Authorization: Bearer abcdef, X-A: '1'}\nsecret: 0123456789abcdef\nbatch: {max_events: 5}\nbody: '$.n'\n"
	f := func(envelope, want string, signed bool) {
		t.Helper()
		r := newRig(t, yaml)
		out := r.send(r.enveloped(`{"n":5,"JITSU_ENVELOP":` + envelope + `}`))
		got := r.at.take()
		if len(got) != 1 {
			t.Errorf("%s: %d requests, %v", envelope, len(got), out[0].Err)
			return
		}
		if diff := cmp.Diff(want, shown(got[0])); diff != "" || signed != (got[0].header.Get("webhook-signature") != "") {
			t.Errorf("%s: signed %v (-want +got):\n%s", envelope, !signed, diff)
		}
	}
	const own, typ = "Authorization: Bearer abcdef\n", "Content-Type: application/json\n"
	f(`{}`, "POST https://example.com/in\n"+own+typ+"X-A: 1\n5", true)
	f(`{"method":"PATCH","body":{"a":[1]}}`, "PATCH https://example.com/in\n"+own+typ+"X-A: 1\n{\"a\":[1]}", true)
	f(`{"url":"https://example.com/other?a=b","headers":{"x-a":"2"}}`, "POST https://example.com/other?a=b\n"+own+typ+"X-A: 2\n5", true)
	// Credentials of the configuration, and its signature, are for its own host.
	f(`{"url":"https://api.example.net/","headers":{"Api-Key":"k"},"body":"x=1"}`, "POST https://api.example.net/\nApi-Key: k\n"+typ+"x=1", false)
	f(`{"url":"https://example.com:8443/"}`, "POST https://example.com:8443/\n"+typ+"5", false)
	f(`{"url":"http://example.com/in"}`, "POST http://example.com/in\n"+typ+"5", false)
	f(`{"headers":{"content-type":"text/plain"},"body":"hi"}`, "POST https://example.com/in\n"+own+"Content-Type: text/plain\nX-A: 1\nhi", true)
	f(`{"method":"get","url":"https://example.com/?a"}`, "GET https://example.com/?a\n"+own+"X-A: 1\n", true)
}

func TestEnvelopesThatAreRefused(t *testing.T) {
	f := func(envelope, want string) {
		t.Helper()
		r := newRig(t, "")
		out := r.send(r.enveloped(`{"JITSU_ENVELOP":` + envelope + `}`))
		if got := destinationtest.Class(out[0].Err); got != "rejected" || out[0].Err.Error() != "JITSU_ENVELOP"+want || len(r.at.take()) > 0 {
			t.Errorf("%s: %s, %v, want %s", envelope, got, out[0].Err, want)
		}
	}
	f(`7`, ` must be an object with url, method, headers and body`)
	f(`{"url":"ftp://example.com/"}`, `.url: it must begin with https:// or http:// and a host`)
	f(`{"url":"https://a:b@example.com/"}`, `.url: it must not hold a user name or password; write them in headers`)
	f(`{"url":"http://169.254.169.254/latest/meta-data"}`,
		`.url: 169.254.169.254 is an address of the machine's own link or of its cloud, which is not called; if it is meant, list its network in allow_private`)
	f(`{"url":"http://[::ffff:10.0.0.1]/"}`,
		`.url: 10.0.0.1 is a private address, which is not called; if it is meant, list its network in allow_private, or write allow_private: true`)
	f(`{"method":"TRACE"}`, `.method: must be POST, PUT, PATCH, DELETE or GET`)
	f(`{"method":"GET","body":"x"}`, `.body: a GET has none`)
	f(`{"headers":7}`, `.headers must be an object`)
	f(`{"headers":{"Host":"x"}}`, `.headers.Host is made by the router`)
	f(`{"headers":{"webhook-signature":"v1,x"}}`, `.headers.Webhook-Signature is made by the router`)
	f(`{"headers":{"a":"1\n2"}}`, `.headers.A holds a line break or another character that no header has`)
	f(`{"headers":{"a b":"1"}}`, `.headers: "a b" is no name of a header`)
}

// TestClientsSendNoEnvelopes: who posts an event does not choose what the router calls.
func TestClientsSendNoEnvelopes(t *testing.T) {
	r := newRig(t, "")
	r.send(r.event(`{"a":1,"JITSU_ENVELOP":{"url":"https://evil.example.net/"}}`))
	got := r.at.take()
	if len(got) != 1 || got[0].url != "https://example.com/in" || !strings.HasPrefix(got[0].body, `{"a":1,"JITSU_ENVELOP":{"url":"https://evil.example.net/"},"api_key":"web"`) {
		t.Errorf("got %+v", got)
	}
}

// TestEnvelopesAreNoData: what a script says to the router is in no body, whoever makes that.
func TestEnvelopesAreNoData(t *testing.T) {
	for _, yaml := range []string{"", "body: '({...$})'\n", "body: '{{json .}}'\n", "body: '({a: $.JITSU_ENVELOP || 1})'\n"} {
		r := newRig(t, yaml)
		out := r.send(r.enveloped(`{"a":1,"JITSU_ENVELOP":{"headers":{"Authorization":"Bearer hush-hush"}}}`))
		got := r.at.take()
		if len(got) != 1 || strings.Contains(got[0].body, "hush") || !strings.Contains(got[0].body, `"a":1`) {
			t.Errorf("%s: %+v, %v", yaml, got, out[0].Err)
		}
	}
}

// TestEnvelopesAreNotShared: an envelope speaks of its own event.
func TestEnvelopesAreNotShared(t *testing.T) {
	r := newRig(t, "batch: {max_events: 5}\n")
	r.at.answers(func(in *received) answered {
		if in.url == "https://example.com/gone" {
			return answered{status: http.StatusNotFound}
		}
		return answered{status: 200}
	})
	out := r.send(r.event(`{"n":1}`), r.enveloped(`{"n":2,"JITSU_ENVELOP":{"url":"https://example.com/gone"}}`), r.event(`{"n":3}`))
	if got, want := classes(out), "delivered, rejected, delivered"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := len(r.at.take()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

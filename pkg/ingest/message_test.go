package ingest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"eventrouter/pkg/event"

	"github.com/tidwall/gjson"
)

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

const (
	saidSegment = `200 {"success":true}`
	saidRudder  = `200 OK`
	saidJitsu2  = `200 {"ok":true}`
	saidJitsu   = `200 {"status":"ok"}`
)

// TestMessageRoutes: which secret a route takes, what trust it gives, and how it answers.
func TestMessageRoutes(t *testing.T) {
	log, bulk := &memoryLog{}, &memoryLog{}
	o := testOptions(log)
	o.BulkLog = bulk
	base := start(t, o)
	const single, batch = `{"type":"track","event":"e","userId":"u"}`, `{"batch":[{"type":"track","event":"e","userId":"u"}]}`
	f := func(path, body, secret, want string, server bool, source, eventType string) {
		t.Helper()
		for _, slash := range []string{"", "/"} {
			got := send(t, "POST", base+path+slash, []byte(body), "Authorization", basic(secret, ""), "Origin", "https://app.example.com")
			if text := fmt.Sprintf("%d %s", got.status, message(got.body)); text != want {
				t.Errorf("%s with %s: got %s, want %s", path, secret, text, want)
			}
			evs := append(log.take(t), bulk.take(t)...)
			if got.status != 200 {
				if len(evs) != 0 {
					t.Errorf("%s: refused and stored %s", path, evs[0].JSON)
				}
				continue
			}
			if len(evs) != 1 {
				t.Fatalf("%s: stored %d events", path, len(evs))
			}
			ev := evs[0]
			class := event.Live
			if strings.HasSuffix(path, "import") {
				class = event.Bulk
			}
			if ev.APIKey != "key1" || ev.Server != server || ev.Source != source || ev.Type() != eventType || ev.Class != class {
				t.Errorf("%s: stored key %s, server %v, source %s, class %d, %s", path, ev.APIKey, ev.Server, ev.Source, ev.Class, ev.JSON)
			}
		}
	}
	for path, eventType := range map[string]string{
		"identify": "user_identify", "i": "user_identify", "track": "e", "t": "e", "page": "pageview", "p": "pageview", "screen": "screen", "s": "screen",
		"group": "group", "g": "group", "alias": "alias", "a": "alias",
	} {
		f("/v1/"+path, single, "js.client", saidSegment, false, "segment", eventType)
		f("/v1/"+path, single, "s2s.secret", saidSegment, true, "segment", eventType)
		f("/v1/"+path, single, "nobody", "401 The token is not found", false, "", "")
		if len(path) == 1 {
			continue
		}
		f("/api/s/"+path, single, "js.client", saidJitsu2, false, "jitsu", eventType)
		f("/api/s/"+path, single, "s2s.secret", "401 The token is not found", false, "", "")
		f("/api/s/s2s/"+path, single, "s2s.secret", saidJitsu2, true, "jitsu", eventType)
		f("/api/s/s2s/"+path, single, "js.client", "401 The token isn't a server secret token. Please use an s2s integration token", false, "", "")
	}
	for _, path := range []string{"/v1/batch", "/v1/b", "/v1/import"} {
		f(path, batch, "js.client", saidSegment, false, "segment", "e")
		f(path, batch, "s2s.secret", saidSegment, true, "segment", "e")
	}
	f("/v1/batch", single, "s2s.secret", saidSegment, true, "segment", "e")
	f("/api/s/event", single, "js.client", saidJitsu2, false, "jitsu", "e")
	f("/api/s/s2s/event", single, "s2s.secret", saidJitsu2, true, "jitsu", "e")
	for _, path := range []string{"/api/v1/segment", "/api/v1/segment/v1/batch", "/api/v1/segment/compat", "/api/v1/segment/compat/v1/batch"} {
		f(path, single, "s2s.secret", saidJitsu, true, "segment_api", "e")
		f(path, batch, "s2s.secret", saidJitsu, true, "segment_api", "e")
		f(path, single, "js.client", "401 The token isn't a server secret token. Please use an s2s integration token", false, "", "")
	}
}

// TestWriteKeys: where a write key may stand, and in which form.
func TestWriteKeys(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(path, body, want string, server bool, headers ...string) {
		t.Helper()
		got := send(t, "POST", base+path, []byte(body), headers...)
		if text := fmt.Sprintf("%d %s", got.status, message(got.body)); text != want {
			t.Errorf("%s %q %s: got %s, want %s", path, headers, body, text, want)
		}
		for _, ev := range log.take(t) {
			if ev.APIKey != "key1" || ev.Server != server || strings.Contains(string(ev.JSON), "s2s.secret") || strings.Contains(string(ev.JSON), "js.client") {
				t.Errorf("%s %q: stored key %s, server %v, %s", path, headers, ev.APIKey, ev.Server, ev.JSON)
			}
		}
	}
	const unknown, none = "401 The token is not found", "401 The token is not found"
	const track = `{"type":"track","event":"e"}`
	f("/api/s/track", track, saidJitsu2, false, "X-Write-Key", "key1:js.client")
	f("/api/s/track", track, saidJitsu2, false, "X-Write-Key", "js.client")
	f("/api/s/track", track, unknown, false, "X-Write-Key", "key2:js.client") // the id of another key
	f("/api/s/track", track, unknown, false, "X-Write-Key", "key1:")
	f("/api/s/track", track, unknown, false, "X-Write-Key", ":js.client")
	f("/api/s/track", track, unknown, false, "X-Write-Key", "key1")
	f("/api/s/track", track, unknown, false, "X-Write-Key", "key1:s2s.secret")
	f("/api/s/s2s/track", track, saidJitsu2, true, "X-Write-Key", "key1:s2s.secret")
	f("/api/s/track?writekey=key1:js.client", track, saidJitsu2, false)
	f("/api/s/track?writekey=key1%3Ajs.client", track, saidJitsu2, false)
	f("/api/s/track", track, saidJitsu2, false, "Authorization", basic("key1:js.client", ""))
	f("/api/s/track", track, saidJitsu2, false, "Authorization", basic("key1", "js.client"))
	f("/v1/track", track, saidSegment, false, "Authorization", basic("js.client", "any password"))
	f("/v1/track", track, saidSegment, true, "Authorization", "Bearer s2s.secret")
	f("/v1/track", track, saidSegment, true, "X-Auth-Token", "s2s.secret")
	f("/v1/track?token=js.client", track, saidSegment, false)
	f("/v1/track", track, none, false, "Authorization", "Basic ???")

	// The write key in the body, as older libraries for browsers send it.
	f("/v1/t", `{"event":"e","writeKey":"js.client"}`, saidSegment, false, "Content-Type", "text/plain")
	f("/v1/t", `{"event":"e","write\u004bey":"js.client"}`, saidSegment, false)
	f("/v1/t", `{"event":"e","writeKey":"s2s.secret"}`, saidSegment, true)
	f("/v1/b", `{"batch":[{"type":"track","event":"e"}],"writeKey":"js.client"}`, saidSegment, false)
	f("/v1/b", `{"batch":[{"type":"track","event":"e","writeKey":"js.client"},{"type":"page"}]}`, saidSegment, false)
	f("/v1/b", `{"batch":[{"type":"track","event":"e"}],"writeKey":"nobody"}`, unknown, false)
	f("/v1/b", `{"batch":[]}`, none, false)
	f("/v1/b", `no JSON`, none, false)
	f("/v1/b", `{"writeKey":"js.client","batch":[{"type":"track","event":"`+strings.Repeat("x", 500<<10)+`"}]}`, none, false)
	f("/v1/b", string(gzipped(t, `{"writeKey":"js.client","batch":[{"type":"page"}]}`)), saidSegment, false, "Content-Encoding", "gzip")
	f("/v1/t", `{"event":"e","writeKey":"js.client"}`, unknown, false, "Authorization", basic("nobody", "")) // the header decides
	f("/api/s/track", `{"event":"e","writeKey":"js.client"}`, none, false)
	f("/api/v1/segment", `{"type":"page","writeKey":"s2s.secret"}`, none, true)
}

// TestDialects: which of the protocols that share /v1 a request speaks.
func TestDialects(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(name, want, body string, headers ...string) {
		t.Helper()
		headers = append(headers, "Authorization", basic("s2s.secret", ""))
		got := send(t, "POST", base+"/v1/batch", []byte(body), headers...)
		if text := fmt.Sprintf("%d %s", got.status, got.body); text != want {
			t.Errorf("%s %q: got %s, want %s", body, headers, text, want)
		}
		for _, ev := range log.take(t) {
			if ev.Source != name || !gjson.GetBytes(ev.JSON, name+".type").Exists() {
				t.Errorf("%s %q: stored %s, %s", body, headers, ev.Source, ev.JSON)
			}
		}
	}
	const segmentBody = `{"batch":[{"type":"track","event":"e","timestamp":"2026-11-21T02:53:08.292Z","context":{"library":{"name":"@segment/analytics-node"}}}]}`
	const rudderBody = `{"batch":[{"type":"track","event":"e","originalTimestamp":"2026-11-21T02:53:08.292Z","context":{"library":{"name":"analytics-node"}}},{"type":"page"}]}`
	f("segment", saidSegment, segmentBody)
	f("rudderstack", saidRudder, rudderBody)
	f("rudderstack", saidRudder, segmentBody, "AnonymousId", "a1")
	f("jitsu", saidJitsu2, segmentBody, "X-Write-Key", "key1:s2s.secret")
	f("jitsu", saidJitsu2, rudderBody, "X-Write-Key", "s2s.secret", "AnonymousId", "a1")
	f("segment", saidSegment, `{"batch":[]}`)
	f("segment", saidSegment, `{"batch":[{"type":"page"}]}`)

	got := send(t, "POST", base+"/v1/batch?writekey=key1:s2s.secret", []byte(segmentBody))
	if evs := log.take(t); got.body != `{"ok":true}` || len(evs) != 1 || evs[0].Source != "jitsu" {
		t.Errorf("?writekey=: got %d %s", got.status, got.body)
	}
}

// TestMessageLimits: what is too large or too deep, by protocol.
func TestMessageLimits(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	o.Server.MaxBodyBytes = 10 << 20
	base := start(t, o)
	sized := func(n int, members string) string { // a message of n bytes
		const shape = `{"type":"page",%s"x":"%s"}`
		return fmt.Sprintf(shape, members, strings.Repeat("x", n-len(shape)+len("%s%s")-len(members)))
	}
	batchOf := func(n int, messages ...string) string { // a body of n bytes
		text := `{"batch":[` + strings.Join(messages, ",") + `]}`
		return text + strings.Repeat(" ", max(0, n-len(text)))
	}
	f := func(path, body, want string, headers ...string) {
		t.Helper()
		got := send(t, "POST", base+path, []byte(body), append(headers, "Authorization", basic("s2s.secret", ""))...)
		if text := fmt.Sprintf("%d %s", got.status, message(got.body)); text != want {
			t.Errorf("%s, %d bytes: got %s, want %s", path, len(body), text, want)
		}
		if n := len(log.take(t)); got.status != 200 && n != 0 {
			t.Errorf("%s, %d bytes: refused and stored %d events", path, len(body), n)
		}
	}
	const malformed = "400 Error parsing events body: "
	f("/v1/track", sized(32<<10, ""), saidSegment)
	f("/v1/track", sized(32<<10+1, ""), malformed+"Event size 32769 exceeds limit: 32768")
	f("/v1/batch", batchOf(500<<10, sized(32<<10, "")), saidSegment)
	f("/v1/batch", batchOf(500<<10+1, sized(100, "")), "413 Request body exceeds limit: 512000")
	f("/v1/batch", batchOf(0, sized(32<<10+1, ""), sized(32<<10+1, "")), malformed+"Size of one of events exceeds limit: 32768")

	const rudder = `"originalTimestamp":"t",`
	f("/v1/batch", batchOf(4_000_000, sized(32<<10, rudder)), saidRudder)
	f("/v1/batch", string(gzipped(t, batchOf(4_000_001, sized(100, rudder)))), "413 Request body exceeds limit: 4000000")
	f("/v1/batch", batchOf(0, sized(32<<10+1, rudder)), malformed+"Size of one of events exceeds limit: 32768")
	f("/v1/batch", batchOf(4_000_000, sized(100, "")), saidRudder, "AnonymousId", "a")
	f("/v1/batch", string(gzipped(t, batchOf(500<<10+1, sized(100, "")))), "413 Request body exceeds limit: 512000")

	f("/v1/batch", batchOf(5<<20, sized(51200, "")), saidJitsu2, "X-Write-Key", "key1:s2s.secret")
	f("/api/s/s2s/track", sized(51201, ""), malformed+"Event size 51201 exceeds limit: 51200")
	f("/api/v1/segment", batchOf(5<<20, sized(51200, "")), saidJitsu)
	f("/api/v1/segment", string(gzipped(t, batchOf(10<<20+1))), "413 Request body exceeds limit: 10485760")

	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	f("/v1/track", `{"properties":{"x":`+nested(125)+`}}`, saidSegment) // the kept message is one level deeper
	f("/v1/track", `{"properties":{"x":`+nested(126)+`}}`, malformed+"nesting exceeds limit: 128")
	f("/v1/batch", `{"batch":[{"type":"page","properties":{"x":`+nested(123)+`}}]}`, saidSegment)
	f("/v1/batch", `{"batch":[{"type":"page","properties":{"x":`+nested(124)+`}}]}`, malformed+"nesting exceeds limit: 128")
	f("/v1/batch", nested(100_000), malformed+`malformed JSON body begins with: "["`)
	f("/v1/batch", `{"batch":[`+strings.Repeat("{},", 50_000)+"{}]}", "413 Number of events exceeds limit: 50000")
}

// TestMessageBodies: what is no body of messages.
func TestMessageBodies(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(path, body, want string) {
		t.Helper()
		got := send(t, "POST", base+path, []byte(body), "X-Auth-Token", "s2s.secret")
		if text := fmt.Sprintf("%d %s", got.status, strings.TrimPrefix(message(got.body), "Error parsing events body: ")); text != want {
			t.Errorf("%s %s: got %s, want %s", path, body, text, want)
		}
		if n := len(log.take(t)); got.status != 200 && n != 0 {
			t.Errorf("%s: refused and stored %d events", body, n)
		}
	}
	for _, path := range []string{"/v1/batch", "/v1/track", "/api/v1/segment", "/api/s/s2s/event"} {
		f(path, "", "400 empty JSON body")
		f(path, " \n", "400 empty JSON body")
		f(path, "[]", `400 malformed JSON body begins with: "["`)
		f(path, "null", `400 malformed JSON body begins with: "n"`)
		f(path, `{"type":"page"`, "400 error parsing HTTP body: unexpected EOF")
		f(path, `{"type":"page"}{}`, "400 error parsing HTTP body: invalid character '{' after top-level value")
		f(path, `{"type":tru}`, "400 error parsing HTTP body: invalid character '}' in literal true (expecting 'e')")
		f(path, "\x1f\x8b\x08", "400 gzip: unexpected EOF")
	}
	for _, path := range []string{"/v1/batch", "/v1/import", "/api/v1/segment"} {
		f(path, `{"batch":"x"}`, "400 malformed Segment body 'batch' type. Expected array of objects")
		f(path, `{"batch":[1]}`, "400 element 0 is a number, not an object")
		f(path, `{"batch":[{}`, "400 error parsing HTTP body: unexpected EOF")
		f(path, `{"batch":[{},]}`, "400 error parsing HTTP body: invalid character ']' looking for beginning of value")
	}
	f("/v1/batch", `{"events":[]}`, "400 the body has neither 'batch' nor 'type'")
	f("/v1/batch", "\xef\xbb\xbf {\"batch\":[{\"type\":\"track\",\"event\":\"\xff\"}]}", `200 {"success":true}`)
	f("/v1/track", `{"batch":[{}]}`, `200 {"success":true}`) // one message, with a member of that name
	f("/api/v1/segment", `{"anything":1}`, `200 {"status":"ok"}`)
}

// TestMessageEvents: what of a batch goes into every event, and which ids events get.
func TestMessageEvents(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	post := func(path, body string) []event.Event {
		t.Helper()
		got := send(t, "POST", base+path, []byte(body), "Authorization", basic("s2s.secret", ""), "X-Forwarded-For", "198.51.100.7")
		if got.status != 200 {
			t.Fatalf("%s: %d %s", body, got.status, got.body)
		}
		return log.take(t)
	}
	evs := post("/v1/batch", `{"context":{"ip":"192.0.2.1"},"batch":[{"type":"page","messageId":"m1","timestamp":"2026-11-21T12:00:00Z"},{"type":"page","context":{"ip":"192.0.2.2"}}],`+
		`"sentAt":"2026-11-21T12:00:01Z"}`)
	if len(evs) != 2 || evs[0].ID != "m1" || len(evs[1].ID) != 36 || evs[0].SourceIP != "198.51.100.7" {
		t.Fatalf("stored %+v", evs)
	}
	want := `{"event_type":"pageview","utc_time":"2026-11-21T02:59:59.123Z","source_ip":"192.0.2.1","segment":{"type":"page","messageId":"m1","timestamp":"2026-11-21T12:00:00Z"}}`
	if got := string(evs[0].JSON); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := gjson.GetBytes(evs[1].JSON, "source_ip").Str; got != "192.0.2.2" {
		t.Errorf("a message's own context gives way to the batch's: %s", evs[1].JSON)
	}

	// Without an id but with a time, what is sent again has the same id, whatever the clock says.
	const timed = `{"batch":[{"type":"page","timestamp":"t"},{"type":"page","timestamp":"t"}],"sentAt":"%d"}`
	first, second := ids(post("/v1/batch", fmt.Sprintf(timed, 1))), ids(post("/v1/batch", fmt.Sprintf(timed, 2)))
	if !slices.Equal(first, second) || first[0] == first[1] {
		t.Errorf("ids %q, then %q", first, second)
	}
	if a, b := ids(post("/v1/page", `{}`)), ids(post("/v1/page", `{}`)); slices.Equal(a, b) {
		t.Errorf("two messages without id and time are one: %q", a)
	}
}

// TestMessageRecordings posts what SDKs really sent.
func TestMessageRecordings(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	files, _ := filepath.Glob("../../testdata/payloads/segment_*.json")
	more, _ := filepath.Glob("../../testdata/payloads/v2_*.json")
	if len(files) < 3 || len(more) < 2 {
		t.Fatalf("recordings: %q %q", files, more)
	}
	eventTypes := map[string]string{"identify": "user_identify", "page": "pageview", "group": "group", "alias": "alias"}
	for _, file := range append(files, more...) {
		rec := readRecording(t, file)
		for i, r := range rec.Requests {
			protocol, server := "segment", true
			if strings.HasPrefix(r.URL, "/api/s/") {
				protocol, server = "jitsu", strings.Contains(r.URL, "/s2s/")
				secret := "js.client"
				if server {
					secret = "s2s.secret"
				}
				r.Headers["x-write-key"] = "key1:" + secret
			}
			if got := sendRecorded(t, base, rec, i); got.status != 200 {
				t.Errorf("%s: got %d %s", r.URL, got.status, got.body)
			}
			messages := []string{string(r.Body)}
			if batch := gjson.GetBytes(r.Body, "batch"); batch.Exists() {
				messages = nil
				for _, m := range batch.Array() {
					messages = append(messages, m.Raw)
				}
			}
			evs := log.take(t)
			if len(evs) != len(messages) {
				t.Fatalf("%s: stored %d events of %d messages", r.URL, len(evs), len(messages))
			}
			for n, ev := range evs {
				m, got := gjson.Parse(messages[n]), gjson.ParseBytes(ev.JSON)
				wantType := eventTypes[m.Get("type").Str]
				if wantType == "" {
					wantType = m.Get("event").Str
				}
				kept := strings.Replace(m.Raw, `"writeKey":"keyid:***",`, "", 1)
				if ev.Type() != wantType || ev.ID != m.Get("messageId").Str || ev.Server != server || got.Get(protocol).Raw != kept {
					t.Errorf("%s: stored %s of server %v, %s, want %s and %s", r.URL, ev.ID, ev.Server, ev.JSON, wantType, kept)
				}
				if email := m.Get("traits.email").Str + m.Get("context.traits.email").Str; email != "" && email != ev.UserEmail() {
					t.Errorf("%s: e-mail %q, want %q", r.URL, ev.UserEmail(), email)
				}
			}
		}
	}
}

// A failing log is told to Segment's SDKs in the way in which they send again.
func TestMessagesAreSentAgain(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	rec := readRecording(t, "../../testdata/payloads/segment_node_retry_on_503.json")
	log.fail(errors.New("disk"))
	if got := sendRecorded(t, base, rec, 0); got.status != 503 || got.header.Get("Retry-After") != "30" {
		t.Errorf("failing log: got %d, Retry-After %q", got.status, got.header.Get("Retry-After"))
	}
	log.fail(nil)
	var all []string
	for i := range rec.Requests {
		sendRecorded(t, base, rec, i)
		all = append(all, ids(log.take(t))...)
	}
	if len(all) != len(rec.Requests) || len(slices.Compact(all)) != 1 {
		t.Errorf("attempts have the ids %q", all)
	}
}

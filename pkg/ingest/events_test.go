package ingest

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"eventrouter/pkg/event"
	"eventrouter/pkg/log"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/valyala/fasthttp"
)

// post sends body to a server's route.
func post(t *testing.T, base, body string) answer {
	t.Helper()
	return send(t, "POST", base+"/api/v1/s2s/event?token=s2s.secret", []byte(body))
}

func TestStoredJSON(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(body string, want ...string) {
		t.Helper()
		if got := post(t, base, body); got.status != 200 {
			t.Errorf("%q: got %d %s", body, got.status, got.body)
		}
		var stored []string
		for _, ev := range log.take(t) {
			stored = append(stored, string(ev.JSON))
		}
		if diff := cmp.Diff(want, stored); diff != "" {
			t.Errorf("%q: stored (-want +got):\n%s", body, diff)
		}
	}
	// As it came.
	f(`{"a":1}`, `{"a":1}`)
	f(`{}`, `{}`)
	f(`[]`)
	f(` [ ] `)
	f(`[{"a":1},{"b":[1,{"c":2}]}]`, `{"a":1}`, `{"b":[1,{"c":2}]}`)
	f("\ufeff \r\n\t{ \"a\" : 12345678901234567890 , \"f\" : 1.10 } \n", `{ "a" : 12345678901234567890 , "f" : 1.10 }`)
	f(`{"a":"}]\"","b":"\\"}`, `{"a":"}]\"","b":"\\"}`)
	f(`{"a":1,"a":2}`, `{"a":1,"a":2}`)
	f("{\"a\":\"\xff\xc3\"}", "{\"a\":\"\ufffd\ufffd\"}")
	f(`{"a":"\ud800"}`, `{"a":"\ud800"}`)
	f(strings.Repeat(`{"a":`, 127)+`{}`+strings.Repeat(`}`, 127), strings.Repeat(`{"a":`, 127)+`{}`+strings.Repeat(`}`, 127))

	// Without write keys.
	f(`{"api_key":"s"}`, `{}`)
	f(`{"api_key":"s","a":1}`, `{"a":1}`)
	f(`{"a":1,"api_key":"s"}`, `{"a":1}`)
	f(`{"a":1, "api_key":"s" ,"b":2}`, `{"a":1 ,"b":2}`)
	f(`{"api_key":"s","api_key":{"api_key":[1]},"b":2}`, `{"b":2}`)
	f(`{"api_key":1,"a":1,"api_key":2,"api_key":3,"b":2,"api_key":4}`, `{"a":1,"b":2}`)
	f(`{"api\u005fkey":"s","\u0061\u0070\u0069_key":"s","a":1}`, `{"a":1}`)
	f(`{"eventn_ctx":{"api_key":"s","x":1},"api_key":"s"}`, `{"eventn_ctx":{"x":1}}`)
	f(`{"eventn_ctx":{"x":1,"api_key":"s"},"b":{"api_key":"not the write key"}}`, `{"eventn_ctx":{"x":1},"b":{"api_key":"not the write key"}}`)
	f(`{"eventn\u005fctx":{"api_key":"s"}}`, `{"eventn\u005fctx":{}}`)
	f(`[{"api_key":"s"},{"a":1,"api_key":"s"}]`, `{}`, `{"a":1}`)

	// With a template, which wins.
	f(`{"template":{"t":1,"a":1,"api_key":"s"},"events":[{"a":2,"b":2,"api_key":"s"},{"c":3},{}]}`,
		`{"t":1,"a":1,"b":2}`, `{"t":1,"a":1,"c":3}`, `{"t":1,"a":1}`)
	f(`{"template":{},"events":[{"a":2},{}]}`, `{"a":2}`, `{}`)
	f(`{"template":{"\u0061":1},"events":[{"a":2,"b":{"a":3}}]}`, `{"\u0061":1,"b":{"a":3}}`)
	f(`{ "events" : [ {"a":1} , {"b":2} ] , "template" : { "t":1 } }`, `{"t":1,"a":1}`, `{"t":1,"b":2}`)
	f(`{"template":{"a":1},"events":[]}`)
	f(`[{"template":{"t":1},"events":[{"a":2}]}]`, `{"template":{"t":1},"events":[{"a":2}]}`)
	// One event, like in Jitsu, when there is no template or no array; write keys are cut even there.
	f(`{"events":[{"a":1,"api_key":"s"},2,[3],{"b":2}]}`, `{"events":[{"a":1},2,[3],{"b":2}]}`)
	f(`{"template":{"api_key":"s","t":1},"events":{"api_key":"s"}}`, `{"template":{"t":1},"events":{}}`)
	f(`{"template":null,"events":[]}`, `{"template":null,"events":[]}`)
}

func TestRefusedBodies(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	o.Server.MaxEventBytes, o.Server.MaxBodyBytes = 1000, 10_000
	base := start(t, o)
	f := func(body string, status int, want, where string) {
		t.Helper()
		got := post(t, base, body)
		wantBody := fmt.Sprintf(`{"message":%s,"error":%s}`, event.AppendString(nil, want), event.AppendString(nil, where))
		if got.status != status || got.body != wantBody || got.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Errorf("%.60q: got %d %s, want %d %s", body, got.status, got.body, status, wantBody)
		}
		if evs := log.take(t); len(evs) != 0 {
			t.Errorf("%.60q: %d events stored", body, len(evs))
		}
	}
	const prefix = "Error parsing events body: "
	begin := func(at int) string {
		return fmt.Sprintf("at byte %d: an event, an array of events or a template object must begin here", at)
	}
	f(``, 400, prefix+"empty JSON body", "")
	f("\ufeff \n", 400, prefix+"empty JSON body", "")
	f(`null`, 400, prefix+`malformed JSON body begins with: "n"`, begin(0))
	f(` 1`, 400, prefix+`malformed JSON body begins with: "1"`, begin(1))
	f(`"x"`, 400, prefix+`malformed JSON body begins with: "\""`, begin(0))
	f(`{abc: "123"}`, 400, prefix+"error parsing HTTP body: invalid character 'a' looking for beginning of object key string", "at byte 2")
	f(`{"a":1`, 400, prefix+"error parsing HTTP body: unexpected EOF", "at byte 6")
	f(`[{"a":1}`, 400, prefix+"error parsing HTTP body: unexpected EOF", "at byte 8")
	f(`{"a":1}x`, 400, prefix+"error parsing HTTP body: invalid character 'x' after top-level value", "at byte 8")
	f(`[{"a":1},]`, 400, prefix+"error parsing HTTP body: invalid character ']' looking for beginning of value", "at byte 10")
	f(`{"a":01}`, 400, prefix+"error parsing HTTP body: invalid character '1' after object key:value pair", "at byte 7")
	f("{\"a\":\"\n\"}", 400, prefix+"error parsing HTTP body: invalid character '\\n' in string literal", "at byte 7")
	f(`[{"a":1},{"b":[}]`, 400, prefix+"error parsing HTTP body: invalid character '}' looking for beginning of value", "at byte 16")

	f(`[null]`, 400, prefix+"element 0 is null, not an object", "at byte 1")
	f(`[{}, 1]`, 400, prefix+"element 1 is a number, not an object", "at byte 5")
	f(`[{},"x"]`, 400, prefix+"element 1 is a string, not an object", "at byte 4")
	f(`[[{}]]`, 400, prefix+"element 0 is an array, not an object", "at byte 1")
	f(`[true]`, 400, prefix+"element 0 is a boolean, not an object", "at byte 1")
	f(`{"template":{},"events":[{},null]}`, 400, prefix+"element 1 is null, not an object", "at byte 28")

	text := strings.Repeat("x", 1000)
	f(`{"a":"`+text+`"}`, 400, prefix+"Event size 1008 exceeds limit: 1000", "")
	f(`[{},{"a":"`+text+`"},{}]`, 400, prefix+"Size of one of events exceeds limit: 1000", "element 1, at byte 4, has 1008 bytes")
	f(`{"template":{"a":"`+text[:600]+`"},"events":[{"b":"`+text[:600]+`"}]}`, 400, prefix+"Size of one of events exceeds limit: 1000",
		"element 0, at byte 631, has 1215 bytes with the template")

	const tooBig = "counted after decompression and with the template, or the batch's context, merged in; send fewer events at a time"
	f(`[`+strings.Repeat(`{},`, 4000)+`{}]`, 413, "Request body exceeds limit: 10000", tooBig)
	f(strings.Repeat(" ", 100_000), 413, "Request body exceeds limit: 10000", tooBig)
	f(`{"template":{"a":"`+text[:900]+`"},"events":[`+strings.Repeat(`{},`, 20)+`{}]}`, 413, "Request body exceeds limit: 10000", tooBig)

	const tooDeep = prefix + "nesting exceeds limit: 128"
	f(strings.Repeat(`[`, 3000), 400, prefix+"element 0 is an array, not an object", "at byte 1")
	f(`{"a":`+strings.Repeat(`[`, 900), 400, tooDeep, "at byte 132")
	f(strings.Repeat(`{"a":`, 129), 400, tooDeep, "at byte 640")
	f(`[`+strings.Repeat(`{"a":`, 128), 400, tooDeep, "at byte 636")
	f(`{"eventn_ctx":{"x":`+strings.Repeat(`[`, 127), 400, tooDeep, "at byte 145")
	f(`{"events":[{"x":`+strings.Repeat(`[`, 126), 400, tooDeep, "at byte 141")
}

func TestEventCount(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(body string, status, stored int) {
		t.Helper()
		if got := post(t, base, body); got.status != status {
			t.Errorf("%.30q: got %d %s, want %d", body, got.status, got.body, status)
		}
		if n := len(log.take(t)); n != stored {
			t.Errorf("%.30q: %d events stored, want %d", body, n, stored)
		}
	}
	f(`[{}`+strings.Repeat(`,{}`, 49_999)+`]`, 200, 50_000)
	f(`[{}`+strings.Repeat(`,{}`, 50_000)+`]`, 413, 0)
	f(`{"template":{},"events":[{}`+strings.Repeat(`,{}`, 50_000)+`]}`, 413, 0)
}

func TestGzip(t *testing.T) {
	log := &memoryLog{}
	o := testOptions(log)
	o.Server.MaxBodyBytes = 100_000
	base := start(t, o)
	f := func(body []byte, status int, want string, headers ...string) {
		t.Helper()
		got := send(t, "POST", base+"/api/v1/s2s/event?token=s2s.secret", body, headers...)
		if got.status != status || message(got.body) != want {
			t.Errorf("%.40q %q: got %d %s, want %d %s", body, headers, got.status, got.body, status, want)
		}
		if n := len(log.take(t)); (n > 0) != (status == 200) {
			t.Errorf("%.40q: status %d and %d events stored", body, got.status, n)
		}
	}
	packed := gzipped(t, `[{"a":1}]`)
	f(packed, 200, `{"status":"ok"}`, "Content-Encoding", "gzip")
	f(packed, 200, `{"status":"ok"}`)
	f([]byte(`{"a":1}`), 200, `{"status":"ok"}`, "Content-Encoding", "gzip")
	f(append(gzipped(t, `[{"a":1},`), gzipped(t, `{"b":1}]`)...), 200, `{"status":"ok"}`)
	f(gzipped(t, strings.Repeat(" ", 100_001)), 413, "Request body exceeds limit: 100000")
	f(gzipped(t, strings.Repeat(" ", 5_000_000)), 413, "Request body exceeds limit: 100000")
	f(packed[:len(packed)-3], 400, "Error parsing events body: gzip: unexpected EOF")
	f(append(bytes.Clone(packed), 'x'), 400, "Error parsing events body: gzip: unexpected EOF")
	f([]byte("\x1f\x8b"), 400, "Error parsing events body: gzip: unexpected EOF")
	f([]byte("\x1f\x8b{\"a\":1}       "), 400, "Error parsing events body: gzip: gzip: invalid header")
}

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestEventIDs(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	stored := func(body string) []string {
		t.Helper()
		if got := post(t, base, body); got.status != 200 {
			t.Fatalf("%q: got %d %s", body, got.status, got.body)
		}
		return ids(log.take(t))
	}

	own := func(body, want string) {
		t.Helper()
		if got := stored(body)[0]; got != want {
			t.Errorf("%.80s: id %q, want %q", body, got, want)
		}
	}
	own(`{"event_id":"c"}`, "c")
	own(`{"event_id":"c","eventn_ctx_event_id":"b"}`, "b")
	own(`{"event_id":"c","eventn_ctx_event_id":"b","eventn_ctx":{"event_id":"a"}}`, "a")
	own(`{"event_id":"c","eventn_ctx":{"event_id":""}}`, "c")
	own(`{"event_id":"c","eventn_ctx":{"event_id":null},"eventn_ctx_event_id":{}}`, "c")
	own(`{"event_id":-12345678901234567890.5}`, "-12345678901234567890.5")
	own(`{"event_id":"first","event_id":"last"}`, "last")
	own(`{"eventn_ctx":{"event_id":"a"},"eventn_ctx":{},"event_id":"c"}`, "c")
	own(`{"eventn_ctx":{"event_id":"a"},"eventn_ctx":1,"event_id":"c"}`, "c")
	own(`{"event\u005fid":"\u0063\""}`, `c"`)
	own(`{"event_id":"`+strings.Repeat("x", 200)+`"}`, strings.Repeat("x", 200))
	own(`{"event_id":"`+strings.Repeat("x", 201)+`"}`, "84a0678c-9093-8f5d-8f99-94d5866668da")
	own(`{"template":{"event_id":"t"},"events":[{"event_id":"c"}]}`, "t")

	again := func(body string, same bool, version string) {
		t.Helper()
		a, b := stored(body), stored(body)
		if cmp.Equal(a, b) != same {
			t.Errorf("%s sent twice: ids %q and %q, want them same: %v", body, a, b, same)
		}
		uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-` + version + `[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
		seen := map[string]bool{}
		for _, id := range append(a, b...) {
			if !uuid.MatchString(id) {
				t.Errorf("%s: id %q is no UUID of version %s", body, id, version)
			}
			seen[id] = true
		}
		want := len(a)
		if !same {
			want *= 2
		}
		if len(seen) != want {
			t.Errorf("%s: %d distinct ids in %q and %q, want %d", body, len(seen), a, b, want)
		}
	}
	again(`{"a":1}`, false, "4")
	again(`[{"a":1},{"a":1}]`, false, "4")
	again(`{"event_id":true,"utc_time":""}`, false, "4")
	again(`{"utc_time":5}`, false, "4")
	again(`{"utc_time":"t"}`, true, "8")
	again(`{"eventn_ctx":{"utc_time":"t","event_id":""}}`, true, "8")
	again(`[{"utc_time":"t"},{"utc_time":"t"},{"utc_time":"t"},{"utc_time":"u"}]`, true, "8")
	again(`{"template":{"utc_time":"t"},"events":[{},{},{"a":1}]}`, true, "8")

	// The write key and the rest of the queue make no difference.
	alone := stored(`{"utc_time":"t","api_key":"js.client"}`)[0]
	for i, id := range stored(`[{"utc_time":"t","api_key":"s2s.secret"},{"utc_time":"u"}]`)[:1] {
		if id != alone {
			t.Errorf("event %d of a queue has id %s, alone it had %s", i, id, alone)
		}
	}
}

func TestEnvelope(t *testing.T) {
	log := &memoryLog{}
	base := start(t, testOptions(log))
	f := func(path string, want event.Event, headers ...string) {
		t.Helper()
		if got := send(t, "POST", base+path, []byte(`{"event_id":"e"}`), headers...); got.status != 200 {
			t.Fatalf("%s: got %d %s", path, got.status, got.body)
		}
		agent := "Go-http-client/1.1"
		if len(headers) > 0 && headers[0] == "User-Agent" {
			agent = headers[1]
		}
		want.AnonymousHash = fmt.Sprintf("%x", md5.Sum([]byte(want.SourceIP+agent)))
		want.ID, want.Received, want.JSON = "e", receipt, []byte(`{"event_id":"e"}`)
		if diff := cmp.Diff([]event.Event{want}, log.take(t), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s %q (-want +got):\n%s", path, headers, diff)
		}
	}
	browser := event.Event{APIKey: "key2", SourceIP: "127.0.0.1", UserAgent: "Go-http-client/1.1"}
	f("/api/v1/event?token=js.open", browser)
	f("/api/v1/events/?token=js.open", browser)
	f("/api.x1?p_x2=js.open", browser)
	server := event.Event{APIKey: "key2", SourceIP: "127.0.0.1", Server: true, Source: "api"}
	f("/api/v1/s2s/event?token=s2s.open", server)
	f("/api/v1/s2s/events?token=s2s.open", server)
	f("/s2s/event/?token=s2s.open", server)
	f("/s2s/events?token=s2s.open", server)

	server.SourceIP = "2001:db8::7"
	f("/s2s/event?token=s2s.open", server, "X-Forwarded-For", "198.51.100.1, 2001:DB8:0::7, 10.1.2.3")
	browser.UserAgent = strings.Repeat("x", 1023)
	f("/api/v1/event?token=js.open", browser, "User-Agent", strings.Repeat("x", 1023)+"é")
}

func TestTokenPlaces(t *testing.T) {
	base := start(t, testOptions(&memoryLog{}))
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	f := func(status int, query string, headers ...string) {
		t.Helper()
		got := send(t, "POST", base+"/api/v1/event"+query, []byte(`{}`), headers...)
		if got.status != status {
			t.Errorf("%q %q: got %d %s, want %d", query, headers, got.status, got.body, status)
		}
		if strings.Contains(got.body+fmt.Sprint(got.header), "guess") {
			t.Errorf("%q %q: the token is repeated: %s %v", query, headers, got.body, got.header)
		}
	}
	f(200, "?token=js.open")
	f(200, "?token=js%2Eopen")
	f(200, "?x=1&p_x=js.open")
	f(200, "", "X-Auth-Token", "js.open")
	f(200, "", "Api_Key", "js.open")
	f(200, "", "Authorization", basic("js.open:"))
	f(200, "", "Authorization", basic("js.open"))
	f(200, "", "Authorization", basic("js.open:guess"))
	f(200, "", "Authorization", "bearer js.open")

	// The first place decides.
	f(200, "?token=js.open&p_x=guess", "X-Auth-Token", "guess")
	f(401, "?token=guess", "X-Auth-Token", "js.open")
	f(200, "?p_x=guess", "X-Auth-Token", "js.open", "api_key", "guess")
	f(200, "?p_x=guess", "api_key", "js.open")
	f(200, "?p_x=js.open", "Authorization", "Bearer guess")
	f(200, "?token=", "Authorization", "Bearer js.open")

	f(401, "")
	f(401, "?token=guess")
	f(401, "?token=js.ope")
	f(401, "?token=js.openn")
	f(401, "?token=key2")
	f(401, "?token=s2s.open")
	f(401, "?xp_x=js.open")
	f(401, "", "Authorization", "Basic guess!")
	f(401, "", "Authorization", "Digest js.open")
}

func TestUnstored(t *testing.T) {
	mem := &memoryLog{}
	o := testOptions(mem)
	full := false
	o.Refused = func(id string, _ event.Class) (string, bool) {
		return "lane crm/contacts is full", full && id == "key2"
	}
	base := start(t, o)
	f := func(token string, status int, retryAfter, body string) {
		t.Helper()
		got := send(t, "POST", base+"/s2s/event?token="+token, []byte(`{}`))
		if got.status != status || got.header.Get("Retry-After") != retryAfter || got.body != body {
			t.Errorf("%s: got %d, Retry-After %q, %s", token, got.status, got.header.Get("Retry-After"), got.body)
		}
		if n := len(mem.take(t)); (n > 0) != (status == 200) {
			t.Errorf("%s: status %d and %d events stored", token, got.status, n)
		}
	}
	const ok = `{"status":"ok"}`
	f("s2s.open", 200, "", ok)
	full = true
	f("s2s.open", 503, "5", `{"message":"Events of this API key are not accepted at the moment, send them again later","error":"lane crm/contacts is full"}`)
	f("s2s.secret", 200, "", ok)
	full = false
	mem.fail(fmt.Errorf("append: %w", log.ErrFull))
	f("s2s.open", 503, "5", `{"message":"Events can not be stored at the moment, send them again later","error":"log is full"}`)
	mem.fail(fmt.Errorf("append: %w", log.ErrFailed))
	f("s2s.open", 503, "30", `{"message":"Events can not be stored at the moment, send them again later","error":"log failed"}`)
	mem.fail(fmt.Errorf("append: %w", log.ErrTooBig))
	f("s2s.open", 413, "", `{"message":"Request exceeds what the log takes at once","error":"send fewer events at a time"}`)
	mem.fail(nil)
	f("s2s.open", 200, "", ok)
}

// A failing log is told about once, and once when it is over, not per request.
func TestFailingLogIsLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	mem := &memoryLog{}
	o := testOptions(mem)
	o.Logger = slog.New(slog.NewTextHandler(&out, nil))
	s, ctx := newServer(t, o), &fasthttp.RequestCtx{}
	ctx.Request.Header.SetMethod("POST")
	ctx.Request.SetRequestURI("/s2s/event?token=s2s.open")
	ctx.Request.SetBodyString(`{}`)
	for _, err := range []error{nil, log.ErrFull, log.ErrFull, log.ErrFailed, nil, nil, log.ErrFull} {
		mem.fail(err)
		postAgain(s, ctx)
	}
	failed, over := strings.Count(out.String(), "events are refused"), strings.Count(out.String(), "events are accepted again")
	if failed != 2 || over != 1 {
		t.Errorf("%d messages of a failure and %d of its end, want 2 and 1:\n%s", failed, over, out.String())
	}
}

package segment

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var received = time.Date(2026, 11, 21, 3, 0, 0, 123456000, time.UTC)

// convert returns the canonical event of a message without the kept message, and that.
func convert(t *testing.T, message string, o Options) (canonical, kept string, src Source) {
	t.Helper()
	if o.Protocol == "" {
		o.Protocol = "segment"
	}
	o.Received = received
	var c Converter
	out, src := c.Append([]byte("before"), []byte(message), &o)
	text, ok := strings.CutPrefix(string(out), "before")
	if !ok || !json.Valid([]byte(text)) {
		t.Fatalf("%s\nbecame %s", message, text)
	}
	kept = string(src.Kept)
	canonical, ok = strings.CutSuffix(text, fmt.Sprintf("%q:%s}", o.Protocol, kept))
	if !ok {
		t.Fatalf("%s\nbecame %s, which does not end in %s", message, text, kept)
	}
	return strings.TrimSuffix(canonical, ",") + "}", kept, src
}

func TestMessages(t *testing.T) {
	f := func(message, want string) {
		t.Helper()
		got, kept, _ := convert(t, message, Options{})
		if got != want || kept != message {
			t.Errorf("%s\n got %s\nwant %s\nkept %s", message, got, want, kept)
		}
	}
	// Kinds of messages.
	f(`{"type":"identify","userId":"u","traits":{"email":"a@b.co","plan":"pro"}}`, `{"event_type":"user_identify","user":{"id":"u","email":"a@b.co","plan":"pro"}}`)
	f(`{"type":"track","event":"Signed Up","properties":{"plan":"pro"}}`, `{"event_type":"Signed Up","plan":"pro"}`)
	f(`{"type":"page","name":"Home","category":"Docs"}`, `{"event_type":"pageview","name":"Home","category":"Docs"}`)
	f(`{"type":"screen","name":"Home","category":null}`, `{"event_type":"screen","name":"Home"}`)
	f(`{"type":"group","groupId":"g","traits":{"email":"sales@acme.example"},"userId":"u"}`,
		`{"event_type":"group","user":{"id":"u"},"group_id":"g","group":{"email":"sales@acme.example"}}`)
	f(`{"type":"alias","userId":"new","previousId":"old"}`, `{"event_type":"alias","user":{"id":"new"},"previous_id":"old"}`)
	f(`{"type":"merge","userId":"u"}`, `{"event_type":"merge","user":{"id":"u"}}`)
	f(`{"event":"no type"}`, `{"event_type":"no type"}`)
	f(`{"event_type":"of Jitsu's"}`, `{"event_type":"of Jitsu's"}`)
	f(`{}`, `{}`)

	// Names of events.
	f(`{"type":"track"}`, `{"event_type":"track"}`)
	f(`{"type":"track","event":""}`, `{"event_type":"track"}`)
	f(`{"type":"track","event":{}}`, `{"event_type":"track"}`)
	f(`{"type":"track","event":7}`, `{"event_type":7}`)
	f(`{"type":"track","event":"user_identify"}`, `{"event_type":"track"}`) // writes no contact
	f(`{"type":"track","event":"user\u005fidentify"}`, `{"event_type":"track"}`)

	// The user.
	f(`{"userId":12345678901234567890,"anonymousId":"a"}`, `{"user":{"id":12345678901234567890,"anonymous_id":"a"}}`)
	f(`{"userId":"","anonymousId":null,"traits":[]}`, `{}`)
	f(`{"userId":"u","traits":{"id":"t","anonymous_id":"kept","n":1}}`, `{"user":{"id":"u","anonymous_id":"kept","n":1}}`)
	f(`{"traits":{"id":"t"}}`, `{"user":{"id":"t"}}`)
	f(`{"context":{"traits":{"email":"a@b.co"}}}`, `{"user":{"email":"a@b.co"}}`)
	f(`{"traits":{"plan":"new"},"context":{"traits":{"plan":"old","n":1}}}`, `{"user":{"plan":"new","n":1}}`)
	f(`{"traits":{"a":1},"context":{"traits":{"a":1}}}`, `{"user":{"a":1}}`)
	f(`{"type":"group","traits":{"name":"Acme"},"context":{"traits":{"email":"a@b.co"}}}`,
		`{"event_type":"group","user":{"email":"a@b.co"},"group":{"name":"Acme"}}`)

	// Properties.
	f(`{"properties":{"a":12345678901234567890,"b":[1,{"c":null}],"\u00e4 b":"\ud83d\ude00"}}`, `{"a":12345678901234567890,"b":[1,{"c":null}],"\u00e4 b":"\ud83d\ude00"}`)
	f(`{"type":"track","event":"e","properties":{"event_type":"user_identify","user":{"email":"x@y.zz"},"event\u005fid":"1","api_key":"k","src":"s","timestamp":"t","previous_id":"p","x":1}}`,
		`{"event_type":"e","x":1}`)
	f(`{"type":"group","groupId":"g","properties":{"group_id":"p","group":"p"}}`, `{"event_type":"group","group_id":"g","group":"p"}`)
	f(`{"type":"page","name":"n","properties":{"name":"p","url":"u","location":"Berlin"},"context":{"page":{"url":"v","title":"t"},"location":{"city":"Rome"}}}`,
		`{"event_type":"pageview","name":"p","url":"u","location":"Berlin","doc":{"url":"v"},"page_title":"t"}`)
	f(`{"properties":"none"}`, `{}`)

	// The context.
	f(`{"context":{"page":{"path":"/p","title":"T","referrer":"https://r.example","search":"","url":"https://e.example/p"},"ip":"192.0.2.1","userAgent":"UA","locale":"de"}}`,
		`{"source_ip":"192.0.2.1","doc":{"path":"/p","referrer":"https://r.example","search":"","url":"https://e.example/p"},"url":"https://e.example/p","page_title":"T",`+
			`"referer":"https://r.example","user_agent":"UA","user_language":"de"}`)
	f(`{"context":{"campaign":{"name":"n","source":"s","campaign":"c"},"referrer":{"url":"u"},"page":{"referrer":"p"}}}`,
		`{"doc":{"referrer":"p"},"referer":"u","utm":{"campaign":"n","name":"n","source":"s"}}`)
	f(`{"context":{"campaign":{"campaign":"c"}}}`, `{"utm":{"campaign":"c"}}`)
	f(`{"context":{"page":{},"campaign":{},"os":{"name":"","version":""},"traits":{},"ip":"","userAgent":"","location":"x","screen":{"width":1}}}`, `{}`)
	f(`{"context":{"os":{"name":"iOS","version":"14"},"device":{"id":"d","manufacturer":"Apple","model":"m","name":"n","type":"ios","version":"12","advertisingId":"a","token":"t"},`+
		`"screen":{"width":1024,"height":768,"density":2},"location":{"city":"Rome"}}}`,
		`{"location":{"city":"Rome"},"parsed_ua":{"os_family":"iOS","os_version":"14","device_id":"d","device_advertising_id":"a","device_brand":"Apple","device_model":"m",`+
			`"device_name":"n","device_type":"ios","ua_version":"12"},"screen_resolution":"1024x768"}`)

	// White space, and of two members with one name the last.
	f("{ \"type\" : \"track\" ,\n\"event\" : \"e\" , \"properties\" : { \"a\" : [ 1 , 2 ] , \"b\" : true } }", `{"event_type":"e","a":[ 1 , 2 ],"b":true}`)
	f(`{"type":"page","type":"screen","context":{"locale":"de"},"context":{"ip":"::1"}}`, `{"event_type":"screen","source_ip":"::1"}`)
}

func TestTypeOfThePath(t *testing.T) {
	got, _, _ := convert(t, `{"type":"track","event":"e","userId":"u"}`, Options{Type: "identify"})
	if want := `{"event_type":"user_identify","user":{"id":"u"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBatchContext(t *testing.T) {
	o := Options{Context: []byte(`{"ip":"192.0.2.1","locale":"en","traits":{"email":"a@b.co"}}`)}
	got, kept, _ := convert(t, `{"type":"track","event":"e","context":{"locale":"de"}}`, o)
	if want := `{"event_type":"e","source_ip":"192.0.2.1","user":{"email":"a@b.co"},"user_language":"de"}`; got != want || strings.Contains(kept, "192") {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWriteKeysAreRemoved(t *testing.T) {
	for _, message := range []string{
		`{"writeKey":"SECRET","type":"track","event":"e"}`, `{"type":"track","event":"e","writeKey":"SECRET"}`, `{"writeKey":"SECRET"}`,
		`{"type":"track","write\u004bey":"SECRET","event":"e","api\u005fkey":{"a":"SECRET"},"api_key":"SECRET","writeKey":["SECRET"]}`,
	} {
		for _, form := range []Form{Flat, Jitsu, JitsuCompat} {
			canonical, kept, _ := convert(t, message, Options{Form: form})
			if strings.Contains(canonical+kept, "SECRET") || strings.Contains(message, "track") && kept != `{"type":"track","event":"e"}` {
				t.Errorf("%s became %s and %s", message, canonical, kept)
			}
		}
	}
}

func TestClock(t *testing.T) {
	f := func(members, batchSentAt, want string) {
		t.Helper()
		o := Options{}
		if batchSentAt != "" {
			o.SentAt = []byte(batchSentAt)
		}
		got, kept, src := convert(t, "{"+members+"}", o)
		if want != "" {
			want = `"utc_time":` + want
		}
		if got != "{"+want+"}" || kept != "{"+members+"}" || src.Timed != (want != "") {
			t.Errorf("%s: got %s, want %s; timed: %v", members, got, want, src.Timed)
		}
	}
	const at, sent = `"timestamp":"2026-11-21T12:00:00.000Z"`, `"sentAt":"2026-11-21T12:00:01.500Z"`
	f(at, "", `"2026-11-21T12:00:00.000Z"`)
	f(at+","+sent, "", `"2026-11-21T02:59:58.623Z"`) // 1.5 s before receipt
	f(at, `"2026-11-21T12:00:01.500Z"`, `"2026-11-21T02:59:58.623Z"`)
	f(at+","+sent, `"2026-11-21T13:00:00.000Z"`, `"2026-11-21T02:59:58.623Z"`) // its own goes before
	f(`"timestamp":"2026-11-21T13:00:00+01:00",`+sent, "", `"2026-11-21T02:59:58.623Z"`)
	f(`"originalTimestamp":"2026-11-21T12:00:00.000Z",`+sent, "", `"2026-11-21T02:59:58.623Z"`)               // RudderStack
	f(`"originalTimestamp":"2026-11-21T12:00:00.000Z",`+sent+`,`+at, "", `"2026-11-21T12:00:00.000Z"`)        // corrected before
	f(`"timestamp":"2016-01-01T00:00:00Z","sentAt":"2026-11-21T03:00:00Z"`, "", `"2016-01-01T00:00:00.123Z"`) // an import
	f(`"timestamp":"21.11.2026 12:00",`+sent, "", `"21.11.2026 12:00"`)                                       // who reads it may know the layout
	f(`"timestamp":1795229588292`, "", `1795229588292`)
	f(`"timestamp":"0001-01-01T00:00:00Z","sentAt":"9999-12-31T23:59:59Z"`, "", `"1734-08-12T03:12:43.268Z"`) // not believed by Event.Time
	f(sent, "", "")
	f(`"timestamp":null`, "", "")
}

func TestIDs(t *testing.T) {
	f := func(message, want string) {
		t.Helper()
		if _, _, src := convert(t, message, Options{}); string(src.ID) != want {
			t.Errorf("%s: got %s, want %s", message, src.ID, want)
		}
	}
	f(`{"messageId":"m","event_id":"e"}`, `"m"`)
	f(`{"messageId":"","eventn_ctx_event_id":5}`, `5`)
	f(`{"messageId":null,"event_id":"e"}`, `"e"`)
	f(`{"messageId":{}}`, ``)
}

// Jitsu's forms keep what Jitsu had at the top level; of a name that several have, the first goes before of: the event itself, a property, the context, the message.
func TestJitsuForms(t *testing.T) {
	const message = `{"type":"track","event":"e","userId":"u","anonymousId":"a","messageId":"m","properties":{"x":1,"channel":"mail"},"channel":"server","event_id":"i",` +
		`"context":{"library":{"name":"l"},"ip":"::1","locale":"de","referrer":{"url":"r","type":"t"},"version":2,"src":"no"},"version":3,"segment":{"s":1},"traits":{"email":"a@b.co"}}`
	f := func(form Form, want string) {
		t.Helper()
		got, kept, _ := convert(t, message, Options{Form: form})
		if diff := cmp.Diff(want, got); diff != "" || kept != message {
			t.Errorf("(-want +got):\n%s\nkept %s", diff, kept)
		}
	}
	f(Jitsu, `{"event_type":"e","source_ip":"::1","user":{"id":"u","internal_id":"u","anonymous_id":"a","email":"a@b.co"},"ids":{"ajs_user_id":"u","ajs_anonymous_id":"a"},`+
		`"x":1,"channel":"mail","referer":"r","user_language":"de","library":{"name":"l"},"referrer":{"type":"t"},"version":2,"event":"e"}`)
	f(JitsuCompat, `{"event_type":"e","source_ip":"::1","eventn_ctx":{"user":{"internal_id":"u","anonymous_id":"a","email":"a@b.co"},`+
		`"ids":{"ajs_user_id":"u","ajs_anonymous_id":"a"},"referer":"r","user_language":"de"},"x":1,"channel":"mail","library":{"name":"l"},"referrer":{"type":"t"},"version":2,"event":"e"}`)
}

func TestIsRudderStack(t *testing.T) {
	f := func(message string, want bool) {
		t.Helper()
		if got := IsRudderStack([]byte(message)); got != want {
			t.Errorf("%s: got %v", message, got)
		}
	}
	f(`{"originalTimestamp":"t","context":{"library":{"name":"analytics-node"}}}`, true)
	f(`{"timestamp":"t","context":{"library":{"name":"RudderLabs JavaScript SDK"}}}`, true)
	f(`{"timestamp":"t","context":{"library":{"name":"com.rudderstack.android.sdk.core"}}}`, true)
	f(`{"timestamp":"t","context":{"library":{"name":"@segment/analytics-node"}}}`, false)
	f(`{"timestamp":"t","originalTimestamp":"t"}`, false)
	f(`{}`, false)
}

package event

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"
)

func sample() Event {
	return Event{
		ID: "e1", APIKey: "key1", Account: "acme", Received: time.Date(2026, 11, 21, 2, 51, 54, 727_123_000, time.UTC), Class: Bulk, Server: true,
		Source: "api", SourceIP: "2001:db8::1", UserAgent: "node", Email: "a@b.co", AnonymousHash: "0123", Added: []byte(`{"location":{"city":"Ulm"}}`), JSON: []byte(`{"event_type":"signup","n":12345678901234567890}`),
	}
}

func TestRecordRoundTrip(t *testing.T) {
	f := func(ev Event) {
		t.Helper()
		var got Event
		if err := got.Decode(ev.AppendTo(nil)); err != nil {
			t.Fatalf("decode of %+v: %v", ev, err)
		}
		if diff := cmp.Diff(ev, got); diff != "" {
			t.Errorf("record changed (-want +got):\n%s", diff)
		}
	}
	f(sample())
	f(Event{Received: time.UnixMicro(0).UTC(), JSON: []byte(`{}`)})
	f(Event{Received: time.UnixMicro(-5).UTC(), JSON: []byte(`{}`), ID: string(bytes.Repeat([]byte("x"), 5000))})
}

// TestDecodeOlderRecord: what an older router left in log and lanes.
func TestDecodeOlderRecord(t *testing.T) {
	f := func(rec string, want Event) {
		t.Helper()
		var got Event
		if err := got.Decode([]byte(rec)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", rec, diff)
		}
	}
	want := Event{
		ID: "e1", APIKey: "k", Received: time.UnixMicro(1).UTC(), Class: Bulk, Server: true, Source: "api", UserAgent: "UA", Email: "a@b.co",
		JSON: []byte(`{"a":1}`),
	}
	f("\x01\x01\x01\x02\x02e1\x01k\x03api\x00\x02UA\x06a@b.co{\"a\":1}", want)
	want.AnonymousHash, want.Added = "0a", []byte(`{"b":2}`)
	f("\x02\x01\x01\x02\x02e1\x01k\x03api\x00\x02UA\x06a@b.co\x020a\x07{\"b\":2}{\"a\":1}", want)
}

func TestDecodeRefusesCutRecords(t *testing.T) {
	ev := sample()
	rec := ev.AppendTo(nil)
	head := len(rec) - len(ev.JSON)
	for n := range head {
		var got Event
		if err := got.Decode(rec[:n]); err == nil {
			t.Errorf("a record cut to %d of %d bytes decodes", n, len(rec))
		}
	}
}

func FuzzDecode(f *testing.F) {
	ev := sample()
	f.Add(ev.AppendTo(nil))
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, rec []byte) {
		var ev, again Event
		if ev.Decode(rec) != nil {
			return
		}
		if err := again.Decode(ev.AppendTo(nil)); err != nil {
			t.Fatalf("a decoded event does not decode again: %v", err)
		}
		if diff := cmp.Diff(ev, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestNormalize(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(Normalize([]byte(in))); got != want {
			t.Errorf("Normalize(%s)\n got %s\nwant %s", in, got, want)
		}
	}
	f(`{"a":1,"b":2}`, `{"a":1,"b":2}`)
	f(`{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`)
	f(`{"a":1,"\u0061":3}`, `{"a":3}`)
	f(`{"u":{"email":"x","email":"y"}}`, `{"u":{"email":"y"}}`)
	f(`[{"k":1,"k":{"z":1,"z":2}}]`, `[{"k":{"z":2}}]`)
	f(`{"a":"b","b":"a"}`, `{"a":"b","b":"a"}`)
	f(`{"a":{"x":1},"b":{"x":1}}`, `{"a":{"x":1},"b":{"x":1}}`)
	f(`{"a":["a","a"],"b":"a"}`, `{"a":["a","a"],"b":"a"}`)
	f(`{"a" : 1 , "a" : 2}`, `{"a":2}`)
	f(`{"x":12345678901234567890,"x":1.10}`, `{"x":1.10}`)
	f(`{"a\"":1,"a\"":2}`, `{"a\"":2}`)
	f(`{"a":{"b":1,"b":2},"c":[{"d":1,"d":{"e":1,"e":" "}}],"a":{"b":3,"b":[4, 5],"x":6},"a":{"b":7,"b":8}}`, `{"a":{"b":8},"c":[{"d":{"e":" "}}]}`)
	f(`{"a":1,"b":{"a":2},"b":3,"a":{"b":{}}}`, `{"a":{"b":{}},"b":3}`)
	f(` [ { "a" : [ ] , "a" : { } } , 1 , true ] `, `[{"a":{}},1,true]`)
}

// FuzzNormalize holds Normalize against encoding/json, which also takes the last of duplicates.
func FuzzNormalize(f *testing.F) {
	for _, s := range []string{`{"a":1,"a":2}`, `{"a":{"b":[{"c":1,"c":"\\\""}]}}`, `{"\u0061":1,"a":2}`, `{"":1,"":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if !json.Valid(in) || !gjson.ValidBytes(in) || depth(in) > 100 {
			return
		}
		out := Normalize(in)
		var want, got any
		if err := json.Unmarshal(in, &want); err != nil {
			return
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%s became %s: %v", in, out, err)
		}
		// encoding/json merges duplicate members that are objects; the last one as it stands is what JavaScript has. Compare by our own walk.
		if diff := cmp.Diff(lastWins(gjson.ParseBytes(in)), lastWins(gjson.ParseBytes(out))); diff != "" {
			t.Fatalf("%s became %s:\n%s", in, out, diff)
		}
		if mayHaveDuplicates(out) && !bytes.ContainsRune(out, '\\') && len(out) < 500 {
			t.Fatalf("%s still has duplicates: %s", in, out)
		}
	})
}

func depth(in []byte) int {
	d, most := 0, 0
	for _, c := range in {
		switch c {
		case '{', '[':
			d++
			most = max(most, d)
		case '}', ']':
			d--
		}
	}
	return most
}

func lastWins(v gjson.Result) any {
	switch {
	case v.IsObject():
		m := map[string]any{}
		v.ForEach(func(k, v gjson.Result) bool { m[k.Str] = lastWins(v); return true })
		return m
	case v.IsArray():
		var a []any
		v.ForEach(func(_, v gjson.Result) bool { a = append(a, lastWins(v)); return true })
		return a
	default:
		return v.Raw
	}
}

func TestView(t *testing.T) {
	f := func(ev Event, in, want string) {
		t.Helper()
		ev.JSON = []byte(in)
		got := string(ev.AppendView(nil))
		if got != want {
			t.Errorf("view of %s\n got %s\nwant %s", in, got, want)
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("view of %s is not JSON: %s", in, got)
		}
	}
	ev := Event{ID: "id1", APIKey: "k", Received: time.Date(2020, 6, 16, 23, 0, 0, 0, time.UTC), Source: "api", SourceIP: "10.0.0.1", UserAgent: "UA"}
	const stamp = `"_timestamp":"2020-06-16T23:00:00.000000Z"`
	f(ev, `{}`, `{"api_key":"k","eventn_ctx_event_id":"id1","src":"api","source_ip":"10.0.0.1","user_agent":"UA",`+stamp+`}`)
	f(ev, `{"src":"jitsu","source_ip":"1.1.1.1","user_agent":"x","a":1}`,
		`{"src":"jitsu","source_ip":"1.1.1.1","user_agent":"x","a":1,"api_key":"k","eventn_ctx_event_id":"id1",`+stamp+`}`)
	f(ev, `{"_timestamp":"t","api_key":"secret","src":"s","source_ip":""}`,
		`{"_timestamp":"t","src":"s","source_ip":"","api_key":"k","eventn_ctx_event_id":"id1","user_agent":"UA"}`)
	f(ev, `{"event_id":"","eventn_ctx_event_id":"","_timestamp":"t","src":"s","source_ip":"i","user_agent":"x"}`,
		`{"_timestamp":"t","src":"s","source_ip":"i","user_agent":"x","api_key":"k","eventn_ctx_event_id":"id1"}`)
	f(ev, `{"event_id":"id1","_timestamp":"t","src":"s","source_ip":"i","user_agent":"x"}`,
		`{"_timestamp":"t","src":"s","source_ip":"i","user_agent":"x","api_key":"k","eventn_ctx_event_id":"id1"}`)
	f(ev, `{"event_id":"another","_timestamp":"t","src":"s","source_ip":"i","user_agent":"x"}`,
		`{"event_id":"another","_timestamp":"t","src":"s","source_ip":"i","user_agent":"x","api_key":"k","eventn_ctx_event_id":"id1"}`)
	f(ev, `{"src":"e","source_ip":"i","eventn_ctx":{"event_id":"","user":{"id":1}}}`,
		`{"src":"e","source_ip":"i","eventn_ctx":{"event_id":"id1","user":{"id":1},"user_agent":"UA"},"api_key":"k",`+stamp+`}`)
}

// TestViewOfAdded: what the router found out stands behind the client's own, inside eventn_ctx where the event has one.
func TestViewOfAdded(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		ev := Event{
			APIKey: "k", Received: time.Date(2020, 6, 16, 23, 0, 0, 0, time.UTC), JSON: []byte(in),
			Added: []byte(`{"location":{"city":"Ulm"},"parsed_ua":{"ua_family":"curl","bot":true},"headers":{}}`),
		}
		got := string(ev.AppendView(nil))
		got = strings.Replace(got, `"api_key":"k","_timestamp":"2020-06-16T23:00:00.000000Z"`, "…", 1)
		if got != want {
			t.Errorf("view of %s\n got %s\nwant %s", in, got, want)
		}
	}
	const location, parsed, headers = `"location":{"city":"Ulm"}`, `"parsed_ua":{"ua_family":"curl","bot":true}`, `"headers":{}`
	f(`{}`, `{…,`+location+`,`+parsed+`,`+headers+`}`)
	f(`{"location":{"country":"FR"}}`, `{"location":{"country":"FR"},…,`+parsed+`,`+headers+`}`)
	f(`{"location":null,"parsed_ua":"x","headers":1}`, `{"location":null,"parsed_ua":"x","headers":1,…}`)
	f(`{"parsed_ua":{"ua_family":"own","x":1}}`, `{"parsed_ua":{"ua_family":"own","x":1,"bot":true},…,`+location+`,`+headers+`}`)
	f(`{"parsed_ua":{}}`, `{`+parsed+`,…,`+location+`,`+headers+`}`)
	f(`{"eventn_ctx":{"a":1}}`, `{"eventn_ctx":{"event_id":"","a":1,`+location+`,`+parsed+`},…,`+headers+`}`)
	f(`{"eventn_ctx":{"parsed_ua":{"bot":false},"location":{}},"parsed_ua":1}`,
		`{"eventn_ctx":{"event_id":"","parsed_ua":{"bot":false,"ua_family":"curl"},"location":{}},"parsed_ua":1,…,`+headers+`}`)
	f(`{"eventn_ctx":"text"}`, `{"eventn_ctx":"text",…,`+location+`,`+parsed+`,`+headers+`}`)
}

// TestViewOfWhatTheRouterAdds: the hash in the user, what was found out behind the client's own members, headers in their place.
func TestViewOfWhatTheRouterAdds(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		ev := Event{
			APIKey: "k", AnonymousHash: "h", JSON: []byte(in),
			Added: []byte(`{"__HTTP_CONTEXT__":{"headers":{}},"location":{"city":"Ulm"}}`),
		}
		got := string(ev.AppendView(nil))
		if got = strings.ReplaceAll(got, `"api_key":"k","_timestamp":"0001-01-01T00:00:00.000000Z",`, ""); got != want {
			t.Errorf("view of %s\n got %s\nwant %s", in, got, want)
		}
	}
	const headers, added = `"__HTTP_CONTEXT__":{"headers":{}}`, `"__HTTP_CONTEXT__":{"headers":{}},"location":{"city":"Ulm"}}`
	f(`{}`, `{`+added)
	f(`{"user":{}}`, `{"user":{"hashed_anonymous_id":"h"},`+added)
	f(`{"user":{"id":1,"hashed_anonymous_id":"mine"}}`, `{"user":{"id":1,"hashed_anonymous_id":"h"},`+added)
	f(`{"user":"bob"}`, `{"user":"bob",`+added)
	f(`{"eventn_ctx":{"event_id":"e","user":{"id":1}}}`, `{"eventn_ctx":{"event_id":"","user":{"id":1,"hashed_anonymous_id":"h"},"location":{"city":"Ulm"}},`+headers+`}`)
	f(`{"location":null}`, `{"location":null,`+headers+`}`)
	f(`{"__HTTP_CONTEXT__":"made up"}`, `{`+added)
}

func TestAccessors(t *testing.T) {
	received := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	f := func(in, wantType, wantEmail string, wantTime time.Time) {
		t.Helper()
		ev := Event{JSON: []byte(in), Received: received, Email: "remembered@b.co"}
		if got := ev.Type(); got != wantType {
			t.Errorf("Type of %s = %q, want %q", in, got, wantType)
		}
		if got := ev.UserEmail(); got != wantEmail {
			t.Errorf("UserEmail of %s = %q, want %q", in, got, wantEmail)
		}
		if got := ev.Time(); !got.Equal(wantTime) {
			t.Errorf("Time of %s = %s, want %s", in, got, wantTime)
		}
	}
	f(`{"event_type":"a","user":{"email":" A@b.co "}}`, "a", "A@b.co", received)
	f(`{"event_type":5,"user":{"Email":"x@b.co"}}`, "5", "x@b.co", received)
	f(`{"event_type":null,"user":{"Email":"x@b.co","email":"y@b.co"}}`, "", "y@b.co", received)
	f(`{"event_type":{},"user":{"email":null}}`, "", "remembered@b.co", received)
	f(`{"user":{"email":7}}`, "", "remembered@b.co", received)
	f(`{"user":"bob","eventn_ctx":{"user":{"email":"c@b.co"}}}`, "", "c@b.co", received)
	f(`{"user":{"id":1},"eventn_ctx":{"user":{"email":"c@b.co"}}}`, "", "c@b.co", received)
	f(`{"user":{"email":"a@b.co"},"eventn_ctx":{"user":{"email":"c@b.co"}}}`, "", "a@b.co", received)
	f(`{"utc_time":"2026-11-21T02:51:54.727000Z"}`, "", "remembered@b.co", time.Date(2026, 11, 21, 2, 51, 54, 727_000_000, time.UTC))
	f(`{"eventn_ctx":{"utc_time":"2026-11-20T02:51:54Z"}}`, "", "remembered@b.co", time.Date(2026, 11, 20, 2, 51, 54, 0, time.UTC))
	f(`{"utc_time":"2027-11-21T02:51:54Z"}`, "", "remembered@b.co", received) // a clock that runs a year ahead
	f(`{"utc_time":"yesterday"}`, "", "remembered@b.co", received)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, v := range []string{
		`"2026-01-02T03:04:05"`, `"2026-01-02 03:04:05"`, `"2026-01-02 04:04:05+01:00"`, `"2026-01-02T04:04:05+01:00"`,
		`1767323045`, `1767323045000`, `1.767323045e9`, `"1767323045"`, `"1767323045000"`,
	} {
		f(`{"timestamp":`+v+`}`, "", "remembered@b.co", at)
	}
	f(`{"timestamp":1767323045678}`, "", "remembered@b.co", at.Add(678*time.Millisecond))
	for _, v := range []string{`0`, `-5`, `2026`, `"2026"`, `1e300`, `"NaN"`, `"-1767323045"`, `true`, `"2026-01-02"`, `1767323045000000`} {
		f(`{"timestamp":`+v+`}`, "", "remembered@b.co", received)
	}
}

var payload = []byte(`{"event_id":"","user":{"anonymous_id":"gsut4xh84y","id":"123","email":"john.doe@example.com","firstname":"John"},"ids":{},` +
	`"utc_time":"2026-11-21T02:52:27.371000Z","local_tz_offset":0,"referer":"https://www.google.com/","url":"http://example.com/pricing?utm_source=newsletter",` +
	`"page_title":"Pricing page","doc_path":"/pricing","doc_host":"example.com","screen_resolution":"0x0","vp_size":"1024x768","user_agent":"Mozilla/5.0",` +
	`"user_language":"en-US","doc_encoding":"UTF-8","utm":{"source":"newsletter","medium":"email"},"click_id":{"gclid":"G1"},"src":"jitsu","event_type":"pageview"}`)

func BenchmarkNormalizeWithoutDuplicates(b *testing.B) {
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		Normalize(payload)
	}
}

// BenchmarkNormalizeNested: 50 KiB, nested as deep as ingest takes it, with a duplicate at each depth.
func BenchmarkNormalizeNested(b *testing.B) {
	const depth = 120
	pad := "[" + strings.Repeat("1,", 25<<10/depth-12) + "1]"
	deep := []byte(strings.Repeat(`{"p":1,"p":`+pad+`,"a":`, depth) + "1" + strings.Repeat("}", depth))
	b.SetBytes(int64(len(deep)))
	b.ReportAllocs()
	for b.Loop() {
		Normalize(deep)
	}
}

func BenchmarkAppendTo(b *testing.B) {
	ev := sample()
	ev.JSON = payload
	buf := ev.AppendTo(nil)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = ev.AppendTo(buf[:0])
	}
}

func BenchmarkDecode(b *testing.B) {
	ev := sample()
	ev.JSON = payload
	rec := ev.AppendTo(nil)
	b.SetBytes(int64(len(rec)))
	b.ReportAllocs()
	for b.Loop() {
		if err := ev.Decode(rec); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendView(b *testing.B) {
	ev := sample()
	ev.JSON = payload
	buf := ev.AppendView(nil)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		buf = ev.AppendView(buf[:0])
	}
}

package ingest

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func readServer(tb testing.TB) *Server {
	tb.Helper()
	o := testOptions(&memoryLog{})
	s, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestRead: what a dry run reads is what the same post would store.
func TestRead(t *testing.T) {
	log := &memoryLog{}
	at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	o := testOptions(log)
	o.Now = func() time.Time { return at }
	base := start(t, o)
	s := readServer(t)
	f := func(route, token, body string) {
		t.Helper()
		if got := send(t, "POST", base+route+"?token="+token, []byte(body), "User-Agent", "test"); got.status != 200 {
			t.Fatalf("%s: %d %s", route, got.status, got.body)
		}
		want := log.take(t)
		tried, err := s.Read(Posted{Route: route, APIKey: "key1", Received: at, UserAgent: "test", Addr: netip.MustParseAddr("127.0.0.1"), Body: []byte(body)})
		if err != nil || len(tried.Events) != len(want) {
			t.Fatalf("%s %s: %d events, %v, want %d", route, body, len(tried.Events), err, len(want))
		}
		for i := range want {
			if got, want := string(tried.Events[i].AppendTo(nil)), string(want[i].AppendTo(nil)); got != want {
				t.Errorf("%s %s: event %d is %q, want %q", route, body, i, got, want)
			}
		}
	}
	f("/api/v1/s2s/event", "s2s.secret", `{"event_id":"1","event_type":"a","api_key":"cut"}`)
	f("/api/v1/event", "js.client", `[{"event_id":"1","event_type":"a","user":{"anonymous_id":"x"}},{"eventn_ctx":{"event_id":"2"}}]`)
	f("/api/v1/event", "js.client", `{"template":{"a":1},"events":[{"event_id":"1"},{"event_id":"2","a":2}]}`)
	f("/v1/batch", "s2s.secret", `{"batch":[{"type":"identify","messageId":"1","userId":"u","traits":{"email":"a@b.co"}}]}`)
	f("/v1/track", "s2s.secret", `{"event":"x","messageId":"1","userId":"u"}`)

	g := func(p Posted, want string) {
		t.Helper()
		if _, err := s.Read(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", p, err, want)
		}
	}
	g(Posted{Body: []byte(`{"a":`)}, "unexpected EOF")
	g(Posted{Body: []byte(`[7]`)}, "element 0 is a number, not an object")
	g(Posted{Body: []byte(`{}`), APIKey: "zz"}, "API key with id=[zz] does not exist")
	g(Posted{Body: []byte(`{}`), Route: "/ping"}, "no events are posted there")
	g(Posted{Body: []byte(`{}`), Route: "/v1/batch"}, "the body has neither 'batch' nor 'type'")
	g(Posted{Body: []byte(`[` + strings.Repeat("{},", maxTried) + `{}]`)}, "Number of events exceeds limit: 100")
}

// FuzzRead: whatever body comes, a dry run ends with events or with a reason.
func FuzzRead(f *testing.F) {
	s := readServer(f)
	for _, body := range []string{`{}`, `[{"event_id":1},{}]`, `{"template":{"a":1},"events":[{}]}`, `{"batch":[{"type":"identify"},7]}`, "\xef\xbb\xbf{}", "\x1f\x8b\x08", `{"a":"\ud800"}`} {
		f.Add("", []byte(body), false)
		f.Add("/v1/batch", []byte(body), true)
		f.Add("/api/s/event", []byte(body), true)
	}
	f.Fuzz(func(t *testing.T, route string, body []byte, browser bool) {
		tried, err := s.Read(Posted{Route: route, Browser: browser, Received: time.Unix(1, 0), Body: body})
		if err == nil && len(tried.Events)+len(tried.LeftOut) == 0 && len(body) == 0 {
			t.Error("an empty body is taken")
		}
		for _, ev := range tried.Events {
			if ev.ID == "" || ev.APIKey == "" || len(ev.JSON) == 0 || browser && ev.Server {
				t.Errorf("%q: event %+v", body, ev)
			}
		}
	})
}

//go:build !race

package ingest

import "testing"

// sync.Pool drops values at random under the race detector, so this guard runs without it.
func TestAcceptDoesNotAllocate(t *testing.T) {
	f := func(name, path string, body []byte) {
		t.Helper()
		s, ctx := benchRequest(t, path, body)
		if n := testing.AllocsPerRun(500, func() { postAgain(s, ctx) }); n != 0 {
			t.Errorf("%s: %v allocations per request", name, n)
		}
		if got := ctx.Response.StatusCode(); got != 200 {
			t.Errorf("%s: status %d %s", name, got, ctx.Response.Body())
		}
	}
	f("one event with a time", "/api/v1/event?token=js.client", benchEvent("u"))
	f("one event without", "/s2s/event?token=s2s.secret", []byte(`{"event_type":"t","api_key":"s2s.secret"}`))
	f("one event with an id", "/s2s/event?token=s2s.secret", []byte(`{"event_id":"e"}`))
	f("a randomized path", "/api.x?p_y=js.open", benchEvent("u"))
	f("a batch of Segment's", "/v1/batch?token=s2s.secret", messageBatch(15, true))
	f("a message of Jitsu's second version", "/api/s/s2s/track?writekey=key1:s2s.secret", []byte(`{"event":"t","userId":"u","sentAt":"2026-11-21T02:53:08.295Z"}`))
	f("policies", "/api/v1/event?token=js.open&cookie_policy=strict&ip_policy=strict", benchEvent("u"))
	f("an address of its own", "/api/v1/event?token=js.open", []byte(`{"source_ip":"203.0.113.7","user":{}}`))
	f("100 events", "/api/v1/event?token=js.client", benchArray(100))
}

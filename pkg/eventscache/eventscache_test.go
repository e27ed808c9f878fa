package eventscache

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/event"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/store"
)

func newCache(capacity int) *Cache {
	return New(Options{
		Capacity: capacity, Interval: time.Minute, Members: Members{
			APIKeys: []string{"web", "app"}, Destinations: []string{"crm", "lake"},
			Address: func(destination, lane string) (method, url string) {
				return "POST", "https://" + destination + "/" + lane
			},
		},
	})
}

func eventOf(id string) *event.Event {
	return &event.Event{
		ID: id, APIKey: "web", Received: time.Now().UTC(), Server: true, SourceIP: "10.0.0.1", JSON: []byte(`{"event_type":"t","user":{"email":"a@b.co"}}`),
	}
}

// accept posts events with these ids in one request.
func accept(c *Cache, ids ...string) {
	var recs [][]byte
	for _, id := range ids {
		recs = append(recs, eventOf(id).AppendTo(nil))
	}
	c.Accepted("web", recs)
}

func uids(a Answer) string {
	var ids []string
	for _, e := range a.Events {
		ids = append(ids, e.UID)
	}
	return strings.Join(ids, " ")
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(3)
		q := Query{Namespace: Tokens, IDs: []string{"web"}}
		accept(c, "a", "b")
		time.Sleep(time.Second)
		accept(c, "c", "d", "e")
		a := c.Events(q)
		want(t, "events", uids(a), "c b a")
		want(t, "numbers", []int64{int64(a.TotalEvents), a.LastMinuteLimited, int64(a.CacheCapacityPerInterval), int64(a.IntervalSeconds), int64(a.ResponseEvents)},
			[]int64{3, 2, 3, 60, 3})
		time.Sleep(time.Minute)
		accept(c, "f")
		a = c.Events(q)
		want(t, "after a minute", uids(a), "f c b")
		want(t, "limited", a.LastMinuteLimited, int64(0))
		want(t, "limit", uids(c.Events(Query{Namespace: Tokens, IDs: q.IDs, Limit: 1})), "f")
		start := time.Now().Add(-30 * time.Second)
		want(t, "start", uids(c.Events(Query{Namespace: Tokens, IDs: q.IDs, Start: start})), "f")
		want(t, "end", uids(c.Events(Query{Namespace: Tokens, IDs: q.IDs, End: start})), "c b")
		want(t, "of another key", uids(c.Events(Query{Namespace: Tokens, IDs: []string{"app", "unheard"}})), "")
		want(t, "of a destination", uids(c.Events(Query{Namespace: Destinations, IDs: []string{"crm"}})), "")
	})
}

// TestOutcomes: what became of an event stands in its place when it is known.
func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(100)
		ids := []string{"delivered", "retried", "filtered", "skipped", "dead", "under way", "minimal"}
		accept(c, ids...)
		for i, id := range ids {
			c.Routed("crm", uint64(i), eventOf(id))
		}
		c.Failed("crm", 1, "503")
		errors := Query{Namespace: Destinations, IDs: []string{"crm"}, Errors: true}
		want(t, "failing", uids(c.Events(errors)), "retried")
		outcome := func(offset uint64, s store.Status) store.Outcome {
			return store.Outcome{Destination: "crm", Lane: "contacts", Offset: offset, Status: s, Attempts: 2, APIKey: "web"}
		}
		delivered := outcome(0, store.Delivered)
		delivered.Detail = json.RawMessage(`{"contact_id":"101"}`)
		retried := outcome(1, store.Delivered)
		skipped := outcome(3, store.Skipped)
		skipped.Reason = "no identity"
		dead := outcome(4, store.Dead)
		dead.Error = "refused"
		minimal := outcome(6, store.Delivered)
		minimal.Minimal = true
		c.Settled([]store.Outcome{delivered, retried, outcome(2, store.Filtered), skipped, dead, minimal, outcome(99, store.Delivered)})
		want(t, "errors", uids(c.Events(errors)), "dead")
		got := map[string]Event{}
		for _, e := range c.Events(Query{Namespace: Destinations, IDs: []string{"crm"}}).Events {
			if e.Destination != "crm" || e.Token != "web" || e.Timestamp != time.Now().UTC().Format(event.TimestampLayout) {
				t.Errorf("%+v", e)
			}
			want(t, "original", string(e.Original), `{"event_type":"t","user":{"email":"a@b.co"},"api_key":"web","eventn_ctx_event_id":"`+e.UID+
				`","source_ip":"10.0.0.1","_timestamp":"`+e.Timestamp+`"}`)
			got[e.UID] = Event{Success: e.Success, Error: e.Error, Skip: e.Skip}
		}
		want(t, "outcomes", got, map[string]Event{
			"delivered": {Success: json.RawMessage(`{"destination_id":"crm","method":"POST","url":"https://crm/contacts","lane":"contacts","attempts":2,"body":{"contact_id":"101"}}`)},
			"retried":   {Success: json.RawMessage(`{"destination_id":"crm","method":"POST","url":"https://crm/contacts","lane":"contacts","attempts":2}`)},
			"filtered":  {Skip: "Transform or table name filter marked object to be skipped. This object will be skipped."},
			"skipped":   {Skip: "no identity"}, "dead": {Error: "refused"}, "under way": {}, "minimal": {},
		})

		now := time.Now().UTC()
		c.Settled([]store.Outcome{
			{APIKey: "web", EventID: "dead", Received: now, Status: store.Duplicate}, {APIKey: "web", EventID: "minimal", Received: now, Status: store.Unrouted},
		})
		skips := map[string]string{}
		for _, e := range c.Events(Query{Namespace: Tokens, IDs: []string{"web"}}).Events {
			if e.Skip != "" {
				skips[e.UID] = e.Skip
			}
		}
		want(t, "of API keys", skips, map[string]string{"dead": skipDuplicate, "minimal": skipUnrouted})
	})
}

// TestOutputs: of several outputs of one event the failure of one is not hidden by what became of the others.
func TestOutputs(t *testing.T) {
	f := func(outcomes []store.Outcome, problem, skip string, successLane string) {
		t.Helper()
		c := newCache(100)
		c.Routed("crm", 1, eventOf("e"))
		for i := range outcomes {
			outcomes[i].Destination, outcomes[i].Offset = "crm", 1
			c.Settled(outcomes[i : i+1])
			c.Failed("crm", 1, "503")
		}
		c.Settled([]store.Outcome{{Destination: "crm", Offset: 1, Index: 9, Status: store.Delivered, Lane: "last"}})
		e := c.Events(Query{Namespace: Destinations, IDs: []string{"crm"}}).Events[0]
		var success struct{ Lane string }
		if err := json.Unmarshal(e.Success, &success); err != nil {
			t.Fatal(err)
		}
		want(t, fmt.Sprint(outcomes), []string{e.Error, e.Skip, success.Lane}, []string{problem, skip, successLane})
	}
	dead := store.Outcome{Index: 1, Status: store.Dead, Error: "refused"}
	first, second := store.Outcome{Status: store.Delivered, Lane: "first"}, store.Outcome{Index: 2, Status: store.Delivered, Lane: "second"}
	f([]store.Outcome{first, dead, second}, "output 1: refused", "", "first")
	f([]store.Outcome{second, dead, first}, "output 1: refused", "", "first")
	f([]store.Outcome{dead, {Status: store.Dead, Error: "worse"}}, "worse", "", "last")
	f([]store.Outcome{dead, {Index: 1, Status: store.Delivered, Lane: "its other lane"}}, "", "", "its other lane")
	f([]store.Outcome{first, {Index: 1, Status: store.Filtered}, {Index: 2, Status: store.Skipped, Reason: "no identity"}}, "", "no identity", "first")
}

// TestDuplicateThatIsLeftOut says nothing of the event that came before it.
func TestDuplicateThatIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(1)
		accept(c, "a")
		time.Sleep(time.Second)
		accept(c, "a")
		c.Settled([]store.Outcome{{APIKey: "web", EventID: "a", Received: time.Now().UTC(), Status: store.Duplicate}})
		want(t, "skip of the first", c.Events(Query{Namespace: Tokens, IDs: []string{"web"}}).Events[0].Skip, "")
	})
}

func TestMalformed(t *testing.T) {
	c := newCache(100)
	f := func(body, want string) {
		t.Helper()
		c.Malformed("web", []byte(body), "Error parsing events body")
		e := c.Events(Query{Namespace: Tokens, IDs: []string{"web"}, Errors: true, Limit: 1}).Events[0]
		if e.Malformed != want || e.Error != "Error parsing events body" {
			t.Errorf("%q is shown as %q, want %q", body, e.Malformed, want)
		}
		time.Sleep(time.Microsecond) // the newest comes first
	}
	f(`{"a":`, `{"a":`)
	f(`{"api_key":"js.old-key","b":1`, `{"api_key":"***","b":1`)
	f(`{"API_KEY" : 'js.old-key'}`, `{"API_KEY" : '***'}`)
	f(`token=js.old-key&x=1`, `token=***&x=1`)
	f(`{"x_access_token":"abc"`, `{"x_access_token":"***"`)
	f(`{"Authorization":"Bearer abc.def","c":`, `{"Authorization":"Bearer ***","c":`)
	f("\xff\xfe", "\uFFFD")
	f(strings.Repeat("é", 20_000), strings.Repeat("é", 5000-maxWordBytes/2))
}

// TestBounds: however large events are, a ring keeps so many bytes.
func TestBounds(t *testing.T) {
	c := newCache(10_000)
	pad := strings.Repeat("x", 50_000)
	for i := range 1000 {
		ev := eventOf(fmt.Sprint(i))
		ev.JSON = []byte(`{"pad":"` + pad + `"}`)
		c.Routed("crm", uint64(i), ev)
	}
	r := c.members.Load().destinations["crm"]
	size := 0
	for _, e := range r.entries {
		size += e.size()
	}
	if size > maxRingBytes || size < maxRingBytes-100_000 || size != r.bytes || len(r.byOffset) != len(r.entries) {
		t.Errorf("%d events of %d bytes, %d counted, %d by offset", len(r.entries), size, r.bytes, len(r.byOffset))
	}
	a := c.Events(Query{Namespace: Destinations, IDs: []string{"crm"}, Limit: 1})
	want(t, "newest", uids(a), "999")
	c.Settled([]store.Outcome{{Destination: "crm", Offset: 0, Status: store.Delivered}}) // is gone
}

// TestTogether: many goroutines use it at once. It is for the race detector.
func TestTogether(t *testing.T) {
	c := newCache(50)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				offset := uint64(g*1000 + i)
				accept(c, fmt.Sprint(offset))
				c.Routed("crm", offset, eventOf(fmt.Sprint(offset)))
				c.Failed("crm", offset, "503")
				c.Settled([]store.Outcome{{Destination: "crm", Offset: offset, Status: store.Delivered}})
				c.Events(Query{Namespace: Destinations, IDs: []string{"crm"}})
			}
		})
	}
	wg.Wait()
}

// BenchmarkFull is what an event costs once the capacity is used up.
func BenchmarkFull(b *testing.B) {
	c := newCache(10)
	ev := eventOf("x")
	recs := [][]byte{ev.AppendTo(nil)}
	outcomes := []store.Outcome{{Destination: "crm", Offset: 1e9, Status: store.Delivered}}
	b.ReportAllocs()
	for b.Loop() {
		c.Accepted("web", recs)
		c.Routed("crm", 7, ev)
		c.Settled(outcomes)
	}
}

// TestSetMembers: who stays keeps the events, who goes is forgotten, who comes is taken in.
func TestSetMembers(t *testing.T) {
	c := newCache(10)
	accept(c, "one")
	c.Routed("crm", 7, eventOf("one"))
	c.SetMembers(Members{APIKeys: []string{"web", "new"}, Destinations: []string{"lake"}})
	accept(c, "two")
	c.Accepted("new", [][]byte{eventOf("three").AppendTo(nil)})
	f := func(namespace Namespace, id string, want int) {
		t.Helper()
		if a := c.Events(Query{Namespace: namespace, IDs: []string{id}}); len(a.Events) != want {
			t.Errorf("%s %s: %d events, want %d", namespace, id, len(a.Events), want)
		}
	}
	f(Tokens, "web", 2)
	f(Tokens, "app", 0)
	f(Tokens, "new", 1)
	f(Destinations, "crm", 0)
	c.Settled(nil)
}

// TestCutBodyEndsWithAWholeWord: half of a secret is found by nobody who looks for the whole.
func TestCutBodyEndsWithAWholeWord(t *testing.T) {
	c := newCache(10)
	for i := range 30 {
		c = newCache(10)
		c.Malformed("web", []byte(strings.Repeat("x ", maxMalformedBytes/2-i)+`"s2s.a_long-secret%2Bof,the key`), "bad")
		got := c.Events(Query{Namespace: Tokens, IDs: []string{"web"}}).Events[0].Malformed
		if i := strings.Index(got, "s2s"); i >= 0 && !strings.HasPrefix(got[i:], "s2s.a_long-secret%2Bof,") || len(got) > maxMalformedBytes || len(got) < maxMalformedBytes-100 {
			t.Errorf("%d bytes that end with %q", len(got), got[len(got)-40:])
		}
	}
	c.Malformed("web", []byte(strings.Repeat("y", 2*maxMalformedBytes)), "bad")
	if got := c.Events(Query{Namespace: Tokens, IDs: []string{"web"}}).Events[0].Malformed; len(got) < maxMalformedBytes-2*maxWordBytes {
		t.Errorf("%d bytes of one word", len(got))
	}
}

// TestRulesOfAReload hold for all that is shown, of earlier events too.
func TestRulesOfAReload(t *testing.T) {
	fields := redact.New(nil)
	o := newCache(10).opts
	o.Redact, o.Members = fields, Members{APIKeys: []string{"web"}, Destinations: []string{"crm"}}
	c := New(o)
	ev := eventOf("a")
	c.Routed("crm", 1, ev)
	c.Settled([]store.Outcome{{Destination: "crm", Offset: 1, Status: store.Delivered, APIKey: "web", Detail: json.RawMessage(`{"left_out":{"email":"a@b.co is no address"}}`)}})
	c.Routed("crm", 2, ev)
	c.Settled([]store.Outcome{{Destination: "crm", Offset: 2, Status: store.Skipped, Reason: "a@b.co is blocked", APIKey: "web"}})
	fields.Set([]string{"email"})
	for _, e := range c.Events(Query{Namespace: Destinations, IDs: []string{"crm"}}).Events {
		if text := fmt.Sprintf("%s %s %s %s", e.Original, e.Success, e.Skip, e.Error); strings.Contains(text, "a@b.co") {
			t.Errorf("shown: %s", text)
		}
	}
}

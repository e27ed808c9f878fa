package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
)

// countingEndpoint is an endpoint that counts what it gets, by the field mark. It drops no repeat, as HubSpot would.
type countingEndpoint struct {
	t   *testing.T
	url string

	mu    sync.Mutex // guards the fields below
	down  bool
	marks map[string]int
}

func newCountingEndpoint(t *testing.T) *countingEndpoint {
	r := &countingEndpoint{t: t, marks: map[string]int{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if err != nil || r.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		r.marks[gjson.GetBytes(body, "mark").String()]++
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

func (r *countingEndpoint) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

// want compares what was received in all.
func (r *countingEndpoint) want(want map[string]int) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(want, r.marks); diff != "" {
		r.t.Errorf("received, by mark (-want +got):\n%s", diff)
	}
}

// config is the file of a router in dir that delivers to the receiver.
func (r *countingEndpoint) config(dir string) string {
	return write(r.t, fmt.Sprintf(`
server: {host: 127.0.0.1, port: 0, data_dir: %q, min_free_bytes: 1MiB}
api_keys:
  - {id: demo, client_secret: %s, server_secret: %s}
  - {id: other, server_secret: s2s.other}
destinations:
  sink: {type: webhook, webhook: {url: %q, allow_private: true}}
`, dir, demoClientKey, demoServerKey, r.url))
}

// service starts a router in this process.
func (r *countingEndpoint) service(dir string) *running {
	r.t.Helper()
	cfg, err := config.Load(r.config(dir))
	if err != nil {
		r.t.Fatal(err)
	}
	return startService(r.t, cfg)
}

// postTo posts a body and wants 200.
func postTo(t *testing.T, url, body string) {
	t.Helper()
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	if answer, _ := io.ReadAll(res.Body); res.StatusCode != http.StatusOK {
		t.Errorf("POST %s: %s: %s", strings.TrimPrefix(url, "http://"), res.Status, answer)
	}
}

// duplicates are one event of each way in which it may be known again: event id, messageId, and the content with the client's time.
var duplicates = []struct{ path, body string }{
	{serverPath, `{"event_id":"e1","event_type":"bought","mark":"event id"}`},
	{segmentPath, `{"writeKey":"` + demoServerKey + `","batch":[{"type":"track","event":"bought","messageId":"m1","userId":"u","mark":"messageId","properties":{"mark":"messageId"}}]}`},
	{browserPath, `[{"event_id":"","event_type":"bought","mark":"content","utc_time":"2026-11-21T02:52:33.119000Z"}]`},
}

// TestDuplicatesOverKills posts the same events before and after a router is stopped, and killed before it has delivered any of them.
func TestDuplicatesOverKills(t *testing.T) {
	r := newCountingEndpoint(t)
	file := r.config(t.TempDir())
	all := func(c *child) {
		t.Helper()
		for _, d := range duplicates {
			postTo(t, c.url+d.path, d.body)
		}
	}
	r.setDown(true)
	c := startTestChild(t, file)
	all(c)
	c.kill() // they are in the log, and maybe in lanes
	c = startTestChild(t, file)
	all(c)
	r.setDown(false)
	c.until(t, "router_lane_entries", 0)
	c.until(t, "router_log_unsorted_records", 0)
	c.kill()
	c = startTestChild(t, file)
	all(c)
	if err := c.stop(); err != nil {
		t.Errorf("the router ended with %v", err)
	}
	c = startTestChild(t, file)
	all(c)
	c.until(t, "router_log_unsorted_records", 0)
	c.until(t, "router_lane_entries", 0)
	r.want(map[string]int{"event id": 1, "messageId": 1, "content": 1})
}

// startTestChild starts this test binary as a router.
func startTestChild(t *testing.T, file string) *child {
	t.Helper()
	args, err := json.Marshal([]string{"serve", "--config", file})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childArgs+"="+string(args))
	return begin(t, cmd)
}

// TestConcurrentDuplicates has 50 clients post one event at once, some of them as bulk: it counts once.
func TestConcurrentDuplicates(t *testing.T) {
	r := newCountingEndpoint(t)
	s := r.service(t.TempDir())
	want := map[string]int{}
	for round := range 5 {
		event := fmt.Sprintf(`{"event_id":"same-%d","event_type":"bought","mark":"round %d"}`, round, round)
		want[fmt.Sprintf("round %d", round)] = 1
		start := make(chan struct{})
		var wg sync.WaitGroup
		for i := range 50 {
			path := serverPath
			if i%13 == 1 { // more uploads at a time are refused
				path = "/api/v1/events/bulk?token=" + demoServerKey
			}
			wg.Go(func() { <-start; postTo(t, s.url+path, event) })
		}
		close(start)
		wg.Wait()
	}
	s.settle()
	r.want(want)
}

// TestQueueIsSentAgain plays what Jitsu's browser SDK 3.1.5 does without an answer: it sends its whole queue again, longer each time, with empty ids. Equal events without a time of the client are
// as many events.
func TestQueueIsSentAgain(t *testing.T) {
	r := newCountingEndpoint(t)
	s := r.service(t.TempDir())
	event := func(mark, at string) string {
		return edit(browserEvent, "mark", mark, "utc_time", at)
	}
	first, second := event("first", "2026-11-21T02:52:33.119000Z"), event("second", "2026-11-21T02:52:33.120000Z")
	twin := event("twin", "2026-11-21T02:52:34.000000Z")
	for _, queue := range []string{
		first, first + "," + second, first + "," + second, first + "," + second + "," + twin + "," + twin, // the SDK's clock stood still between two equal ones
		first + "," + second + "," + twin + "," + twin,
	} {
		postTo(t, s.url+browserPath, "["+queue+"]")
	}
	s.settle() // and later, as a page does that was asleep
	postTo(t, s.url+browserPath, "["+first+","+second+"]")
	const timeless = `{"event_type":"bought","mark":"without a time"}`
	postTo(t, s.url+serverPath, timeless)
	postTo(t, s.url+serverPath, timeless)
	postTo(t, s.url+serverPath, "["+timeless+","+timeless+"]")
	s.settle()
	r.want(map[string]int{"first": 1, "second": 1, "twin": 2, "without a time": 4})
}

// TestIDsAreOfTheirKey: an id that a browser guesses, or that another application uses, keeps no event from counting.
func TestIDsAreOfTheirKey(t *testing.T) {
	r := newCountingEndpoint(t)
	s := r.service(t.TempDir())
	event := func(mark string) string {
		return fmt.Sprintf(`{"event_id":"order-1","event_type":"bought","mark":%q}`, mark)
	}
	for _, p := range [][2]string{{browserPath, "browser"}, {serverPath, "server"}, {"/api/v1/s2s/event?token=s2s.other", "other key"}} {
		postTo(t, s.url+p[0], event(p[1]))
		postTo(t, s.url+p[0], event(p[1]))
	}
	s.settle()
	r.want(map[string]int{"browser": 1, "server": 1, "other key": 1})
}

// TestCrashBeforeHandOver takes a copy of the data directory, as a kill leaves it, after events were accepted and before any was handed over. The client had no answer and posts again after the start.
func TestCrashBeforeHandOver(t *testing.T) {
	r := newCountingEndpoint(t)
	dir, crashed := t.TempDir(), t.TempDir()
	cfg, err := config.Load(r.config(dir))
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- srv.ingest.Run(ctx, ln) }() // nothing sorts
	for _, d := range duplicates {
		postTo(t, "http://"+ln.Addr().String()+d.path, d.body)
	}
	if err := os.CopyFS(filepath.Join(crashed, "data"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := srv.close(); err != nil {
		t.Error(err)
	}
	s := r.service(filepath.Join(crashed, "data"))
	for _, d := range duplicates {
		postTo(t, s.url+d.path, d.body)
	}
	s.settle()
	r.want(map[string]int{"event id": 1, "messageId": 1, "content": 1})
}

// TestIDsAtTheirBounds: ids are remembered for dedupe.window, and no more than an eighth longer; of more than dedupe.max_ids the oldest eighth goes, also over a restart.
func TestIDsAtTheirBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, sandbox.Options{}, constant(time.Millisecond), "")
		v.server = "dedupe: {window: 8h, max_ids: 800}"
		v.start()
		defer func() { v.stop() }()
		post := func(ids ...string) (duplicates int) {
			t.Helper()
			before := v.metric("router_duplicates_total")
			for _, id := range ids {
				ev := event.Event{
					ID: id, APIKey: "app", Received: time.Now().UTC(), Server: true,
					JSON: []byte(`{"event_type":"user_identify","user":{"email":"a@example.com"}}`),
				}
				if err := v.srv.log.Append(ev.AppendTo(nil)); err != nil {
					t.Fatal(err)
				}
			}
			v.drain(time.Minute)
			return int(v.metric("router_duplicates_total") - before)
		}
		f := func(what string, want int, ids ...string) {
			t.Helper()
			if got := post(ids...); got != want {
				t.Errorf("%s: %d duplicates, want %d", what, got, want)
			}
		}
		f("the first time", 0, "a")
		time.Sleep(8*time.Hour - 2*time.Minute)
		f("within the window", 1, "a")
		v.stop()
		v.start()
		f("after a restart", 1, "a")
		time.Sleep(time.Hour + 3*time.Minute)
		f("after the window and an eighth", 0, "a")
		f("from then on", 1, "a")
		many := make([]string, 700)
		for i := range many {
			many[i] = fmt.Sprint("many", i)
		}
		f("up to the bound", 0, many...)
		f("of no more than the bound all are known", 701, append(many, "a")...)
		v.stop()
		v.start()
		for i := range many {
			many[i] = fmt.Sprint("more", i)
		}
		f("beyond the bound", 0, many...)
		f("the newest are known", 700, many...)
		f("the oldest are not", 0, "a", "many0", "many1")
	})
}

package e2e

import (
	bin "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// clocked is a router whose clocks the test moves while it runs: the file clock holds what is added to them. The program is the router with two more files, which have Go's runtime
// ask them for the time.
type clocked struct {
	*testing.T
	*process
	h      hub
	hook   *hook
	client *http.Client
	config string
	clock  string // the file
	binary string

	posted atomic.Int64 // by keepPosting
}

// buildClocked builds the program.
func buildClocked(t *testing.T) (binary string) {
	t.Helper()
	dir := t.TempDir()
	replace := map[string]string{}
	for _, name := range []string{"clock.go", "clock_linux_amd64.s"} {
		from, err := filepath.Abs(filepath.Join("testdata", "clock", name))
		if err != nil {
			t.Fatal(err)
		}
		to, _ := filepath.Abs(filepath.Join("..", "cmd", "router", "test"+name))
		replace[to] = from
	}
	overlay, _ := json.Marshal(map[string]any{"Replace": replace})
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "router")
	// Of the runtime's variables the linker lets nobody else have any, unless it is told to.
	run(t, ".", "go", "build", "-race", "-overlay", file, "-ldflags=-checklinkname=0 -w", "-o", binary, "../cmd/router")
	return binary
}

// serve runs the router.
func (c *clocked) serve() {
	c.Helper()
	cmd := exec.Command(c.binary, "serve", "--config", c.config)
	cmd.Env = append(os.Environ(), "E2E_CLOCK="+c.clock)
	c.process = startCommand(c.T, cmd)
}

// move sets both clocks off, by seconds.
func (c *clocked) move(wall, monotonic int64) {
	c.Helper()
	f, err := os.OpenFile(c.clock, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		c.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bin.LittleEndian.AppendUint64(bin.LittleEndian.AppendUint64(nil, uint64(wall)), uint64(monotonic)), 0); err != nil {
		c.Fatal(err)
	}
}

// hook is the receiver of a webhook. It refuses some names of things as long as they are in its table.
type hook struct {
	url string

	mu     sync.Mutex
	refuse map[string]int // the status, by what
	tries  map[string]int
	got    map[string]int
}

func newHook(t *testing.T) *hook {
	k := &hook{refuse: map[string]int{}, tries: map[string]int{}, got: map[string]int{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event struct{ What string }
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &event)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.tries[event.What]++
		if status := k.refuse[event.What]; status != 0 {
			w.Header().Set("Retry-After", "8")
			w.WriteHeader(status)
			return
		}
		k.got[event.What]++
	}))
	t.Cleanup(srv.Close)
	k.url = srv.URL
	return k
}

func (k *hook) set(what string, status int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse[what] = status
}

func (k *hook) tried(what string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tries[what]
}

func (k *hook) has(what string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.got[what] > 0
}

// send posts an event, which must be taken.
func (c *clocked) send(body string) {
	c.Helper()
	status, answer, err := post(c.client, c.url, body)
	if err != nil || status == http.StatusRequestTimeout { // it was under way for an hour, or its connection idle
		status, answer, err = post(c.client, c.url, body)
	}
	if err != nil || status != http.StatusOK {
		c.Fatalf("%s: %d %s %v", body, status, answer, err)
	}
}

// limited posts with the API key that has a limit, and returns the status; 0: there was no answer.
func (c *clocked) limited() int {
	c.Helper()
	res, err := c.client.Post(c.url+"/api/v1/s2s/event?token=s2s.limited", "application/json", strings.NewReader(`{"event_type":"dropped"}`))
	if err != nil {
		return 0 // the router has closed a connection that was idle for an hour
	}
	res.Body.Close()
	return res.StatusCode
}

// until waits for what another process does.
func (c *clocked) until(what string, most time.Duration, done func() bool) {
	c.Helper()
	for deadline := time.Now().Add(most); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, ready := c.get("/readyz")
			c.Fatalf("%s: not after %s; %s", what, most, ready)
		}
	}
}

// keepPosting posts one event after the other, two in three of them what a contact has, until it is stopped. Each is posted until there is a 200.
func (c *clocked) keepPosting() (stop func()) {
	url := c.url
	ends := make(chan struct{})
	var posting sync.WaitGroup
	posting.Go(func() {
		for n := int64(1); ; n++ {
			body := clockEvent(n)
			for {
				status, answer, err := post(c.client, url, body)
				if err == nil && status == http.StatusOK {
					break
				}
				if err == nil && status != http.StatusServiceUnavailable && status != http.StatusRequestTimeout {
					c.Errorf("answer %d %s", status, answer)
					return
				}
			}
			c.posted.Store(n)
			select {
			case <-ends:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	return sync.OnceFunc(func() { close(ends); posting.Wait() })
}

func clockEvent(n int64) string {
	if n%3 == 0 {
		return fmt.Sprintf(`{"event_id":"n%d","event_type":"step","user":{"email":"p%d@example.com"},"mark":"n%d"}`, n, n%4, n)
	}
	return fmt.Sprintf(`{"event_id":"n%d","event_type":"user_identify","user":{"email":"p%d@example.com","seq":%d}}`, n, n%4, n)
}

func hookEvent(what string) string {
	return fmt.Sprintf(`{"event_id":%q,"event_type":"hook","what":%q}`, what, what)
}

// TestClockWhileItRuns: the clock jumps by an hour, the router is suspended for one, alone or with the whole machine, where the monotonic clock stands still. Whatever is under way or waits
// goes on in its own time.
func TestClockWhileItRuns(t *testing.T) {
	router := buildClocked(t)
	var all sync.WaitGroup // they wait most of the time
	defer all.Wait()
	f := func(name string, wall, monotonic time.Duration, suspended bool) {
		all.Go(func() { t.Run(name, func(t *testing.T) { jump(newClocked(t, router), wall, monotonic, suspended) }) })
	}
	f("an hour forward", time.Hour, 0, false)
	f("an hour back", -time.Hour, 0, false)
	f("suspended for an hour", time.Hour, time.Hour, true)
	f("suspended with the machine", time.Hour, 0, true)
}

func jump(c *clocked, wall, monotonic time.Duration, suspended bool) {
	c.Helper()
	stop := c.prepare()
	defer stop()
	signal := func(s syscall.Signal) {
		if err := c.cmd.Process.Signal(s); err != nil {
			c.Fatal(err)
		}
	}
	if suspended {
		signal(syscall.SIGSTOP)
		time.Sleep(clockWindow + 500*time.Millisecond) // for the remote it takes no longer than its window
	}
	c.move(int64(wall/time.Second), int64(monotonic/time.Second))
	if suspended {
		signal(syscall.SIGCONT)
	}
	c.goesOn()
	stop()
	c.all()
	// With the clock ahead its time to wait was over.
	if n := len(events(c.h, "who")); n > 1 || wall < 0 && n != 1 {
		c.Errorf("the event whose person is told after the jump is in HubSpot %d times", n)
	}
}

const (
	clockLate   = time.Second     // how late the sandbox carries out a call that it did not answer
	clockWindow = 2 * time.Second // of its quota
)

func newClocked(t *testing.T, binary string) *clocked {
	t.Helper()
	dir := t.TempDir()
	c := &clocked{
		T: t, binary: binary, client: clientFor(t), clock: filepath.Join(dir, "clock"), hook: newHook(t),
		h: newHub(t, sandbox.Options{Burst: 60, BurstWindow: clockWindow}),
	}
	c.config = configure(t, dir, c.h.url, fmt.Sprintf(`    filter: {not: {event_type: {in: [hook, dropped]}}}
  hook:
    type: webhook
    filter: {event_type: hook}
    webhook: {url: %q, allow_private: true, key: $.what}
`, c.hook.url))
	text, err := os.ReadFile(c.config)
	if err != nil {
		t.Fatal(err)
	}
	const keys = "api_keys:\n"
	more := strings.Replace(string(text), keys, keys+"  - {id: limited, server_secret: s2s.limited, rate_limit: {events_per_second: 1, burst: 3}}\n", 1)
	if err := os.WriteFile(c.config, []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	c.move(0, 0)
	return c
}

// prepare brings about all that a jump might hit. What waits for a retry does so since an earlier run, so that its time comes from the disk.
func (c *clocked) prepare() (stop func()) {
	c.serve()
	c.hook.set("backoff", http.StatusServiceUnavailable)
	c.hook.set("buried", http.StatusBadRequest)
	for _, what := range []string{"buried", "backoff"} {
		c.send(hookEvent(what))
		c.until(what, 20*time.Second, func() bool { return c.hook.tried(what) == 1 })
	}
	if err := c.terminate(); err != nil {
		c.Fatal(err)
	}
	c.serve()
	stop = c.keepPosting()
	c.until("a contact", 20*time.Second, func() bool { _, ok := c.h.Contact("p1@example.com"); return ok })
	c.h.Inject(sandbox.Fault{Endpoint: "contacts/batch/upsert", Contains: "held@", Times: 1, Drop: true, ApplyLate: clockLate})
	c.h.Inject(sandbox.Fault{Endpoint: "contacts/batch/upsert", Contains: "slow@", Times: 1, Delay: clockLate})
	blocked := c.h.Inject(sandbox.Fault{Endpoint: "events/send/batch", Status: 403})
	c.Cleanup(blocked)
	for c.limited() == http.StatusOK {
	}
	c.until("a blocked lane", 20*time.Second, func() bool { _, ready := c.get("/readyz"); return strings.Contains(ready, `"blocked"`) })
	blocked()
	c.send(`{"event_type":"user_identify","user":{"email":"held@example.com","seq":1}}`)
	c.send(`{"event_type":"user_identify","user":{"email":"held@example.com","seq":2}}`)
	c.send(`{"event_type":"user_identify","user":{"email":"slow@example.com","seq":1}}`)
	c.send(`{"event_id":"who","event_type":"who","user":{"id":"u1"}}`) // it waits to be identified
	if n := c.hook.tried("backoff"); n != 1 {
		c.Logf("the retry came before the jump: %d attempts", n)
	}
	c.hook.set("backoff", 0)
	return stop
}

// goesOn is right after the jump: what waits leaves in its own time, and no limit holds for an hour, or no longer.
func (c *clocked) goesOn() {
	c.send(`{"event_type":"user_identify","user":{"id":"u1","email":"p1@example.com"}}`)
	passed := 0
	for began := time.Now(); time.Since(began) < 2500*time.Millisecond; time.Sleep(50 * time.Millisecond) {
		if c.limited() == http.StatusOK {
			passed++
		}
	}
	if passed < 2 || passed > 6 { // at one a second, or a full bucket and those
		c.Errorf("%d events passed a limit of one a second, and three at once, in 2.5 s", passed)
	}
	c.until("the retry", 12*time.Second, func() bool { return c.hook.has("backoff") })
	c.until("the blocked lane", 15*time.Second, func() bool { return len(events(c.h, "step")) > 0 })
	c.hook.set("buried", 0)
	if out := run(c.T, ".", binary, "deadletters", "list", "--config", c.config); !strings.Contains(out, "rejected") {
		c.Errorf("the dead letter is not there: %s", out)
	}
	run(c.T, ".", binary, "deadletters", "replay", "--everything", "--url", c.url, "--admin-token", "adm-planted")
	c.until("the replay", 10*time.Second, func() bool { return c.hook.has("buried") })
}

// all holds what arrived against what was posted, once everything has been posted a second time.
func (c *clocked) all() {
	last := c.posted.Load()
	for n := int64(1); n <= last; n += 250 {
		var again []string
		for i := n; i <= min(last, n+249); i++ {
			again = append(again, clockEvent(i))
		}
		c.send("[" + strings.Join(again, ",") + "]")
	}
	c.send("[" + hookEvent("backoff") + "," + hookEvent("buried") + "]")
	c.drain(20 * time.Second)

	marks := map[string]int{}
	for _, e := range events(c.h, "step") {
		marks[e.Properties["mark"]]++
	}
	seqs := map[string]int64{"held": 2, "slow": 1}
	for n := int64(1); n <= last; n++ {
		if n%3 != 0 {
			seqs[fmt.Sprint("p", n%4)] = n
		} else if mark := fmt.Sprint("n", n); marks[mark] != 1 {
			c.Errorf("event %s is in HubSpot %d times", mark, marks[mark])
		}
	}
	for who, seq := range seqs {
		contact, _ := c.h.Contact(who + "@example.com")
		if got := contact.Properties["seq"]; got != strconv.FormatInt(seq, 10) {
			c.Errorf("contact %s has %s, want %d; history %v", who, got, seq, contact.History["seq"])
		}
	}
	c.hook.mu.Lock()
	defer c.hook.mu.Unlock()
	if want := map[string]int{"backoff": 1, "buried": 1}; !maps.Equal(c.hook.got, want) {
		c.Errorf("the webhook got %v, want %v", c.hook.got, want)
	}
	if out := run(c.T, ".", binary, "deadletters", "list", "--config", c.config); !strings.Contains(out, "no dead letters") {
		c.Errorf("dead letters: %s", out)
	}
	if n := slices.IndexFunc(c.h.Calls(), func(call sandbox.Call) bool { return call.Status == http.StatusTooManyRequests }); n >= 0 {
		c.Errorf("HubSpot refused call %d: the quota was overrun", n)
	}
}

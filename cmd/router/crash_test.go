package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// deadly is a destination that posts events, and does what the answer says. Only this test binary has it, when it runs as a router.
type deadly struct{ url string }

func newDeadly(s config.Settings, _ destinations.Env) (destinations.Destination, error) {
	var set struct {
		URL string `yaml:"url"`
	}
	if err := s.Decode(&set); err != nil {
		return nil, err
	}
	debug.SetMaxStack(8 << 20)
	return deadly{set.URL}, nil
}

func (d deadly) Plan(ev *event.Event) ([]destinations.Plan, error) {
	key := strings.Clone(ev.UserEmail())
	return []destinations.Plan{{Lane: "events", Key: key, ID: key}}, nil
}

func (deadly) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{{Name: "events", MaxEntries: 100, MaxBytes: 1 << 20, InFlight: 3}}
}

func (d deadly) Hub(string) string { return d.url }

func (deadly) Acquire(ctx context.Context, _, _ string) (destinations.Permit, error) {
	return noPermit{}, ctx.Err()
}

type noPermit struct{}

func (noPermit) Release() {}

func (d deadly) Send(_ context.Context, _ destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	outcomes := make([]destinations.Outcome, len(batch))
	for i, e := range batch {
		res, err := http.Post(d.url, "application/json", bytes.NewReader(e.Event.JSON))
		if err != nil {
			outcomes[i].Err = err
			continue
		}
		answer, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err == nil && res.StatusCode != http.StatusOK {
			err = errors.New(res.Status)
		}
		outcomes[i].Err = err
		switch string(answer) {
		case "overflow":
			fmt.Fprint(io.Discard, overflow(len(batch)))
		case "map":
			writeWhileRead()
		}
	}
	return outcomes
}

func overflow(n int) int {
	if n < 0 {
		return 0
	}
	return overflow(n+1) + n
}

// writeWhileRead ends the process where the map is read.
func writeWhileRead() {
	m := map[int]int{}
	go func() {
		for i := 0; ; i++ {
			m[i%100] = i
		}
	}()
	for i := 0; ; i++ {
		_ = m[i%100]
	}
}

// deadlyRig is a router in processes that end of themselves or are killed, and what its destination talks to.
type deadlyRig struct {
	t      *testing.T
	config string

	mu     sync.Mutex
	closed bool           // all is refused
	answer string         // to the event with the word deadly; "hang": none
	hung   chan struct{}  // capacity 1: it hangs
	got    map[string]int // event ids that were answered, but for that one
}

func newDeadlyRig(t *testing.T, answer string) *deadlyRig {
	g := &deadlyRig{t: t, closed: true, answer: answer, hung: make(chan struct{}, 1), got: map[string]int{}}
	remote := httptest.NewServer(g)
	t.Cleanup(remote.Close)
	g.config = write(t, fmt.Sprintf(`
server: {port: 0, data_dir: %s, min_free_bytes: 1MiB}
api_keys: [{id: web, server_secret: %s}]
destinations:
  fragile: {type: deadly, deadly: {url: %q}}
`, filepath.Join(t.TempDir(), "data"), demoServerKey, remote.URL))
	return g
}

func (g *deadlyRig) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var ev struct {
		ID   string `json:"event_id"`
		Word string `json:"word"`
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &ev)
	}
	if err != nil {
		g.t.Errorf("a call with %q: %v", body, err)
	}
	g.mu.Lock()
	answer := g.answer
	if g.closed {
		g.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if ev.Word != "deadly" || answer == "" {
		g.got[ev.ID]++
		answer = ""
	}
	g.mu.Unlock()
	if answer == "hang" {
		select {
		case g.hung <- struct{}{}:
		default:
		}
		<-r.Context().Done()
	}
	fmt.Fprint(w, answer)
}

// heal has all events answered from now on.
func (g *deadlyRig) heal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = ""
}

// missing are those of n events that were never answered.
func (g *deadlyRig) missing(n int, but string) (ids []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range n {
		if id := fmt.Sprint("id", i); g.got[id] == 0 && id != but {
			ids = append(ids, id)
		}
	}
	return ids
}

// command makes this test binary be the program.
func (g *deadlyRig) command(args ...string) *exec.Cmd {
	g.t.Helper()
	text, err := json.Marshal(append(args, "--config", g.config))
	if err != nil {
		g.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childArgs+"="+string(text))
	return cmd
}

// letters are the event ids and reasons of the dead letters.
func (g *deadlyRig) letters() string {
	g.t.Helper()
	out, err := g.command("deadletters", "list", "--json").Output()
	if err != nil {
		g.t.Fatalf("list dead letters: %v: %s", err, out)
	}
	var found []string
	for line := range strings.Lines(string(out)) {
		var letter struct {
			ID     string `json:"event_id"`
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal([]byte(line), &letter); err != nil {
			g.t.Fatalf("%q: %v", line, err)
		}
		found = append(found, letter.ID+" "+letter.Reason)
	}
	return strings.Join(found, ", ")
}

// runs has processes follow each other while they end of themselves, until done says so. It returns how many have ended, and what the last wrote. One that hangs is
// killed, and no other follows.
func (g *deadlyRig) runs(done func() bool) (deaths int, text string) {
	g.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; {
		var out bytes.Buffer
		cmd := g.command("serve")
		cmd.Stderr = &out
		if err := cmd.Start(); err != nil {
			g.t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		for alive := true; alive; {
			select {
			case <-ended:
				alive = false
				deaths, text = deaths+1, out.String()
			case <-g.hung:
				_ = cmd.Process.Kill()
				<-ended
				return deaths, text
			case <-time.After(20 * time.Millisecond): // another process
				if over := time.Now().After(deadline); over || done() {
					_ = cmd.Process.Kill()
					<-ended
					if over {
						g.t.Fatalf("not over after %d deaths: %s", deaths, &out)
					}
					return deaths, text
				}
			}
		}
		if deaths > 8 {
			g.t.Fatalf("%d processes have ended, the last with %s", deaths, text)
		}
	}
}

// accept has a first process take in events, of which one is deadly, while nothing can be delivered.
func (g *deadlyRig) accept(n, deadly int) {
	g.t.Helper()
	c := begin(g.t, g.command("serve"))
	var events []string
	for i := range n {
		word := "harmless"
		if i == deadly {
			word = "deadly"
		}
		events = append(events, fmt.Sprintf(`{"event_type":"bought","event_id":"id%d","user":{"email":"p%d@example.com"},"word":%q}`, i, i%7, word))
	}
	postTo(g.t, c.url+serverPath, "["+strings.Join(events, ",")+"]")
	c.kill()
	g.mu.Lock()
	g.closed = false
	g.mu.Unlock()
}

// TestProcessesThatCallsEnd: what no recover catches ends the router, really, whenever one entry is sent. That one is given up, all others are delivered. Killed at the same place, it is kept.
func TestProcessesThatCallsEnd(t *testing.T) {
	const events, poison = 20, "id11"
	f := func(answer, cause string) {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			g := newDeadlyRig(t, answer)
			g.accept(events, 11)
			deaths, text := g.runs(func() bool { return len(g.missing(events, poison)) == 0 && g.letters() != "" })
			if deaths < 2 || deaths > 4 || !strings.Contains(text, cause) {
				t.Errorf("%d deaths after the first run, want 2 to 4 by %q; the last wrote %s", deaths, cause, text)
			}
			if got, want := g.letters(), poison+" poison"; got != want {
				t.Errorf("dead letters %q, want %q", got, want)
			}
		})
	}
	f("overflow", "stack overflow")
	f("map", "concurrent map read and map write")

	t.Run("kill", func(t *testing.T) {
		t.Parallel()
		g := newDeadlyRig(t, "hang")
		g.accept(events, 11)
		for range 5 {
			if deaths, text := g.runs(func() bool { return false }); deaths > 0 {
				t.Fatalf("it has ended of itself: %s", text)
			}
		}
		g.heal()
		g.runs(func() bool { return len(g.missing(events, "")) == 0 })
		if got := g.letters(); got != "" {
			t.Errorf("dead letters %q, want none", got)
		}
	})
}

// TestCrashFileCanNotBeUsed: what only tells about the process before does not refuse the start.
func TestCrashFileCanNotBeUsed(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for _, name := range []string{"crash.txt", "sorter.mark.calls"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := load(write(t, fmt.Sprintf("server: {port: 0, data_dir: %s, min_free_bytes: 1MiB}\napi_keys: [{id: web, server_secret: s2s.web}]\n", dir)))
	if err != nil {
		t.Fatal(err)
	}
	r := startService(t, cfg)
	r.post("s2s.web", `{"event_type":"bought"}`)
	r.stop()
}

// TestForgetTrimsCrash: what a panic said of a person is not found on the disk afterwards, and where it was still is.
func TestForgetTrimsCrash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	file := write(t, fmt.Sprintf("server: {port: 0, data_dir: %s, min_free_bytes: 1MiB}\napi_keys: [{id: web, server_secret: s2s.web}]\n", dir))
	cfg, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	startService(t, cfg).stop()
	path := filepath.Join(dir, "crash.txt")
	if err := os.WriteFile(path, []byte("panic: not a time: ann@example.com\n\ngoroutine 7 [running]:\nmain.where()\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errText, code := command(t, "forget", "--config", file, "--email", "ann@example.com"); code != 0 {
		t.Fatalf("router forget: %d %s", code, errText)
	}
	if got, err := os.ReadFile(path); err != nil || bytes.Contains(got, []byte("ann")) || !bytes.Contains(got, []byte("main.where")) {
		t.Errorf("crash.txt holds %q, %v", got, err)
	}
}

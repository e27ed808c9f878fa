package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

var (
	soakFor    = flag.Duration("soak", 0, "how long TestSoak runs; 0: some seconds, to see that it works")
	soakReport = flag.String("soak.report", "", "the file that TestSoak writes its report to")
	soakNote   = flag.String("soak.note", "", "what the report says of the machine")
)

// soakPlan is how long the parts of a soak take.
type soakPlan struct {
	measure, run           time.Duration
	up, down, hang         time.Duration // of the destination; how long a call hangs that gets no answer
	reload, sample         time.Duration
	people, clients        int
	quota, eventsPerSecond int // calls in ten seconds
}

func planOf(run time.Duration) soakPlan {
	if run == 0 {
		return soakPlan{
			measure: time.Second, run: 4 * time.Second, up: 900 * time.Millisecond, down: 400 * time.Millisecond, hang: 400 * time.Millisecond,
			reload: 1500 * time.Millisecond, sample: 200 * time.Millisecond, people: 200, clients: 8, quota: 1900, eventsPerSecond: 12_500,
		}
	}
	return soakPlan{
		measure: min(time.Minute, run/10), run: run, up: time.Minute, down: 20 * time.Second, hang: 40 * time.Second, reload: 5 * time.Minute,
		sample: 10 * time.Second, people: 50_000, clients: 32, quota: 1900, eventsPerSecond: 12_500,
	}
}

// soak is one run: a router in a process of its own, a HubSpot that comes and goes, and clients that know what they were answered.
type soak struct {
	t      *testing.T
	plan   soakPlan
	hub    hub
	router *process
	config string
	ledger *ledger

	mu        sync.Mutex // guards the fields below
	latencies []time.Duration
	remote    string // what HubSpot does now
	reloads   int
}

// TestSoak runs the router for long at half of the speed that it reaches here, while HubSpot is up for a minute and away for 20 seconds, and the configuration is reloaded each five
// minutes. In the end all that was acknowledged is delivered, skipped or dead, and what the process holds has not grown. `make soak DURATION=30m`.
func TestSoak(t *testing.T) {
	s := newSoak(t, planOf(*soakFor))
	speed := s.measure()
	t.Logf("%.0f events a second are accepted and delivered", speed)
	samples := s.run(speed / 2)
	settled := s.settle()
	verdict := s.ledger.check(t, s)
	r := report{plan: s.plan, speed: speed, samples: samples, settled: settled, verdict: verdict, reloads: s.reloads, note: *soakNote, machine: machine()}
	r.judge(t)
	if path := *soakReport; path != "" {
		if err := os.WriteFile(path, []byte(r.markdown(t.Failed())), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func newSoak(t *testing.T, plan soakPlan) *soak {
	s := &soak{t: t, plan: plan, ledger: newLedger(plan.people), remote: "up"}
	// Bounded, or the account would hold millions of events in this process: the ledger is told each of them.
	s.hub = newHub(t, sandbox.Options{KeepEvents: 200_000, KeepWrites: 20, Accepted: s.ledger.accepted})
	dir := t.TempDir()
	s.config = configure(t, dir, s.hub.url)
	s.router = start(t, s.config)
	return s
}

// measure posts as fast as it goes while HubSpot answers all and returns how many events a second were delivered.
func (s *soak) measure() float64 {
	began, before := time.Now(), s.ledger.posted.Load()
	s.post(s.plan.measure, 0)
	s.router.drain(10 * time.Minute)
	return float64(s.ledger.posted.Load()-before) / time.Since(began).Seconds()
}

// run posts so many events a second, and returns what it has seen meanwhile.
func (s *soak) run(rate float64) []sample {
	s.setQuota(s.plan.quota, s.plan.eventsPerSecond)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.flap(stop) })
	wg.Go(func() { s.reloadNowAndThen(stop) })
	var samples []sample
	wg.Go(func() { samples = s.watch(stop) })
	s.post(s.plan.run, rate)
	close(stop)
	wg.Wait()
	return samples
}

// settle waits until nothing is left to deliver and says how long that took.
func (s *soak) settle() time.Duration {
	began := time.Now()
	s.router.drain(15 * time.Minute)
	return time.Since(began)
}

func (s *soak) setQuota(calls, events int) {
	s.t.Helper()
	body := fmt.Sprintf(`{"burst":%d,"events_per_second":%d}`, calls, events)
	req, err := http.NewRequest(http.MethodPatch, s.hub.url+"/_sandbox/options", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		s.t.Fatalf("the sandbox's quota: %s", res.Status)
	}
}

// post has the clients post for d, so many events a second together; 0: as fast as it goes. All that was posted is acknowledged when it returns.
func (s *soak) post(d time.Duration, rate float64) {
	began := time.Now()
	var turns atomic.Int64 // events that were given out
	var wg sync.WaitGroup
	for n := range s.plan.clients {
		wg.Go(func() {
			c := &soakClient{soak: s, n: n, rnd: rand.New(rand.NewPCG(uint64(n), uint64(s.ledger.posted.Load()))), http: &http.Client{
				Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 1},
			}}
			defer c.http.CloseIdleConnections()
			for time.Since(began) < d {
				r := c.next()
				if rate > 0 {
					at := time.Duration(float64(turns.Add(int64(r.events))) / rate * float64(time.Second))
					time.Sleep(at - time.Since(began)) // a pace
				}
				c.post(r)
			}
		})
	}
	wg.Wait()
}

// outages are the ways in which HubSpot is away, one after the other.
var outages = []struct {
	name  string
	fault func(hang time.Duration) sandbox.Fault
}{
	{"503", func(time.Duration) sandbox.Fault { return sandbox.Fault{Status: http.StatusServiceUnavailable} }},
	{"reset", func(time.Duration) sandbox.Fault { return sandbox.Fault{Drop: true} }},
	{"reset after the write", func(time.Duration) sandbox.Fault { return sandbox.Fault{Drop: true, Apply: true} }},
	{"timeout", func(hang time.Duration) sandbox.Fault {
		return sandbox.Fault{Drop: true, Delay: hang, ApplyLate: min(time.Second, hang/2)}
	}},
}

// flap takes HubSpot away and gives it back until stop is closed.
func (s *soak) flap(stop <-chan struct{}) {
	for i := 0; ; i++ {
		if pause(stop, s.plan.up) {
			return
		}
		o := outages[i%len(outages)]
		s.setRemote(o.name)
		restore := s.hub.Inject(o.fault(s.plan.hang))
		ended := pause(stop, s.plan.down)
		restore()
		s.setRemote("up")
		if ended {
			return
		}
	}
}

func (s *soak) setRemote(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remote = what
}

// reloadNowAndThen changes a setting of the destination, which restarts its lanes, and tells the router.
func (s *soak) reloadNowAndThen(stop <-chan struct{}) {
	good, err := os.ReadFile(s.config)
	if err != nil {
		s.t.Error(err)
		return
	}
	for i := 1; !pause(stop, s.plan.reload); i++ {
		text := strings.Replace(string(good), "    mode: stream\n", fmt.Sprintf("    mode: stream\n    retry: {max_delay: %ds}\n", 290+i%10), 1)
		if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
			s.t.Error(err)
			return
		}
		if err := s.router.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		s.reloads++
		s.mu.Unlock()
	}
}

// pause waits for d; true: stop was closed before.
func pause(stop <-chan struct{}, d time.Duration) bool {
	select {
	case <-stop:
		return true
	case <-time.After(d):
		return false
	}
}

// sample is what was seen at one moment, and of the clients since the one before.
type sample struct {
	at                time.Duration
	rss               float64 // MB
	goroutines, files float64
	log, store, wal   float64 // MB
	waiting, oldest   float64 // entries and unsorted records; seconds
	median, p99       time.Duration
	perSecond         float64
	remote            string
}

// watch takes samples until stop is closed.
func (s *soak) watch(stop <-chan struct{}) (samples []sample) {
	began, posted, last := time.Now(), s.ledger.posted.Load(), time.Now()
	for !pause(stop, s.plan.sample) {
		_, page := s.router.get("/metrics")
		now, n := time.Now(), s.ledger.posted.Load()
		x := sample{
			at: now.Sub(began), rss: s.router.rss(), goroutines: gauge(page, "go_goroutines"), files: gauge(page, "process_open_fds"),
			log:     sizeOf(s.t, filepath.Join(filepath.Dir(s.config), "data", "log")),
			store:   sizeOf(s.t, filepath.Join(filepath.Dir(s.config), "data", "router.db")),
			wal:     sizeOf(s.t, filepath.Join(filepath.Dir(s.config), "data", "router.db-wal")),
			waiting: gauge(page, "router_lane_entries") + gauge(page, "router_log_unsorted_records"), oldest: largest(page, "router_lane_oldest_seconds"),
			perSecond: float64(n-posted) / now.Sub(last).Seconds(),
		}
		posted, last = n, now
		s.mu.Lock()
		x.remote = s.remote
		x.median, x.p99 = quantiles(s.latencies)
		s.latencies = s.latencies[:0]
		s.mu.Unlock()
		samples = append(samples, x)
	}
	return samples
}

// rss is the memory that the process has in use, in MB.
func (p *process) rss() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0 // not Linux
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kB := 0.0
	fmt.Sscan(rest, &kB)
	return kB * 1024 / 1e6
}

// sizeOf is what a file, or all files of a folder, have, in MB.
func sizeOf(t *testing.T, path string) float64 {
	var sum int64
	err := filepath.WalkDir(path, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // reclaimed just now
		}
		if info, err := d.Info(); err == nil {
			sum += info.Size()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return float64(sum) / 1e6
}

// largest is the greatest sample of a metric.
func largest(page, name string) (most float64) {
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			most = max(most, gauge(line, name))
		}
	}
	return most
}

// letters are the events that became dead letters, by id.
func (s *soak) letters() (ids map[string]int) {
	s.t.Helper()
	ids = map[string]int{}
	for line := range strings.Lines(run(s.t, ".", binary, "deadletters", "list", "--json", "--limit", "1000000", "--config", s.config)) {
		var letter struct {
			EventID string `json:"event_id"`
		}
		if err := json.Unmarshal([]byte(line), &letter); err != nil {
			s.t.Fatalf("dead letter %q: %v", line, err)
		}
		ids[letter.EventID]++
	}
	return ids
}

func machine() string {
	return fmt.Sprintf("%d cores, %s/%s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
}

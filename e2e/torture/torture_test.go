package torture

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the router, built once, or that of E2E_ROUTER, which make builds for all packages of tests.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "router-torture-")
	race := os.Getenv("TORTURE_RACE") != "0"
	if binary = os.Getenv("E2E_ROUTER"); err == nil && (binary == "" || !race) {
		binary = filepath.Join(dir, "router")
		args := []string{"build", "-ldflags=-w", "-o", binary, "../../cmd/router"} // nobody debugs it
		if race {
			args = slices.Insert(args, 1, "-race")
		}
		build := exec.Command("go", args...)
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the router:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// torture is one run.
type torture struct {
	t         *testing.T
	seed      uint64
	duration  time.Duration // at least
	wantKills int           // at least
	dir       string

	hub     *hub
	proxies *proxies
	p       *process
	ledger  *ledger
	tally   tally
	diary   *os.File

	kills    int
	outcome  outcome
	failures int // told so far
	burst    chan struct{}
	breaking sync.Mutex // held by who uses breaker
	breaker  *poster
}

// tally counts faults by what they are.
type tally struct {
	mu sync.Mutex // guards n, and the diary
	n  map[string]int
}

func (y *tally) add(what string, n int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.n[what] += n
}

// rand returns numbers of their own for one part of the run, so that the seed decides each part whatever the others do.
func (x *torture) rand(part string) *rand.Rand {
	h := fnv.New64()
	h.Write([]byte(part))
	return rand.New(rand.NewPCG(x.seed, h.Sum64()))
}

func (x *torture) crowd(name string, ids bool) crowd {
	return crowd{rnd: x.rand("client " + name), client: name, ledger: x.ledger, ids: ids}
}

// TestTorture is the proof of the whole, see the package. A failure names the seed, keeps the directory, and tells the story of each event that it is about.
func TestTorture(t *testing.T) {
	x := newTorture(t)
	x.p.start()
	x.p.wait()
	idle := x.p.metrics()
	began := time.Now()
	x.run()
	x.calm()
	x.verdict(idle)
	x.note("judged")
	x.summary(time.Since(began))
}

func newTorture(t *testing.T) *torture {
	dir, err := os.MkdirTemp("", "torture-")
	if err != nil {
		t.Fatal(err)
	}
	x := &torture{t: t, seed: 1, duration: 40 * time.Second, dir: dir, tally: tally{n: map[string]int{}}, burst: make(chan struct{}, 1)}
	x.options()
	t.Cleanup(func() {
		if t.Failed() || os.Getenv("TORTURE_KEEP") != "" {
			t.Logf("seed %d, directory %s: ledger.jsonl, calls.jsonl, router.log, diary.txt, data", x.seed, dir)
		} else {
			os.RemoveAll(dir)
		}
	})
	x.openDiary()
	x.ledger = openLedger(t, filepath.Join(dir, "ledger.jsonl"))
	x.hub = newHub(t, dir)
	x.proxies = newProxies(t)
	x.p = newProcess(t, dir, "http://"+x.proxies.add("hubspot", x.hub.address), x.seed%2 == 0)
	return x
}

// options reads what the environment says of the run.
func (x *torture) options() {
	f := func(name string, parse func(string) error) {
		x.t.Helper()
		if v := os.Getenv(name); v != "" {
			if err := parse(v); err != nil {
				x.t.Fatalf("%s=%s: %v", name, v, err)
			}
		}
	}
	f("TORTURE_SEED", func(v string) (err error) { x.seed, err = strconv.ParseUint(v, 10, 64); return err })
	f("TORTURE_KILLS", func(v string) (err error) { x.wantKills, err = strconv.Atoi(v); return err })
	f("TORTURE_DURATION", func(v string) (err error) { x.duration, err = time.ParseDuration(v); return err })
	x.t.Logf("seed %d, at least %s and %d kills", x.seed, x.duration, x.wantKills)
}

// run plays clients and faults.
func (x *torture) run() {
	web, mail, bulk, node := x.proxies.add("web", x.p.address), x.proxies.add("mail", x.p.address), x.proxies.add("bulk", x.p.address), x.proxies.add("node", x.p.address)
	x.breaker = x.newPoster("breaker", web, true)
	stop, cancel := context.WithCancel(context.Background())
	defer cancel()
	end, over := context.WithCancel(context.Background())
	defer over()

	var posting, faults sync.WaitGroup
	clients := func(name string, run func()) {
		posting.Go(func() {
			run()
			x.note("%s is done", name)
		})
	}
	for _, name := range []string{"shop", "crm", "app"} {
		p := x.newPoster(name, web, true)
		clients(name, func() { p.events(stop, end, "/api/v1/s2s/events?token="+serverSecret) })
	}
	browser := x.newPoster("browser", mail, false) // sends its queue again without ids
	clients("browser", func() { browser.events(stop, end, "/api/v1/events?token="+clientSecret) })
	mails := x.newPoster("mails", mail, true)
	clients("mails", func() { mails.pixels(stop, end) })
	imports := x.newPoster("imports", bulk, true)
	clients("imports", func() { imports.imports(stop, end, x.burst) })
	sends := x.newPoster("sends", bulk, true)
	clients("sends", func() { sends.sends(stop, end) })
	segment := x.newSDK("segment", "torture_segment.mjs", node, serverSecret)
	clients("segment", func() { segment.posts(stop, end) })
	jitsu := x.newSDK("jitsu", "torture_jitsu.mjs", node, serverSecret)
	clients("jitsu", func() { jitsu.posts(stop, end) })

	quiet, hush := context.WithCancel(context.Background())
	defer hush()
	faults.Go(func() { x.plagues(quiet) })
	faults.Go(func() { x.moods(quiet) })
	x.drive()
	x.note("the end begins")

	hush()
	faults.Wait()
	cancel()
	time.AfterFunc(5*time.Second, over) // Segment's SDK, and router send, may wait longer before they try again: what they have is a maybe
	x.heal()                            // what waits is delivered while clients end
	posting.Wait()
}

// heal ends all faults.
func (x *torture) heal() {
	x.hub.heal(x.t)
	x.p.configure(true)
	x.p.signal(syscall.SIGHUP)
	x.reload() // blocked lanes try again at once
}

// calm waits, after all faults, until the router has nothing left to do.
func (x *torture) calm() {
	x.breaking.Lock() // what broke last is posted
	defer x.breaking.Unlock()
	x.p.drain(3 * time.Minute)
	x.note("drained")
	x.ask(http.MethodPost, "/api/v1/deadletters/replay", `{"everything":true}`)
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(x.ask(http.MethodGet, "/api/v1/deadletters/summary", ""), `"marked":0`); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			x.t.Fatalf("dead letters wait to be replayed, two minutes after all faults: %s", x.ask(http.MethodGet, "/api/v1/deadletters/summary", ""))
		}
	}
	x.p.drain(3 * time.Minute)
	x.note("replayed")
	time.Sleep(lateness) // what is applied late has been
}

// summary tells what the run was.
func (x *torture) summary(took time.Duration) {
	x.tally.mu.Lock()
	defer x.tally.mu.Unlock()
	faults, injected := "", 0
	for _, name := range slices.Sorted(maps.Keys(x.tally.n)) {
		faults += fmt.Sprintf("\n  %5d  %s", x.tally.n[name], name)
		injected += x.tally.n[name]
	}
	x.t.Logf("seed %d: %d kills in %s, %s; %d faults:%s", x.seed, x.kills, took.Round(time.Second), x.outcome, injected, faults)
}

package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/log"
	"eventrouter/pkg/store"
)

// healing fails on events that say so when they come; when they are replayed it does not.
type healing struct{ scripted }

func (h *healing) Eval(ev *event.Event, w filters.World) ([]filters.Output, string, error) {
	if ev.Class == event.Live && gjson.GetBytes(ev.JSON, "heals").Bool() {
		return nil, "", errors.New("not yet")
	}
	return h.scripted.Eval(ev, w)
}

// killDir is the variable that makes the test binary be a router in a directory that appends events to both its logs, until it is killed.
const killDir = "ROUTER_TEST_KILL"

// notes is a destination that notes in a file the ids of what it takes, with the numbers that the transform gave them.
type notes struct {
	*remote
	file *os.File
}

// Lanes leaves LateAfter out: nobody waits for calls of a killed router.
func (n notes) Lanes() []destinations.LaneSpec {
	specs := n.remote.Lanes()
	specs[0].LateAfter = 0
	return specs
}

func (n notes) Send(_ context.Context, _ destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	time.Sleep(time.Millisecond)
	note(n.file, batch[0].Plan.Lane, len(batch), func(i int) string {
		return batch[i].Event.ID + "=" + gjson.GetBytes(batch[i].Event.JSON, "n").Raw
	})
	return make([]destinations.Outcome, len(batch))
}

// note writes a line for each id, which outlives the process once it returns. A line that a kill has cut has no end, and the next begins with a new one.
func note(f *os.File, kind string, n int, id func(int) string) {
	var b strings.Builder
	b.WriteByte('\n')
	for i := range n {
		fmt.Fprintln(&b, kind, id(i)+lineEnd)
	}
	if _, err := f.WriteString(b.String()); err != nil {
		panic(err)
	}
}

const lineEnd = " ."

// killRig is a router in dir, with a file of what was accepted and one of what was delivered.
type killRig struct {
	logs                [2]*log.Log // live, bulk
	store               *store.Store
	router              *Router
	accepted, delivered *os.File
}

func newKillRig(dir string) (g *killRig, err error) {
	g = &killRig{}
	if g.store, err = store.Open(dir, store.Options{}); err != nil {
		return nil, err
	}
	for i, position := range []log.Offset{log.Offset(g.store.Position()), BulkPosition(g.store)} {
		if g.logs[i], err = log.Open(filepath.Join(dir, []string{"live", "bulk"}[i]), log.Options{SegmentBytes: 64 << 10, Position: position}); err != nil {
			return nil, err
		}
	}
	for name, f := range map[string]**os.File{"accepted": &g.accepted, "delivered": &g.delivered} {
		if *f, err = os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return nil, err
		}
	}
	g.router, err = New(Options{
		Log: g.logs[0], BulkLog: g.logs[1], Store: g.store, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		MarkFile: filepath.Join(dir, "mark"), Routes: []Route{{Name: "crm", Transform: &healing{scripted{kv: true}}, Destination: notes{newRemote(), g.delivered}}},
	})
	return g, err
}

// beKilled runs a router and appends to its logs for as long as the process lives.
func beKilled(dir string) error {
	g, err := newKillRig(dir)
	if err != nil {
		return err
	}
	go func() { panic(g.router.Run(context.Background())) }()
	errs := make(chan error)
	go func() {
		for ; ; time.Sleep(time.Millisecond) {
			if _, err := g.store.MarkReplay(context.Background(), store.DeadLetterQuery{OldestFirst: true, Limit: 1 + rand.IntN(200)}, store.Replay{}); err != nil {
				errs <- err
			}
		}
	}()
	for i, class := range []event.Class{event.Live, event.Bulk} {
		go func() {
			for n := 0; ; n++ {
				batch := make([][]byte, 1+rand.IntN(1+100*i)) // an upload comes in larger pieces
				person := func(k int) string { return fmt.Sprintf("p%d@b.co", (31*n+7*k)%1000) }
				id := func(k int) string { return fmt.Sprintf("%d-%d-%d-%d-%s", os.Getpid(), class, n, k, person(k)) }
				for k := range batch {
					ev := event.Event{
						ID: id(k), APIKey: "key", Received: time.Now(), Class: class, Server: true,
						JSON: fmt.Appendf(nil, `{"event_type":"user_identify","utc_time":"2020-01-01T00:00:00Z","count":%q,"heals":%t,"user":{"email":%q,"v":%d}}`, person(k), n%3 == 0, person(k), n),
					}
					batch[k] = ev.AppendTo(nil)
				}
				if err := g.logs[i].Append(batch...); err != nil {
					errs <- err
				}
				note(g.accepted, "contacts", len(batch), id)
			}
		}()
	}
	return <-errs
}

// TestKilledRouterLosesNothing kills a router over and over while both its logs are written and sorted, and dead letters are replayed. All that was accepted
// arrives, and what its transform counts in $kv is the number of events that arrived: each has a number of its own, so that no letter was handed over twice.
func TestKilledRouterLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("real time")
	}
	dir := memoryDir(t)
	for range 6 {
		c := exec.Command(os.Args[0], "-test.run=^$")
		c.Env = append(os.Environ(), killDir+"="+dir)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(150+rand.IntN(150)) * time.Millisecond)
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if status := c.Wait().(*exec.ExitError).Sys().(syscall.WaitStatus); !status.Signaled() {
			t.Fatalf("it ended by itself: %d", status.ExitStatus())
		}
	}
	g, err := newKillRig(dir)
	if err != nil {
		t.Fatal(err)
	}
	left := [2]uint64{g.router.live.unsorted(), g.router.bulk.unsorted()}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.router.Run(ctx) }()
	for len(g.store.ReplaysLeft()) > 0 || g.router.live.unsorted() > 0 {
		time.Sleep(10 * time.Millisecond)
	}
	healed, err := g.store.MarkReplay(ctx, store.DeadLetterQuery{}, store.Replay{})
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); !g.router.Idle(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			t.Fatalf("not idle: %+v", g.router.Status())
		}
	}
	letters, err := g.store.DeadLetters(ctx, store.DeadLetterQuery{})
	if err != nil || len(letters) > 0 {
		t.Errorf("%d dead letters are left, the first %+v, %v", len(letters), letters[:min(1, len(letters))], err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, close := range []func() error{g.logs[0].Close, g.logs[1].Close, g.store.Close, g.accepted.Close, g.delivered.Close} {
		if err := close(); err != nil {
			t.Error(err)
		}
	}
	accepted, delivered := lines(t, dir, "accepted"), lines(t, dir, "delivered")
	t.Logf("%d accepted, %d delivered; unsorted after the last kill: %d live, %d bulk; %d of the letters were replayed only then",
		len(accepted), len(delivered), left[0], left[1], healed)
	classes := map[string]int{}
	numbers := checkNumbers(t, delivered)
	for line := range accepted {
		classes[strings.Split(line, "-")[1]]++
		if numbers[line] == 0 {
			t.Fatalf("%s is lost", line)
		}
	}
	if classes["0"] == 0 || classes["1"] == 0 {
		t.Errorf("accepted by class: %v", classes)
	}
}

// lines counts the whole lines of a file.
func lines(t *testing.T, dir, name string) map[string]int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int{}
	for line := range strings.Lines(string(data)) {
		if id, ok := strings.CutSuffix(line, lineEnd+"\n"); ok {
			all[id]++
		}
	}
	return all
}

// checkNumbers reads lines of what was delivered, maybe more than once: each event always came with the same number, and those of a person were numbered one
// after the other. It returns the numbers.
func checkNumbers(t *testing.T, delivered map[string]int) map[string]int {
	t.Helper()
	numbers := map[string]int{}
	persons := map[string]map[int]string{}
	for line := range delivered {
		event, number, _ := strings.Cut(line, "=")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("%q was delivered without a number", line)
		}
		if other := numbers[event]; other != 0 && other != n {
			t.Fatalf("%s was counted twice: %d, %d", event, n, other)
		}
		numbers[event] = n
		person := event[strings.LastIndexByte(event, '-')+1:]
		if persons[person] == nil {
			persons[person] = map[int]string{}
		}
		if other := persons[person][n]; other != "" && other != event {
			t.Fatalf("%s and %s have the same number %d", event, other, n)
		}
		persons[person][n] = event
	}
	for person, all := range persons {
		for n := range len(all) {
			if all[n+1] == "" {
				t.Fatalf("of %d events of %s none has number %d", len(all), person, n+1)
			}
		}
	}
	return numbers
}

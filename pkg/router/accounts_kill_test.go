package router

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/seal"
)

// joinDir is the variable that makes the test binary a router whose account connects, until it is killed; joinKey has the key of what is on the disk, and joinRound says which life it is.
const (
	joinDir   = "ROUTER_TEST_JOIN"
	joinKey   = "ROUTER_TEST_JOIN_KEY"
	joinRound = "ROUTER_TEST_JOIN_ROUND"

	joinRounds = 5 // lives that end while entries move, most of them; later ones end while they are delivered
)

// filed is a destination of accounts that notes in a file what it takes, and for which hub.
type filed struct {
	*shared
	hub  atomic.Pointer[string] // of the one account
	file *os.File
}

// Lanes makes small calls, and leaves LateAfter out: nobody waits for calls of a killed router.
func (d *filed) Lanes() []destinations.LaneSpec {
	return []destinations.LaneSpec{{Name: "contacts", MaxKeys: 3, MaxEntries: 20, InFlight: 2, MarksKeys: true}, {Name: "events", MaxEntries: 20, InFlight: 2}}
}

func (d *filed) Hub(string) string { return *d.hub.Load() }

func (d *filed) AcquireAt(_ context.Context, hub, account, _ string) (destinations.Permit, error) {
	if hub == "" || d.Hub(account) != hub {
		return nil, destinations.Block(errors.New("not connected"), destinations.AccountScope, time.Time{})
	}
	return hubPermit{hub, account}, nil
}

func (d *filed) Send(_ context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	note(d.file, p.(hubPermit).hub+" "+batch[0].Plan.Lane, len(batch), func(i int) string {
		return batch[i].Plan.Key + " " + gjson.GetBytes(batch[i].Event.JSON, "v").Raw
	})
	time.Sleep(time.Millisecond)
	return make([]destinations.Outcome, len(batch))
}

// joinRig is a router in dir that delivers to the accounts of d.
func joinRig(t *testing.T, dir, key string) (g *rig, d *filed) {
	t.Helper()
	g, d = newRig(t, newRemote(), nil), &filed{shared: &shared{world: newWorld()}}
	os.Remove(g.dir) // who is killed would leave it behind
	none := ""
	d.hub.Store(&none)
	g.dir = dir
	k, err := seal.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if g.keys, err = seal.NewRing(true, k); err != nil {
		t.Fatal(err)
	}
	if d.file, err = os.OpenFile(filepath.Join(dir, "delivered"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	}
	g.routes = func(*rig) []Route {
		return []Route{{
			Name: "customers", Type: "fake", Connection: "app", Destination: d,
			Retry: config.Retry{MaxAge: 24 * time.Hour, MaxDelay: 5 * time.Minute}, Lanes: config.LaneLimits{OnFull: config.DeadLetterOldest},
		}}
	}
	return g, d
}

// joinEvents posts a write and an event of each of some persons, which say which they are by v.
func (g *rig) joinEvents(v int) {
	g.t.Helper()
	for p := range 7 {
		person := fmt.Sprintf(`"v":%d,"user":{"email":"p%d@a1"}`, v, p)
		g.append(event.Event{Server: true, Account: "a1"}, `{"event_type":"user_identify",`+person+`}`, `{"event_type":"t",`+person+`}`)
	}
}

// waiting is how many entries wait for accounts to connect.
func (g *rig) waiting() (n int64) {
	for _, l := range g.store.Lanes() {
		if l.Name.Hub == "" {
			n += l.Entries
		}
	}
	return n
}

// TestJoinKilled is the child of TestKilledWhileAnAccountConnects.
func TestJoinKilled(t *testing.T) {
	dir := os.Getenv(joinDir)
	if dir == "" {
		t.Skip("a part of TestKilledWhileAnAccountConnects")
	}
	round, _ := strconv.Atoi(os.Getenv(joinRound))
	g, d := joinRig(t, dir, os.Getenv(joinKey))
	g.n = 1_000_000 * (round + 1)
	g.open()
	g.run()
	g.router.readBytes = 1 // a block in a step
	hub := "h1"
	d.hub.Store(&hub)
	waits := g.waiting()
	g.router.Connected("app", "a1")
	if round >= joinRounds { // what has moved is delivered now
		for g.waiting() > 0 {
			time.Sleep(time.Millisecond)
		}
	}
	fmt.Println("connects", waits)
	for v := 1000 * (round + 1); ; v++ {
		g.joinEvents(v)
		fmt.Println("accepted", v)
		time.Sleep(5 * time.Millisecond)
	}
}

// TestKilledWhileAnAccountConnects kills a router, whose data is encrypted, over and over while what waited for an account moves to the lanes of its hub and leaves, and more comes. In the end all of it was
// delivered, there and nowhere else; of each person in order; and no more of it twice than what was in calls when the process died.
func TestKilledWhileAnAccountConnects(t *testing.T) {
	if testing.Short() {
		t.Skip("real time")
	}
	const kills, before = 9, 40
	dir, key := memoryDir(t), seal.NewKey()
	synctest.Test(t, func(t *testing.T) {
		g, d := joinRig(t, dir, key)
		defer d.file.Close()
		g.start()
		for v := range before { // each in blocks of its own
			g.joinEvents(v)
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Second)
		g.stop()
	})
	var wanted, waited []int
	for v := range before {
		wanted = append(wanted, v)
	}
	for round := range kills {
		waiting, accepted := killedRound(t, dir, key, round)
		waited, wanted = append(waited, waiting), append(wanted, accepted...)
	}
	g, d := joinRig(t, dir, key)
	defer d.file.Close()
	hub := "h1"
	d.hub.Store(&hub)
	g.start()
	for began := time.Now(); !g.router.Idle(); time.Sleep(5 * time.Millisecond) { // real I/O
		if time.Since(began) > time.Minute {
			t.Fatalf("not idle: %+v", g.router.Status())
		}
	}
	letters := g.deadLetters()
	g.stop()
	if len(letters) > 0 {
		t.Errorf("dead letters: %+v", letters)
	}
	t.Logf("entries that waited for the account at the start of each life: %d", waited)
	checkJoined(t, dir, wanted, kills)
}

// killedRound is a life of the child. It returns how many entries waited at its start, and which events it accepted.
func killedRound(t *testing.T, dir, key string, round int) (waiting int, accepted []int) {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^TestJoinKilled$")
	c.Env = append(os.Environ(), joinDir+"="+dir, joinKey+"="+key, joinRound+"="+strconv.Itoa(round))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text := lines.Text()
		if n, ok := strings.CutPrefix(text, "connects "); ok {
			waiting, _ = strconv.Atoi(n)
			time.AfterFunc(time.Duration(rand.IntN(60))*time.Millisecond, func() { c.Process.Kill() })
		} else if n, ok := strings.CutPrefix(text, "accepted "); ok {
			v, err := strconv.Atoi(n)
			if err != nil {
				break // the line was cut
			}
			accepted = append(accepted, v)
		}
	}
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("it ended by itself: %v", err)
	}
	return waiting, accepted
}

// checkJoined looks at what was delivered.
func checkJoined(t *testing.T, dir string, wanted []int, kills int) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "delivered"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]int{} // values by hub, lane and person
	for line := range strings.Lines(string(data)) {
		text, whole := strings.CutSuffix(line, lineEnd+"\n")
		at := strings.LastIndexByte(text, ' ')
		if !whole || at < 0 {
			continue
		}
		v, err := strconv.Atoi(text[at+1:])
		if err != nil {
			t.Fatalf("%q was delivered", line)
		}
		got[text[:at]] = append(got[text[:at]], v)
	}
	twice := 0
	for p := range 7 {
		for _, lane := range []string{"contacts", "events"} {
			name := fmt.Sprintf("h1 %s p%d@a1", lane, p)
			values := got[name]
			delete(got, name)
			seen, last, most := map[int]int{}, -1, -1
			for _, v := range values {
				if v < last && seen[v] == 0 { // else a call was made again after a kill
					t.Fatalf("%s: %d comes after %d: %v", name, v, last, values)
				}
				seen[v]++
				last, most = v, max(most, v)
			}
			if last != most {
				t.Errorf("%s ends with %d, want %d", name, last, most)
			}
			for _, n := range seen {
				if lane == "contacts" {
					n-- // the write of the contact, and maybe that of the event that needs it
				}
				twice += max(0, n-1)
			}
			for _, v := range wanted {
				if seen[v] == 0 {
					t.Errorf("%s: %d is lost", name, v)
				}
			}
		}
	}
	if len(got) > 0 {
		t.Errorf("delivered elsewhere: %v", got)
	}
	if most := kills * 2 * 2 * 20; twice > most { // two calls of each lane, of 20 entries
		t.Errorf("%d were delivered twice, at most %d were in flight", twice, most)
	}
	t.Logf("%d of %d values for each of 7 persons were delivered twice", twice, len(wanted))
}

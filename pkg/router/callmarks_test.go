package router

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
)

// crashReport is one as the runtime writes it when the stack of a call overflows.
const crashReport = "fatal error: stack overflow\n\ngoroutine 7 [running]:\neventrouter/pkg/destinations/hubspot.render(...)\n\t...\neventrouter/pkg/router.(*lane).send(...)\n"

// TestEntryThatKillsTheProcess: the process ends whenever an entry is sent, played by a copy of what is on disk at that moment. With the runtime's report of that, it is given up when it was
// alone in flight at three deaths; all others are delivered, in order. Killed from outside, again and again, nobody is.
func TestEntryThatKillsTheProcess(t *testing.T) {
	f := func(lane, crash string, deaths int, wantDead string) {
		t.Run(lane+" "+wantDead, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { entryThatKills(t, lane, crash, deaths, wantDead) })
		})
	}
	f("contacts", crashReport, 1+maxDeaths, "deadly")
	f("events", crashReport, 1+maxDeaths, "deadly")
	f("contacts", "", 8, "")
	f("events", "fatal error: stack overflow\n\ngoroutine 9 [running]:\neventrouter/pkg/router.(*sorter).handOver(...)\n", 8, "")
}

func entryThatKills(t *testing.T, lane, crash string, deaths int, wantDead string) {
	left := filepath.Join(t.TempDir(), "0") // what the next process finds
	var died, heals, flows atomic.Bool
	r := newRemote()
	r.eventEntries, r.contactKeys = 100, 100
	var g *rig
	r.answer = func(c call) []error {
		if !flows.Load() {
			return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
		}
		for _, e := range c.entries {
			if c.lane == lane && strings.Contains(string(e.Event.JSON), "deadly") && !died.Load() && !heals.Load() {
				died.Store(true)
				if err := os.CopyFS(left, os.DirFS(g.dir)); err != nil {
					t.Error(err)
				}
			}
		}
		if died.Load() { // nothing of this process counts any more
			return []error{destinations.Ambiguous(errors.New("died"))}
		}
		return nil
	}
	g = newRig(t, r, nil)
	g.start()
	for n := range 6 {
		g.post(identify(fmt.Sprintf("p%d@b.co", n), n), track(fmt.Sprint("t", n), fmt.Sprintf("p%d@b.co", n)))
	}
	if lane == "contacts" {
		g.post(`{"id":"deadly","event_type":"user_identify","user":{"email":"x@b.co","v":7,"x":"deadly"}}`)
	} else {
		g.post(`{"id":"deadly","event_type":"t","x":"deadly","user":{"email":"p3@b.co"}}`)
	}
	g.post(identify("p0@b.co", 10))
	time.Sleep(time.Minute)
	flows.Store(true)
	g.router.Probe()
	n := 0
	for ; ; n++ {
		heals.Store(n == deaths && wantDead == "")
		for began := time.Now(); !g.router.Idle() && !died.Load() && time.Since(began) < time.Hour; {
			time.Sleep(100 * time.Millisecond)
		}
		if !died.Load() {
			break
		}
		if n > deaths {
			t.Fatal("it is not given up")
		}
		g.stop()
		g.dir, left, g.crash = left, left+"0", crash
		died.Store(false)
		g.start()
	}
	if n != deaths {
		t.Errorf("over after %d deaths, want %d", n, deaths)
	}
	var dead []string
	for _, d := range g.deadLetters() {
		dead = append(dead, d.EventID+" "+d.Reason)
	}
	if want := strings.TrimSpace(wantDead + " poison"); wantDead != "" && strings.Join(dead, ", ") != want || wantDead == "" && len(dead) > 0 {
		t.Errorf("dead letters %q, want %q", dead, wantDead)
	}
	for n := range 6 {
		if !strings.Contains(" "+g.events()+" ", fmt.Sprintf(" t%d ", n)) {
			t.Errorf("events %q, without t%d", g.events(), n)
		}
	}
	if got := g.writes("p0@b.co"); !strings.HasSuffix(got, "10") {
		t.Errorf("p0 has %q, want 10 last", got)
	}
	g.stop()
	if _, err := os.Stat(filepath.Join(g.dir, "mark.calls.suspects")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("suspects are left: %v", err)
	}
}

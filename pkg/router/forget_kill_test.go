package router

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// forgetDir is the variable that makes the test binary forget ann in a directory, until it is killed or done.
const forgetDir = "ROUTER_TEST_FORGET"

// forgetRig is a rig in a directory whose lanes are blocked.
func forgetRig(t *testing.T, dir string) *rig {
	g := newRig(t, newRemote(), nil)
	os.Remove(g.dir) // who is killed would leave it behind
	g.dir, g.logs = dir, io.Discard
	g.remote.answer = func(call) []error {
		return []error{destinations.Block(fmt.Errorf("no"), destinations.AccountScope, time.Time{})}
	}
	return g
}

// TestForgetKilled is the child of TestForgetOutlivesKills, too.
func TestForgetKilled(t *testing.T) {
	dir := os.Getenv(forgetDir)
	if dir == "" {
		t.Skip("a part of TestForgetOutlivesKills")
	}
	g := forgetRig(t, dir)
	g.start()
	g.forget(ForgetQuery{Email: annEmail})
	g.stop()
}

// TestForgetOutlivesKills kills a router in the midst of forgetting, over and over; one more call finishes it.
func TestForgetOutlivesKills(t *testing.T) {
	if testing.Short() {
		t.Skip("real time")
	}
	const rounds = 15
	dir := memoryDir(t)
	g := forgetRig(t, dir)
	g.start()
	for i := range rounds {
		var texts []string
		for j := range 50 {
			texts = append(texts, of(fmt.Sprintf("ann%d-%d", i, j), "user_identify", annAll, ""), of(fmt.Sprintf("p%d-%d", i, j), "page", annID, ""),
				track(fmt.Sprintf("bob%d-%d", i, j), "bob@b.co"))
		}
		g.post(texts...)
		g.append(event.Event{Server: true, Class: event.Bulk}, track(fmt.Sprintf("bobbulk%d", i), "bob@b.co"), of(fmt.Sprintf("annbulk%d", i), "page", annAll, ""))
	}
	g.stop()
	for range 4 {
		c := exec.Command(os.Args[0], "-test.run=^TestForgetKilled$")
		c.Env = append(os.Environ(), forgetDir+"="+dir)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(20+rand.IntN(300)) * time.Millisecond)
		_ = c.Process.Kill() // it may be done
		_ = c.Wait()
	}
	g.handler = slog.NewTextHandler(io.Discard, nil)
	g.start()
	defer func() { g.stop() }()
	g.forget(ForgetQuery{Email: annEmail})
	if found := g.left(annEmail, annUser, annAnonymous); found != nil {
		t.Errorf("left: %s", strings.Join(found, "\n"))
	}
	g.remote.mu.Lock()
	g.remote.answer = nil
	g.remote.mu.Unlock()
	g.router.Probe()
	for began := time.Now(); !g.router.Idle(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("not idle: %+v", g.router.Status())
		}
	}
	got := g.events()
	if n := strings.Count(got, "bob"); n != rounds*50+rounds || strings.Contains(got, "ann") || strings.Contains(got, "p1-") {
		t.Errorf("%d events of the neighbour arrived, want %d; or some of the person", n, rounds*50+rounds)
	}
	if live, bulk := g.store.Forgets(); live+bulk != 0 {
		t.Errorf("marks are left: %d, %d", live, bulk)
	}
}

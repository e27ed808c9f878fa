package router

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"

	"golang.org/x/sync/errgroup"
)

// Variables that make the test binary forget ann in a directory until it is killed at a step: in a router, or in the directory alone, with a key of encryption.
const (
	forgetStepDir    = "ROUTER_TEST_FORGET_STEP_DIR"
	forgetStepName   = "ROUTER_TEST_FORGET_STEP"
	forgetStepStored = "ROUTER_TEST_FORGET_STORED"
	forgetStepKey    = "ROUTER_TEST_FORGET_KEY"
)

// forgetStepQuery names the person by an id whose e-mail only an event tells that is not sorted.
var forgetStepQuery = ForgetQuery{UserID: annUser}

// stepRig is a rig in a directory: nothing is taken, and a retry of what is to be tried again is far.
func stepRig(t *testing.T, dir, key string) *rig {
	g := newRig(t, newRemote(), nil)
	os.Remove(g.dir) // who is killed would leave it behind
	g.dir, g.logs, g.handler = dir, io.Discard, slog.NewTextHandler(io.Discard, nil)
	if key != "" {
		g.keys = newRing(t, true, parseKey(t, key))
	}
	g.remote.answer = func(c call) []error {
		errs := make([]error, len(c.entries))
		for i, e := range c.entries {
			switch {
			case strings.HasPrefix(e.Event.ID, "reject"):
				errs[i] = destinations.Reject(fmt.Errorf("no, not %s", e.Plan.Key))
			case strings.HasPrefix(e.Event.ID, "retry"):
				errs[i] = destinations.RetryAfter(fmt.Errorf("later, with %s", annEmail), time.Hour)
			default:
				errs[i] = destinations.Block(fmt.Errorf("no"), destinations.LaneScope, time.Time{})
			}
		}
		return errs
	}
	return g
}

func parseKey(t *testing.T, text string) seal.Key {
	t.Helper()
	key, err := seal.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// fillForSteps has something of ann, and of a neighbour, in lanes, waiting for a retry, among the dead letters, and unsorted in both logs. Until those are sorted nothing but
// her e-mail tells whose the first ones are.
func (g *rig) fillForSteps() {
	g.t.Helper()
	g.start()
	g.post(of("reject1", "user_identify", `"email":"`+annEmail+`"`, ""), of("reject2", "user_identify", `"email":"bob@b.co"`, ""))
	g.until("two dead letters", func() bool { return len(g.deadLetters()) == 2 })
	g.post(of("retry1", "user_identify", `"email":"`+annEmail+`","v":2`, ""), of("retry2", "user_identify", `"email":"rita@b.co","v":7`, ""))
	g.until("two are to be tried again", func() bool { return strings.Count(fmt.Sprint(g.tried()), "retry") == 2 })
	for i := range 5 {
		g.post(of(fmt.Sprintf("ann%d", i), "page", `"email":"`+annEmail+`"`, ""), track(fmt.Sprintf("bob%d", i), "bob@b.co"))
	}
	g.until("all sorted", func() bool { live, bulk := g.router.Unsorted(); return live+bulk == 0 })
	if err := g.store.RecordExport(context.Background(), store.Export{At: time.Now(), Target: "letters.jsonl", Letters: 2}); err != nil {
		g.t.Fatal(err)
	}
	g.stop()
	g.open()
	for _, ev := range []event.Event{{Server: true}, {Server: true, Class: event.Bulk}} {
		g.append(ev, of(fmt.Sprintf("ann-all%d", ev.Class), "page", annAll, ""), of(fmt.Sprintf("ann-id%d", ev.Class), "page", annID, ""),
			of(fmt.Sprintf("ann-anon%d", ev.Class), "page", annAnon, ""), track(fmt.Sprintf("bob-late%d", ev.Class), "bob@b.co"))
	}
	g.closeFiles()
}

// tried are the ids of all that was in a call.
func (g *rig) tried() (ids []string) {
	for _, c := range g.calls("contacts") {
		ids = append(ids, c.ids()...)
	}
	return ids
}

// until waits for other goroutines that do real I/O.
func (g *rig) until(what string, ok func() bool) {
	g.t.Helper()
	for began := time.Now(); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			g.t.Fatalf("not within a minute: %s; %+v", what, g.router.Status())
		}
	}
}

// atRest is what there is of a rig that does not run, and is open.
func (g *rig) atRest() Stored {
	return Stored{Store: g.store, Log: g.log, BulkLog: g.bulk, Routes: g.routes(g), Logger: slog.New(slog.DiscardHandler)}
}

// forgetStored forgets ann where no router runs.
func (g *rig) forgetStored(atStep func(string)) *Forgotten {
	g.t.Helper()
	g.open()
	defer g.closeFiles()
	f := newForgettingStored(g.atRest(), forgetStepQuery)
	f.atStep = atStep
	done, err := f.run(context.Background(), forgetStepQuery)
	if err != nil {
		g.t.Fatal(err)
	}
	return done
}

// TestForgetKilledAtStep is the child of TestForgetAfterKillAtEachStep.
func TestForgetKilledAtStep(t *testing.T) {
	dir, at := os.Getenv(forgetStepDir), os.Getenv(forgetStepName)
	if dir == "" {
		t.Skip("a part of TestForgetAfterKillAtEachStep")
	}
	die := func(step string) {
		if step == at {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	g := stepRig(t, dir, os.Getenv(forgetStepKey))
	if os.Getenv(forgetStepStored) != "" {
		g.forgetStored(die)
		return
	}
	g.start()
	g.router.forgetStep = die
	g.forget(forgetStepQuery)
}

// TestForgetAfterKillAtEachStep kills whoever forgets a person as each of the steps begins. The same command again ends with nothing of the person left, and all that is others' is
// delivered; also where everything is encrypted.
func TestForgetAfterKillAtEachStep(t *testing.T) {
	if testing.Short() {
		t.Skip("processes")
	}
	key := seal.NewKey()
	dirs := map[string]string{"": memoryDir(t), key: memoryDir(t)} // by key
	for with, dir := range dirs {
		stepRig(t, dir, with).fillForSteps()
	}
	var children errgroup.Group
	children.SetLimit(2)
	var checks []func()
	f := func(name, step, with string, stored bool) {
		t.Helper()
		dir := memoryDir(t)
		children.Go(func() error { return killedAt(dirs[with], dir, step, with, stored) })
		check := func(t *testing.T) {
			t.Parallel()
			g := stepRig(t, dir, with)
			defer func() { g.stop() }()
			if stored {
				g.checkForgotten(g.forgetStored(nil))
				g.start()
			} else {
				g.start()
				g.checkForgotten(g.forget(forgetStepQuery))
			}
			if with != "" {
				g.decrypt(newRing(t, false, parseKey(t, with)))
			}
			if found := g.left(annEmail, annUser, annAnonymous); found != nil {
				t.Errorf("left: %s", strings.Join(found, "\n"))
			}
			g.deliverAll()
			for _, id := range []string{"bob0", "bob1", "bob2", "bob3", "bob4", "bob-late0", "bob-late1"} {
				if !slices.Contains(strings.Fields(g.events()), id) {
					t.Errorf("%s has not arrived: %s", id, g.events())
				}
			}
			if strings.Contains(g.events(), "ann") || g.writes(annEmail) != "" {
				t.Errorf("events of the person have arrived: %s", g.events())
			}
			g.want("contact whose retry waited", g.writes("rita@b.co"), "7")
			if live, bulk := g.store.Forgets(); live+bulk != 0 || len(g.deadLetters()) != 1 {
				t.Errorf("marks are left: %d, %d; or dead letters: %d, want bob's", live, bulk, len(g.deadLetters()))
			}
		}
		checks = append(checks, func() { t.Run(name+"/"+step, check) })
	}
	running, alone := &forgetting{router: &Router{}}, &forgetting{}
	for _, step := range running.steps() {
		f("router", step.name, "", false)
	}
	for _, step := range alone.steps() {
		f("alone", step.name, "", true)
	}
	for _, step := range []string{"what is not sorted", "blocks in hand", "unmark", "between rows"} {
		f("encrypted", step, key, false)
	}
	f("encrypted alone", "rewrite the logs", key, true)
	// All are killed first: a process that begins holds, for a moment, the locks of whoever starts it.
	if err := children.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, check := range checks {
		check()
	}
}

// killedAt copies a directory and has a process killed there as a step begins.
func killedAt(from, dir, step, key string, stored bool) error {
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		return err
	}
	c := exec.Command(os.Args[0], "-test.run=^TestForgetKilledAtStep$")
	c.Env = append(os.Environ(), forgetStepDir+"="+dir, forgetStepName+"="+step, forgetStepKey+"="+key)
	if stored {
		c.Env = append(c.Env, forgetStepStored+"=1")
	}
	if out, err := c.CombinedOutput(); err == nil || !c.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		return fmt.Errorf("it was not killed at %s: %w\n%s", step, err, out)
	}
	return nil
}

// checkForgotten checks what a second call answers, which may have found less than the first.
func (g *rig) checkForgotten(done *Forgotten) {
	g.t.Helper()
	if len(done.Exports) != 1 || done.Exports[0].Target != "letters.jsonl" || done.Exports[0].Letters != 2 {
		g.t.Errorf("earlier exports: %+v", done.Exports)
	}
}

// deliverAll has the remote take everything, also what waits for a retry.
func (g *rig) deliverAll() {
	g.t.Helper()
	g.remote.mu.Lock()
	g.remote.answer = nil
	g.remote.mu.Unlock()
	g.until("at work", func() bool { return len(g.router.atWork()) > 0 }) // a reload before that takes nothing from anybody
	route := g.routes(g)[0]
	route.Destination = &handle{remote: g.remote}
	g.reload(route) // which tries at once what waits
	g.until("delivered", g.router.Idle)
}

// TestForgetReadAhead: blocks with the person that slow scripts have read ahead are read again; what others have in them is sorted once, in order.
func TestForgetReadAhead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Filter = filterFunc(slowFilter) })
		g.start()
		defer g.stop()
		want := []string{"slow", "slower", "first"}
		for _, id := range want { // two set the destination aside; what comes while the third is sorted is read in one go
			g.post(slowTrack(id, 20*time.Second))
			time.Sleep(time.Second)
		}
		time.Sleep(38 * time.Second)
		for i := range 20 {
			g.post(of(fmt.Sprintf("ann%d", i), "t", annAll, `,"takes":300`), slowTrack(fmt.Sprintf("other%d", i), 300*time.Millisecond))
			want = append(want, fmt.Sprintf("other%d", i))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(22 * time.Second)
		a := g.router.asidesAtWork()[0]
		a.turn <- struct{}{}
		ahead := len(a.live.blocks)
		<-a.turn
		if done := g.forget(ForgetQuery{Email: annEmail}); ahead == 0 || done.Unsorted == 0 {
			t.Errorf("%d blocks are read ahead; forgotten: %+v", ahead, done)
		}
		if found := g.left(annEmail, annUser, annAnonymous); found != nil {
			t.Errorf("left: %s", strings.Join(found, "\n"))
		}
		already := strings.Fields(g.events())
		g.drain()
		var others []string
		for i, id := range strings.Fields(g.events()) {
			if strings.HasPrefix(id, "ann") {
				if i >= len(already) {
					t.Errorf("%s arrives after its person was forgotten", id)
				}
				continue
			}
			others = append(others, id)
		}
		g.want("events of others", strings.Join(others, " "), strings.Join(want, " "))
	})
}

// TestForgetNamesTwo: an unsorted event with an id of the person and an e-mail of somebody else, and one the other way round, go with the person. What else the other has done
// arrives.
func TestForgetNamesTwo(t *testing.T) {
	for _, stored := range []bool{false, true} {
		inBubble(t, func(t *testing.T) {
			g := newRig(t, newRemote(), nil)
			g.start()
			g.post(of("a1", "user_identify", annAll, ""), of("b1", "user_identify", `"email":"bob@b.co","id":"user-bob"`, ""))
			g.drain()
			g.stop()
			g.open()
			g.post(of("a2", "page", annID+`,"email":"bob@b.co"`, ""), of("a3", "page", `"id":"user-bob","email":"`+annEmail+`"`, ""),
				of("b2", "page", `"email":"bob@b.co"`, ""), of("b3", "page", `"id":"user-bob"`, ""))
			q := ForgetQuery{Email: annEmail}
			var done *Forgotten
			if stored {
				f := newForgettingStored(g.atRest(), q)
				var err error
				if done, err = f.run(t.Context(), q); err != nil {
					t.Fatal(err)
				}
				g.run()
			} else { // a call has begun that did not get far
				ids := []store.PersonID{{Kind: store.KindEmail, Value: annEmail}, {Kind: kindUser, APIKey: "key", Value: annUser}, {Kind: kindAnonymous, APIKey: "key", Value: annAnonymous}}
				if err := g.store.MarkForgotten(t.Context(), ids, store.Forgotten{At: time.Now(), Position: uint64(g.log.Stats().End), BulkPosition: uint64(FirstBulk)}); err != nil {
					t.Fatal(err)
				}
				g.run()
				done = g.forget(q)
			}
			defer g.stop()
			g.drain()
			g.want("events", g.events(), "b2 b3")
			if len(done.IDs) != 3 {
				t.Errorf("ids of the person: %+v", done.IDs)
			}
		})
	}
}

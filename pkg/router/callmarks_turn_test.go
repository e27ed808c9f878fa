package router

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/store"
)

// TestWhoseCallEndedTheProcess: the runtime writes all goroutines, the one that died first. Calls beside it are not charged.
func TestWhoseCallEndedTheProcess(t *testing.T) {
	const (
		running = "goroutine 7 gp=0xc000 m=3 mp=0xc001 [running]:\n"
		sends   = "eventrouter/pkg/router.(*lane).send(0xc000)\n\t/lane.go:1\neventrouter/pkg/router.(*lane).sendMarked(0xc000)\n\t/lane.go:2\n"
		waits   = "eventrouter/pkg/router.(*lane).sendMarked(0xc000)\n\t/lane.go:2\n"
		sorts   = "eventrouter/pkg/router.(*Router).sort(0xc000)\n\t/sort.go:1\n"
		beside  = "\ngoroutine 9 [select]:\n" + sends + "\n"
	)
	f := func(crash string, want bool) {
		t.Helper()
		if got := diedSending(crash); got != want {
			t.Errorf("%q: %v, want %v", crash, got, want)
		}
	}
	f("", false)
	f("fatal error: stack overflow\n\nruntime stack:\nruntime.throw(...)\n\n"+running+sends+beside, true)
	f("fatal error: concurrent map writes\n\n"+running+sends, true)
	f("fatal error: concurrent map writes\n\n"+running+sorts+beside, false)
	f("fatal error: out of memory\n\n"+running+waits+beside, false)
	f("panic: send\n\tgoroutine 1\n\n"+running+sorts+beside, false)
}

// onePermit is a remote with one call at a time: a permit is free again when its call has ended.
type onePermit struct {
	*remote
	free chan struct{}
}

func (p onePermit) Release() { p.free <- struct{}{} }

func (p onePermit) Acquire(ctx context.Context, _, _ string) (destinations.Permit, error) {
	select {
	case <-p.free:
		return p, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p onePermit) Send(ctx context.Context, permit destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	defer permit.Release()
	time.Sleep(time.Second)
	return p.remote.Send(ctx, permit, batch)
}

// TestSuspectsShareOnePermit: who waits until the calls with suspects are over holds no permit that those wait for.
func TestSuspectsShareOnePermit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.eventEntries, r.contactKeys, r.inFlight = 2, 2, 4
		one := onePermit{r, make(chan struct{}, 1)}
		g := newRig(t, r, func(route *Route) { route.Destination = one })
		g.start()
		for n := range 4 {
			g.post(identify(string(rune('a'+n))+"@b.co", n), track(string(rune('s'+n)), string(rune('a'+n))+"@b.co"))
		}
		g.stop()
		var suspects []suspect
		for block := range store.BlockID(20) {
			for n := range 2 {
				suspects = append(suspects, suspect{Block: block, Entry: n})
			}
		}
		text, err := json.Marshal(suspects)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(g.dir, "mark.calls.suspects"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		g.crash = crashReport
		one.free <- struct{}{}
		g.start()
		for began := time.Now(); !g.router.Idle(); time.Sleep(time.Second) {
			if time.Since(began) > 5*time.Minute {
				t.Fatalf("after %v only %d calls were made", time.Since(began), len(r.calls))
			}
		}
		g.stop()
		if len(r.events) != 4 || len(r.writes) != 4 {
			t.Errorf("%d events and %d contacts, want 4 each", len(r.events), len(r.writes))
		}
	})
}

// atHub is a remote whose accounts may connect to another hub at any time.
type atHub struct{ *remote }

func (a atHub) Acquire(context.Context, string, string) (destinations.Permit, error) {
	panic("the hub is not said")
}

func (a atHub) AcquireAt(context.Context, string, string, string) (destinations.Permit, error) {
	return permit{}, nil
}

var _ destinations.Connected = atHub{}

// TestSuspectsStayAtTheirHub: what is sent alone goes by a permit of its own hub.
func TestSuspectsStayAtTheirHub(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, nil)
		g.start()
		synctest.Wait()
		route := Route{Name: "crm", Destination: atHub{r}, Retry: config.Retry{MaxAge: time.Hour, MaxDelay: time.Minute}}
		a := &account{router: g.router, route: &route, name: "acme", hub: "7"}
		l := newLane(a, 0, store.LaneName{Destination: "crm", Lane: "contacts"}, r.Lanes()[0])
		ref := store.Ref{Block: 999}
		g.router.calls.mu.Lock()
		g.router.calls.suspects[ref] = 1
		g.router.calls.suspects[store.Ref{Block: 999, Index: 1}] = 1
		g.router.calls.mu.Unlock()
		e := destinations.Entry{Plan: destinations.Plan{Lane: "events", Key: "k", ID: "k"}, Event: &event.Event{ID: "x", JSON: []byte(`{}`)}}
		first, second := &entry{Entry: e, ref: ref}, &entry{Entry: e, ref: store.Ref{Block: 999, Index: 1}}
		out := l.sendMarked(t.Context(), permit{}, []*entry{first, second}, []destinations.Entry{e, e})
		if len(out) != 2 || out[0].Err != nil || out[1].Err != nil {
			t.Errorf("outcomes %+v, want 2 deliveries", out)
		}
		g.stop()
	})
}

package destinationtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

func (s *Suite) bareEnv(t *testing.T) destinations.Env {
	return destinations.Env{
		Name: "d", Log: slog.New(slog.DiscardHandler), Transport: refuses{t},
		Cache: &cache{}, Shared: &destinations.Shared{}, Metrics: destinations.NewMetrics(prometheus.NewRegistry()),
	}
}

// testSettings: all that is wrong is reported at once, each with its line.
func (s *Suite) testSettings(t *testing.T) {
	_, err := s.make(s.Broken, s.bareEnv(t))
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Fatalf("broken settings: got %v, want a list of problems", err)
	}
	var got []string
	for _, p := range problems {
		got = append(got, fmt.Sprintf("%d: %s", p.Pos.Line, p.Path))
	}
	want := slices.Sorted(slices.Values(s.Problems))
	if len(want) < 2 {
		t.Error("Suite.Problems has fewer than two: that all are reported at once is not seen")
	}
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	_, err = s.make(s.Settings+"no_such_key_anywhere: 1\n", s.bareEnv(t))
	if err == nil || !strings.Contains(err.Error(), "no_such_key_anywhere") {
		t.Errorf("an unknown key: got %v", err)
	}
	for _, secret := range s.Secrets {
		if !strings.Contains(s.Settings, secret) {
			t.Errorf("Suite.Secrets has %s, which is not in Settings", secret)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the secret %s is shown: %v", secret, err)
		}
	}
}

// testNew: making a destination makes no call and starts nothing.
func (s *Suite) testNew(t *testing.T) {
	pprof.Do(context.Background(), pprof.Labels("made-by", t.Name()), func(context.Context) {
		if _, err := s.make(s.Settings, s.bareEnv(t)); err != nil {
			t.Fatalf("the settings are refused: %v", err)
		}
		var b bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
			t.Fatal(err)
		}
		running := 0
		for stack := range strings.SplitSeq(b.String(), "\n\n") {
			n := 0
			if _, err := fmt.Sscanf(stack[strings.LastIndex(stack[:strings.Index(stack+"@", "@")], "\n")+1:], "%d", &n); err == nil && strings.Contains(stack, t.Name()) {
				running += n
			}
		}
		if running > 1 { // beside this one
			t.Errorf("%d goroutines run after New:\n%s", running-1, b.String())
		}
	})
}

// testLanes: lanes and hub are the same for the life of a destination, and for one that is made anew.
func (s *Suite) testLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for lane := range s.Events {
			r := newRig(t, s, lane)
			lanes, hub := r.dest.Lanes(), r.dest.Hub("")
			names := map[string]bool{}
			for _, spec := range lanes {
				if spec.Name == "" || names[spec.Name] || spec.InFlight < 1 {
					t.Errorf("lane %+v has no name of its own, or makes no calls", spec)
				}
				names[spec.Name] = true
			}
			if !names[lane] {
				t.Fatalf("Suite.Events has lane %s, the destination %v", lane, lanes)
			}
			if hub == "" {
				t.Error("Hub is empty")
			}
			r.warm()
			for _, d := range []destinations.Destination{r.dest, r.make(s.Settings)} {
				if diff := cmp.Diff(lanes, d.Lanes()); diff != "" || d.Hub("") != hub {
					t.Errorf("lanes or hub (%s, %s) have changed:\n%s", hub, d.Hub(""), diff)
				}
			}
			r.tell(hub)
			r.mustBeSilent()
		}
	})
}

// testAddress: what people are told of where calls go is an address, and no secret.
func (s *Suite) testAddress(t *testing.T) {
	d, err := s.make(s.Settings, s.bareEnv(t))
	if err != nil {
		t.Fatal(err)
	}
	a, ok := d.(destinations.Addressed)
	if !ok {
		t.Skip("not implemented")
	}
	for lane := range s.Events {
		method, at := a.Address(lane)
		if u, err := url.Parse(at); method == "" || err != nil || u.Host == "" {
			t.Errorf("the address of %s is %s %s", lane, method, at)
		}
		for _, secret := range s.Secrets {
			if strings.Contains(at, secret) {
				t.Errorf("the secret %s is shown: %s", secret, at)
			}
		}
	}
}

// testSimulated: events go to the stand-in as to the remote.
func (s *Suite) testSimulated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := s.make(s.Settings, s.bareEnv(t))
		if err != nil {
			t.Fatal(err)
		}
		simulated, ok := d.(destinations.Simulated)
		if !ok {
			t.Skip("not implemented")
		}
		for lane := range s.Events {
			stand, err := simulated.Simulate(nil)
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, s, lane)
			r.remote.inner = stand
			r.warm()
		}
	})
}

// testTester: a check ends with its context, and shows nothing.
func (s *Suite) testTester(t *testing.T) {
	env := s.bareEnv(t)
	env.Transport = (&remote{inner: s.Remote(), delivers: s.Delivers})
	d, err := s.make(s.Settings, env)
	if err != nil {
		t.Fatal(err)
	}
	tester, ok := d.(destinations.Tester)
	if !ok {
		t.Skip("not implemented")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, f := range tester.Test(ctx) {
		if f.Check == "" || f.Level == "" || f.Text == "" {
			t.Errorf("a finding that says nothing: %+v", f)
		}
		for _, secret := range s.Secrets {
			if strings.Contains(f.Text+f.Fix, secret) {
				t.Errorf("the secret %s is shown: %+v", secret, f)
			}
		}
	}
}

// testPlan: what Plan says depends on the event alone, and it keeps nothing of it.
func testPlan(r *rig) {
	before := r.remote.count()
	ev := r.event(person(1))
	same := *ev
	first, err := r.dest.Plan(ev)
	if err != nil || len(first) == 0 {
		r.t.Fatalf("plan of %s: %v, %v", ev.JSON, first, err)
	}
	if n := r.remote.count() - before; n != 0 {
		r.t.Errorf("Plan makes %d calls", n)
	}
	kept := make([]destinations.Plan, len(first))
	for i, p := range first {
		kept[i] = clone(p)
	}
	if diff := cmp.Diff(&same, ev); diff != "" || string(ev.JSON) != r.s.Events[r.lane](person(1)) {
		r.t.Errorf("Plan changes the event:\n%s", diff)
	}
	lanes := r.dest.Lanes()
	for _, p := range first {
		if !slices.ContainsFunc(lanes, func(l destinations.LaneSpec) bool { return l.Name == p.Lane }) {
			r.t.Errorf("a plan for lane %q, which is not there", p.Lane)
		}
	}
	r.warm() // what was learned meanwhile does not matter
	other := &event.Event{ID: ev.ID, APIKey: ev.APIKey, Server: true, Received: ev.Received, JSON: bytes.Clone(ev.JSON)}
	for _, d := range []destinations.Destination{r.dest, r.make(r.s.Settings)} {
		again, err := d.Plan(other)
		if diff := cmp.Diff(kept, again); err != nil || diff != "" {
			r.t.Errorf("the second plan of an event is another (%v):\n%s", err, diff)
		}
	}
	for i := range ev.JSON {
		ev.JSON[i] = '#'
	}
	if diff := cmp.Diff(kept, first); diff != "" {
		r.t.Errorf("a plan is a part of its event's bytes, which change:\n%s", diff)
	}
}

// clone copies the bytes of a plan too.
func clone(p destinations.Plan) destinations.Plan {
	p.Account, p.Lane, p.Key, p.ID = strings.Clone(p.Account), strings.Clone(p.Lane), strings.Clone(p.Key), strings.Clone(p.ID)
	p.Also = slices.Clone(p.Also)
	for i := range p.Also {
		p.Also[i] = strings.Clone(p.Also[i])
	}
	return p
}

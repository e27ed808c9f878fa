package router

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/config"
	"eventrouter/pkg/enrich"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// TestReloadOfScripts: what is planned keeps its form, what comes gets the new one, and lanes and calls go on as they are.
func TestReloadOfScripts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.permits = make(chan struct{})
		g := newRig(t, r, nil)
		d := &handle{remote: r}
		route := routeTo("crm", d)
		route.Transform = &scripted{}
		g.routes = func(*rig) []Route { return []Route{route} }
		g.start()
		defer g.stop()
		of := func(id string) string {
			return fmt.Sprintf(`{"id":%q,"event_type":"t","user":{"email":"a@b.co"}}`, id)
		}
		g.post(of("planned"))
		time.Sleep(time.Second)
		route.Transform = &scripted{suffix: "new_"}
		g.reload(route)
		g.post(of("transformed"))
		time.Sleep(time.Second)
		route.Filter = filterFunc(func(ev *event.Event) (filters.Result, error) { return filters.Result{Keep: ev.ID != "filtered"}, nil })
		g.reload(route)
		g.post(of("filtered"), of("kept"))
		time.Sleep(time.Second)
		route.Transform = nil
		g.reload(route)
		g.post(of("plain"))
		time.Sleep(time.Second)
		if d.sent.Load() != 0 || g.state("crm", "hub1", "events") != "flowing" {
			t.Errorf("%d calls, lane %s", d.sent.Load(), g.state("crm", "hub1", "events"))
		}
		close(r.permits)
		g.drain()
		var got []string
		for _, c := range g.calls("events") {
			for _, e := range c.entries {
				got = append(got, e.Event.ID+":"+e.Event.Type())
			}
		}
		g.want("events", strings.Join(got, " "), "planned:t transformed:new_t kept:new_t plain:t")
	})
}

func TestSameSorting(t *testing.T) {
	match, err := filters.CompileMatch(matchSettings(t, `{event_type: t}`))
	if err != nil {
		t.Fatal(err)
	}
	base := Route{
		Name: "crm", Transform: &scripted{}, Match: match, Filter: &slowness{}, Enrichment: &enrich.Rules{},
		APIKeys: map[string]bool{"web": true}, Lanes: config.LaneLimits{MaxBytes: 1},
	}
	f := func(what string, change func(*Route), want bool) {
		t.Helper()
		other := base
		other.APIKeys = map[string]bool{"web": true}
		change(&other)
		if got := sameSorting(&base, &other); got != want {
			t.Errorf("%s: sorts the same: %t, want %t", what, got, want)
		}
	}
	f("nothing", func(*Route) {}, true)
	f("another transform", func(r *Route) { r.Transform = &scripted{kv: true} }, false)
	f("no transform", func(r *Route) { r.Transform = nil }, false)
	f("another match", func(r *Route) { r.Match = &filters.Match{} }, false)
	f("no match", func(r *Route) { r.Match = nil }, false)
	f("another filter", func(r *Route) { r.Filter = &slowness{1} }, false)
	f("other rules", func(r *Route) { r.Enrichment = nil }, false)
	f("other keys", func(r *Route) { r.APIKeys = map[string]bool{"app": true} }, false)
	f("all keys", func(r *Route) { r.APIKeys = nil }, false)
	f("other limits", func(r *Route) { r.Lanes.MaxBytes = 2 }, false)
}

// matchSettings are the settings of a filter.
func matchSettings(t *testing.T, text string) config.Settings {
	t.Helper()
	cfg, err := config.Parse("router.yaml", []byte("api_keys: [{id: web, server_secret: s}]\ndestinations: {crm: {type: hubspot, filter: "+text+"}}"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Destinations[0].Match
}

// slowness is a filter that takes so long.
type slowness struct{ takes time.Duration }

func (s *slowness) Eval(*event.Event) (filters.Result, error) {
	time.Sleep(s.takes)
	return filters.Result{Keep: true}, nil
}

// TestReloadOfNothingLeavesAsides: an aside at work does not begin anew when nothing of its destination has changed.
func TestReloadOfNothingLeavesAsides(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{})
		g.start()
		defer g.stop()
		for i := range 5 {
			g.post(slowTrack(fmt.Sprintf("t%d", i), 3*time.Second))
		}
		time.Sleep(7 * time.Second)
		aside := func() *aside {
			g.router.mu.Lock()
			defer g.router.mu.Unlock()
			return g.router.table.Load().asides[0]
		}
		before := aside()
		if before == nil {
			t.Fatal("the destination is not set aside")
		}
		g.reload(append(g.routes(g), routeTo("lake", newRemote()))...)
		time.Sleep(time.Second)
		if aside() != before {
			t.Error("there is another aside")
		}
		g.drain()
		g.want("events", g.events(), "t0 t1 t2 t3 t4")
	})
}

// alone is a transform that notices when two evaluations of it run at once.
type alone struct{ busy, overlaps atomic.Int32 }

func (*alone) UsesKV() bool { return false }

func (a *alone) Eval(ev *event.Event, _ filters.World) ([]filters.Output, string, error) {
	if a.busy.Add(1) > 1 {
		a.overlaps.Add(1)
	}
	time.Sleep(time.Duration(gjson.GetBytes(ev.JSON, "takes").Int()) * time.Millisecond)
	a.busy.Add(-1)
	return []filters.Output{{Event: ev}}, "", nil
}

// TestTransformThatStaysOverAReload: with another filter behind it the sorter must not run it while an aside of the former route does.
func TestTransformThatStaysOverAReload(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		tr := &alone{}
		g := newRig(t, newRemote(), func(r *Route) { r.Transform, r.Filter = tr, &slowness{} })
		g.start()
		defer g.stop()
		g.postAs(false, `{"id":"late","event_type":"t","takes":2000,"user":{"id":"u1"}}`)
		time.Sleep(identityWait + time.Second) // the aside has it in hand
		changed := g.routes(g)
		changed[0].Filter = &slowness{1}
		g.reload(changed...)
		for i := range 10 {
			g.post(slowTrack(fmt.Sprintf("n%d", i), 10*time.Millisecond))
			time.Sleep(200 * time.Millisecond)
		}
		g.drain()
		if n := tr.overlaps.Load(); n > 0 {
			t.Errorf("%d evaluations began while another ran", n)
		}
	})
}

package router

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/trial"
)

// TestReloadOfWhatIsSetAside: what waits unsorted is sorted by the new route, in order, and nothing of it is lost or doubled.
func TestReloadOfWhatIsSetAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, nil)
		route := routeTo("crm", &handle{remote: r})
		route.Filter = filterFunc(slowFilter)
		g.routes = func(*rig) []Route { return []Route{route} }
		g.start()
		defer g.stop()
		unsorted := []string{slowTrack("first", 3*time.Second)} // sets its destination aside
		for i := range 40 {
			unsorted = append(unsorted, slowTrack(fmt.Sprintf("t%d", i), time.Second))
		}
		g.post(unsorted...)
		time.Sleep(10 * time.Second)
		// Only every other one is for it from now on, be it accepted before.
		mended := route
		mended.Destination = &handle{remote: r}
		mended.Filter = filterFunc(func(ev *event.Event) (filters.Result, error) {
			return filters.Result{Keep: strings.HasSuffix(ev.ID, "0") || strings.HasSuffix(ev.ID, "5")}, nil
		})
		g.reload(mended)
		time.Sleep(2 * time.Second) // the script that runs ends
		want := []string{"first"}
		for i := range 40 {
			if i < 7 || i%5 == 0 { // seven seconds for what was sorted before
				want = append(want, fmt.Sprintf("t%d", i))
			}
		}
		g.want("events", g.events(), strings.Join(want, " "))
		// Away with an event in hand, and back after that.
		old := &handle{remote: r}
		route.Destination = old
		g.reload(route)
		unsorted = []string{slowTrack("again", 3*time.Second)}
		for i := range 10 {
			unsorted = append(unsorted, slowTrack(fmt.Sprintf("u%d", i), time.Second))
		}
		g.post(unsorted...)
		time.Sleep(5500 * time.Millisecond)
		g.reload()
		time.Sleep(time.Minute)
		g.want("state", g.state("crm", "", "unsorted"), "parked")
		called := old.sent.Load()
		route.Destination = &handle{remote: r}
		g.reload(route)
		g.drain()
		want = append(want, strings.Fields("again u0 u1 u2 u3 u4 u5 u6 u7 u8 u9")...)
		g.want("events", g.events(), strings.Join(want, " "))
		if n := old.sent.Load() - called; n > 0 {
			t.Errorf("%d calls of the destination that was taken away", n)
		}
		// What is in hand goes its way, also where nothing comes after it.
		g.post(slowTrack("more", 3*time.Second), slowTrack("last", time.Second), slowTrack("none", time.Second))
		time.Sleep(3500 * time.Millisecond)
		none := route
		none.Destination = &handle{remote: r}
		none.Filter = filterFunc(func(*event.Event) (filters.Result, error) { return filters.Result{}, nil })
		g.reload(none)
		g.drain()
		want = append(want, "more", "last")
		g.want("events", g.events(), strings.Join(want, " "))
		if dead := g.deadLetters(); len(dead) > 0 {
			t.Errorf("dead letters: %+v", dead)
		}
	})
}

// TestReloadBeforeTheFirstEntry: the first event that comes out of what is set aside is in hand, so that its lanes are not made yet.
func TestReloadBeforeTheFirstEntry(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, nil)
		old := &handle{remote: r}
		route := routeTo("crm", old)
		route.Filter = filterFunc(slowFilter)
		g.routes = func(*rig) []Route { return []Route{route} }
		g.start()
		defer g.stop()
		g.post(slowDrop(3*time.Second), slowTrack("t0", time.Second), slowTrack("t1", time.Second)) // the first sets its destination aside
		time.Sleep(3500 * time.Millisecond)
		route.Destination = &handle{remote: r}
		g.reload(route)
		g.drain()
		g.want("events", g.events(), "t0 t1")
		if n := old.sent.Load(); n > 0 {
			t.Errorf("%d calls of the former destination", n)
		}
	})
}

// TestReloadDoesNotForgetSlowness: scripts that take too long are found also where other destinations change all the time.
func TestReloadDoesNotForgetSlowness(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var logs trial.Log
		r := newRemote()
		g := newRig(t, r, nil)
		g.logs = &logs
		slow := routeTo("slow", &handle{remote: newRemote()})
		slow.Filter = filterFunc(slowFilter)
		g.routes = func(*rig) []Route { return []Route{slow} }
		g.start()
		defer g.stop()
		for i := range 20 {
			g.post(slowTrack(fmt.Sprintf("t%d", i), 400*time.Millisecond))
			time.Sleep(time.Second)
			g.reload(routeTo("crm", &handle{remote: r}), slow)
		}
		if !strings.Contains(logs.String(), "scripts are slow") {
			t.Error("the destination was not set aside")
		}
		g.drain()
		if n := len(strings.Fields(g.events())); n != 19 {
			t.Errorf("%d events of the other destination, want 19", n)
		}
	})
}

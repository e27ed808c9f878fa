package router

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/trial"
)

// slowFilter takes as long as an event's "takes" says, in milliseconds, and drops events of type drop.
func slowFilter(ev *event.Event) (filters.Result, error) {
	time.Sleep(time.Duration(gjson.GetBytes(ev.JSON, "takes").Int()) * time.Millisecond)
	return filterByType(ev)
}

// slowTrack is a custom event that its filter needs some time for.
func slowTrack(id string, takes time.Duration) string {
	return fmt.Sprintf(`{"id":%q,"event_type":"t","takes":%d,"user":{"email":"a@b.co"}}`, id, takes.Milliseconds())
}

// slowDrop is the same, and the filter drops it.
func slowDrop(takes time.Duration) string {
	return strings.Replace(slowTrack("", takes), `"t"`, `"drop"`, 1)
}

// TestEventThatSetsItsDestinationAside: the event is handed over before its destination is set aside, and nothing comes after it.
func TestEventThatSetsItsDestinationAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Filter = filterFunc(slowFilter) })
		g.start()
		defer g.stop()
		g.post(track("t1", "a@b.co"))
		g.drain()
		g.post(slowTrack("t2", 3*time.Second))
		time.Sleep(10 * time.Second)
		g.want("events", g.events(), "t1 t2")
	})
}

// TestSlownessIsForgotten: a destination that was set aside once stays with the sorter when its scripts are quick again.
func TestSlownessIsForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var logs trial.Log
		g := newRig(t, newRemote(), func(r *Route) { r.Filter = filterFunc(slowFilter) })
		g.logs = &logs
		g.start()
		defer g.stop()
		g.post(slowTrack("t1", 3*time.Second))
		for i := range 10 {
			time.Sleep(time.Minute)
			g.post(slowTrack(fmt.Sprintf("t%d", i+2), 0))
		}
		g.drain()
		if n := strings.Count(logs.String(), "scripts are slow"); n != 1 {
			t.Errorf("set aside %d times, want once:\n%s", n, logs.String())
		}
	})
}

// TestEntriesPassWhatIsSetAside: what was sorted before a stop does not wait, after it, for what is still unsorted and came later.
func TestEntriesPassWhatIsSetAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Filter = filterFunc(slowFilter) })
		g.remote.answer = func(c call) []error {
			if c.lane == "events" {
				<-c.ctx.Done()
				return []error{c.ctx.Err()}
			}
			return nil
		}
		g.start()
		g.post(track("t1", "a@b.co"))
		time.Sleep(time.Second)
		g.post(slowDrop(3 * time.Second))
		time.Sleep(4 * time.Second)
		g.post(slowDrop(10*time.Second), slowDrop(10*time.Second)) // in the unsorted lane when the router stops
		time.Sleep(time.Second)
		g.stop()
		g.remote.answer = nil
		g.start()
		defer g.stop()
		time.Sleep(time.Second)
		g.want("events", g.events(), "t1")
	})
}

func TestUnsortedLaneGivesUpItsOldest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) {
			r.Filter = filterFunc(slowFilter)
			r.Lanes = config.LaneLimits{MaxAge: time.Minute, OnFull: config.DeadLetterOldest}
		})
		g.start()
		defer g.stop()
		for i := range 100 {
			g.post(slowTrack(fmt.Sprintf("t%d", i), 3*time.Second))
		}
		for range 100 {
			time.Sleep(time.Second)
			if reason, refused := g.router.Refused("key", event.Live); refused {
				t.Fatalf("refused: %s", reason)
			}
		}
		g.drainWithin(time.Second)
		dead, arrived := g.deadLetters(), strings.Fields(g.events())
		if len(dead)+len(arrived) != 100 || len(dead) < 50 || len(arrived) < 15 {
			t.Errorf("%d dead letters and %d deliveries of 100, want about 20 deliveries in a minute", len(dead), len(arrived))
		}
		for _, d := range dead {
			if d.Reason != "lane_full" {
				t.Errorf("dead letter %+v", d)
			}
		}
	})
}

// TestParkedLaneRefusesNobody: nothing feeds it, and it never empties.
func TestParkedLaneRefusesNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Lanes = config.LaneLimits{MaxAge: time.Minute, OnFull: config.Refuse} })
		g.remote.answer = func(call) []error {
			return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
		}
		g.start()
		g.post(identify("a@b.co", 1))
		time.Sleep(time.Second)
		g.stop()
		g.remote.hub, g.remote.answer = "hub2", nil
		g.start()
		defer g.stop()
		time.Sleep(2 * time.Minute)
		if reason, refused := g.router.Refused("key", event.Live); refused {
			t.Errorf("refused: %s", reason)
		}
		g.post(identify("c@b.co", 1))
		time.Sleep(time.Second)
		g.want("writes of the other hub", g.writes("c@b.co"), "1")
		g.want("parked writes", g.writes("a@b.co"), "")
	})
}

// TestLiveEventsPassAnImportThatIsSetAside: what is live is sorted first there, too, also after a restart, and the import loses nothing.
func TestLiveEventsPassAnImportThatIsSetAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Filter = filterFunc(slowFilter) })
		g.start()
		texts := make([]string, 1000)
		for i := range texts {
			texts[i] = fmt.Sprintf(`{"id":"i%d","event_type":"t","takes":50,"user":{"email":"p%d@b.co"}}`, i, i%200)
		}
		g.postBulk(texts...)
		time.Sleep(10 * time.Second)
		for i := range 30 {
			g.post(slowTrack(fmt.Sprintf("live%d", i), 10*time.Millisecond))
			time.Sleep(500 * time.Millisecond)
			if !strings.HasSuffix(g.events(), fmt.Sprintf(" live%d", i)) && !strings.Contains(g.events(), fmt.Sprintf(" live%d ", i)) {
				t.Errorf("live%d has not arrived", i)
			}
			if i%10 == 5 {
				g.stop()
				g.start()
			}
		}
		names := fmt.Sprint(g.router.Status())
		if !strings.Contains(names, "unsorted/bulk") {
			t.Errorf("the import is through already: %s", names)
		}
		g.drain()
		defer g.stop()
		if n := len(strings.Fields(g.events())); n != 1030 {
			t.Errorf("%d events, want 1030", n)
		}
	})
}

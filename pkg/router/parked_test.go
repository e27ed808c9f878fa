package router

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
)

// TestUnpark: what waits in lanes of a destination that is gone is moved to another one, or dropped to dead letters; a kill in between neither loses nor doubles any.
func TestUnpark(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		time.Sleep(24 * time.Hour)
		old, next := newRemote(), newRemote()
		next.hub = "hub2"
		old.answer = func(call) []error {
			return []error{destinations.Block(errors.New("closed"), destinations.AccountScope, time.Time{})}
		}
		g := newRig(t, old, nil)
		g.routes = func(*rig) []Route { return []Route{routeTo("crm", old)} }
		g.start()
		defer func() { g.stop() }()
		var events, writes []string
		for i := range 60 {
			g.post(identify("a@b.co", i), track(fmt.Sprint("t", i), "a@b.co"))
			events, writes = append(events, fmt.Sprint("t", i)), append(writes, fmt.Sprint(i))
			time.Sleep(10 * time.Millisecond)
		}
		g.post(identify("b@b.co", 1))
		time.Sleep(time.Second)
		for _, q := range []ParkedQuery{{Destination: "crm"}, {Destination: "other"}} {
			if _, err := g.router.Unpark(t.Context(), q); !errors.Is(err, ErrNotParked) {
				t.Errorf("%+v of a destination in force: %v", q, err)
			}
		}
		g.reload(routeTo("crm2", next))
		time.Sleep(time.Minute)
		if _, err := g.router.Unpark(t.Context(), ParkedQuery{Destination: "crm", To: "crm3"}); !errors.Is(err, ErrWrongTarget) {
			t.Errorf("to nowhere: %v", err)
		}
		g.router.readBytes = 1 // a block in a step
		stopped, cancel := context.WithCancel(t.Context())
		cancel()
		done, err := g.router.Unpark(stopped, ParkedQuery{Destination: "crm", To: "crm2"})
		if err != nil || done.Left == 0 {
			t.Fatalf("a move without time: %+v, %v", done, err)
		}
		g.routes = func(*rig) []Route { return []Route{routeTo("crm2", next)} }
		g.stop()
		g.start()
		if done, err = g.router.Unpark(t.Context(), ParkedQuery{Destination: "crm", Lane: "contacts", To: "crm2"}); err != nil || done.Entries == 0 || done.Left != 0 {
			t.Fatalf("a move: %+v, %v", done, err)
		}
		time.Sleep(time.Minute)
		g.want("writes in the other hub", next.wrote("a@b.co")+" "+next.wrote("b@b.co"), strings.Join(writes, " ")+" 1")
		if len(next.events) != 0 {
			t.Errorf("events of a lane that nobody moved: %v", next.events)
		}
		if done, err = g.router.Unpark(t.Context(), ParkedQuery{Destination: "crm", To: "crm2"}); err != nil || done.Entries != 60 {
			t.Fatalf("a move of the rest: %+v, %v", done, err)
		}
		g.drain()
		time.Sleep(time.Minute)
		g.want("events in the other hub", strings.Join(next.events, " "), strings.Join(events, " "))
		g.want("dead letters", deadReasons(g), "")
		if _, err = g.router.Unpark(t.Context(), ParkedQuery{Destination: "crm"}); !errors.Is(err, ErrNotParked) {
			t.Errorf("once more: %v", err)
		}

		// Dropped, they are dead letters with their originals.
		next.answer = old.answer
		g.post(identify("c@b.co", 7), track("u7", "c@b.co"))
		time.Sleep(time.Second)
		g.reload(routeTo("crm", old))
		time.Sleep(time.Minute)
		if done, err = g.router.Unpark(t.Context(), ParkedQuery{Destination: "crm2"}); err != nil || done.Entries != 2 || done.Lanes != 2 {
			t.Errorf("a drop: %+v, %v", done, err)
		}
		g.want("dead letters", deadReasons(g), "parked parked")
		for _, d := range g.deadLetters() {
			if d.Destination != "crm2" || d.Hub != "hub2" || d.Lane == "" || d.Person != "c@b.co" || len(d.Event) == 0 || d.Replay != nil {
				t.Errorf("a dead letter: %+v", d)
			}
		}
		if !g.router.Idle() {
			t.Errorf("something waits: %+v", g.router.Status())
		}
	})
}

package router

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/store"
)

// startWithPoison starts a router that takes the first record of its log for one that killed it.
func (g *rig) startWithPoison() {
	g.t.Helper()
	var mark [markBytes]byte
	binary.LittleEndian.PutUint64(mark[8:], 1)
	binary.LittleEndian.PutUint64(mark[16:], maxDeaths-1)
	binary.LittleEndian.PutUint32(mark[24:], crc32.ChecksumIEEE(mark[:24]))
	if err := os.WriteFile(filepath.Join(g.dir, "mark"), mark[:], 0o600); err != nil {
		g.t.Fatal(err)
	}
	g.start()
}

// replay marks all dead letters.
func (g *rig) replay(how store.Replay) {
	g.t.Helper()
	if _, err := g.store.MarkReplay(context.Background(), store.DeadLetterQuery{}, how); err != nil {
		g.t.Fatal(err)
	}
}

// TestReplayOfPoison: its event was never sorted to the end, and is no duplicate of itself.
func TestReplayOfPoison(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.appendStopped(func() { g.post(track("deadly", "a@b.co")) })
		g.startWithPoison()
		defer g.stop()
		g.drain()
		if dead := g.deadLetters(); len(dead) != 1 || dead[0].Reason != "poison" {
			t.Fatalf("dead letters %+v", dead)
		}
		g.replay(store.Replay{})
		g.drain()
		g.want("events", g.events(), "deadly")
		g.post(track("deadly", "a@b.co"))
		g.drain()
		g.want("events", g.events(), "deadly")
		if dead := g.deadLetters(); len(dead) != 0 {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

// TestReplayOfPoisonSetAside: what is kept of a replay goes through the unsorted lane.
func TestReplayOfPoisonSetAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) {
			r.Filter = filterFunc(func(ev *event.Event) (filters.Result, error) { return slowFilter(ev) })
		})
		g.appendStopped(func() { g.post(identify("a@b.co", 1)) })
		g.startWithPoison()
		defer g.stop()
		g.drain()
		time.Sleep(time.Second)
		g.post(identify("a@b.co", 2))
		g.drain()
		g.post(slowDrop(3*time.Second), slowDrop(3*time.Second), slowDrop(3*time.Second))
		time.Sleep(4 * time.Second)
		g.replay(store.Replay{Overwrite: true})
		time.Sleep(time.Second)
		g.drain()
		g.want("writes", g.writes("a@b.co"), "2 1")
	})
}

// TestReplayOfWhatWaitedTooLong: what was given up because of lanes.max_age has as long again from its replay on, and does not have the lane count as full.
func TestReplayOfWhatWaitedTooLong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		away := true
		r.answer = func(call) []error {
			if away {
				return []error{destinations.Block(errors.New("away"), destinations.LaneScope, time.Time{})}
			}
			time.Sleep(10 * time.Minute) // what comes behind a call has to wait
			return nil
		}
		r.contactKeys, r.inFlight = 1, 1
		g := newRig(t, r, func(route *Route) {
			route.Lanes = config.LaneLimits{MaxAge: time.Hour, OnFull: config.DeadLetterOldest}
		})
		g.start()
		defer g.stop()
		g.post(identify("a@b.co", 1), identify("b@b.co", 2))
		time.Sleep(2 * time.Hour)
		if dead := g.deadLetters(); len(dead) != 2 || dead[0].Reason != reasonLaneFull {
			t.Fatalf("dead letters %+v", dead)
		}
		g.replay(store.Replay{})
		time.Sleep(50 * time.Minute)
		if dead := g.deadLetters(); len(dead) != 0 {
			t.Errorf("dead letters 50 minutes after their replay: %+v", dead)
		}
		time.Sleep(time.Hour)
		if dead := g.deadLetters(); len(dead) != 2 || dead[0].Replays != 1 {
			t.Fatalf("dead letters two hours after their replay: %+v", dead)
		}
		away = false
		g.replay(store.Replay{})
		g.drain()
		g.want("writes", g.writes("a@b.co")+g.writes("b@b.co"), "12")
	})
}

// TestReplayToAnotherHub: what failed in the lane of events alone finds its contact in the hub that the destination has now.
func TestReplayToAnotherHub(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		r.answer = func(c call) []error {
			if c.lane == "events" {
				return []error{destinations.Reject(errors.New("400"))}
			}
			return nil
		}
		g := newRig(t, r, nil)
		g.start()
		g.post(track("e", "a@b.co"))
		g.drain()
		if got := g.letters(); !strings.HasPrefix(got, "e/0 events rejected") {
			t.Fatalf("dead letters: %s", got)
		}
		g.stop()
		g.remote = newRemote()
		g.remote.hub = "hub2"
		g.start()
		defer g.stop()
		g.replay(store.Replay{})
		g.drain()
		g.want("events", g.events(), "e")
		if _, ok := g.remote.state["a@b.co"]; !ok {
			t.Error("the contact is not in the hub")
		}
	})
}

package router

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"time"

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

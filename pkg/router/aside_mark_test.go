package router

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// TestPutOffRecordThatKillsTheProcess: an event that waited to be identified kills the process each time it is sorted, which is played by going on from what was
// on disk at that moment. It is given up when it was alone in hand three times; the one beside it is delivered.
func TestPutOffRecordThatKillsTheProcess(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		left := filepath.Join(t.TempDir(), "0") // what the next process finds
		var g *rig
		died := false
		g = newRig(t, newRemote(), func(route *Route) {
			route.Filter = filterFunc(func(ev *event.Event) (filters.Result, error) {
				if ev.ID == "deadly" && time.Since(ev.Received) >= identityWait && !died {
					died = true
					if err := os.CopyFS(left, os.DirFS(g.dir)); err != nil {
						t.Error(err)
					}
				}
				return filters.Result{Keep: ev.ID != "deadly"}, nil
			})
		})
		g.start()
		for n := 0; ; n++ {
			if n == 0 {
				g.postAs(false, `{"id":"deadly","event_type":"t","user":{"id":"u"}}`, `{"id":"fine","event_type":"t","user":{"id":"u","anonymous_id":"a"}}`)
				time.Sleep(time.Second)
				g.postAs(false, `{"event_type":"user_identify","user":{"id":"u","email":"a@b.co"}}`)
			}
			g.drain()
			if !died {
				if n != 1+maxDeaths {
					t.Errorf("given up after %d deaths, want one with others in hand and %d alone", n, maxDeaths)
				}
				break
			}
			g.stop()
			died, g.dir, left = false, left, left+"0"
			g.start()
		}
		dead := g.deadLetters()
		if len(dead) != 1 || dead[0].Reason != "poison" || dead[0].EventID != "deadly" || dead[0].Destination != "crm" {
			t.Errorf("dead letters %+v, want the deadly one", dead)
		}
		g.stop()
		marks, err := filepath.Glob(filepath.Join(g.dir, "mark.????????????????"))
		if len(marks) != 1 || err != nil {
			t.Fatalf("marks %q, %v", marks, err)
		}
		m := deathMark{path: marks[0]}
		if left, err := m.open(); left != (span{}) || err != nil {
			t.Errorf("after all is sorted the mark names %+v, %v", left, err)
		}
		m.close()
		if !strings.Contains(g.events(), "fine") {
			t.Errorf("events %q, without the one beside it", g.events())
		}
	})
}

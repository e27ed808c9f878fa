package router

import (
	"fmt"
	"testing"
	"time"
)

// TestAnEventAloneWaitsForNothing is about an idle router: what gathers events under load must not keep a single one.
func TestAnEventAloneWaitsForNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.post(identify("first@b.co", 1)) // makes the lane
		g.drain()
		for i := range 20 {
			time.Sleep(time.Duration(11+i) * time.Millisecond)
			posted := time.Now()
			g.post(identify(fmt.Sprintf("p%d@b.co", i), 1))
			time.Sleep(time.Millisecond)
			calls := g.calls("contacts")
			if len(calls) != i+2 {
				t.Fatalf("event %d has not left after a millisecond", i)
			}
			if waited := calls[i+1].at.Sub(posted); waited != 0 { // virtual time: the disk takes none
				t.Errorf("event %d waited for %v", i, waited)
			}
		}
	})
}

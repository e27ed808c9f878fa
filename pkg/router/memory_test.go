package router

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
)

// rememberer remembers of each contact the values that were written, one behind the other.
type rememberer struct {
	*remote
	saw map[string]string // by event id: the memory that came with it; guarded by remote.mu
}

func (r *rememberer) Send(ctx context.Context, p destinations.Permit, batch []destinations.Entry) []destinations.Outcome {
	plain := slices.Clone(batch) // without memory, which the remote does not understand
	for i := range plain {
		plain[i].Memory = nil
	}
	outcomes := r.remote.Send(ctx, p, plain)
	r.mu.Lock()
	defer r.mu.Unlock()
	merged := map[string]string{}
	for i, e := range batch {
		r.saw[e.Event.ID] = string(e.Memory)
		if merged[e.Plan.ID] == "" {
			merged[e.Plan.ID] = string(e.Memory)
		}
		merged[e.Plan.ID] += " " + e.Event.ID
		outcomes[i].Memory = []byte(merged[e.Plan.ID])
		if strings.Contains(string(e.Event.JSON), "forgetful") {
			outcomes[i].Memory = nil
		}
		if strings.Contains(string(e.Event.JSON), "verbose") {
			outcomes[i].Memory = make([]byte, destinations.MaxMemory+1)
		}
	}
	return outcomes
}

// TestMemory: an entry comes with what the last delivered one of its ID left, over restarts too; one that was not delivered leaves nothing.
func TestMemory(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := &rememberer{newRemote(), map[string]string{}}
		g := newRig(t, r.remote, func(route *Route) { route.Destination = r })
		write := func(id, email, more string) string {
			return fmt.Sprintf(`{"id":%q,"event_type":"user_identify","user":{"email":%q},"more":%q}`, id, email, more)
		}
		want := func(id, memory string) {
			t.Helper()
			r.mu.Lock()
			defer r.mu.Unlock()
			g.want(id+" comes with", r.saw[id], memory)
		}
		g.start()
		g.post(write("a1", "a@b.co", ""), write("b1", "b@b.co", ""), write("a2", "a@b.co", ""))
		g.drain()
		want("a1", "")
		want("a2", "") // in the same call
		g.post(write("a3", "a@b.co", ""), track("t1", "a@b.co"), track("t2", "c@b.co"))
		g.drain()
		want("a3", " a1 a2")
		want("t1", "") // of a lane that does not remember
		g.remote.answer = func(call) []error { return []error{destinations.Reject(errors.New("400"))} }
		g.post(write("a4", "a@b.co", ""))
		g.drain()
		g.remote.answer = nil
		g.stop()
		g.start()
		defer g.stop()
		g.post(write("a5", "a@b.co", "forgetful"), write("b2", "b@b.co", ""))
		g.drain()
		want("a5", " a1 a2 a3")
		want("b2", " b1")
		g.post(write("a6", "a@b.co", "verbose"))
		g.drain()
		want("a6", " a1 a2 a3") // nil left it as it was
		g.post(write("a7", "a@b.co", ""))
		g.drain()
		want("a7", " a1 a2 a3") // and so did too much
		lost := 0
		g.remote.answer = func(c call) []error {
			if lost++; lost == 1 {
				return []error{destinations.Ambiguous(errors.New("timeout"))}
			}
			return nil
		}
		g.post(write("b3", "b@b.co", ""))
		time.Sleep(time.Second)
		g.drain()
		want("b3", " b1 b2") // both times
	})
}

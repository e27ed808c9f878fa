package router

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// TestWhoseEventItIsComesLate: browsers post what a user did just after signing in beside the request that says who it is.
func TestWhoseEventItIsComesLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, func(route *Route) {
			route.Filter = filterFunc(func(ev *event.Event) (filters.Result, error) { // as Jitsu's default: $.user?.email
				return filters.Result{Keep: gjson.GetBytes(ev.AppendView(nil), "user.email").Exists()}, nil
			})
		})
		for _, filtered := range []bool{true, false} {
			if !filtered {
				g = newRig(t, r, nil)
			}
			g.start()
			name := func(s string) string { return fmt.Sprintf("%s %t", s, filtered) }
			track := func(id, user string) string {
				return fmt.Sprintf(`{"id":%q,"event_type":"t","user":{"id":%q,"anonymous_id":"anon"}}`, name(id), name(user))
			}
			identify := func(user string) string {
				return fmt.Sprintf(`{"event_type":"user_identify","user":{"id":%q,"email":"a@b.co"}}`, name(user))
			}
			g.postAs(false, track("early", "u1"), `{"event_type":"t","user":{"anonymous_id":"stranger"}}`)
			time.Sleep(200 * time.Millisecond)
			g.postAs(false, identify("u1"), track("prompt", "u1"), track("before a restart", "u2"))
			time.Sleep(time.Second)
			g.want("events", g.events(), name("prompt")) // nobody waits for those that wait
			g.stop()
			g.start()
			g.postAs(false, identify("u2"), track("never", "u3"))
			began := time.Now()
			g.drain()
			if waited := time.Since(began); waited > identityWait+time.Second {
				t.Errorf("drained after %s", waited)
			}
			want := map[string]string{name("early"): "a@b.co", name("prompt"): "a@b.co", name("before a restart"): "a@b.co"}
			if diff := cmp.Diff(want, g.owners()); diff != "" {
				t.Errorf("events went to (-want +got):\n%s", diff)
			}
			g.postAs(false, identify("u3"), `{"event_type":"user_identify","user":{"id":"no e-mail","v":1}}`)
			began = time.Now()
			g.drain()
			if waited := time.Since(began); waited >= identityWait {
				t.Errorf("what describes a user waited %s", waited)
			}
			g.stop()
			r.mu.Lock()
			r.events, r.calls = nil, nil
			r.mu.Unlock()
		}
	})
}

// TestWaitingToBeIdentifiedIsExplained: as for every event one can ask why it is not delivered.
func TestWaitingToBeIdentifiedIsExplained(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.postAs(false, `{"id":"e","event_type":"t","user":{"id":"u1"}}`)
		time.Sleep(time.Second)
		got := g.explain(ExplainQuery{EventID: "e"})
		if len(got.Receipts) != 1 || len(got.Receipts[0].Outputs) != 1 || got.Receipts[0].Outputs[0].Waiting == nil {
			t.Fatalf("explained as %+v", got)
		}
		if why := got.Receipts[0].Outputs[0].Waiting.Why; why != "whose event it is is not known yet: the client may just be telling in another request" {
			t.Errorf("waits because %s", why)
		}
		g.drain()
		if got := g.explain(ExplainQuery{EventID: "e"}); got.Receipts[0].Outputs[0].State != "skipped" || got.Receipts[0].Outputs[0].Reason != "no identity" {
			t.Errorf("in the end %+v", got.Receipts[0].Outputs[0])
		}
	})
}

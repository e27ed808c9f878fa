package router

import (
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
	"eventrouter/pkg/redact"
	"eventrouter/pkg/trial"
)

// counted is an event that its transform counts under its person's e-mail.
func counted(id, email string) string {
	return fmt.Sprintf(`{"id":%q,"event_type":"t","count":%q,"user":{"email":%q}}`, id, email, email)
}

// counts are the numbers that the events of a lane got, as id=n, by id.
func (g *rig) counts() string {
	g.remote.mu.Lock()
	defer g.remote.mu.Unlock()
	var all []string
	for _, c := range g.remote.calls {
		for _, e := range c.entries {
			text := fmt.Sprintf("%s=%s", e.Event.ID, gjson.GetBytes(e.Event.JSON, "n").Raw)
			if c.lane == "events" && !slices.Contains(all, text) {
				all = append(all, text)
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// kept is what $kv of the destination holds.
func (g *rig) kept(destination, key string) string {
	g.t.Helper()
	v, _, err := g.store.KV(destination, key)
	if err != nil {
		g.t.Fatal(err)
	}
	return v.Value
}

// TestKVCountsOnce: each event counts once, in order: in one batch, over batches, restarts and reloads, and not where the transform fails.
func TestKVCountsOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{kv: true})
		g.remote.eventEntries = 1
		g.start()
		g.post(counted("e1", "a@b.co"), counted("e2", "a@b.co"), counted("x1", "x@b.co"), counted("e1", "a@b.co"), counted("e3", "a@b.co"))
		g.post(`{"id":"fails","event_type":"t","count":"a@b.co","fail":"late","user":{"email":"a@b.co"}}`)
		g.post(`{"id":"skips","event_type":"t","count":"a@b.co","skip":1,"user":{"email":"a@b.co"}}`) // the script has run
		g.post(`{"id":"dies","event_type":"t","count":"a@b.co","panic":1,"user":{"email":"a@b.co"}}`) // in Plan: likewise
		g.drain()
		g.stop()
		g.start()
		g.post(counted("e6", "a@b.co"))
		g.drain()
		g.want("counts", g.counts(), "e1=1 e2=2 e3=3 e6=6 x1=1")
		route := g.routes(g)[0]
		route.Transform = &scripted{kv: true, suffix: "new_"}
		g.reload(route)
		g.post(counted("e7", "a@b.co"))
		g.drain()
		g.reload() // the destination goes, and comes back
		time.Sleep(time.Second)
		g.reload(route)
		g.post(counted("e8", "a@b.co"))
		g.drain()
		defer g.stop()
		g.want("counts", g.counts(), "e1=1 e2=2 e3=3 e6=6 e7=7 e8=8 x1=1")
		g.want("stored", g.kept("crm", "a@b.co"), "8")
		time.Sleep(time.Hour + time.Minute)
		if use := g.store.KVUse()["crm"]; use.Entries != 0 {
			t.Errorf("after their time: %+v", use)
		}
		g.post(counted("e9", "a@b.co"))
		g.drain()
		if got := g.counts(); !strings.Contains(got, " e9=1 ") {
			t.Errorf("after its time is over the counter begins anew: %s", got)
		}
	})
}

// TestKVOfDestinations: each has its own.
func TestKVOfDestinations(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{kv: true})
		lake := routeTo("lake", newRemote())
		lake.Transform = &scripted{kv: true}
		routes := g.routes
		g.routes = func(g *rig) []Route { return append(routes(g), lake) }
		g.start()
		defer g.stop()
		g.post(counted("e1", "a@b.co"))
		g.drain()
		g.reload(g.routes(g)[0])
		g.post(counted("e2", "a@b.co"))
		g.drain()
		g.want("crm", g.kept("crm", "a@b.co"), "2")
		g.want("lake", g.kept("lake", "a@b.co"), "1")
	})
}

// TestKVOfWhatIsPutOff: an event that waits for its identity counts when it is decided on, once.
func TestKVOfWhatIsPutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{kv: true})
		g.start()
		const anonymous = `{"id":"late","event_type":"t","count":"all","user":{"id":"u1"}}`
		g.postAs(false, anonymous, `{"id":"prompt","event_type":"t","count":"all","user":{"email":"a@b.co"}}`)
		time.Sleep(time.Second)
		g.want("stored while it waits", g.kept("crm", "all"), "1")
		g.postAs(false, `{"event_type":"user_identify","user":{"id":"u1","email":"a@b.co"}}`)
		g.stop()
		g.start()
		g.drain()
		defer g.stop()
		g.want("counts", g.counts(), "late=2 prompt=1")
		g.want("stored", g.kept("crm", "all"), "2")
	})
}

// TestKVOfSorterAndAside: both decide on events of one destination at once; what one has written the other sees, nothing is counted twice or lost, and
// nobody waits for ever.
func TestKVOfSorterAndAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{kv: true})
		lake := routeTo("lake", newRemote())
		lake.Transform = &scripted{kv: true}
		routes := g.routes
		g.routes = func(g *rig) []Route { return append(routes(g), lake) }
		g.start()
		n := 0
		for i := range 40 {
			var texts []string
			for k := range 10 {
				n++
				who := `"email":"a@b.co"`
				if k%2 == 0 {
					who = fmt.Sprintf(`"id":"u%d"`, i) // decided on by the aside, later
				}
				texts = append(texts, fmt.Sprintf(`{"id":"c%d","event_type":"t","takes":%d,"count":"all","user":{%s}}`, n, 1+i%7, who))
			}
			g.postAs(false, texts...)
			g.postAs(false, fmt.Sprintf(`{"event_type":"user_identify","user":{"id":"u%d","email":"a@b.co"}}`, i))
			time.Sleep(100 * time.Millisecond)
			if i%15 == 14 {
				g.stop()
				g.start()
			}
			if i%10 == 5 {
				changed := g.routes(g)
				changed[0].Transform = &scripted{kv: true, suffix: strconv.Itoa(i)}
				if err := g.router.Reload(changed); err != nil {
					t.Fatal(err)
				}
			}
		}
		g.drain()
		defer g.stop()
		for _, destination := range []string{"crm", "lake"} {
			g.want("stored of "+destination, g.kept(destination, "all"), strconv.Itoa(n))
		}
		seen := map[string]bool{}
		for text := range strings.FieldsSeq(g.counts()) {
			_, number, _ := strings.Cut(text, "=")
			if number == "" {
				continue // says whose id it is
			}
			if seen[number] {
				t.Errorf("two events have number %s", number)
			}
			seen[number] = true
		}
		if len(seen) != n {
			t.Errorf("%d numbers of %d events", len(seen), n)
		}
	})
}

// TestSorterDoesNotWaitForAllOfAnAside: it gets its turn at $kv between parts of what the aside has in hand.
func TestSorterDoesNotWaitForAllOfAnAside(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{kv: true})
		other := newRemote()
		routes := g.routes
		g.routes = func(g *rig) []Route { return append(routes(g), routeTo("lake", other)) }
		g.start()
		defer g.stop()
		texts := make([]string, 200)
		for i := range texts {
			texts[i] = `{"event_type":"t","takes":10,"count":"all","user":{"id":"u1"}}`
		}
		g.postAs(false, texts...)
		time.Sleep(identityWait + 200*time.Millisecond) // since then the aside is at work on them
		g.post(counted("prompt", "a@b.co"))
		time.Sleep(300 * time.Millisecond)
		other.mu.Lock()
		g.want("events of the other destination", strings.Join(other.events, " "), "prompt")
		other.mu.Unlock()
		g.drain()
		g.want("stored", g.kept("crm", "all"), "200")
	})
}

// TestStopWhileKVIsAwaited: a router that is told to stop does not wait for scripts of another part.
func TestStopWhileKVIsAwaited(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{kv: true})
		g.start()
		g.postAs(false, `{"id":"late","event_type":"t","takes":20000,"count":"all","user":{"id":"u1"}}`)
		time.Sleep(time.Minute) // sorted once, and again by the aside
		g.postAs(false, `{"id":"late2","event_type":"t","takes":2000,"count":"all","user":{"id":"u1"}}`)
		time.Sleep(2*time.Second + identityWait + time.Second) // the aside has it in hand
		g.post(counted("prompt", "all"))
		time.Sleep(time.Millisecond)
		began := time.Now()
		g.stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %s to stop", took)
		}
		g.start()
		defer g.stop()
		g.drain()
		g.want("stored", g.kept("crm", "all"), "3")
	})
}

// TestConsole: what scripts print stands in the log, so many lines a second, without hidden values.
func TestConsole(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := func(level slog.Level) string {
			var logs trial.Log
			g := newScriptedRig(t, &scripted{})
			fields := redact.New([]string{"user.email"})
			g.handler = fields.Handler(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: level}))
			g.redact = fields
			g.start()
			defer g.stop()
			for i := range 25 {
				g.post(fmt.Sprintf(`{"event_type":"t","print":"line %d of ada@example.com","user":{"email":"ada@example.com"}}`, i))
			}
			g.post(fmt.Sprintf(`{"event_type":"t","print":%q,"skip":1,"user":{"email":"ada@example.com"}}`, "long "+strings.Repeat("x", 5000)))
			time.Sleep(1500 * time.Millisecond)
			g.post(`{"event_type":"t","print":"later","user":{"email":"ada@example.com"}}`)
			g.drain()
			return logs.String()
		}
		got := f(slog.LevelDebug)
		for text, want := range map[string]int{
			`msg="a script prints" destination=crm level=warn line="line 0 of ***"`: 1, `line="line 9 of`: 1, `line="line 10`: 0, "later": 1, "ada@example.com": 0,
			`msg="a script prints too much: lines are left out" destination=crm left_out=16 limit="10 a second"`: 1,
		} {
			if n := strings.Count(got, text); n != want {
				t.Errorf("%d times %q in the log, want %d:\n%s", n, text, want, got)
			}
		}
		if got := f(slog.LevelInfo); strings.Contains(got, "a script prints") {
			t.Errorf("with level info:\n%s", got)
		}
	})
}

// TestHiddenValuesThatMoved: a value that a transform has moved to another member is hidden in errors all the same, of what failed in the sorter and of
// what the remote refused.
func TestHiddenValuesThatMoved(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newScriptedRig(t, &scripted{})
		g.redact = redact.New([]string{"secret"})
		g.remote.answer = func(c call) []error {
			return []error{fmt.Errorf("refused: %s", c.entries[0].Event.JSON)}
		}
		routes := g.routes
		g.routes = func(g *rig) []Route {
			all := routes(g)
			all[0].Retry.MaxAge = time.Second
			all[0].Filter = filterFunc(func(ev *event.Event) (filters.Result, error) {
				if gjson.GetBytes(ev.JSON, "bad").Exists() {
					return filters.Result{}, fmt.Errorf("not of use: %s", ev.JSON)
				}
				return filters.Result{Keep: true}, nil
			})
			return all
		}
		g.start()
		defer g.stop()
		for _, bad := range []string{`"bad":1,`, ``} {
			g.post(fmt.Sprintf(`{"event_type":"t","secret":"hush-hush","into":[{"event_type":"t",%s"moved":"hush-hush","user":{"email":"a@b.co"}}]}`, bad))
		}
		g.drain()
		dead := g.deadLetters()
		if len(dead) < 2 {
			t.Fatalf("%d dead letters", len(dead))
		}
		for _, d := range dead {
			if strings.Contains(d.Error, "hush-hush") || !strings.Contains(d.Error, "***") {
				t.Errorf("%s, reason %s: %s", d.EventID, d.Reason, d.Error)
			}
		}
	})
}

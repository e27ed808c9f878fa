package router

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/seal"
	"eventrouter/pkg/store"
)

// ann is who is forgotten in these tests.
const (
	annEmail     = "ann.needle@example.com"
	annUser      = "user-needle-7"
	annAnonymous = "anonymous-needle-9"
)

// left says where in a directory something of a person is, byte by byte and in what is compressed.
func (g *rig) left(names ...string) (found []string) {
	g.t.Helper()
	look := func(where string, data []byte) {
		for _, name := range names {
			if bytes.Contains(bytes.ToLower(data), []byte(strings.ToLower(name))) {
				found = append(found, fmt.Sprintf("%s: %s", where, name))
			}
		}
	}
	err := filepath.WalkDir(g.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		look(strings.TrimPrefix(path, g.dir), data)
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	ctx := context.Background()
	for _, l := range g.store.Lanes() {
		for after := store.BlockID(0); ; {
			blocks, err := g.store.ReadBlocks(ctx, l.ID, after, 1<<20)
			if err != nil {
				g.t.Fatal(err)
			}
			if len(blocks) == 0 {
				break
			}
			for _, b := range blocks {
				look(fmt.Sprintf("block %d of lane %s", b.ID, l.Name.Lane), b.Data)
				after = b.ID
			}
		}
	}
	_, _, _, err = g.store.EraseOutcomes(ctx, func(o *store.Outcome) store.Erasing {
		look("outcomes", fmt.Appendf(nil, "%+v %s", *o, o.Detail))
		return store.Keep
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return found
}

// decrypt stops the router, has everything in the store decrypted, and starts it again without a key that seals.
func (g *rig) decrypt(ring *seal.Ring) {
	g.t.Helper()
	g.stop()
	g.keys = ring
	g.open()
	if err := g.store.Reseal(context.Background()); err != nil {
		g.t.Fatal(err)
	}
	g.closeFiles()
	g.start()
}

func newKey(t *testing.T) seal.Key {
	t.Helper()
	key, err := seal.ParseKey(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRing(t *testing.T, seals bool, keys ...seal.Key) *seal.Ring {
	t.Helper()
	ring, err := seal.NewRing(seals, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// forget forgets ann.
func (g *rig) forget(q ForgetQuery) *Forgotten {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	done, err := g.router.Forget(ctx, q)
	if err != nil {
		g.t.Fatal(err)
	}
	return done
}

// of is an event of ann or bob, with what is given beside.
func of(id, kind, person, more string) string {
	return fmt.Sprintf(`{"id":%q,"event_type":%q,"user":{%s}%s}`, id, kind, person, more)
}

const (
	annAll  = `"email":"Ann.Needle@Example.com","id":"` + annUser + `","anonymous_id":"` + annAnonymous + `"`
	annID   = `"id":"` + annUser + `"`
	annAnon = `"anonymous_id":"` + annAnonymous + `"`
)

// TestForgetEverywhere has something of a person wherever the router keeps anything, beside neighbours, and forgets her: nothing of her is left on the disk, all that
// is the neighbours' arrives, and what she does afterwards too.
func TestForgetEverywhere(t *testing.T) {
	t.Run("plain", func(t *testing.T) { forgetEverywhere(t, nil) })
	t.Run("encrypted", func(t *testing.T) {
		one, two := newKey(t), newKey(t)
		forgetEverywhere(t, []*seal.Ring{newRing(t, true, one), newRing(t, true, two, one), newRing(t, false, two, one)})
	})
}

// forgetEverywhere is it: without encryption, or with a first ring of keys, one to which everything is sealed anew meanwhile, and one that decrypts everything in the end.
func forgetEverywhere(t *testing.T, rings []*seal.Ring) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		blocked := true
		r.answer = func(c call) []error {
			errs := make([]error, len(c.entries))
			for i, e := range c.entries {
				id := e.Event.ID
				switch {
				case strings.HasPrefix(id, "reject"):
					errs[i] = destinations.Reject(fmt.Errorf("no, not %s", e.Plan.Key))
				case strings.HasPrefix(id, "retry"):
					errs[i] = destinations.RetryAfter(fmt.Errorf("later, with %s and %s", annEmail, e.Plan.Key), time.Hour)
				case c.lane == "events" && blocked:
					errs[i] = destinations.Block(errors.New("no tier"), destinations.LaneScope, time.Time{})
				case strings.HasPrefix(id, "late"):
					errs[i] = destinations.Ambiguous(errors.New("no answer"))
				}
			}
			return errs
		}
		g := newRig(t, r, nil)
		if rings != nil {
			g.keys = rings[0]
		}
		g.start()
		defer func() { g.stop() }()
		var want []string // of neighbours
		g.post(of("first", "user_identify", annAll+`,"v":1`, ""), identify("bob@b.co", 1))
		g.post(of("reject1", "user_identify", annAll, ""), of("reject2", "user_identify", `"email":"bob@b.co"`, ""))
		g.post(of("retry1", "user_identify", annAll+`,"v":2`, ""), of("retry2", "user_identify", `"email":"rita@b.co","v":7`, ""))
		for i := range 20 {
			id := fmt.Sprintf("bob%d", i)
			want = append(want, id)
			g.post(of(fmt.Sprintf("ann%d", i), "page", annID, ""), track(id, "bob@b.co"), of(fmt.Sprintf("anon%d", i), "page", annAnon, ""))
		}
		g.postBulk(of("bulk1", "page", annAll, ""), track("bulk2", "bob@b.co"))
		want = append(want, "bulk2")
		g.post(of("late1", "user_identify", `"email":"carl@b.co","v":1`, ""), of("late2", "user_identify", annAll+`,"v":3`, ""))
		time.Sleep(10 * time.Second)
		if err := g.store.Commit(t.Context(), &store.Batch{KV: []store.KV{
			{Destination: "crm", Key: "count:" + annEmail, Value: "3"},
			{Destination: "crm", Key: "last", Value: `{"of":"` + annUser + `"}`},
			{Destination: "crm", Key: "count:bob@b.co", Value: "4"},
		}}); err != nil {
			t.Fatal(err)
		}
		resealed := make(chan error, 1)
		resealed <- nil
		if rings != nil {
			g.stop()
			g.keys = rings[1]
			g.start()
			time.Sleep(time.Second)
		}
		if found := g.left(annEmail); len(found) == 0 {
			t.Error("nothing of the person is there before")
		}
		dry := g.forget(ForgetQuery{Email: strings.ToUpper(annEmail), DryRun: true})
		if dry.Waiting == 0 || dry.Outcomes == 0 || dry.DeadLetters != 1 || dry.KV != 2 || len(dry.IDs) != 3 {
			t.Errorf("dry run: %+v", dry)
		}
		if rings != nil {
			<-resealed
			go func() { resealed <- g.store.Reseal(context.Background()) }()
		}
		done := g.forget(ForgetQuery{Email: strings.ToUpper(annEmail)})
		if err := <-resealed; err != nil {
			t.Error(err)
		}
		if rings != nil {
			g.decrypt(rings[2])
		}
		if found := g.left(annEmail, annUser, annAnonymous); found != nil {
			t.Errorf("left: %s\n%+v", strings.Join(found, "\n"), done)
		}
		if done.Waiting != dry.Waiting || done.Outcomes < dry.Outcomes || done.DeadLetters != 1 || done.KV != 2 || done.Identities != 2 || len(done.IDs) != 3 {
			t.Errorf("forgotten: %+v, dry run: %+v", done, dry)
		}
		if n := len(g.deadLetters()); n != 1 {
			t.Errorf("%d dead letters are left, want bob's", n)
		}
		if _, ok, _ := g.store.KV("crm", "count:bob@b.co"); !ok {
			t.Error("bob's $kv is gone")
		}
		blocked = false
		r.mu.Lock()
		r.answer = nil
		r.mu.Unlock()
		g.router.Probe()
		g.post(of("new", "page", annAll, ""), of("newer", "page", annID, ""))
		g.drainWithin(3 * time.Hour)
		for _, id := range append(want, "new", "newer") {
			if !strings.Contains(" "+g.events()+" ", " "+id+" ") {
				t.Errorf("%s has not arrived: %s", id, g.events())
			}
		}
		for _, id := range strings.Fields(g.events()) {
			if strings.HasPrefix(id, "ann") || strings.HasPrefix(id, "anon") || id == "bulk1" {
				t.Errorf("%s has arrived", id)
			}
		}
		g.want("contact of the neighbour", g.writes("bob@b.co"), "1")
		g.want("contact whose retry waited", g.writes("rita@b.co"), "7")
		g.want("contact whose call had no answer", g.writes("carl@b.co"), "1")
		g.want("contact of the person", g.writes(annEmail), "1")
	})
}

// TestForgetWhatIsNotSorted: events that a slow script holds up in front of the sorter, and events of which one does not know yet whose they are.
func TestForgetWhatIsNotSorted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), func(r *Route) { r.Filter = filterFunc(slowFilter) })
		g.start()
		defer g.stop()
		g.post(slowTrack("slow", 3*time.Second)) // sets the destination aside
		time.Sleep(4 * time.Second)
		g.post(slowTrack("slower", 20*time.Second))
		for i := range 30 {
			takes := 300 * time.Millisecond
			g.post(slowTrack(fmt.Sprintf("other%d", i), takes), of(fmt.Sprintf("ann%d", i), "t", annAll, `,"takes":300`))
			time.Sleep(10 * time.Millisecond)
		}
		g.postAs(false, of("unknown", "t", annID, `,"takes":0`), of("stranger", "t", `"id":"somebody"`, ""))
		g.forget(ForgetQuery{UserID: annUser})
		if found := g.left(annEmail, annUser, annAnonymous); found != nil {
			t.Errorf("left: %s", strings.Join(found, "\n"))
		}
		g.drain()
		if got := g.events(); strings.Contains(got, "ann") || strings.Count(got, "other") != 30 {
			t.Errorf("events: %s", got)
		}
		if found := g.left(annEmail, annUser, annAnonymous); found != nil {
			t.Errorf("left in the end: %s", strings.Join(found, "\n"))
		}
	})
}

// TestForgetWaitsForCalls: a call in flight with the person is not cut, and forgetting says that it waits for it; the router then still delivers nothing else of her,
// also after a restart, until the next call finishes the rest.
func TestForgetWaitsForCalls(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		hang := make(chan struct{})
		r.answer = func(c call) []error {
			if c.lane == "contacts" && c.entries[0].Plan.Key == annEmail {
				<-hang
			}
			return nil
		}
		g := newRig(t, r, nil)
		g.start()
		g.post(of("a1", "user_identify", annAll+`,"v":1`, ""))
		time.Sleep(time.Second)
		g.post(of("a2", "user_identify", annAll+`,"v":2`, ""), of("a3", "page", annID, ""), track("b1", "bob@b.co"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := g.router.Forget(ctx, ForgetQuery{Email: annEmail})
		cancel()
		if wait := (*ForgetWait)(nil); !errors.As(err, &wait) || !strings.Contains(wait.For, "calls in flight") {
			t.Errorf("forgetting ends with %v", err)
		}
		g.cancel()
		close(hang)
		if err := <-g.done; err != nil {
			t.Error(err)
		}
		g.closeFiles()
		g.start()
		defer g.stop()
		g.post(of("a4", "page", annAll, ""))
		g.drain()
		if found := g.left(annUser); len(found) == 0 {
			t.Error("nothing is left of what is not finished")
		}
		g.forget(ForgetQuery{Email: annEmail})
		if found := g.left(annEmail, annUser, annAnonymous); found != nil {
			t.Errorf("left: %s", strings.Join(found, "\n"))
		}
		g.want("contact", g.writes(annEmail), "1")
		g.want("events", g.events(), "b1 a4")
	})
}

// TestForgetOnlyWhoIsMeant: who shares a browser, a user id with another API key, or is mentioned, is somebody else.
func TestForgetOnlyWhoIsMeant(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRemote()
		g := newRig(t, r, nil)
		block := func(c call) []error {
			return []error{destinations.Block(errors.New("no"), destinations.AccountScope, time.Time{})}
		}
		r.answer = block
		g.start()
		defer g.stop()
		g.post(of("a1", "user_identify", annAll, ""), of("b1", "page", `"email":"bob@b.co","anonymous_id":"`+annAnonymous+`"`, ""),
			of("c1", "page", `"email":"carl@b.co"`, `,"invited_by":"`+annEmail+`"`), of("d1", "page", `"email":"x.`+annEmail+`"`, ""))
		time.Sleep(time.Second)
		done := g.forget(ForgetQuery{UserID: annUser, APIKey: "another key"})
		if done.Waiting != 0 || len(done.IDs) != 1 {
			t.Errorf("an id of another API key: %+v", done)
		}
		if done = g.forget(ForgetQuery{UserID: annUser, APIKey: "key"}); done.Waiting != 1 || len(done.IDs) != 2 { // the anonymous id is bob's by now
			t.Errorf("forgotten: %+v", done)
		}
		r.mu.Lock()
		r.answer = nil
		r.mu.Unlock()
		g.router.Probe()
		g.drain()
		g.want("events", g.events(), "b1 c1 d1")
	})
}

// TestForgetImportedLetters: dead letters of another router have offsets of its log, which say nothing of when they came.
func TestForgetImportedLetters(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.remote.answer = func(call) []error {
			return []error{destinations.Block(errors.New("401"), destinations.AccountScope, time.Time{})}
		}
		g.start()
		defer g.stop()
		var letters []store.DeadLetter
		for i, email := range []string{"ann@b.co", "ann@b.co", "bob@b.co"} {
			ev := event.Event{ID: fmt.Sprint("old", i), APIKey: "key", Server: true, Received: time.Now().UTC(), JSON: []byte(identify(email, i))}
			letters = append(letters, store.DeadLetter{
				Destination: "crm", Lane: "contacts", Hub: "hub1", Person: email, Offset: 1_000_000 + uint64(i), Outputs: 1, APIKey: "key", EventID: ev.ID, EventType: ev.Type(),
				Received: ev.Received, At: ev.Received, Reason: "rejected", Event: ev.AppendTo(nil),
			})
		}
		if n, err := g.store.ImportDeadLetters(t.Context(), letters); n != 3 || err != nil {
			t.Fatal(n, err)
		}
		if _, err := g.store.MarkReplay(t.Context(), store.DeadLetterQuery{EventID: "old0"}, store.Replay{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // it waits in a lane that is blocked
		if done := g.forget(ForgetQuery{Email: "ann@b.co"}); done.DeadLetters != 1 || done.Waiting != 1 {
			t.Errorf("forgotten: %+v", done)
		}
		if found := g.left("ann@b.co"); found != nil {
			t.Errorf("left: %s", strings.Join(found, "\n"))
		}
		if n := len(g.deadLetters()); n != 1 {
			t.Errorf("%d dead letters are left, want bob's", n)
		}
	})
}

// TestForgetWhoIsNotKnown: an event waits, in hand, until one knows whose it is. Its person is forgotten, and then comes again with an e-mail: that is somebody new.
func TestForgetWhoIsNotKnown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g := newRig(t, newRemote(), nil)
		g.start()
		defer g.stop()
		g.postAs(false, of("old", "t", annID, ""), of("other", "t", `"id":"user-8"`, ""))
		time.Sleep(2 * time.Second)
		if done := g.forget(ForgetQuery{UserID: annUser}); done.Unsorted != 1 {
			t.Errorf("forgotten: %+v", done)
		}
		if found := g.left(annUser); found != nil {
			t.Errorf("left: %s", strings.Join(found, "\n"))
		}
		g.post(of("again", "t", annID+`,"email":"new@b.co"`, ""), of("other again", "t", `"id":"user-8","email":"eve@b.co"`, ""))
		g.drain()
		g.want("events", g.events(), "again other again other")
	})
}

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// letters returns the dead letters, oldest first.
func (v *virtual) letters() []store.DeadLetter {
	v.t.Helper()
	all, err := v.srv.store.DeadLetters(v.t.Context(), store.DeadLetterQuery{OldestFirst: true, Bodies: true})
	if err != nil {
		v.t.Fatal(err)
	}
	return all
}

// replay marks what q finds and waits until that is over.
func (v *virtual) replay(q store.DeadLetterQuery, how store.Replay) {
	v.t.Helper()
	if _, err := v.srv.store.MarkReplay(v.t.Context(), q, how); err != nil {
		v.t.Fatal(err)
	}
	v.drain(time.Hour)
}

func (v *virtual) restart(layout string) {
	v.t.Helper()
	v.stop()
	v.layout = layout
	v.start()
}

// wantProperty says what a contact has to hold; "": nothing.
func (v *virtual) wantProperty(email, name, want string) {
	v.t.Helper()
	c, _ := v.box.Contact(email)
	if got := c.Properties[name]; got != want {
		v.t.Errorf("%s of %s is %q, want %q", name, email, got, want)
	}
}

func (v *virtual) explained(id string) string {
	v.t.Helper()
	x, err := v.srv.router.Explain(v.t.Context(), router.ExplainQuery{EventID: id})
	if err != nil {
		v.t.Fatal(err)
	}
	var text bytes.Buffer
	if err := writeExplanation(&text, x); err != nil {
		v.t.Fatal(err)
	}
	return text.String()
}

// replayRig is a router whose transform makes a contact and two custom events of a visit, of which the second one may fail.
func replayRig(t *testing.T, second string) *virtual {
	v := newVirtual(t, sandbox.Options{}, constant(50*time.Millisecond), "")
	v.layout = visitLayout(second)
	v.start()
	return v
}

// visitLayout makes three outputs; second is the e-mail of the second custom event, in JavaScript.
func visitLayout(second string) string {
	return `
      transform: |
        if ($.event_type != "visit") return $
        await $kv.set("runs", (await $kv.get("runs") ?? 0) + 1)
        return [
          {event_type: "user_identify", user: {...$.user, firstname: "Ada"}},
          {event_type: "seen", user: {email: $.user.email}},
          {event_type: "friend", user: {email: ` + second + `}},
        ]`
}

// A top level domain with a digit is one that HubSpot refuses.
const refusedEmail = `"bob@example.c1"`

// TestReplayWithCorrectedTransform: a letter is sent again with what the transform makes now, and its siblings are not.
func TestReplayWithCorrectedTransform(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := replayRig(t, refusedEmail)
		v.post(`{"event_type":"visit","user":{"email":"ada@example.com"}}`)
		v.drain(time.Hour)
		letters := v.letters()
		if len(letters) == 0 {
			t.Fatal("no dead letters")
		}
		for _, d := range letters {
			if d.Index != 2 || d.Outputs != 3 || d.Original == nil || d.EventID != "e1" {
				t.Fatalf("letter %+v", d)
			}
		}
		// In vain: the same again, in its own place.
		v.replay(store.DeadLetterQuery{}, store.Replay{})
		for i, d := range v.letters() {
			if d.ID != letters[i].ID || d.Replays != 1 || d.Replay != nil || len(v.letters()) != len(letters) {
				t.Errorf("after a replay in vain: %+v, want letter %d once more", d, letters[i].ID)
			}
		}
		if x := v.explained("e1"); !strings.Contains(x, "dead letter") || !strings.Contains(x, "replayed     1 time") {
			t.Error(x)
		}
		v.restart(visitLayout(`"bob@example.com"`))
		writes, events := len(v.made()), v.box.EventCount()
		v.replay(store.DeadLetterQuery{}, store.Replay{})
		if left := v.letters(); len(left) != 0 {
			t.Fatalf("left: %+v", left)
		}
		if n := v.box.EventCount(); n != events+1 {
			t.Errorf("%d custom events, want one more than %d", n, events)
		}
		v.wantProperty("bob@example.com", "email", "bob@example.com")
		for _, c := range v.made()[writes:] {
			if strings.Contains(c.body, "ada@example.com") {
				t.Errorf("a sibling was sent again: %s %s", c.path, c.body)
			}
		}
		for _, want := range []string{"replayed     2 times", "it was a dead letter"} {
			if x := v.explained("e1"); !strings.Contains(x, want) {
				t.Errorf("explain lacks %q:\n%s", want, x)
			}
		}
		if n := v.metric("router_replayed_total", "destination", "crm", "result", "handed_over"); n < float64(len(letters)) {
			t.Errorf("router_replayed_total %v", n)
		}
		v.stop()
	})
}

// TestReplayOfTransformError: what a transform failed on is all sent, once.
func TestReplayOfTransformError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := replayRig(t, `$.nothing.there`)
		v.post(`{"event_type":"visit","user":{"email":"ada@example.com"}}`)
		v.drain(time.Hour)
		if letters := v.letters(); len(letters) != 1 || letters[0].Reason != "transform" {
			t.Fatalf("letters %+v", letters)
		}
		v.replay(store.DeadLetterQuery{}, store.Replay{AsIs: true})
		if d := v.letters(); len(d) != 1 || !strings.Contains(d[0].Problem, "replay it from the original") {
			t.Errorf("as it was: %+v", d)
		}
		v.restart(visitLayout(`"bob@example.com"`))
		v.replay(store.DeadLetterQuery{}, store.Replay{})
		v.wantProperty("ada@example.com", "firstname", "Ada")
		if n := v.box.EventCount(); n != 2 || len(v.letters()) != 0 {
			t.Errorf("%d custom events, letters %+v", n, v.letters())
		}
		if n, _, err := v.srv.store.KV("crm", "runs"); n.Value != "1" || err != nil {
			t.Errorf("the transform counted %s, %v: what failed counts for nothing", n.Value, err)
		}
		// Nothing is left that could be replayed again.
		if n, err := v.srv.store.MarkReplay(t.Context(), store.DeadLetterQuery{}, store.Replay{}); n != 0 || err != nil {
			t.Errorf("marked %d, %v", n, err)
		}
		v.stop()
	})
}

// TestReplayStopsAtOtherOutputs: which output it was can not be told when there is another number of them.
func TestReplayStopsAtOtherOutputs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := replayRig(t, refusedEmail)
		v.post(`{"event_type":"visit","user":{"email":"ada@example.com"}}`)
		v.drain(time.Hour)
		v.restart(`
      transform: |
        await $kv.set("runs", 100)
        return [{event_type: "other", user: {email: "eve@example.com"}}, {event_type: "another", user: {email: "eve@example.com"}}]`)
		events := v.box.EventCount()
		v.replay(store.DeadLetterQuery{}, store.Replay{})
		for _, d := range v.letters() {
			if d.Replay != nil || !strings.Contains(d.Problem, "makes 2 outputs of the event now, and made 3") || !strings.Contains(d.Problem, "--all") {
				t.Errorf("letter %+v", d)
			}
		}
		if x := v.explained("e1"); !strings.Contains(x, "--all") {
			t.Error(x)
		}
		if n, _, _ := v.srv.store.KV("crm", "runs"); n.Value != "1" {
			t.Errorf("what stopped has counted: %s", n.Value)
		}
		if n := v.box.EventCount(); n != events {
			t.Errorf("%d custom events were sent", n-events)
		}
		v.replay(store.DeadLetterQuery{}, store.Replay{All: true})
		if n := v.box.EventCount(); n != events+2 || len(v.letters()) != 0 {
			t.Errorf("--all sent %d custom events, and left %+v", n-events, v.letters())
		}
		v.stop()
	})
}

// TestReplayOfWhatIsLeftOut: what the transform leaves out now is gone, with an outcome.
func TestReplayOfWhatIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := replayRig(t, refusedEmail)
		v.post(`{"event_type":"visit","user":{"email":"ada@example.com"}}`)
		v.drain(time.Hour)
		v.restart(`{transform: "return null"}`)
		v.replay(store.DeadLetterQuery{}, store.Replay{})
		if x := v.explained("e1"); len(v.letters()) != 0 || !strings.Contains(x, "filtered") || !strings.Contains(x, "replayed     1 time") {
			t.Errorf("letters %+v, explained:\n%s", v.letters(), x)
		}
		v.stop()
	})
}

// TestReplayKeepsLaterValues: of a contact that a replay writes, what a later delivery wrote stays, unless it is told to overwrite.
func TestReplayKeepsLaterValues(t *testing.T) {
	f := func(how store.Replay, wantFirst string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			broken := `
      transform: |
        if ($.user.firstname == "Old") throw new Error("no")
        return $`
			v := newVirtual(t, sandbox.Options{}, constant(50*time.Millisecond), "")
			v.layout = broken
			v.start()
			v.post(`{"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"Old","lastname":"Lovelace"}}`)
			time.Sleep(time.Minute)
			v.post(`{"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"New"}}`)
			v.drain(time.Hour)
			v.restart(`{transform: "return $"}`)
			v.replay(store.DeadLetterQuery{}, how)
			v.wantProperty("ada@example.com", "firstname", wantFirst)
			v.wantProperty("ada@example.com", "lastname", "Lovelace")
			time.Sleep(time.Second)
			v.post(`{"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"Newest"}}`)
			v.drain(time.Hour)
			v.wantProperty("ada@example.com", "firstname", "Newest")
			v.stop()
		})
	}
	f(store.Replay{}, "New")
	f(store.Replay{Overwrite: true}, "Old")
}

// TestReplayOfEditedLetter: what was put right by hand is sent, from the original and as it is, under the id that HubSpot takes once.
func TestReplayOfEditedLetter(t *testing.T) {
	f := func(how store.Replay) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			v := newVirtual(t, sandbox.Options{}, constant(50*time.Millisecond), "")
			v.layout = `{transform: "return $"}`
			v.start()
			v.post(`{"event_type":"visit","user":{"email":"ada@example.c1"}}`)
			v.drain(time.Hour)
			for _, d := range v.letters() {
				edited := bytes.ReplaceAll(d.Event, []byte("ada@example.c1"), []byte("ada@example.co"))
				if err := v.srv.store.EditDeadLetter(t.Context(), d.ID, store.LetterEdit{Event: edited}); err != nil {
					t.Fatal(err)
				}
			}
			v.replay(store.DeadLetterQuery{}, how)
			v.wantProperty("ada@example.co", "email", "ada@example.co")
			if n := v.box.EventCount(); n != 1 || len(v.letters()) != 0 {
				t.Errorf("%+v: %d custom events, letters %+v", how, n, v.letters())
			}
			v.stop()
		})
	}
	f(store.Replay{})
	f(store.Replay{AsIs: true})
}

// TestReplayOfMany: more than fit in one step, of two destinations of which one is no longer there; live events go on meanwhile.
func TestReplayOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, sandbox.Options{}, constant(5*time.Millisecond), "")
		v.layout = `{transform: "throw new Error('no')"}`
		v.start()
		for i := range 90 { // more than one page
			v.post(fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"p%d@example.com","firstname":"f%d"}}`, i%30, i))
		}
		v.drain(time.Hour)
		lost := v.letters()[0]
		lost.Destination, lost.EventID = "gone", "other"
		if _, err := v.srv.store.ImportDeadLetters(t.Context(), []store.DeadLetter{lost}); err != nil {
			t.Fatal(err)
		}
		v.restart(`{transform: "return $"}`)
		v.replay(store.DeadLetterQuery{}, store.Replay{})
		for i := range 30 {
			v.wantProperty(fmt.Sprintf("p%d@example.com", i), "firstname", fmt.Sprint("f", 60+i))
		}
		if left := v.letters(); len(left) != 1 || left[0].Problem != "destination gone is not in the configuration" {
			t.Errorf("left %+v", left)
		}
		v.stop()
	})
}

// TestDeadLettersAtTheirBound: what would be a dead letter stays in its lane, and ingest refuses, until there is room; then all goes on by itself.
func TestDeadLettersAtTheirBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, sandbox.Options{}, constant(50*time.Millisecond), "")
		v.start()
		v.srv.router.LimitDeadLetters(router.DeadLetterBounds{MaxBytes: 2000})
		refused := func() string {
			why, _ := v.srv.router.Refused("app", event.Live)
			return why
		}
		wrong := func(from, to int) {
			for i := from; i < to; i++ {
				v.post(fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"p%d@example.c1"}}`, i))
			}
		}
		for i := range 20 {
			wrong(i, i+1)
			time.Sleep(time.Minute)
		}
		v.post(`{"event_type":"user_identify","user":{"email":"p3@example.com","firstname":"Ada"}}`)
		time.Sleep(time.Hour)
		v.wantProperty("p3@example.com", "firstname", "Ada") // others flow
		kept := len(v.letters())
		if why := refused(); kept == 0 || kept > 10 || !strings.Contains(why, "server.dead_letters.max_bytes") {
			t.Fatalf("%d letters, refused for %q", kept, why)
		}
		var post fasthttp.RequestCtx
		post.Init(&fasthttp.Request{}, nil, nil)
		post.Request.Header.SetMethod("POST")
		post.Request.SetRequestURI("http://localhost/api/v1/s2s/event?token=s2s.app")
		post.Request.SetBodyString(`{"event_type":"late","user":{"email":"p4@example.com"}}`)
		if v.srv.ingest.Handler(&post); post.Response.StatusCode() != 503 {
			t.Errorf("ingest answers %s", post.Response.String())
		}
		lane := v.srv.router.Status()[0]
		if lane.State != router.Blocked || lane.Entries != int64(20-kept) || !strings.Contains(lane.Reason, "replay, export or drop") || lane.Since == nil {
			t.Errorf("lane %+v, want %d entries", lane, 20-kept)
		}
		calls := len(v.made())
		time.Sleep(time.Hour)
		if n := len(v.made()) - calls; n > 6*20 {
			t.Errorf("%d calls in an hour for entries that wait for room", n)
		}
		// A restart changes nothing of it.
		v.stop()
		v.start()
		v.srv.router.LimitDeadLetters(router.DeadLetterBounds{MaxBytes: 2000})
		time.Sleep(time.Minute)
		if n := len(v.letters()); n != kept || refused() == "" {
			t.Errorf("%d letters after a restart, want %d; refused for %q", n, kept, refused())
		}
		for range 20 {
			if _, err := v.srv.store.DropDeadLetters(t.Context(), store.DeadLetterQuery{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if why := refused(); why != "" || v.srv.router.Status()[0].Entries != 0 || v.srv.router.Status()[0].State != router.Flowing {
			t.Errorf("with room: refused for %q, lane %+v", why, v.srv.router.Status()[0])
		}
		for _, want := range []string{"dropped", "deleted by hand", "it was a dead letter"} {
			if x := v.explained("e20"); !strings.Contains(x, want) {
				t.Errorf("explain lacks %q:\n%s", want, x)
			}
		}
		v.stop()
	})
}

// TestDeadLettersTooOld: they are deleted, with an outcome, but for those that are to be replayed.
func TestDeadLettersTooOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtual(t, sandbox.Options{}, constant(50*time.Millisecond), "")
		v.start()
		v.srv.router.LimitDeadLetters(router.DeadLetterBounds{MaxAge: 20 * time.Minute})
		v.post(`{"event_type":"user_identify","user":{"email":"p1@example.c1"}}`)
		v.drain(time.Hour)
		time.Sleep(15 * time.Minute)
		if len(v.letters()) != 1 {
			t.Fatal("it is gone before its time")
		}
		time.Sleep(10 * time.Minute)
		if x := v.explained("e1"); len(v.letters()) != 0 || !strings.Contains(x, "older than server.dead_letters.max_age") {
			t.Errorf("letters %+v, explained:\n%s", v.letters(), x)
		}
		if n := v.metric("router_dead_letters_expired_total", "destination", "crm"); n != 1 {
			t.Errorf("router_dead_letters_expired_total %v", n)
		}
		v.stop()
	})
}

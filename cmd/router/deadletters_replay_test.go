package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// brokenTransform fails for those whose name is not mended, and mendedTransform for nobody.
const (
	brokenTransform = `
    data_layout:
      transform: |
        if (!$.user.firstname) throw new Error("nameless: " + $.user.email)
        return $`
	mendedTransform = `
    data_layout:
      transform: |
        return {...$, user: {...$.user, firstname: $.user.firstname || "Nameless"}}`
	twofoldTransform = `
    data_layout:
      transform: |
        return [{...$, user: {...$.user, firstname: "First"}}, {...$, user: {...$.user, email: "second-" + $.user.email, firstname: "Second"}}]`
)

// nameless are events that brokenTransform fails on.
func nameless(persons ...string) string {
	var all []string
	for _, p := range persons {
		all = append(all, fmt.Sprintf(`{"event_id":%q,"event_type":"user_identify","user":{"email":"%[1]s@example.com"}}`, p))
	}
	return "[" + strings.Join(all, ",") + "]"
}

// wantNames wants persons in HubSpot, with their first names.
func (g *lettersRig) wantNames(want ...string) {
	g.t.Helper()
	var got []string
	for _, w := range want {
		email, _, _ := strings.Cut(w, " ")
		c, ok := g.box.Contact(email + "@example.com")
		if !ok {
			got = append(got, email)
			continue
		}
		got = append(got, email+" "+c.Properties["firstname"])
	}
	if !slices.Equal(got, want) {
		g.t.Errorf("HubSpot has %q, want %q", got, want)
	}
}

// restart starts the router with another transform.
func (g *lettersRig) restart(more string) {
	g.t.Helper()
	g.run.stop()
	g.configure("", more)
	g.start()
}

// TestReplayCommand: letters are sent again with the transform of today, once, and what can not be is told.
func TestReplayCommand(t *testing.T) {
	g := newLettersRig(t, "", brokenTransform)
	g.start()
	g.post(nameless("ada", "bob", "eve", "kim"))
	g.refused(exitUsage, "which dead letters are to be replayed?", "replay")
	g.refused(exitUsage, "--cancel takes marks away", "replay", "--everything", "--cancel", "--all")
	if out := g.letters("replay", "--reason", "transform", "--dry-run"); !strings.Contains(out, "transform") || !strings.Contains(out, "4") || g.box.ContactCount() != 0 {
		t.Errorf("--dry-run: %s", out)
	}

	g.restart(mendedTransform)
	out := g.letters("replay", "--person", "ada@example.com", "--person", "bob@example.com")
	if !strings.Contains(out, "1 dead letter marked\n") || !strings.Contains(out, "1 handed over, 0 stopped\n") {
		t.Errorf("one person: %s", out)
	}
	g.run.settle()
	g.wantNames("bob Nameless")
	if out := g.letters("replay", "--person", "bob@example.com"); out != "no dead letters\n" {
		t.Errorf("once more: %s", out)
	}

	// Another number of outputs: the replay stops, and says what to do.
	g.restart(twofoldTransform)
	ada := g.listed("id", "--person", "ada@example.com")[0]
	g.letters("replay", ada)
	g.run.settle()
	g.wantNames("ada First", "second-ada Second")

	// Without a router the marks wait for the next one.
	g.run.stop()
	g.configure("", mendedTransform)
	if out := g.letters("replay", "--event-id", "eve"); !strings.Contains(out, "no router runs: they are replayed at its next start") {
		t.Errorf("without a router: %s", out)
	}
	if out := g.letters("list"); !strings.Contains(out, "marked") {
		t.Errorf("the list: %s", out)
	}
	g.letters("replay", "--event-id", "kim")
	g.refused(exitFailed, "is being replayed", "edit", g.listed("id", "--event-id", "kim")[0], "--set", "user.x=1")
	if out := g.letters("replay", "--event-id", "kim", "--cancel"); out != "1 mark taken away\n" {
		t.Errorf("--cancel: %s", out)
	}
	g.start()
	g.until("eve is in HubSpot", func() bool { _, ok := g.box.Contact("eve@example.com"); return ok })
	g.run.settle()
	g.wantNames("eve Nameless", "kim")
	if got := g.listed("event_id"); !slices.Equal(got, []string{"kim"}) {
		t.Errorf("left are %v", got)
	}
}

// until waits for the router, which works in the background.
func (g *lettersRig) until(what string, ok func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) { // real I/O
		if time.Now().After(deadline) {
			g.t.Fatalf("not within 30 s: %s", what)
		}
	}
}

// TestReplayStops: what can not be sent again stays, with the reason and what to do.
func TestReplayStops(t *testing.T) {
	const three = `
    data_layout:
      transform: |
        return [0, 1, 2].map(i => ({...$, user: {email: i == 1 ? "bad@example.c1" : "good" + i + "-" + $.user.email}}))`
	g := newLettersRig(t, "", three)
	g.start()
	g.post(nameless("ada"))
	if got := g.listed("output"); !slices.Equal(got, []string{"1"}) {
		t.Fatalf("the outputs %v are dead letters", got)
	}
	g.restart(twofoldTransform)
	out, errText, code := g.try("replay", "--destination", "crm")
	if code != exitFailed || !strings.Contains(out, "0 handed over, 1 stopped") || !strings.Contains(out, "--all") || !strings.Contains(errText, "1 replay stopped") {
		t.Errorf("exit %d %s%s", code, out, errText)
	}
	if out := g.letters("show", g.listed("id")[0]); !strings.Contains(out, "replay stopped") {
		t.Error(out)
	}
	if out := g.letters("list"); !strings.Contains(out, "stopped") {
		t.Error(out)
	}
	g.letters("replay", "--destination", "crm", "--all")
	g.run.settle()
	g.wantNames("ada First", "second-ada Second")
}

// TestReplayComesBack: what HubSpot refuses again is the same dead letter, until its event is mended.
func TestReplayComesBack(t *testing.T) {
	g := newLettersRig(t, "", "")
	g.start()
	g.post(deadEvents)
	id := g.listed("id", "--event-id", "e1")[0]
	// What is no longer as it was exported is not dropped.
	if status, answer := g.request("POST", lettersPath+"/drop", `{"exported":{"`+id+`":"00000000"}}`); status != 200 || !strings.Contains(answer, `"dropped":0`) || len(g.listed("id", id)) != 1 {
		t.Errorf("drop with another checksum: %d %s", status, answer)
	}
	g.letters("replay", id)
	g.until("the letter is back", func() bool { return len(g.listed("id", id)) == 1 && g.listed("replays", id)[0] == "1" })
	if out := g.letters("list", id); !strings.Contains(out, "came back") {
		t.Errorf("the list: %s", out)
	}
	g.letters("edit", id, "--set", `user.email="ada@example.com"`)
	if out, _, _ := command(t, "explain", "--config", g.file, "--person", "ada@example.com"); !strings.Contains(out, "number "+id) {
		t.Errorf("explain of the person whom it is edited to: %s", out)
	}
	g.letters("replay", id, "--no-wait")
	g.until("ada is in HubSpot", func() bool { _, ok := g.box.Contact("ada@example.com"); return ok })
	g.run.settle()
	if got := g.listed("event_id"); !slices.Equal(got, []string{"e3", "e2"}) {
		t.Errorf("left are %v", got)
	}

	for _, person := range []string{"ada@example.com", "ada@example.c1"} {
		if out, _, _ := command(t, "explain", "--config", g.file, "--person", person); !strings.Contains(out, "delivered") || !strings.Contains(out, "rejected") {
			t.Errorf("explain %s: %s", person, out)
		}
	}

	// Out and in again, marked at once.
	file := filepath.Join(t.TempDir(), "dead.ndjson")
	g.letters("edit", "--set", `user.email="bob@example.com"`, g.listed("id", "--event-id", "e2")[0])
	g.letters("export", "--event-id", "e2", "-o", file, "--drop")
	g.letters("import", "--replay", file)
	g.until("bob is in HubSpot", func() bool { _, ok := g.box.Contact("bob@example.com"); return ok })
	g.run.settle()
	out, _, _ := command(t, "explain", "--config", g.file, "e2")
	if !strings.Contains(out, "delivered") {
		t.Errorf("explain: %s", out)
	}
	g.letters("drop", "--event-id", "e3", "--yes")
	if out, _, _ := command(t, "explain", "--config", g.file, "e3"); !strings.Contains(out, "dropped") {
		t.Errorf("explain of one that was dropped: %s", out)
	}
}

// TestFallbackReplays: Jitsu's replay sends what a name stands for, once.
func TestFallbackReplays(t *testing.T) {
	g := newLettersRig(t, "", brokenTransform)
	g.start()
	g.post(nameless("ada", "bob"))
	g.restart(mendedTransform)
	_, list := g.request("GET", "/api/v1/fallback", "")
	name := gjson.Get(list, "files.0.file_name").Str
	if name == "" {
		t.Fatal(list)
	}
	body := `{"file_name":"` + name + `","destination_id":"crm","file_format":"event"}`
	if status, answer := g.request("POST", "/api/v1/replay", body); status != 200 || answer != `{"status":"ok"}` {
		t.Fatalf("%d %s", status, answer)
	}
	if status, answer := g.request("POST", "/api/v1/replay", body); status != 400 || !strings.Contains(answer, "is being processed") && !strings.Contains(answer, "no such file") {
		t.Errorf("again: %d %s", status, answer)
	}
	g.until("they are replayed", func() bool { return len(g.listed("id")) == 0 })
	g.run.settle()
	g.wantNames("ada Nameless", "bob Nameless")
	if status, answer := g.request("POST", "/api/v1/replay", body); status != 400 || !strings.Contains(answer, "no such file") {
		t.Errorf("when it is over: %d %s", status, answer)
	}
	if n := g.box.ContactCount(); n != 2 {
		t.Errorf("%d contacts", n)
	}
}

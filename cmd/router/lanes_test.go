package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestLanes: entries of a destination that is gone are listed, moved to another HubSpot account and dropped, by commands.
func TestLanes(t *testing.T) {
	g := newAnswersRig(t)
	ask := func(want int, args ...string) string {
		t.Helper()
		out, errText, code := command(t, append(append([]string{"lanes"}, args...), "--config", g.config)...)
		if code != want {
			t.Fatalf("lanes %v: exit %d, want %d: %s", args, code, want, errText)
		}
		return out + errText
	}
	waits := func() bool {
		s := g.statusOf()
		return s.lane("events").Entries == 1 && s.Waiting == 1 && s.lane("events").State == "blocked"
	}
	post := func(id string) {
		g.post(`{"event_id":"` + id + `","event_type":"bought","user":{"email":"ada@example.com"}}`)
	}
	g.start()
	post("e1")
	g.until("it waits", waits)
	if out := ask(exitFailed, "drop", "crm", "--yes"); !strings.Contains(out, "No such lane is parked") {
		t.Errorf("a lane in force is dropped: %s", out)
	}
	g.kill()
	if out := ask(exitFailed, "drop", "crm", "--yes"); !strings.Contains(out, "no router runs") {
		t.Errorf("without a router: %s", out)
	}
	other := sandbox.New(sandbox.Options{HubID: "777", Token: plantedToken})
	remote := httptest.NewServer(other)
	defer remote.Close()
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "  crm:\n", "  next:\n", 1)
	changed = strings.Replace(changed, `hub_id: "`+demoHub+`"`, `hub_id: "777"`, 1)
	changed = changed[:strings.Index(changed, `base_url: "`)] + `base_url: "` + remote.URL + "\"}\n"
	if err := os.WriteFile(g.config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start()
	if out := ask(exitOK, "list"); !strings.Contains(out, "crm") || !strings.Contains(out, "parked") {
		t.Errorf("the list:\n%s", out)
	}
	if out := ask(exitFailed, "move", "crm", "--to", "nowhere"); !strings.Contains(out, "not in the configuration") {
		t.Errorf("to nowhere: %s", out)
	}
	if out := ask(exitOK, "move", "crm", "--to", "next"); !strings.Contains(out, "entries on their way to next: 1") {
		t.Errorf("a move: %s", out)
	}
	g.until("it is delivered", func() bool { return len(other.Events()) == 1 && g.statusOf().Waiting == 0 })
	if len(g.hub.Events()) != 0 {
		t.Errorf("the former account has %v", g.hub.Events())
	}
	g.kill()

	// The account of before, once more: what waits is dropped this time.
	if err := os.WriteFile(g.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	g.start()
	post("e2")
	g.until("it waits", waits)
	g.kill()
	if err := os.WriteFile(g.config, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start()
	if out := ask(exitOK, "drop", "crm", "--lane", "events", "--yes"); !strings.Contains(out, "entries dropped to dead letters: 1") {
		t.Errorf("a drop: %s", out)
	}
	if s := g.statusOf(); len(s.DeadLetters) != 1 || s.DeadLetters[0] != (letterCount{"crm", "parked", 1}) || s.Waiting != 0 {
		t.Errorf("after it: %+v", s)
	}
	if status, body := g.request(http.MethodPost, lanesPath+"/drop", `{"destination":"crm"}`); status != http.StatusUnauthorized {
		t.Errorf("without the token: %d %s", status, body)
	}
	if status, body := g.request(http.MethodPost, lanesPath+"/drop", `{"destination":"crm","to":"next"}`, "X-Admin-Token", plantedAdmin); status != http.StatusBadRequest {
		t.Errorf("a drop to somewhere: %d %s", status, body)
	}
}

package main

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/router"
)

// statusOf is what router status --json tells.
func (g *answersRig) statusOf() (s routerStatus) {
	g.t.Helper()
	out, errText, code := command(g.t, "status", "--config", g.config, "--json")
	if code != exitOK {
		g.t.Fatalf("status: exit %d %s", code, errText)
	}
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
	return s
}

func (s routerStatus) lane(name string) (l router.LaneStatus) {
	for _, l := range s.Lanes {
		if l.Name.Lane == name {
			return l
		}
	}
	return l
}

// TestStatus: what a router says of itself while it runs, after kill -9, and after a restart.
func TestStatus(t *testing.T) {
	g := newAnswersRig(t)
	g.start()
	g.post(`[{"event_id":"e1","event_type":"user_identify","user":{"email":"ada@example.com"}},
		{"event_id":"e2","event_type":"bought","user":{"email":"ada@example.com"}},
		{"event_id":"bad","event_type":"user_identify","user":{"email":"a@b.c1"}}]`)
	g.until("the events lane is blocked", func() bool {
		s := g.statusOf()
		return s.lane("events").State == router.Blocked && len(s.DeadLetters) == 1
	})
	running := g.statusOf()
	lane := running.lane("events")
	if running.Status != "ok" || running.Version == "" || running.UptimeSeconds <= 0 || running.Waiting != 1 || lane.Entries != 1 || lane.Since == nil ||
		lane.NextTry == nil || !strings.Contains(lane.Reason, "MISSING_SCOPES") || running.Disk.FreeBytes <= 0 || running.StoreBytes <= 0 {
		t.Errorf("while it runs: %+v", running)
	}
	if d := running.DeadLetters[0]; d != (letterCount{"crm", "rejected", 1}) {
		t.Errorf("dead letters: %+v", d)
	}
	if e := running.LastErrors; len(e) < 2 || e[0].Level != "warn" || !strings.Contains(e[0].Text, "lane is blocked") || !strings.Contains(e[0].Text, "lane=events") {
		t.Errorf("last errors: %+v", e)
	}
	if metrics := g.admin("/metrics"); !regexp.MustCompile(`router_lane_since_seconds\{[^}]*lane="events"\} 1`).MatchString(metrics) {
		t.Error("/metrics does not say since when the lane is blocked")
	}
	out, _, _ := command(t, "status", "--config", g.config)
	for _, want := range []string{"ok, version ", "1 entry, the oldest for ", "1: crm rejected 1", "events    blocked  1 ", "lane is blocked"} {
		if !strings.Contains(out, want) {
			t.Errorf("the text lacks %q:\n%s", want, out)
		}
	}
	if status, body := g.request(http.MethodGet, statusPath, ""); status != http.StatusUnauthorized {
		t.Errorf("without the token: %d %s", status, body)
	}

	g.kill()
	stopped := g.statusOf()
	if l := stopped.lane("events"); stopped.Status != "stopped" || stopped.Waiting != 1 || l.State != router.Blocked || l.Reason != lane.Reason || !l.Since.Equal(*lane.Since) ||
		len(stopped.DeadLetters) != 1 || stopped.lane("contacts").State != router.Stopped {
		t.Errorf("after kill -9: %+v", stopped)
	}
	if out, _, _ := command(t, "status", "--config", g.config); !strings.Contains(out, "none runs; this is what ") {
		t.Errorf("the text:\n%s", out)
	}

	g.start()
	g.until("it is blocked again", func() bool { return g.statusOf().lane("events").State == router.Blocked })
	if since := g.statusOf().lane("events").Since; since.Sub(*lane.Since).Abs() > time.Millisecond {
		t.Errorf("after a restart it is blocked since %v, want %v", since, lane.Since)
	}
}

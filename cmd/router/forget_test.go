package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/event"
	"eventrouter/pkg/router"
)

// Ids of a person who is forgotten.
const (
	annEmail     = "ann.needle@example.com"
	annUser      = "user-needle-7"
	annAnonymous = "anonymous-needle-9"
)

// filesNaming are the files of the data directory that hold one of ann's ids, byte by byte.
func (g *lettersRig) filesNaming() (found []string) {
	g.t.Helper()
	err := filepath.WalkDir(g.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		for _, id := range []string{annEmail, annUser, annAnonymous} {
			if bytes.Contains(bytes.ToLower(data), []byte(id)) {
				found = append(found, strings.TrimPrefix(path, g.dir)+": "+id)
			}
		}
		return err
	})
	if err != nil {
		g.t.Fatal(err)
	}
	return found
}

// forget runs router forget.
func (g *lettersRig) forget(args ...string) router.Forgotten {
	g.t.Helper()
	out, errText, code := command(g.t, append([]string{"forget", "--config", g.file, "--json"}, args...)...)
	var done router.Forgotten
	if code != exitOK || json.Unmarshal([]byte(out), &done) != nil {
		g.t.Fatalf("forget %v: exit %d\n%s%s", args, code, out, errText)
	}
	return done
}

// annAndBob are events of ann, by all her ids, and of a neighbour.
func annAndBob(n int) string {
	var all []string
	for i := range n {
		all = append(all,
			fmt.Sprintf(`{"event_id":"a%d","event_type":"user_identify","user":{"email":"Ann.Needle@example.com","id":%q,"anonymous_id":%q,"firstname":"Ann"}}`, i, annUser, annAnonymous),
			fmt.Sprintf(`{"event_id":"b%d","event_type":"page","user":{"id":%q}}`, i, annUser),
			fmt.Sprintf(`{"event_id":"c%d","event_type":"page","user":{"email":"bob@example.com"}}`, i),
			fmt.Sprintf(`{"event_id":"d%d","event_type":"user_identify","user":{"email":"carl@example.com","score":%d}}`, i, i))
	}
	return "[" + strings.Join(all, ",") + "]"
}

// TestForgetCommand forgets a person in a router that runs, and then in the directory of one that does not: what she did waits in lanes and logs, was delivered, and
// was refused.
func TestForgetCommand(t *testing.T) {
	g := newLettersRig(t, "", "    data_layout:\n      transform: 'if ($.user && $.user.email) { $kv.set(\"seen:\" + $.user.email, $.user.id || 1) } return $'\n")
	g.start()
	g.post(fmt.Sprintf(`{"event_id":"first","event_type":"user_identify","user":{"email":%q,"id":%q,"anonymous_id":%q,"firstname":"Ann"}}`, annEmail, annUser, annAnonymous))
	g.post(fmt.Sprintf(`{"event_id":"refused","event_type":"user_identify","user":{"email":"ann@needle.c1","id":%q}}`, annUser))
	clear := g.box.Inject(sandbox.Fault{Endpoint: "events", Status: 403})
	g.run.post(plantedServer, annAndBob(20))
	g.sorted()
	if status, answer := g.request("POST", forgetPath, `{"email":"x@y.co"}`, "Sec-Fetch-Site", "cross-site"); status != 403 {
		t.Errorf("a page of another site: %d %s", status, answer)
	}
	if status, answer := g.request("POST", forgetPath, `{"email":"x@y.co"}`, "X-Admin-Token", "x"); status != 401 {
		t.Errorf("a wrong token: %d %s", status, answer)
	}
	for _, body := range []string{`{}`, `{"mail":"x@y.co"}`, ``} {
		if status, answer := g.request("POST", forgetPath, body); status != 400 || gjson.Get(answer, "message").Str == "" {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
	if dry := g.forget("--email", annEmail, "--dry-run"); dry.Waiting == 0 || len(g.filesNaming()) == 0 {
		t.Errorf("a dry run: %+v; files: %v", dry, g.filesNaming())
	}
	done := g.forget("--email", strings.ToUpper(annEmail))
	if found := g.filesNaming(); found != nil {
		t.Errorf("left: %v\n%+v", found, done)
	}
	if done.Waiting != 20 || done.KV == 0 || done.Outcomes == 0 || done.Identities != 2 || done.RecentEvents == 0 || len(done.IDs) != 3 {
		t.Errorf("forgotten: %+v", done)
	}
	out, _, code := command(t, "forget", "--config", g.file, "--user-id", annUser)
	if code != exitOK || !strings.Contains(out, "note: HubSpot") {
		t.Errorf("exit %d: %s", code, out)
	}

	g.run.stop()

	// Without a router. What it has not sorted is in the log.
	cfg, err := load(g.file)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := newService(cfg, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	var records [][]byte
	for _, v := range gjson.Parse(annAndBob(10)).Array() {
		ev := event.Event{ID: "offline" + v.Get("event_id").Str, APIKey: "web", Server: true, Received: time.Now().UTC(), JSON: []byte(v.Raw)}
		records = append(records, ev.AppendTo(nil))
	}
	if err := errors.Join(srv.log.Append(records...), srv.close()); err != nil {
		t.Fatal(err)
	}
	if len(g.filesNaming()) == 0 {
		t.Error("nothing of the person is in the log")
	}
	done = g.forget("--user-id", annUser, "--api-key", "web")
	if found := g.filesNaming(); found != nil {
		t.Errorf("left: %v\n%+v", found, done)
	}
	if done.Logged != 20 {
		t.Errorf("forgotten without a router: %+v", done)
	}
	clear()
	g.start()
	g.post(fmt.Sprintf(`{"event_id":"new","event_type":"page","user":{"email":%q,"id":%q}}`, annEmail, annUser))
	events := map[string]int{}
	for _, e := range g.box.Events() {
		events[e.Email]++
	}
	if events["bob@example.com"] != 30 || events[annEmail] != 1 {
		t.Errorf("events that arrived: %v, want 30 of the neighbour and the new one", events)
	}
	if c, ok := g.box.Contact("carl@example.com"); !ok || c.Properties["score"] != "9" {
		t.Errorf("the contact of another neighbour is %+v", c)
	}
}

// sorted waits until nothing is left to sort.
func (g *lettersRig) sorted() {
	g.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) { // real I/O
		if live, bulk := g.run.srv.router.Unsorted(); live+bulk == 0 {
			return
		}
		if time.Now().After(deadline) {
			g.t.Fatal("not sorted after 30 s")
		}
	}
}

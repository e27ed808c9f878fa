package main

import (
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// TestDeadLettersAPIRefuses: who may not, what is no request, and pages of others in a browser of this machine.
func TestDeadLettersAPIRefuses(t *testing.T) {
	g := newLettersRig(t, "", "")
	g.start()
	f := func(status int, want, method, path, body string, header ...string) {
		t.Helper()
		got, answer := g.request(method, path, body, header...)
		if got != status || !strings.Contains(answer, want) || !gjson.Valid(answer) {
			t.Errorf("%s %s %s: %d %s, want %d %s", method, path, body, got, answer, status, want)
		}
	}
	for _, route := range []string{
		"GET ", "GET /summary", "GET /edit?id=1", "GET /export", "POST /replay", "POST /drop", "POST /edit", "POST /import",
	} {
		method, page, _ := strings.Cut(route, " ")
		f(401, "Admin token does not match", method, lettersPath+page, "{}", "X-Admin-Token", plantedServer)
		f(403, "cross-origin", method, lettersPath+page, "{}", "Sec-Fetch-Site", "cross-site")
		f(403, "cross-origin", method, lettersPath+page, "{}", "Origin", "https://evil.example.com")
	}
	f(401, "Admin token does not match", "POST", "/api/v1/replay", `{"file_name":"x"}`, "X-Admin-Token", "")
	f(403, "cross-origin", "POST", "/api/v1/replay", `{"file_name":"x"}`, "Sec-Fetch-Site", "cross-site")
	f(403, "cross-origin", "GET", "/api/v1/fallback", "", "Sec-Fetch-Site", "cross-site")

	f(400, "limit must be a number", "GET", lettersPath+"?limit=all", "")
	f(400, "cursor must be a number", "GET", lettersPath+"?cursor=x", "")
	f(400, "bodies must be true or false", "GET", lettersPath+"?bodies=1", "")
	f(400, "until: write a time", "GET", lettersPath+"?until=-24h", "")
	f(400, "reason must be one of", "GET", lettersPath+"/export?reason=x", "")
	f(400, "The body must be a JSON object", "POST", lettersPath+"/replay", `{"destinatoin":"crm"}`)
	f(400, "The body must be one JSON object", "POST", lettersPath+"/drop", `{"everything":true} {}`)
	f(400, "No filter says which dead letters to replay", "POST", lettersPath+"/replay", `{"overwrite":true}`)
	f(400, "No filter says which dead letters to drop", "POST", lettersPath+"/drop", `{"dry_run":true}`)
	f(400, "cancel takes marks away", "POST", lettersPath+"/replay", `{"everything":true,"cancel":true,"all":true}`)
	f(400, "no filter beside it", "POST", lettersPath+"/drop", `{"everything":true,"exported":{"1":"x"}}`)
	f(400, "replay must be original or as_is", "POST", lettersPath+"/import?replay=twice", "")
	f(404, "There is no dead letter 1", "GET", lettersPath+"/edit?id=1", "")
}

// TestDeadLettersHideWhatIsHidden: lists show no secrets and nothing that server.redact names. Editing keeps what is hidden.
func TestDeadLettersHideWhatIsHidden(t *testing.T) {
	g := newLettersRig(t, ", redact: [user.email, user.firstname]", "")
	g.start()
	g.post(`{"event_id":"e1","event_type":"user_identify","user":{"email":"ada@example.c1","firstname":"Augusta","note":"` + plantedToken + `"}}`)
	shown := g.letters("list") + g.letters("list", "--json") + g.letters("show", "1") + g.letters("show", "--json", "1")
	g.run.stop()
	shown += g.letters("list") + g.letters("list", "--json") + g.letters("show", "1")
	for _, secret := range []string{plantedToken, plantedServer, plantedAdmin, "Augusta", "ada@example.c1"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown:\n%s", secret, shown)
		}
	}
	if n := strings.Count(shown, "user_identify"); n < 7 {
		t.Errorf("%d times the event in %s", n, shown)
	}
	g.letters("edit", "1", "--set", `user.score=7`)
	out := g.letters("export", "1")
	for _, want := range []string{`"email":"ada@example.c1"`, `"firstname":"Augusta"`, `"score":7`} {
		if !strings.Contains(out, want) {
			t.Errorf("the edited event lacks %s: %s", want, out)
		}
	}
}

// TestFallback: Jitsu's list of files and its replay, for scripts that use them.
func TestFallback(t *testing.T) {
	g := newLettersRig(t, "", "")
	g.start()
	f := func(status int, want, method, path, body string) {
		t.Helper()
		if got, answer := g.request(method, path, body); got != status || answer != want {
			t.Errorf("%s %s %s:\n got %d %s\nwant %d %s", method, path, body, got, answer, status, want)
		}
	}
	f(200, `{"files":[]}`, "GET", "/api/v1/fallback", "") // as recorded of Jitsu
	g.post(deadEvents)
	day := time.Now().UTC()
	if got := g.listed("at"); !strings.HasPrefix(got[0], day.Format(time.DateOnly)) {
		day = day.AddDate(0, 0, -1) // it was midnight
	}
	name := fallbackName("crm", day)
	list := `{"files":[{"file_name":"` + name + `","destination_id":"crm","tables_statuses":{}}]}`
	f(200, list, "GET", "/api/v1/fallback", "")
	f(200, list, "GET", "/api/v1/fallback?destination_ids=lake,crm", "")
	f(200, `{"files":[]}`, "GET", "/api/v1/fallback?destination_ids=lake", "")

	refused := func(name, why string) {
		t.Helper()
		f(400, `{"message":"Failed to replay file: `+name+`: `+why+`","error":""}`, "POST", "/api/v1/replay", `{"file_name":"`+name+`"}`)
	}
	missing := func(name string) {
		t.Helper()
		refused(name, "Error reading file ["+name+"] for replay: open "+name+": no such file or directory")
	}
	refused("", "File name can't be empty")
	for _, path := range []string{"/etc/passwd", "../router.db", "a/" + name, "..", "failed.dst=../x-2026-11-21T00-00-00.000.log", "/" + name} {
		refused(path, "a path is not taken: write a name that GET /api/v1/fallback lists")
	}
	missing("nope.log")
	missing("router.db")
	missing(strings.Replace(name, "00-00-00", "00-00-01", 1))
	missing("failed.dst=crm-2026-13-41T00-00-00.000.log")
	missing(fallbackName("crm", day.AddDate(0, 0, -1)))
	refused(fallbackName("lake", day), "Destination [lake] wasn't found")
	f(400, `{"message":"Failed to replay file: `+name+`: dead letters go to the destination that they were for, crm","error":""}`,
		"POST", "/api/v1/replay", `{"file_name":"`+name+`","destination_id":"lake"}`)
}

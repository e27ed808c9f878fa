package docs

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answer posts a body and returns status and message.
func answer(t *testing.T, method, url string, body string, headers ...string) (status int, message string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var envelope struct{ Message string }
	if json.Unmarshal(data, &envelope) == nil && envelope.Message != "" {
		return res.StatusCode, envelope.Message
	}
	return res.StatusCode, string(data)
}

// TestAnswers: each row of the table of errors is what some request gets, or, where a test cannot bring it about, a text of the source.
func TestAnswers(t *testing.T) {
	t.Parallel()
	d := served(t)
	base := "http://" + d.router
	got := map[string]bool{}
	f := func(method, path, body string, headers ...string) {
		t.Helper()
		status, message := answer(t, method, base+path, body, headers...)
		got[fmt.Sprintf("%d %s", status, message)] = true
	}
	const server, browser = "/api/v1/s2s/event?token=s2s.change-me", "/api/v1/event?token=js.change-me"
	f("POST", server, " \n")
	f("POST", server, "hello")
	f("POST", server, `{"a":1`)
	f("POST", server, `[{},null]`)
	f("POST", server, `{"x":"`+strings.Repeat("x", 51229-len(`{"x":""}`))+`"}`)
	f("POST", server, `[{"x":"`+strings.Repeat("x", 60000)+`"}]`)
	f("POST", server, `{"x":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+"}")
	f("POST", server, "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03")
	f("GET", "/api/v1/p.gif?token=js.change-me&data=aGVsbG8", "")
	f("POST", "/api/v1/s2s/event", "{}")
	f("POST", "/api/v1/event?token=s2s.change-me", "{}")
	f("POST", "/api/v1/s2s/event?token=js.change-me", "{}")
	f("GET", "/api/v1/event", "")
	f("POST", browser, strings.Repeat(" ", 10<<20)+"{}")
	f("POST", server, "["+strings.Repeat("{},", 50000)+"{}]")
	f("GET", "/ping", "", "X-Long", strings.Repeat("x", 20000))
	f("GET", "/metrics", "", "X-Forwarded-For", "192.0.2.1")

	source := ingestSource(t)
	for _, row := range load(t, "protocols.md").tableUnder(t, "Answers").rows {
		message := code(row[1])[0]
		if !got[row[0]+" "+message] && !strings.Contains(source, `"`+message+`"`) {
			t.Errorf("no request gets %s %q", row[0], message)
		}
		delete(got, row[0]+" "+message)
	}
	for left := range got {
		t.Errorf("protocols.md lacks the answer %s", left)
	}
}

// ingestSource is the source of pkg/ingest.
func ingestSource(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("../pkg/ingest/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var all strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	return all.String()
}

// TestRoutes: every path of the table is served, for the secret that it names.
func TestRoutes(t *testing.T) {
	t.Parallel()
	d := served(t)
	n := 0
	for _, row := range load(t, "protocols.md").tableUnder(t, "Routes").rows {
		for _, span := range code(row[0]) {
			method, path, ok := strings.Cut(span, " ")
			if !ok && span == "OPTIONS" {
				method, path = "OPTIONS", "/api/v1/event"
			} else if !ok {
				method, path = "POST", span
			}
			secret := map[string]string{"client": "js.change-me", "server": "s2s.change-me", "server or admin": "s2s.change-me"}[row[1]]
			body := "[]"
			query := ""
			switch path {
			case "/api/v1/destinations/test":
				body = `{"destination":"my_hubspot"}`
			case "/api/v1/templates/evaluate":
				body = `{"object":{},"expression":"$.a"}`
			case "/api/v1/deadletters/replay", "/api/v1/deadletters/drop", "/api/v1/lanes/drop":
				body = `{"destination":"my_hubspot"}`
			case "/api/v1/lanes/move":
				body = `{"destination":"my_hubspot","to":"my_hubspot"}`
			case "/api/v1/deadletters/import":
				body = ""
			case "/api/v1/forget":
				body = `{"email":"nobody@example.com"}`
			case "/api/v1/events/explain":
				query = "&event_id=x"
			case "/api/v1/events/cache":
				query = "&ids=my_hubspot"
			}
			want := http.StatusOK
			if strings.HasSuffix(path, "{file}") || path == "/p.js" || strings.HasPrefix(path, "/api/v1/lanes/") { // of which there are none
				want = http.StatusNotFound
			}
			if path == "/api/v1/deadletters/edit" || path == "/api/v1/replay" { // there is none to edit, and no such name
				want = http.StatusBadRequest
			}
			switch { // there are no apps
			case method == "POST" && path == "/api/v1/connections":
				want = http.StatusBadRequest
			case method == "DELETE" && path == "/api/v1/connections", strings.HasPrefix(path, "/connect/{app}/"), strings.HasPrefix(path, "/api/v1/apps/"):
				want = http.StatusNotFound
			case strings.HasPrefix(path, "/api/v1/proxy/"): // it takes no secrets from addresses
				want = http.StatusUnauthorized
			}
			if status, message := answer(t, method, "http://"+d.router+path+"?token="+secret+query, body); status != want {
				t.Errorf("%s %s: %d %s", method, path, status, message)
			}
			n++
		}
	}
	if n < 12 {
		t.Errorf("the table has %d routes", n)
	}
}

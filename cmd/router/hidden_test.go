package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/trial"
)

// rudeHubSpot repeats what it was sent in its errors, cut short and whole, as HubSpot does with values that it does not like.
type rudeHubSpot struct {
	next http.RoundTripper

	mu        sync.Mutex // guards the fields below
	delivered strings.Builder
}

func (h *rudeHubSpot) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	h.mu.Lock()
	h.delivered.Write(body)
	h.mu.Unlock()
	status, category := 0, "VALIDATION_ERROR"
	switch {
	case r.Method != http.MethodPost:
	case bytes.Contains(body, []byte("refused@example.com")):
		status = 400
	case bytes.Contains(body, []byte("broken@example.com")):
		status, category = 500, "INTERNAL_ERROR"
	case strings.Contains(r.URL.Path, "/send"):
		status, category = 403, "MISSING_SCOPES"
	}
	if status == 0 {
		return h.next.RoundTrip(r)
	}
	var values []string
	for _, value := range gjson.GetBytes(body, "inputs.0.properties").Map() {
		if !strings.Contains(value.Str, "@") {
			values = append(values, value.Raw)
		}
	}
	// Some whole, and some cut at the 200 bytes that are kept of a message.
	problem := gjson.AppendJSONString(nil, strings.Repeat("-", 10)+strings.Join(values, ", "))
	quoted := gjson.AppendJSONString(nil, fmt.Sprintf(`Property values were not valid: [{"message":%s,"error":"INVALID_EMAIL","name":"email"}] %s`,
		problem, strings.Repeat(strings.Join(values, " "), 10)))
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, ContentLength: -1, Request: r, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(strings.NewReader(fmt.Sprintf(`{"status":"error","category":%q,"correlationId":"c-1","message":%s}`, category, quoted))),
	}, nil
}

// hiddenValues are in the events, under members that are to be hidden. The last is an e-mail's local part: who hides e-mails sees no person.
var hiddenValues = []string{"pw-4f1d77", "078-05-1120", "4111111111111111", `quo"ted-7b1`, "trait-9c2e", "zwölf-geheim", "inside-list-31"}

const hiddenEvents = `[
 {"event_id":"good","event_type":"user_identify","user":{"email":"good@example.com","password":"pw-4f1d77","ssn":"078-05-1120","company":"Acme"}},
 {"event_id":"refused","event_type":"user_identify","user":{"email":"refused@example.com","password":"pw-4f1d77","ssn":"078-05-1120"},"order":{"card":4111111111111111}},
 {"event_id":"broken","event_type":"user_identify","user":{"email":"broken@example.com","Password":"quo\"ted-7b1","ssn":"078-05-1120"}},
 {"event_id":"script","event_type":"script","user":{"email":"good@example.com","password":"pw-4f1d77"}},
 {"event_id":"identified","event_type":"user_identify","user":{"id":"u1","email":"known@example.com"}},
 {"event_id":"supplied","event_type":"script","user":{"id":"u1"}},
 {"event_id":"blocked","event_type":"sign_up","user":{"email":"good@example.com"},"order":{"card":"4111111111111111"},"password":{"a":["inside-list-31",{"b":"zw\u00f6lf-geheim"}]}},
 {"event_id":"nested","event_type":"user_identify","user":{"email":"refused@example.com"},"segment":{"type":"identify","traits":{"ssn":"trait-9c2e","PASSWORD":"pw-4f1d77"}}}
]`

// startHidden runs a router with the events, waits until each has met its fate, and returns everything that people can be shown of them.
func startHidden(t *testing.T, rules string) (shown map[string]string, delivered string) {
	t.Helper()
	port := freePort(t)
	config := write(t, fmt.Sprintf(`
server: {host: 127.0.0.1, port: %s, data_dir: %q, min_free_bytes: 1MiB, log: {level: debug}, redact: [%s]}
api_keys: [{id: web, server_secret: s2s.planted-server}]
destinations:
  crm:
    type: hubspot
    data_layout:
      table_name_template: |
        if ($.event_type == "script") throw new Error("cannot cope with " + $.user.password + " and " + JSON.stringify($.user))
        return $.event_type
    hubspot:
      access_token: %s
      hub_id: %q
      properties: {map: {firstname: $.user.password, lastname: $.user.ssn, jobtitle: $.segment.traits.ssn}}
      events: {properties: {map: {card: $.order.card}}}
`, port, t.TempDir(), rules, demoToken, demoHub))
	cfg, err := load(config)
	if err != nil {
		t.Fatal(err)
	}
	hub := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
	remote := &rudeHubSpot{next: hub.RoundTripper()}
	logs := &trial.Log{}
	srv, err := newService(cfg, slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})), remote)
	if err != nil {
		t.Fatal(err)
	}
	stop := runService(t, srv, port).stop
	base := "http://127.0.0.1:" + port
	get := func(path string) string {
		res, err := http.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return string(body)
	}
	post := func(body string, status int) {
		res, err := http.Post(base+"/s2s/events?token=s2s.planted-server", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != status {
			t.Fatalf("posting: %d", res.StatusCode)
		}
	}
	post(hiddenEvents, 200)
	post(`{"event_type":"x","password":"pw-4f1d77","user":{"ssn":"078-05-1120"},"api_key":"s2s.planted-server",`, 400)
	state := func(id, want string) bool {
		return strings.Contains(get("/api/v1/events/explain?event_id="+id), want)
	}
	failed := func(id string) bool {
		return gjson.Get(get("/api/v1/events/cache?ids=crm"), `events.#(uid=="`+id+`").error`).Exists()
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) { // real I/O
		if state("good", `"delivered"`) && state("refused", `"dead_letter"`) && state("script", `"dead_letter"`) && state("supplied", `"dead_letter"`) && state("nested", `"dead_letter"`) &&
			failed("broken") && failed("blocked") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not all events have met their fate:\n%s\n%s", get("/api/v1/events/cache?ids=crm"), logs)
		}
	}
	shown = map[string]string{}
	command := func(args ...string) {
		var out, errs bytes.Buffer
		if err := run(context.Background(), append(args, "--config", config), &out, &errs); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		shown[fmt.Sprintf("%q (%d)", args, len(shown))] = out.String() + errs.String()
	}
	ids := []string{"good", "refused", "broken", "script", "supplied", "blocked", "nested"}
	look := func() {
		for _, id := range ids {
			command("explain", id)
			command("explain", id, "--json")
		}
		command("explain", "--person", "refused@example.com")
		command("deadletters", "list")
		command("deadletters", "list", "--json")
	}
	look()
	for _, id := range ids {
		shown["GET explain "+id] = get("/api/v1/events/explain?event_id=" + id)
	}
	for _, path := range []string{"/api/v1/events/cache?ids=crm", "/api/v1/events/cache?namespace=token&ids=web", "/metrics", "/readyz"} {
		shown["GET "+path] = get(path)
	}
	stop()
	look() // from the data directory
	shown["the log"] = logs.String()
	remote.mu.Lock()
	defer remote.mu.Unlock()
	return shown, remote.delivered.String()
}

// TestRedactedValuesAreShownNowhere, and delivered all the same. The same events without rules show that all would be seen.
func TestRedactedValuesAreShownNowhere(t *testing.T) {
	shown, delivered := startHidden(t, `password, user.ssn, "*.card"`)
	for where, text := range shown {
		for _, value := range append([]string{`quo\"ted`, `zw\u00f6lf`, "s2s.planted"}, hiddenValues...) {
			if strings.Contains(strings.ToLower(text), value) {
				t.Errorf("%s shows %s:\n%s", where, value, text)
			}
		}
	}
	for _, want := range []string{`good@example.com`, `Acme`} { // what is not hidden
		if text := shown["GET /api/v1/events/cache?ids=crm"]; !strings.Contains(text, want) {
			t.Errorf("the events cache lacks %s: %s", want, text)
		}
	}
	for _, value := range []string{"pw-4f1d77", "078-05-1120", "trait-9c2e"} {
		if !strings.Contains(delivered, value) {
			t.Errorf("HubSpot did not get %s", value)
		}
	}

	open, _ := startHidden(t, "")
	for _, where := range []string{"the log", "GET /api/v1/events/cache?ids=crm", "GET /api/v1/events/cache?namespace=token&ids=web", "GET explain refused", "GET explain script", "GET /readyz"} {
		found := false
		for _, value := range hiddenValues {
			found = found || strings.Contains(open[where], value)
		}
		if !found {
			t.Errorf("without rules %s shows no value, so it proves nothing:\n%s", where, open[where])
		}
	}
}

// TestRedactedEmailHidesPersons.
func TestRedactedEmailHidesPersons(t *testing.T) {
	shown, _ := startHidden(t, "email")
	for where, text := range shown {
		if where == "the log" || strings.Contains(where, "--person") {
			continue
		}
		for _, person := range []string{"refused@example.com", "refused%40example.com", "known@example.com"} { // the last also of an event that only names its user
			if strings.Contains(text, person) {
				t.Errorf("%s shows %s:\n%s", where, person, text)
			}
		}
	}
	if strings.Contains(shown["the log"], "@example.com") {
		t.Errorf("the log shows a person:\n%s", shown["the log"])
	}
}

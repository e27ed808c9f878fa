package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/dryrun"
	"eventrouter/pkg/store"
)

// seen is a request that a remote got, as far as a dry run shows it.
type seen struct{ Method, URL, ContentType, Body string }

// watchedHub is a sandbox that notes what is posted to it.
type watchedHub struct {
	url string
	box *sandbox.Sandbox

	mu    sync.Mutex
	posts []seen
	calls int // reads too
}

func watchHub(t *testing.T, o sandbox.Options) *watchedHub {
	t.Helper()
	o.HubID, o.Token = demoHub, demoToken
	w := &watchedHub{box: sandbox.New(o)}
	remote := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.calls++
		if r.Method != http.MethodGet {
			w.posts = append(w.posts, seen{r.Method, w.url + r.URL.String(), r.Header.Get("Content-Type"), string(body)})
		}
		w.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.box.ServeHTTP(out, r)
	}))
	t.Cleanup(remote.Close)
	w.url = remote.URL
	return w
}

// take returns the posts since the last one.
func (w *watchedHub) take() []seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	posts := w.posts
	w.posts = nil
	return posts
}

func (w *watchedHub) made() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls
}

// ask posts to a page and returns its answer.
func (r *running) ask(path, body string, headers ...string) (status int, answer string) {
	r.t.Helper()
	return ask(r.t, http.MethodPost, r.url+path, body, append([]string{"Content-Type", "application/json"}, headers...)...)
}

// try makes a dry run.
func (r *running) try(query, body string) *dryrun.Report {
	r.t.Helper()
	status, answer := r.ask("/api/v1/events/dry-run?token=s2s.x"+query, body, "X-Admin-Token", "letmein-admin")
	if status != http.StatusOK {
		r.t.Fatalf("a dry run of %s is answered %d: %s", body, status, answer)
	}
	if strings.Contains(answer, demoToken) || strings.Contains(answer, "s2s.x") {
		r.t.Fatalf("a secret is in %s", answer)
	}
	var report dryrun.Report
	if err := json.Unmarshal([]byte(answer), &report); err != nil {
		r.t.Fatal(err)
	}
	return &report
}

// shown are the requests of a report as a remote gets them.
func shown(r *dryrun.Report) (all []seen) {
	for _, q := range r.Requests {
		all = append(all, seen{q.Method, q.URL, q.ContentType, string(q.Body) + q.Text})
	}
	return all
}

const dryRunConfig = `
server: {data_dir: %s, min_free_bytes: 1MiB, admin_token: letmein-admin}
api_keys: [{id: web, server_secret: s2s.x, client_secret: js.x}, {id: other, server_secret: s2s.other}]
destinations:
  crm:
    type: hubspot
    only_tokens: [web]
    data_layout:
      table_name_template: '$.event_type == "pageview" ? "" : $.event_type'
      transform: |
        if ($.event_type == "both") return [{...$, event_type: "first"}, {...$, event_type: "second"}]
        if ($.event_type == "broken") {
          throw new Error("no " + $.user.email)
        }
        return {...$, moved: 1}
    hubspot:
      access_token: %s
      hub_id: %q
      base_url: %q
      contact_events: [order]
      properties:
        unknown: create
        map: {jobtitle: $.user.title}
        write: {city: if_empty}
`

// TestDryRunIsExact: what a dry run shows of an event is what the remote gets when the event is posted.
func TestDryRunIsExact(t *testing.T) {
	hub := watchHub(t, sandbox.Options{
		Burst: 190, Properties: demoProperties(), Definitions: []sandbox.Definition{{Name: "order", Label: "Order", IncludeDefaults: true}},
	})
	cfg, err := load(write(t, fmt.Sprintf(dryRunConfig, t.TempDir(), demoToken, demoHub, hub.url)))
	if err != nil {
		t.Fatal(err)
	}
	r := startService(t, cfg)
	at := `"utc_time":"2026-05-04T12:00:00.000Z"`
	n := 0
	f := func(event string) {
		t.Helper()
		n++
		body := fmt.Sprintf(`{"event_id":"e%d",%s,%s`, n, at, event[1:])
		report := r.try("", body)
		if got := hub.take(); len(got) > 0 {
			t.Errorf("a dry run of %s has sent %v", body, got)
		}
		r.post("s2s.x", body)
		r.settle()
		got := hub.take()
		if diff := cmp.Diff(shown(report), got); diff != "" {
			told, _ := json.Marshal(report.Events)
			t.Errorf("%s: what the dry run shows and what is sent differ (-shown +sent):\n%s\n%s", body, diff, told)
		}
		if len(got) == 0 {
			t.Errorf("%s: nothing is sent", body)
		}
	}
	f(`{"event_type":"user_identify","user":{"email":" A@b.co","firstname":"Ada","title":"Eng","annualrevenue":1.5e3,"hs_lead_status":"nonsense","createdate":"x"}}`)
	f(`{"event_type":"user_identify","user":{"email":"a@b.co","city":"Paris","shoe_size":43}}`)          // a property is made, and one is read before it is written
	f(`{"event_type":"order","user":{"email":"a@b.co","id":7,"lastname":"L"},"revenue":12.50,"n":null}`) // contact and event
	f(`{"event_type":"order","user":{"id":7},"revenue":3}`)                                              // who it is, is remembered
	f(`{"event_type":"Signed Up","user":{"email":"new@b.co"},"plan":"x","deep":{"a":1}}`)                // a definition is made
	f(`{"event_type":"Signed Up","user":{"email":"new@b.co"},"plan":"x","more":"2026-05-04T12:00:00Z"}`) // and a property of it
	f(`{"event_type":"both","user":{"email":"new@b.co"},"plan":"x"}`)                                    // several outputs

	// Together, as one request: writes of one contact are merged.
	body := `[{"event_id":"t1",` + at + `,"event_type":"user_identify","user":{"email":"t@b.co","firstname":"T"}},` +
		`{"event_id":"t2",` + at + `,"event_type":"user_identify","user":{"email":"t@b.co","lastname":"U"}},` +
		`{"event_id":"t3",` + at + `,"event_type":"order","user":{"email":"t@b.co"}}]`
	report := r.try("&together=true", body)
	r.post("s2s.x", body)
	r.settle()
	if diff := cmp.Diff(shown(report), hub.take()); diff != "" {
		t.Errorf("together: what the dry run shows and what is sent differ (-shown +sent):\n%s", diff)
	}
}

// TestDryRunLeavesNoTrace: neither the memory of the router nor its quota, lanes, log, outcomes and counters know of a dry run.
func TestDryRunLeavesNoTrace(t *testing.T) {
	hub := watchHub(t, sandbox.Options{Burst: 190, Properties: demoProperties()})
	cfg, err := load(write(t, fmt.Sprintf(dryRunConfig, t.TempDir(), demoToken, demoHub, hub.url)))
	if err != nil {
		t.Fatal(err)
	}
	r := startService(t, cfg)
	r.post("s2s.x", `[{"event_id":"1","event_type":"user_identify","user":{"email":"a@b.co"}},{"event_id":"2","event_type":"seen","user":{"email":"a@b.co"}}]`)
	r.settle()
	before, calls := r.metrics(), hub.made()
	for range 3 {
		r.try("", `{"event_id":"3","event_type":"seen","user":{"id":"u1","email":"b@b.co"}}`)
		r.try("", `[{"event_id":"4","event_type":"broken","user":{"email":"b@b.co"}},{"event_id":"5","event_type":"pageview"},{"event_id":"1","event_type":"x"}]`)
	}
	if report := r.try("", `{"event_type":"seen","user":{"id":"u1"}}`); report.Events[0].Email != "" {
		t.Errorf("a dry run taught the identity memory %q", report.Events[0].Email)
	}
	if after := r.metrics(); after != before {
		t.Errorf("counters differ:\n%s", cmp.Diff(before, after))
	}
	if got := hub.made(); got != calls {
		t.Errorf("%d calls were made", got-calls)
	}
	letters, err := r.srv.store.DeadLetters(t.Context(), store.DeadLetterQuery{Limit: 10})
	if err != nil || len(letters) > 0 {
		t.Errorf("dead letters %v, %v", letters, err)
	}
	if status, answer := r.ask("/api/v1/events/explain?event_id=3", ""); status == http.StatusOK && strings.Contains(answer, "b@b.co") {
		t.Errorf("explain knows of a dry run: %s", answer)
	}
}

// metrics are those of the router that tell of events, destinations and quotas.
func (r *running) metrics() string {
	r.t.Helper()
	_, data := ask(r.t, http.MethodGet, r.url+"/metrics", "", "X-Admin-Token", "letmein-admin")
	var kept []string
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "router_") && !strings.Contains(line, "connections") && !strings.HasPrefix(line, "router_quota_remaining") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func TestDryRunRefusals(t *testing.T) {
	r := startEvaluating(t)
	f := func(path string, status int, message string, headers ...string) {
		t.Helper()
		got, answer := r.ask(path, `{"event_type":"t","user":{"email":"a@b.co"}}`, headers...)
		if got != status || !strings.Contains(answer, message) || strings.Contains(answer, "js.x") {
			t.Errorf("%s: %d %s, want %d %s", path, got, answer, status, message)
		}
	}
	const path = "/api/v1/events/dry-run"
	f(path, 401, `"message":"The token is not found"`)
	f(path+"?token=nobody", 401, `"message":"The token is not found"`)
	f(path+"?token=js.x", 401, `"message":"The token isn't a server secret token.`)
	f(path, 200, `"api_key":"web"`, "X-Admin-Token", "letmein-admin")
	f(path+"?api_key_id=other", 200, `"api_key":"other"`, "X-Admin-Token", "letmein-admin")
	f(path+"?api_key_id=zz", 400, `API key with id=[zz] does not exist`, "X-Admin-Token", "letmein-admin")
	f(path+"?token=s2s.other", 200, `"destinations":[]`)
	f(path+"?token=s2s.other&destination_id=crm", 400, `destination with id=[crm] does not exist`)
	f(path+"?token=s2s.other&destination_id=crm", 200, `"not_fed":"only events of these API keys go to it (only_tokens): web"`, "X-Admin-Token", "letmein-admin")
	f(path+"?token=s2s.x&route=/nowhere", 400, `no events are posted there`)
	f(path+"?token=s2s.x&route=/api/v1/events/bulk", 400, `no events are posted there`)
	if status, answer := r.ask(path+"?token=s2s.x", `[`+strings.Repeat(`{"a":1},`, 100)+`{"a":1}]`); status != http.StatusRequestEntityTooLarge {
		t.Errorf("101 events: %d %s", status, answer)
	}
	if status, answer := r.ask(path+"?token=s2s.x", `{"a":`); status != http.StatusBadRequest || !strings.Contains(answer, "Error parsing events body") {
		t.Errorf("half an event: %d %s", status, answer)
	}
	// As Jitsu answers.
	data, err := os.ReadFile("../../testdata/jitsu/ingest.json")
	if err != nil {
		t.Fatal(err)
	}
	recorded := gjson.GetBytes(data, `ingest_http.#(name=="dry run unknown dest")`)
	status, answer := r.ask(strings.Replace(recorded.Get("request.path").String(), "s2s.secret", "s2s.x", 1), recorded.Get("request.body").Raw)
	if want := recorded.Get("response.body").String(); status != int(recorded.Get("response.status").Int()) || answer != want {
		t.Errorf("an unknown destination: %d %s, Jitsu %s", status, answer, want)
	}
}

// TestDryRunTells: decisions with their reasons, per destination and output, also of staged ones; Segment's messages; what server.redact hides.
func TestDryRunTells(t *testing.T) {
	cfg, err := load(write(t, fmt.Sprintf(strings.Replace(dryRunConfig, "admin_token", "redact: [phone], admin_token", 1)+`
  later: {type: hubspot, staged: true, hubspot: {access_token: pat-of-later, hub_id: "777", base_url: "http://127.0.0.1:1"}}
`, t.TempDir(), demoToken, demoHub, "http://127.0.0.1:1")))
	if err != nil {
		t.Fatal(err)
	}
	r := startService(t, cfg)
	f := func(query, body string, want ...string) {
		t.Helper()
		var got []string
		for _, ev := range r.try(query, body).Events {
			for _, d := range ev.Destinations {
				for _, o := range d.Outputs {
					got = append(got, strings.Join(strings.Fields(fmt.Sprint(d.Destination, " ", o.ID, " ", o.Status, " ", o.Reason, " ", o.Error)), " "))
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
	f("", `{"event_id":"1","event_type":"pageview","user":{"email":"a@b.co"}}`, "crm 1 filtered table_name_template is empty, null or false", "later 1 delivered")
	f("&destination_id=crm", `{"event_id":"1","event_type":"both","user":{"email":"a@b.co"}}`, "crm 1 delivered", "crm 1_1 delivered")
	f("&destination_id=crm", `{"event_id":"1","event_type":"broken","user":{"email":"a@b.co"}}`, "crm 1 dead_letter transform transform line 3, column 9: Error: no a@b.co")
	f("&destination_id=crm", `{"event_id":"1","event_type":"x"}`, "crm 1 skipped no identity")
	f("&destination_id=later", `{"event_id":"1","event_type":"user_identify","user":{"email":"no address"}}`,
		"later 1 dead_letter plan the e-mail address has no @")
	f("&destination_id=later&route=/v1/batch", `{"batch":[{"type":"identify","messageId":"m1","userId":"u","traits":{"email":"a@b.co"}},{"type":"track","event":"Bought","messageId":"m2","userId":"u"}]}`,
		"later m1 delivered", "later m2 delivered") // the second one's e-mail is what the first one taught
	status, answer := r.ask("/api/v1/events/dry-run?token=s2s.x", `{"event_type":"user_identify","user":{"email":"a@b.co","phone":"+49 555 1234"}}`)
	if status != http.StatusOK || strings.Contains(answer, "555 1234") || !strings.Contains(answer, `"phone":"***"`) {
		t.Errorf("a hidden value is shown: %d %s", status, answer)
	}
	for _, want := range []string{`"staged":true`, `"note`, "that of a new account: the account's can not be read", "connection refused"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the answer lacks %s: %s", want, answer)
		}
	}
}

// TestDryRunsTakeTurns: one at a time, a few wait, and more are refused at once.
func TestDryRunsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDryRuns(nil)
		done, err := d.begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := make(chan error, mayWait)
		for range mayWait {
			go func() {
				done, err := d.begin(ctx)
				if err == nil {
					time.Sleep(time.Second)
					done()
				}
				began <- err
			}()
		}
		synctest.Wait()
		if _, err := d.begin(ctx); !errors.Is(err, errTooManyDryRuns) {
			t.Errorf("one more than may wait: %v", err)
		}
		done()
		start := time.Now()
		for range mayWait {
			if err := <-began; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took != mayWait*time.Second {
			t.Errorf("%d of a second each took %v", mayWait, took)
		}
		if done, err = d.begin(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := d.begin(ctx); !errors.Is(err, errTooManyDryRuns) || time.Since(start) != time.Minute {
			t.Errorf("one whose time is over: %v after %v", err, time.Since(start))
		}
		done()
	})
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/config"
	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// receiver is a service that webhooks are sent to.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex // guards the fields below
	status int
	got    []webhookCall // answered by 200
	failed []webhookCall // and those that were not
}

type webhookCall struct{ path, id, signature, body string }

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	c := webhookCall{req.URL.Path, req.Header.Get("webhook-id"), req.Header.Get("webhook-signature"), string(body)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == http.StatusOK {
		r.got = append(r.got, c)
	} else {
		r.failed = append(r.failed, c)
	}
	w.WriteHeader(r.status)
}

// answers has the receiver answer so from now on.
func (r *receiver) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

func (r *receiver) calls() (got, failed []webhookCall) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got), slices.Clone(r.failed)
}

// until waits for something of another goroutine's.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(5 * time.Millisecond) { // real I/O
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s: %s", what)
		}
	}
}

// fanOut loads configs/webhook.yaml, in front of a sandbox and a receiver.
func fanOut(t *testing.T, dir string, box *sandbox.Sandbox, at *receiver) func() *config.Config {
	t.Helper()
	hub := httptest.NewServer(box)
	t.Cleanup(hub.Close)
	for name, value := range map[string]string{
		"SERVER_SECRET": "s2s.shop", "HUBSPOT_TOKEN": demoToken, "HUBSPOT_HUB_ID": demoHub, "HUBSPOT_URL": hub.URL, "ALLOW_PRIVATE": "true",
		"EVENTS_URL": at.URL + "/events", "EVENTS_TOKEN": "planted-token", "EVENTS_SECRET": "planted-signing-secret", "CHAT_URL": at.URL + "/chat",
	} {
		t.Setenv(name, value)
	}
	return func() *config.Config {
		t.Helper()
		cfg, err := load("../../configs/webhook.yaml")
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range cfg.Warnings {
			t.Errorf("a warning: %s", w)
		}
		cfg.Server.DataDir, cfg.Server.MinFreeBytes = dir, 1<<20
		for i := range cfg.Destinations {
			cfg.Destinations[i].Retry.MaxDelay = 50 * time.Millisecond
		}
		return cfg
	}
}

// TestFanOut runs configs/webhook.yaml as it stands: each destination gets what its filter says, and one that is down holds up no other.
func TestFanOut(t *testing.T) {
	box := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
	at := newReceiver(t)
	cfg := fanOut(t, t.TempDir(), box, at)
	run := startService(t, cfg())
	at.answers(http.StatusServiceUnavailable)
	run.post("s2s.shop", `[
		{"event_id": "1", "event_type": "user_identify", "user": {"email": "ada@example.com", "firstname": "Ada"}},
		{"event_id": "2", "event_type": "pageview", "user": {"email": "ada@example.com"}},
		{"event_id": "3", "event_type": "order_completed", "order": {"id": "o-1", "total": 1250.5}, "user": {"email": "ada@example.com"}},
		{"event_id": "4", "event_type": "order_completed", "order": {"id": "o-2", "total": 9}, "user": {"email": "bob@example.com"}}
	]`)
	until(t, "HubSpot waits for a webhook that is down", func() bool { return len(box.Events()) == 2 })
	if ada, ok := box.Contact("ada@example.com"); !ok || ada.Properties["firstname"] != "Ada" {
		t.Errorf("HubSpot has %+v", ada)
	}
	if got, _ := at.calls(); len(got) != 0 {
		t.Errorf("the receiver took %+v while it was down", got)
	}
	until(t, "the webhooks were not tried", func() bool { _, failed := at.calls(); return len(failed) >= 2 })
	at.answers(http.StatusOK)
	run.settle()
	got, _ := at.calls()
	ids, chat := map[string]int{}, []string(nil)
	for _, c := range got {
		if c.path == "/chat" {
			chat = append(chat, c.body)
			continue
		}
		var events []struct {
			ID string `json:"eventn_ctx_event_id"`
		}
		if err := json.Unmarshal([]byte(c.body), &events); err != nil || c.signature == "" {
			t.Errorf("%s: %v, signature %q", c.body, err, c.signature)
		}
		for _, e := range events {
			ids[e.ID]++
		}
	}
	if diff := cmp.Diff(map[string]int{"1": 1, "2": 1, "3": 1, "4": 1}, ids); diff != "" {
		t.Errorf("events at the service: %s", diff)
	}
	if diff := cmp.Diff([]string{`{"text":"ada@example.com has ordered for 1250.5"}`}, chat); diff != "" {
		t.Errorf("lines of chat: %s", diff)
	}
}

// TestWebhookIDsOutliveARestart: a receiver knows what comes twice, also from another process.
func TestWebhookIDsOutliveARestart(t *testing.T) {
	box := sandbox.New(sandbox.Options{HubID: demoHub, Token: demoToken})
	at := newReceiver(t)
	cfg := fanOut(t, t.TempDir(), box, at)
	at.answers(http.StatusServiceUnavailable)
	run := startService(t, cfg())
	for i := range 3 {
		run.post("s2s.shop", fmt.Sprintf(`{"event_id": "%d", "event_type": "order_completed", "order": {"total": 1000}, "user": {"email": "p%d@example.com"}}`, i, i))
	}
	before := map[string]string{} // body: id, of one event each
	chats := func(calls []webhookCall, into map[string]string) {
		for _, c := range calls {
			if c.path == "/chat" {
				into[c.body] = c.id
			}
		}
	}
	until(t, "an event was not tried", func() bool {
		_, failed := at.calls()
		chats(failed, before)
		return len(before) > 0
	})
	run.stop()
	at.answers(http.StatusOK)
	startService(t, cfg()).settle()
	got, _ := at.calls()
	after := map[string]string{}
	chats(got, after)
	if len(after) != 3 {
		t.Fatalf("%d lines of chat, want 3: %+v", len(after), got)
	}
	for body, id := range before {
		if after[body] != id {
			t.Errorf("%s: id %s, after the restart %s", body, id, after[body])
		}
	}
}

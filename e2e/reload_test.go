package e2e

import (
	"bytes"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestHangup: a token that is put right in the file and told with SIGHUP delivers what waits; the process stays the same, and so do its connections.
func TestHangup(t *testing.T) {
	t.Parallel()
	h := newHub(t, sandbox.Options{})
	dir := t.TempDir()
	config := configure(t, dir, h.url)
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(from, to string) {
		t.Helper()
		text := bytes.Replace(good, []byte(from), []byte(to), 1)
		if err := os.WriteFile(config, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(accessToken, "pat-of-yesterday")
	p := start(t, config)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	accepted := func() {
		t.Helper()
		if status, answer, err := post(client, p.url, `{"event_type":"user_identify","user":{"email":"ada@example.com"}}`); status != http.StatusOK {
			t.Fatal(status, answer, err)
		}
	}
	until := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(20 * time.Millisecond) { // polls another process
			if time.Now().After(deadline) {
				t.Fatalf("not after 20 s: %s", what)
			}
		}
	}
	accepted()
	until("the lane is blocked", func() bool { _, ready := p.get("/readyz"); return strings.Contains(ready, `"blocked"`) })

	hangup := func() {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	rewrite("access_token", "acces_token") // first a mistake
	hangup()
	until("the mistake is told", func() bool { return strings.Contains(p.log.String(), `unknown key \"acces_token\"`) })
	accepted()
	rewrite("", "")
	hangup()
	until("the contact", func() bool { _, ok := h.Contact("ada@example.com"); return ok })
	accepted()
	p.drain(30 * time.Second)
	if log := p.log.String(); !strings.Contains(log, "destination crm: hubspot.access_token changed") || strings.Contains(log, "pat-of-yesterday") || strings.Contains(log, accessToken) {
		t.Errorf("log:\n%s", log)
	}
	if err := p.terminate(); err != nil {
		t.Errorf("the router ended with %v", err)
	}
	searchSecrets(t, dir, config)
}

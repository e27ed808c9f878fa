// Package hubspotclient drives the sandbox with HubSpot's official client for Node.js, so that the sandbox is judged by code that
// was written for the real API.
package hubspotclient

import (
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestOfficialClient runs client.test.mjs against sandboxes on the loopback interface. It needs Node.js 20 or later, and the npm registry the
// first time.
func TestOfficialClient(t *testing.T) {
	if testing.Short() {
		t.Skip("needs Node.js and npm packages")
	}
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not in the path: install Node.js 20 or later, or run go test -short to leave this test out", tool)
		}
	}
	for _, file := range []string{"client.test.mjs", "package-lock.json"} {
		if _, err := os.Stat(file); err != nil { // also tells go test that a cached result depends on them
			t.Fatal(err)
		}
	}
	// npm writes this file last.
	if _, err := os.Stat("node_modules/.package-lock.json"); errors.Is(err, os.ErrNotExist) {
		run(t, nil, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	}
	serve := func(o sandbox.Options) string {
		o.Token = "pat-na1-test"
		srv := httptest.NewServer(sandbox.New(o))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	run(
		t,
		[]string{
			"SANDBOX_URL=" + serve(sandbox.Options{Hubs: sandbox.Hubs(1001, 2), Apps: []sandbox.App{{
				ClientID: "cid", ClientSecret: "csecret", Name: "Shop", RedirectURLs: []string{"http://localhost:8080/cb"},
				Scopes: []string{"crm.objects.contacts.read", "crm.objects.contacts.write"}, OptionalScopes: []string{"analytics.behavioral_events.send"},
			}}}),
			"SANDBOX_BURST_URL=" + serve(sandbox.Options{Burst: 1}),
			"SANDBOX_DAILY_URL=" + serve(sandbox.Options{Daily: 1}),
			"SANDBOX_ENDPOINTS=" + strings.Join(sandbox.Endpoints(), " "),
		},
		"node", "--test", "--test-reporter=spec", "client.test.mjs",
	)
}

// run fails the test with the command's output unless it exits with 0.
func run(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	t.Logf("%s %v:\n%s", name, args, out)
}

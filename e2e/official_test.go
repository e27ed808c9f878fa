package e2e

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// TestOfficialClient: HubSpot's official client for Node.js drives the sandbox (hubspot-client/client.test.mjs), so that the sandbox is judged by code that was written for the real API.
func TestOfficialClient(t *testing.T) {
	t.Parallel()
	serve := func(o sandbox.Options) string {
		o.Token = "pat-na1-test"
		srv := httptest.NewServer(sandbox.New(o))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	cmd := exec.CommandContext(t.Context(), "node", "--test", "--test-reporter=spec", "client.test.mjs")
	cmd.Dir = "hubspot-client"
	cmd.Env = append(
		os.Environ(),
		"SANDBOX_URL="+serve(sandbox.Options{Hubs: sandbox.Hubs(1001, 2), Apps: []sandbox.App{{
			ClientID: "cid", ClientSecret: "csecret", Name: "Shop", RedirectURLs: []string{"http://localhost:8080/cb"},
			Scopes: []string{"crm.objects.contacts.read", "crm.objects.contacts.write"}, OptionalScopes: []string{"analytics.behavioral_events.send"},
		}}}),
		"SANDBOX_BURST_URL="+serve(sandbox.Options{Burst: 1}),
		"SANDBOX_DAILY_URL="+serve(sandbox.Options{Daily: 1}),
		"SANDBOX_ENDPOINTS="+strings.Join(sandbox.Endpoints(), " "),
	)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: run e2e/install.sh\n%s", err, out)
	}
	t.Logf("%s", out)
}

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

func events(h hub, name string) []sandbox.Event {
	var found []sandbox.Event
	for _, e := range h.Events() {
		if e.EventName == "pe"+hubID+"_"+name {
			found = append(found, e)
		}
	}
	return found
}

// want compares some properties.
func want(t *testing.T, what string, got map[string]string, pairs ...string) {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got[pairs[i]] != pairs[i+1] {
			t.Errorf("%s: %s is %q, want %q", what, pairs[i], got[pairs[i]], pairs[i+1])
		}
	}
}

// TestNodeSDK: Jitsu's SDK in node, through the router, into HubSpot.
func TestNodeSDK(t *testing.T) {
	t.Parallel()
	h := newHub(t, sandbox.Options{Burst: 190})
	p := start(t, configure(t, t.TempDir(), h.url))
	run(t, "sdk", "node", "node.mjs", p.url, serverSecret)
	p.drain(20 * time.Second)

	c, ok := h.Contact("node.user+sdk@example.com")
	if !ok {
		t.Fatalf("no contact; HubSpot holds %v", h.Contacts())
	}
	want(t, "contact", c.Properties, "email", "node.user+sdk@example.com", "firstname", "Node", "job_title", "CTO", "plan", "pro", "unheard_of", "")
	signups := events(h, "server_signup")
	if len(signups) != 1 {
		t.Fatalf("%d signup events, want 1: %+v", len(signups), h.Events())
	}
	want(t, "event", signups[0].Properties, "plan", "pro", "revenue", "99.9")
	if signups[0].Email != "node.user+sdk@example.com" || signups[0].ContactID != c.ID {
		t.Errorf("the event belongs to %q, contact %q, want contact %s", signups[0].Email, signups[0].ContactID, c.ID)
	}
	for name := range signups[0].Properties {
		if name == "api_key" || name == "source_ip" || name == "src" || name == "utc_time" {
			t.Errorf("envelope field %s reached HubSpot", name)
		}
	}
	if views := events(h, "pageview"); len(views) != 0 {
		t.Errorf("%d page views although the filter leaves them out", len(views))
	}
	_, metrics := p.get("/metrics")
	if got := gauge(metrics, "router_filtered_total"); got != 1 {
		t.Errorf("router_filtered_total is %v, want 1", got)
	}
	if !strings.Contains(metrics, `router_stripped_properties_total{destination="crm",property="unheard_of",reason="unknown"} 1`) {
		t.Error("the metrics do not say that unheard_of was stripped")
	}
}

const page = `<!doctype html><title>Pricing</title><h1>Pricing</h1><button id="buy">Buy</button>
<script>
  window.jitsu = window.jitsu || function () { (window.jitsuQ = window.jitsuQ || []).push(arguments) };
</script>
<script src="/lib.js" data-key="%s" data-tracking-host="%s"></script>
<script>
  jitsu("id", { id: "web-1", email: "web.user@example.com", firstname: "Web", plan: "free" });
  jitsu("track", "web_signup", { plan: "free" });
  document.getElementById("buy").onclick = () => jitsu("track", "purchase", { revenue: 12.5, product: "Widget" });
</script>`

// TestBrowserSDK: Jitsu's snippet in a real browser, from another origin.
func TestBrowserSDK(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs chromium: run e2e/install.sh")
	}
	lib, err := os.ReadFile("sdk/node_modules/@jitsu/sdk-js/dist/web/lib.js")
	if err != nil {
		t.Fatalf("%v: run e2e/install.sh", err)
	}
	h := newHub(t, sandbox.Options{Burst: 190})
	p := start(t, configure(t, t.TempDir(), h.url))
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/lib.js" {
			w.Header().Set("Content-Type", "text/javascript")
			w.Write(lib)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, page, clientSecret, p.url)
	}))
	defer site.Close()

	answers := run(t, "sdk", "node", "browser.mjs", site.URL+"/pricing?utm_source=newsletter", chromium)
	if !strings.Contains(answers, "200") || strings.ContainsAny(answers, "45") {
		t.Errorf("the browser got %s", answers)
	}
	p.drain(20 * time.Second)
	c, ok := h.Contact("web.user@example.com")
	if !ok {
		t.Fatalf("no contact; HubSpot holds %v", h.Contacts())
	}
	want(t, "contact", c.Properties, "firstname", "Web", "plan", "free")
	for _, name := range []string{"web_signup", "purchase"} {
		found := events(h, name)
		if len(found) != 1 {
			t.Fatalf("%d events %s, want 1", len(found), name)
		}
		if found[0].ContactID != c.ID {
			t.Errorf("event %s belongs to contact %q, want %s", name, found[0].ContactID, c.ID)
		}
		want(t, name, found[0].Properties, "hs_page_title", "Pricing", "hs_utm_source", "newsletter")
	}
	want(t, "purchase", events(h, "purchase")[0].Properties, "revenue", "12.5", "product", "Widget")
}

package e2e

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/trial"
)

// client is a program that uses an SDK, and takes its steps as it is told: see sdk/steps.mjs.
type client struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
	log   *lockedBuffer
}

func startClient(t *testing.T, script string, args ...string) *client {
	t.Helper()
	c := &client{t: t, name: script, cmd: exec.Command("node", append([]string{script}, args...)...), log: &lockedBuffer{}}
	c.cmd.Dir = "sdk"
	c.cmd.Stderr = c.log
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.lines = bufio.NewScanner(stdout)
	if err := c.cmd.Start(); err != nil {
		t.Fatalf("%v: run e2e/install.sh", err)
	}
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", c.name, tail(c.log.String(), 3000))
		}
	})
	return c
}

// tell names the next step.
func (c *client) tell(step string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.stdin, step); err != nil {
		c.t.Fatalf("%s, step %s: %v", c.name, step, err)
	}
}

// done waits until the client says that it has taken a step.
func (c *client) done(step string) {
	c.t.Helper()
	timeout := time.AfterFunc(90*time.Second, func() { c.cmd.Process.Kill() })
	defer timeout.Stop()
	for c.lines.Scan() {
		if c.lines.Text() == "done "+step {
			return
		}
	}
	c.t.Fatalf("%s did not finish step %s", c.name, step)
}

// pages are a web site whose pages use one SDK each, unmodified.
func pages(t *testing.T, router string) string {
	t.Helper()
	const head = `<!doctype html><title>Pricing</title><h1>Pricing</h1>`
	const traits = `const traits = (name) => ({ email: name + "@example.com", firstName: name, firstname: name, plan: "pro", unheard_of: "x" });`
	html := map[string]string{
		"/jitsu_1": head + `<script>window.jitsu = window.jitsu || function () { (window.jitsuQ = window.jitsuQ || []).push(arguments) };</script>
<script src="ROUTER/s/lib.js" data-key="CLIENT" data-tracking-host="ROUTER"></script><script>` + traits + `
window.step = (s) => {
  if (s === "first") jitsu("id", { id: "jitsu-1", ...traits("jitsu_1") });
  jitsu("track", "jitsu_1_" + s, { plan: "pro", revenue: 99.9 });
};</script>`,
		"/jitsu_1_old": head + `<script>window.jitsu = window.jitsu || function () { (window.jitsuQ = window.jitsuQ || []).push(arguments) };</script>
<script src="/lib-2.js" data-key="CLIENT" data-tracking-host="ROUTER"></script><script>` + traits + `
window.step = (s) => {
  if (s === "first") jitsu("id", { id: "jitsu-1-old", ...traits("jitsu_1_old") });
  jitsu("track", "jitsu_1_old_" + s, { plan: "pro", revenue: 99.9 });
};</script>`,
		"/jitsu_2": head + `<script src="ROUTER/p.js" data-write-key="shop:CLIENT" data-init-only="true"></script><script>` + traits + `
window.step = async (s) => {
  if (s === "first") {
    await jitsu.identify("jitsu-2", traits("jitsu_2"));
    await jitsu.page();
    await jitsu.group("acme", { name: "Acme" });
  }
  await jitsu.track("Jitsu 2 " + s, { plan: "pro", revenue: 99.9 });
};</script>`,
		"/segment": head + `<script src="/analytics-next.js"></script><script>` + traits + `
const analyticsReady = AnalyticsNext.AnalyticsBrowser.load({ writeKey: "CLIENT", cdnURL: "ROUTER" });
window.step = async (s) => {
  const analytics = (await analyticsReady)[0];
  if (s === "first") {
    analytics.identify("segment-next", traits("segment_next"));
    analytics.page("Pricing");
    analytics.group("acme", { name: "Acme" });
  }
  analytics.track("Segment Next " + s, { plan: "pro", revenue: 99.9 });
};</script>`,
		// Segment's snippet, with the router for its host. The script takes its own address for that of the settings only over HTTPS: _cdn says it here.
		"/segment_snippet": head + `<a href="#">Docs</a><script>
var analytics = window.analytics = [];
analytics.factory = (method) => (...args) => { analytics.push([method, ...args]); return analytics; };
for (const method of ["identify", "track", "page", "group", "ready", "trackLink"]) analytics[method] = analytics.factory(method);
analytics._writeKey = "CLIENT";
analytics._cdn = "ROUTER";
const script = document.createElement("script");
script.async = true;
script.setAttribute("data-global-segment-analytics-key", "analytics");
script.src = "ROUTER/analytics.js/v1/CLIENT/analytics.min.js";
document.head.append(script);
</script><script>` + traits + `
window.step = async (s) => {
  if (s === "first") {
    analytics.identify("segment-snippet", traits("segment_snippet"));
    analytics.page("Pricing");
    analytics.group("acme", { name: "Acme" });
    analytics.trackLink(document.querySelector("a"), "Segment Snippet Clicked"); // a part that it loads when it needs it
    await new Promise((resolve) => analytics.ready(resolve));
  }
  window.analytics.track("Segment Snippet " + s, { plan: "pro", revenue: 99.9 });
};</script>`,
	}
	files := map[string]string{"/lib-2.js": "sdk/node_modules/jitsu-sdk-2/dist/web/lib.js", "/analytics-next.js": "sdk/node_modules/@segment/analytics-next/dist/umd/index.js"}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if file, ok := files[r.URL.Path]; ok {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Errorf("%v: run e2e/install.sh", err)
			}
			w.Header().Set("Content-Type", "text/javascript")
			w.Write(data)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, strings.NewReplacer("CLIENT", clientSecret, "ROUTER", router).Replace(html[r.URL.Path]))
	}))
	t.Cleanup(site.Close)
	return site.URL
}

// TestClients: the SDKs of Jitsu, Segment and RudderStack, unmodified, in node and in a browser. Their events come to HubSpot once each, also
// those that are sent while the router refuses, and those that are sent while it is down. Some of Jitsu's SDKs give up after one try: 2.5.3 and
// @jitsu/js in a browser, and 3.1.5 in node, which never hears of an error (TestNodeSDK). They have the first step only.
func TestClients(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test needs chromium: run e2e/install.sh")
	}
	h := newHub(t, sandbox.Options{Burst: 190})
	address := trial.FreeAddress(t)
	url := "http://" + address
	config := configure(t, t.TempDir(), h.url, "    lanes: {max_bytes: 64KiB}", "    retry: {max_delay: 500ms}")
	set(t, config, "port: 0", "port: "+address[strings.LastIndexByte(address, ':')+1:]+"\n  static_files_dir: "+staticFiles(t))
	p := start(t, config)
	site := pages(t, url)
	clients := []*client{
		startClient(t, "segment_node.mjs", url, serverSecret),
		startClient(t, "rudder_node.mjs", url, serverSecret),
		startClient(t, "jitsu_2_node.mjs", url, "shop:"+serverSecret),
		startClient(t, "browser_sdks.mjs", chromium, site+"/jitsu_1?utm_source=newsletter", site+"/jitsu_1_old", site+"/jitsu_2", site+"/segment", site+"/segment_snippet"),
	}
	persistent := []string{"segment_node", "rudder_node", "jitsu_2_node", "jitsu_1", "segment_next", "segment_snippet"}
	names := append([]string{"jitsu_1_old", "jitsu_2"}, persistent...)
	step := func(step string, names []string, meanwhile func()) {
		t.Helper()
		for _, c := range clients {
			c.tell(step)
		}
		meanwhile()
		for _, c := range clients {
			c.done(step)
		}
		wait(t, time.Minute, func() (missing string) {
			for _, name := range names {
				if len(events(h, name+"_"+step)) == 0 {
					missing += " " + name + "_" + step
				}
			}
			return missing
		})
	}

	step("first", names, func() {})
	step("refused", persistent, refuse(t, h, p))
	p.kill()
	step("down", persistent, func() {
		answerNothing(t, address, 2*len(persistent))
		p = start(t, config)
	})
	for _, c := range clients {
		c.tell("end")
		c.done("end")
	}
	p.drain(20 * time.Second)

	for _, name := range names {
		c, ok := h.Contact(name + "@example.com")
		if !ok {
			t.Errorf("%s: no contact", name)
			continue
		}
		want(t, name, c.Properties, "firstname", name, "plan", "pro", "unheard_of", "")
		for _, step := range []string{"first", "refused", "down"} {
			found := events(h, name+"_"+step)
			if n := len(found); n != 1 && (n > 1 || slices.Contains(persistent, name)) {
				t.Errorf("%s: %d events of step %s, want 1", name, n, step)
			}
			for _, e := range found {
				want(t, name, e.Properties, "plan", "pro", "revenue", "99.9")
				if e.ContactID != c.ID {
					t.Errorf("%s: the event of step %s belongs to contact %q, want %s", name, step, e.ContactID, c.ID)
				}
			}
		}
		if strings.HasPrefix(name, "jitsu_1") {
			continue // has no groups, and its page views come before the person is known
		}
		for _, kind := range []string{"pageview", "group"} {
			n := 0
			for _, e := range events(h, kind) {
				if e.ContactID == c.ID {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%s: %d events %s, want 1", name, n, kind)
			}
		}
	}
}

// set replaces a text of a configuration.
func set(t *testing.T, config, text, by string) {
	t.Helper()
	data, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, []byte(strings.Replace(string(data), text, by, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// staticFiles is a folder of the scripts that the router itself serves: Jitsu's second SDK posts to where it was loaded from.
func staticFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{
		"lib.js": "@jitsu/sdk-js/dist/web/lib.js", "p.js": "@jitsu/js/dist/web/p.js.txt",
		"analytics.min.js": "@segment/analytics-next/dist/umd/standalone.js",
	}
	bundles, err := filepath.Glob("sdk/node_modules/@segment/analytics-next/dist/umd/*.bundle.*.js")
	if err != nil || len(bundles) == 0 {
		t.Fatalf("no parts of Segment's script, %v: run e2e/install.sh", err)
	}
	for _, path := range bundles {
		files[filepath.Base(path)] = strings.TrimPrefix(path, "sdk/node_modules/")
	}
	for name, from := range files {
		data, err := os.ReadFile("sdk/node_modules/" + from)
		if err != nil {
			t.Fatalf("%v: run e2e/install.sh", err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// refuse fills the router's lanes, while HubSpot fails, until it answers 503 to all. It returns what ends that, once clients have been refused.
func refuse(t *testing.T, h hub, p *process) (recover func()) {
	t.Helper()
	clear := h.Inject(sandbox.Fault{Endpoint: "*", Status: 503})
	for n := 0; ; n++ {
		fill := make([]byte, 15_000) // random, as lanes are compressed
		rand.Read(fill)
		if n == 200 {
			t.Fatal("the router still accepts events although its lanes are full")
		}
		status, answer, err := post(http.DefaultClient, p.url, fmt.Sprintf(`{"event_type":"ballast","user":{"email":"ballast@example.com"},"n":%d,"fill":"%x"}`, n, fill))
		if err != nil {
			t.Fatal(err)
		}
		if status == http.StatusServiceUnavailable {
			break
		}
		if status != http.StatusOK {
			t.Fatalf("the router answered %d %s", status, answer)
		}
		time.Sleep(50 * time.Millisecond) // another process takes notice of its lanes
	}
	const refused = `router_requests_rejected_total{reason="refused"}`
	_, metrics := p.get("/metrics")
	before := gauge(metrics, refused)
	return func() {
		wait(t, 20*time.Second, func() string {
			_, metrics := p.get("/metrics")
			if n := gauge(metrics, refused) - before; n < 7 {
				return fmt.Sprintf("clients that were refused: %v so far", n)
			}
			return ""
		})
		clear()
	}
}

// answerNothing closes every connection to address until there have been some.
func answerNothing(t *testing.T, address string, connections int) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	timeout := time.AfterFunc(20*time.Second, func() { ln.Close() })
	defer timeout.Stop()
	for range connections {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		conn.Close()
	}
}

// wait polls other processes until nothing is missing.
func wait(t *testing.T, most time.Duration, missing func() string) {
	t.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(50 * time.Millisecond) {
		what := missing()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still missing: %s", most, what)
		}
	}
}

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
	"eventrouter/pkg/trial"
)

// TestPrometheus: a real Prometheus scrapes the router and answers a question about it, and its own checker finds nothing wrong with the page.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"prometheus", "promtool"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test needs %s: run e2e/install.sh", tool)
		}
	}
	h := newHub(t, sandbox.Options{Burst: 190})
	p := start(t, configure(t, t.TempDir(), h.url))
	for i := range 3 {
		body := fmt.Sprintf(`{"event_type":"user_identify","user":{"email":"m%d@example.com"}}`, i)
		if status, answer, err := post(http.DefaultClient, p.url, body); status != http.StatusOK {
			t.Fatal(status, answer, err)
		}
	}
	p.drain(20 * time.Second)

	_, page := p.get("/metrics")
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(page)
	if out, err := check.CombinedOutput(); err != nil && !onlyJitsuNames(out) {
		t.Errorf("promtool: %v\n%s", err, out)
	}
	if status, _ := p.get("/prometheus"); status != http.StatusOK {
		t.Errorf("Jitsu's /prometheus answers %d", status)
	}

	dir := t.TempDir()
	config := fmt.Sprintf(`
global: {scrape_interval: 200ms}
scrape_configs:
  - job_name: router
    metrics_path: /metrics
    authorization: {credentials: adm-planted}
    static_configs: [{targets: ["%s"]}]
`, strings.TrimPrefix(p.url, "http://"))
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := trial.FreeAddress(t)
	var log bytes.Buffer
	prometheus := exec.Command("prometheus", "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(dir, "tsdb"),
		"--web.listen-address", address)
	prometheus.Stdout, prometheus.Stderr = &log, &log
	if err := prometheus.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		prometheus.Process.Kill()
		prometheus.Wait()
	}()
	query := `sum by (destination, lane) (router_delivered_total)`
	deadline := time.Now().Add(30 * time.Second)
	for {
		answer := ask(address, query)
		if strings.Contains(answer, `"destination":"crm"`) && strings.Contains(answer, `"3"`) {
			return
		}
		if time.Now().After(deadline) {
			prometheus.Process.Kill()
			prometheus.Wait()
			t.Fatalf("Prometheus answers %s\n%s", answer, log.String())
		}
		time.Sleep(100 * time.Millisecond) // polls another process
	}
}

// onlyJitsuNames says whether promtool's complaints are only about the names that Jitsu gave its counters, which dashboards rely on.
func onlyJitsuNames(out []byte) bool {
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, "eventnative_") {
			return false
		}
	}
	return true
}

func ask(address, query string) string {
	res, err := http.Get("http://" + address + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || !json.Valid(body) {
		return fmt.Sprintf("%v %s", err, body)
	}
	return string(body)
}

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/destinations/hubspot/sandbox"
)

// binary is the router, built once for all tests, or that of E2E_ROUTER, which make builds for all packages of tests.
var binary string

func TestMain(m *testing.M) {
	if become := children[os.Getenv(childEnv)]; become != nil {
		fmt.Fprintln(os.Stderr, become())
		os.Exit(1)
	}
	flag.Parse()
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=50") // the race detector lets a process that ends wait for a second, and here many do
	}
	dir, err := os.MkdirTemp("", "router-e2e-")
	asPeopleRunIt := *soakFor > 0 || *fullOverload // or their figures would be those of the race detector
	if binary = os.Getenv("E2E_ROUTER"); err == nil && (binary == "" || asPeopleRunIt) {
		binary = filepath.Join(dir, "router")
		args := []string{"build", "-race", "-ldflags=-w", "-o", binary, "../cmd/router"} // nobody debugs it
		if asPeopleRunIt {
			args = []string{"build", "-o", binary, "../cmd/router"}
		}
		build := exec.Command("go", args...)
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		err = build.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the router:", err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

const (
	hubID        = "20546336"
	accessToken  = "pat-na1-1c9d2f3e-planted"
	clientSecret = "js.planted-secret"
	serverSecret = "s2s.planted-secret"
)

// childEnv is the variable that makes the test binary be something else than a test; children are what, by its value.
const childEnv = "E2E_CHILD"

var children = map[string]func() error{}

// hub is a HubSpot sandbox on loopback.
type hub struct {
	*sandbox.Sandbox
	url string
}

func newHub(t *testing.T, o sandbox.Options) hub {
	t.Helper()
	o.HubID, o.Token = hubID, accessToken
	o.Properties = append(o.Properties,
		sandbox.Property{Name: "plan", Label: "Plan", Type: "string", FieldType: "text", GroupName: "contactinformation"},
		sandbox.Property{Name: "job_title", Label: "Job title", Type: "string", FieldType: "text", GroupName: "contactinformation"},
		sandbox.Property{Name: "seq", Label: "Seq", Type: "number", FieldType: "number", GroupName: "contactinformation"},
	)
	h := sandbox.New(o)
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return hub{h, srv.URL}
}

// process is a router that runs on a directory.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	url string
	log *lockedBuffer

	exited chan struct{}
	err    error // once exited is closed
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// configure writes a configuration into dir and returns its path.
func configure(t *testing.T, dir, hubspotURL string, more ...string) string {
	t.Helper()
	text := fmt.Sprintf(`
server:
  host: 127.0.0.1
  port: 0
  data_dir: %s
  admin_token: adm-planted
  min_free_bytes: 1MiB
api_keys:
  - {id: shop, client_secret: %s, server_secret: %s}
destinations:
  crm:
    type: hubspot
    mode: stream
    hubspot:
      access_token: %s
      hub_id: "%s"
      base_url: %s
      late_after: 2s
    data_layout:
      table_name_template: '$.page_title == "Home" ? "" : $.event_type'
%s`, filepath.Join(dir, "data"), clientSecret, serverSecret, accessToken, hubID, hubspotURL, strings.Join(more, "\n"))
	path := filepath.Join(dir, "router.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs router serve and waits until it listens.
func start(t *testing.T, config string) *process {
	t.Helper()
	return startCommand(t, exec.Command(binary, "serve", "--config", config))
}

// startCommand runs a command that becomes router serve, and waits until that listens.
func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, log: &lockedBuffer{}, exited: make(chan struct{})}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.log.Write(append(lines.Bytes(), '\n'))
			var entry struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "router is ready" {
				address <- entry.Address
			}
		}
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.exited
		if strings.Contains(p.log.String(), "WARNING: DATA RACE") { // the exit code says so only of those that are not killed
			t.Error("the router has a data race")
		}
		if t.Failed() {
			t.Logf("the router's log:\n%s", tail(p.log.String(), 6000))
		}
	})
	select {
	case a := <-address:
		p.url = "http://" + a
	case <-p.exited:
		t.Fatalf("the router ended: %v\n%s", p.err, p.log)
	case <-time.After(30 * time.Second):
		t.Fatalf("the router does not listen after 30 s\n%s", p.log)
	}
	return p
}

func tail(s string, n int) string { return s[max(len(s)-n, 0):] }

// kill is kill -9.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.exited
}

// terminate sends SIGTERM and returns how the process ended.
func (p *process) terminate() error {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.exited:
		return p.err
	case <-time.After(30 * time.Second):
		p.t.Fatal("the router still runs 30 s after SIGTERM")
		return nil
	}
}

// get fetches a page of the router with the admin token.
func (p *process) get(path string) (int, string) {
	p.t.Helper()
	req, _ := http.NewRequest(http.MethodGet, p.url+path, nil)
	req.Header.Set("X-Admin-Token", "adm-planted")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// post sends one body as an application with the server secret does. It returns the status, or the error of a connection that broke.
func post(client *http.Client, url, body string) (int, string, error) {
	res, err := client.Post(url+"/api/v1/s2s/event?token="+serverSecret, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, string(answer), err
}

// drain waits until the router has nothing left to deliver.
func (p *process) drain(most time.Duration) {
	p.t.Helper()
	deadline := time.Now().Add(most)
	for {
		_, metrics := p.get("/metrics")
		left := gauge(metrics, "router_log_unsorted_records") + gauge(metrics, "router_lane_entries") + gauge(metrics, "router_accounts_entries")
		if left == 0 && strings.Contains(metrics, "router_log_unsorted_records") {
			return
		}
		if time.Now().After(deadline) {
			_, ready := p.get("/readyz")
			p.t.Fatalf("%v entries are not delivered after %s: %s", left, most, ready)
		}
		time.Sleep(50 * time.Millisecond) // polls another process
	}
}

// gauge sums the samples of a metric on a Prometheus page.
func gauge(page, name string) float64 {
	total := 0.0
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		var v float64
		fmt.Sscan(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:], &v)
		total += v
	}
	return total
}

// run is a command that must succeed.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s\n(e2e/install.sh installs what the tests need)", name, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// clientFor is an application of its own.
func clientFor(t *testing.T) *http.Client {
	t.Helper()
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

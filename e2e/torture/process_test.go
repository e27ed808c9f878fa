package torture

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"eventrouter/pkg/trial"
)

const (
	hubID        = "20546336"
	accessToken  = "pat-na1-torture-planted"
	clientSecret = "js.torture-planted"
	serverSecret = "s2s.torture-planted"
	adminToken   = "adm-torture-planted"

	encryptionKey = "dG9ydHVyZS10b3J0dXJlLXRvcnR1cmUtdG9ydHVyZSE=" // 32 bytes

	// lateness is how late the sandbox carries out a call at most; lateAfter covers that, what proxies hold a call up, and a busy machine.
	lateness  = time.Second
	lateAfter = 2 * time.Second
)

// process is the router: one directory and address, one process after the other.
type process struct {
	t       *testing.T
	dir     string
	address string
	hubspot string // the address of the proxy before the sandbox
	sealed  bool   // what is in the directory is encrypted
	log     *os.File

	mended  bool // the transform that is in force takes what the other one throws on
	version int  // of the configuration

	cmd    *exec.Cmd
	ready  chan struct{} // closed when it listens
	exited chan struct{} // closed when it has ended; err says how
	err    error

	mu     sync.Mutex // guards errors
	errors []string   // what it logged as an error, since the first start
}

func newProcess(t *testing.T, dir, hubspot string, sealed bool) *process {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(dir, "router.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, dir: dir, address: trial.FreeAddress(t), hubspot: hubspot, sealed: sealed, log: log}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.cmd.Process.Kill()
			<-p.exited
		}
		log.Close()
	})
	p.configure(false)
	return p
}

func (p *process) config() string { return filepath.Join(p.dir, "router.yaml") }
func (p *process) data() string   { return filepath.Join(p.dir, "data") }

// configure writes the configuration; each time something in it is new.
func (p *process) configure(mended bool) {
	p.t.Helper()
	p.version++
	p.mended = mended
	transform := `if ($.boom) throw new Error("boom")`
	if mended {
		transform = `if ($.user?.email?.endsWith("@-bad.example")) return {...$, user: {...$.user, email: $.user.email.replace("@-bad", "@mended")}}`
	}
	encryption := "{}"
	if p.sealed {
		encryption = fmt.Sprintf("{key: %q}", encryptionKey)
	}
	text := fmt.Sprintf(`
server:
  host: 127.0.0.1
  port: %s
  data_dir: %s
  admin_token: %s
  min_free_bytes: 1MiB
  grace: 2s
  encryption: %s
  events_cache: {capacity: 0}
api_keys:
  - {id: shop, client_secret: %s, server_secret: %s}
destinations:
  crm:
    type: hubspot
    hubspot:
      access_token: %s
      hub_id: "%s"
      base_url: %s
      late_after: %s
    data_layout:
      transform: |
        // version %d
        %s
        return $
    filter: {not: {event_type: noise}}
    retry: {max_delay: %dms}
`, p.address[strings.LastIndexByte(p.address, ':')+1:], p.data(), adminToken, encryption, clientSecret, serverSecret, accessToken, hubID, p.hubspot, lateAfter,
		p.version, transform, 500+p.version)
	if err := os.WriteFile(p.config()+".new", []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.config()+".new", p.config()); err != nil {
		p.t.Fatal(err)
	}
}

// start runs the router and does not wait for it.
func (p *process) start() {
	p.t.Helper()
	cmd := exec.Command(binary, "serve", "--config", p.config())
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=50")
	dieWithUs(cmd)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	fmt.Fprintf(p.log, "--- %s: process %d\n", time.Now().UTC().Format(time.RFC3339Nano), cmd.Process.Pid)
	ready, exited := make(chan struct{}), make(chan struct{})
	p.cmd, p.ready, p.exited = cmd, ready, exited
	go func() {
		lines := bufio.NewReader(stderr)
		for {
			line, err := lines.ReadBytes('\n')
			p.log.Write(line)
			var logged struct{ Level, Msg string }
			if json.Unmarshal(line, &logged) == nil {
				if logged.Msg == "router is ready" {
					close(ready)
				}
				if logged.Level == "ERROR" {
					p.mu.Lock()
					p.errors = append(p.errors, string(line))
					p.mu.Unlock()
				}
			}
			if err != nil {
				break
			}
		}
		p.err = cmd.Wait()
		close(exited)
	}()
}

// wait ends when the router listens, or fails the test.
func (p *process) wait() {
	p.t.Helper()
	select {
	case <-p.ready:
	case <-p.exited:
		p.t.Fatalf("the router ended at its start: %v\n%s", p.err, p.tail())
	case <-time.After(60 * time.Second):
		p.t.Fatalf("the router does not listen after 60 s\n%s", p.tail())
	}
}

// alive fails the test if the router has ended by itself.
func (p *process) alive() {
	p.t.Helper()
	select {
	case <-p.exited:
		p.t.Fatalf("the router ended by itself: %v\n%s", p.err, p.tail())
	default:
	}
}

// kill is kill -9.
func (p *process) kill() {
	p.t.Helper()
	p.alive()
	p.cmd.Process.Kill()
	<-p.exited
}

// terminate is SIGTERM.
func (p *process) terminate() {
	p.t.Helper()
	p.alive()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		if p.err != nil {
			p.t.Fatalf("the router ended with %v after SIGTERM\n%s", p.err, p.tail())
		}
	case <-time.After(30 * time.Second):
		p.t.Fatalf("the router still runs 30 s after SIGTERM\n%s", p.tail())
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.alive()
		p.t.Fatal(err)
	}
}

// tail is the end of the router's log.
func (p *process) tail() string {
	text, _ := os.ReadFile(p.log.Name())
	return string(text[max(len(text)-4000, 0):])
}

// call asks the router itself, past the proxies, with the admin token.
func (p *process) call(method, path, body string) (int, string, error) {
	req, err := http.NewRequest(method, "http://"+p.address+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("X-Admin-Token", adminToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	return res.StatusCode, string(answer), err
}

// metrics returns the page of metrics; "" while the router is down.
func (p *process) metrics() string {
	status, page, err := p.call(http.MethodGet, "/metrics", "")
	if err != nil || status != http.StatusOK {
		return ""
	}
	return page
}

// gauge sums the samples of a metric whose labels hold a text.
func gauge(page, name, label string) (total float64) {
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' || !strings.Contains(rest, label) {
			continue
		}
		var v float64
		fmt.Sscan(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:], &v)
		total += v
	}
	return total
}

// drain waits until nothing is left to deliver.
func (p *process) drain(most time.Duration) {
	p.t.Helper()
	for deadline := time.Now().Add(most); ; time.Sleep(100 * time.Millisecond) { // polls another process
		p.alive()
		page := p.metrics()
		left := gauge(page, "router_log_unsorted_records", "") + gauge(page, "router_lane_entries", "")
		if page != "" && left == 0 {
			return
		}
		if time.Now().After(deadline) {
			_, ready, _ := p.call(http.MethodGet, "/readyz", "")
			p.t.Fatalf("%v entries are not delivered %s after all faults: %s\n%s", left, most, ready, p.tail())
		}
	}
}

package docs

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"eventrouter/pkg/seal"
)

// runRouter runs the router and returns what it printed and its exit code.
func runRouter(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	var buf bytes.Buffer
	cmd := exec.Command(binary(), args...)
	cmd.Stdout, cmd.Stderr = &buf, &buf
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return buf.String(), cmd.ProcessState.ExitCode()
}

// deployment is a router and a sandbox as the README sets them up, on ports of their own.
type deployment struct {
	dir         string
	router, hub string // addresses
	env         []string
}

// readmeConfig is the router.yaml of the README.
func readmeConfig(t *testing.T) string {
	t.Helper()
	text := load(t, "../README.md").config()
	if text == "" {
		t.Fatal("the README has no router.yaml")
	}
	return text
}

// config is the router.yaml of a page, if it has one.
func (p *page) config() string {
	for _, b := range p.blocks {
		if b.is("yaml", "file=router.yaml") {
			return b.text
		}
	}
	return ""
}

// served starts both with the README's configuration; they end with the test. edits are pairs of what stands there and what is to stand there.
func served(t *testing.T, edits ...string) *deployment {
	t.Helper()
	return servedWith(t, readmeConfig(t), edits...)
}

// servedWith is served with a configuration that names the sandbox, or HubSpot itself by naming nothing.
func servedWith(t *testing.T, text string, edits ...string) *deployment {
	t.Helper()
	d := &deployment{dir: t.TempDir()}
	sandbox := exec.Command(binary(), "sandbox", "--addr", "127.0.0.1:0")
	d.hub = d.start(t, sandbox, regexp.MustCompile(`at http://(\S+),`))
	if !strings.Contains(text, "base_url") {
		edits = append(edits, "    hubspot:\n", "    hubspot:\n      base_url: http://"+d.hub+"\n")
	}
	text = strings.NewReplacer(append(edits, "http://127.0.0.1:8002", "http://"+d.hub)...).Replace(text)
	serve := exec.Command(binary(), "serve", "--config", "router.yaml")
	port := "0"
	if strings.Contains(text, "http://localhost:8001/") { // browsers are sent back there
		port = freePort(t)
		text = strings.ReplaceAll(text, "localhost:8001", "127.0.0.1:"+port)
	}
	if strings.Contains(text, "key_file: encryption.key") {
		if err := os.WriteFile(filepath.Join(d.dir, "encryption.key"), []byte(seal.NewKey()+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.write(t, withServer(text, port))
	d.router = d.start(t, serve, regexp.MustCompile(`"router is ready","address":"([^"]+)"`))
	return d
}

// withServer is a configuration whose server is one for tests, at a port; "0" is any.
func withServer(text, port string) string {
	if before, after, ok := strings.Cut(text, "server:\n"); ok {
		return before + "server:\n  min_free_bytes: 1MiB\n  host: 127.0.0.1\n  port: " + port + "\n" + after
	}
	return text + "\nserver: {host: 127.0.0.1, port: " + port + ", min_free_bytes: 1MiB}\n"
}

// freePort is one where nobody listens for now.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

func (d *deployment) write(t *testing.T, config string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, "router.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start runs cmd until the test ends and returns the address that it prints.
func (d *deployment) start(t *testing.T, cmd *exec.Cmd, address *regexp.Regexp) string {
	t.Helper()
	cmd.Dir = d.dir
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	found := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			if m := address.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-done
		cmd.Wait()
		r.Close()
	})
	select {
	case a := <-found:
		return a
	case <-time.After(30 * time.Second):
		t.Fatalf("%v does not say where it listens", cmd.Args)
		return ""
	}
}

// get fetches a page of the router.
func (d *deployment) get(t *testing.T, path string) string {
	t.Helper()
	res, err := http.Get("http://" + d.router + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", path, res.Status, body, err)
	}
	return string(body)
}

// shell runs a script as a reader would type it: the router is on the path.
func (d *deployment) shell(script string) (string, error) {
	script = strings.NewReplacer("localhost:8001", d.router, "localhost:8002", d.hub).Replace(script)
	cmd := exec.Command("bash", "-eu", "-o", "pipefail", "-c", script)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary())+":"+os.Getenv("PATH"))
	cmd.Env = append(cmd.Env, d.env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, errs.String())
	}
	return out.String(), err
}

// TestExamples runs the shell examples of each page in their order.
func TestExamples(t *testing.T) {
	for _, p := range loadAll(t) {
		t.Run(filepath.Base(p.path), func(t *testing.T) {
			t.Parallel()
			var live *deployment
			text := cmp.Or(p.config(), readmeConfig(t))
			alone := &deployment{dir: t.TempDir()}
			alone.write(t, text)
			for i, b := range p.blocks {
				on := alone
				switch {
				case b.is("sh", "run"):
				case b.is("sh", "served"):
					if live == nil {
						live = servedWith(t, text)
					}
					on = live
				default:
					continue
				}
				want := ""
				if i+1 < len(p.blocks) && p.blocks[i+1].is("text", "output") {
					want = strings.TrimSpace(p.blocks[i+1].text)
				}
				example(t, on, b, want)
			}
			for _, b := range p.blocks {
				if b.is("yaml", "ci") {
					runCI(t, alone, &b)
				}
			}
			if live != nil {
				sdk(t, live, p)
			}
		})
	}
}

// runCI runs the steps of a job of CI that call the router, with a process environment that knows no secrets.
func runCI(t *testing.T, on *deployment, b *block) {
	t.Helper()
	var file struct {
		Jobs map[string]struct {
			Steps []struct{ Run string }
		}
	}
	if err := yaml.Unmarshal([]byte(b.text), &file); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	n := 0
	for _, job := range file.Jobs {
		for _, step := range job.Steps {
			if !strings.HasPrefix(step.Run, "router ") {
				continue
			}
			n++
			if out, err := on.shell(step.Run); err != nil {
				t.Errorf("%s: %s: %v\n%s", b, step.Run, err, out)
			}
		}
	}
	if n == 0 {
		t.Errorf("%s: no step calls the router", b)
	}
}

// TestCommands: commands and flags in shell examples exist, those too that are not run because they would go on for ever.
func TestCommands(t *testing.T) {
	t.Parallel()
	help := map[string]string{}
	n := 0
	for _, p := range loadAll(t) {
		for _, b := range p.blocks {
			if b.lang != "sh" {
				continue
			}
			if out, err := exec.Command("bash", "-n", "-c", b.text).CombinedOutput(); err != nil {
				t.Errorf("%s: %s", &b, out)
			}
			for line := range strings.Lines(b.text) {
				words, ok := strings.CutPrefix(line, "router ")
				if !ok {
					continue
				}
				n++
				command, flags, _ := strings.Cut(words, " --")
				command = strings.TrimSpace(command)
				if help[command] == "" {
					help[command], _ = runRouter(t, append(strings.Fields(command), "--help")...)
				}
				for _, flag := range strings.Fields("--" + flags) {
					if strings.HasPrefix(flag, "--") && flag != "--" && !strings.Contains(help[command], flag) {
						t.Errorf("%s: router %s has no %s", &b, command, flag)
					}
				}
				if !strings.Contains(help[command], "Usage: router "+command) {
					t.Errorf("%s: there is no command %s", &b, command)
				}
			}
		}
	}
	if n < 8 {
		t.Errorf("the pages have %d commands", n)
	}
}

// example runs one example until it prints what the page shows: what it asks for may be on its way.
func example(t *testing.T, on *deployment, b block, want string) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		out, err := on.shell(b.text)
		if err == nil && (want == "" || prints(strings.TrimSpace(out), want)) {
			return
		}
		if time.Now().After(deadline) || strings.Contains(b.text, " -d ") {
			t.Errorf("%s: %v\n got %s\nwant %s", &b, err, out, want)
			return
		}
		time.Sleep(100 * time.Millisecond) // polls other processes
	}
}

// prints says whether out is what a page shows, where "..." stands for any text.
func prints(out, want string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(want), `\.\.\.`, `.*?`)
	return regexp.MustCompile(`(?s)^` + pattern + `$`).MatchString(out)
}

// sdk runs the examples in JavaScript with Jitsu's SDK, if the end-to-end tests have installed it.
func sdk(t *testing.T, on *deployment, p *page) {
	t.Helper()
	modules, err := filepath.Abs("../e2e/sdk/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	node, err := exec.LookPath("node")
	if _, statErr := os.Stat(filepath.Join(modules, "@jitsu")); err != nil || statErr != nil {
		return
	}
	for _, b := range p.blocks {
		if !b.is("js", "sdk") {
			continue
		}
		if err := os.Symlink(modules, filepath.Join(on.dir, "node_modules")); err != nil {
			t.Fatal(err)
		}
		script := filepath.Join(on.dir, "example.mjs")
		if err := os.WriteFile(script, []byte(strings.ReplaceAll(b.text, "localhost:8001", on.router)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(node, script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", &b, err, out)
		}
		example(t, on, block{page: p, line: b.line, text: `curl -s 'http://localhost:8002/_sandbox/contacts?email=grace@example.com' | grep -o Grace | head -1`}, "Grace")
	}
}

// TestDemo: the README shows what the demo prints.
func TestDemo(t *testing.T) {
	t.Parallel()
	out, code := runRouter(t, "demo", "--once", "--addr", "127.0.0.1:0", "--hubspot", "127.0.0.1:0")
	if code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	printed := map[string]bool{}
	for line := range strings.Lines(out) {
		printed[demoLine(line)] = true
	}
	shown := 0
	for _, b := range load(t, "../README.md").blocks {
		if !b.is("text", "demo") {
			continue
		}
		for line := range strings.Lines(b.text) {
			shown++
			if !printed[demoLine(line)] {
				t.Errorf("%s: the demo does not print %q", &b, line)
			}
		}
	}
	if shown < 10 {
		t.Errorf("the README shows %d lines of the demo", shown)
	}
}

// demoLine is a line without what differs from run to run: which contacts are the first.
func demoLine(line string) string {
	line = strings.TrimSpace(line)
	if strings.Contains(line, "@example.com  firstname=") {
		return "a contact"
	}
	return line
}

// TestExitCodes checks the README's table.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	d := served(t)
	f := func(want int, args ...string) {
		t.Helper()
		cmd := exec.Command(binary(), args...)
		cmd.Dir = d.dir
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("router %s: exit %d, want %d\n%s", strings.Join(args, " "), got, want, out)
		}
	}
	f(0, "version")
	f(0, "check", "--config", "router.yaml")
	f(1, "serve", "--config", "router.yaml") // the directory is in use
	f(2, "check", "--config", "missing.yaml")
	f(2, "serve", "--no-such-flag")
	var codes []string
	for _, row := range load(t, "../README.md").tableUnder(t, "Exit codes").rows {
		codes = append(codes, row[0])
	}
	if got := strings.Join(codes, " "); got != "0 1 2" {
		t.Errorf("the README lists exit codes %s", got)
	}
}

// TestReady: what operating.md says of /readyz.
func TestReady(t *testing.T) {
	t.Parallel()
	d := served(t)
	var status struct {
		Status string
		Lanes  []struct{ State string }
	}
	if err := json.Unmarshal([]byte(d.get(t, "/readyz")), &status); err != nil || status.Status != "ok" {
		t.Errorf("%+v %v", status, err)
	}
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child is a router in a process of its own, as people run it: its memory and its time are its own.
type child struct {
	cmd     *exec.Cmd
	url     string
	started time.Time
	ready   time.Duration // from its start until it listened
}

// buildRouter builds the program and returns its path.
func buildRouter(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "router")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		tb.Fatalf("build the router: %v\n%s", err, out)
	}
	return path
}

// startChild starts the program with a configuration file, and waits until it listens.
func startChild(tb testing.TB, binary, config string) *child {
	tb.Helper()
	return begin(tb, exec.Command(binary, "serve", "--config", config))
}

// begin starts a router and waits until it listens. It is killed when the test ends.
func begin(tb testing.TB, cmd *exec.Cmd) *child {
	tb.Helper()
	c := &child{cmd: cmd, started: time.Now()}
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	address := make(chan string, 1)
	go func() {
		defer close(address)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			var entry struct{ Level, Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &entry) == nil && entry.Msg == "router is ready" {
				address <- entry.Address
			} else if entry.Level == "ERROR" {
				fmt.Fprintf(os.Stderr, "%s\n", lines.Bytes())
			}
		}
	}()
	at, ok := <-address
	if !ok {
		tb.Fatal("the router ended before it listened")
	}
	c.ready, c.url = time.Since(c.started), "http://"+at
	tb.Cleanup(c.kill)
	return c
}

// kill is kill -9.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	_ = c.cmd.Wait()
}

// stop is SIGTERM. It returns how the process ended.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return c.cmd.Wait()
}

// cpu is what the process has used so far.
func (c *child) cpu(tb testing.TB) time.Duration {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		tb.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err := errors.Join(err, err2); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100 // clock ticks: 100 a second on all of Linux
}

// memory is what the process holds now, and the most that it has held, in MB.
func (c *child) memory(tb testing.TB) (now, peak float64) {
	tb.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		tb.Fatal(err)
	}
	kB := func(name string) float64 {
		_, rest, _ := strings.Cut(string(text), name+":")
		n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			tb.Fatal(err)
		}
		return n * 1024 / 1e6
	}
	return kB("VmRSS"), kB("VmHWM")
}

// metric sums the samples of a metric.
func (c *child) metric(tb testing.TB, name string) (sum float64) {
	tb.Helper()
	res, err := http.Get(c.url + "/metrics")
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:]), 64)
		if err != nil {
			tb.Fatalf("metric %q: %v", line, err)
		}
		sum += v
	}
	return sum
}

// until waits until a metric is at most so much.
func (c *child) until(tb testing.TB, name string, most float64) {
	tb.Helper()
	for c.metric(tb, name) > most {
		time.Sleep(20 * time.Millisecond) // another process
	}
}

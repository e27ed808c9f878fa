package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"eventrouter/pkg/log"
	"eventrouter/pkg/router"
	"eventrouter/pkg/store"
)

// command runs the command line args and returns what it wrote and its exit code.
func command(t *testing.T, args ...string) (stdout, errText string, code int) {
	t.Helper()
	var out, logs bytes.Buffer
	err := run(context.Background(), args, &out, &logs)
	errText = logs.String()
	if err != nil {
		errText += message(err)
	}
	return out.String(), errText, exitCode(err)
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "router.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// jitsuFile is what a user of Jitsu has.
const jitsuFile = `
api_keys:
  - client_secret: js.secret1
    server_secret: s2s.secret1
destinations:
  my_hubspot:
    type: hubspot
    mode: stream
    hubspot:
      access_token: "pat-abc-b7bc95dc-abcd-abcd-abcd-406aaa56c3cc"
      hub_id: "20546336"
    data_layout:
      table_name_template: '$.event_type == "pageview" ? "" : $.event_type'
`

func TestCheck(t *testing.T) {
	good := write(t, jitsuFile)
	for _, args := range [][]string{{"check", "--config", good}, {"check", "-c", good}, {"check", "-cfg", good}, {"check", "-cfg=" + good}} {
		out, errText, code := command(t, args...)
		if code != exitOK || !strings.Contains(out, "ok: 1 API key, 1 destination") {
			t.Errorf("%v: exit %d, %q %q", args, code, out, errText)
		}
	}
	t.Setenv("CONFIG_LOCATION", good)
	if _, errText, code := command(t, "check"); code != exitOK {
		t.Errorf("with CONFIG_LOCATION: exit %d %s", code, errText)
	}
}

func TestCheckReportsEverythingAtOnce(t *testing.T) {
	bad := write(t, strings.NewReplacer(
		"access_token", "acces_token", `"20546336"`, "portal", `? "" :`, `? "" ;`, "mode: stream", "mode: stream\n    stagedd: true",
	).Replace(jitsuFile))
	_, errText, code := command(t, "check", "--config", bad)
	if code != exitUsage {
		t.Errorf("exit %d, want %d", code, exitUsage)
	}
	for _, want := range []string{"5 problems\n", "acces_token", `did you mean "access_token"`, "hub_id", "table_name_template", "stagedd", "\n" + bad + ":"} {
		if !strings.Contains(errText, want) {
			t.Errorf("the report lacks %q:\n%s", want, errText)
		}
	}
	if strings.Contains(errText, "pat-abc") {
		t.Errorf("the report shows the token:\n%s", errText)
	}
}

func TestUnknownTypeNamesTheKnown(t *testing.T) {
	_, errText, code := command(t, "check", "--config", write(t, strings.Replace(jitsuFile, "type: hubspot", "type: hubspt", 1)))
	if code != exitUsage || !strings.Contains(errText, "hubspot") {
		t.Errorf("exit %d: %s", code, errText)
	}
}

func TestUsage(t *testing.T) {
	f := func(want string, wantCode int, args ...string) {
		t.Helper()
		out, errText, code := command(t, args...)
		if code != wantCode || !strings.Contains(out+errText, want) {
			t.Errorf("%v: exit %d, want %d with %q:\n%s%s", args, code, wantCode, want, out, errText)
		}
	}
	f("router demo", exitOK, "--help")
	f("server.grace", exitOK, "serve", "--help")
	f("no such file or directory: name a configuration file with --config FILE", exitUsage, "check", "--config", "/does/not/exist.yaml")
	f("--config needs a value", exitUsage, "check", "-cfg")
	f("unexpected argument", exitUsage, "frobnicate")
	f("unknown flag", exitUsage, "check", "--confg", "x")
	f("router development", exitOK, "version")
	f("--persons", exitUsage, "demo", "--persons", "0")
	f("missing port", exitUsage, "demo", "--addr", "nonsense")
	f("invalid port", exitUsage, "sandbox", "--addr", "127.0.0.1:99999")
	f("--reason must be one of", exitUsage, "deadletters", "list", "--reason", "nonsense")
	f("no router has run there yet", exitOK, "deadletters", "list", "--config", write(t, jitsuFile+"\nserver: {port: 0, data_dir: /does/not/exist}\n"))
}

// TestOccupied: what a start says that finds the port or the directory taken.
func TestOccupied(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	port := ln.Addr().(*net.TCPAddr).Port
	path := write(t, jitsuFile+fmt.Sprintf("\nserver: {host: 127.0.0.1, port: %d, data_dir: %s}\n", port, dir))
	_, errText, code := command(t, "serve", "--config", path)
	if code != exitFailed || !strings.Contains(errText, "in use by another program") || !strings.Contains(errText, "server.port") {
		t.Errorf("port taken: exit %d, %s", code, errText)
	}

	st, err := store.Open(dir, store.Options{}) // fails if the router above left the directory locked
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	_, errText, code = command(t, "serve", "--config", path)
	if code != exitFailed || !strings.Contains(errText, fmt.Sprintf("by process %d", os.Getpid())) || !strings.Contains(errText, "server.data_dir") {
		t.Errorf("directory taken: exit %d, %s", code, errText)
	}
}

// TestSalvage: a router that refuses its damaged log starts after router log salvage, which says whether anything is lost.
func TestSalvage(t *testing.T) {
	dir := t.TempDir()
	path := write(t, jitsuFile+fmt.Sprintf("\nserver: {host: 127.0.0.1, port: 0, data_dir: %s}\n", dir))
	if out, errText, code := command(t, "log", "salvage", "--config", path); code != exitOK || out != "0 damaged parts\n" || !strings.Contains(errText, "no router has run there yet") {
		t.Errorf("before the first start: exit %d, %q %q", code, out, errText)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("salvage left %v in the directory of no router (%v)", entries, err)
	}

	testSalvage(t, path, logDir(dir), 0)
	testSalvage(t, path, bulkLogDir(dir), router.FirstBulk)
}

// testSalvage damages the log in dir, whose first record has an offset.
func testSalvage(t *testing.T, path, dir string, first log.Offset) {
	t.Helper()
	l, err := log.Open(dir, log.Options{Position: first})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := l.Append([]byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	if _, errText, code := command(t, "log", "salvage", "--config", path); code != exitFailed || !strings.Contains(errText, "stop that router first") {
		t.Errorf("while it is in use: exit %d, %q", code, errText)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	segment := filepath.Join(dir, fmt.Sprintf("%020d.log", first))
	data, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	data[bytes.Index(data, []byte("0123456789"))] ^= 1
	if err := os.WriteFile(segment, data, 0o600); err != nil {
		t.Fatal(err)
	}

	if _, errText, code := command(t, "serve", "--config", path); code != exitFailed || !strings.Contains(errText, "router log salvage") {
		t.Errorf("start on a damaged log: exit %d, %q", code, errText)
	}
	out, errText, code := command(t, "log", "salvage", "--config", path)
	if code != exitOK || !strings.Contains(out, fmt.Sprintf("may be lost: of records %d to %[1]d", first)) || !strings.Contains(out, "wrong checksum") || !strings.Contains(out, "\n1 damaged part\n") {
		t.Errorf("salvage: exit %d, %q %q", code, out, errText)
	}
	if out, _, code := command(t, "log", "salvage", "--config", path); code != exitOK || out != "0 damaged parts\n" {
		t.Errorf("salvage again: exit %d, %q", code, out)
	}
}

func TestCell(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := cell(text); got != want {
			t.Errorf("cell(%q) is %q, want %q", text, got, want)
		}
	}
	f("", "-")
	f("Zoë 東京", "Zoë 東京")
	f("a\nb\x1b[2J\u202e", "a\ufffdb\ufffd[2J\ufffd")
	f(strings.Repeat("é", 121), strings.Repeat("é", 119)+"…")
}

func TestDemo(t *testing.T) {
	out, errText, code := command(t, "demo", "--once", "--persons", "30", "--addr", "127.0.0.1:0", "--hubspot", "127.0.0.1:0")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != exitOK || !strings.HasPrefix(lines[len(lines)-1], "ok: ") {
		t.Errorf("exit %d\n%s\n%s", code, out, errText)
	}
	for _, want := range []string{"30 contacts", "favourite_color (unknown)", "createdate (read-only)", "contacts/batch/upsert", "duplicates"} {
		if !strings.Contains(out, want) {
			t.Errorf("the summary lacks %q:\n%s", want, out)
		}
	}
}

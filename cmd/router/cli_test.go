package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs the command line args and returns what it wrote and its exit code.
func command(t *testing.T, args ...string) (stdout, errText string, code int) {
	t.Helper()
	var out, logs bytes.Buffer
	err := run(context.Background(), args, &out, &logs)
	errText = logs.String()
	if err != nil {
		errText += err.Error()
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
		if code != exitOK || !strings.Contains(out, "ok: 1 API keys, 1 destinations") {
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
	for _, want := range []string{"acces_token", `did you mean "access_token"`, "hub_id", "table_name_template", "stagedd", bad + ":"} {
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
	f("no such file", exitUsage, "check", "--config", "/does/not/exist.yaml")
	f("unexpected argument", exitUsage, "frobnicate")
	f("unknown flag", exitUsage, "check", "--confg", "x")
	f("router development", exitOK, "version")
	f("--persons", exitUsage, "demo", "--persons", "0")
	f("no router has run there yet", exitOK, "deadletters", "list", "--config", write(t, jitsuFile+"\nserver: {data_dir: /does/not/exist}\n"))
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

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// eventnative is a file of Jitsu's of which most carries over.
const eventnative = `
server: {port: 8001, public_url: "https://events.example.com"}
# Who may send.
api_keys:
  - {id: web, client_secret: "${env.WEB_SECRET|js.secret1}", server_secret: s2s.secret1}
destinations:
  My_HubSpot:
    type: hubspot
    mode: batch
    only_tokens: [web]
    hubspot: {access_token: pat-abc-b7bc95dc, hub_id: "20546336"}
    data_layout:
      mappings: {fields: [{src: /traits/plan, dst: /user/plan, action: move}]}
  lake: {type: postgres, datasource: {password: hunter22}}
`

func TestImportConfig(t *testing.T) {
	from := write(t, eventnative)
	to := filepath.Join(filepath.Dir(from), "new.yaml")
	out, report, code := command(t, "import-config", from, "--out", to)
	if code != exitOK || out != "" {
		t.Fatalf("exit %d, %q\n%s", code, out, report)
	}
	for _, want := range []string{
		from + ":2: server.public_url: ", from + ":7: destinations.My_HubSpot: is my_hubspot now", from + ":14: destinations.lake: is a destination of type postgres",
		from + ":5: secrets stand in the file itself, at api_keys.server_secret, destinations.my_hubspot.hubspot.access_token;",
		"router check passes it: 1 API key, 1 destination, 0 warnings\n",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, "pat-abc") || strings.Contains(report, "hunter22") || strings.Contains(report, "secret1") {
		t.Errorf("the report shows a secret:\n%s", report)
	}
	info, err := os.Stat(to)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v, want 0600", err, info.Mode())
	}
	if out, errText, code := command(t, "check", "--config", to); code != exitOK || !strings.Contains(out, "ok: 1 API key, 1 destination, 0 warnings") {
		t.Errorf("check of the result: exit %d %q %s", code, out, errText)
	}

	data, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	onOut, _, code := command(t, "import-config", from)
	if code != exitOK || onOut != string(data) {
		t.Errorf("on standard output: exit %d\n%s\nwant\n%s", code, onOut, data)
	}
	for _, want := range []string{"# Who may send.\n", "client_secret: \"${env.WEB_SECRET|js.secret1}\"", "pat-abc-b7bc95dc", `move: "/traits/plan", to: "/user/plan"`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("the result lacks %q:\n%s", want, data)
		}
	}
}

// TestImportConfigKeepsFiles: what is there is written over only when that is asked for, and what is read never.
func TestImportConfigKeepsFiles(t *testing.T) {
	from := write(t, eventnative)
	dir := filepath.Dir(from)
	to, link := filepath.Join(dir, "there.yaml"), filepath.Join(dir, "link.yaml")
	if err := os.WriteFile(to, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(from, link); err != nil {
		t.Fatal(err)
	}
	f := func(want string, wantCode int, args ...string) {
		t.Helper()
		out, errText, code := command(t, append([]string{"import-config"}, args...)...)
		if code != wantCode || !strings.Contains(errText, want) || out != "" {
			t.Errorf("%v: exit %d, want %d with %q: %q %s", args, code, wantCode, want, out, errText)
		}
	}
	f("is there: name another file", exitUsage, from, "--out", to)
	if data, _ := os.ReadFile(to); string(data) != "mine" {
		t.Errorf("written over: %s", data)
	}
	f("is the file that is read", exitUsage, from, "--out", link, "--force")
	f("is no file", exitUsage, from, "--out", dir, "--force")
	f("no such file or directory", exitFailed, from, "--out", filepath.Join(dir, "none", "a.yaml"))
	f("no such file or directory", exitUsage, filepath.Join(dir, "none.yaml"))
	f("router check passes it", exitOK, from, "-o", to, "--force")
	info, err := os.Stat(to)
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() < 100 {
		t.Errorf("with --force: %v %v", info, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".router-import-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestImportConfigOfNothing: without a result there is no file, and exit status 2.
func TestImportConfigOfNothing(t *testing.T) {
	f := func(file, want string) {
		t.Helper()
		from := write(t, file)
		to := filepath.Join(filepath.Dir(from), "new.yaml")
		out, report, code := command(t, "import-config", from, "--out", to)
		if code != exitUsage || !strings.Contains(report, want) || out != "" {
			t.Errorf("%s: exit %d, want %q: %q %s", file, code, want, out, report)
		}
		if _, err := os.Stat(to); err == nil {
			t.Errorf("%s: a file was written", file)
		}
	}
	f("a: [1", "is not valid YAML")
	f("just text", "is no configuration")
	f("api_keys: [js.secret1]\ndestinations: {lake: {type: postgres}}", "nothing usable came out")
	f("nonsense: 1", "nothing usable came out")
}

// TestImportConfigTellsWhatCheckFinds: the report says that the result passes only where it does.
func TestImportConfigTellsWhatCheckFinds(t *testing.T) {
	f := func(file, want string, passes bool) {
		t.Helper()
		from := write(t, file)
		to := filepath.Join(filepath.Dir(from), "new.yaml")
		_, report, code := command(t, "import-config", from, "--out", to)
		if code != exitOK || !strings.Contains(report, want) {
			t.Errorf("%s: exit %d, want %q:\n%s", file, code, want, report)
		}
		_, errText, code := command(t, "check", "--config", to)
		if (code == exitOK) != passes || strings.Contains(report, "router check passes it") != passes {
			t.Errorf("%s: check ends with %d %s, and the report says\n%s", file, code, errText, report)
		}
	}
	const hub = "hubspot: {access_token: pat-1, hub_id: 1}"
	f("api_keys: [js.secret1]\ndestinations: {crm: {type: hubspot, "+hub+"}}", "router check passes it", true)
	f("api_keys: [js.secret1]\ndestinations: {crm: {type: hubspot, hubspot: {hub_id: 1}}}", "new.yaml:", false)
	f("api_keys: [js.secret1]\ndestinations: {crm: {type: hubspot, hubspot: {api_key: k, hub_id: 1}}}", "environment variable CRM_ACCESS_TOKEN is empty or not set", false)
	f("destinations: {crm: {type: hubspot, "+hub+"}}", "api_keys: are missing", false)
	f("api_keys: [js.secret1]\ndestinations: {crm: {type: hubspot, "+hub+", data_layout: {transform: require('x')}}}", "router check passes it", true)
	f("api_keys: [js.secret1]\nserver: {port: many}\ndestinations: {crm: {type: hubspot, "+hub+"}}", "is not a whole number", false)
}

// TestImportConfigOfTheCorpus: for each file of Jitsu's that the converter is tested with, the report says that router check passes the result where it does,
// and nowhere else.
func TestImportConfigOfTheCorpus(t *testing.T) {
	t.Setenv("TOKEN", "pat-1")
	files, err := filepath.Glob("../../pkg/jitsuconfig/testdata/files/*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	passed := 0
	for _, file := range files {
		to := filepath.Join(t.TempDir(), "router.yaml")
		_, report, code := command(t, "import-config", file, "--out", to)
		if code != exitOK || strings.Contains(report, "elsewhere was not looked at") {
			continue
		}
		_, errText, code := command(t, "check", "--config", to)
		says := strings.Contains(report, "router check passes it")
		if (code == exitOK) != says {
			t.Errorf("%s: check ends with %d %s, and the report says\n%s", file, code, errText, report)
		}
		if says {
			passed++
		}
	}
	if passed < 5 {
		t.Errorf("only %d results pass", passed)
	}
}

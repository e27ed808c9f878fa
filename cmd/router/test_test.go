package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// mark begins the sections of a case inside an archive, which can not hold another one.
var mark = regexp.MustCompile(`(?m)^== (.*) ==$`)

// unpackCases writes the files of an archive into a new folder, which the test is in from then on.
func unpackCases(t *testing.T, archive string) {
	t.Helper()
	dir := t.TempDir()
	for _, f := range txtar.Parse([]byte(archive)).Files {
		path := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		text := mark.ReplaceAll(f.Data, []byte("-- $1 --"))
		if err := os.WriteFile(path, text, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// teamsFiles are what a team has: its configuration with secrets from the environment, a schema, and cases.
const teamsFiles = `
-- router.yaml --
api_keys:
  - {id: web, client_secret: "${env.CLIENT_SECRET}", server_secret: "${env.SERVER_SECRET}"}
  - {id: shop, server_secret: s2s.planted-secret}
geo: {maxmind_path: /not/on/this/machine.mmdb}
destinations:
  crm:
    type: hubspot
    data_layout:
      transform_file: pipelines/crm.js
      table_name_template: '$.user?.email?.endsWith("@corp.example") ? "" : "yes"'
    hubspot:
      access_token: ${env.HUBSPOT_TOKEN}
      hub_id: "${env.HUBSPOT_HUB_ID}"
  later:
    type: hubspot
    staged: true
    only_tokens: [shop]
    hubspot: {access_token: pat-planted-token, hub_id: "7"}
-- pipelines/crm.js --
return {...$, city: "Rome"}
-- tests/colleagues.txtar --
Colleagues are not sent.

== destinations ==
crm
== events.jsonl ==
{"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"Ada"}}
{"event_type":"user_identify","user":{"email":"eve@corp.example"}}
== want/crm.txt ==
event 1: user_identify of ada@example.com
contacts: delivered

  POST https://api.hubapi.com/crm/objects/2026-03/contacts/batch/upsert
  {
    "inputs": [
      {
        "id": "ada@example.com",
        "idProperty": "email",
        "properties": {
          "email": "ada@example.com",
          "firstname": "Ada"
        }
      }
    ]
  }

event 2: user_identify of eve@corp.example
filtered: table_name_template is empty, null or false
-- tests/more/keys.txtar --
== events.jsonl ==
@ key=web from=browser
{"event_type":"user_identify","event_id":"1","user":{"email":"ada@example.com"}}
{"event_type":"user_identify","event_id":"1","user":{"email":"ada@example.com"}}
{"event_type":"user_identify","user":{"city":"Rome"}}
== want/crm.txt ==
event 1: user_identify of ada@example.com
contacts: delivered

  POST https://api.hubapi.com/crm/objects/2026-03/contacts/batch/upsert
  {
    "inputs": [
      {
        "id": "ada@example.com",
        "idProperty": "email",
        "properties": {
          "email": "ada@example.com"
        }
      }
    ]
  }

event 2: user_identify of ada@example.com
dropped: its API key has sent an event with this id before

event 3: user_identify
skipped: no identity
== want/later.txt ==
event 1: user_identify of ada@example.com
not fed: only events of these API keys go to it (only_tokens): shop

event 2: user_identify of ada@example.com
dropped: its API key has sent an event with this id before

event 3: user_identify
not fed: only events of these API keys go to it (only_tokens): shop
`

const madeUpLine = "Made-up values stand for CLIENT_SECRET, HUBSPOT_HUB_ID, HUBSPOT_TOKEN, SERVER_SECRET. Where a value matters, give it with --env NAME=VALUE, " +
	"or in a section env of a case.\n"

func TestTest(t *testing.T) {
	unpackCases(t, teamsFiles)
	t.Setenv("HUBSPOT_HUB_ID", "not a number") // no variable of the process counts
	out, errText, code := command(t, "test", "tests")
	if want := "ok    tests/colleagues.txtar\nok    tests/more/keys.txtar\n" + madeUpLine; out != want || errText != "" || code != exitOK {
		t.Errorf("exit %d %s\n got %s\nwant %s", code, errText, out, want)
	}
	out, errText, code = command(t, "test", "--config", "router.yaml", "tests/colleagues.txtar", "tests/../tests/colleagues.txtar")
	if want := "ok    tests/colleagues.txtar\n" + madeUpLine; out != want || errText != "" || code != exitOK {
		t.Errorf("one file, twice: exit %d %s\n got %s\nwant %s", code, errText, out, want)
	}
}

func TestTestShowsWhatDiffers(t *testing.T) {
	unpackCases(t, teamsFiles+"-- pipelines/crm.js --\nconsole.log(\"seen\", $.event_type);\nreturn {...$, user: {...$.user, city: \"Rome\"}}\n")
	out, errText, code := command(t, "test", "tests/colleagues.txtar")
	want := `FAIL  tests/colleagues.txtar
      tests/colleagues.txtar:9: want/crm.txt
      tests/colleagues.txtar:6: event 1: {"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"Ada"}}
      --- want
      +++ got
      @@ -8,6 +8,7 @@ event 1: user_identify of ada@example.com
               "id": "ada@example.com",
               "idProperty": "email",
               "properties": {
      +          "city": "Rome",
                 "email": "ada@example.com",
                 "firstname": "Ada"
               }
      printed by its scripts:
      event 1: user_identify of ada@example.com: info: seen user_identify
`
	if !strings.HasPrefix(out, want) || code != exitFailed {
		t.Errorf("exit %d\n got %s\nwant %s", code, out, want)
	}
	if want := "router: 1 of 1 case failed; where what came out is right, run router test --update and look at the changes"; errText != want {
		t.Errorf("got %q, want %q", errText, want)
	}
}

// TestTestUpdates: what a case expects is rewritten, in the middle and at the end, and nothing else; a second time changes nothing.
func TestTestUpdates(t *testing.T) {
	unpackCases(t, teamsFiles)
	const path = "tests/more/keys.txtar"
	good := readFile(t, path)
	broken := strings.Replace(good, "contacts: delivered", "contacts: lost", 1)
	broken = "  A comment. \r\n\n" + broken[:strings.Index(broken, "-- want/later.txt --")] + "-- want/gone.txt --\nx\n"
	if err := os.WriteFile(path, []byte(broken), 0o640); err != nil {
		t.Fatal(err)
	}
	out, _, code := command(t, "test", path)
	for _, want := range []string{
		"-contacts: lost\n", "+contacts: delivered\n", "expects nothing of destination later: run router test --update",
		"section want/gone.txt is about no destination of this case; router test --update takes it out",
	} {
		if code != exitFailed || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q in\n%s", code, want, out)
		}
	}
	if readFile(t, path) != broken {
		t.Error("without --update the file is changed")
	}
	if err := os.Symlink("more/keys.txtar", "tests/link.txtar"); err != nil {
		t.Fatal(err)
	}
	f := func(want string, args ...string) {
		t.Helper()
		out, errText, code := command(t, args...)
		if code != exitOK || !strings.HasPrefix(out, want) {
			t.Errorf("%v: exit %d, want %q\n%s%s", args, code, want, out, errText)
		}
	}
	f("ok    tests/link.txtar (updated)\n", "test", "-update", "tests/link.txtar")
	if got, want := readFile(t, path), "  A comment. \r\n\n"+good; got != want {
		t.Errorf("updated:\n got %q\nwant %q", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("updated: %v %v", info.Mode(), err)
	}
	if info, err := os.Lstat("tests/link.txtar"); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link: %v %v", info.Mode(), err)
	}
	f("ok    tests/link.txtar\n", "test", "--update", "tests/link.txtar")
	f("ok    tests/colleagues.txtar\nok    tests/link.txtar\nok    tests/more/keys.txtar\n", "test", "tests")
	if left, err := filepath.Glob("tests/more/.router*"); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// TestTestOwnConfiguration: a case with a configuration of its own needs no other file, and need not say who sends and which account it is.
func TestTestOwnConfiguration(t *testing.T) {
	unpackCases(t, `
-- a.txtar --
== config.yaml ==
destinations:
  crm:
    type: hubspot
    data_layout: {transform_file: js/crm.js}
    hubspot: {time_zone: "${env.ZONE}"}
    only_tokens: [shop]
  service:
    type: webhook
    webhook: {url: "https://service.example/events", headers: {X-Team: growth}, secret: "${env.SECRET}"}
== js/crm.js ==
return {...$, user: {...$.user, born: "1990-05-17T22:30:00Z"}}
== env ==
ZONE=Europe/Berlin
== schema/crm.json ==
{"type":"hubspot","hub_id":"1","groups":["contactinformation"],"event_definitions":[],"properties":[{"name":"born","type":"date"},{"name":"email","type":"string"}]}
== events.jsonl ==
@ key=shop
{"event_type":"user_identify","user":{"email":"ada@example.com"}}
@ protocol=segment
{"type":"identify","userId":"u1","traits":{"email":"bob@example.com"}}
@ protocol=rudderstack
{"type":"track","userId":"u1","event":"E","channel":"server"}
@ protocol=jitsu from=browser
{"type":"page","userId":"u1","context":{"page":{"url":"https://shop.example/a"}}}
@ protocol=none from=browser
{"event_type":"b","user":{"id":"u1"}}
`)
	out, errText, code := command(t, "test", "--update", "a.txtar")
	if code != exitOK {
		t.Fatalf("exit %d\n%s%s", code, out, errText)
	}
	text := readFile(t, "a.txtar")
	if out, errText, code := command(t, "test", "--update", "a.txtar"); code != exitOK || readFile(t, "a.txtar") != text {
		t.Errorf("a second time it comes to something else: exit %d\n%s%s", code, out, errText)
	}
	for _, want := range []string{
		`"born": "1990-05-18"`, "event 1: user_identify of ada@example.com\ncontacts: delivered\n", "event 2: user_identify of bob@example.com\ncontacts: delivered\n",
		"event 3: E\nevents: delivered\n", "event 4: pageview\nevents: delivered\n", `"hs_page_url": "https://shop.example/a"`, "event 5: b\nevents: delivered\n",
		`"eventn_ctx_event_id": "event-1"`, "  POST https://service.example/events\n  Webhook-Signature: ***\n  X-Team: ***\n  {\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
	}
}

// TestTestSchema: the schemas of a folder are those of the destinations' accounts, whatever number stands in for the account's.
func TestTestSchema(t *testing.T) {
	unpackCases(t, teamsFiles+`
-- schema/crm.json --
{"type":"hubspot","hub_id":"20546336","groups":["contactinformation"],"event_definitions":[],"properties":[{"name":"email","type":"string"}]}
-- schema/later.json --
{"type":"hubspot","hub_id":"1","groups":["contactinformation"],"event_definitions":[],"properties":[{"name":"email","type":"string"}]}
`)
	if err := os.CopyFS("schemas", os.DirFS("schema")); err != nil { // where router schema pull puts them
		t.Fatal(err)
	}
	out, _, code := command(t, "test", "tests/colleagues.txtar")
	if !strings.Contains(out, "+  left out firstname: unknown\n") || code != exitFailed {
		t.Errorf("beside the configuration: exit %d\n%s", code, out)
	}
	if err := os.RemoveAll("schemas"); err != nil {
		t.Fatal(err)
	}
	out, _, code = command(t, "test", "--schema", "schema", "tests/colleagues.txtar")
	if !strings.Contains(out, "+  left out firstname: unknown\n") || code != exitFailed {
		t.Errorf("exit %d\n%s", code, out)
	}
	out, _, code = command(t, "test", "--schema", "schema", "--env", "HUBSPOT_HUB_ID=20546336", "tests/colleagues.txtar")
	if !strings.Contains(out, "+  left out firstname: unknown\n") || code != exitFailed {
		t.Errorf("with the account's number: exit %d\n%s", code, out)
	}
	out, _, code = command(t, "test", "--schema", "schema", "tests/more/keys.txtar")
	if !strings.Contains(out, "the schema is that of account 1, and hub_id is 7") || code != exitUsage {
		t.Errorf("another account: exit %d\n%s", code, out)
	}
}

// TestTestBadFiles: what can not be run is told with its place, and ends with status 2, whatever else there is.
func TestTestBadFiles(t *testing.T) {
	unpackCases(t, teamsFiles)
	f := func(name, text, want string, args ...string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errText, code := command(t, append([]string{"test", "tests/colleagues.txtar", name}, args...)...)
		if code != exitUsage || !strings.Contains(out, want) || !strings.Contains(out, "ok    tests/colleagues.txtar\n") {
			t.Errorf("%s: exit %d, want %q\n%s%s", text, code, want, out, errText)
		}
	}
	const events = "-- events.jsonl --\n{\"event_type\":\"a\"}\n"
	f("a.txtar", "-- event.jsonl --\n", "a.txtar:1: has no events")
	f("a.txtar", "\n-- events.jsonl --\n{\"a\":}\n", "a.txtar:3: is no event: invalid character '}'")
	f("a.txtar", "text\n-- config.yaml --\ndestinations:\n  crm:\n    type: hubspot\n    filtre: {}\n"+events, `a.txtar:6: destinations.crm: unknown key "filtre" (did you mean "filter"?)`)
	f("a.txtar", "-- config.yaml --\ndestinations:\n  crm:\n    type: hubspot\n    data_layout: {transform_file: crm.js}\n"+events+"-- crm.js --\nreturn $$.a\n",
		"a.txtar:9: destinations.crm.data_layout.transform: line 1, column 8: $$ is not defined")
	f("a.txtar", "-- config.yaml --\ndestinations: {crm: {type: hubspot, hubspot: {base_url: \"${env.PLACE}\"}}}\n"+events, "a.txtar:2: destinations.crm.hubspot.base_url")
	f("a.txtar", "-- wants/crm.txt --\n"+events, "a.txtar:1: nothing reads section wants/crm.txt")
	f("a.txtar", "-- destinations --\nslack\n"+events, "a.txtar: the configuration has no destination slack, which section destinations names")
	f("a.txtar", events+"-- schema/slack.json --\n{}\n", "a.txtar:3: the configuration has no destination slack")
	f("a.txtar", events+"-- schema/crm.json --\n{\n", "a.txtar: schema of destination crm: is not valid JSON")
	f("a.txtar", events+"-- schema/crm.json --\n{}\n", "the schema is none of a HubSpot account")
	f("a.txtar", "-- events.jsonl --\n@ key=nobody\n{}\n", "a.txtar:3: is refused: API key with id=[nobody] does not exist")

	g := func(want string, args ...string) {
		t.Helper()
		out, errText, code := command(t, append([]string{"test"}, args...)...)
		if code != exitUsage || !strings.Contains(out+errText, want) {
			t.Errorf("%v: exit %d, want %q\n%s%s", args, code, want, out, errText)
		}
	}
	g("there is no case, a file whose name ends in .txtar, in this folder", "pipelines")
	g("no such file", "nowhere")
	g("expected", "--env", "HUB")
	g("<file>")
	g("name a configuration file with --config FILE", "--config", "none.yaml", "tests/colleagues.txtar")
}

// TestTestIsParallel: many cases at once do not disturb each other, and are told in order.
func TestTestIsParallel(t *testing.T) {
	unpackCases(t, teamsFiles)
	if err := os.Mkdir("many", 0o700); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for i := range 40 {
		path := filepath.Join("many", fmt.Sprintf("%02d.txtar", i))
		text := strings.ReplaceAll(readFile(t, "tests/colleagues.txtar"), "ada@example.com", fmt.Sprintf("ada%d@example.com", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&want, "ok    %s\n", path)
	}
	out, errText, code := command(t, "test", "many")
	if out != want.String()+madeUpLine || code != exitOK {
		t.Errorf("exit %d %s\n got %s\nwant %s", code, errText, out, want.String())
	}
}

// TestTestHidesSecrets: secrets of the configuration are in nothing that is shown or written, wherever they come from.
func TestTestHidesSecrets(t *testing.T) {
	unpackCases(t, teamsFiles+`
-- leak.txtar --
== events.jsonl ==
@ key=shop
{"event_type":"user_identify","user":{"email":"ada@example.com","firstname":"s2s.planted-secret","lastname":"pat-planted-token","city":"given-token"}}
-- pipelines/crm.js --
console.log("pat-planted-token");
if ($.event_type == "x") throw new Error("s2s.planted-secret");
return $
-- wrong.txtar --
== events.jsonl ==
{"event_type":"x"}
== want/crm.txt ==
event 1: x
delivered to pat-planted-token
`)
	t.Setenv("HUBSPOT_TOKEN", "process-token")
	out, errText, _ := command(t, "test", "--update", "--env", "HUBSPOT_TOKEN=given-token", "leak.txtar")
	if !strings.Contains(out, "updated") {
		t.Fatalf("%s%s", out, errText)
	}
	shown := out + errText + readFile(t, "leak.txtar")[strings.Index(readFile(t, "leak.txtar"), "-- want"):]
	out, errText, code := command(t, "test", "--env", "HUBSPOT_TOKEN=given-token", "wrong.txtar", "leak.txtar")
	shown += out + errText
	if !strings.Contains(shown, `"firstname": "***"`) || !strings.Contains(shown, "printed by its scripts") || code != exitFailed {
		t.Errorf("exit %d\n%s", code, shown)
	}
	for _, secret := range []string{"planted", "given-token", "process-token"} {
		if strings.Contains(shown, secret) {
			t.Errorf("%s is shown:\n%s", secret, shown)
		}
	}
}

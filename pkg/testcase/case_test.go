package testcase

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const whole = `Colleagues are not sent.

-- config.yaml --
destinations: {crm: {type: hubspot}}
-- env --
# of the configuration
HUB=20546336
REGION = eu west
-- destinations --
crm
slack
-- pipelines/crm.js --
return $
-- schema/crm.json --
{}
-- events.jsonl --
# the first
{"event_type": "a", "n": 12345678901234567890}

@ key=web from=browser ip=203.0.113.7 user_agent="Mozilla/5.0 (\"X11\")" at=2026-11-21T10:00:00+01:00
{
  "event_type": "b"
}
// later
@ at=+1h from=server
{"event_type":"c"}
@ protocol=segment
{"type":"track"}
@ protocol=none
{}
-- want/crm.txt --
event 1
delivered
-- want/slack.txt --
`

func TestParse(t *testing.T) {
	c, err := Parse("tests/a.txtar", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if c.Comment != "Colleagues are not sent." || c.Path != "tests/a.txtar" {
		t.Errorf("comment %q of %s", c.Comment, c.Path)
	}
	if c.Config == nil || c.Config.Line != 4 || string(c.Config.Text) != "destinations: {crm: {type: hubspot}}\n" {
		t.Errorf("configuration %+v", c.Config)
	}
	if diff := cmp.Diff(map[string]string{"HUB": "20546336", "REGION": "eu west"}, c.Env); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"crm", "slack"}, c.Destinations); diff != "" {
		t.Error(diff)
	}
	if s := c.Files["pipelines/crm.js"]; s == nil || string(s.Text) != "return $\n" || len(c.Files) != 1 {
		t.Errorf("files %v", c.Files)
	}
	if s := c.Schemas["crm"]; s == nil || string(s.Text) != "{}\n" {
		t.Errorf("schemas %v", c.Schemas)
	}
	text, line, ok := c.Want("crm")
	if text != "event 1\ndelivered\n" || line != 32 || !ok {
		t.Errorf("want %q on line %d, %v", text, line, ok)
	}
	if _, _, ok := c.Want("nobody"); ok {
		t.Error("a want of nobody")
	}
	if diff := cmp.Diff([]string{"crm", "slack"}, c.Wanted()); diff != "" {
		t.Error(diff)
	}
	const agent = `Mozilla/5.0 ("X11")`
	at := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	want := []Event{
		{Line: 18, Server: true, At: Start, JSON: []byte(`{"event_type":"a","n":12345678901234567890}`)},
		{Line: 21, APIKey: "web", At: at, IP: "203.0.113.7", UserAgent: agent, JSON: []byte(`{"event_type":"b"}`)},
		{Line: 26, APIKey: "web", Server: true, At: at.Add(time.Hour), IP: "203.0.113.7", UserAgent: agent, JSON: []byte(`{"event_type":"c"}`)},
		{Line: 28, APIKey: "web", Server: true, At: at.Add(time.Hour + time.Second), IP: "203.0.113.7", UserAgent: agent, Protocol: "segment", JSON: []byte(`{"type":"track"}`)},
		{Line: 30, APIKey: "web", Server: true, At: at.Add(time.Hour + 2*time.Second), IP: "203.0.113.7", UserAgent: agent, JSON: []byte(`{}`)},
	}
	if diff := cmp.Diff(want, c.Events); diff != "" {
		t.Error(diff)
	}
}

// TestParseCarriageReturns: a file with the line ends of Windows says the same.
func TestParseCarriageReturns(t *testing.T) {
	c, err := Parse("a.txtar", []byte(strings.ReplaceAll(whole, "\n", "\r\n")))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Parse("a.txtar", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain.Events, c.Events); diff != "" {
		t.Error(diff)
	}
	if text, _, _ := c.Want("crm"); text != "event 1\ndelivered\n" || c.Env["REGION"] != "eu west" || c.Destinations[1] != "slack" {
		t.Errorf("want %q, env %v, destinations %v", text, c.Env, c.Destinations)
	}
}

// TestParseProblems: what is wrong with a file is told with its line, all at once.
func TestParseProblems(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		_, err := Parse("a.txtar", []byte(text))
		if err == nil || err.Error() != strings.Join(want, "\n") {
			t.Errorf("%q:\n got %v\nwant %s", text, err, strings.Join(want, "\n"))
		}
	}
	const events = "-- events.jsonl --\n"
	f("", "a.txtar:1: is no case: it has no section, such as one that begins with the line `-- events.jsonl --`")
	f("{}", "a.txtar:1: is no case: it has no section, such as one that begins with the line `-- events.jsonl --`")
	f("text\nand \xff\n"+events, "a.txtar:2: is no case: it must be text in UTF-8 of at most 16 MiB")
	f("-- event.jsonl --\n{}\n", "a.txtar:1: has no events: it needs a section that begins with the line `-- events.jsonl --`")
	f("text\n"+events+"# none\n", "a.txtar:2: section events.jsonl has no events")
	f(events+"{}\n"+events+"{}\n", "a.txtar:3: section events.jsonl stands here for the second time, first on line 1")
	f(events+"{}\n[]\n", "a.txtar:3: is no event: it must be a JSON object")
	f(events+"{}\n\n{\"a\":1,\n\"b\":}\n{}", "a.txtar:5: is no event: invalid character '}' looking for beginning of value")
	f(events+"{}\n\n{\"a\":1\n", "a.txtar:4: is no event: the JSON that begins here has no end")
	f(events+"{} {}\n", "a.txtar:2: each event begins on a line of its own")
	f(events+"{\"a\":1}}\n", "a.txtar:2: each event begins on a line of its own")
	f(events+"key=web\n", "a.txtar:2: is no event: invalid character 'k' looking for beginning of value")
	f(events+"@ key web\n{}\n", `a.txtar:2: after @ stand settings such as key=web or user_agent="Mozilla/5.0 (X11)"`)
	f(events+"@ kee=web from=here\n@ at=noon at=+-1s ip=1\n@ protocol=mqtt\n{}\n",
		`a.txtar:2: unknown setting "kee"; there are key, from, at, ip, user_agent, protocol, app and account`,
		"a.txtar:2: from is server or browser",
		"a.txtar:3: at is a time such as 2026-11-21T10:00:00Z, or +1h30m after the event before",
		"a.txtar:3: ip is an address such as 203.0.113.7",
		"a.txtar:4: protocol is segment, rudderstack or jitsu (its second version), or none for events as they are")
	f("-- env --\nA=1\nB\n"+events+"{}\n", "a.txtar:3: a line of section env is NAME=value")
	f("-- destinations --\n"+events+"{}\n", "a.txtar:1: section destinations names no destination; leave it out for all of them")
	f("-- destinations --\ncrm, slack\n"+events+"{}\n", "a.txtar:2: a line of section destinations is the name of a destination")
	f(events+"{}\n-- want/crm.json --\n-- want/a.b.txt --\n-- schema/crm --\n",
		"a.txtar:3: section want/crm.json must be called want/NAME.txt, after a destination",
		"a.txtar:4: section want/a.b.txt must be called want/NAME.txt, after a destination",
		"a.txtar:5: section schema/crm must be called schema/NAME.json, after a destination")
	f(events+"{}\n-- ../crm.js --\n-- /etc/passwd --\n-- a//b --\n",
		"a.txtar:3: section ../crm.js must be the name of a file beside the configuration, such as pipelines/crm.js",
		"a.txtar:4: section /etc/passwd must be the name of a file beside the configuration, such as pipelines/crm.js",
		"a.txtar:5: section a//b must be the name of a file beside the configuration, such as pipelines/crm.js")
}

func TestUpdated(t *testing.T) {
	f := func(file, want string, all ...Expected) {
		t.Helper()
		c, err := Parse("a.txtar", []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(c.Updated(all))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", file, diff)
		}
	}
	crm, slack := Expected{"crm", "sent\n"}, Expected{"slack", "none"}
	f("-- events.jsonl --\n{}", "-- events.jsonl --\n{}\n-- want/crm.txt --\nsent\n-- want/slack.txt --\nnone\n", crm, slack)
	f("-- events.jsonl --\n{}\n\n-- want/crm.txt --\nold\n\n-- a.js --\n x \n", "-- events.jsonl --\n{}\n\n-- want/crm.txt --\nsent\n-- a.js --\n x \n", crm)
	f("-- want/crm.txt --\n-- events.jsonl --\n{}", "-- want/crm.txt --\nsent\n-- events.jsonl --\n{}", crm)
	f("-- events.jsonl --\n{}\n-- want/crm.txt --", "-- events.jsonl --\n{}\n-- want/crm.txt --\nsent\n", crm)
	f("-- events.jsonl --\n{}\n-- want/old.txt --\nx\n-- a.js --\n", "-- events.jsonl --\n{}\n-- a.js --\n") // the destination is no more
	f("-- events.jsonl --\r\n{}\r\n-- want/crm.txt --\r\nold\r\n", "-- events.jsonl --\r\n{}\r\n-- want/crm.txt --\r\nsent\r\n", crm)
	f("-- events.jsonl --\n{}\n--  want/crm.txt  --\nsent", "-- events.jsonl --\n{}\n--  want/crm.txt  --\nsent", crm) // met: not a byte changes
}

func TestDiff(t *testing.T) {
	want := "event 1: a\nfiltered\n\nevent 2: b\ndelivered: contacts\n1\n2\n3\n4\n5\n6\n7\n\nevent 3: c\nskipped\n"
	f := func(got, diff string) {
		t.Helper()
		if d := cmp.Diff(diff, Diff(want, got)); d != "" {
			t.Error(d)
		}
	}
	f(want, "")
	f(strings.Replace(want, "delivered", "dead letter", 1), `--- want
+++ got
@@ -2,7 +2,7 @@ event 2: b
 filtered
 
 event 2: b
-delivered: contacts
+dead letter: contacts
 1
 2
 3
`)
	f(strings.NewReplacer("delivered", "skipped", "event 3: c\nskipped", "event 3: c\ndelivered\nmore").Replace(want), `--- want
+++ got
@@ -2,7 +2,7 @@ event 2: b
 filtered
 
 event 2: b
-delivered: contacts
+skipped: contacts
 1
 2
 3
@@ -12,4 +12,5 @@ event 3: c
 7
 
 event 3: c
-skipped
+delivered
+more
`)
	if got := Diff("", "event 1\n"); !strings.Contains(got, "+event 1\n") {
		t.Errorf("of nothing: %q", got)
	}
}

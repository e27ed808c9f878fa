package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"eventrouter/pkg/event"
)

func letterOf(record, original []byte) Letter {
	at := time.Date(2026, 11, 21, 12, 0, 0, 123e6, time.UTC)
	return Letter{
		ID: 7, Destination: "crm", Hub: "20546336", Account: "acme", Lane: "contacts", Offset: 1<<52 + 3, Index: 1, Outputs: 3, APIKey: "web", EventID: "e<1>",
		EventType: "signup", Person: "ada@example.com", Received: at, At: at.Add(time.Hour), Attempts: 3, Replays: 2, Reason: "rejected",
		Error: "it said \u2028 & \"no\"", Problem: "why", Event: record, Original: original,
	}
}

// TestLine: a line gives back the letter to the last byte of its records, readable where that is possible.
func TestLine(t *testing.T) {
	ev := &event.Event{
		ID: "e<1>", APIKey: "web", Account: "acme", Received: time.Date(2026, 11, 21, 12, 0, 0, 123456e3, time.UTC), Class: event.Bulk, Server: true, Enveloped: true, Source: "api",
		SourceIP: "192.0.2.7", UserAgent: "Mozilla/5.0 <&>", Email: "ada@example.com", AnonymousHash: "0a", Added: []byte(`{"x":1}`), Hidden: event.HideID | event.HideSource,
		JSON: []byte(`{"event_type":"signup","n":12345678901234567890.10,"html":"<b>&","u":"\u0041é\u2028","e":1E5}`),
	}
	f := func(readable bool, change func(ev *event.Event)) {
		t.Helper()
		one := *ev
		change(&one)
		d := letterOf(one.AppendTo(nil), nil)
		d.Original = ev.AppendTo(nil)
		text, _, err := AppendLine(nil, &d, "")
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := ReadLine(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(d, got); diff != "" {
			t.Errorf("(-out +in):\n%s\n%s", diff, text)
		}
		if is := !bytes.Contains(text, []byte(`"record":`)); is != readable || bytes.Count(text, []byte("\n")) != 1 {
			t.Errorf("readable: %v, want %v: %s", is, readable, text)
		}
	}
	f(true, func(*event.Event) {})
	f(true, func(ev *event.Event) {
		ev.Added = nil
		ev.Email = ""
		ev.Class = event.Live
		ev.Hidden = 0
		ev.JSON = []byte(`{}`)
	})
	f(false, func(ev *event.Event) { ev.JSON = []byte("{\"a\":\n 1}") })
	f(false, func(ev *event.Event) { ev.UserAgent = "\xff\xfe" })
	f(false, func(ev *event.Event) { ev.Received = time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC) })
	f(false, func(ev *event.Event) { ev.JSON = []byte(`{"a":"` + "\xff" + `"}`) })

	d := letterOf([]byte("no record"), []byte{})
	d.Reason = "record"
	text, _, err := AppendLine(nil, &d, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := ReadLine(text); err != nil || cmp.Diff(d, got) != "" {
		t.Errorf("what nobody can read: %v %s", err, cmp.Diff(d, got))
	}
}

// TestReadLineRefuses: each byte of a line that changes is noticed.
func TestReadLineRefuses(t *testing.T) {
	d := letterOf((&event.Event{ID: "e1", JSON: []byte(`{"event_type":"signup"}`)}).AppendTo(nil), nil)
	good, _, err := AppendLine(nil, &d, "")
	if err != nil {
		t.Fatal(err)
	}
	good = bytes.TrimSuffix(good, []byte("\n"))
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if got, _, err := ReadLine(bad); err == nil && cmp.Diff(d, got) != "" {
			t.Errorf("byte %d changed: %s\n%s", i, bad, cmp.Diff(d, got))
		}
		if _, _, err := ReadLine(good[:i]); err == nil {
			t.Errorf("cut at byte %d: %s", i, good[:i])
		}
	}

	f := func(want string, change func(l *Letter)) {
		t.Helper()
		var l line
		var in Letter
		if json.Unmarshal(good, &l) != nil || json.Unmarshal(l.Letter, &in) != nil {
			t.Fatal("no line")
		}
		change(&in)
		l.Letter, _ = plainJSON(in)
		l.Checksum = checksum(l.Letter)
		text, _ := plainJSON(l)
		if _, _, err := ReadLine(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	f("its reason", func(l *Letter) { l.Reason = "REJECTED; DROP" })
	f("its reason", func(l *Letter) { l.Reason = "" })
	f("a number", func(l *Letter) { l.Attempts = -1 })
	f("a number", func(l *Letter) { l.Index = math.MaxInt })
	f("a number", func(l *Letter) { l.Replays = math.MaxInt })
	f("a number", func(l *Letter) { l.Offset = math.MaxUint64 })
	f("a time", func(l *Letter) { l.At = time.Time{} })
	f("no event", func(l *Letter) { l.Event = nil })
	f("not an event record", func(l *Letter) { l.Event = []byte("x") })
	f("no JSON object", func(l *Letter) { l.Event = (&event.Event{JSON: []byte(`[1]`)}).AppendTo(nil) })
	f("no JSON object", func(l *Letter) { l.Event = (&event.Event{JSON: []byte(`{}`), Added: []byte(`1`)}).AppendTo(nil) })
	f("a text in it has", func(l *Letter) { l.Person = strings.Repeat("x", 100_000) })
	for text, want := range map[string]string{
		``: "no dead letter of an export", `{}`: "no dead letter of an export", `{"v":1}`: "no dead letter of an export", `[1]`: "no dead letter of an export",
		`{"event":{"a":1},"error":"x"}`: "no dead letter of an export", `{"v":2,"letter":{"future":1}}`: "another version",
		`{"v":1,"letter":{},"crc32c":"xx"}`: "checksum", string(good) + string(good): "no dead letter of an export",
	} {
		if _, _, err := ReadLine([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

// FuzzReadLine: no line makes it panic, and what it takes goes out and in again as it is.
func FuzzReadLine(f *testing.F) {
	for _, object := range []string{`{"event_type":"signup"}`, "{\n}", `{"a":[1,2,{"b":null}]}`} {
		d := letterOf((&event.Event{ID: "e1", JSON: []byte(object)}).AppendTo(nil), []byte("x"))
		d.Reason = "record"
		text, _, err := AppendLine(nil, &d, "")
		if err != nil {
			f.Fatal(err)
		}
		var l line
		if err := json.Unmarshal(text, &l); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(l.Letter))
	}
	whole := letterOf((&event.Event{ID: "e1", JSON: []byte(`{"event_type":"signup"}`)}).AppendTo(nil), nil)
	letter, err := plainJSON(&whole)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(letter)
	f.Fuzz(func(t *testing.T, letter []byte) {
		_, _, _ = ReadLine(letter)
		d, _, err := ReadLine(fmt.Appendf(nil, `{"v":1,"crc32c":%q,"letter":%s}`, checksum(letter), letter))
		if err != nil {
			return
		}
		text, _, err := AppendLine(nil, &d, "")
		if err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
		again, _, err := ReadLine(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Error(diff)
		}
	})
}
